# One word for everything a developer does; `make` lists them.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints.txt
SOURCES := src tests benchmarks scripts examples

DIGITS := examples/digits
MODEL := models/digits

# Tests run in parallel processes, so each of them computes on one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help install run test check format lint types clean

help: ## List these words
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Another Python: make clean, then make PYTHON=python3.12 ...  One test: make test ARGS='-k layering'"

install: $(VENV)/installed ## Make .venv with the package in it

run: $(VENV)/installed ## Learn the handwritten digits in examples/ and write a report
	@mkdir -p $(dir $(MODEL))
	$(BIN)/isthmus fit $(DIGITS)/images-idx3-ubyte.gz -o $(MODEL) --n-components 8 --color $(DIGITS)/labels-idx1-ubyte.gz --force
	$(BIN)/isthmus compare $(DIGITS)/images-idx3-ubyte.gz --n-components 2,8 --max-epochs 60
	@echo "Open $(MODEL)/report.html in a browser."

test: $(VENV)/tested ## Run the tests
	@scripts/install-browser
	$(PYTEST) $(ARGS)

check: format lint types test ## Run every gate, as CI does

format: $(VENV)/checked
	$(BIN)/ruff format --check .

lint: $(VENV)/checked
	$(BIN)/ruff check .

types: $(VENV)/checked
	$(BIN)/mypy

clean: ## Remove everything that these words made
	rm -rf $(VENV) $(MODEL) build dist .mypy_cache .pytest_cache .ruff_cache
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# The stamps: each marks a step that is done until a file it depends on changes.

$(VENV)/created: scripts/make-venv
	@scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created $(REQUIREMENTS)
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --group test
	@touch $@

$(VENV)/checked: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --group dev
	@touch $@
