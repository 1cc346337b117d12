"""Nesterov's gradient: looked up ahead, and the two forms in which it is printed.

x²/20 + y² from (−7, 2), α = 0.9. Plain momentum takes the gradient at p. Nesterov's method takes it
at p + αv, where the velocity is about to carry p, and so it brakes earlier: on the left, with
lr = 0.1, it swings to y = −{look_down:.2f}, and plain momentum to −{plain_down:.2f}.

The published form has its parameters at that point ahead, so that the gradient is taken where they
are. It is the same method: its parameters and p + αv of the other are {apart:.0e} apart at most.

In print there is also a listing in which the line for v comes first. That is another method. With
lr = 0.1 it does well, too, but it diverges at rates that the published form bears. On the right,
with lr = 0.5, f is {published:.1e} after 40 steps of the published form and {listing:.1e} after 40
of the listing.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import bowl


def follow(lr):
    rules = {
        "plain momentum": fo.Momentum(lr, 0.9),
        "gradient at p + αv": fo.Momentum(lr, 0.9, lookahead=True),
        "published": fo.Nesterov(lr, 0.9),
        "listing": fo.Nesterov(lr, 0.9, form="listing"),
    }
    return {name: fo.trace(rule, bowl.start(), bowl, steps=40) for name, rule in rules.items()}


def draw():
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    traces = follow(lr=0.1)
    plot.paths(bowl, traces, ax=left)
    left.set_title("lr = 0.1")
    plain, look, published, _ = (trace.positions for trace in traces.values())
    apart = [look[k][1:] + 0.9 * np.diff(look[k]) - published[k][1:] for k in look]

    traces = follow(lr=0.5)
    heights = {name: bowl.loss(*trace.positions.values()) for name, trace in traces.items()}
    plot.losses(heights, ax=right, y="f")
    right.set_title("lr = 0.5")
    return figure, {
        "plain_down": -plain["y"].min(), "look_down": -look["y"].min(),
        "apart": np.abs(apart).max(),
        "published": heights["published"][-1], "listing": heights["listing"][-1],
    }
