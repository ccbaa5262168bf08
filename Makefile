# make          an executable ./master: ./master < script works from any folder
# make run      shows the tour line by line; SCRIPT=path runs another, SCRIPT=- one from standard input
# make test     all tests, four at a time since many of them wait; ARGS="tests/unit/test_model.py -k cursor" for some
# make check    ruff and mypy, and Biome for the report's page
# make lesson   writes a random script, runs it, checks its history, and makes lesson/report.html, to look at;
#               ARGS="--operations 100 --kill-every 20" for the script, or SCRIPT=path (or -) for one of yours
# make pages    the lessons' pages in docs/lessons/, from examples/ (needs chromium)
# make book     README, docs and lessons as one site, book/index.html, with search; needs no network once it is built
# make plots    the pictures in docs/performance.md (some minutes)
# make clean    removes what these have made
# make lock     pins what pyproject.toml asks for, with hashes, in the requirements files; versions stay, as far as they
#               can: ARGS=--upgrade takes the newest, ARGS="--upgrade-package rpyc" that of one
# Each sets up what it needs in .venv first, and anew where that or the interpreter has changed: what runs from
# requirements.txt, and for tests and checks more from requirements-dev.txt.
# PYTHON=… chooses the interpreter, where there is no .venv yet.

# What is given reaches the shell by the environment, as it is, in these: it may have blanks, quotes and dollar signs.
SCRIPT ?= examples/tour.txt
LESSON ?= lesson
export python := $(value PYTHON)
export script := $(value SCRIPT)
export lesson := $(value LESSON)
export words := $(value ARGS)
unexport PYTHON SCRIPT LESSON ARGS CDPATH $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))
IN_VENV := .venv/bin/python -E
WORKLOAD := --operations 200 --keys 10 --clients 4 --servers 4 \
	--partition-every 30 --kill-every 60 --move-every 20 --stabilize-every 60
INSTALL := PIP_USER=0 .venv/bin/python -I -m pip install --quiet --disable-pip-version-check --require-hashes
STALE := $(shell { cmp -s requirements.txt .venv/ready && $(IN_VENV) -c 'import setproctitle'; } 2>/dev/null || echo stale)
STALE_DEV := $(shell cmp -s requirements-dev.txt .venv/dev || echo stale)

master: .venv/ready scripts/master.sh
	@env --block-signal=INT true 2>/dev/null && cp scripts/master.sh $@ \
		|| sed "s/^exec env --block-signal=INT/trap '' INT\nexec/" scripts/master.sh > $@
	@chmod +x $@
	@echo "./master is ready: ./master < script" >&2

run: .venv/ready
	@printf 'running %s\n' "$$script" >&2
	@$(IN_VENV) master.py $(if $(findstring file,$(origin SCRIPT)),--show) -- "$$script"

test: .venv/dev
	@eval "set -- $$words" && $(IN_VENV) -m pytest -n 4 --dist worksteal "$$@"

check: .venv/dev
	@$(IN_VENV) -m ruff check .
	@$(IN_VENV) -m ruff format --check .
	@$(IN_VENV) -m mypy
	@if [ -x .venv/bin/biome ]; then .venv/bin/biome check --error-on-warnings checking/page; \
		else echo "the report's page is not checked: Biome has no wheel for this machine" >&2; fi

ifeq ($(origin SCRIPT),file)
lesson: export words := $(or $(value ARGS),$(WORKLOAD))
lesson: export title := a random script
lesson: WRITE := eval "set -- $$words" && $(IN_VENV) scripts/generate.py "$$@"
else
lesson: export title := $(value SCRIPT)
lesson: WRITE := cat -- "$$script"
# The diagram then shows one command after another, as the script has them.
lesson: ONE_BY_ONE := --no-pipeline
endif
lesson: .venv/ready
	@mkdir -p -- "$$lesson"
	@{ $(WRITE); } > "$$lesson/new" || { rm -- "$$lesson/new"; exit 1; }
	@cd -- "$$lesson" && rm -rf script history trace printed report.html && mv new script
	@$(IN_VENV) master.py $(ONE_BY_ONE) --history="$$lesson/history" --trace="$$lesson/trace" -- "$$lesson/script" \
		> "$$lesson/printed" || true
	@$(IN_VENV) scripts/report.py -o "$$lesson/report.html" --title="$$title" --history="$$lesson/history" \
		--script="$$lesson/script" -- "$$lesson/trace"
	@printf '%s/report.html shows what happened, %s/printed what was printed, and %s/history is\n' \
		"$$lesson" "$$lesson" "$$lesson"
	@$(IN_VENV) scripts/check.py -- "$$lesson/history"

pages: .venv/ready
	@$(INSTALL) -r tests/requirements-browser.txt >&2
	@$(IN_VENV) scripts/lessons.py

book: .venv/ready
	@$(INSTALL) -r scripts/requirements-book.txt >&2
	@$(IN_VENV) scripts/book.py

plots: .venv/ready
	@$(INSTALL) -r scripts/requirements-plots.txt >&2
	@$(IN_VENV) scripts/bench.py --plot docs/performance.svg
	@$(IN_VENV) scripts/simulate.py --plot docs/scaling.svg
	@$(IN_VENV) scripts/simulate.py --plot-delay docs/staleness.svg

# The index's address stays out of the files: each machine has its own. What several files pin, they pin alike.
COMPILE = .venv/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --annotation-style line --custom-compile-command "make lock"
lock: .venv/ready
	@$(INSTALL) -r scripts/requirements-lock.txt >&2
	@eval "set -- $$words" && lock() { out=$$1; shift; echo "locking $$out …" >&2; $(COMPILE) "$$@" -o "$$out"; } \
		&& lock scripts/requirements-lock.txt --group lock "$$@" \
		&& lock requirements.txt pyproject.toml --group asked "$$@" \
		&& lock requirements-dev.txt -c requirements.txt pyproject.toml --extra test --extra check --extra grading "$$@" \
		&& lock tests/requirements-browser.txt -c requirements-dev.txt pyproject.toml --extra browser "$$@" \
		&& lock tests/requirements-notebook.txt -c requirements-dev.txt pyproject.toml --extra notebook "$$@" \
		&& lock scripts/requirements-book.txt -c requirements-dev.txt pyproject.toml --extra book "$$@" \
		&& lock scripts/requirements-plots.txt -c requirements-dev.txt pyproject.toml --extra plots "$$@" \
		&& lock scripts/requirements-grading.txt -c requirements-dev.txt pyproject.toml --extra grading "$$@" \
		&& lock scripts/requirements-fuzz.txt -c requirements-dev.txt pyproject.toml --extra fuzz "$$@" \
		&& lock scripts/requirements-cluster.txt -c requirements-dev.txt pyproject.toml --extra cluster "$$@"

clean:
	rm -rf .venv master lesson book .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: $(STALE)
	@scripts/setup.sh

.venv/dev: .venv/ready $(STALE_DEV)
	@echo "adding to .venv what tests and checks need …" >&2
	@$(INSTALL) -r requirements-dev.txt >&2
	@cp requirements-dev.txt $@

.PHONY: run test check lesson pages book plots lock clean stale
