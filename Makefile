# Everything is set up on first use, in .venv; later runs reuse it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow mini lint clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

# A process a core.
test: $(INSTALLED) lint
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# Trains the shipped model anew, in $(WORK); README says what it needs. What is there already is not done again.
WORK ?= retrained
TRAIN := OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2 -m naturelm train

mini: $(INSTALLED)
	$(BIN)/naturelm corpus build starter -o $(WORK)/starter
	$(TRAIN) mini-stage1 --corpus $(WORK)/starter --out $(WORK)/mini1 --resume
	$(TRAIN) mini-stage2 --corpus $(WORK)/starter --out $(WORK)/mini2 --set model.start=$(WORK)/mini1 --resume
	$(BIN)/naturelm experiments score $(WORK)/mini2/model --corpus $(WORK)/starter --out $(WORK)/mini2
	$(BIN)/naturelm export $(WORK)/mini2 --to naturelm --out $(WORK)/mini --license apache-2.0

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
