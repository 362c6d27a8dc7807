# Everything starts from a machine with python3 >= 3.11 and make; each target does its own set-up.
# `make help` lists the targets.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

# A system may name its newest interpreter python3.13 and its default one python3: take the first that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready

.DEFAULT_GOAL := help
.PHONY: help run test lint format types imports drift chaos check audit fuzz bench migration lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(PY):
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; install one or set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "error: $(PYTHON) comes without ensurepip; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# requirements-dev.txt pins everything, so it also constrains the `local` extra of a plain run.
$(RUN_READY): requirements.txt requirements-dev.txt pyproject.toml | $(PY)
	@echo "installing the locked dependencies (first run only)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -c requirements-dev.txt -e '.[local]'
	@touch $@

$(DEV_READY): $(RUN_READY)
	@echo "installing the test and lint tools (first run only)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

run: $(RUN_READY) ## start the service and the simulator, with an embedded database
	@$(BIN)/sms-foundation run

# A database per test is some 700 files, made and deleted at once: in memory all tests take 5 minutes instead of 10.
# TEST_DIR says where instead; without memory to spare it is where temporary files usually are.
test: $(DEV_READY) ## run every test on a real PostgreSQL (PYTEST_ARGS="-k words" to choose)
	@parent="$(TEST_DIR)"; \
	if [ -z "$$parent" ] && [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 4000000 ] 2>/dev/null; \
		then parent=/dev/shm; fi; \
	dir="$$(mktemp -d "$${parent:-$${TMPDIR:-/tmp}}/sms-tests-XXXXXX")"; \
	trap 'rm -rf "$$dir"' EXIT; \
	$(BIN)/pytest -n 2 --dist worksteal --basetemp="$$dir/pytest" $(PYTEST_ARGS)

lint: $(DEV_READY) ## ruff: format and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: $(DEV_READY) ## let ruff rewrite what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(DEV_READY) ## mypy --strict over src
	@$(BIN)/mypy

imports: $(DEV_READY) ## the import layers of the architecture
	@$(BIN)/lint-imports

drift: $(DEV_READY) ## do the migrations make what the models say? (alembic check on an empty database)
	@$(PY) -m sms_foundation migrate --check

# A failed run leaves its logs and says where. The same seed and length break the same things at the same moments.
CHAOS_SECONDS ?= 300
chaos: $(DEV_READY) ## break everything while it is used, then count (CHAOS_SECONDS, CHAOS_SEED, CHAOS_ARGS)
	@$(PY) -m chaos --seconds $(CHAOS_SECONDS) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED)) $(CHAOS_ARGS)

# By itself and last: a machine that is busy with tests would decide what breaks when.
check: CHAOS_SECONDS = 90
check: lint types imports drift test chaos ## everything CI runs

audit: $(DEV_READY) ## bandit over the source; known weaknesses of the locked dependencies (asks the internet, never fails)
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src scripts infrastructure benchmarks chaos
	@$(BIN)/pip-audit -r requirements.txt --strict --no-deps --disable-pip --progress-spinner off --timeout 10 || \
		echo "the audit found something, or could not ask about everything: see above"

# A share of all this runs with the other tests; FUZZ says how many times as much.
fuzz: $(DEV_READY) ## bad input at length: FUZZ=20 tries 20 times what `make test` tries
	@FUZZ="$(or $(FUZZ),20)" $(BIN)/pytest -n 2 --dist worksteal tests/fuzz $(PYTEST_ARGS)

bench: $(RUN_READY) ## measure the hot paths; prints JSON lines
	@$(PY) -m benchmarks

migration: $(DEV_READY) ## write a migration from the models: make migration NAME="add x"
	@test -n "$(NAME)" || { echo 'error: make migration NAME="what it does"'; exit 1; }
	@$(PY) -m sms_foundation migrate --autogenerate "$(NAME)"

lock: $(DEV_READY) ## compile requirements*.txt anew from pyproject.toml (versions only, no addresses)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --upgrade pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --upgrade pyproject.toml --extra local --group dev -o requirements-dev.txt

clean: ## remove what the targets made (never the data of the embedded database)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov .import_linter_cache
