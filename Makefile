# `make demo`, `make test` and `make ui` set up what they need first. Nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: help setup demo test test-slurm test-full soak ui lint clean

help:
	@echo "make demo       synthetic brains -> every asset -> metrics table, plots and maps (about 10 minutes)"
	@echo "make test       lint, types, import order, tests"
	@echo "make test-slurm tests on a real Slurm, brought up on this machine (needs root and Debian's slurm packages)"
	@echo "make test-full  everything: also the long tests"
	@echo "make soak       kills a training at random, again and again, and compares the weights (SOAK_MINUTES=10)"
	@echo "make ui         the Dagster UI on http://localhost:3000"

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once, a few minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

setup: $(READY)

demo: $(READY)
	@$(BIN)/cytonet demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder -m "not long and not slurm"

# One after the other: they share a cluster of this machine's two cores.
test-slurm: $(READY)
	$(BIN)/pytest -m slurm

test-full: lint
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder -m "not slurm"
	$(BIN)/pytest -m slurm

SOAK_MINUTES ?= 10
soak: $(READY)
	$(BIN)/python -m cytonet_pipeline_tests.learning.soak --minutes $(SOAK_MINUTES)

ui: $(READY)
	@$(BIN)/cytonet ui

clean:
	rm -rf $(VENV) .dagster demo store
