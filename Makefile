# One word a chore. Everything is installed into .venv; nothing outside this folder is needed but Python and make.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.PHONY: help demo test lint bench docs

help: ## say what can be made
	@sed -n 's/^\([a-z][a-z]*\):.*## /\1	/p' Makefile | expand -t 8

demo: $(READY) ## show all of it at work, on a Redis of its own; ends by itself
	$(BIN)/connectbot demo

test: $(READY) ## run the tests
	@# Tests wait for processes most of the time: more of them than cores. The short ones, in tests/unit, come last.
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY) ## check style, types, the Compose file and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/hadolint Dockerfile

docs: $(READY) ## build the documentation into site/
	@# mkdocs-material tells at every build that it is maintained until May 2027 only; that is known.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY) ## measure it beside its peers
	$(BIN)/python -m benchmarks

# Made anew when what is to be installed has changed. The stamp comes last: an interrupted installation is repeated.
$(READY): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "Python 3.11 or newer is needed, and there is no $(PYTHON): name yours, as in 'make PYTHON=python3.12'."; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is older: name yours, as in 'make PYTHON=python3.12'."; exit 1; }
	"$(PYTHON)" -m venv .venv
	@echo "Installing into .venv; this takes a minute the first time."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
