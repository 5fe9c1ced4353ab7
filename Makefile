# Every target creates what it needs in .venv; the first one downloads packages for some minutes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Neighbours stay with one worker, which makes their module's fixtures once, until another one has nothing left.
PARALLEL := -n auto --dist worksteal

.PHONY: demo weights test check lint types docs audit bench install clean
.DEFAULT_GOAL := demo

demo: $(STAMP)  ## render the town, extract, localize, report: the main job
	$(BIN)/gloam demo

weights: $(STAMP)  ## train the demo's embedder and replace the files of gloam/workflows/weights
	$(BIN)/python -m gloam.workflows.demo_embedder

test: $(STAMP)  ## the quick tests, a worker a core
	$(BIN)/python -m pytest $(PARALLEL)

check: lint types docs audit $(STAMP)  ## lint, types, the site, known holes of the packages, the quick tests, then one by one the slow, browser, container and foreign tests, which use all cores
	$(BIN)/python -m pytest $(PARALLEL) --durations=20
	$(BIN)/python -m pytest -m "(slow or browser or container or foreign) and not gpu" --durations=20

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)  ## the documentation as a site, into build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

audit: $(STAMP)  ## the installed packages against the index's list of known vulnerabilities
	$(BIN)/pip-audit --skip-editable --progress-spinner off

bench: $(STAMP)  ## make bench NAME=padding_exact
	$(BIN)/python -m benchmarks $(NAME) --json

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gloam needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	# torch first and alone: with it installed, no later requirement pulls another build of it.
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[train,cpu,localization,dev,docs]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info
