# `make run` takes one recipe through a whole search, `make test` checks everything, `make docs` builds the site.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do command -v $$p && break; done)
BIN := .venv/bin
RECIPE ?= recipes/digits_darts.yaml
# the checks of types go along with the tests
MAKEFLAGS += --jobs=2
# compiled modules are kept, whatever the shell says: the tests start nasframe many times
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test docs lint types layers check audit format bench clean

run: .venv/.run
	$(BIN)/nasframe run $(RECIPE)

test: lint types layers check

docs: .venv/.test
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env --quiet --doctree-dir build/doctrees docs site
	@echo site/index.html

lint: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.test
	$(BIN)/mypy
	@set -e; for plugin in $(notdir $(wildcard plugins/nasframe-*)); do \
	  MYPYPATH=plugins/$$plugin $(BIN)/mypy -p $$(echo $$plugin | tr - _); done

layers: .venv/.test
	$(BIN)/lint-imports

check: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=2 --dist=worksteal $(PYTEST_ARGS)

audit: .venv/.test
	bash .ci/audit $(BIN)/pip-audit

format: .venv/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# with the peers in an environment of their own; BENCH_ARGS such as --size small --only first_order,all_paths
bench: .venv-bench/.ready
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} .venv-bench/bin/python benchmarks/steps.py --results benchmarks/results $(BENCH_ARGS)

.venv-bench/.ready: pyproject.toml constraints.txt benchmarks/requirements.txt
	@test -n "$(PYTHON)" || { echo "needs Python 3.11 or newer: give PYTHON=/path/to/python"; exit 1; }
	"$(PYTHON)" -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	@touch $@

.venv/.created:
	@test -n "$(PYTHON)" || { echo "needs Python 3.11 or newer: give PYTHON=/path/to/python"; exit 1; }
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/.run: .venv/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.test: .venv/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ .venv/.run

clean:
	rm -rf .venv .venv-bench build dist site docs/recipes docs/reference docs/extending docs/study_results docs/study_reports *.egg-info
