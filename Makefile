PY := .venv/bin/python
PIP := .venv/bin/pip --disable-pip-version-check -q
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types layers tests bench bench-gpu console shots stress clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/.dev: .venv/.run
	$(PIP) install -U "pip>=25.1"
	$(PIP) install -c constraints.txt --group dev
	@touch $@

run: .venv/.run ## open the chat with the built-in model
	@.venv/bin/vramble

test: .venv/.dev tests ## install what tests need, and pass them

check: .venv/.dev format lint types layers tests ## format, lint, types, layers, tests

format:
	.venv/bin/ruff format --check .

lint:
	.venv/bin/ruff check .

types:
	.venv/bin/mypy

layers:
	.venv/bin/lint-imports

# One thread per worker: threads that wait for a core spin, and take it from the tests beside them. A worker more than
# there are cores, for many tests wait: for a terminal, a hub, a process.
tests: export OMP_NUM_THREADS = 1
tests:
	$(PY) -m pytest -n 3 --dist worksteal tests/engine/hf tests/tui
	$(PY) -m pytest -n 3 --dist worksteal --cov --cov-report=term:skip-covered --ignore tests/engine/hf --ignore tests/tui

bench: .venv/.dev ## measured speed beside this machine's limits
	for script in first_frame library stream engine guide; do $(PY) -m bench.$$script || exit 1; done

bench-gpu: ## what needs a GPU, in 9 minutes, with PYTHON's own torch; wheels it lacks go into .whl/
	for wheel in $(wildcard .whl/*.whl); do $(PYTHON) -m zipfile -e $$wheel .whl/unpacked || exit 1; done
	PYTHONPATH=.:.whl/unpacked $(PYTHON) -m bench.gpu $(ARGS)

console: .venv/.dev ## the app with Textual's console attached
	.venv/bin/textual run --dev tui.app:VrambleApp

shots: .venv/.dev ## draw the screenshots in docs/
	$(PY) -m docs.screenshots

stress: .venv/.dev ## repeat start, cancel and close some hundred times
	$(PY) -m pytest -m stress --timeout 3600

clean: ## remove the virtual environment and caches
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
