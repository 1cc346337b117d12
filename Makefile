# A fresh clone on a fresh machine needs Python 3.11 or newer, a C compiler, make, and this file.
PYTHON ?= python3
BIN = .venv/bin
SOURCES = pyproject.toml setup.py $(shell find src -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd')

.PHONY: demo test bench lint sdist clean

demo: .venv/installed
	$(BIN)/fastoptim demo

test: .venv/installed
	$(BIN)/python -m pytest

bench: .venv/installed
	$(BIN)/python -m pytest bench --benchmark-enable --benchmark-columns=median,rounds -o python_files="bench_*.py"

lint: .venv/installed
	$(BIN)/python -m pip install -q ruff cython-lint mypy 'pyright[nodejs]'
	$(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src examples tests
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_types.py

sdist: .venv/installed
	$(BIN)/python -m pip install -q build
	$(BIN)/python -m build --sdist

.venv/installed: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install -q '.[test]'
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist demo src/fastoptim.egg-info
	find src -name "*.c" -delete -o -name "*.so" -delete
