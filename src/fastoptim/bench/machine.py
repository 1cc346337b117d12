"""What a run was made on: processor, caches, memory, versions, instructions, threads."""

import os
import platform
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

import fastoptim
from fastoptim.kernels import ISA, available_isas, threads
from fastoptim.kernels.cpu import built_with

CPU = Path("/sys/devices/system/cpu/cpu0/cache")
CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
LIBRARIES = (
    "numpy", "torch", "jax", "optax", "numba", "scikit-learn", "thinc", "matplotlib",
)


def read(path: Path) -> str:
    """Return a small file's text, an empty one if it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def processor() -> str:
    """Return the processor's name."""
    found = re.search(r"^model name\s*:\s*(.+)$", read(CPUINFO), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def caches(folder: Path = CPU) -> dict[str, int] | None:
    """Return the bytes of the data caches that one processor sees, by "L1", "L2", "L3"."""
    found = {}
    for one in sorted(folder.glob("index*")):
        size = re.fullmatch(r"(\d+)([KMG]?)", read(one / "size").strip())
        if size and read(one / "type").strip() != "Instruction":
            found[f"L{read(one / 'level').strip()}"] = int(size[1]) * UNITS[size[2]]
    return found or None


def available_memory() -> int | None:
    """Return the bytes that can be had without swapping, a control group's limit included."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", read(MEMINFO), re.MULTILINE)
    known = [int(found[1]) * 2**10] if found else []
    limit, used = read(CGROUP / "memory.max").strip(), read(CGROUP / "memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        known.append(max(0, int(limit) - int(used)))
    return min(known, default=None)


def versions() -> dict[str, str]:
    """Return the versions of this library, of Python and of all who may take part."""
    found = {"fastoptim": fastoptim.__version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def described() -> dict[str, Any]:
    """Return all of it, for bench.json."""
    blas = [
        f"{one['internal_api']} {one.get('version') or ''}, {one['num_threads']} threads".strip()
        for one in threadpool_info() if one.get("user_api") == "blas"
    ]
    return {
        "processor": processor(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": threads.machine_limit(),
        "caches": caches(),
        "memory_available": available_memory(),
        "instructions": ISA,
        "available_instructions": available_isas(),
        "compiler": built_with()[0],
        "flags": built_with()[1],
        "openmp": threads.openmp_version() or None,
        "threads": fastoptim.get_num_threads(),
        "blas": blas,
        "numpy_instructions": numpy_instructions(),
        "environment": {
            name: text for name, text in sorted(os.environ.items())
            if re.match(r"(FASTOPTIM|OMP|GOMP|OPENBLAS|MKL|NUMBA|XLA)_", name)
        },
        "byteorder": sys.byteorder,
    }


def numpy_instructions() -> list[str]:
    """Return the instruction sets that NumPy found on this processor."""
    config: Any = np.show_config(mode="dicts")
    return list(config.get("SIMD Extensions", {}).get("found", []))
