"""A rate that changes: inside the velocity, and outside.

Momentum has the rate inside its velocity: v ← αv − lr g, p ← p + v. HeavyBall, PyTorch's form, has
it outside: v ← αv + g, p ← p − lr v. While lr stays the same the two are one method (on the right
they are {apart:.0e} apart at most until then). When it changes, they part.

On the left both go down a line of slope 1, with α = 0.9. After step 60 lr falls from 0.01 to 0.001,
after step 120 it rises again. Outside, the new rate holds for the whole velocity at once: the next
step is {outside_fall:.2f} times as long as the one before. Inside, what the old rate has put into
the velocity has to die away first. The next step is {inside_fall:.2f} times as long, and until step
120 it comes {further:.2f} farther than outside. Where the rate rises again, the next step is
{outside_rise:.1f} times as long outside and {inside_rise:.1f} times inside.

On the right x²/20 + y² from (−7, 2) with lr = 0.05, and from step 20 on with 0.0005. Outside, the
ball all but stands still there: in 80 more steps x grows by {outside_way:.2f}. Inside it rolls on,
by {inside_way:.2f}.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import bowl
from fastoptim.schedules import piecewise_constant

RULES = {"inside (Momentum)": fo.Momentum, "outside (HeavyBall)": fo.HeavyBall}


def slope(params):
    return float(params["w"]), {"w": np.array(1.0)}


def draw():
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)

    lr = piecewise_constant([0.01, 0.001, 0.01], boundaries=[60, 120])
    lengths = {}
    for name, rule in RULES.items():
        trace = fo.trace(rule(lr, 0.9), {"w": np.array(0.0)}, slope, steps=180)
        lengths[name] = -np.diff(trace.positions["w"])
    plot.losses(lengths, ax=left, first=1, y="length of the step", log=False, legend=False)
    left.set_title("slope 1: lr ÷ 10 at step 60, × 10 at step 120")
    inside, outside = lengths.values()

    lr = piecewise_constant([0.05, 0.0005], boundaries=[20])
    traces = {name: fo.trace(rule(lr, 0.9), bowl.start(), bowl) for name, rule in RULES.items()}
    plot.paths(bowl, traces, ax=right)
    right.set_title("x²/20 + y²: lr ÷ 100 at step 20")
    x_inside, x_outside = (trace.positions["x"] for trace in traces.values())
    return figure, {
        "apart": np.abs(x_inside - x_outside)[:21].max(),
        "inside_fall": inside[60] / inside[59], "outside_fall": outside[60] / outside[59],
        "inside_rise": inside[120] / inside[119], "outside_rise": outside[120] / outside[119],
        "further": (inside - outside)[60:120].sum(),
        "inside_way": x_inside[-1] - x_inside[20], "outside_way": x_outside[-1] - x_outside[20],
    }
