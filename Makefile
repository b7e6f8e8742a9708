# Two commands do all the set-up: `make demo` and `make test`. PYTHON chooses another interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# More options for `make chaos` and `make bench`.
CHAOS ?=
BENCH ?=

.PHONY: help demo test chaos bench lint format install clean browser screenshots

help:  ## show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: $(VENV)/.installed  ## launch a small fleet on a simulated cloud, watch it, stop everything; BOARD=1 shows it in a browser
	$(BIN)/launchq demo $(if $(BOARD),--board)

# Most tests wait, for leases and timeouts: twice as many processes as cores.
test: $(VENV)/.installed-test browser lint  ## lint, types and all tests
	$(BIN)/python -m pytest -n 4

# Chromium for the tests of the board's pages; they are skipped where it is not there and cannot be installed.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1 \
	    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }; }; } \
	  || echo "no chromium, and it cannot be installed: the browser tests will be skipped" >&2

screenshots: $(VENV)/.installed-test browser  ## make the pictures of the board in docs/images anew
	PYTHONPATH=tests:tests/board $(BIN)/python tests/board/screenshots.py docs/images

chaos: $(VENV)/.installed-test  ## launchq and plain Celery under fire, some minutes; CHAOS="--seed 8" adds options
	PYTHONPATH=tests $(BIN)/python -m chaos --subject both --names both --json build/chaos.json $(CHAOS)

bench: $(VENV)/.installed-bench  ## launchq and its alternatives measured, half an hour; BENCH="--quick" adds options
	$(BIN)/python -m bench $(BENCH)

lint: $(VENV)/.installed-test  ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed  ## make the virtual environment and install launchq into it

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "launchq needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "no virtual environment could be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,board]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,board,otel,test]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,bench]'
	@touch $@

clean:  ## remove the virtual environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
