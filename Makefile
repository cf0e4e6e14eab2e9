# Every target makes its own .venv on first use; a second call does not install again.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# a variable that many containers set: each process that a test starts would compile the package
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-unit test-docs test-audit test-ui check format docs docs-serve benchmark clean

help: ## show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prefect-tracktor needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

demo: $(READY) ## a sandbox shop, the email flow run three times against it, and what it did
	$(BIN)/prefect-tracktor demo

test-unit: $(READY) ## the tests that need no server, in seconds
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

test: $(READY) ## the whole test suite
	$(BIN)/python -m pytest -n 3 --dist worksteal

test-docs: $(READY) ## every code block of the handbook and the README, as printed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m handbook tests/system/handbook

test-audit: $(READY) ## two weeks of a shop of 2,000 orders: who was told what, by the servers' own records
	$(BIN)/python -m pytest -m audit tests/system/audit

test-ui: $(READY) ## what people see, in a browser (needs Chromium; UI_PICTURES=docs/images keeps it)
	$(BIN)/python -m pytest -m ui tests/system/ui

check: $(READY) ## formatter, linter, strict type checker
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## the handbook, into site/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(READY) ## the handbook on http://127.0.0.1:8000 while you write it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

benchmark: $(READY) ## bulk reads beside single ones; reconciling beside reading; processes beside one; webhooks; imports
	$(BIN)/python -m benchmarks.bulk_reads
	$(BIN)/python -m benchmarks.reconcile
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.receiver
	$(BIN)/python -m benchmarks.imports

clean: ## remove what the other targets made
	rm -rf .venv dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis
