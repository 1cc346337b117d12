from Cython.Build import cythonize
from setuptools import Extension, setup

import fastoptim

probe = Extension(
    "probe", ["probe.pyx"], language="c++", include_dirs=[fastoptim.get_include()],
    extra_compile_args=["-std=c++17"],
)
setup(ext_modules=cythonize([probe], build_dir="build"))
