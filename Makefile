# Every target sets up what it needs; a bare clone and Python 3.11 to 3.13 are enough.
PYTHON ?= python3
VENV ?= $(if $(filter python3,$(notdir $(PYTHON))),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

NEWEST := tests/ops tests/models tests/tasks tests/e2e/test_faster_rcnn.py \
	tests/e2e/test_mask_rcnn.py tests/e2e/test_resume.py

.PHONY: setup quickstart test test-newest test-long test-cluster test-peers fuzz check format bench docs clean
setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: setup
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m rcnn_jax.cli.quickstart

test: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not gpu and not peers and not long and not cluster"

# Chains of commands on several processes, kills among them, whole trainings: half an hour more.
test-long: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "long and not gpu and not peers and not cluster"

# Slurm as a throwaway single node: needs root and Debian's packages, and is skipped elsewhere.
test-cluster: setup
	$(BIN)/python -m pytest -m cluster tests/cluster

# Give a Python of 3.12 or 3.13: pip then takes the newest JAX of the supported range.
test-newest: setup
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not gpu and not peers and not long and not cluster" $(NEWEST)

# Mutants of every input that may come from a stranger; the same ones each time.
fuzz: setup
	$(BIN)/python -m tools.fuzz all --seed 0

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The peers are measured where `make test-peers` has installed them.
bench: setup
	$(if $(wildcard $(PEERS_STAMP)),$(PEERS)/bin/python,$(BIN)/python) -m benchmarks.run

# TensorFlow and torch live in an environment of their own: the core never needs them.
test-peers: $(PEERS_STAMP)
	$(PEERS)/bin/python -m pytest -m peers tests

# torchvision's wheel asks for a torch built for CUDA; benchmarks/torchvision_peer.py does without.
# Of Triton's client and NVIDIA's deploy tool a few files are read; what they ask for is not needed, and
# pinned against the rest. TensorRT for RTX is built for x86-64 and Linux or Windows alone.
# Both builds of ONNX Runtime are the package onnxruntime: one has to go before the other comes. That with
# OpenVINO brings its own, so the package of `dev` goes too: one OpenVINO to a process.
$(PEERS_STAMP): pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip
	$(PEERS)/bin/python -m pip install --quiet --editable '.[dev,peers]' torch==2.13.0
	$(PEERS)/bin/python -m pip install --quiet --no-deps tritonclient==2.73.0 nvidia-tao-deploy==7.3.0
	-$(PEERS)/bin/python -m pip install --quiet '.[rtx]'
	$(PEERS)/bin/python -m pip install --quiet --no-deps torchvision==0.28.0 mayaku==2.0.1
	$(PEERS)/bin/python -m pip uninstall --quiet --yes onnxruntime openvino
	$(PEERS)/bin/python -m pip install --quiet --force-reinstall --no-deps onnxruntime-openvino==1.24.1
	touch $@

docs: setup
	$(BIN)/python -m tools.spec_reference
	$(BIN)/python -m tools.config_files

clean:
	rm -rf .venv .venv-* .cache out
