"""Muon, float32, beside PyTorch's; and the share of its matrix products in an update.

Each has a process of its own, since the idle threads of one BLAS wait on the cores that the other
one uses. They take turns. PyTorch's iteration runs in bfloat16, which some processors multiply many
times faster than float32; "torch float32" is the same code of theirs without that cast.
ONEDNN_MAX_CPU_ISA=AVX512_CORE shows PyTorch on a processor without units for bfloat16. Run with
`make bench`.
"""

import subprocess
import sys
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest

SHAPES = {
    "64 × 64": (64, 64), "256 × 256": (256, 256), "1024 × 1024": (1024, 1024),
    "4096 × 1024": (4096, 1024),
}
TURNS, SECONDS = 5, 0.2


def arrays(shape):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for _ in range(2)]


def ours(shape):
    import fastoptim as fo

    p, g = arrays(shape)
    opt, params, grads = fo.Muon(0.02), {"W": p}, {"W": g}
    return lambda: opt.update(params, grads)


def theirs(shape):
    import torch

    p, g = arrays(shape)
    param = torch.nn.Parameter(torch.from_numpy(p))
    param.grad = torch.from_numpy(g)
    return torch.optim.Muon([param], lr=0.02).step


def theirs_in_float32(shape):
    import torch

    torch.Tensor.bfloat16 = lambda tensor: tensor.clone()
    return theirs(shape)


def share(shape):
    """A call that returns the share of an update's time in which its matrices are multiplied."""
    from fastoptim.kernels.update import orthogonal

    call, spent = ours(shape), []

    def matmul(*operands, out):
        start = perf_counter()
        np.matmul(*operands, out=out)
        spent.append(perf_counter() - start)

    orthogonal.np = SimpleNamespace(matmul=matmul, divide=np.divide)

    def measured():
        spent.clear()
        start = perf_counter()
        call()
        return sum(spent) / (perf_counter() - start)

    return measured


CONTESTANTS = {"fastoptim": ours, "torch": theirs, "torch float32": theirs_in_float32}


class Contestant:
    """A process that calls one of the functions above."""

    def __init__(self, name, shape):
        self.process = subprocess.Popen(
            [sys.executable, __file__, name, *map(str, shape)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )

    def turn(self):
        """Return the median of a turn."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.communicate()


@pytest.mark.parametrize("size", SHAPES)
def test_muon(size, table):
    pytest.importorskip("torch")
    everyone = {name: Contestant(name, SHAPES[size]) for name in [*CONTESTANTS, "share"]}
    try:
        turns = [{name: one.turn() for name, one in everyone.items()} for _ in range(TURNS)]
    finally:
        for one in everyone.values():
            one.end()
    medians = {name: median(turn[name] for turn in turns) for name in everyone}
    products = medians.pop("share")
    table.append((f"Muon, {size}, {products:.0%} of it matrix products", medians))


def main():
    """Take a turn at each line of the input."""
    name, *shape = sys.argv[1:]
    shape = tuple(map(int, shape))
    call = share(shape) if name == "share" else CONTESTANTS[name](shape)
    for _ in sys.stdin:
        readings = []
        call()
        begin = perf_counter()
        while len(readings) < 3 or perf_counter() - begin < SECONDS:
            start = perf_counter()
            result = call()
            readings.append(perf_counter() - start if result is None else result)
        print(median(readings), flush=True)


if __name__ == "__main__":
    main()
