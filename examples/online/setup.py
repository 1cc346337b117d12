"""Compiles the loop over examples and the hashing of features."""

from Cython.Build import cythonize
from setuptools import Extension, setup

# Without contraction a product is rounded before it is added, so that a loop of NumPy's numbers
# gives the same bits on every processor, as it does for the rules.
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno"]
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
    "cdivision": True,
}

setup(
    ext_modules=cythonize(
        [
            Extension(f"online.{name}", [f"online/{name}.pyx"], extra_compile_args=FLAGS)
            for name in ("_stream", "_hashing")
        ],
        compiler_directives=DIRECTIVES,
    ),
)
