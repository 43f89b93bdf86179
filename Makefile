PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all check mutate docs linkcheck package test-wheel test-lowest clean

demo: $(READY)
	$(BIN)/bype demo

test: check
	$(BIN)/python -m pytest -m "not slow"

test-all: check
	$(BIN)/python -m pytest

# Plants small faults and counts those that the tests notice; about half an hour.
mutate: $(READY)
	$(BIN)/python scripts/mutate.py

check: $(READY)
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

# The documentation site, docs/_build/html/index.html; a warning or a broken internal link is an error.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python scripts/check_links.py docs/_build/html

# Asks for every address of another site that the pages link to: it needs the web.
linkcheck: docs
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/linkcheck

# dist/bype-VERSION-py3-none-any.whl and dist/bype-VERSION.tar.gz
package: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist

# The wheel alone, in an empty environment outside this folder: the demo, and the tests that need no checkout.
test-wheel:
	PYTHON=$(PYTHON) scripts/test_wheel.sh

# The same with the lowest versions that pyproject.toml allows.
test-lowest:
	PYTHON=$(PYTHON) scripts/test_wheel.sh lowest

clean:
	rm -rf $(VENV) dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
