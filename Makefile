# One command per job; every job sets up what it needs first. HOME_DIR, PYTHON, STUDY and ARGS can be given: make run ARGS="--batches 4"
# PyPI's torch for Linux on x86 brings CUDA, several GB. Without a GPU: make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
SHELL := /bin/bash
.SHELLFLAGS := -e -u -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?=
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.posedreamer-setup
DEV_STAMP := $(VENV)/.posedreamer-setup-dev
# Modules are compiled when they are first imported, which most never are.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
HOME_DIR ?= posedreamer_home
ARGS ?=
STUDY ?= pocket
SYSTEM_PACKAGES := libegl1 libgl1 libgl1-mesa-dri libxrender1 libgomp1
SYSTEM_LIBRARIES := libEGL.so.1 libGL.so.1 libXrender.so.1 libgomp.so.1
export PYOPENGL_PLATFORM ?= egl
export TOKENIZERS_PARALLELISM ?= false
# Container images often forbid bytecode, and every process would compile torch and Dagster anew: seconds each.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup setup-dev run study dev test check lint faults docs gl clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP)  ## virtual environment, pinned packages, headless GL where permitted

$(STAMP): pyproject.toml constraints.txt
	if [ ! -x $(BIN)/python ]; then
	    supported='import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 15)))'
	    for interpreter in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python3.14); do
	        if "$$interpreter" -c "$$supported" 2>/dev/null; then found=$$interpreter; break; fi
	    done
	    [ -n "$${found:-}" ] || { echo "Python 3.11 to 3.14 is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
	    "$$found" -m venv $(VENV)
	fi
	$(INSTALL) -e .
	$(MAKE) --no-print-directory gl
	touch $@

setup-dev: $(DEV_STAMP)  ## the same, and what tests and lint need

$(DEV_STAMP): $(STAMP)
	$(INSTALL) -e '.[dev]'
	touch $@

gl:
	@if $(BIN)/python -c 'import ctypes, sys; [ctypes.CDLL(name) for name in sys.argv[1:]]' $(SYSTEM_LIBRARIES) 2>/dev/null; then exit 0; fi
	if ! command -v apt-get >/dev/null; then
	    echo "Libraries are missing ($(SYSTEM_LIBRARIES)): install your system's packages for $(SYSTEM_PACKAGES)." >&2
	elif [ "$$(id -u)" = 0 ]; then
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES) >/dev/null
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	    sudo -n apt-get update -qq && sudo -n apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES) >/dev/null
	else
	    echo "Headless rendering and lightgbm need one command of an administrator:" >&2
	    echo "    sudo apt-get install -y $(SYSTEM_PACKAGES)" >&2
	fi

run: setup  ## the whole graph on the pocket profile, and what its data are worth; ARGS="--poses DIR", STUDY=none etc.
	$(BIN)/posedreamer run --study $(STUDY) --home $(HOME_DIR) $(ARGS)

study: setup  ## scenes of many people, people over photographs, and networks trained on them, see docs/scenes.md
	$(BIN)/posedreamer run --study learning_to_train --home $(HOME_DIR) $(ARGS)

dev: setup  ## Dagster's UI on the same home
	exec $(BIN)/posedreamer dev --home $(HOME_DIR) $(ARGS)

test: setup-dev  ## the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: setup-dev  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

check: lint test  ## what continuous integration runs, and lint
	$(BIN)/posedreamer checks validate

faults: setup-dev  ## a thousand kills of writers, up to an hour; the report is faults.md
	$(BIN)/python benchmarks/faults.py --kills 1000 --jobs 2 --report faults.md

docs: setup  ## the asset graph and the commands, as text for the README
	$(BIN)/posedreamer --help
	for command in run dev status doctor poses view export publish students checks storage train-control train-pocket; do $(BIN)/posedreamer $$command --help; done

clean:  ## caches; neither the environment nor the data
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
