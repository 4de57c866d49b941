PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Tests that share an expensive fixture run in one process (tests/tiers.py).
# They are compiled once, also where Python is told to keep nothing compiled: not by every process.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n auto --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-fast test-scale test-large test-all fuzz kills lint types clean

help:  ## show this list
	@awk -F ':.*## +' '/^[.a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.venv: $(INSTALLED)  ## create the virtual environment (PYTHON=... chooses the interpreter)

# Updated when the dependencies change. Dependency groups need pip 25.1.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>/dev/null) || found=missing; \
	  echo "fer-bench needs Python 3.11 or newer; '$(PYTHON)' is $$found." >&2; \
	  echo "Name another interpreter: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

quickstart: $(INSTALLED)  ## train a small model on drawn faces, evaluate it and compare it
	@set -eu; \
	printed=$$($(BIN)/fer train configs/drawn_compact.yaml); \
	run=$$(printf '%s\n' "$$printed" | tail -n 1); \
	$(BIN)/fer evaluate "$$run"; \
	$(BIN)/fer compare outputs --html outputs/comparison.html; \
	echo "The comparison is at $(CURDIR)/outputs/comparison.html"

test: lint types test-fast  ## check style and types, then run the fast tests

test-fast: $(INSTALLED)  ## the fast tests alone
	$(PYTEST) -m "not slow and not scale and not large"

test-scale: $(INSTALLED)  ## several processes at once: sweeps, Ray, search, workers, tracking
	$(PYTEST) -m scale

test-large: $(INSTALLED)  ## large networks, and an epoch of every experiment of the prior work
	$(PYTEST) -m large

test-all: lint types  ## every test, as required before a change is merged
	$(PYTEST)

# Both print the seed with which each failure is made again. They take long: see docs/reliability.md.
SEED ?= 1
INPUTS ?= 5000
KILLS ?= 1000
FUZZ := PYTHONPATH=tests $(BIN)/python -m

fuzz: $(INSTALLED)  ## damage INPUTS files, one at a time, and run a command on each (SEED=...)
	$(FUZZ) fuzz $(SEED) $(INPUTS)

kills: $(INSTALLED)  ## kill commands at KILLS places, or fill the disk there (SEED=..., Linux)
	$(FUZZ) fuzz.kills $(SEED) $(KILLS)

types: $(INSTALLED)  ## check types
	$(BIN)/mypy

lint: $(INSTALLED)  ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

clean:  ## remove the virtual environment and all caches; keep data/ and outputs/
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
