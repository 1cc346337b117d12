"""Momentum's α: how much of the velocity each step keeps.

f = x² + 50y² from (180, 90), 100 steps. The path may be read as that of a ball: 1 − α is its
friction.

With lr = 0.001 the slope along the floor of the valley is slight, and a step along one gradient is
short. The more velocity is kept, the farther the ball comes: to a height of {slow1:,.0f} with
α = 0.1, {slow5:,.0f} with α = 0.5 and {slow9:,.0f} with α = 0.9.

With lr = 0.01 the ball with α = 0.9 swings from wall to wall, down to y = −{down:.0f}, and past the
minimum, to x = −{past:.0f}. It still ends lowest, at {fast9:.2f}; with α = 0.5 it is {fast5:.2f},
and with α = 0.1 {fast1:.0f}.
"""

from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import valley


def draw():
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    numbers = {}
    rates = {"slow": 0.001, "fast": 0.01}
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (name, lr) in zip(panels, rates.items(), strict=True):
        traces = {}
        for alpha in (0.1, 0.5, 0.9):
            trace = fo.trace(fo.Momentum(lr, alpha), valley.start(), valley)
            traces[f"α = {alpha}, to f = {trace.losses[-1]:,.1f}"] = trace
            numbers[f"{name}{10 * alpha:.0f}"] = trace.losses[-1]
        plot.paths(valley, traces, ax=ax, window=((-70, 200), (-100, 130)))
        ax.set_title(f"lr = {lr:g}")
    swings = trace.positions  # of the last: lr = 0.01, α = 0.9
    return figure, numbers | {"down": -swings["y"].min(), "past": -swings["x"].min()}
