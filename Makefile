# Every target creates what it needs in .venv; the first one downloads packages for some minutes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types bench install clean
.DEFAULT_GOAL := demo

demo: $(STAMP)  ## render the town, train, export, extract, localize, report: the main job
	$(BIN)/gloam demo

test: $(STAMP)  ## the quick tests
	$(BIN)/python -m pytest

check: lint types $(STAMP)  ## tests, lint, types, and the slow and browser tests
	$(BIN)/python -m pytest -m "not gpu"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)  ## make bench NAME=padding_exact
	$(BIN)/python -m benchmarks $(NAME) --json

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gloam needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and alone: with it installed, no later requirement pulls another build of it.
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[train,cpu,localization,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info
