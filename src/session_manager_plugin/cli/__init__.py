"""The commands ``smp`` and ``session-manager-plugin``, which combine the other packages."""
