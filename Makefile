# `make demo`, `make test` and `make ui` set up what they need first. Nothing else has to be installed by hand.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: help setup demo study test test-long test-slurm test-full soak ui lint clean

help:
	@echo "make demo       synthetic brains -> every asset -> metrics table, plots and maps (about 8 minutes)"
	@echo "make study      nine synthetic brains, 70 encoders, and the page of docs/results.md (a night; PART=headline: an hour and a half)"
	@echo "make test       lint, types, import order, and the tests to run before every commit"
	@echo "make test-long  the rest: whole runs that are killed, interrupted or served, and a real Slurm (Debian packages, root)"
	@echo "make test-full  make test and make test-long in one"
	@echo "make test-slurm the tests on a real Slurm alone"
	@echo "make soak       kills training runs (SOAK_MINUTES=10) and every stage (SOAK_KILLS=20) at random; compares results"
	@echo "make ui         the Dagster UI on http://localhost:3000"

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once, a few minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

setup: $(READY)

# PART=headline ends after the first part; again, it goes on.
study: $(READY)
	@$(MALLOC) $(BIN)/cytonet study $(if $(PART),--part $(PART))

demo: $(READY)
	@$(BIN)/cytonet demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Wall and processor time of what follows.
TIMED := TIMEFORMAT='%R s by the clock, %U s + %S s of the processors'; time

test: lint
	@bash -c "$(TIMED) $(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder -m 'not long and not slurm'"

# The tests on a real Slurm share one cluster and mostly wait: one worker does them beside two that compute.
test-long: $(READY)
	@bash -c "$(TIMED) $(BIN)/pytest -n 3 --dist loadgroup --no-loadscope-reorder -m 'long or slurm'"

test-full: lint
	@bash -c "$(TIMED) $(BIN)/pytest -n 3 --dist loadgroup --no-loadscope-reorder"

test-slurm: $(READY)
	$(BIN)/pytest -m slurm

SOAK_MINUTES ?= 10
SOAK_KILLS ?= 20
soak: $(READY)
	$(BIN)/python -m cytonet_pipeline_tests.learning.soak --minutes $(SOAK_MINUTES)
	$(BIN)/python -m cytonet_pipeline_tests.stages.soak --kills $(SOAK_KILLS)

ui: $(READY)
	@$(BIN)/cytonet ui

clean:
	rm -rf $(VENV) .dagster demo store
