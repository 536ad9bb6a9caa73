# Every target sets up first; a finished set-up costs a tenth of a second.
PYTHON ?= python3
# Where bytecode is not written, each of the thousand processes that the tests start compiles our modules anew.
export PYTHONDONTWRITEBYTECODE :=
# How many tests run at a time; two fit two cores and 24 GiB.
LANES ?= 2
VENV := .venv/bin
TIMING := .pytest_cache/timing.json
IN_LANES := -n$(LANES) --dist=loadscope --no-loadscope-reorder --timing-json $(TIMING)
.DEFAULT_GOAL := help
.PHONY: help setup ready tools lock protos lint check test affected soak demo bench bench-check clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

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

tools: ## Build the programs in Go and install the packages for Node that tests run
	@$(PYTHON) -m services.ops.gotools grpcurl versitygw weaviate-server
	@$(MAKE) --no-print-directory ready
	@$(VENV)/python -m services.ops.nodetools tests/integration/openai/node

check: lint ## Lint, and the tests that start no server; under four minutes
	@$(VENV)/python -m pytest --fast $(IN_LANES)

test: tools ## Attack every promise, in LANES=2 lanes; ARGS="tests/unit -k name" narrows it, to one; OFFSET=n samples other cases
	@$(VENV)/python -m pytest $(or $(ARGS),$(IN_LANES) --budget tests/budget.toml $(if $(CI),--affected-since-soak))

affected: tools ## Run the tests that the changes since BASE=rev can break
	@$(VENV)/python -m tests.harness.affected --base $(or $(BASE),$(error name one: make affected BASE=HEAD~1)) --run

soak: tools ## Run every test whole; resumes; ARGS="tests/security" narrows it
	@$(VENV)/python -m tests.harness.soak $(ARGS)

demo: ready ## Watch training, serving and retrieval meet on this machine
	@$(VENV)/python -m services.ops.demo

bench: ready ## Run one benchmark: make bench NAME=...; ARGS="storm corpus" chooses
	@$(VENV)/python -m tests.load.$(or $(NAME),$(error name one: $(patsubst tests/load/%.py,%,$(patsubst %/__main__.py,%.py,$(filter-out %/__init__.py,$(wildcard tests/load/*.py tests/load/*/__main__.py)))))) $(ARGS)

bench-check: ready ## Compare a quick part of each benchmark with docs/figures/; ARGS=--store stores
	@$(VENV)/python -m tests.load.bench_check $(ARGS)

clean: ## Delete what tools left in the checkout; the cache stays
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
