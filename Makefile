# `make` alone lists the targets. `make run` and `make test` install what they need, and say so first.

.DEFAULT_GOAL := help
.SUFFIXES:

VENV := .venv/bin
SHELL_SCRIPTS := packaging/*.sh packaging/runtime/build.sh packaging/sandbox/run.sh packaging/deb/p*inst packaging/deb/p*rm \
	packaging/debian/postrm packaging/completions/mirror-agent.bash tests/run.sh .ci/run
ARCH ?= amd64
SUITES := --suite bullseye --suite bookworm --suite trixie --suite forky
BENCH ?=
FAILOVER ?=
BOOT ?=

.PHONY: help setup run test lint types format unit node packaged soak hostile failover boot coverage golden schema bench package native clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what this checkout needs: a compiler, libsystemd's headers, .venv from the lock file
	@packaging/setup.sh python

run: setup ## start the agent in the foreground on a sandbox (.sandbox/), with a sample desired state to edit
	@packaging/sandbox/run.sh

test: lint types ## lint, types, unit and case tests, node tests where nodes can be booted (root, Debian)
	@tests/run.sh

lint: setup ## formatting, rules, import contracts, shell scripts (if shellcheck is there)
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/lint-imports --no-cache
	@if command -v shellcheck >/dev/null 2>&1; then echo shellcheck $(SHELL_SCRIPTS); shellcheck $(SHELL_SCRIPTS); fi

types: setup ## mypy --strict
	$(VENV)/mypy

format: setup ## format the code and fix what can be fixed
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

unit: setup ## only the quick tests: no node, no root, no thousands of rounds
	$(VENV)/pytest -q --quick tests/unit tests/cases

node: setup ## only the node tests (root, Debian or Ubuntu)
	@tests/run.sh tests/node

packaged: setup ## make the packages (ARCH as for `package`), judge them, run the node tests with them on all suites (root)
	@MIRROR_AGENT_NODE_INSTALL=package MIRROR_AGENT_ARCHITECTURES="$(ARCH)" tests/run.sh tests/package tests/node $(SUITES)

soak: setup ## the crash walks in full: every system call, 2,000 instants (some minutes)
	MIRROR_AGENT_SOAK=1 $(VENV)/pytest -p no:cacheprovider tests/unit/test_converge.py tests/unit/test_crash.py tests/unit/test_keeper_fuzz.py

# From the package, as on every machine: on Debian 11 there is no other way (tests/node/install.py).
hostile: setup ## every hostile configuration on a node of each suite, installed from the package (root; an hour or two)
	MIRROR_AGENT_SOAK=1 MIRROR_AGENT_NODE_INSTALL=package tests/run.sh tests/node/test_hostile.py tests/node/test_import.py \
		--suite bullseye --suite bookworm --suite trixie --suite forky

failover: setup ## what a dead first mirror costs a pull, without failover and with it, on four nodes (root; some ten minutes)
	$(VENV)/python -m tests.node.failover_table $(FAILOVER)

boot: setup ## what the agent adds to a boot, on a node of each suite, installed from the package (root; some minutes)
	MIRROR_AGENT_NODE_INSTALL=package $(VENV)/python -m tests.node.boot_table $(BOOT)

coverage: setup ## which lines and branches the quick tests never reach (of what runs in their own process)
	$(VENV)/coverage run -m pytest -p no:cacheprovider -q --quick tests/unit tests/cases
	$(VENV)/coverage report

golden: setup ## write the golden trees of tests/cases anew; review them with git diff
	$(VENV)/pytest -q tests/cases --update-golden

schema: setup ## write the JSON Schema of the desired state anew
	$(VENV)/python -m agent.desired.schema > .schema.new && mv .schema.new agent/data/mirror-agent.schema.json

bench: setup ## speed and size beside a raw floor, in one run; BENCH="--idle-seconds 10" shortens it
	$(VENV)/python -m tests.bench $(BENCH)

package: setup ## dist/*.deb and dist/*.rpm for amd64 (ARCH="amd64 arm64": for both); the private Python is built once
	@packaging/setup.sh package $(ARCH)
	@for arch in $(ARCH); do packaging/build.sh $$arch || exit; done

native: ## dist/*_all.deb that runs on this distribution's own Python and libraries (Debian 13 or later)
	@packaging/setup.sh native
	@packaging/build.sh native

clean: ## remove the sandbox and everything made here, but not .venv
	rm -rf .sandbox .unpacked build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find agent tests -name __pycache__ -prune -exec rm -rf {} +
