"""``fastoptim demo --methods``: SGD and Runge-Kutta methods, at equal numbers of evaluations."""

from collections.abc import Mapping, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

import fastoptim
from fastoptim.demo import mlp, picture
from fastoptim.demo.data import EPOCH, NETWORK, SEED, Curve, Data, label, new_network, say

# Step sizes: of three to six, the one with the lowest validation loss after 600 evaluations. RK45
# ends in NaN with 0.5.
STEP_SIZES = {"SGD": 0.5, "Heun": 1.0, "RK23": 1.0, "RK45": 0.3}
EVALUATIONS = {"SGD": 1, "Heun": 2, "RK23": 3, "RK45": 6}  # of the gradient, by a step
METHODS = tuple(STEP_SIZES)


def follow(name: str, epochs: int, data: Data, bar: Any) -> tuple[dict[Any, Any], Curve]:
    """Train with a method; an epoch is as many gradient evaluations as one of SGD."""
    params, curve, method = new_network(), Curve(), getattr(fastoptim, name)(lr=STEP_SIZES[name])
    rng = np.random.default_rng(SEED)
    batches = chain.from_iterable(data.batches(rng) for _ in count())
    for _ in range(epochs):
        for x, t in islice(batches, EPOCH // EVALUATIONS[name]):
            method.step(params, lambda p, x=x, t=t: mlp.gradients(p, x, t))
        curve.add(params, data)
        bar.update()
    return params, curve


def at_equal_training(
    curves: Mapping[str, Curve], start: Curve
) -> tuple[float, dict[str, float]]:
    """Return a training loss that all reach, and the validation loss of each on reaching it.

    It is the highest of the lowest ones; where a curve crosses it between two epochs, the
    validation loss is interpolated. All curves begin at the same start.
    """
    level = max(min(curve.training) for curve in curves.values())
    reached = {}
    for name, curve in curves.items():
        training = [*start.training, *curve.training]
        validation = [*start.validation, *curve.validation]
        k = next(i for i, loss in enumerate(training) if loss <= level)
        ends = slice(max(0, k - 1), k + 1)
        x, y = training[ends][::-1], validation[ends][::-1]
        reached[name] = float(np.interp(level, x, y))
    return level, reached


def row(name: str, params: dict[Any, Any], curve: Curve, reached: float, data: Data) -> str:
    """Return one line of the table."""
    steps = len(curve.training) * EPOCH // EVALUATIONS[name]
    accuracy = mlp.accuracy(params, data.x_validation, data.t_validation)
    return (
        f"{name:8}{STEP_SIZES[name]:8g}{EVALUATIONS[name]:12}{steps:7}{curve.training[-1]:10.4f}"
        f"{curve.validation[-1]:12.4f}{accuracy:12.1%}{reached:14.4f}"
    )


def compare(names: Sequence[str], epochs: int, output: Path, data: Data, bar: Any) -> None:
    """Train with each method; print a table and draw the losses."""
    networks, curves = {}, {}
    for name in names:
        bar.set_postfix_str(name)
        networks[name], curves[name] = follow(name, epochs, data, bar)
    bar.clear()
    start = Curve()
    start.add(new_network(), data)
    level, reached = at_equal_training(curves, start)
    say(
        "                evaluations              loss            validation    validation\n"
        "method   step h    per step  steps  training  validation    accuracy"
        f"{f'at {level:.4f} ¹':>14}",
        *(row(name, networks[name], curves[name], reached[name], data) for name in names),
        f"¹ validation loss where the training loss first reaches {level:.4f}, between two epochs "
        f"in\n  proportion: the higher, the more overfitted. {tendency(reached)}",
    )
    path = output / "methods.png"
    drawn = {
        label(name, {"h": STEP_SIZES[name]}): (curve.training, curve.validation)
        for name, curve in curves.items()
    }
    picture.both_losses(drawn, path, title=NETWORK, x="gradient evaluations", per=EPOCH)
    say(f"Losses: {path}\n")


def tendency(reached: Mapping[str, float]) -> str:
    """Return a sentence about exact integration, and whether this run agrees."""
    known = "Following the gradient more exactly is known to tend to overfit\n  (arXiv:2009.11162)"
    others = [loss for name, loss in reached.items() if name != "SGD"]
    if "SGD" not in reached or not others:
        return f"{known}."
    lowest = "agrees: SGD's is" if reached["SGD"] < min(others) else "does not agree: SGD's is not"
    return f"{known}; this run, of one seed, {lowest} the lowest."
