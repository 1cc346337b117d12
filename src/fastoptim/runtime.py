"""Threads and instruction sets: set how many, show which are in use."""

import os
import platform
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastoptim import sharing
from fastoptim.kernels import ISA, available_isas, table, threads
from fastoptim.kernels.cpu import built_with
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer


def set_num_threads(n: int | None, fixed: bool = False) -> None:
    """Set how many threads an update may use, for the whole process.

    Parameters
    ----------
    n : int in [1, 1024], or None
        The largest number. None returns the choice to OpenMP (OMP_NUM_THREADS, threadpoolctl, the
        processors of this process).
    fixed : bool, default False
        For a benchmark: use exactly n threads in an update that has 32,768 elements for each of
        them. Otherwise each optimizer learns how many serve its user best, and never uses more than
        there are processors.

    Notes
    -----
    No count changes a result. See docs/threads.md.

    Examples
    --------
    >>> import fastoptim as fo
    >>> fo.set_num_threads(1)
    >>> fo.get_num_threads()
    1
    >>> fo.set_num_threads(None)
    """
    if not isinstance(fixed, (bool, np.bool)):
        raise TypeError(f"fixed must be True or False, got {shown(fixed)}")
    threads.set_num_threads(n, bool(fixed))
    if n is not None and n > 1 and not threads.openmp_version():
        warnings.warn(
            "fastoptim was built without OpenMP and updates on one thread", RuntimeWarning,
            stacklevel=2,
        )


def get_num_threads() -> int:
    """Return how many threads an update may use at present."""
    return threads.get_num_threads()


def get_include() -> str:
    """Return the folder of fastoptim.h, for the include path of a C compiler.

    Examples
    --------
    >>> import os, fastoptim as fo
    >>> os.listdir(fo.get_include())
    ['fastoptim.h']
    """
    return os.path.join(os.path.dirname(__file__), "include")


def show_runtime(opt: "Optimizer | None" = None) -> None:
    """Print what decides how an update runs: versions, instructions, OpenMP, threads.

    Parameters
    ----------
    opt : Optimizer, optional
        Print what it has learned about threads, too.
    """
    for name, value in described(opt).items():
        print(f"{name + ':':<14}{value}")


def described(opt: "Optimizer | None" = None) -> dict[str, str]:
    """Return what `show_runtime` prints, by name."""
    from fastoptim import __version__

    openmp = threads.openmp_version()
    fork = {
        "threads": "threads go on",
        "released": "threads are released before and start anew in both processes",
        "serial": "this OpenMP cannot release its threads: the child works on one",
    }[threads.fork_handling()]
    compiler, flags = built_with()
    rows = {
        "fastoptim": __version__,
        "Python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "NumPy": np.__version__,
        "instructions": f"{ISA} (available: {', '.join(available_isas())})",
        "compiler": compiler,
        "flags": flags,
        "OpenMP": str(openmp) if openmp else "none: this build is serial",
        "processors": f"{threads.machine_limit()} for this process",
        "threads": thread_choice(),
        "learned": "" if opt is None else learned(opt),
        "shared with": ", ".join(sharing.described()),
        "block": f"{table.block_length():,} elements",
        "after fork": fork if openmp else "nothing to do",
    }
    return {name: value for name, value in rows.items() if value}


def learned(opt: "Optimizer") -> str:
    """Return in words how many threads serve an optimizer's user best, as far as it knows."""
    from fastoptim.optimizer.base import Optimizer  # which checkpoints come before

    if not isinstance(opt, Optimizer):
        raise TypeError(f"opt must be an optimizer of fastoptim, got {type(opt).__name__}")
    return "; ".join(
        f"{least:,} to {2 * least - 1:,} elements: {count} of {most} threads"
        + ("" if compared else ", still comparing")
        for least, count, most, compared in opt.engine.learned()
    ) or "nothing yet: no update was large enough for two threads, or their number is fixed"


def thread_choice() -> str:
    """Return in words how many threads an update uses."""
    n, used, work = get_num_threads(), threads.most_in_use(), threads.work_per_thread()
    if used == 1:
        return "1" if n == 1 else f"1, of {n} allowed"
    if not threads.learns():
        return f"{n}, fixed, each with at least {work:,} elements"
    allowed = "" if used == n else f" (of {n} allowed)"
    return f"{used} at most{allowed}, learned by each optimizer; one below {2 * work:,} elements"


def read_environment() -> None:
    """Apply FASTOPTIM_NUM_THREADS, as set_num_threads would."""
    text = os.environ.get("FASTOPTIM_NUM_THREADS")
    if not text:
        return
    try:
        n = int(text)
    except ValueError:
        n = 0  # refused below, with the interval
    try:
        threads.set_num_threads(n, name="FASTOPTIM_NUM_THREADS")
    except ValueError as problem:
        raise ValueError(str(problem).rpartition(", got")[0] + f", got {text!r}") from None


read_environment()
