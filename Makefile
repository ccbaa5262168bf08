# make          an executable ./master: ./master < script works from any folder
# make run      shows the tour line by line; SCRIPT=path runs another, SCRIPT=- one from standard input
# make test     all tests, three at a time since many of them wait; ARGS="tests/test_model.py -k cursor" for some
# make check    ruff and mypy
# make lesson   writes a random script, runs it, checks its history, and makes lesson/report.html, to look at;
#               ARGS="--operations 100 --kill-every 20" for the script, or SCRIPT=path (or -) for one of yours
# make pages    the lessons' pages in docs/lessons/, from examples/ (needs chromium)
# make plots    the pictures in docs/performance.md (some minutes)
# make clean    removes what these have made
# Each sets up what it needs in .venv first, from requirements.txt. PYTHON=… chooses the interpreter.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
SCRIPT ?= examples/tour.txt
BIN := .venv/bin
LESSON := lesson
WORKLOAD := --operations 200 --keys 10 --clients 4 --servers 4 \
	--partition-every 30 --kill-every 60 --move-every 20 --stabilize-every 60
GENERATE = $(BIN)/python scripts/generate.py $(or $(ARGS),$(WORKLOAD))

master: .venv/ready
	@cp scripts/master.sh $@
	@chmod +x $@
	@echo "./master is ready: ./master < script" >&2

run: .venv/ready
	@echo "running $(SCRIPT)" >&2
	@$(BIN)/python master.py $(if $(findstring file,$(origin SCRIPT)),--show) $(SCRIPT)

test: .venv/ready
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

ifeq ($(origin SCRIPT),command line)
lesson: TITLE := $(SCRIPT)
else
lesson: TITLE := a random script: $(or $(ARGS),$(WORKLOAD))
endif
lesson: .venv/ready
	@mkdir -p $(LESSON)
	@$(if $(findstring file,$(origin SCRIPT)),$(GENERATE),cat -- $(SCRIPT)) > $(LESSON)/new || { rm $(LESSON)/new; exit 1; }
	@cd $(LESSON) && rm -rf script history trace printed report.html && mv new script
	@$(BIN)/python master.py --history $(LESSON)/history --trace $(LESSON)/trace $(LESSON)/script > $(LESSON)/printed || true
	@$(BIN)/python scripts/report.py $(LESSON)/trace -o $(LESSON)/report.html --title "$(TITLE)"
	@echo "$(LESSON)/report.html shows what happened, $(LESSON)/printed what was printed, and $(LESSON)/history is"
	@$(BIN)/python scripts/check.py $(LESSON)/history

pages: .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-browser.txt >&2
	@$(BIN)/python scripts/lessons.py

plots: .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements-plots.txt >&2
	@$(BIN)/python scripts/bench.py --plot docs/performance.svg
	@$(BIN)/python scripts/simulate.py --plot docs/scaling.svg

clean:
	rm -rf .venv master lesson .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: requirements.txt
	@test -n "$(PYTHON)" || { echo "Daadkvs needs Python 3.11 or later, with its venv module" >&2; exit 1; }
	@echo "setting up .venv …" >&2
	@$(PYTHON) -m venv --clear .venv >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt >&2
	@touch $@

.PHONY: run test check lesson pages plots clean
