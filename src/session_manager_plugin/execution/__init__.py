"""Remote commands: on one target or on many."""
