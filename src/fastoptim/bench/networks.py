"""Networks written by hand whose whole training step is timed, and what they are fed."""

from collections.abc import Callable, Iterator
from itertools import cycle
from time import perf_counter
from typing import Any, Protocol

import numpy as np

import fastoptim
from fastoptim.bench.bits import check_update
from fastoptim.demo import mlp

# Name → layers and inputs of a step.
NETWORKS: dict[str, tuple[list[int], int]] = {
    "784-100-10:100": ([784, 100, 10], 100),
    "784-100-10:10": ([784, 100, 10], 10),
    "784-512-512-10:100": ([784, 512, 512, 10], 100),
    "784-2048-2048-10:32": ([784, 2048, 2048, 10], 32),
    "784-4096-4096-10:32": ([784, 4096, 4096, 10], 32),
    "20x64-10:32": ([64] * 20 + [10], 32),
}
QUICK_NETWORKS = ("784-100-10:100", "784-512-512-10:100")
BATCHES = 32    # of inputs, in turn
LEARNING = 30    # steps of a turn that do not count: counts of threads are learned
UNCOUNTED = 0.1  # seconds after which a further turn has done with that
FEWEST = 12      # steps of a turn that count
PATIENCE = 3     # times the seconds of a turn after which it ends, however few its steps

Times = tuple[float, float]  # of a whole step and of its update


def said(network: str) -> str:
    """Return a network's name in words.

    Examples
    --------
    >>> said("784-100-10:100"), said("20x64-10:32")
    ('784-100-10, batch 100', '20 layers of 64, batch 32')
    """
    layers, batch = network.split(":")
    return f"{layers.replace('20x64-10', '20 layers of 64')}, batch {batch}"


def data(
    sizes: list[int], batch: int, converted: Callable[[Any], Any] = lambda a: a
) -> Iterator[tuple[Any, Any]]:
    """Endless batches, the same for everyone; classes can be learned, one label in five is wrong.

    The wrong ones are drawn anew at each step. So the network neither dies nor learns all by heart;
    state would then decay to subnormal numbers, which are many times slower on some processors, in
    any library.
    """
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal((sizes[0], sizes[-1]), dtype=np.float32)
    inputs = [rng.standard_normal((batch, sizes[0]), dtype=np.float32) for _ in range(BATCHES)]
    pairs = [(converted(x), (x @ teacher).argmax(axis=1)) for x in inputs]
    for x, t in cycle(pairs):
        noise = rng.integers(0, sizes[-1], batch)
        yield x, converted(np.where(rng.random(batch) < 0.2, noise, t))


class Trained(Protocol):
    """A network in training."""

    def begin_turn(self) -> None:
        """Get ready for some steps."""

    def end_turn(self) -> None:
        """Leave the process as it was."""

    def step(self) -> Times:
        """Train on one batch."""

    def loss(self) -> float:
        """Return the loss of one more batch."""


class Network:
    """A network of fastoptim.demo.mlp, and something that updates it."""

    def __init__(
        self, sizes: list[int], batch: int, optimizer: Any, threads: int | None = None,
        share: bool = False, products: bool = False,
    ) -> None:
        self.optimizer, self.threads, self.share = optimizer, threads, share
        self.products = products
        self.params = mlp.init(sizes, 0)
        self.batches = data(sizes, batch)
        self.shared: Any = None

    def begin_turn(self) -> None:
        """Set the threads."""
        fastoptim.set_num_threads(self.threads, fixed=self.threads is not None)
        self.shared = fastoptim.share_threads() if self.share else None

    def end_turn(self) -> None:
        """Let threads be as they were."""
        if self.shared is not None:
            self.shared.close()

    def step(self) -> Times:
        """Train on one batch."""
        x, t = next(self.batches)
        start = perf_counter()
        grads = mlp.gradients(self.params, x, t, products=self.products)
        between = perf_counter()
        if self.optimizer is not None:
            self.optimizer.update(self.params, grads)
        end = perf_counter()
        return end - start, end - between

    def loss(self) -> float:
        """Return the loss of one more batch."""
        return mlp.loss(self.params, *next(self.batches))


class Other:
    """A contestant that needs nothing around its turns."""

    def __init__(self, step: Callable[[], Times], loss: Callable[[], float]) -> None:
        self.step, self.loss = step, loss

    def begin_turn(self) -> None:
        """Do nothing."""

    def end_turn(self) -> None:
        """Do nothing."""


class TakesProducts:
    """Gives an optimizer the arrays that products stand for: those of the same tiles."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def update(self, params: dict[str, Any], grads: dict[str, Any]) -> None:
        """Update with arrays."""
        arrays = {k: g.made() if isinstance(g, fastoptim.Product) else g for k, g in grads.items()}
        self.optimizer.update(params, arrays)


def check(
    name: str, sizes: list[int], batch: int, ours: Any, theirs: Any, steps: int = 3,
    products: bool = False,
) -> None:
    """Raise `DifferentBits` unless updates of a network are the listing's.

    Both are given the same gradients: a product's digits depend on its library, not on us.
    """
    params: tuple[Any, Any] = mlp.init(sizes, 0), mlp.init(sizes, 0)
    batches = data(sizes, batch)
    for step in range(steps):
        grads = mlp.gradients(params[0], *next(batches), products=products)
        what = f"the network {name}{' with products' * products}: update {step + 1}"
        check_update(ours, TakesProducts(theirs), params, grads, what)


def turn(one: Trained, seconds: float, first: bool) -> tuple[list[float], list[float]]:
    """Return the times of the steps and of the updates of one turn."""
    one.begin_turn()
    try:
        start, n = perf_counter(), 0
        end = start + (PATIENCE * seconds if first else UNCOUNTED)
        while n == 0 or (n < LEARNING and perf_counter() < end):
            one.step()
            n += 1
        steps: list[float] = []
        updates: list[float] = []
        start = perf_counter()
        while perf_counter() < start + seconds * (1 if len(steps) >= FEWEST else PATIENCE):
            step, update = one.step()
            steps.append(step)
            updates.append(update)
        return steps, updates
    finally:
        one.end_turn()
