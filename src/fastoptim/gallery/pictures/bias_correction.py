"""The first steps of Adam, with and without bias correction.

Adam keeps averages of the gradients (m, β₁ = 0.9) and of their squares (v, β₂ = 0.999), and steps
along m/√v. Both start at zero and are too small at first, v by far more. The correction divides out
how much is missing; without it the steps are (1 − β₁ᵗ)/√(1 − β₂ᵗ) times as long.

Left, a constant gradient: corrected, every step has the length lr. Uncorrected, the first is
{first:.2f} lr long and the {longest_at}th {longest:.2f} lr; it takes {near:,} steps until they are
within 5 % of lr. So Adam without the correction starts at several times the rate that it was given.

Right, x²/20 + y² from (−7, 2), lr = 0.1, {steps} steps: across the valley the uncorrected steps
shoot over the floor to y = {y_without:.2f}, the corrected ones to {y_with:.2f}. Along the flat
direction long steps are no harm, and they come to x = {x_without:.1f}, the others to {x_with:.1f}.
But a larger lr serves better for that: corrected steps with lr = 0.2 come to x = {x_twice:.1f}, and
overshoot to y = {y_twice:.2f} only.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.plot.style import plain, style
from fastoptim.problems import bowl

RULES = {"with correction": True, "without": False}
STEPS, BOWL_STEPS = 4000, 40


def slope(params):
    return float(params["w"]), {"w": np.array(1.0)}


def draw():
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    lengths, traces = {}, {}
    for k, (name, correction) in enumerate(RULES.items()):
        trace = fo.trace(
            fo.Adam(lr=1.0, bias_correction=correction), {"w": np.array(0.0)}, slope, STEPS
        )
        lengths[name] = -np.diff(trace.positions["w"])
        marks = [0, 2, 5, 11, 30, 100, 300, 1000, 3000]
        left.plot(np.arange(1, STEPS + 1), lengths[name], label=name, markevery=marks, **style(k))
        opt = fo.Adam(lr=0.1, bias_correction=correction)
        traces[name] = fo.trace(opt, bowl.start(), bowl, BOWL_STEPS)
    left.set(xscale="log", xlabel="step", ylabel="length of the step / lr", ylim=(0, None))
    left.xaxis.set_major_formatter("{x:g}")
    left.set_title("a constant gradient")
    left.legend(handlelength=4)
    plain(left)
    plot.paths(bowl, traces, ax=right)
    right.set_title(f"{bowl.formula}, lr = 0.1")
    without = lengths["without"]
    traces["twice"] = fo.trace(fo.Adam(lr=0.2), bowl.start(), bowl, BOWL_STEPS)
    short = {"with": "with correction", "without": "without", "twice": "twice"}
    return figure, {
        "first": without[0],
        "longest": without.max(), "longest_at": 1 + int(without.argmax()),
        "near": 1 + int(np.argmax((without < 1.05) & (np.arange(STEPS) > without.argmax()))),
        "steps": BOWL_STEPS,
        **{f"x_{key}": traces[name].positions["x"][-1] for key, name in short.items()},
        **{f"y_{key}": traces[name].positions["y"].min() for key, name in short.items()},
    }
