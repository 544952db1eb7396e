# Two commands matter: `make test` proves softlan, `make demo` shows it. `make test-windows` proves it for Windows,
# under Wine. All set themselves up first on a Debian 12 or Ubuntu that has python3 (3.11 or later), git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
READY := $(VENV)/.ready
UV_VERSION := 0.13.9
ATHERIS_VERSION := 3.0.0

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup tools test test-hostile test-faults test-windows lint types pytest format demo fuzz bench bench-e2e lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: setup lint types pytest ## style, types and all tests

test-hostile: setup ## hostile peers beside a party: a table; ARGS="--seconds 20 noise half-open"
	@$(BIN)/python -m softlan.demo.userns $(BIN)/python -m tests.hostile $(ARGS)

test-faults: setup ## faults injected into a party, as root: a table; ARGS="--quick nat"
	$(BIN)/python -m tests.faults --jobs 3 $(ARGS)

test-windows: setup ## the Windows client under Wine, which root gets installed; skipped where it cannot be had
	@$(BIN)/python -m tests.windows.bed

demo: setup ## the whole party on this machine; KEEP=1 leaves it running
	@$(BIN)/softlan demo $(if $(KEEP),--keep)

setup: tools $(READY) ## what the rest needs: Debian packages when root, and .venv from the lock

tools:
	@PYTHON='$(PYTHON)' sh requirements/system.sh

# pip takes nothing whose hash is not in the lock; our own package needs no download, and hatchling,
# which builds it, comes out of the lock too.
$(READY): $(LOCK) pyproject.toml
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lint: setup ## ruff: style and layout
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## mypy, strict
	$(BIN)/mypy

# The hostile peers go last, and alone: what is measured is how long others have to wait.
pytest: setup ## the tests alone; ARGS="-k word" picks some
	$(BIN)/pytest -n 2 --durations=15 $(if $(ARGS),$(ARGS),--ignore=tests/hostile && $(BIN)/pytest tests/hostile)

format: setup ## lets ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

fuzz: setup ## coverage-guided fuzzing of every parser; SECONDS=600 is the time for each
	$(BIN)/python -m pip install -qq --disable-pip-version-check atheris==$(ATHERIS_VERSION)
	$(BIN)/python -m fuzz.run --seconds $(or $(SECONDS),600)

bench: setup ## what single parts cost, beside the last run; ARGS="-k policy" picks some
	$(BIN)/pytest bench/micro -p no:xdist -p no:cacheprovider --benchmark-autosave \
	    $(if $(wildcard .benchmarks/*/*.json),--benchmark-compare) \
	    --benchmark-columns=min,median,iqr,rounds --benchmark-sort=fullname $(ARGS)

bench-e2e: setup ## softlan beside other VPNs, as root; ARGS="--only softlan,fastd --rounds 3", see bench/README.md
	$(BIN)/python -m bench.e2e.run $(ARGS)

lock: ## writes the lock anew from pyproject.toml; UPGRADE=1 takes newer releases
	test -x build/lock/bin/uv || { $(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install -qq uv==$(UV_VERSION); }
	build/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade) \
	    --group pyproject.toml:dev pyproject.toml --output-file $(LOCK)

clean: ## removes .venv, caches and build results
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
