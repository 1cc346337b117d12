"""Momentum's α raised step by step, from 0.5 by 0.01 to 0.99.

f = x² + 50y² from (180, 90), lr = 0.001, 100 steps. The first gradients are large. With α = 0.99
from the first step the ball swings from wall to wall for as long as is seen, and ends at a height
of {high:,.0f}. With α = 0.5 it is calm, but creeps along the floor, to {low:,.0f}.

The ramp begins like the second and gathers speed on the floor. After {step:.0f} steps it passes the
minimum, a height of {ramp_there:.1f}; with α = 0.5 the height is {low_there:,.0f} then.

It does not stop there. From step 49 on α is 0.99, and a velocity of which a step takes only 1%
carries the ball past the minimum, up to {ramp:,.0f} at the end.
"""

from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import valley
from fastoptim.schedules import ramp


def draw():
    alphas = {"α = 0.5": 0.5, "α = 0.99": 0.99, "ramp": ramp(0.5, 0.99, step=0.01)}
    traces = {
        name: fo.trace(fo.Momentum(lr=0.001, alpha=alpha), valley.start(), valley)
        for name, alpha in alphas.items()
    }
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot.paths(valley, traces, ax=left, legend=False)
    plot.losses(traces, ax=right, y="f", legend=False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    low, high, ramped = (trace.losses for trace in traces.values())
    step = ramped.argmin()
    return figure, {
        "low": low[-1], "high": high[-1], "ramp": ramped[-1],
        "step": step, "ramp_there": ramped[step], "low_there": low[step],
    }
