# make study [DATA=/path/to/gtzan] [OUT=report] [ARGS="--quick"]   train, compare, report
# make test                                                        the tests, but for slow ones
# make test-slow                                                   the slow ones
# make docs                                                        the site, into site/
# make setup                                                       just .venv
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup study test test-slow lint bench docs clean

setup: .venv/ready

# Constraints pin every version, so that today's install is tomorrow's. pip takes a CPU build of torch
# where one is offered under the pinned version; uv, which does not look for it, brings the rest in
# a fraction of the time.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which with PYTHON=python3.x" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

study: setup
	$(BIN)/genrescope study $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT)) $(ARGS)

test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow" $(ARGS)

test-slow: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -m slow $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/study_speed.py $(if $(DATA),--data $(DATA)) $(ARGS)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site
