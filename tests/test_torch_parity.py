"""torch.optim's numbers: each class over a grid of its arguments, 40 steps, to 1e-12 in float64.

Parameters, every state tensor, `param_groups`, `defaults` and `repr` are PyTorch's.
"""

from itertools import product

import pytest
from torch_twins import (  # noqa: F401
    FILLED,
    SHAPES,
    Twins,
    counts_in_float64,
    fastoptim,
    give_gradients,
    torch,
)

pytestmark = pytest.mark.usefixtures("counts_in_float64")

STEPS = 40
TWO = [False, True]
OPTIONS = {"weight_decay": [0.0, 0.1], "maximize": TWO}
BETAS = [(0.9, 0.999), (0.5, 0.8)]
HINTS = [{}, {"foreach": True}, {"foreach": False}]
FUSED = [*HINTS, {"fused": True}, {"fused": False}]
# Each class: its arguments, all values of one combined with all of the others; its hints, in turn.
GRIDS = [
    ("SGD", {"lr": [0.1, 0.01], **OPTIONS}, FUSED),
    (
        "SGD",
        {"lr": [0.1], "momentum": [0.5, 0.9], "dampening": [0.0, 0.4], **OPTIONS}, FUSED,
    ),
    ("SGD", {"lr": [0.1], "momentum": [0.5, 0.9], "nesterov": [True], **OPTIONS}, FUSED),
    (
        "Adam",
        {
            "lr": [0.01, 0.1], "betas": BETAS, "eps": [1e-8, 1e-3], "amsgrad": TWO,
            "decoupled_weight_decay": TWO, **OPTIONS,
        },
        FUSED,
    ),
    ("AdamW", {"lr": [0.01], "betas": BETAS, "amsgrad": TWO, **OPTIONS}, FUSED),
    ("AdamW", {"eps": [1e-8, 1e-3]}, FUSED),
    (
        "NAdam",
        {
            "lr": [0.01], "betas": BETAS, "momentum_decay": [4e-3, 1.0],
            "decoupled_weight_decay": TWO, **OPTIONS,
        },
        HINTS,
    ),
    (
        "RAdam",
        {
            "lr": [0.01], "betas": [*BETAS, (0.9, 0.5)], "eps": [1e-8, 1e-3],
            "decoupled_weight_decay": TWO, **OPTIONS,
        },
        HINTS,
    ),
    ("Adamax", {"lr": [0.01, 0.1], "betas": BETAS, "eps": [1e-8, 1e-3], **OPTIONS}, HINTS),
    (
        "Adagrad",
        {
            "lr": [0.1], "lr_decay": [0.0, 0.05], "initial_accumulator_value": [0.0, 0.1],
            "eps": [1e-10, 1e-3], **OPTIONS,
        },
        FUSED,
    ),
    ("Adadelta", {"lr": [1.0, 0.1], "rho": [0.9, 0.7], "eps": [1e-6, 1e-3], **OPTIONS}, HINTS),
    (
        "RMSprop",
        {
            "lr": [0.01], "alpha": [0.9, 0.99], "eps": [1e-8, 1e-3], "centered": TWO,
            "momentum": [0.0, 0.6], **OPTIONS,
        },
        HINTS,
    ),
    (
        "Rprop",
        {
            "lr": [0.01], "etas": [(0.5, 1.2), (0.3, 2.0)],
            "step_sizes": [(1e-6, 50), (0.005, 0.02)], "maximize": TWO,
        },
        HINTS,
    ),
    (
        "Adafactor",
        {
            "lr": [0.01, 0.3], "d": [1.0, 2.5], "beta2_decay": [-0.8, -0.5],
            "eps": [(None, 1e-3), (None, 0.1)], **OPTIONS,
        },
        HINTS,
    ),
]


def cases():
    """Return each class with each of its combinations, and of its hints one after the other."""
    params = []
    for name, grid, hints in GRIDS:
        for k, values in enumerate(product(*grid.values())):
            given = dict(zip(grid, values, strict=True)) | hints[k % len(hints)]
            params.append(pytest.param(name, given, id=f"{name}-{given}"))
    return params


@pytest.mark.parametrize(("name", "given"), cases())
def test_the_same_numbers(name, given):
    twins = Twins(name, FILLED if name == "Adafactor" else SHAPES, **given)
    twins.run(STEPS)
    twins.check()


ZEROS = {"all": (slice(None), slice(None)), "a row": 1, "a column": (slice(None), 2)}


@pytest.mark.parametrize("where", ZEROS)
def test_adafactor_with_gradients_that_are_zero(where):
    twins = Twins("Adafactor", {"weight": (7, 5), "bias": (11,)})
    for _ in range(STEPS):
        give_gradients(twins.params, twins.rng)
        for params in twins.params:
            params["weight"].grad[ZEROS[where]] = 0
            params["bias"].grad[3] = 0
        for opt in twins.both:
            opt.step()
    twins.check()


def test_adafactor_factors_every_matrix():
    twins = Twins("Adafactor", {"column": (5, 1), "row": (1, 4), "both": (1, 1), "deep": (2, 1, 3)})
    twins.run(STEPS)
    twins.check()
    assert {"row_var", "col_var", "step"} == twins.ours.state[twins.params[0]["both"]].keys()


def test_adafactor_without_elements():
    """PyTorch's step raises ZeroDivisionError."""
    p = torch.nn.Parameter(torch.ones(0, 3))
    p.grad = torch.ones(0, 3)
    fastoptim.torch.Adafactor([p]).step()
    assert p.shape == (0, 3)
