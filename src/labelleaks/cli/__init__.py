"""The command line and its specs."""
