"""PyTorch's parameters: torch.optim's Adam, its fused one, and fastoptim.torch's.

    python bench/bench_torch.py                             # whole steps, then the optimizer alone
    python bench/bench_torch.py --part step
    python bench/bench_torch.py --part alone --size "50 M"

Run it by itself and nothing beside it. Thread settings are the defaults. Contestants take turns of
about a second each, several times; each has parameters of its own. A turn's first steps are not
counted: a thread count is learned there, and caches are warm after them. Figures are the medians of
all turns. The losses show that all do the same.
"""

import argparse
import copy
import itertools
import statistics
from time import perf_counter

import torch
from torch import nn

import fastoptim.torch

LR = 1e-4
WARM_UP = 30  # steps of a turn that are not counted

CLASSES = {
    "torch": lambda params: torch.optim.Adam(params, lr=LR),
    "torch fused": lambda params: torch.optim.Adam(params, lr=LR, fused=True),
    "fastoptim": lambda params: fastoptim.torch.Adam(params, lr=LR),
}


def layers(*sizes):
    parts = []
    for n_in, n_out in itertools.pairwise(sizes):
        parts += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


NETWORKS = {  # name: how it is made, inputs, batch
    "50 layers of 64, batch 32": (lambda: layers(*[64] * 51), 64, 32),
    "784-100-10, batch 100": (lambda: layers(784, 100, 10), 784, 100),
    "784-512-512-10, batch 100": (lambda: layers(784, 512, 512, 10), 784, 100),
}
SIZES = {  # shapes of the parameters whose update is measured alone
    "100 × 64": [(64,)] * 100,
    "784-100-10": [(100, 784), (100,), (10, 100), (10,)],
    "1 M": [(1 << 20,)],
    "50 M": [(50_000_000,)],
}


class Training:
    """A network with one optimizer, and the times of its steps in microseconds."""

    def __init__(self, model, make, n_in, batch):
        self.model = copy.deepcopy(model)
        self.optimizer = make(self.model.parameters())
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, n_in, generator=generator)
        outputs = self.model(self.x).shape[1]
        self.t = torch.randint(outputs, (batch,), generator=generator)
        self.steps, self.updates = [], []
        self.losses = []

    def step(self):
        start = perf_counter()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x), self.t)
        loss.backward()
        before = perf_counter()
        self.optimizer.step()
        end = perf_counter()
        self.losses.append(loss.detach())
        return end - start, end - before

    def turn(self, seconds):
        for _ in range(WARM_UP):
            self.step()
        end = perf_counter() + seconds
        while perf_counter() < end:
            step, update = self.step()
            self.steps.append(step * 1e6)
            self.updates.append(update * 1e6)


class Alone:
    """An optimizer whose gradients stay as they are."""

    def __init__(self, shapes, make):
        self.params = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for p in self.params:
            p.grad = torch.full_like(p, 0.01)
        self.optimizer = make(self.params)
        self.times = []

    def turn(self, seconds):
        for _ in range(2):
            self.optimizer.step()
        end = perf_counter() + seconds
        while True:
            start = perf_counter()
            self.optimizer.step()
            now = perf_counter()
            self.times.append((now - start) * 1e6)
            if now >= end:
                return


class Embedding:
    """A table of 100,000 × 100 whose gradient has 5,000 rows, some of them twice."""

    def __init__(self, make):
        table = torch.zeros(100_000, 100)
        index = torch.randint(len(table), (1, 5000), generator=torch.Generator().manual_seed(0))
        self.p = nn.Parameter(table)
        self.grads = torch.sparse_coo_tensor(
            index, torch.full((5000, 100), 0.01), table.shape, check_invariants=True
        )
        self.optimizer = make([self.p])
        self.times = []

    def turn(self, seconds):
        end = perf_counter() + seconds
        while perf_counter() < end:
            self.p.grad = self.grads.clone()  # torch sums the rows of one in place
            start = perf_counter()
            self.optimizer.step()
            self.times.append((perf_counter() - start) * 1e6)


def in_turn(everyone, turns, seconds):
    """Let all take their turns; an order that is turned round favours nobody."""
    for k in range(turns):
        for one in everyone if k % 2 == 0 else everyone[::-1]:
            one.turn(seconds)


def whole_steps(turns, seconds):
    print("Whole training step in µs, in brackets the optimizer's step; medians\n")
    print("| network | torch | torch fused | fastoptim | over torch | over fused | losses |")
    print("|---|---|---|---|---|---|---|")
    for name, (make, n_in, batch) in NETWORKS.items():
        torch.manual_seed(0)
        model = make()
        everyone = [Training(model, one, n_in, batch) for one in CLASSES.values()]
        in_turn(everyone, turns, seconds)
        whole = [statistics.median(one.steps) for one in everyone]
        alone = [statistics.median(one.updates) for one in everyone]
        cells = [f"{a:,.0f} ({b:,.0f})" for a, b in zip(whole, alone, strict=True)]
        after = min(len(one.losses) for one in everyone) - 1
        losses = " ".join(f"{one.losses[after].item():.5f}" for one in everyone)
        ratios = f"{whole[0] / whole[2]:.2f} | {whole[1] / whole[2]:.2f}"
        print(f"| {name} | {' | '.join(cells)} | {ratios} | {losses} |", flush=True)


def alone(sizes, turns, seconds):
    print("\nThe optimizer's step alone in µs; medians\n")
    print("| parameters | torch | torch fused | fastoptim | over torch | over fused |")
    print("|---|---|---|---|---|---|")
    for size in sizes:
        everyone = [Alone(SIZES[size], one) for one in CLASSES.values()]
        in_turn(everyone, turns, seconds)
        times = [statistics.median(one.times) for one in everyone]
        ratios = f"{times[0] / times[2]:.2f} | {times[1] / times[2]:.2f}"
        print(f"| {size} | {' | '.join(f'{t:,.0f}' for t in times)} | {ratios} |", flush=True)


def sparse(turns, seconds):
    everyone = [Embedding(torch.optim.SparseAdam), Embedding(fastoptim.torch.SparseAdam)]
    in_turn(everyone, turns, seconds)
    theirs, ours = (statistics.median(one.times) for one in everyone)
    print(
        f"\nSparseAdam, 5,000 rows of 100,000 × 100: torch {theirs:,.0f} µs, "
        f"fastoptim {ours:,.0f} µs: {theirs / ours:.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["step", "alone", "sparse"], action="append")
    parser.add_argument("--size", choices=list(SIZES), action="append")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.8)
    arguments = parser.parse_args()
    parts = arguments.part or ["step", "alone", "sparse"]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    if "step" in parts:
        whole_steps(arguments.turns, arguments.seconds)
    if "alone" in parts:
        alone(arguments.size or list(SIZES), arguments.turns, arguments.seconds)
    if "sparse" in parts:
        sparse(arguments.turns, arguments.seconds)


if __name__ == "__main__":
    main()
