"""The commands of ``smp``: one file, one command."""
