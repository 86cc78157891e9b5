"""The core alone: no socket, no clock, no waiting."""
