# Everything a newcomer needs: `make demo` and `make test` do their own set-up.
PYTHON ?= python3.11
VENV := .venv
WORKERS ?= 2
SECONDS ?= 3000
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check lint types imports bench fuzz crash test-lowest clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: needs $(PYTHON) (or set PYTHON=/path/to/python3.11)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,notebooks]"
	@touch $(STAMP)

demo: setup
	$(BIN)/alrsim demo --out out

# Two phases, both of which run: what may share the host, in parallel; then what is marked `alone`, one at a time. What
# failed is tried once more by itself, and named: a busy host starves tests that wait for other processes.
ONCE_MORE := || { test $$? -eq 1 && echo "make test: once more, by itself, what failed:" && OMP_NUM_THREADS=1 \
  $(BIN)/python -m pytest -q -rA --last-failed --last-failed-no-failures none; }
test: setup
	@status=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not alone" -n $(WORKERS) --dist worksteal $(ONCE_MORE) || status=1; \
	$(BIN)/python -m pytest -q -m alone $(ONCE_MORE) || status=1; \
	exit $$status

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports --no-cache

check: lint types imports test

bench: setup
	$(BIN)/python -m benchmarks

# Thousands of hostile inputs; prints what became of them, and keeps a table of the accepted ones in out/fuzz.
fuzz: setup
	$(BIN)/python -m tests.hostile.fuzz --workers $(WORKERS)

# Long verbs killed at random moments and called again; prints what was left, lost, doubled or unequal.
crash: setup
	$(BIN)/python -m tests.hostile.crash --seconds $(SECONDS)

# A short selection with the lowest versions that pyproject.toml allows (torch: the pinned one).
LOWEST := .venv-lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt torch
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt \
	  -e ".[search,frame,cluster]" hatchling editables hypothesis jsonschema psutil pytest pytest-xdist
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n $(WORKERS) -W ignore::DeprecationWarning \
	  -W ignore::PendingDeprecationWarning tests/front tests/golden tests/conformance tests/spec/test_plan_verb.py \
	  tests/execution/test_executor_conformance.py

clean:
	rm -rf $(VENV) $(LOWEST) out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
