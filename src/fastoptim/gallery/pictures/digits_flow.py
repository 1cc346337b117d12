"""Handwritten digits: SGD beside RK45, at equal numbers of gradient evaluations.

The network of the picture before, from the same weights. Both follow dp/dt = −∇f downhill: SGD with
one gradient per step, RK45, of fifth order, with six, all of one mini-batch. Left, training (line)
and validation loss (dashes) after equal numbers of gradient evaluations: after {evaluations} the
training losses are {sgd:.4f} for SGD and {rk45:.3f} for RK45.

RK45 is not worse, it is not as far. SGD has made {sgd_steps} steps of {sgd_h:g}, RK45 {rk45_steps}
of {rk45_h:g}: along the flow, t = {sgd_time:.0f} and t = {rk45_time:.0f}. On the right the same
losses stand over t, and at t = {rk45_time:.0f} the training losses are {sgd_there:.3f} and
{rk45:.3f}. SGD needed {sgd_evaluations} evaluations for that, RK45 {evaluations}.

Six gradients would pay if they made a step six times as long. But on f = w²/2 the longest step that
comes nearer is {sgd_longest:.1f} for SGD and {rk45_longest:.1f} for RK45: the steepest direction
limits both. Here RK45's is even shorter than SGD's, and its training loss still goes up to
{peak:.1f} on the way.

Where both have the training loss {level:.3f}, the validation losses are {sgd_level:.3f} and
{rk45_level:.3f}. All this is one seed. The step sizes are, of three to six, those with the lowest
validation loss after 600 evaluations.
"""

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import fastoptim as fo
from fastoptim.demo.data import EPOCH, Curve, digits, new_network
from fastoptim.demo.methods import EVALUATIONS, STEP_SIZES, at_equal_training, follow
from fastoptim.plot.style import plain, style


def longest(name):
    """Return the longest step, to 0.01, with which w²/2 falls from w = 1."""
    falling = []
    for h in np.arange(1, 500) / 100:
        params = {"w": np.array(1.0)}
        getattr(fo, name)(lr=h).step(params, lambda p: {"w": p["w"].copy()})
        if abs(params["w"]) < 1:
            falling.append(h)
    return max(falling)


def draw(epochs=50):
    data, start = digits(), Curve()
    start.add(new_network(), data)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    curves, lines, numbers = {}, {}, {"evaluations": EPOCH * epochs}
    for k, name in enumerate(("SGD", "RK45")):
        _, curve = follow(name, epochs, data, tqdm(disable=True))
        evaluations = EPOCH * np.arange(epochs + 1)
        steps, h = evaluations // EVALUATIONS[name], STEP_SIZES[name]
        training = [*start.training, *curve.training]
        validation = [*start.validation, *curve.validation]
        for ax, x in ((left, evaluations), (right, h * steps)):
            every = 1 if ax is right and name == "SGD" else 5
            look = style(k) | {"markevery": every}
            ax.plot(x, training, label=f"{name}, training", **look | {"linestyle": "-"})
            look |= {"markerfacecolor": "white", "markeredgecolor": look["color"]}
            ax.plot(x, validation, label=f"{name}, validation", **look | {"linestyle": "--"})
        curves[name], lines[name] = curve, (h * steps, training)
        low = name.lower()
        numbers |= {f"{low}_h": h, f"{low}_steps": steps[-1], f"{low}_time": h * steps[-1]}
        numbers |= {low: training[-1], f"{low}_longest": longest(name)}
    time = numbers["rk45_time"]
    left.set(xlabel="gradient evaluations", ylabel="mean cross-entropy", yscale="log")
    right.set(xlabel="t, the sum of all step sizes", xlim=(-0.02 * time, 1.02 * time))
    left.yaxis.set_major_formatter("{x:g}")
    left.legend(fontsize="small", handlelength=4)
    for ax in (left, right):
        plain(ax)
    level, reached = at_equal_training(curves, start)
    return figure, numbers | {
        "sgd_there": np.interp(time, *lines["SGD"]),
        "sgd_evaluations": round(time / numbers["sgd_h"]),
        "peak": max(curves["RK45"].training),
        "level": level, "sgd_level": reached["SGD"], "rk45_level": reached["RK45"],
    }
