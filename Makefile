# The two commands: `make train` and `make test`. `make help` lists them all.
#
#   make train GAME=pong CORE=lstm STEPS=2_000_000 SEED=1 PRESET=cpu RUN=runs/x ARGS="--learner.learning_rate 3e-4"
#
# Unset variables are not passed on; `rfwp train` has the defaults.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

OUT ?= results/gpu

PACKAGES := $(wildcard agents cuda envs models runners)
# Symlinks to the folders under their import name, because type checkers do not follow the mapping in pyproject.toml.
TYPED := build/typecheck/rfwp

.DEFAULT_GOAL := help
.PHONY: help train test test-slow test-pretended-gpu test-gpu bench-gpu soak check format clean

help:  ## list the targets
	@echo 'make train [GAME=pong] [CORE=lstm] [STEPS=2_000_000] [SEED=1] [PRESET=cpu] [RUN=runs/x] [ARGS="..."]'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-19s %s\n", $$1, $$2}'

# exec: a signal reaches rfwp itself, which then saves a checkpoint.
train: $(VENV)/installed  ## install into .venv if needed, then train, or resume the run in RUN
	@exec $(BIN)/rfwp train \
	  $(if $(GAME),--env.game '$(GAME)') \
	  $(if $(CORE),--core '$(CORE)') \
	  $(if $(STEPS),--total_steps '$(STEPS)') \
	  $(if $(SEED),--seed '$(SEED)') \
	  $(if $(PRESET),--preset '$(PRESET)') \
	  $(if $(RUN),--run '$(RUN)') \
	  $(ARGS)

# Small tensors are faster on one thread, and spinning threads slow a busy machine.
test test-slow test-pretended-gpu: export OMP_NUM_THREADS ?= 1
test test-slow test-pretended-gpu: export OMP_WAIT_POLICY ?= passive

test: $(VENV)/installed-dev  ## run the tests, a file on each core, at most four; ARGS="..." is passed to pytest
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m 'not slow and not gpu' $(ARGS)

test-slow: $(VENV)/installed-dev  ## run the slow tests, which take more than a few seconds each
	$(BIN)/python -m pytest -m 'slow and not gpu' $(ARGS)

# Without the test that is sized for a GPU.
test-pretended-gpu: export PYTHONPATH = tests/gpu_on_cpu:tests/cuda
test-pretended-gpu: $(VENV)/installed-dev  ## test on the CPU what runs on a GPU: devices, waits, streams, graphs
	$(BIN)/python -m pytest -p pretended.plugin -m gpu tests/gpu_on_cpu tests/agents/test_gpu.py \
	  -k 'not while_both_go_on' $(ARGS)

test-gpu: $(VENV)/installed-dev  ## test kernels and runs on a GPU, and the kernels with compute-sanitizer if installed
	$(BIN)/python -m pytest -m gpu $(ARGS)
	@if command -v compute-sanitizer >/dev/null; then \
	  for tool in memcheck racecheck; do \
	    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 --report-api-errors no \
	      --kernel-name kernel_substring=rfwp $(BIN)/python -m pytest -m gpu -k any_order tests/cuda || exit; \
	  done; \
	else \
	  echo 'compute-sanitizer is not installed: no memcheck, no racecheck. It comes with the CUDA toolkit.'; \
	fi

bench-gpu: $(VENV)/installed-dev  ## time kernels and training on a GPU; results go to OUT=dir, PAPER=checkout is timed as well
	@mkdir -p '$(OUT)'
	-@{ nvidia-smi; git describe --always --dirty; } >'$(OUT)/machine.txt'
	$(BIN)/rfwp bench kernels --device cuda --json '$(OUT)/kernels.json' --markdown '$(OUT)/kernels.md' \
	  $(if $(PAPER),--paper '$(PAPER)') $(ARGS)
	$(BIN)/rfwp bench suite --preset paper --core rdn --device cuda --out '$(OUT)/paper-rdn'

soak: export OMP_NUM_THREADS ?= 1
soak: export OMP_WAIT_POLICY ?= passive

soak: $(VENV)/installed-dev  ## train under faults for MINUTES=30, as root; the summary goes to build/soak
	$(BIN)/python tests/faults/soak.py $(if $(MINUTES),--minutes '$(MINUTES)') $(ARGS)

check: $(VENV)/installed-dev  ## check the format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf $(TYPED) && mkdir -p $(TYPED)
	@for part in $(PACKAGES) runners/package/*.py; do ln -s "../../../$$part" $(TYPED)/; done
	$(BIN)/mypy $(TYPED)

format: $(VENV)/installed-dev  ## format the code and apply the linter's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv, build/, dist/ and caches, but not runs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v '$(PYTHON)' >/dev/null || { echo 'rfwp needs Python 3.11 or newer, but $(PYTHON) is missing: install it, or give another one with PYTHON=...' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rfwp needs Python 3.11 or newer, but $(PYTHON) is $$('$(PYTHON)' --version 2>&1): give another one with PYTHON=..." >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { echo 'rfwp needs the venv module of $(PYTHON): on Debian and Ubuntu, apt install python3-venv' >&2; exit 1; }
	@echo 'Creating $(VENV)'
	@'$(PYTHON)' -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing rfwp into $(VENV): a few minutes the first time'
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing rfwp and its tools into $(VENV): a few minutes the first time'
	$(INSTALL) -e '.[dev]'
	@# ProcGen asks for an old NumPy but runs with the present one; without it, its tests are skipped.
	-$(INSTALL) --no-deps procgen-mirror gym3 gym
	@touch $@ $(VENV)/installed
