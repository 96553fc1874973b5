# `make` lists what one can do. Every target makes the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
OLD_RAY := .venv-old-ray
OLDER_RAY := 2.57.0
BIN := $(VENV)/bin
TOOLS := .venv-tools
COMMA := ,
IMAGE_EXTRAS := kube mqtt prometheus gke
EXTRAS := ray,kube,mqtt,prometheus,gke,sim,dev

.DEFAULT_GOAL := help
.PHONY: help venv demo test quick cluster-parts cluster test-cluster test-vllm test-old-ray check format bench bench-sim faults fuzz lock sbom audit results results-quick clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

$(VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "leadtime needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

venv: $(VENV)/.made  ## make .venv with all of the product's dependencies and .venv/bin/leadtime

demo: venv  ## the main job on this machine: real local Ray Serve, emulated engines, the controller acting (4 minutes)
	@$(BIN)/leadtime demo

test: venv  ## all tests but those of a cluster: those with a real local Ray, and all others beside them
	@$(BIN)/python -m tests.side_by_side

cluster-parts: venv  ## build a real Kubernetes from Go modules into ~/.cache/leadtime-parts (or LEADTIME_PARTS): 12 minutes, once
	@nice -n 10 $(BIN)/python -m tests.cluster.parts

cluster: venv  ## a real Kubernetes control plane on this machine until Ctrl-C, of those parts
	@$(BIN)/python -m tests.cluster

test-cluster: venv  ## the tests that need it; without the parts they are skipped, each with the part's name
	@$(BIN)/python -m pytest -m cluster tests/cluster tests/kube

$(VLLM)/.made: constraints-vllm.txt tests/vllm/install.sh
	PYTHON=$(PYTHON) sh tests/vllm/install.sh $(VLLM)
	@touch $@

test-vllm: venv $(VLLM)/.made  ## against a real vLLM on this machine's CPU (its own .venv-vllm, 4 GB; minutes)
	@LEADTIME_VLLM=$(VLLM) $(BIN)/python -m pytest -s tests/vllm

$(OLD_RAY)/.made-$(OLDER_RAY):
	$(PYTHON) -m venv --clear $(OLD_RAY)
	$(OLD_RAY)/bin/python -m pip install -q --disable-pip-version-check "ray[serve]==$(OLDER_RAY)" jinja2  # 2.57.0 forgets to ask for it
	@touch $@

test-old-ray: venv $(OLD_RAY)/.made-$(OLDER_RAY)  ## the live tests on the oldest supported Ray (its own .venv-old-ray, 0.4 GB)
	@LEADTIME_RAY=$(OLD_RAY) $(BIN)/python -m pytest -s tests/live

quick: venv  ## the core's and the policies' tests: a minute
	@$(BIN)/python -m pytest -q -x tests/autoscaler/core tests/policies -m "not slow"

check: venv  ## lint, types, import layers, documentation links, the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.docs_links
	$(BIN)/python -m tests.house

format: venv  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv  ## the benchmarks (minutes); figures as ratios within one run
	@for job in benchmarks/bench_*.py; do echo "== $$job"; $(BIN)/python $$job || exit 1; done

bench-sim: venv  ## the simulator's speed: three fixed scenarios on one core (minutes), and Vidur where VIDUR_PATH names it
	@$(BIN)/python benchmarks/bench_sim.py

faults: venv  ## the whole fault matrix against the real process, and docs/faults.md (10 minutes; SEED=N for other values)
	@$(BIN)/python -m tests.faults --seed $(or $(SEED),0) $(if $(SEED),,--page)

fuzz: venv  ## every parser of others' bytes, by mutated samples (10 minutes; SECONDS=60 for less)
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600)

$(TOOLS)/.made: requirements-tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install -q --disable-pip-version-check -r requirements-tools.txt
	@touch $@

COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(TOOLS)/bin/pip-compile -q --generate-hashes --strip-extras --allow-unsafe \
	--no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

lock: $(TOOLS)/.made  ## requirements-image.lock, -ci.lock and -build.lock anew, with hashes, within constraints.txt (Python 3.11)
	$(COMPILE) -c constraints.txt $(foreach extra,$(IMAGE_EXTRAS),--extra $(extra)) -o requirements-image.lock pyproject.toml
	$(COMPILE) -c constraints.txt $(foreach extra,$(subst $(COMMA), ,$(EXTRAS)),--extra $(extra)) -o requirements-ci.lock pyproject.toml
	$(COMPILE) --only-build-deps --build-deps-for wheel -o requirements-build.lock pyproject.toml

sbom: $(TOOLS)/.made  ## dist/leadtime.cdx.json: what is in the image, as CycloneDX
	@mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements requirements-image.lock --pyproject pyproject.toml --output-reproducible \
		--of JSON -o dist/leadtime.cdx.json

audit: $(TOOLS)/.made  ## known weaknesses of what is in the image; exit 2 where the advisory service cannot be asked
	@$(TOOLS)/bin/python benchmarks/audit.py requirements-image.lock

results: venv  ## the whole league, tuned and judged (hours; goes on where it was broken off), from TRACES=DIR or stand-ins
	@PYTHONPATH=. $(BIN)/python -m benchmarks.results $(if $(TRACES),--traces $(TRACES))

results-quick: venv  ## a small edition of it (minutes)
	@PYTHONPATH=. $(BIN)/python -m benchmarks.results --quick $(if $(TRACES),--traces $(TRACES))

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
