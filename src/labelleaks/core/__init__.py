"""The vocabulary that everything speaks (candidates, domains, scores, random streams) and the only door to a target."""
