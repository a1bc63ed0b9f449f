# Two commands for a fresh machine: `make validate` and `make test`. Both set up what they need and can be repeated.
SHELL := /bin/sh
VENV ?= .venv
PYTEST := $(VENV)/bin/pytest
CLUSTER ?= local
WORKERS ?= 2
# What jobs run, and what the interpreters of their machines find beside it.
PROGRAMS = $(addprefix suites/,mlops/payloads mlops/oumi/payloads phase1/payloads phase2/payloads phase3/payloads \
  phase5/payloads phase5/payloads/mpi phase5/payloads/distributed phase6/payloads)
# More than cores: most checks wait for Slurm, and what measures runs alone.
CHECKERS ?= 4

.PHONY: help setup images validate test lint types unit integration wheel bench reap clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t14

setup:  ## Debian packages and the virtual environment
	@VENV=$(VENV) provisioning/host/setup

images: setup  ## the node image and the container images, into the cache
	@$(VENV)/bin/pytest-ai-how images build

validate: images  ## phase 6 on a cluster made on this machine
	$(PYTEST) suites/phase6 --cluster=$(CLUSTER) -n $(CHECKERS)

test: lint types unit integration  ## all that must pass before a change lands

lint: setup  ## style, the import contracts, and GitHub's schema of workflows
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@! command -v shellcheck >/dev/null || shellcheck provisioning/host/setup .ci/run

types: setup  ## mypy, strict
	$(VENV)/bin/mypy
	@for folder in $(PROGRAMS); do \
	  echo "mypy $$folder"; \
	  ( cd $$folder && MYPYPATH=$(CURDIR)/suites/mlops/payloads $(abspath $(VENV))/bin/mypy \
	    --config-file=$(CURDIR)/tests/payloads.ini --cache-dir=$(CURDIR)/.mypy_cache/payloads *.py ) || exit 1; done

unit: setup  ## no root, no cluster
	$(PYTEST) tests/unit -n $(WORKERS)

# Machines' files are gigabytes, and from Debian 13 on /tmp is memory. tests/integration/conftest.py has two lanes.
integration: setup  ## real machines on this host; needs root
	@test "$$(id -u)" -eq 0 || { echo 'integration: not run: making machines needs root: sudo make integration' >&2; exit 2; }
	@$(VENV)/bin/pytest-ai-how images build
	TMPDIR=$${TMPDIR:-/var/tmp} $(PYTEST) tests/integration -n 2 --dist loadgroup

wheel: setup  ## the wheel, into dist/
	$(VENV)/bin/python -m build --wheel --outdir dist .

bench: images  ## the figures, into reports/bench.json
	$(VENV)/bin/python -m tests.bench

reap:  ## take down whatever a killed run left behind
	$(VENV)/bin/pytest-ai-how reap

clean:  ## remove the environment and build products; caches and reports stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
