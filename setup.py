"""What pyproject.toml cannot say: how the extension modules are compiled.

Build switches, all environment variables: FASTOPTIM_NO_OPENMP=1 builds the serial library,
FASTOPTIM_NO_ISA=1 leaves the AVX2 and AVX-512 variants out, FASTOPTIM_DEBUG=1 checks every index.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "src/fastoptim/kernels"
DEBUG = os.environ.get("FASTOPTIM_DEBUG") == "1"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
}

# The promise "same bits as the NumPy listing" lives in these flags: every product and every sum
# is rounded by itself (no contraction to FMA), and whatever CFLAGS the environment brings, the
# licence to reorder is taken back. -fno-math-errno lets sqrt be the one instruction it is;
# -fno-trapping-math lets a comparison become a blend. Neither changes a result.
FLAGS = ["-O3", "-fno-fast-math", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]

# CFLAGS reach the link line, too, and there -ffast-math or -Ofast would add start-up code that
# switches whoever imports the module to flush subnormals. -O3 takes -Ofast back.
LINK_FLAGS = ["-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations"]

# Processes that translate at the same time: only where they start as copies of this one.
PROCESSES = (os.cpu_count() or 1) if multiprocessing.get_start_method() == "fork" else 0

# Where OpenMP hides, by compiler: gcc and clang on Linux; Apple's clang with Homebrew's libomp.
OPENMP = [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]

# Those that run parallel regions, and the one that asks how many threads there are.
OPENMP_MODULES = ("driver", "threads", "sharing")

# The one list of instruction sets: rules_<name>.pyx is rules.pyx compiled with these flags.
ISA_FLAGS = {
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


def module(name, **options):
    return Extension(
        f"fastoptim.{name.replace('/', '.')}", [f"src/fastoptim/{name}.pyx"],
        include_dirs=[numpy.get_include(), KERNELS],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        **options,
    )


class Build(build_ext):
    """Asks the compiler what it can do before compiling: OpenMP, and each instruction set."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        self.check_compiler()
        openmp = self.probe_openmp()
        variants = {f"fastoptim.kernels.rules_{isa}": flags for isa, flags in self.probe_isa()}
        wanted = []
        for extension in self.extensions:
            compile_flags = list(FLAGS)
            link_flags = [f for f in LINK_FLAGS if self.accepts([], [f])]
            module = extension.name.rpartition(".")[2]
            if extension.name in variants:
                compile_flags += variants[extension.name]
            elif module.startswith("rules_"):
                # an older build's would be packed into the wheel
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
                continue
            if module in OPENMP_MODULES and openmp:
                compile_flags += openmp[0]
                link_flags += openmp[1]
            extension.extra_compile_args = [f for f in compile_flags if self.accepts([f])]
            if module == "cpu":
                text = self.described(extension.extra_compile_args, openmp, variants)
                extension.define_macros.append(("FASTOPTIM_FLAGS", f'"{text}"'))
            extension.extra_link_args = link_flags
            wanted.append(extension)
        self.extensions[:] = wanted
        super().build_extensions()

    def check_compiler(self):
        """End in one line that says what to install, if nothing can be compiled."""
        compiled = "error: fastoptim is compiled when it is installed, and"
        if self.accepts([]):
            with_python = "#include <Python.h>\nint main(void) { return 0; }\n"
            if not self.accepts([], source=with_python):
                raise SystemExit(
                    f"{compiled} Python.h is missing: install Python's headers (Debian, Ubuntu: "
                    f"apt install python3-dev; Fedora: dnf install python3-devel)"
                )
            return
        command = (getattr(self.compiler, "compiler", None) or [None])[0]
        if command is not None and shutil.which(command):
            raise SystemExit(
                f"{compiled} the C compiler {command!r} does not compile an empty program; its own "
                f"message is above. Look at CC and CFLAGS"
            )
        missing = "" if command is None else f" ({command!r} is not there)"
        raise SystemExit(
            f"{compiled} there is no C compiler{missing}: install one (Debian, Ubuntu: apt install "
            f"gcc python3-dev; Fedora: dnf install gcc python3-devel; macOS: xcode-select "
            f"--install; Windows: the Build Tools for Visual Studio), or name yours in CC"
        )

    @staticmethod
    def described(flags, openmp, variants):
        """Return what the modules are compiled with, for `fastoptim info`."""
        parts = [" ".join(flags)]
        if openmp:
            parts.append(f"where threads are: {' '.join(openmp[0])}")
        parts += [f"{name.rpartition('_')[2]}: {' '.join(more)}" for name, more in variants.items()]
        if os.environ.get("CFLAGS"):  # quotes would end the text in C
            parts.append("CFLAGS " + os.environ["CFLAGS"].translate({ord(c): " " for c in "'\"\\"}))
        if DEBUG:
            parts.append("every index is checked")
        return "; ".join(parts)

    def probe_openmp(self):
        if os.environ.get("FASTOPTIM_NO_OPENMP") == "1":
            self.say("FASTOPTIM_NO_OPENMP=1: building the serial library.")
            return None
        source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        for compile_flags, link_flags in OPENMP:
            if self.accepts(compile_flags, link_flags, source):
                return compile_flags, link_flags
        self.say(
            "No OpenMP found with this compiler: fastoptim will work, on one thread.\n"
            "For all cores install OpenMP (Debian: part of gcc; macOS: brew install libomp, with\n"
            "its folders in CPPFLAGS and LDFLAGS) and install fastoptim again."
        )
        return None

    def probe_isa(self):
        if os.environ.get("FASTOPTIM_NO_ISA") == "1":
            self.say("FASTOPTIM_NO_ISA=1: building the baseline instruction set alone.")
            return []
        x86 = "#if !defined(__x86_64__)\n#error not x86\n#endif\nint main(void) { return 0; }\n"
        return [(isa, flags) for isa, flags in ISA_FLAGS.items() if self.accepts(flags, [], x86)]

    def accepts(self, compile_flags, link_flags=(), source="int main(void) { return 0; }\n"):
        """Whether a program compiles, and where link flags are given links, with these flags."""
        key = (tuple(compile_flags), tuple(link_flags), source)
        known = self.__dict__.setdefault("_accepted", {})
        if key not in known:
            known[key] = self.compiles(list(compile_flags), list(link_flags), source)
        return known[key]

    def compiles(self, compile_flags, link_flags, source):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source, encoding="utf-8")
            try:
                objects = self.compiler.compile(
                    [str(path)], output_dir=folder, extra_postargs=compile_flags
                )
                if link_flags:
                    self.compiler.link_executable(
                        objects, str(Path(folder, "probe")), extra_postargs=link_flags
                    )
            except Exception:  # every compiler class has its own; all of them mean "no"
                return False
            return True

    @staticmethod
    def say(text):
        bar = "*" * 90
        print(f"{bar}\n{text}\n{bar}", file=sys.stderr)


modules = [
    "cpu", "rules", *(f"rules_{isa}" for isa in ISA_FLAGS), "api", "threads", "sharing", "learning",
    "table", "driver", "one_array", "update/others", "update/pipeline", "update/call",
    "update/folder", "update/ahead", "update/store", "update/grid",
    "update/row_numbers", "update/detours", "update/products", "update/compressed", "update/intake",
    "update/coefficients", "update/means", "update/memory", "update/habits", "update/survey",
    "update/tensors", "update/prelude", "update/codes", "update/factored", "update/newton_schulz",
    "update/numbers", "update/engine",
    "update/batch", "update/addition", "update/adder", "update/averaged",
    "update/exchange", "update/shards",
    "ode/passes", "ode/columns", "ode/caller_params", "ode/gradients", "ode/workspace",
]
everything = [f"kernels/{name}" for name in modules] + ["torch/views", "torch/quick"]
setup(
    ext_modules=cythonize(
        [module(name) for name in everything], compiler_directives=DIRECTIVES, nthreads=PROCESSES
    ),
    cmdclass={"build_ext": Build},
)
