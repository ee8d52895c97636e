# All targets set up what they need first and are quick when nothing is missing.
#   make demo            two sites on this machine, a real HTTP service reached across them (KEEP=1 leaves them running)
#   make test            lint, types and all tests of a few minutes: what CI runs
#   make test-long       real services, brokers, gigabytes, containers, the run under -O; installs what they need
#   make bench           the performance figures, in less than five minutes (ARGS="--only bulk --rounds 5"; ARGS=--profile)

PYTHON ?= python3
VENV ?= .venv
KEEP ?=
ARGS ?=
BIN := $(VENV)/bin
export PYTHON VENV
# Each start of a router would compile its modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint format bench clean

help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/.stamp-base: pyproject.toml tools/setup.sh tools/constraints.txt
	@tools/setup.sh base

$(VENV)/.stamp-test: $(VENV)/.stamp-base
	@tools/setup.sh test

$(VENV)/.stamp-bench: $(VENV)/.stamp-test
	@tools/setup.sh bench

$(VENV)/.stamp-long: $(VENV)/.stamp-test
	@tools/setup.sh long

setup: $(VENV)/.stamp-test

demo: $(VENV)/.stamp-base
	@KEEP=$(KEEP) $(BIN)/python tools/demo.py

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.stamp-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -m "not long" $(ARGS)

test-long: $(VENV)/.stamp-long
	$(BIN)/python -m pytest -m long tests $(ARGS)

bench: $(VENV)/.stamp-bench
	$(BIN)/python -m bench --json .cache/bench.json $(ARGS)

clean:
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
