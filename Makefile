# make demo: a first comparison on rendered shoes.   make test: the quick tests.   make slow: the tests that only CI needs.
# make lint: style and types.   make docs: the site.
# make results: the pages of the published results, from their records alone.
# make torture: 200 kills, 20 races, 30 full disks and 2,000 damaged inputs, about 20 minutes.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test slow lint docs results torture clean

demo: $(VENV)/installed
	$(BIN)/mtlbench run --methods core --dataset shoes --quick --jobs 2

test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

slow: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/build
	@echo "open docs/build/index.html"

results: $(VENV)/installed
	$(BIN)/mtlbench report --results results/published --html results-pages/published
	$(BIN)/mtlbench report --results results/tuned --recipes both --html results-pages/tuned
	$(BIN)/mtlbench report --results results/claims --html results-pages/claims
	$(BIN)/python tools/tables.py

torture: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python tests/support_torture.py

clean:
	rm -rf $(VENV) build dist results-pages docs/build docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("mtlbench needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "installing mtlbench and PyTorch into $(VENV): about 5 GB, a few minutes …"
	$(PIP) --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	@echo "installing mtlbench, PyTorch and what tests need into $(VENV): about 5 GB, a few minutes …"
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/installed-docs: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[docs]'
	touch $@
