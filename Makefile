# Every target starts from a bare clone: it makes .venv, installs what pyproject.toml lists, and does its job. The
# installation is stamped, so a second call starts at once. Works with GNU make 3.81 (macOS) and newer.
#
#   make course PYTHON=python3.12          another interpreter
#   make course TORCH="..."                what to hand to `pip install` first, such as a CPU-only build of torch (README)

VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

# The first interpreter that is new enough and can make an environment. (`?=` evaluates it only when .venv is made.)
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
            && echo $$p && break; done)
TORCH  ?=

# So that a notebook's `!lgmpose ...` finds the command of this environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Threads that wait asleep: where other programs want the cores, too, spinning ones hold up each other's work, and a lesson
# of seconds takes minutes.
export OMP_WAIT_POLICY := passive

.PHONY: help course test lab notebooks clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

course: $(STAMP)  ## run every notebook, render it to HTML, say where the index is
	@$(PY) -m lgmpose.course.site notebooks build/course

test: $(STAMP)  ## lint, tests, and every notebook run and compared with what it stores
	$(PY) -m ruff check .
	$(PY) -m pytest tests notebooks --durations=10

lab: $(STAMP)  ## open JupyterLab in this environment
	$(PY) -m jupyterlab notebooks

notebooks: $(STAMP)  ## run every notebook and store its outputs in place
	@$(PY) -m lgmpose.course.site notebooks --in-place

clean:  ## remove pages and caches; the environment, data and runs stay
	rm -rf build .pytest_cache .ruff_cache .hypothesis
	find lgmpose tests data_scripts notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune \
	    -exec rm -rf {} +

# `venv` runs again over an environment without pip: one that was interrupted, or that another tool made.
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
