"""``fastoptim demo``: the six rules on real images, beside the NumPy listings they equal.

The same network is trained twice from the same seed on scikit-learn's handwritten digits, step by
step in turn: once with a listing, once with fastoptim. Every weight must end on the same bits.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import fastoptim
from fastoptim import listings, mlp, plot

RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
LAYERS = [64, 100, 10]
BATCH = 100
SEED = 20


@dataclass
class Run:
    """One network in training with one optimizer, and its stopwatch."""

    optimizer: Any
    params: dict[str, Any] = field(default_factory=lambda: mlp.init(LAYERS, SEED))
    update_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, x: Any, t: Any) -> None:
        """Train on one mini-batch."""
        start = perf_counter()
        grads = mlp.gradients(self.params, x, t)
        before = perf_counter()
        self.optimizer.update(self.params, grads)
        end = perf_counter()
        self.update_seconds.append(end - before)
        self.step_seconds.append(end - start)


def digits() -> tuple[Any, Any, Any, Any]:
    """Return training images and labels, test images and labels: 1,437 and 360, 8×8 pixels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x_train, x_test, t_train, t_test = train_test_split(
        (images / 16).astype(np.float32), labels, test_size=360, stratify=labels, random_state=SEED
    )
    return x_train, t_train, x_test, t_test


def train(name: str, epochs: int, data: tuple[Any, Any, Any, Any], bar: Any) -> tuple[Run, Run]:
    """Train with a NumPy listing and with fastoptim, in turn at every step."""
    x_train, t_train, _, _ = data
    theirs, ours = Run(getattr(listings, name)()), Run(getattr(fastoptim, name)())
    rng = np.random.default_rng(SEED)
    for _ in range(epochs):
        order = rng.permutation(len(x_train))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            x, t = x_train[batch], t_train[batch]
            theirs.step(x, t)
            ours.step(x, t)
        for run in (theirs, ours):
            run.losses.append(mlp.loss(run.params, x_train, t_train))
        bar.update()
    return theirs, ours


def same_bits(a: Run, b: Run) -> bool:
    """Whether two runs ended on the same weights, to the bit."""
    return all(
        bool(((p.view(np.uint32) == q.view(np.uint32)) | (np.isnan(p) & np.isnan(q))).all())
        for p, q in zip(a.params.values(), b.params.values(), strict=True)
    )


HEADER = (
    f"{'':10} {'final':>7} {'test':>8}   {'one update, µs':^22}   {'whole step, µs':^16}   same\n"
    f"{'rule':10} {'loss':>7} {'accuracy':>8}   {'NumPy':>6} {'fastoptim':>9} {'ratio':>5}   "
    f"{'NumPy':>6} {'fastoptim':>9}   bits"
)


def row(name: str, theirs: Run, ours: Run, data: tuple[Any, Any, Any, Any]) -> str:
    """Return one line of the table."""
    _, _, x_test, t_test = data
    numpy_update, our_update = (median(r.update_seconds) * 1e6 for r in (theirs, ours))
    numpy_step, our_step = (median(r.step_seconds) * 1e6 for r in (theirs, ours))
    return (
        f"{name:10} {ours.losses[-1]:7.4f} {mlp.accuracy(ours.params, x_test, t_test):8.1%}   "
        f"{numpy_update:6.1f} {our_update:9.1f} {numpy_update / our_update:4.1f}×   "
        f"{numpy_step:6.0f} {our_step:9.0f}   {'yes' if same_bits(theirs, ours) else 'NO'}"
    )


def main(epochs: int, output: Path, quiet: bool) -> int:
    """Run the demonstration; return the exit status."""
    from tqdm import tqdm

    output.mkdir(parents=True, exist_ok=True)
    data = digits()
    rows, curves, differing = [], {}, []
    with tqdm(
        total=len(RULES) * epochs, desc="training", unit="epoch", disable=True if quiet else None
    ) as bar:
        for name in RULES:
            bar.set_postfix_str(name)
            theirs, ours = train(name, epochs, data, bar)
            rows.append(row(name, theirs, ours, data))
            curves[name] = ours.losses
            if not same_bits(theirs, ours):
                differing.append(name)
    print(
        f"64-100-10 perceptron, float32, on {len(data[0]):,} handwritten digits, batches of "
        f"{BATCH}, {epochs} epochs; default hyperparameters; medians\n"
    )
    print(HEADER, *rows, sep="\n")
    path = output / "loss.png"
    plot.losses(curves, path)
    print(f"\nLoss curves: {path}")
    if differing:
        print(
            f"error: {', '.join(differing)} ended on other bits than the NumPy listing; please "
            f"report this with the output of 'fastoptim info'",
            file=sys.stderr,
        )
        return 1
    return 0
