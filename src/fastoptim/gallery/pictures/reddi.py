"""Reddi's example: Adam goes to the wrong end, AMSGrad to the right one.

One parameter x in [−1, 1], from 0. At every third step the gradient is 3, at the others it is −1.
Three steps together say 3 − 1 − 1 = 1, so −1 is the best place to be. After {steps} steps AMSGrad
is at {amsgrad:.2f}, Adam at {adam:.2f}.

Adam divides a gradient by the root of a moving average of squares, and here the average forgets
fast. When the 3 comes, it is most of the average itself, and the step is {adam_3:.2f} lr long; for
the next two steps it is nearly forgotten, and they go {adam_1a:.2f} and {adam_1b:.2f} lr the other
way. The two small gradients outvote the large one. AMSGrad divides by the root of the largest
average so far: {amsgrad_3:.2f} lr one way, {amsgrad_1a:.2f} and {amsgrad_1b:.2f} lr the other, in
the proportions of the gradients.

On the right is what it costs: by how much the mean loss so far is above that of staying at −1.
AMSGrad's falls, to {amsgrad_regret:.3f}. Adam's stays: it is {adam_regret:.3f}, and staying at the
wrong end for ever would give 2/3.

The sequence is that of Reddi, Kale and Kumar (arXiv:1904.09237), with their parameters: a large
gradient C above 2, here 3; β₁ = 0, β₂ = 1/(1 + C²), a rate that falls as 1/√t, no bias correction,
and x put back into [−1, 1] after each update. The small β₂ matters: with 0.999 Adam goes to
{usual:.2f} here. But the paper has a sequence on which Adam fails for every β₂ above β₁².
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim.plot.style import plain, style

C, STEPS = 3.0, 300


def run(beta2=1 / (1 + C * C), amsgrad=False):
    """Return x at every step, the mean regret so far, and the last three moves over lr."""
    opt = fo.Adam(beta1=0.0, beta2=beta2, amsgrad=amsgrad, bias_correction=False)
    params = {"x": np.array(0.0)}
    x, regret, moves = [0.0], [], []
    for t in range(1, STEPS + 1):
        g = C if t % 3 == 1 else -1.0
        regret.append(g * x[-1] - g * -1.0)
        opt.lr = 0.5 / t**0.5
        opt.update(params, {"x": np.array(g)})
        moves.append((float(params["x"]) - x[-1]) / opt.lr)
        np.clip(params["x"], -1, 1, out=params["x"])
        x.append(float(params["x"]))
    return x, np.cumsum(regret) / np.arange(1, STEPS + 1), np.abs(moves[-3:])


def draw():
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers = {"steps": STEPS, "usual": run(beta2=0.999)[0][-1]}
    for k, name in enumerate(("Adam", "AMSGrad")):
        x, regret, moves = run(amsgrad=name == "AMSGrad")
        marks = {"markevery": (15 * k, 30), "label": name}
        left.plot(x, **marks, **style(k))
        right.plot(range(1, STEPS + 1), regret, **marks, **style(k))
        name = name.lower()
        numbers |= {name: x[-1], f"{name}_regret": regret[-1]}
        numbers |= dict(zip((f"{name}_3", f"{name}_1a", f"{name}_1b"), moves, strict=True))
    left.set(xlabel="step", ylabel="x")
    right.set(xlabel="step", ylabel="mean loss above that of x = −1", ylim=(0, 1.5))
    right.axhline(2 / 3, color="grey", linewidth=1)
    right.text(STEPS, 0.7, "2/3", ha="right", va="bottom")
    for ax in (left, right):
        plain(ax)
        ax.legend(handlelength=4)
    return figure, numbers
