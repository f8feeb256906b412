# Two commands for a stranger: `make run` (the main job) and `make test`. Both set the environment up on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export VLAW_LAKE ?= $(CURDIR)/lake

# Tools of some targets below: in an environment of their own, so that they are no dependency of this project.
TOOLS := $(VENV)-tools
CROISSANT := mlcroissant[image,parquet]==1.1.1
UV := uv==0.13.9
CYCLONEDX := cyclonedx-bom==7.5.0
MOTO := moto[server]==5.2.5
OBSTORE := obstore==0.12.1
ROBOTS := metaworld==3.0.0 imageio==2.38.1 stable-baselines3==2.9.2

.PHONY: setup run ui test test-long test-engines test-browser test-robots pretrain bench lock sbom clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --only-binary :all: --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	@touch $@

run: setup  ## two co-improvement iterations on the embedded robot
	VLAW_ENGINE=$${VLAW_ENGINE:-forked} $(BIN)/vlaw run --experiment vlaw --iterations 2

ui: setup  ## Dagster on the same lake: http://localhost:3000
	$(BIN)/vlaw ui

test: setup  ## style and types, then the tests that end in minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-long: setup  ## the others: kills, studies, servers, a browser, every shipped recipe
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet "$(CROISSANT)" || echo "without mlcroissant: what needs it is skipped"
	$(TOOLS)/bin/pip install --quiet "$(MOTO)" || echo "without moto: tests of buckets are skipped"
	$(TOOLS)/bin/pip install --quiet --no-deps --target $(TOOLS)/object-store "$(OBSTORE)" || echo "without obstore: tests of buckets are skipped"
	VLAW_MOTO_PYTHON=$(CURDIR)/$(TOOLS)/bin/python PYTHONPATH=$(CURDIR)/$(TOOLS)/object-store $(BIN)/python -m pytest -m slow -rs
	@echo "skipped, if any: named above with what they need; those of Ray, Slurm and Kubernetes: make test-engines"

test-engines: setup  ## a local Ray, Kubernetes as a false API server, Slurm where sinfo answers; adds their packages
	$(PYTHON) -m venv $(TOOLS)
	sed -e '/--hash=/d' -e 's/ *\\$$//' requirements.lock > $(TOOLS)/pins.txt
	$(BIN)/pip install --quiet --no-build-isolation --constraint $(TOOLS)/pins.txt --editable '.[ray,slurm,kubernetes]'
	$(BIN)/python -m pytest tests/engines -rs

test-browser: setup  ## of those, what drives a real browser: the UI, episode pages, labelling
	$(BIN)/python -m pytest -m browser

test-robots: setup  ## Meta-World, LIBERO where VLAW_LIBERO_PYTHON names it, and PPO in the world model; needs OpenGL
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --no-deps --target $(TOOLS)/robots $(ROBOTS)
	MUJOCO_GL=$${MUJOCO_GL:-egl} PYTHONPATH=$(CURDIR)/$(TOOLS)/robots $(BIN)/python -m pytest tests/robots/test_metaworld.py tests/robots/test_process_world.py tests/exports/test_environment.py

pretrain: setup  ## makes tiny weights as the shipped ones were made (several hours on two cores)
	$(BIN)/vlaw pretrain

bench: setup  ## every benchmark, smaller; ends at the first that fails or misses a limit
	for script in benchmarks/*.py; do echo; echo "== $$script"; $(BIN)/python $$script --quick || exit; done

# To change a pin: write NAME==VERSION (without hashes) into requirements.lock, then `make lock`.
lock:  ## writes the hashes of every published file of each pin into requirements.lock; the pins stay as they are
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet $(UV)
	sed -e '/--hash=/d' -e 's/ *\\$$//' requirements.lock > $(TOOLS)/pins.txt
	$(TOOLS)/bin/uv pip compile --quiet --no-config --no-deps --generate-hashes --no-header --no-annotate \
		--output-file $(TOOLS)/requirements.lock $(TOOLS)/pins.txt
	mv $(TOOLS)/requirements.lock requirements.lock

sbom: setup  ## what is installed, as CycloneDX: sbom.cdx.json
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet $(CYCLONEDX)
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file sbom.cdx.json $(BIN)/python

clean:  ## forgets the environment, not the lake
	rm -rf $(VENV) $(TOOLS)
