# Two commands for a stranger: `make run` (the main job) and `make test`. Both set the environment up on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export VLAW_LAKE ?= $(CURDIR)/lake

.PHONY: setup run ui test pretrain bench clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: setup  ## two co-improvement iterations on the embedded robot
	$(BIN)/vlaw run --experiment vlaw --iterations 2

ui: setup  ## Dagster on the same lake: http://localhost:3000
	$(BIN)/vlaw ui

test: setup  ## style, then tests
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2

pretrain: setup  ## makes tiny weights as the shipped ones were made (several hours on two cores)
	$(BIN)/vlaw pretrain

bench: setup  ## speeds, each next to a peer or a limit
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

clean:  ## forgets the environment, not the lake
	rm -rf $(VENV)
