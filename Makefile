# make          an executable ./master: ./master < script works from any folder
# make run      the tour, or SCRIPT=path for another, or SCRIPT=- for one from standard input
# make test     all tests, three at a time since many of them wait; ARGS="tests/test_model.py -k cursor" for some
# make check    ruff and mypy
# make plots    the pictures in docs/performance.md (some minutes)
# make clean    removes what these have made
# Each sets up what it needs in .venv first, from requirements.txt. PYTHON=… chooses the interpreter.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
SCRIPT ?= examples/tour.txt
BIN := .venv/bin

master: .venv/ready
	@cp scripts/master.sh $@
	@chmod +x $@
	@echo "./master is ready: ./master < script" >&2

run: .venv/ready
	@echo "running $(SCRIPT)" >&2
	@$(BIN)/python master.py $(SCRIPT)

test: .venv/ready
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

plots: .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements-plots.txt >&2
	@$(BIN)/python scripts/bench.py --plot docs/performance.svg
	@$(BIN)/python scripts/simulate.py --plot docs/scaling.svg

clean:
	rm -rf .venv master .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "Daadkvs needs Python 3.11 or later, with its venv module" >&2; exit 1; }
	@echo "setting up .venv …" >&2
	@$(PYTHON) -m venv --clear .venv >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
	@touch $@

.PHONY: run test check plots clean
