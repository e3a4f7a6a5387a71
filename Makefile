# Every target is one line of help and, mostly, one command. `make` alone lists them.
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= cpu,train,serve,track,baselines,dev
SIZE ?= small
SEED ?= 7
RUN ?= runs/demo/live
PORT ?= 8000
BENCH ?= build/bench
WORKERS ?= 2

comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
# Where torch's CPU build comes from; empty leaves torch to pip, as EXTRAS=gpu,... does.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
export PYTHON TORCH_INDEX

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick lint format bench serve docs pins clean

help:  ## This list
	@echo "make TARGET [NAME=value ...]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv and install everything [PYTHON=python3.12 EXTRAS=gpu,train,serve,dev]

$(STAMP): pyproject.toml constraints.txt infra/setup.sh
	@infra/setup.sh $(VENV) $(EXTRAS)
	@touch $@
	@echo "setup: done. Next: 'make demo', or '. $(BIN)/activate' and 'recsys doctor'"

demo: setup  ## A made-up shop from nothing to ranked recommendations [SIZE=tiny|small|medium SEED=7]
	@$(BIN)/recsys demo --size $(SIZE) --seed $(SEED) --folder runs

test: setup  ## All tests [WORKERS=2]
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadgroup
	@echo "test: all passed. Next: 'make lint', 'make demo', or 'make bench'"

quick: setup  ## The tests that take no more than seconds each [WORKERS=2]
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadgroup -m "not slow"

lint: setup  ## Style, types and the walls between the rooms
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

format: setup  ## Write the style into the files
	@$(BIN)/ruff check --fix-only --quiet . && $(BIN)/ruff format .

bench: setup  ## Time augmentation and requests, into build/bench/bench.md [DATA="DIR ..." RUN=runs/demo/live PORT=8000 CHECK=--check]
	@benchmarks/all.sh $(BENCH) $(RUN) $(PORT) "$(CHECK)" $(DATA)

serve: setup  ## Answer requests over HTTP from the promoted run [RUN=runs/demo/live PORT=8000]
	@$(BIN)/recsys serve --run $(RUN) --port $(PORT)

docs: setup  ## Write docs/settings.md and docs/ops.md anew from the settings and the ops themselves
	@$(BIN)/recsys doctor --settings > docs/settings.md
	@$(BIN)/recsys augment ops --markdown > docs/ops.md

pins: setup  ## Write constraints.txt anew from what is installed in .venv
	@{ grep '^#' constraints.txt; $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed -E 's/\+[a-z0-9.]+$$//'; } > .pins && mv .pins constraints.txt

clean:  ## Remove caches and build folders; .venv and runs stay
	@rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
