"""The numbers of Keras, Optax, scikit-learn and cs231n: 50 steps in float64, to 1e-12.

Each row says how an optimizer of theirs is written in fastoptim; docs/equivalents.toml has the
same rows. State is compared by test_parity_torch.py and the listings; here it is the parameters.
Keras computes in float64 with TensorFlow only; its other backends round to float32, whatever they
are given, and are compared to that.
"""

import math
import os
from importlib.util import find_spec

import numpy as np
import pytest

import fastoptim as fo

STEPS = 50
SHAPES = {"W": (7, 5), "b": (11,)}


def start(rng):
    return {key: rng.standard_normal(shape) for key, shape in SHAPES.items()}


def trained(opt):
    """The parameters after 50 steps, and the gradients that led there."""
    rng = np.random.default_rng(0)
    params, history = start(rng), []
    for _ in range(STEPS):
        grads = {key: p + rng.standard_normal(p.shape) for key, p in params.items()}
        history.append(grads)
        opt.update(params, grads)
    return params, history


def same(ours, theirs, rtol=1e-12):
    for key in ours:
        np.testing.assert_allclose(ours[key], np.asarray(theirs[key]), rtol=rtol, atol=rtol / 10)


# ---------------------------------------------------------------- Keras

# TensorFlow rounds Python's 0.9 to float32 before it meets a float64 array, so the numbers here
# are sums of few powers of two, which float32 holds exactly. The last rows are Keras' defaults.
B1, B2, EPS = 0.875, 1 - 2**-8, 2**-20

KERAS = {
    # name, arguments → the same here
    "SGD": ("SGD", {"learning_rate": 0.125}, fo.SGD(0.125)),
    "momentum": ("SGD", {"learning_rate": 0.125, "momentum": B1}, fo.Momentum(0.125, B1)),
    "nesterov": (
        "SGD", {"learning_rate": 0.125, "momentum": B1, "nesterov": True}, fo.Nesterov(0.125, B1),
    ),
    "Adagrad": (
        "Adagrad",
        {"learning_rate": 0.125, "epsilon": EPS, "initial_accumulator_value": 0.125},
        fo.AdaGrad(0.125, eps=0.0, eps_root=EPS, initial=0.125),
    ),
    "RMSprop": (
        "RMSprop", {"learning_rate": 2**-7, "rho": B1, "epsilon": EPS},
        fo.RMSprop(2**-7, B1, eps=0.0, eps_root=EPS),
    ),
    "RMSprop, momentum": (
        "RMSprop", {"learning_rate": 2**-7, "rho": B1, "epsilon": EPS, "momentum": 0.5},
        fo.RMSprop(2**-7, B1, eps=0.0, eps_root=EPS, momentum=0.5),
    ),
    "RMSprop, centered": (
        "RMSprop", {"learning_rate": 2**-7, "rho": B1, "epsilon": 2**-7, "centered": True},
        fo.RMSprop(2**-7, B1, eps=0.0, eps_root=2**-7, centered=True),
    ),
    "RMSprop, centered, momentum": (
        "RMSprop",
        {"learning_rate": 2**-7, "rho": B1, "epsilon": EPS, "centered": True, "momentum": 0.5},
        fo.RMSprop(2**-7, B1, eps=0.0, eps_root=EPS, centered=True, momentum=0.5),
    ),
    "Adam": (
        "Adam", {"learning_rate": 2**-7, "beta_1": B1, "beta_2": B2, "epsilon": EPS},
        fo.Adam(2**-7, B1, B2, EPS),
    ),
    "Adam, amsgrad": (
        "Adam",
        {"learning_rate": 2**-7, "beta_1": B1, "beta_2": 0.5, "epsilon": EPS, "amsgrad": True},
        fo.Adam(2**-7, B1, 0.5, EPS, amsgrad=True),
    ),
    "AdamW": (
        "AdamW",
        {
            "learning_rate": 2**-7, "beta_1": B1, "beta_2": B2, "epsilon": EPS,
            "weight_decay": 0.125,
        },
        fo.Adam(2**-7, B1, B2, EPS, weight_decay=0.125, decoupled=True),
    ),
    "Adamax without eps": (
        "Adamax", {"learning_rate": 2**-7, "beta_1": B1, "beta_2": B2, "epsilon": 0.0},
        fo.AdaMax(2**-7, B1, B2, eps=0.0),
    ),
    "Adadelta": (
        "Adadelta", {"learning_rate": 0.5, "rho": B1, "epsilon": EPS}, fo.AdaDelta(0.5, B1, EPS),
    ),
    "Lion": (
        "Lion", {"learning_rate": 2**-7, "beta_1": B1, "beta_2": B2, "weight_decay": 0.125},
        fo.Lion(2**-7, B1, B2, weight_decay=0.125),
    ),
    "Ftrl": (
        "Ftrl",
        {
            "learning_rate": 0.125, "initial_accumulator_value": 0.25, "beta": 0.25,
            "l1_regularization_strength": 0.5, "l2_regularization_strength": 0.75,
        },
        fo.FTRL(0.125, 0.25, 0.5, 0.75, 0.25),
    ),
    "Adagrad, defaults": (
        "Adagrad", {}, fo.AdaGrad(0.001, eps=0.0, eps_root=1e-7, initial=0.1),
    ),
    "RMSprop, defaults": ("RMSprop", {}, fo.RMSprop(0.001, 0.9, eps=0.0, eps_root=1e-7)),
    "Adam, defaults": ("Adam", {}, fo.Adam()),
    "AdamW, defaults": ("AdamW", {}, fo.Adam(weight_decay=0.004, decoupled=True)),
    "Adadelta, defaults": ("Adadelta", {}, fo.AdaDelta(0.001, rho=0.95, eps=1e-7)),
    "Nadam, defaults": ("Nadam", {}, fo.NAdam(0.001, eps=1e-7, psi=1.0)),
    "Lion, defaults": ("Lion", {}, fo.Lion(0.001, weight_decay=0.0)),
    "Ftrl, defaults": ("Ftrl", {}, fo.FTRL()),
}


