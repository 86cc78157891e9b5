"""The whole program as its users start it, against the sandbox."""
