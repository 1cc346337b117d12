"""Compiles the loop for the processor that it is installed on."""

import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Not -ffast-math: linked into a shared object it switches subnormal numbers off for the whole
# process. The loop needs none of its licences, its sums are written in lanes (rows.h).
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False,
    "cdivision": True,
}


class Build(build_ext):
    def build_extensions(self):
        for extension in self.extensions:
            extension.extra_compile_args = [flag for flag in FLAGS if self.accepts(flag)]
        super().build_extensions()

    def accepts(self, flag):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[flag])
            except Exception:  # every compiler class has its own; all of them mean "no"
                return False
            return True


setup(
    ext_modules=cythonize(
        [Extension("skipgram._loop", ["skipgram/_loop.pyx"], depends=["skipgram/rows.h"])],
        compiler_directives=DIRECTIVES,
    ),
    cmdclass={"build_ext": Build},
)
