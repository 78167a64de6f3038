# make lab    a virtual environment, the installation, JupyterLab on the first notebook
# make test   the same set-up, then every test
# make course student notebooks of every lesson, by nbgrader, in course/release; docs/TEACHING.md says how to grade them
# make bench  speed and memory on this machine, written to docs/bench.md
# make bench-gpu  the same of its CUDA device, written to docs/gpu.md and docs/gpu.json
# make bench-peers  BlendMask against its peers at equal time, hours; stop it and go on; written to docs/peers.md
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab test bench bench-gpu bench-peers course
lab: $(READY)
	JUPYTER_CONFIG_PATH="$(CURDIR)/blendlab/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" $(BIN)/jupyter lab $(ROOT) notebooks/00_blender.ipynb

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

bench: $(READY)
	$(BIN)/python -m tests.bench

bench-gpu: $(READY)
	$(BIN)/python -m tests.bench.gpu

bench-peers: $(READY)
	$(BIN)/python -m tests.bench.peers

# nbgrader calls a program of its own by name, so the environment's programs must be found first
course: $(READY)
	mkdir -p course
	cp blendlab/jupyter/nbgrader_config.py course/
	for lesson in notebooks/*.ipynb; do \
	  name=$$(basename $$lesson .ipynb); mkdir -p course/source/$$name && cp $$lesson course/source/$$name/ && \
	  (cd course && PATH="$(CURDIR)/$(BIN):$$PATH" nbgrader generate_assignment --force $$name) || exit 1; \
	done

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("blendlab needs Python 3.10 or newer, this is %d.%d: make PYTHON=python3.12 names another one" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --upgrade -e ".[test]"
	touch $(READY)
