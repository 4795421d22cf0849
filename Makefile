# Every target sets up what it needs; `make help` lists them.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3),python3.11)
CONFIG ?= configs/local.yaml
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?=
SETUP = @$(PYTHON) serve_app/cli/setup.py

.PHONY: help setup serve test check format manifests bench

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## create .venv and install everything, for this machine
	$(SETUP) core vllm dev triton

serve: ## start the service: MODEL= (a hub id, a folder or demo), PORT=, HOST=, CONFIG=
	$(SETUP) core $(if $(MODEL),vllm)
	@.venv/bin/manta serve --config $(CONFIG) --host $(HOST) --port $(PORT) $(if $(MODEL),--model $(MODEL))

test: setup ## all tests, on the real parts
	@.venv/bin/python -m pytest

check: ## format, lint, types, import contracts: seconds
	$(SETUP) core dev
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

format: ## format the code
	$(SETUP) core dev
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

manifests: ## write rayservice/ from configs/a100.yaml
	$(SETUP) core
	@.venv/bin/manta manifests render

bench: ## measure this machine and write benchmarks/results
	$(SETUP) core dev
	@.venv/bin/python -m benchmarks.overhead
