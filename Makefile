# Every target sets up what it needs; a bare clone and Python 3.11 to 3.13 are enough.
PYTHON ?= python3
VENV ?= $(if $(filter python3,$(notdir $(PYTHON))),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.PHONY: setup quickstart test test-all check format bench docs clean
setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m rcnn_jax.cli.quickstart --output out/quickstart

test: setup
	$(BIN)/python -m pytest -n $(JOBS) -m "not gpu"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m benchmarks.run

docs: setup
	$(BIN)/python -m tools.spec_reference

clean:
	rm -rf .venv .venv-* .cache out
