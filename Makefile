# make study [DATA=/path/to/gtzan] [OUT=report] [ARGS="--quick"]   train, compare, report
# make test                                                        the tests, but for slow ones
# make test-fast                                                   those of files that take no time
# make test-slow                                                   the slow ones
# make coverage                                                    both, and how much of src/ they run
# make legs [LEGS="oldest 3.13"]                                   other dependencies, other Pythons
# make mutate [ARGS="--only journal"]                              which changes no test notices
# make audit                                                       known flaws of the pinned versions
# make sbom                                                        what is in an install, into build/
# make bench [DATA=/path/to/gtzan]                                speed and growth against our aims
# make docs                                                        the site, into site/
# make setup                                                       just .venv
PYTHON ?= python3
BIN := .venv/bin

# Python would compile all anew in each of the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup study test test-fast test-slow coverage mutate legs audit sbom lint bench docs clean

setup: .venv/ready

# Constraints pin every version, so that today's install is tomorrow's. pip takes a CPU build of torch
# where one is offered under the pinned version; uv, which does not look for it, brings the rest in
# a fraction of the time.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which with PYTHON=python3.x" >&2; exit 1; }
	@echo "Setting up .venv, which grows to 3.1 GB. Nothing outside this folder changes."
	@echo "1 of 3: a virtual environment"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "2 of 3: torch and uv"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch uv
	@echo "3 of 3: genrescope, its extras, and what tests and documentation need"
	@$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[all]' --group dev
	@touch $@

study: setup
	$(BIN)/genrescope study $(if $(DATA),--data $(DATA)) $(if $(OUT),--out $(OUT)) $(ARGS)

test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow" $(ARGS)

test-fast: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow" --fast $(ARGS)

test-slow: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -m slow $(ARGS)

# All tests. Under Python 3.11 measuring takes as long as half of them: what is not slow must run the
# share of src/ that pyproject.toml asks for.
coverage: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow" --cov --cov-report=term $(ARGS)
	$(BIN)/python -m pytest -n auto --dist loadgroup -m slow $(ARGS)

# Not among the extras: it is for the people who write tests, and takes hours.
mutate: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt mutmut==3.8.1
	$(BIN)/python tools/mutate.py $(ARGS)

LEGS ?= pinned oldest newest 3.13 3.14
legs: setup
	$(BIN)/python tools/legs.py $(LEGS)

# Fails for a known flaw that a newer version fixes, and if PyPI does not answer.
audit: setup
	$(BIN)/python tools/audit.py constraints.txt

# .venv has all extras.
SBOM := $(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py environment \
  --sv 1.6 --of JSON --output-reproducible --no-validate --pyproject pyproject.toml
sbom: setup
	mkdir -p build
	$(BIN)/uv venv --quiet --clear build/base
	$(BIN)/uv pip install --quiet --python build/base -c constraints.txt .
	$(SBOM) -o build/sbom-base.json build/base/bin/python
	$(SBOM) -o build/sbom-all.json $(BIN)/python
	rm -r build/base

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(BIN)/mypy --no-warn-unused-ignores --cache-dir .mypy_cache/tools \
	  --disable-error-code import-not-found --disable-error-code import-untyped \
	  --disable-error-code no-untyped-call --disable-error-code no-any-return benchmarks tools

bench: setup
	$(BIN)/python benchmarks/bench.py $(if $(DATA),--data $(DATA)) $(ARGS)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv site
