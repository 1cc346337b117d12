"""Saving and loading 400 MB against one plain file of that size. Run with `make bench`.

The plain file is what the disk and the page cache allow: the same bytes, written by one call and
flushed with fsync, or read by one call into fresh memory. *safetensors* is that library alone,
and an fsync (which it leaves out; the next contestant would pay for it): no digest, nothing read
back. Contestants take turns within one run. What is read has been written a moment ago: it comes
from memory, where a checksum costs most.
"""

import os
from statistics import median
from time import perf_counter

import numpy as np
import pytest

from fastoptim.checkpoint import file as checkpoint

BYTES = 400_000_000
ROUNDS = 9


@pytest.fixture(scope="module")
def tree():
    """Adam's state of 33 M parameters in 24 arrays, as a training run would save it."""
    rng = np.random.default_rng(0)
    size = BYTES // (24 * 4)
    slots = {
        slot: {f"W{i}": rng.random(size, np.float32) for i in range(8)} for slot in ("p", "m", "v")
    }
    return {"rule": "Adam", "iter": 1000, "slots": slots}


@pytest.fixture(scope="module")
def plain(tree):
    return np.concatenate([a for slot in tree["slots"].values() for a in slot.values()])


def write_plain(path, plain):
    with open(path, "wb", buffering=0) as file:
        view = memoryview(plain).cast("B")
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def write_safetensors(path, tensors, library):
    library.save_file(tensors, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_plain(path):
    return np.fromfile(path, np.float32)


def take_turns(benchmark, contestants):
    times = {name: [] for name in contestants}

    def one_round():
        for name, call in contestants.items():
            start = perf_counter()
            result = call()
            times[name].append(perf_counter() - start)
            del result

    one_round()
    for seen in times.values():
        seen.clear()
    benchmark.pedantic(one_round, rounds=ROUNDS)
    medians = {name: median(seen) for name, seen in times.items()}
    benchmark.extra_info["median seconds"] = medians
    return medians


def flat(tree):
    return {f"{slot}.{k}": a for slot, some in tree["slots"].items() for k, a in some.items()}


def test_save(benchmark, table, tree, plain, tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    tensors = flat(tree)
    medians = take_turns(
        benchmark,
        {
            "fastoptim": lambda: checkpoint.save(tmp_path / "ours", tree),
            "plain file": lambda: write_plain(tmp_path / "plain", plain),
            "safetensors": lambda: write_safetensors(tmp_path / "theirs", tensors, library),
        },
    )
    table.append(("save 400 MB", medians))


def test_load(benchmark, table, tree, plain, tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    checkpoint.save(tmp_path / "ours", tree)
    write_plain(tmp_path / "plain", plain)
    library.save_file(flat(tree), tmp_path / "theirs")
    medians = take_turns(
        benchmark,
        {
            "fastoptim": lambda: checkpoint.load(tmp_path / "ours"),
            "plain file": lambda: read_plain(tmp_path / "plain"),
            "safetensors": lambda: library.load_file(tmp_path / "theirs"),
        },
    )
    table.append(("load 400 MB", medians))
