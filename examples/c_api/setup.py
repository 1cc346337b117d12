"""What pyproject.toml cannot say: the two extension modules."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastoptim

# For the clients' own arithmetic: without contraction a product is rounded before it is added, so
# that their results are the same bits on every processor, as the rules' are.
FLAGS = ["-ffp-contract=off"]

factors = Extension("factors", ["factors.pyx"], extra_compile_args=FLAGS)
logistic = Extension(
    "logistic", ["logistic.c"], include_dirs=[fastoptim.get_include()], extra_compile_args=FLAGS
)
setup(ext_modules=[*cythonize([factors], build_dir="build"), logistic])
