"""MPI itself: is it there, is this a communicator, how many threads has each rank."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fastoptim.kernels import processors, threads

INSTALL = (
    "install both: pip install 'fastoptim[mpi]' and an MPI, such as your machine's own (Debian, "
    "Ubuntu: apt install mpich) or the one of PyPI: pip install mpich"
)


def mpi() -> Any:
    """Return mpi4py's module MPI, which starts MPI, or say what is missing."""
    try:
        from mpi4py import MPI
    except ModuleNotFoundError as problem:
        if problem.name not in ("mpi4py", "mpi4py.MPI"):
            raise
        raise ImportError(f"fastoptim.mpi needs mpi4py, which is not there; {INSTALL}") from problem
    except (ImportError, RuntimeError, OSError) as problem:
        raise ImportError(
            f"mpi4py is there, but no MPI can be started ({problem}); {INSTALL}"
        ) from problem
    return MPI


def checked_comm(module: Any, comm: Any) -> Any:
    """Return a communicator of the same ranks as `comm`, which nobody else uses."""
    if comm is None:
        comm = module.COMM_WORLD
    if not isinstance(comm, module.Intracomm):
        raise TypeError(
            f"comm must be an intracommunicator of mpi4py, such as MPI.COMM_WORLD, got "
            f"{type(comm).__name__}"
        )
    if comm == module.COMM_NULL:
        raise ValueError(
            "comm is MPI.COMM_NULL, to which no process belongs; let only those processes call "
            "that are in the communicator"
        )
    return comm.Dup()


def cores_of(shared: Iterable[frozenset[int]], own: frozenset[int]) -> int:
    """Return how many cores a rank has for itself, given those that each rank of a machine may use.

    A core that several ranks may use is shared evenly.
    """
    users = Counter(core for cores in shared for core in cores)
    return max(1, round(sum(1 / users[core] for core in own) - 0.25))


def share_cores(module: Any, comm: Any) -> None:
    """Let the ranks of one machine share its cores, unless the user has set how many threads.

    Two ranks on two cores that use two threads each wait for each other at the end of every
    parallel region.
    """
    machine = comm.Split_type(module.COMM_TYPE_SHARED)
    try:
        own = allowed()
        every = machine.allgather((own, processors.quota()))
    finally:
        machine.Free()
    if len(every) == 1 or threads.is_set() or any(os.environ.get(name) for name in SET_BY_USER):
        return
    quotas = min(quota for _, quota in every) // len(every)
    cores = min(cores_of((cores for cores, _ in every), own), max(1, quotas))
    threads.set_num_threads(min(cores, threads.get_num_threads()))


SET_BY_USER = ("FASTOPTIM_NUM_THREADS", "OMP_NUM_THREADS")


def allowed() -> frozenset[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
