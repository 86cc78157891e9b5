BIN := .venv/bin

.PHONY: help style types test build demo clean

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
	$(BIN)/mypy --strict src tests

test: .venv/.complete  ## run the tests
	$(BIN)/pytest

build: .venv/.complete  ## build the wheel into dist/
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

demo: .venv/.complete  ## a session with a local Session Manager
	$(BIN)/smp demo

clean:  ## remove what was built and cached; .venv stays
	rm -rf dist build .ci-venvs .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
