# The one list of commands, used by people and by continuous integration alike.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-output
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-slow test-lowest test-wheel lint tutorials bench clean

# Each stamp is newer than pyproject.toml when that set of packages is installed, so a second run installs nothing.
$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/.demo $@

# Peers live in an environment of their own. torchattacks asks for requests ~= 2.25, which nothing here can have and it
# needs only to download weights: so it goes in without its dependencies.
.venv-bench/.bench: pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --editable '.[bench]'
	.venv-bench/bin/python -m pip install --quiet --no-deps 'torchattacks>=3.5'
	touch $@

demo: $(VENV)/.demo  ## set up and run the main job: photographs to report
	$(BIN)/neurometamer demo --out $(OUT)

test: $(VENV)/.test  ## set up and run the suite
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: $(VENV)/.test  ## the long checks and the tutorials
	$(BIN)/python -m pytest -m slow

# The lowest versions that pyproject.toml declares, all at once; torch, torchvision and test tools as pip chooses them.
# Old libraries use what newer ones deprecate, so that only other warnings are errors here.
.venv-lowest/.lowest: pyproject.toml tests/lowest_versions.py
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet packaging
	.venv-lowest/bin/python tests/lowest_versions.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/lowest.txt --editable '.[test]'
	touch $@

test-lowest: .venv-lowest/.lowest  ## the suite on the lowest declared versions; TESTS=tests/fmri for a part of it
	PYTHONWARNINGS=ignore::DeprecationWarning,ignore::FutureWarning \
	  .venv-lowest/bin/python -m pytest --numprocesses auto --dist loadfile \
	  -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning $(TESTS)

test-wheel:  ## build the wheel; install and import it on the newest Python at hand (NEWEST=python3.13 for another)
	$(PYTHON) tests/wheel_on_newest_python.py $(NEWEST)

lint: $(VENV)/.test  ## format, style, types, import contracts, docstrings, how dense the code is
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/numpydoc lint $$(git ls-files 'neurometamer/*.py' 'stimuli_gen/*.py' 'fmri/*.py' ':!neurometamer/cli/*')
	$(BIN)/python tests/code_counts.py

tutorials: $(VENV)/.test  ## run the tutorials and store what they show
	$(BIN)/python tests/store_tutorials.py

bench: .venv-bench/.bench  ## measure the bars beside the peers, up to 25 minutes; BARS=P1,P2 for some
	.venv-bench/bin/python -m benchmarks $(if $(BARS),--only $(BARS))

clean:
	rm -rf $(VENV) .venv-bench .venv-lowest $(OUT)