@pytest.fixture
def keras():
    os.environ.setdefault("KERAS_BACKEND", "tensorflow" if find_spec("tensorflow") else "numpy")
    keras = pytest.importorskip("keras")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", KERAS)
def test_keras(keras, row):
    name, arguments, ours = KERAS[row]
    theirs = getattr(keras.optimizers, name)(**arguments)
    params, history = trained(ours)
    x = start(np.random.default_rng(0))
    variables = [keras.Variable(p, dtype="float64") for p in x.values()]
    for grads in history:
        theirs.apply([keras.ops.convert_to_tensor(g) for g in grads.values()], variables)
    x = dict(zip(x, map(keras.ops.convert_to_numpy, variables), strict=True))
    exact = keras.backend.backend() == "tensorflow" and "defaults" not in row
    same(params, x, rtol=1e-12 if exact else 1e-4)


# ---------------------------------------------------------------- Optax

def exact(number):
    """A number that lets Optax compute t^number in float64; of a float it makes float32."""
    import jax.numpy as jnp

    return jnp.asarray(number, "float64")


OPTAX = {
    "sgd": (lambda optax: optax.sgd(0.1), fo.SGD(0.1)),
    "momentum": (lambda optax: optax.sgd(0.1, momentum=0.9), fo.HeavyBall(0.1, 0.9)),
    "nesterov": (
        lambda optax: optax.sgd(0.1, momentum=0.9, nesterov=True),
        fo.HeavyBall(0.1, 0.9, nesterov=True),
    ),
    "adagrad": (
        lambda optax: optax.adagrad(0.1), fo.AdaGrad(0.1, eps=0.0, eps_root=1e-7, initial=0.1),
    ),
    "adagrad, eps": (
        lambda optax: optax.adagrad(0.1, 0.0, 1e-2), fo.AdaGrad(0.1, eps=0.0, eps_root=1e-2),
    ),
    "rmsprop": (
        lambda optax: optax.rmsprop(0.01), fo.RMSprop(0.01, 0.9, eps=0.0, eps_root=1e-8),
    ),
    "rmsprop, momentum": (
        lambda optax: optax.rmsprop(0.01, eps=1e-3, momentum=0.5),
        fo.RMSprop(0.01, 0.9, eps=0.0, eps_root=1e-3, momentum=0.5),
    ),
    "rmsprop, centered": (
        lambda optax: optax.rmsprop(0.01, eps=1e-3, centered=True),
        fo.RMSprop(0.01, 0.9, eps=0.0, eps_root=1e-3, centered=True),
    ),
    "rmsprop, centered, momentum": (
        lambda optax: optax.rmsprop(0.01, eps=1e-3, centered=True, momentum=0.5),
        fo.RMSprop(0.01, 0.9, eps=0.0, eps_root=1e-3, centered=True, momentum=0.5),
    ),
    "rmsprop, eps outside": (
        lambda optax: optax.rmsprop(0.01, eps_in_sqrt=False), fo.RMSprop(0.01, 0.9, eps=1e-8),
    ),
    "rmsprop, eps outside, all": (
        lambda optax: optax.rmsprop(
            0.01, eps=1e-3, eps_in_sqrt=False, centered=True, momentum=0.5, initial_scale=0.0
        ),
        fo.RMSprop(0.01, 0.9, eps=1e-3, centered=True, momentum=0.5),
    ),
    "adam": (
        lambda optax: optax.adam(0.01, eps=1e-3), fo.Adam(0.01, eps=1e-3, eps_corrected=True),
    ),
    "adam, eps_root": (
        lambda optax: optax.adam(0.01, eps=1e-3, eps_root=1e-2),
        fo.Adam(0.01, eps=1e-3, eps_corrected=True, eps_root=1e-2),
    ),
    "adamw, eps_root": (
        lambda optax: optax.adamw(0.01, eps_root=1e-2),
        fo.AdamW(0.01, weight_decay=1e-4, eps_root=1e-2),
    ),
    "adamw": (lambda optax: optax.adamw(0.01), fo.AdamW(0.01, weight_decay=1e-4)),
    "adamax": (lambda optax: optax.adamax(0.01, eps=1e-3), fo.AdaMax(0.01, eps=1e-3)),
    "adadelta": (lambda optax: optax.adadelta(0.5), fo.AdaDelta(0.5)),
    "radam without eps": (lambda optax: optax.radam(0.01, eps=0.0), fo.RAdam(0.01, eps=0.0)),
    "adabelief": (lambda optax: optax.adabelief(0.01), fo.AdaBelief(0.01)),
    "adabelief, eps": (
        lambda optax: optax.adabelief(0.01, b1=0.8, b2=0.9, eps=1e-2, eps_root=1e-3),
        fo.AdaBelief(0.01, 0.8, 0.9, 1e-2, 1e-3),
    ),
    "adafactor": (
        lambda optax: optax.adafactor(0.05, decay_rate=exact(0.8)),
        fo.Adafactor(0.05, relative_step=False, factor_from=128),
    ),
    "adafactor, matrices": (
        lambda optax: optax.adafactor(
            0.05, 2, exact(0.6), clipping_threshold=0.7, weight_decay_rate=1e-3
        ),
        fo.Adafactor(0.05, 0.6, 0.7, relative_step=False, weight_decay=1e-3 / 0.05),
    ),
    "adafactor, momentum": (
        lambda optax: optax.adafactor(
            0.05, 2, exact(0.8), momentum=0.9, dtype_momentum="float64"
        ),
        fo.Adafactor(0.05, beta1=0.9, relative_step=False),
    ),
    "adafactor, absolute": (
        lambda optax: optax.adafactor(
            0.05, 6, exact(0.8), multiply_by_parameter_scale=False, clipping_threshold=None,
            eps=1e-3,
        ),
        fo.Adafactor(
            0.05, d=None, eps1=1e-3, relative_step=False, scale_parameter=False, factor_from=6
        ),
    ),
    "lion": (lambda optax: optax.lion(0.01), fo.Lion(0.01)),
    "lion, decay": (
        lambda optax: optax.lion(0.01, b1=0.5, b2=0.7, weight_decay=0.2),
        fo.Lion(0.01, 0.5, 0.7, weight_decay=0.2),
    ),
    "lamb": (lambda optax: optax.lamb(0.01), fo.LAMB(0.01, weight_decay=0.0)),
    "lamb, decay": (
        lambda optax: optax.lamb(0.02, 0.8, 0.9, 1e-3, weight_decay=0.2),
        fo.LAMB(0.02, 0.8, 0.9, 1e-3, weight_decay=0.2),
    ),
    "lars": (
        lambda optax: optax.lars(0.1, weight_decay=0.1),
        fo.LARS(0.1, form="norm_of_sum", weight_decay=0.1),
    ),
    "lars, eps": (
        lambda optax: optax.lars(0.1, trust_coefficient=0.1, eps=1e-2, momentum=0.5),
        fo.LARS(0.1, 0.5, 0.1, 1e-2, form="norm_of_sum"),
    ),
    "trust ratio": (
        lambda optax: optax.chain(optax.scale_by_trust_ratio(), optax.sgd(0.1)),
        fo.SGD(0.1, trust_ratio=True),
    ),
    "centralize": (
        lambda optax: optax.chain(optax.centralize(), optax.adam(0.01)),
        fo.Adam(0.01, eps=1e-8, eps_corrected=True, centralize=True),
    ),
    "agc": (
        lambda optax: optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.1)),
        fo.SGD(0.1, agc=0.1),
    ),
    "agc, then centralize": (
        lambda optax: optax.chain(
            optax.adaptive_grad_clip(0.1), optax.centralize(), optax.sgd(0.1)
        ),
        fo.SGD(0.1, agc=0.1, centralize=True),
    ),
    "sign_sgd": (lambda optax: optax.sign_sgd(0.01), fo.SignSGD(0.01)),
    "signum": (lambda optax: optax.signum(0.01), fo.SignSGD(0.01, 0.9)),
    "yogi": (lambda optax: optax.yogi(0.01), fo.Yogi()),
    "yogi, all": (
        lambda optax: optax.yogi(0.02, b1=0.8, b2=0.9, eps=1e-2), fo.Yogi(0.02, 0.8, 0.9, 1e-2),
    ),
    # Its weight of the gradient's change is 1 - b2, where the paper's is b2.
    "adan where b2 is 1 - b2": (
        lambda optax: optax.adan(0.01, b2=0.5, eps_root=0.0), fo.Adan(0.01, beta2=0.5),
    ),
    "adan where b2 is 1 - b2, all": (
        lambda optax: optax.adan(0.01, 0.9, 0.5, 0.95, 1e-3, 0.0, weight_decay=0.2),
        fo.Adan(0.01, 0.9, 0.5, 0.95, 1e-3, weight_decay=0.2),
    ),
}


