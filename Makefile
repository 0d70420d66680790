# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check bench format clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

demo: $(STAMP)            ## install, train a small target on digits, audit it with every attack, write a report
	$(BIN)/labelleaks demo

test: $(STAMP)            ## the whole test suite
	$(BIN)/python -m pytest

check: $(STAMP)           ## what CI runs before the tests: lint, format, strict types (layering is a test)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

bench: $(STAMP)           ## accuracy and overhead of the boundary search, next to ART and foolbox
	$(BIN)/python -m pip install -q -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.boundary_accuracy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache
