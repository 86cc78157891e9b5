BIN := .venv/bin
BENCH_BIN := .bench-venv/bin

.PHONY: help style types test test-all slow docs bench soak fuzz build zipapp picture demo clean

help:  ## list the verbs
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' Makefile

.venv/.complete: pyproject.toml
	python3 -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

style: .venv/.complete  ## lint, and check the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.complete  ## check the types
	$(BIN)/mypy --strict src tests tools benchmarks

test: .venv/.complete  ## run the tests, but for the slow ones
	$(BIN)/pytest -n auto --dist worksteal

test-all: test slow  ## run all tests

slow: .venv/.complete  ## run the slow tests: real programs, a terminal emulator, long transfers, random input
	$(BIN)/pytest -n auto --dist worksteal -m slow
	$(BIN)/pytest -n auto --dist worksteal tests/e2e tests/fuzz tests/slow
	$(BIN)/pytest tests/soak

docs: .venv/.complete  ## write man/ and completions/ from the command tree
	$(BIN)/python -m tools.docs

# As a user has it: installed by a current pip, and not editable, since an older pip's scripts take longer to start.
.bench-venv/.complete: pyproject.toml
	python3 -m venv .bench-venv
	$(BENCH_BIN)/pip install --quiet --upgrade pip
	$(BENCH_BIN)/pip install --quiet .
	touch $@

bench: .bench-venv/.complete  ## measure speed, latency and memory, next to the goals
	$(BENCH_BIN)/pip install --quiet --force-reinstall --no-deps .
	$(BENCH_BIN)/python -m benchmarks --json benchmarks.json

soak: .venv/.complete  ## long transfers through a bad network; SMP_SOAK_MB=100
	SMP_SOAK_MB=$${SMP_SOAK_MB:-100} $(BIN)/pytest --timeout 7200 tests/soak

fuzz: .venv/.complete  ## random input for everything that parses, a minute for each
	$(BIN)/python -m tests.fuzz --seconds 60

build: .venv/.complete  ## build the wheel into dist/
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

.venv/bin/python:
	python3 -m venv .venv

zipapp: .venv/bin/python  ## build dist/smp.pyz, one file with everything but Python
	$(BIN)/python -m tools.zipapp

picture: .venv/.complete  ## record docs/session.svg, the animated picture of README.md
	$(BIN)/python -m tools.picture

demo: .venv/.complete  ## a session with a local Session Manager
	$(BIN)/smp demo

clean:  ## remove what was built and cached; .venv stays
	rm -rf dist build benchmarks.json .bench-venv .ci-venvs .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
