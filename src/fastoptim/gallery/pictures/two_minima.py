"""Which rules roll past a local minimum.

f = w⁴/4 − 2w³/3 − w²/2 + 2w, from w = 3, {steps} steps. At w = 2 is a minimum, at 1 a hump that is
{hump:.2f} higher, at −1 the lower minimum. A dotted line is the farthest that a rule comes. The
rates are such that the first step of every rule is {first:.2f} long.

At w = 2 the gradient is zero. SGD, AdaGrad and RMSprop step along the gradient alone, so they stop
there. Momentum goes on with what velocity it has: with α = 0.8 the step that reaches w = 2 is
{speed_8:.3f} long, which takes it up to w = {turn_8:.2f} and no farther; with α = 0.9 it is
{speed_9:.3f} long, and that is enough. The border is at α = {border:.3f}. Nesterov's momentum, with
the gradient at the look-ahead point and α = 0.9 too, brakes earlier, arrives with {speed_look:.3f}
and turns back at {turn_look:.2f}.

Adam has a velocity too, its m, but divides it by the root of v, which at this point still remembers
the large gradients of the start: it arrives with {speed_adam:.3f}, and turns back at
{turn_adam:.2f}. Lion's steps all have the same length, whatever the gradient, and turn only when
the average of the gradients does. That carries it over the hump, and it is also why it never comes
to rest: its last steps are still {speed_lion:.2f} long.

All this is for one start and these rates: with lr = {adam_passes:g}, the first of 0.1, 0.2, … that
does, Adam passes, too.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim import plot
from fastoptim.problems import two_minima as f

STEPS = 400


def follow(opt):
    return fo.trace(opt, f.start(3.0), f, STEPS)


def passes(opt):
    return follow(opt).positions["w"][-1] < 1


def adam_passes():
    """Return the first rate of 0.1, 0.2, … with which Adam passes."""
    return next(k / 10 for k in range(1, 11) if passes(fo.Adam(lr=k / 10)))


def border(low=0.5, high=0.99):
    """Return the α from which on momentum passes, by bisection."""
    while high - low > 1e-4:
        alpha = (low + high) / 2
        rolls = passes(fo.Momentum(lr=0.01, alpha=alpha))
        low, high = (low, alpha) if rolls else (alpha, high)
    return high


def draw():
    rules = {
        "SGD": fo.SGD(lr=0.01),
        "Momentum, α = 0.5": fo.Momentum(lr=0.01, alpha=0.5),
        "Momentum, α = 0.8": fo.Momentum(lr=0.01, alpha=0.8),
        "Momentum, α = 0.9": fo.Momentum(lr=0.01, alpha=0.9),
        "look-ahead, α = 0.9": fo.Momentum(lr=0.01, alpha=0.9, lookahead=True),
        "Lion": fo.Lion(lr=0.08, weight_decay=0.0),
        "AdaGrad": fo.AdaGrad(lr=0.08),
        "RMSprop": fo.RMSprop(lr=0.008),
        "Adam": fo.Adam(lr=0.08),
    }
    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = figure.subplots(3, 3, sharex=True, sharey=True)
    speed, turn, first = {}, {}, {}
    for ax, (name, opt) in zip(panels.flat, rules.items(), strict=True):
        trace = follow(opt)
        w = trace.positions["w"]
        plot.curve(f, {name: trace}, ax=ax, window=(-2.1, 3.2), legend=False)
        ax.set_title(f"{name}: {'past it' if w.min() < 1 else 'stays'}", fontsize="medium")
        ax.label_outer()
        if w.min() < 2:
            arrival = int(np.argmax(w <= 2))  # the step that reaches the minimum, or passes it
            speed[name] = w[arrival - 1] - w[arrival]
            ax.axvline(w.min(), color="black", linewidth=1, linestyle=":")
        turn[name], first[name] = w.min(), w[0] - w[1]
        if name == "Lion":
            last = abs(w[-1] - w[-2])
    at = {
        "8": "Momentum, α = 0.8", "9": "Momentum, α = 0.9", "look": "look-ahead, α = 0.9",
        "adam": "Adam",
    }
    return figure, {
        "steps": STEPS, "hump": f.loss(1.0) - f.loss(2.0), "first": max(first.values()),
        "border": border(), "adam_passes": adam_passes(), "speed_lion": last,
        **{f"speed_{short}": speed[name] for short, name in at.items()},
        **{f"turn_{short}": turn[name] for short, name in at.items() if short != "9"},
    }
