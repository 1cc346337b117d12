"""A rate too small, just right, large, too large.

Gradient descent on f = w² from w = 1, {steps} steps. The gradient is 2w, so every step multiplies w
by 1 − 2·lr, and this factor decides everything.

lr = 0.05 creeps: the factor is {small:.2f}. With lr = 0.5, one over the curvature f″ = 2, it is
{right:.0f}, and one step is enough. lr = 0.95 jumps across and back: the factor is {large:.2f}, so
it comes no nearer in a step than lr = 0.05 does. With lr = 1.05 it is {too_large:.2f}: each jump is
longer than the one before, and after {steps} of them |w| = {last:.2f}. The border is lr = 2/f″ = 1.
"""

from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot

STEPS = 8
RATES = {"small": 0.05, "right": 0.5, "large": 0.95, "too_large": 1.05}


def fn(params):
    w = params["w"]
    return float(w * w), {"w": 2 * w}


def draw():
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, len(RATES), sharex=True, sharey=True)
    numbers = {"steps": STEPS}
    for ax, (name, lr) in zip(panels, RATES.items(), strict=True):
        trace = fo.trace(fo.SGD(lr), {"w": 1.0}, fn, STEPS)
        plot.curve(fn, trace, ax=ax, window=(-2.4, 2.4), legend=False)
        w = trace.positions["w"]
        numbers[name] = w[1] / w[0]
        ax.set_title(f"lr = {lr:g}")
        ax.label_outer()
    return figure, numbers | {"last": abs(w[-1])}
