"""Two ranks on two cores, one thread each: an update of `Sharded` against MPI's own collectives.

"raw" is what any such update must do at least: Reduce_scatter the gradients, update this rank's
half, Allgather the parameters, as three calls on whole arrays, with a sum in MPI's own order. Both
are timed in turn in one run; a time is that of the slowest rank. Run with
`mpiexec -n 2 python bench/bench_mpi.py`, or `make bench`.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from statistics import median
from time import perf_counter

SIZES = (1_000_000, 10_000_000, 50_000_000)
TURNS = 9


def measure(n):
    """Print the medians of both, and their ratio, in rank 0; the bytes of state of each rank."""
    import numpy as np
    from mpi4py import MPI

    import fastoptim as fo
    from fastoptim.mpi import Sharded

    comm = MPI.COMM_WORLD
    fo.set_num_threads(1)
    n -= n % (comm.size * 1024)
    half = n // comm.size
    rng = np.random.default_rng(comm.rank)
    g = rng.standard_normal(n, np.float32)
    ours, theirs = np.ones(n, np.float32), np.ones(n, np.float32)
    part, summed = theirs[comm.rank * half : (comm.rank + 1) * half], np.empty(half, np.float32)
    sharded, alone = Sharded(fo.Adam()), fo.Adam()

    def raw():
        comm.Reduce_scatter_block(g, summed)
        alone.update({"W": part}, {"W": summed})
        comm.Allgather(MPI.IN_PLACE, theirs)

    calls = {"raw": raw, "Sharded": lambda: sharded.update({"W": ours}, {"W": g})}
    times = {name: [] for name in calls}
    for _ in range(TURNS + 2):
        for name, call in calls.items():
            comm.Barrier()
            start = perf_counter()
            call()
            times[name].append(comm.allreduce(perf_counter() - start, MPI.MAX))
    ms = {name: median(some[2:]) * 1e3 for name, some in times.items()}
    state = comm.allgather(sharded.opt.m["W"].nbytes + sharded.opt.v["W"].nbytes)
    if comm.rank == 0:
        each = "/".join(f"{bytes_ / n:.2f}" for bytes_ in state)
        print(
            f"{n:>11,}  raw {ms['raw']:8.2f} ms  Sharded {ms['Sharded']:8.2f} ms  "
            f"ratio {ms['Sharded'] / ms['raw']:.2f}  state per parameter {each} bytes", flush=True
        )


def test_of_two_ranks():
    mpiexec = Path(sysconfig.get_path("scripts")) / "mpiexec"
    start = str(mpiexec) if mpiexec.exists() else shutil.which("mpiexec")
    done = subprocess.run(
        [start, "-n", "2", sys.executable, __file__], capture_output=True, encoding="utf-8",
        check=True,
    )
    print(done.stdout)
    assert done.stdout.count("ratio") == len(SIZES)


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or SIZES):
        measure(size)
