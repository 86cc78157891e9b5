"""Fuzzing: what is fuzzed (``targets.py``), by hypothesis in the tests, by ``python -m tests.fuzz`` for as long as one
likes; and what was found (``corpus/``)."""
