# `make demo` and `make test` need nothing but this repository; see the list below.

# The environment: made at the first call, used at the next ones.
VENV ?= .venv
# The interpreter to make it with, 3.11 or 3.12: the first of these that runs.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c '' 2>/dev/null && echo $$python && break; done)
# More arguments for pytest, as ARGS="-k coat -x".
ARGS ?=

# What the set-up says that commands need, and the environment's interpreter.
RUN = . "$(VENV)/mmvitx.env"; "$(VENV)/bin/python"

.PHONY: help env demo demo-pretrain demo-seg test test-e2e test-reliability test-slurm matrix lint format clean
help:
	@echo 'make demo      train a Mask R-CNN with CoaT on handwritten digits, and show what it learnt'
	@echo 'make demo-pretrain  pretrain CoaT to classify digits, and compare detectors with and without'
	@echo 'make demo-seg  the same for semantic segmentation, with a Semantic FPN'
	@echo 'make test      run the tests; ARGS="..." goes to pytest'
	@echo 'make test-e2e  run the tests that take minutes, or data that is not in the repository'
	@echo 'make test-slurm  run jobs on a Slurm of this machine (slurm-wlm and munge must be installed)'
	@echo 'make test-reliability  disturb and resume 80 real runs and try 750 inputs, in an hour; prints the counts'
	@echo 'make matrix    try our backbones in a config of each method of the hosts, in 25 minutes, and'
	@echo '               write docs/backbones.md'
	@echo 'make lint      check style and format;  make format  mends what can be mended'
	@echo 'make env       only set up the environment, which all of these do first'
	@echo 'make clean     remove what builds and tests leave; data, runs and the environment stay'
	@echo 'VENV=<path>    keep the environment elsewhere than in .venv, or use one that exists'
	@echo 'PYTHON=<path>  the interpreter to make it with, 3.11 or 3.12'

env:
	@command -v "$(PYTHON)" >/dev/null || { echo 'set-up: there is no Python 3.11 or 3.12' \
		'("$(PYTHON)"): install one, or name it with PYTHON=<path>.' >&2; exit 1; }
	@"$(PYTHON)" scripts/setup_env.py "$(VENV)"

demo: env
	@$(RUN) scripts/demo.py

demo-pretrain: env
	@$(RUN) scripts/demo.py --pretrain

demo-seg: env
	@$(RUN) scripts/demo.py configs/demo/semantic_fpn_coat_lite_tiny_digits.py

# pytest's status 5 means that no test was selected
test: env
	@$(RUN) -m pytest $(ARGS) || { status=$$?; [ $$status -eq 5 ] || exit $$status; }

test-e2e: env
	@$(RUN) -m pytest -m 'slow or e2e' $(ARGS)

test-slurm: env
	@$(RUN) -m pytest -m slurm $(ARGS)

# all of them, also those that `make test` runs
test-reliability: env
	@$(RUN) -m pytest -m '' tests/reliability $(ARGS)

matrix: env
	@$(RUN) tests/apis/matrix.py

lint: env
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

format: env
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean:
	rm -rf build dist .pytest_cache .ruff_cache
	find benchmarks configs mmvitx scripts tests tools -name __pycache__ -prune -exec rm -rf {} +
