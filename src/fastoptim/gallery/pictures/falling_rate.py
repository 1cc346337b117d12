"""AdaGrad's rate only falls, RMSprop's comes back.

Both divide lr by the root of an h of their own. The gradient is 1, but 10 in the ten steps from
{burst_begin} on (above). Below is what each step made of lr: its length divided by the gradient.

AdaGrad's h is the sum of all squared gradients, so its rate can only fall: under a constant
gradient as 1/√t, and after the ten large ones it is lower for good: {adagrad:.3f} lr after
{steps:,} steps, where 1/√t is {quiet:.3f}.

RMSprop's h is a moving average with the decay 0.99. The large gradients take its rate down to
{lowest:.2f} lr; {recovery} steps after the last of them it is back at 0.95 lr. It begins at
{first:.0f} lr, because the average starts at zero, for which RMSprop, unlike Adam, does not
correct.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim.plot.style import plain, style

STEPS, BURST = 1000, slice(200, 210)
gradients = np.ones(STEPS)
gradients[BURST] = 10


def rates(opt):
    """Return how far each step went, per unit of gradient and in units of lr."""
    w = np.zeros(STEPS + 1)
    params = {"w": np.array(0.0)}
    for t, g in enumerate(gradients):
        opt.update(params, {"w": np.array(g)})
        w[t + 1] = params["w"]
    return -np.diff(w) / gradients / opt.lr


def draw():
    found = {"AdaGrad": rates(fo.AdaGrad(lr=1.0)), "RMSprop": rates(fo.RMSprop(lr=1.0))}
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    steps = np.arange(1, STEPS + 1)
    above.plot(steps, gradients, color="black", drawstyle="steps-mid")
    above.set(ylabel="gradient", yticks=(1, 10), ylim=(0, 11))
    for k, (name, rate) in enumerate(found.items()):
        below.plot(steps, rate, label=name, markevery=(30 + 40 * k, 100), **style(k))
    below.set(xlabel="step", ylabel="rate / lr", yscale="log")
    below.yaxis.set_major_formatter("{x:g}")
    below.legend(frameon=False)
    for ax in (above, below):
        plain(ax)
    adagrad, rmsprop = found.values()
    return figure, {
        "steps": STEPS, "burst_begin": BURST.start + 1,
        "adagrad": adagrad[-1], "quiet": STEPS**-0.5,
        "first": rmsprop[0], "lowest": rmsprop[BURST].min(),
        "recovery": 1 + int(np.argmax(rmsprop[BURST.stop :] >= 0.95)),
    }
