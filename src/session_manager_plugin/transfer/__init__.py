"""Copies of files over sessions: the plan is pure, the lines of sh run on the target (see ``docs/copy.md``)."""
