"""The only door to a target: it bills every row before it is sent, and keeps the answers."""
