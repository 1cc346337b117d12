# A fresh clone on a fresh machine needs Python 3.11 or newer, a C compiler, make, and this file.
PYTHON ?= python3
BIN = .venv/bin
SOURCES = pyproject.toml setup.py $(shell find src -name '*.py' -o -name '*.py[xi]' -o -name '*.px[di]' -o -name '*.h')

.PHONY: demo test bench lint docs sdist clean

demo: .venv/installed
	$(BIN)/fastoptim demo

test: .venv/installed
	$(BIN)/python tests/side_by_side.py

bench: .venv/installed
	$(BIN)/python -m pytest bench --benchmark-enable --benchmark-columns=median,rounds -o python_files="bench_*.py"

lint: .venv/installed
	$(BIN)/python -m pip install -q ruff cython-lint mypy 'pyright[nodejs]'
	$(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src examples tests
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_types.py

# the site, in docs/_build/html; what it needs is in the extra "docs" of what is installed
docs: .venv/installed
	$(BIN)/python -m pip install -q 'fastoptim[docs]'
	rm -rf docs/_build
	$(BIN)/python -m sphinx -q -n -W --keep-going docs docs/_build/html
	$(BIN)/python docs/check.py docs/_build/html

sdist: .venv/installed
	$(BIN)/python -m pip install -q build
	$(BIN)/python -m build --sdist

.venv/installed: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install -q '.[test]'
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist demo gallery paths bench/bench.json bench/*.png docs/_build docs/made docs/rules
	rm -rf src/fastoptim.egg-info
	find src -name "*.c" -delete -o -name "*.so" -delete
