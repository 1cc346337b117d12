"""Momentum on a steady slope: 1/(1 − α) times as fast.

Down a line of slope 1 every gradient is the same, and all steps of SGD are as long as lr. Those of
momentum grow: each is α times the one before, and lr more. They stop growing where as much is lost
as is added, at lr/(1 − α).

After 1000 steps they are {speed50:.3f} times as long as those of SGD with α = 0.5, {speed90:.3f}
times with α = 0.9, and {speed99:.3f} times with α = 0.99. The more speed there is to gain, the
longer it takes: half of 1/(1 − α) is reached at step {half50:.0f}, {half90:.0f} and {half99:.0f}.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot


def slope(params):
    return float(params["w"]), {"w": np.array(1.0)}


def draw():
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    ax = figure.subplots()
    lr, numbers = 0.01, {}
    for k, alpha in enumerate((0.5, 0.9, 0.99)):
        trace = fo.trace(fo.Momentum(lr, alpha), {"w": np.array(0.0)}, slope, steps=1000)
        speed = -np.diff(trace.positions["w"]) / lr
        limit = 1 / (1 - alpha)
        ax.axhline(limit, color="gray", linewidth=0.8)
        ax.loglog(
            np.arange(1, 1001), speed, label=f"α = {alpha}: 1/(1 − α) = {limit:.0f}",
            markevery=[0, 2, 9, 29, 99, 299, 999], **plot.style.style(k),
        )
        numbers[f"speed{100 * alpha:.0f}"] = speed[-1]
        numbers[f"half{100 * alpha:.0f}"] = 1 + np.argmax(speed >= limit / 2)
    ax.set_ylim(top=400)  # room for the legend
    ax.set_xlabel("step")
    ax.set_ylabel("length of the step / lr")
    ax.legend(handlelength=4)
    plot.style.plain(ax)
    return figure, numbers
