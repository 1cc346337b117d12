"""PyTorch's numbers: each rule that torch.optim has, over a grid of its arguments, 50 steps.

Parameters and every state tensor agree to 1e-12 in float64. How to write an optimizer of PyTorch
in fastoptim is what each `Pair` below says, so PyTorch's rows of docs/equivalents.toml are tested
here.
"""

from itertools import product

import numpy as np
import pytest

import fastoptim as fo
from fastoptim.rules import momentum_products

torch = pytest.importorskip("torch")

STEPS = 50
SHAPES = {"W": (7, 5), "b": (11,), "scale": ()}


class Pair:
    """An optimizer of torch.optim, and how its arguments are written here.

    Parameters
    ----------
    theirs : str
        Its name in torch.optim.
    ours : callable
        Takes PyTorch's arguments, returns an optimizer.
    state : dict
        Our slot → the name of PyTorch's tensor.
    grid : dict
        Argument of PyTorch → its values, all combined with all.
    """

    def __init__(self, theirs, ours, state, grid):
        self.theirs, self.ours, self.state, self.grid = theirs, ours, state, grid

    def cases(self):
        for values in product(*self.grid.values()):
            given = dict(zip(self.grid, values, strict=True))
            yield pytest.param(self, given, id=f"{self.theirs}-{given}")


def heavy_ball(lr, momentum, dampening=0.0, nesterov=False, **options):
    return fo.HeavyBall(lr, momentum, dampening, nesterov, **options)


def adagrad(lr, lr_decay, initial_accumulator_value, eps=1e-10, **options):
    return fo.AdaGrad(lr, eps, lr_decay=lr_decay, initial=initial_accumulator_value, **options)


def rmsprop(lr, alpha, eps=1e-8, **options):
    return fo.RMSprop(lr, alpha, eps, **options)


def adam(lr, betas, eps=1e-8, decoupled_weight_decay=False, **options):
    options["decoupled"] = decoupled_weight_decay
    return fo.Adam(lr, *betas, eps, eps_corrected=True, **options)


def adamw(lr, betas, **options):
    return fo.AdamW(lr, *betas, **options)


def adamax(lr, betas, **options):
    return fo.AdaMax(lr, *betas, **options)


def nadam(lr, betas, momentum_decay, decoupled_weight_decay, **options):
    options |= {"psi": momentum_decay, "decoupled": decoupled_weight_decay}
    return fo.NAdam(lr, *betas, **options)


def radam(lr, betas, decoupled_weight_decay, **options):
    return fo.RAdam(lr, *betas, decoupled=decoupled_weight_decay, **options)


def rprop(lr, etas, step_sizes, **options):
    return fo.Rprop(lr, *etas, *step_sizes, **options)


def adafactor(lr, d, beta2_decay=-0.8, weight_decay=0.0, **options):
    return fo.Adafactor(lr, -beta2_decay, d, weight_decay=weight_decay, **options)


