"""The commands `smp` and `session-manager-plugin`: the only place that assembles the other packages."""