@pytest.fixture
def float64_in_jax():
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", OPTAX)
def test_optax(float64_in_jax, row):
    optax = pytest.importorskip("optax")
    make, ours = OPTAX[row]
    theirs = make(optax)
    params, history = trained(ours)
    x = start(np.random.default_rng(0))
    state = theirs.init(x)
    for grads in history:
        updates, state = theirs.update(grads, state, x)
        x = optax.apply_updates(x, updates)
    same(params, x)


def rising(peak, steps=8):
    """A rate that rises from 0, and then stays."""
    return fo.schedules.linear(0.0, peak, steps)


SCHEDULE_FREE = {
    "sgd": (lambda free: free.schedule_free_sgd(0.1), fo.ScheduleFreeSGD(0.1)),
    "sgd, decay": (
        lambda free: free.schedule_free_sgd(0.1, b1=0.7, weight_decay=0.2),
        fo.ScheduleFreeSGD(0.1, 0.7, weight_decay=0.2),
    ),
    "sgd, decoupled": (
        lambda free: free.schedule_free_sgd(0.1, weight_decay=0.2),
        fo.ScheduleFreeSGD(0.1, weight_decay=0.2, decoupled=True),
    ),
    "adamw": (lambda free: free.schedule_free_adamw(0.01), fo.ScheduleFreeAdamW(0.01)),
    "adamw, all": (
        lambda free: free.schedule_free_adamw(0.01, None, 0.8, 0.9, 1e-3, 0.2),
        fo.ScheduleFreeAdamW(0.01, 0.8, 0.9, 1e-3, weight_decay=0.2),
    ),
    # It asks a schedule for the weight one update before it asks for the step; here they are asked
    # at the same.
    "a rate that rises": (
        lambda free: free.schedule_free(
            free.sgd(lambda step: rising(0.1)(int(step) + 1)), lambda step: rising(0.1)(int(step))
        ),
        fo.ScheduleFreeSGD(lambda step: rising(0.1)(step + 1)),
    ),
    "a rate that rises and falls": (
        lambda free: free.schedule_free(
            free.sgd(lambda step: 0.1 * abs(math.sin(0.1 * int(step + 1)))),
            lambda step: 0.1 * abs(math.sin(0.1 * int(step))),
        ),
        fo.ScheduleFreeSGD(lambda step: 0.1 * abs(math.sin(0.1 * (step + 1)))),
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", SCHEDULE_FREE)
def test_optax_schedule_free(float64_in_jax, row):
    """The point of the gradients, and that to evaluate at."""
    optax = pytest.importorskip("optax")
    free = pytest.importorskip("optax.contrib")
    vars(free).setdefault("sgd", optax.sgd)
    make, ours = SCHEDULE_FREE[row]
    theirs = make(free)
    params, history = trained(ours)
    x = start(np.random.default_rng(0))
    state = theirs.init(x)
    for grads in history:
        updates, state = theirs.update(grads, state, x)
        x = optax.apply_updates(x, updates)
    same(params, x)
    with ours.evaluation(params):
        same(params, free.schedule_free_eval_params(state, x))


# ---------------------------------------------------------------- scikit-learn's MLP

SKLEARN = {
    "sgd, momentum": (
        "SGDOptimizer", {"learning_rate_init": 0.1, "nesterov": False}, fo.Momentum(0.1, 0.9),
    ),
    "sgd": ("SGDOptimizer", {"learning_rate_init": 0.1}, fo.Nesterov(0.1, 0.9)),
    "adam": ("AdamOptimizer", {}, fo.Adam(eps=1e-8)),
    "adam, eps": ("AdamOptimizer", {"epsilon": 1e-2}, fo.Adam(eps=1e-2)),
}


@pytest.mark.parametrize("row", SKLEARN)
def test_sklearn(row):
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    name, arguments, ours = SKLEARN[row]
    params, history = trained(ours)
    x = start(np.random.default_rng(0))
    theirs = getattr(optimizers, name)(list(x.values()), **arguments)
    for grads in history:
        theirs.update_params(list(x.values()), list(grads.values()))
    same(params, x)


# ---------------------------------------------------------------- cs231n
# A course, not a package: its recursions, written out for one array. t counts from 1.


def cs231n_sgd(x, g, s, t):
    return x - 1e-2 * g


def cs231n_sgd_momentum(x, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) - 1e-2 * g
    return x + s["v"]


def cs231n_rmsprop(x, g, s, t):
    s["cache"] = 0.99 * s.get("cache", 0) + 0.01 * g**2
    return x - 1e-2 * g / (np.sqrt(s["cache"]) + 1e-8)


def cs231n_adam(x, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    m, v = s["m"] / (1 - math.pow(0.9, t)), s["v"] / (1 - math.pow(0.999, t))
    return x - 1e-3 * m / (np.sqrt(v) + 1e-8)


# Two papers' code, as they publish it for PyTorch, written out in the same way.


def adan_of_its_authors(x, g, s, t):
    lr, (b1, b2, b3), eps, decay = 1e-2, (0.98, 0.92, 0.99), 1e-8, 0.2
    difference = g - s.get("g", g)
    s["g"] = g
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * difference
    s["n"] = b3 * s.get("n", 0) + (1 - b3) * (g + b2 * difference) ** 2
    root = np.sqrt(s["n"]) / math.sqrt(1 - b3**t) + eps
    x = x * (1 - lr * decay)        # no_prox=True
    x = x - lr / (1 - b1**t) * s["m"] / root
    return x - lr * b2 / (1 - b2**t) * s["v"] / root


def schedule_free_sgd_of_its_authors(y, g, s, t):
    lr, beta, warmup, decay = 0.1, 0.9, 8, 0.05
    lr *= min(1.0, t / warmup)
    s["highest"] = max(lr, s.get("highest", -1.0))
    s["sum"] = s.get("sum", 0.0) + s["highest"] ** 2
    c = s["highest"] ** 2 / s["sum"]
    z = s.get("z", y)
    g = g + decay * y
    s["z"] = z - lr * g
    return y + c * (z - y) + lr * (beta * (1 - c) - 1) * g


CS231N = {
    cs231n_sgd: fo.SGD(),
    cs231n_sgd_momentum: fo.Momentum(),
    cs231n_rmsprop: fo.RMSprop(eps=1e-8),
    cs231n_adam: fo.Adam(eps=1e-8, eps_corrected=True),
    adan_of_its_authors: fo.Adan(1e-2, weight_decay=0.2),
    schedule_free_sgd_of_its_authors: fo.ScheduleFreeSGD(
        fo.schedules.linear(0.1 / 8, 0.1, 7), weight_decay=0.05
    ),
}


@pytest.mark.parametrize("rule", CS231N)
def test_cs231n_and_the_authors_of_rules(rule):
    params, history = trained(CS231N[rule])
    x = start(np.random.default_rng(0))
    state = {key: {} for key in x}
    for t, grads in enumerate(history, start=1):
        x = {key: rule(x[key], grads[key], state[key], t) for key in x}
    same(params, x)


def test_an_optax_schedule_is_passed_as_it_is():
    """It gets the number of completed updates and returns an array of JAX."""
    optax = pytest.importorskip("optax")
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.5, 3, 10)
    opt, params, expected = fo.SGD(lr=schedule), {"x": np.zeros(1)}, 0.0
    for step in range(6):
        opt.update(params, {"x": np.ones(1)})
        expected -= float(schedule(step))
        assert params["x"] == expected
