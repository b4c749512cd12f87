# The one list of commands, used by people and by continuous integration alike.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-output
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint clean

# Each stamp is newer than pyproject.toml when that set of packages is installed, so a second run installs nothing.
$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo  ## set up and run the main job: photographs to report
	$(BIN)/neurometamer demo --out $(OUT)

test: $(VENV)/.test  ## set up and run the whole suite
	$(BIN)/python -m pytest

lint: $(VENV)/.test  ## format, style, types, import contracts, docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/numpydoc lint $$(git ls-files 'neurometamer/*.py' 'stimuli_gen/*.py' 'fmri/*.py')

clean:
	rm -rf $(VENV) $(OUT)
