# make lab    a virtual environment, the installation, JupyterLab on the first notebook
# make test   the same set-up, then every test
# make bench  speed and memory on this machine, written to docs/bench.md
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab test bench
lab: $(READY)
	JUPYTER_CONFIG_PATH="$(CURDIR)/blendlab/jupyter:$$JUPYTER_CONFIG_PATH" $(BIN)/jupyter lab $(ROOT) notebooks/00_blender.ipynb

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

bench: $(READY)
	$(BIN)/python -m tests.bench

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("blendlab needs Python 3.10 or newer, this is %d.%d: make PYTHON=python3.12 names another one" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --upgrade -e ".[test]"
	touch $(READY)
