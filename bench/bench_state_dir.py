"""Updates whose arrays are files, beside dd of the same bytes. Not a test: run it by itself.

    python bench/bench_state_dir.py --size 512 --memory 768

Adam with float32 parameters, gradients and state of `size` MiB each, all of them files: an update
reads four and writes three. *dd* reads the gradient's file, and reads and writes each of the other
three in place. Both start with nothing in the page cache, and end when all is on the disk. With
`memory`, both run in a control group with so many MiB, if this user may make one (version 1 or 2):
then the arrays are larger than memory. Contestants take turns.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import fastoptim as fo

MIB = 1 << 20


def drop(paths: list[Path]) -> None:
    """Bring files to the disk, and take them out of the page cache."""
    for path in paths:
        file = os.open(path, os.O_RDWR)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def flush(paths: list[Path]) -> None:
    """Bring files to the disk."""
    for path in paths:
        file = os.open(path, os.O_RDWR)
        os.fsync(file)
        os.close(file)


def dd(grad: Path, others: list[Path]) -> None:
    """Read one file, read and write the others in place."""
    run = [["dd", f"if={grad}", "of=/dev/null", "bs=4M"]]
    run += [["dd", f"if={one}", f"of={one}", "bs=4M", "conv=notrunc,fdatasync"] for one in others]
    for command in run:
        subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def limited(mib: int | None) -> Iterator[bool]:
    """Let this process and its children have so much memory, page cache included, if possible."""
    if mib is None:
        yield False
        return
    for root, limit, swap in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", None),
        ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
    ):
        group = Path(root, f"fastoptim-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(mib * MIB))
            if swap is not None:
                (group / swap).write_text("0")
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            group.rmdir()
            continue
        try:
            yield True
        finally:
            Path(root, "cgroup.procs").write_text(str(os.getpid()))
            group.rmdir()
        return
    raise SystemExit("this user may not limit memory with a control group; leave --memory out")


def main() -> None:
    """Measure, and print the medians."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--size", type=int, default=256, help="of each array, in MiB")
    options.add_argument("--memory", type=int, help="of the control group, in MiB")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", help="on the disk that is meant; default: the temporary one")
    given = options.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=given.folder) as folder, limited(given.memory) as is_limited
    ):
        shape = (given.size * MIB // 4,)
        paths = {name: Path(folder, name) for name in ("param", "grad")}
        arrays = {n: np.memmap(path, "float32", "w+", shape=shape) for n, path in paths.items()}
        for a in arrays.values():
            for at in range(0, shape[0], MIB):
                a[at : at + MIB] = np.linspace(-1, 1, MIB, dtype="float32")[: len(a) - at]
        opt = fo.Adam(state_dir=f"{folder}/state")
        params, grads = {"W": arrays["param"]}, {"W": arrays["grad"]}
        opt.update(params, grads)
        state = sorted(Path(folder, "state").glob("*-W.*"))
        files = [*paths.values(), *state]
        times: dict[str, list[float]] = {"update": [], "dd": []}
        for _ in range(given.rounds):
            drop(files)
            start = perf_counter()
            opt.update(params, grads)
            flush(files)
            times["update"].append(perf_counter() - start)
            drop(files)
            start = perf_counter()
            dd(paths["grad"], [paths["param"], *state])
            times["dd"].append(perf_counter() - start)
        del opt, params, grads, arrays, a
    moved = 7 * given.size * MIB
    group = f"in a control group of {given.memory} MiB" if is_limited else "cold"
    print(f"{given.size} MiB an array, {group}, {fo.get_num_threads()} threads, Python "
          f"{sys.version.split()[0]}")
    for name, taken in times.items():
        shown = " ".join(f"{t:.2f}" for t in taken)
        print(f"{name:8}{median(taken):7.2f} s  {moved / median(taken) / 1e9:5.2f} GB/s  ({shown})")
    print(f"ratio   {median(times['update']) / median(times['dd']):7.2f}")


if __name__ == "__main__":
    main()
