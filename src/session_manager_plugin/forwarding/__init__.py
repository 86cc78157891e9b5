"""Forwarded ports: local ports joined to destinations by one session or several, opened and replaced as needed."""
