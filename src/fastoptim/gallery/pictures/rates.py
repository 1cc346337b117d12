"""Two rates on a valley: gradient descent and momentum.

f = x² + 50y² from (180, 90), 100 steps. Across the valley f is 50 times as steep as along it. With
lr = 0.001 both creep along the floor; with lr = 0.01 gradient descent comes to x = {sgd:.1f} and
momentum with α = 0.5, whose steps grow where gradients agree, to x = {momentum:.2f}.
"""

from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import valley


def draw():
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for ax, lr in zip(figure.subplots(1, 2, sharex=True, sharey=True), (1e-3, 1e-2), strict=True):
        traces = {
            "SGD": fo.trace(fo.SGD(lr), valley.start(), valley),
            "Momentum, α = 0.5": fo.trace(fo.Momentum(lr, alpha=0.5), valley.start(), valley),
        }
        plot.paths(valley, traces, ax=ax, window=[(-15, 195), (-60, 100)])
        ax.set_title(f"lr = {lr:g}")
    sgd, momentum = (trace.positions["x"][-1] for trace in traces.values())
    return figure, {"sgd": sgd, "momentum": momentum}