OPTIONS = {"weight_decay": [0.0, 0.1], "maximize": [False, True]}
BETAS = [(0.9, 0.999), (0.5, 0.8)]
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
PAIRS = [
    Pair("SGD", fo.SGD, {}, {"lr": [0.1], **OPTIONS}),
    Pair(
        "SGD", heavy_ball, {"v": "momentum_buffer"},
        {"lr": [0.1], "momentum": [0.5, 0.9], "dampening": [0.0, 0.4], **OPTIONS},
    ),
    Pair(
        "SGD", heavy_ball, {"v": "momentum_buffer"},
        {"lr": [0.1], "momentum": [0.5, 0.9], "nesterov": [True], **OPTIONS},
    ),
    Pair(
        "Adagrad", adagrad, {"h": "sum"},
        {
            "lr": [0.1], "lr_decay": [0.0, 0.05], "initial_accumulator_value": [0.0, 0.1],
            "eps": [1e-10, 1e-3], **OPTIONS,
        },
    ),
    Pair(
        "RMSprop", rmsprop, {"h": "square_avg", "m": "grad_avg", "v": "momentum_buffer"},
        {
            "lr": [0.01], "alpha": [0.9, 0.99], "centered": [False, True], "momentum": [0.0, 0.6],
            **OPTIONS,
        },
    ),
    Pair(
        "Adadelta", fo.AdaDelta, {"h": "square_avg", "d": "acc_delta"},
        {"lr": [1.0, 0.1], "rho": [0.9, 0.7], "eps": [1e-6, 1e-3], **OPTIONS},
    ),
    Pair(
        "Adam", adam, MOMENTS | {"v_max": "max_exp_avg_sq"},
        {
            "lr": [0.01], "betas": BETAS, "eps": [1e-8, 1e-3], "amsgrad": [False, True],
            "decoupled_weight_decay": [False, True], **OPTIONS,
        },
    ),
    Pair(
        "AdamW", adamw, MOMENTS | {"v_max": "max_exp_avg_sq"},
        {"lr": [0.01], "betas": BETAS, "amsgrad": [False, True], **OPTIONS},
    ),
    Pair("AdamW", adamw, MOMENTS, {"lr": [0.01], "betas": BETAS}),
    Pair(
        "Adamax", adamax, {"m": "exp_avg", "u": "exp_inf"},
        {"lr": [0.01], "betas": BETAS, "eps": [1e-8, 1e-3], **OPTIONS},
    ),
    Pair(
        "NAdam", nadam, MOMENTS,
        {
            "lr": [0.01], "betas": BETAS, "momentum_decay": [4e-3, 1.0],
            "decoupled_weight_decay": [False, True], **OPTIONS,
        },
    ),
    Pair(
        "RAdam", radam, MOMENTS,
        {
            "lr": [0.01], "betas": [*BETAS, (0.9, 0.5)], "eps": [1e-8, 1e-3],
            "decoupled_weight_decay": [False, True], **OPTIONS,
        },
    ),
    Pair(
        "Rprop", rprop, {"g_prev": "prev", "delta": "step_size"},
        {
            "lr": [0.01], "etas": [(0.5, 1.2), (0.3, 2.0)],
            "step_sizes": [(1e-6, 50), (0.005, 0.02)], "maximize": [False, True],
        },
    ),
    Pair(
        "Adafactor", adafactor, {"r": "row_var", "c": "col_var", "v": "variance"},
        {"lr": [0.01, 0.3], "d": [1.0, 2.5], "beta2_decay": [-0.8, -0.5], **OPTIONS},
    ),
]


