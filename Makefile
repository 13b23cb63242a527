# make help lists the targets. Everything runs in .venv, made from one hashed lock file.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CONFIG ?= config/spce-water.yaml
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
PYTHON ?=
NAME ?=
ARGS ?=
PROFILE ?=
KILLS ?= 50

VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(wildcard workflow/remcg/engine/*.py workflow/remcg/pairs.py workflow/remcg/mapping/whole.py \
  workflow/remcg/backmap/constraints.py workflow/remcg/backmap/packing.py workflow/remcg/backmap/turns.py)

# Recipes read the name of the config from the environment: neither make nor a shell interprets it.
export CONFIG_FILE := $(value CONFIG)
unexport CONFIG

# The programs of the environment come first, also for what a test or a rule starts.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNOUSERSITE := 1

.PHONY: help install run report figures test campaigns slurm check verify drill bench lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */\1|/' \
	  | awk -F'|' '{ printf "  make %-8s %s\n", $$1, $$2 }'

install: $(VENV)/.warm  ## set up .venv (every other target does this by itself)

run: $(VENV)/.warm  ## run a campaign: CONFIG=config/other.yaml CORES=8 PROFILE=profiles/slurm ARGS="--forcerun validate"
	@$(BIN)/python -m remcg.launch --configfile "$$CONFIG_FILE" --cores $(CORES) --profile "$(PROFILE)" -- $(ARGS)

report: $(VENV)/.installed  ## write workflow.html of a campaign anew: CONFIG=...
	@$(BIN)/python -m remcg.launch --configfile "$$CONFIG_FILE" --report

figures:  ## figures of README.md from the finished default campaign
	@cp results/spce-water/validate/rdf.png docs/spce-rdf.png
	@cp results/spce-water/validate/density.png docs/spce-density.png
	@cp results/spce-water/consistency/penalties.png docs/spce-penalties.png

test: $(VENV)/.warm  ## all tests, at most ten minutes: ARGS="-k engine"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations=15 $(ARGS)

campaigns: $(VENV)/.warm  ## whole campaigns as users run them: tutorial, archive, kills, some minutes
	@$(BIN)/python -m pytest -m campaigns -n 2 --dist loadfile --durations=5 $(ARGS)

slurm: $(VENV)/.warm  ## a campaign on a SLURM of one node, which it starts (root; slurm-wlm, munge), two minutes
	@$(BIN)/python -m pytest -m slurm -rs $(ARGS)

check: $(VENV)/.installed  ## format and lint of the code, the rules and the workflow
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/snakefmt --check Snakefile rules
	@$(BIN)/snakemake --lint --configfile "$$CONFIG_FILE"

verify: $(VENV)/.warm  ## the scientific checks at full length, hours
	@$(BIN)/python -m pytest -m verify -s $(ARGS)

drill: $(VENV)/.warm  ## kills and faults at full count, an hour: KILLS=10
	@KILLS=$(KILLS) $(BIN)/python -m pytest -m drill -rs $(ARGS)

bench: $(VENV)/.warm  ## a benchmark: NAME=engine
	@if [ -f "bench/$(NAME).py" ]; then $(BIN)/python "bench/$(NAME).py" $(ARGS); else \
	  echo "Say which: make bench NAME=x, where x is one of:"; \
	  found=$$(cd bench 2>/dev/null && ls *.py 2>/dev/null | sed 's/\.py$$//' || true); \
	  echo "$${found:-(there are no benchmarks yet)}"; exit 2; fi

lock:  ## resolve the lock file anew from pyproject.toml
	@PYTHON="$(PYTHON)" bash envs/lock.sh

clean:  ## remove the environment and the caches; results, logs and benchmarks stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info workflow/*.egg-info
	@find workflow scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: envs/requirements.lock pyproject.toml envs/install.sh
	@PYTHON="$(PYTHON)" bash envs/install.sh $(VENV)
	@touch $@

# Kernels are compiled here, so that the time of a run is the run's own.
$(VENV)/.warm: $(VENV)/.installed $(KERNELS)
	@echo "compiling the kernels"
	@$(BIN)/python -m remcg.warmup >/dev/null
	@touch $@
