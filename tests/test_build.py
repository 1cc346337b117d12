"""What setup.py makes of the compiler and its flags in the environment."""

import re
from pathlib import Path

import pytest
from helpers import run_python

ROOT = Path(__file__).parent.parent

MODULE = """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "tiny", 0, -1, 0};
PyMODINIT_FUNC PyInit_tiny(void) { return PyModule_Create(&definition); }
"""

# setup.py itself, but for the list of its modules: one of a few lines is enough.
BUILD = """
import runpy, sys
import Cython.Build, setuptools
given = {}
real = setuptools.setup
setuptools.setup = given.update
Cython.Build.cythonize = lambda *args, **more: []
runpy.run_path(sys.argv[1], run_name="setup")
given["ext_modules"] = [setuptools.Extension("tiny", ["tiny.c"])]
real(**given, name="tiny", py_modules=[], script_args=["build_ext", "--inplace"])
"""

# Half the smallest normal float32 is subnormal; a processor that flushes gives 0.
LOOK = """
import numpy as np
x = np.float32(1.2e-38)
before = float(x * np.float32(0.5))
import tiny
assert before > 0
print(float(x * np.float32(0.5)) == before)
"""


@pytest.mark.parametrize("flags", ["-Ofast", "-O2 -ffast-math", "-funsafe-math-optimizations"])
def test_a_module_that_was_built_to_be_fast_leaves_the_importing_thread_as_it_was(flags, tmp_path):
    """GCC, asked to link with such flags, adds code that flushes subnormals from the import on."""
    (tmp_path / "tiny.c").write_text(MODULE)
    built = run_python("-c", BUILD, ROOT / "setup.py", cwd=tmp_path, CFLAGS=flags)
    assert built.returncode == 0, built.stdout + built.stderr
    looked = run_python("-c", LOOK, cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout == "True\n"


COMPILERS = {
    "none of that name": (
        {"CC": "/nonexistent"},
        r"there is no C compiler \('/nonexistent' is not there\): install one",
    ),
    "nothing on the path": (
        {"PATH": "/nonexistent", "CC": "gcc"},
        r"no C compiler \('gcc' is not there\).*apt install gcc",
    ),
    "one that fails": ({"CC": "false"}, "the C compiler 'false' does not compile an empty program"),
}


@pytest.mark.parametrize(("environment", "text"), COMPILERS.values(), ids=COMPILERS)
def test_without_a_compiler_the_last_line_says_what_to_install(environment, text, tmp_path):
    (tmp_path / "tiny.c").write_text(MODULE)
    built = run_python("-c", BUILD, ROOT / "setup.py", cwd=tmp_path, **environment)
    assert built.returncode == 1
    last = built.stderr.splitlines()[-1]
    assert last.startswith("error: fastoptim is compiled when it is installed, and ")
    assert re.search(text, last)
    assert "Traceback" not in built.stderr


def test_without_pythons_headers_the_last_line_says_what_to_install(tmp_path):
    """A compiler that compiles an empty program, and none that reads Python.h."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nfor f in "$@"; do case "$f" in *.c)\n'
                        '! grep -q Python.h "$f" || exit 1;; esac; done\nexec gcc "$@"\n')
    compiler.chmod(0o755)
    (tmp_path / "tiny.c").write_text(MODULE)
    built = run_python("-c", BUILD, ROOT / "setup.py", cwd=tmp_path, CC=str(compiler))
    assert built.returncode == 1
    assert re.search("Python.h is missing: install Python's headers", built.stderr.splitlines()[-1])


# What an installation has but compiled modules. The real list of modules is not translated.
PACK = """
import runpy, sys
import Cython.Build, setuptools
given = {}
real = setuptools.setup
setuptools.setup = given.update
Cython.Build.cythonize = lambda modules, **more: modules
runpy.run_path("setup.py", run_name="setup")
given["cmdclass"] = {}
real(**given, script_args=[
    "-q", "egg_info", "--egg-base", sys.argv[1], "build_py", "--build-lib", sys.argv[2],
])
"""


def test_sources_reach_the_sdist_and_stubs_reach_the_wheel(tmp_path):
    """So that what is compiled can be compiled elsewhere, and is known to type checkers."""
    about, built = tmp_path / "about", tmp_path / "built"
    about.mkdir()
    done = run_python("-c", PACK, about, built, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = (about / "fastoptim.egg-info" / "SOURCES.txt").read_text("utf-8").split()
    package = ROOT / "src" / "fastoptim"
    for pattern in ("*.py", "*.pyi", "*.pyx", "*.pxd", "*.pxi", "*.h"):
        found = {path.relative_to(ROOT).as_posix() for path in package.rglob(pattern)}
        assert found
        assert found <= set(listed)
    assert not [path for path in listed if path.endswith((".c", ".so")) and "examples" not in path]
    for pattern in ("*.py", "*.pyi"):
        stubs = {path.relative_to(package.parent) for path in package.rglob(pattern)}
        assert stubs == {path.relative_to(built) for path in built.rglob(pattern)}
