"""What setup.py makes of the compiler's flags in the environment."""

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
