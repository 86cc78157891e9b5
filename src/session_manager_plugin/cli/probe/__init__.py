"""``smp probe``: its checks, their order, and their presentation."""
