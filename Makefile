PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := demo
.PHONY: help demo test test-all check mutate docs linkcheck package test-wheel test-lowest clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "make %-12s %s\n", $$1, $$2}'

demo: $(READY)  ## trains the four priors on 8x8 digits, into runs/demo
	$(BIN)/bype demo

test: check  ## linters, types, layers and the fast tests
	$(BIN)/python -m pytest -m "not slow"

test-all: check  ## all tests, also those that take minutes
	$(BIN)/python -m pytest

mutate: $(READY)  ## plants small faults and counts those that the tests notice: about half an hour
	$(BIN)/python scripts/mutate.py

check: $(READY)  ## ruff, mypy and import-linter alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# torch goes in together with everything that needs it, so that one build of it is chosen once.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group dev
	touch $@

docs: $(READY)  ## the site, docs/_build/html; a warning or a broken internal link is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python scripts/check_links.py docs/_build/html

linkcheck: docs  ## requests every address of another site that the pages link to: needs the web
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/linkcheck

package: $(READY)  ## dist/bype-VERSION-py3-none-any.whl and dist/bype-VERSION.tar.gz
	rm -rf dist
	$(BIN)/python -m build --outdir dist

test-wheel: package  ## the wheel alone, in an empty environment elsewhere: the demo, and the tests that need no checkout
	PYTHON=$(PYTHON) scripts/test_wheel.sh

test-lowest: package  ## the same with the lowest versions that pyproject.toml allows
	PYTHON=$(PYTHON) scripts/test_wheel.sh lowest

clean:  ## removes .venv and everything that these targets make, but not runs
	rm -rf $(VENV) dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