@pytest.fixture(autouse=True)
def float64():
    """Let PyTorch keep its step counts and momentum products in float64, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def gradients(rng, params):
    """What a model might give: a pull towards zero, noise, and some exact zeros."""
    drawn = {}
    for key, p in params.items():
        is_zero = rng.random(p.shape) < 0.1
        drawn[key] = np.where(is_zero, 0, p + rng.standard_normal(p.shape))
    return drawn


PAIRS_AND_OPTIONS = []
for pair in PAIRS:
    PAIRS_AND_OPTIONS += pair.cases()


@pytest.mark.parametrize(("pair", "given"), PAIRS_AND_OPTIONS)
def test_the_same_numbers(pair, given):
    rng = np.random.default_rng(0)
    params = {key: np.asarray(rng.standard_normal(shape)) for key, shape in SHAPES.items()}
    tensors = {key: torch.tensor(p, requires_grad=True) for key, p in params.items()}
    ours = pair.ours(**given)
    theirs = getattr(torch.optim, pair.theirs)(tensors.values(), foreach=False, **given)
    for _ in range(STEPS):
        grads = gradients(rng, params)
        ours.update(params, grads)
        for key, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[key])
        theirs.step()
    for key, tensor in tensors.items():
        same(params[key], tensor.detach())
        state = {k: x for k, x in theirs.state[tensor].items() if x is not None}
        assert state.pop("step", STEPS) == STEPS
        if pair.theirs == "NAdam":
            products = momentum_products(given["betas"][0], given["momentum_decay"])
            same(products.product(STEPS), state.pop("mu_product"), atol=1e-20)  # nothing beside 1
        for slot in slots_of(ours, key):
            held = state.pop(pair.state[slot])
            same(getattr(ours, slot)[key], held.reshape(ours.shape_of(slot, params[key].shape)))
        assert state == {}


def slots_of(opt, key):
    """The state arrays of a key; those that are two vectors where a rule has that."""
    return opt.state_dict()["parameters"][key]["state"]


def same(a, b, atol=0.0):
    np.testing.assert_allclose(a, np.asarray(b), rtol=1e-12, atol=atol)


DEFAULTS = {
    # fastoptim: torch.optim's class, and how the names differ; what is not said is the same
    fo.AdamW: ("AdamW", {}),
    fo.AdaMax: ("Adamax", {}),
    fo.NAdam: ("NAdam", {"psi": "momentum_decay"}),
    fo.RAdam: ("RAdam", {}),
    fo.AdaDelta: ("Adadelta", {}),
    fo.Rprop: ("Rprop", {}),
    fo.Adafactor: ("Adafactor", {}),
}


@pytest.mark.parametrize("cls", DEFAULTS)
def test_the_same_defaults(cls):
    name, names = DEFAULTS[cls]
    theirs = dict(getattr(torch.optim, name)([torch.zeros(1)]).defaults)
    if "betas" in theirs:
        theirs["beta1"], theirs["beta2"] = theirs.pop("betas")
    if name == "Rprop":
        theirs["eta_minus"], theirs["eta_plus"] = theirs.pop("etas")
        theirs["step_min"], theirs["step_max"] = theirs.pop("step_sizes")
    opt = cls()
    compared = [f for f in vars(opt) if names.get(f, f) in theirs]
    assert {"lr"} < set(compared)
    for field in compared:
        assert getattr(opt, field) == theirs[names.get(field, field)], field


# ---------------------------------------------------------------- sparse gradients

# PyTorch's sparse optimizers, which touch the rows of a gradient and no others
SPARSE = {
    "SparseAdam": (
        lambda p: torch.optim.SparseAdam([p], lr=0.01, betas=(0.8, 0.95), eps=1e-6),
        lambda: fo.Adam(0.01, 0.8, 0.95, 1e-6), {"m": "exp_avg", "v": "exp_avg_sq"},
    ),
    "SparseAdam-maximize": (
        lambda p: torch.optim.SparseAdam([p], lr=0.01, maximize=True),
        lambda: fo.Adam(0.01, eps=1e-8, maximize=True), {"m": "exp_avg", "v": "exp_avg_sq"},
    ),
    "SGD": (lambda p: torch.optim.SGD([p], lr=0.1), lambda: fo.SGD(0.1), {}),
    "Adagrad": (
        lambda p: torch.optim.Adagrad([p], lr=0.1, lr_decay=0.01, initial_accumulator_value=0.2),
        lambda: fo.AdaGrad(0.1, 1e-10, lr_decay=0.01, initial=0.2), {"h": "sum"},
    ),
}


@pytest.mark.parametrize("name", SPARSE)
def test_rows_are_torchs_sparse_gradients(name):
    make_theirs, make_ours, state = SPARSE[name]
    rng = np.random.default_rng(0)
    params = {"E": rng.standard_normal((30, 5))}
    p = torch.nn.Parameter(torch.tensor(params["E"]))
    theirs, ours = make_theirs(p), make_ours()
    for _ in range(STEPS):
        index = rng.integers(0, 20, 12)     # with duplicates; ten rows are never touched
        values = rng.standard_normal((12, 5))
        with torch.sparse.check_sparse_tensor_invariants():     # one must say whether or not
            p.grad = torch.sparse_coo_tensor(
                torch.tensor(index)[None], torch.tensor(values), p.shape
            )
            theirs.step()
        ours.update(params, {"E": fo.Rows(index, values)})
        np.testing.assert_allclose(params["E"], p.detach().numpy(), rtol=0, atol=1e-12)
        for slot, tensor in state.items():
            held = theirs.state[p][tensor].numpy()
            np.testing.assert_allclose(getattr(ours, slot)["E"], held, rtol=0, atol=1e-12)
