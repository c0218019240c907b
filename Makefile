# Every target works in a fresh clone: it makes .venv, installs what pyproject.toml lists, and then does its work. A stamp
# file marks a finished installation, so a second call starts at once. Works with GNU make 3.81 (macOS) and newer.
#
#   make course PYTHON=python3.12          another interpreter
#   make course TORCH="..."                arguments of a first `pip install`, such as a CPU-only build of torch (README)

VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

# The first interpreter that is new enough and can make a virtual environment. `?=` evaluates it only when .venv is made.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
            && echo $$p && break; done)
TORCH  ?=

# A notebook's `!lgmpose ...` finds the command of this environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Idle threads sleep instead of spinning. Spinning threads slow other programs on a shared machine, and a lesson of
# seconds would take minutes.
export OMP_WAIT_POLICY := passive

.PHONY: help course docs live docs-figures test mutate lab notebooks clean
.DEFAULT_GOAL := help

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

course: $(STAMP)  ## run every notebook, build the web pages and print where they are
	@$(PY) -m lgmpose course build

docs: $(STAMP)  ## build the web pages from the stored outputs, without running notebooks
	@$(PY) -m lgmpose course build build/docs --no-run

live: $(STAMP)  ## build the page that runs the network in the browser (needs Node.js), and the site around it
	@command -v npm >/dev/null || { echo "make live needs Node.js 20 or newer with npm (https://nodejs.org)" >&2; exit 1; }
	npm ci --prefix docs/live --ignore-scripts --no-audit --no-fund
	$(PY) docs/live/models.py build/live-files
	node docs/live/build.mjs build/live-files build/live
	@$(PY) -m lgmpose course build build/docs --no-run

docs-figures: $(STAMP)  ## write the generated tables and figures of README and docs from the result files
	@$(PY) docs/figures.py

test: $(STAMP)  ## lint, type check, all tests with coverage, and every notebook compared with its stored outputs
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest tests --durations=10 --cov
	$(PY) -m pytest tests -m "slow and not long" --durations=10
	$(PY) -m pytest notebooks -n 0 --durations=10

mutate: $(STAMP)  ## change the code in small ways and count the changes that no test notices (an hour)
	$(PY) tests/mutate.py --known --random 100

lab: $(STAMP)  ## open JupyterLab in this environment
	$(PY) -m jupyterlab notebooks

notebooks: $(STAMP)  ## run every notebook and store its outputs in place
	@$(PY) -m lgmpose course run

clean:  ## remove pages and caches; keep the environment, data and runs
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find lgmpose tests data_scripts notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune \
	    -exec rm -rf {} +

# `venv` runs again where the environment has no pip: its creation was interrupted, or another tool made it.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { \
	    echo "No Python 3.11 or newer that can make virtual environments was found." >&2; \
	    echo "Install one (Debian, Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo "Making $(VENV) with $(PYTHON)"; "$(PYTHON)" -m venv $(VENV); }
	@echo "Installing into $(VENV): a few minutes and several GB the first time (README: a smaller torch)"
	@$(if $(TORCH),$(PY) -m pip install $(TORCH))
	@$(PY) -m pip install --editable '.[all]'
	@touch $@
