BIN := .venv/bin

.PHONY: help style types test docs bench soak fuzz build demo clean

help:  ## list the verbs
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile

.venv/.complete: pyproject.toml
	python3 -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

style: .venv/.complete  ## lint, and check the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.complete  ## check the types
	$(BIN)/mypy --strict src tests tools

test: .venv/.complete  ## run the tests
	$(BIN)/pytest

docs: .venv/.complete  ## write man/ and completions/ from the command tree
	$(BIN)/python -m tools.docs

bench: .venv/.complete  ## measure speed, latency and memory
	$(BIN)/python benchmarks/messages.py
	$(BIN)/python benchmarks/forwarding.py
	$(BIN)/python benchmarks/bar.py

soak: .venv/.complete  ## long transfers through a bad network; SMP_SOAK_MB=100
	SMP_SOAK_MB=$${SMP_SOAK_MB:-100} $(BIN)/pytest --timeout 7200 tests/soak

fuzz: .venv/.complete  ## random input for everything that parses, a minute for each
	$(BIN)/python -m tests.fuzz --seconds 60

build: .venv/.complete  ## build the wheel into dist/
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

demo: .venv/.complete  ## a session with a local Session Manager
	$(BIN)/smp demo

clean:  ## remove what was built and cached; .venv stays
	rm -rf dist build .ci-venvs .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
