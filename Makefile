# The way in: `make run`, `make test`. Both need only Python 3.11, g++ and make.

PYTHON := $(firstword $(foreach name,python3.11 python3 python,$(shell command -v $(name))))
BIN := .venv/bin
ARGS ?=
RUNS := $(CURDIR)/build/test-runs
PYTEST := $(BIN)/python -m pytest

# The kernels and builds of a run must not take our own settings for theirs.
unexport MAKEFLAGS MFLAGS MAKELEVEL

.PHONY: help env run lab doctor test lint unit notebooks format lock clean

help:  ## list these targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

env:  ## make or complete .venv from ci/requirements.lock
	@test -n "$(PYTHON)" || { echo "fastml: no Python found; 3.11 is needed" >&2; exit 2; }
	@$(PYTHON) ci/setup_env.py

run: env  ## take the digits network all the way and print the report; ARGS="-p weight_bits 6"
	@$(BIN)/fastml run digits $(ARGS)

lab: env  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb $(ARGS)

doctor: env  ## show which tools are here, and what each unlocks
	@$(BIN)/fastml doctor $(ARGS)

test: lint  ## everything but the slow tests, on two cores; up to half an hour
	@$(MAKE) --no-print-directory --jobs=2 unit notebooks

lint: env  ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: env  ## unit, property and integration tests
	$(PYTEST) -m "not slow" $(ARGS)

# Every cell runs; outputs are compared where a cell says `# NBVAL_CHECK_OUTPUT`.
notebooks: env  ## run the notebooks cell by cell and check their stored outputs
	FASTML_RUNS_DIR=$(RUNS) $(PYTEST) notebooks --nbval-lax --nbval-current-env \
		--nbval-sanitize-with ci/nbval.cfg --nbval-cell-timeout 900

format: env  ## format code and notebooks, strip outputs that are not checked
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .
	$(BIN)/python ci/notebooks.py strip

# Existing pins stay where they still fit; `make lock ARGS=--upgrade` moves them.
lock: env  ## write ci/requirements.lock anew from pyproject.toml
	$(BIN)/python -m uv pip compile pyproject.toml --extra finn --group dev --python-version 3.11 \
		--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
		--custom-compile-command "make lock" --output-file ci/requirements.lock $(ARGS)

clean:  ## remove what tests and builds left; keeps .venv and runs/
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
