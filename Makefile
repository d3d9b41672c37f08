# Needs Python >= 3.11, make and git. Everything else is put into .venv, exactly as locked, by the first call.
#   make setup | check | test | bench | demo | lock | clean      ARGS="..." is passed to the command
#   make bench-NAME     runs benchmarks/*/NAME.py; DATA=DIR where it reads labelled series

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked
DATA ?=
ARGS ?=
BENCH_OUT ?= build/bench
LOCKS := requirements.lock requirements-nodeps.lock
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup check test bench demo lock docs site pictures clean

help:
	@sed -n 's/^# *//p' Makefile | head -3

setup: $(STAMP)

$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "expected Python 3.11 or newer, found $$($(PYTHON) --version 2>&1 | head -1): name one with make PYTHON=/path/to/python3.11" >&2; \
		exit 2; }
	@test -x $(BIN)/python && $(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) -m venv failed: its venv module may be a separate package (on Debian: python3-venv)" >&2; \
		exit 2; }
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-nodeps.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $(LOCKS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# All four run, whichever fails.
check: $(STAMP)
	@failed=; for tool in "ruff check ." "ruff format --check ." mypy lint-imports; do \
		echo "== $$tool"; $(BIN)/$$tool || failed="$$failed [$$tool]"; \
	done; test -z "$$failed" || { echo "check: failed:$$failed" >&2; exit 1; }

# The whole suite, in two processes, a file at a time, longest first. Each process has its own Kafka and InfluxDB, built
# once into the user's cache. One thread a process: more would compete for the cores.
test: $(STAMP)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

demo: $(STAMP)
	$(BIN)/stream-ad demo $(ARGS)

# Every benchmark, one after the other; those that read labelled series need DATA.
bench: $(STAMP)
	@set -e; for file in $$(grep -l '__main__' benchmarks/*/*.py); do \
		name=$$(basename $$file .py); \
		if grep -q '"--data"' $$file && test -z "$(DATA)"; then \
			echo "bench-$$name: left out, it reads labelled series: make bench-$$name DATA=DIR"; \
		else \
			$(MAKE) --no-print-directory bench-$$name; \
		fi; \
	done

bench-%: $(STAMP)
	@mkdir -p $(BENCH_OUT)
	@file=$$(echo benchmarks/*/$*.py); test -f "$$file" || { echo "expected a file benchmarks/*/$*.py, found none" >&2; exit 2; }; \
	set -x; $(BIN)/python -m $$(echo $${file%.py} | tr / .) --out $(BENCH_OUT)/$*.json $(if $(DATA),--data $(DATA)) $(ARGS)

# Locks the requirements of pyproject.toml again: newest versions, with the hashes of every platform's files.
lock: $(STAMP)
	$(COMPILE) --upgrade --extra dev pyproject.toml --output-file requirements.lock
	@sed -n 's/^\([A-Za-z0-9_.-]*==[^ ]*\).*/\1/p' requirements-nodeps.lock > $(VENV)/nodeps.in
	$(COMPILE) --no-deps $(VENV)/nodeps.in --output-file requirements-nodeps.lock

# The pages of docs/ that are generated: settings, metrics, commands, HTTP, benchmarks.
docs: $(STAMP)
	$(BIN)/python -m docs.site.generate

# The docs as a site, in build/site.
site: $(STAMP)
	$(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml

# The docs' pictures of the page, taken by its tests.
pictures: $(STAMP)
	STREAM_AD_PICTURES=docs/img $(BIN)/python -m pytest -q tests/integration/test_page.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
