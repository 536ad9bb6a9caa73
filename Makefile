# Every target sets up first; a finished set-up costs a tenth of a second.
PYTHON ?= python3
VENV := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup ready lock protos lint test soak demo bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## Install everything into .venv (resumes; a second run needs no network)
	@$(PYTHON) -m services.ops.setup

ready:
	@$(PYTHON) -m services.ops.setup --quiet

lock: ## Resolve requirements.lock anew; UPGRADE=1 takes newer versions
	@$(PYTHON) -m services.ops.lock $(if $(UPGRADE),--upgrade)

protos: ready ## Regenerate the stubs from protos/
	@$(VENV)/python -m services.ops.protos

lint: ready ## Style, types, import contracts, proto style and compatibility, stubs
	@$(VENV)/python -m services.ops.lint

test: ready ## Run the tests, in two lanes; ARGS="tests/unit -k name" narrows it, to one
	@$(VENV)/python -m services.ops.gotools grpcurl versitygw weaviate-server
	@$(VENV)/python -m services.ops.nodetools tests/integration/openai/node
	@$(VENV)/python -m pytest $(or $(ARGS),-n2 --dist=loadscope --no-loadscope-reorder)

soak: ready ## Run the long tests alone
	@$(VENV)/python -m pytest -m soak $(ARGS)

demo: ready ## Watch training, serving and retrieval meet on this machine
	@$(VENV)/python -m services.ops.demo

bench: ready ## Run one benchmark: make bench NAME=...; ARGS="storm corpus" chooses
	@$(VENV)/python -m tests.load.$(or $(NAME),$(error name one: $(patsubst tests/load/%.py,%,$(patsubst %/__main__.py,%.py,$(filter-out %/__init__.py,$(wildcard tests/load/*.py tests/load/*/__main__.py)))))) $(ARGS)

clean: ## Delete what tools left in the checkout; the cache stays
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
