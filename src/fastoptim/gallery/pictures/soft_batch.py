"""A soft batch: four times 16 are 64.

A linear model of two weights, by mini-batches of samples drawn at random, the same for all. A soft
batch of 4 × 16 gathers the gradients of four batches of 16, and updates once with their mean. That
is the gradient of all 64, so it goes the way of batches of 64: the diamonds lie on the line, and
the largest distance between the two in {updates:,} updates is {apart:.0e}, which is rounding. But
only 16 samples have to be in memory at a time.

Batches of 16 at the same rate make four updates where these make one. On the left, {seen:,} samples
bring them to a distance of {near_16:.2f} from the best weights (the star), batches of 64 to
{near_64:.2f}. But each gradient is noisier, so in the long run (right) they keep wandering
{noise:.2f} times as far around the best weights as batches of 64; in theory, for small rates, it is
√4 = 2. With a quarter of the rate they wander {quarter:.2f} times as far: more noise, averaged over
more steps.

The right panel has root mean squares over {block:,} samples at a time.
"""

from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.plot.style import plain, style

UPDATES, SHOWN = 4096, 40  # of 64 samples
BLOCK = 4096  # samples
rng = np.random.default_rng(0)
inputs = rng.standard_normal((4096, 2)) * [1.0, 0.5]
targets = inputs @ [1.0, -2.0] + rng.standard_normal(4096)
best = np.linalg.lstsq(inputs, targets)[0]
order = rng.integers(4096, size=64 * UPDATES)


def loss(params, x=inputs, t=targets):
    error = x @ params["w"] - t
    return error @ error / (2 * len(t)), {"w": x.T @ error / len(t)}


def batches(size):
    """Return a function that gives the loss and gradient of the next mini-batch at each call."""
    chunks = cycle(order.reshape(-1, size))

    def fn(params):
        chunk = next(chunks)
        return loss(params, inputs[chunk], targets[chunk])

    return fn


def follow(opt, size, samples=64 * UPDATES):
    """Return the path of an optimizer that is given mini-batches of a size."""
    return fo.trace(opt, {"w": np.array([-1.0, 1.0])}, batches(size), samples // size)


def draw():
    rules = {
        "batches of 64": (fo.SGD(lr=0.1), 64),
        "batches of 16": (fo.SGD(lr=0.1), 16),
        "batches of 16, lr / 4": (fo.SGD(lr=0.025), 16),
    }
    seen = 64 * SHOWN
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    paths = {name: follow(opt, size, seen) for name, (opt, size) in list(rules.items())[:2]}
    plot.paths(loss, paths, ax=left, legend=False)
    soft = follow(fo.SoftBatch(fo.SGD(lr=0.1), every=4), 16).positions["w"][::4]
    open_ones = {"linestyle": "none", "marker": "D", "markerfacecolor": "none", "color": "black"}
    left.plot(*soft[: SHOWN + 1].T, label="soft batches of 4 × 16", **open_ones)
    star = {"linestyle": "none", "marker": "*", "color": "white", "markeredgecolor": "black"}
    left.plot(*best, label="best", markersize=14, zorder=6, **star)
    left.legend(fontsize="small", handlelength=4)
    left.set_title(f"the first {seen:,} samples")

    wander = {}
    for k, (name, (opt, size)) in enumerate(rules.items()):
        w = follow(opt, size).positions["w"][1:]
        if name == "batches of 64":
            apart = np.abs(w - soft[1:]).max()
        squares = ((w - best) ** 2).sum(axis=1)
        wander[name] = np.sqrt(squares[len(w) // 8 :].mean())
        every = np.sqrt(squares.reshape(-1, BLOCK // size).mean(axis=1))
        samples = BLOCK / 1000 * np.arange(1, len(every) + 1)
        right.plot(
            samples, every, label=name, markevery=(3 * k, 9), linewidth=3 - k, **style(k)
        )
    right.set(xlabel="thousand samples", ylabel="distance from the best weights", yscale="log")
    right.legend(fontsize="small", handlelength=4)
    plain(right)
    of_64, of_16, of_16_slow = wander.values()
    near_64, near_16 = (np.linalg.norm(t.positions["w"][-1] - best) for t in paths.values())
    return figure, {
        "updates": UPDATES, "seen": seen, "block": BLOCK, "apart": apart,
        "near_64": near_64, "near_16": near_16,
        "noise": of_16 / of_64, "quarter": of_16_slow / of_64,
    }
