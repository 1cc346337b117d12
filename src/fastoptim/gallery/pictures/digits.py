"""Handwritten digits: training and validation loss of every rule.

One network for all (64-512-256-10, scikit-learn's 8×8 digits, {epochs} epochs), from the same
weights and with the same mini-batches of 120. Each panel has one rule's training loss (line) and
validation loss (dashes) before the training losses of all others in grey. From above: SGD and its
relatives with a velocity; rules that divide by the root of squared gradients; Adam with its
relatives, which do both; and in the last two panels rules that look at signs alone.

All of them learn it. The training losses end between {lowest_loss:.1g} ({lowest}) and
{highest_loss:.1g} ({highest}), a factor of {spread:,.0f}; the validation losses between
{best_loss:.3f} ({best}) and {worst_loss:.3f} ({worst}), a factor of {validation_spread:.1f}. How
far down a rule comes on the images that it is trained on says little about others: most dashes
level off where the lines go on falling.

Do not read a ranking out of it. With two other orders of the mini-batches SGD's validation loss
ends at {other_1:.3f} and {other_2:.3f} instead of {sgd:.3f}, so such differences are luck. The
rates are those of the demonstration: of three to six, the one with the lowest loss on the same
validation images. Rprop is made for gradients of all images at once; its steps are kept small here.
"""

import numpy as np
from matplotlib.figure import Figure

import fastoptim as fo
from fastoptim.demo import mlp
from fastoptim.demo.data import SEED, Curve, digits, new_network
from fastoptim.demo.train import SETTINGS, rule_names
from fastoptim.plot.style import COLOURS, plain

RULES = [
    "SGD", "Momentum", "HeavyBall", "Nesterov",
    "AdaGrad", "FTRL", "RMSprop", "AdaDelta",
    "Adam", "AdamW", "AdaMax", "AdaBelief",
    "NAdam", "RAdam", "Lion", "Rprop",
]


def rule(name):
    return getattr(fo, name)(**SETTINGS.get(name, {}))


def train(name, data, epochs, seed=SEED):
    """Return both losses after every epoch."""
    opt, params, curve = rule(name), new_network(), Curve()
    rng = np.random.default_rng(seed)  # of the order of the mini-batches
    for _ in range(epochs):
        for x, t in data.batches(rng):
            opt.update(params, mlp.gradients(params, x, t))
        curve.add(params, data)
    return curve


def draw(epochs=30):
    data = digits()
    names = dict.fromkeys([*RULES, *rule_names()])  # a rule that is new comes last
    curves = {name: train(name, data, epochs) for name in names}
    rows = -(-len(names) // 4)
    figure = Figure(figsize=(10, 2.25 * rows), layout="constrained")
    panels = figure.subplots(rows, 4, sharex=True, sharey=True)
    for ax in panels.flat[len(names):]:
        ax.remove()
    epoch = np.arange(1, epochs + 1)
    for ax, (name, curve) in zip(panels.flat, curves.items(), strict=False):
        for other in curves.values():
            ax.plot(epoch, other.training, color="#d0d0d0", linewidth=0.8)
        ax.plot(epoch, curve.training, color=COLOURS[0], label="training")
        ax.plot(epoch, curve.validation, color=COLOURS[1], linestyle="--", label="validation")
        ax.set_title(f"{name}, lr = {rule(name).lr:g}", fontsize="medium")
        ax.set_yscale("log")
        plain(ax)
    for ax in panels[-1]:
        ax.set_xlabel("epoch")
    for ax in panels[:, 0]:
        ax.set_ylabel("mean cross-entropy")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)

    training = {name: curve.training[-1] for name, curve in curves.items()}
    validation = {name: curve.validation[-1] for name, curve in curves.items()}
    best, worst = min(validation, key=validation.get), max(validation, key=validation.get)
    lowest, highest = min(training, key=training.get), max(training, key=training.get)
    others = {
        f"other_{seed}": train("SGD", data, epochs, seed).validation[-1] for seed in (1, 2)
    }
    return figure, {
        "epochs": epochs, "sgd": validation["SGD"], **others,
        "best": best, "best_loss": validation[best],
        "worst": worst, "worst_loss": validation[worst],
        "lowest": lowest, "lowest_loss": training[lowest],
        "highest": highest, "highest_loss": training[highest],
        "validation_spread": validation[worst] / validation[best],
        "spread": training[highest] / training[lowest],
    }
