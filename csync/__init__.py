"""The mail of a real Cyrus through its own csync server, whose locks and code do the work."""
