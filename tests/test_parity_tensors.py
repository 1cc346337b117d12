"""Options that look at tensors as a whole, LARS and LAMB: the numbers of Optax, Keras and others.

Rows of docs/equivalents.toml, and what docs/tensors.md says of other libraries: where the numbers
are the same, and where they differ. 50 steps in float64, to 1e-12.
"""

import os

import numpy as np
import pytest

import fastoptim as fo

SHAPES = {"W": (7, 5), "kernel": (3, 2, 4, 5), "b": (11,), "row": (1, 6), "zero": (4,)}


def start(shapes=SHAPES):
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal(shape) * (key != "zero") for key, shape in shapes.items()}


def gradients(steps=50, shapes=SHAPES):
    rng = np.random.default_rng(1)
    return [
        {key: rng.standard_normal(shape) for key, shape in shapes.items()} for _ in range(steps)
    ]


def trained(opt, shapes=SHAPES):
    params = start(shapes)
    for grads in gradients(shapes=shapes):
        opt.update(params, grads)
    return params


def same(ours, theirs, rtol=1e-12):
    assert ours.keys() == theirs.keys()
    for key in ours:
        np.testing.assert_allclose(ours[key], np.asarray(theirs[key]), rtol=rtol, atol=rtol / 10)


# ---------------------------------------------------------------- Optax

WEIGHTS = {key: len(shape) > 1 for key, shape in SHAPES.items()}
NOT_WEIGHTS = [key for key, is_weight in WEIGHTS.items() if not is_weight]


def without(**values):
    """A group for each key that is no matrix."""
    return [fo.Group(key, **values) for key in NOT_WEIGHTS]


OPTAX = {
    "lamb": (lambda o: o.lamb(0.01), fo.LAMB(0.01, weight_decay=0.0)),
    "lamb, all": (
        lambda o: o.lamb(0.02, 0.8, 0.9, 1e-3, 1e-2, 0.1),
        fo.LAMB(0.02, 0.8, 0.9, 1e-3, weight_decay=0.1, eps_root=1e-2),
    ),
    "lamb, mask": (
        lambda o: o.lamb(0.01, weight_decay=0.1, mask=WEIGHTS),
        fo.LAMB(0.01, weight_decay=0.1, groups=without(weight_decay=0.0)),
    ),
    "lars": (lambda o: o.lars(0.1), fo.LARS(0.1, form="norm_of_sum")),
    "lars, all": (
        lambda o: o.lars(0.1, 0.2, True, 0.05, 1e-3, momentum=0.8),
        fo.LARS(0.1, 0.8, 0.05, 1e-3, "norm_of_sum", weight_decay=0.2),
    ),
    "lars, masks": (
        lambda o: o.lars(0.1, 0.2, WEIGHTS, 0.05, trust_ratio_mask=WEIGHTS),
        fo.LARS(
            0.1, trust=0.05, form="norm_of_sum", weight_decay=0.2,
            groups=without(trust=None, weight_decay=0.0),
        ),
    ),
    "scale_by_trust_ratio": (
        lambda o: o.chain(o.scale_by_lion(), o.scale_by_trust_ratio(), o.scale(-0.01)),
        fo.Lion(0.01, weight_decay=0.0, trust_ratio=True),
    ),
    "adaptive_grad_clip": (
        lambda o: o.chain(o.adaptive_grad_clip(0.1), o.sgd(0.1)), fo.SGD(0.1, agc=0.1),
    ),
    "centralize": (lambda o: o.chain(o.centralize(), o.sgd(0.1)), fo.SGD(0.1, centralize=True)),
    "clip, centralize, decay": (
        lambda o: o.chain(
            o.adaptive_grad_clip(0.1), o.centralize(), o.add_decayed_weights(0.2), o.sgd(0.1),
        ),
        fo.SGD(0.1, agc=0.1, centralize=True, weight_decay=0.2),
    ),
}


@pytest.fixture
def optax():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield optax
    jax.config.update("jax_enable_x64", before)


def trained_by_optax(optax, theirs, shapes=SHAPES):
    x = start(shapes)
    state = theirs.init(x)
    for grads in gradients(shapes=shapes):
        updates, state = theirs.update(grads, state, x)
        x = optax.apply_updates(x, updates)
    return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("row", OPTAX)
def test_optax_tensors(optax, row):
    make, ours = OPTAX[row]
    same(trained(ours), trained_by_optax(optax, make(optax)))


def test_three_axes_are_clipped_otherwise_by_optax(optax):
    """Its units of three axes are those of attention heads: norms over the first axis alone."""
    shapes = {"heads": (5, 3, 4)}
    ours = trained(fo.SGD(0.1, agc=0.1), shapes)
    all_but_last, as_it_comes = (
        trained_by_optax(
            optax, optax.chain(optax.adaptive_grad_clip(0.1, axis=axis), optax.sgd(0.1)), shapes
        )
        for axis in ((0, 1), None)
    )
    same(ours, all_but_last)
    assert not np.allclose(ours["heads"], as_it_comes["heads"])


def test_rows_of_one_element_are_left_alone_here_and_zero_in_optax(optax):
    grads = {"W": np.ones((3, 1))}
    theirs, _ = optax.centralize().update(grads, optax.EmptyState())
    assert not np.any(theirs["W"])
    params = {"W": np.zeros((3, 1))}
    fo.SGD(1.0, centralize=True).update(params, grads)
    assert params["W"].ravel().tolist() == [-1.0, -1.0, -1.0]


# ---------------------------------------------------------------- written out, as others have them


def norm(x):
    return float(np.linalg.norm(x))


def lars_with_rate_outside(lr, mu, trust, eps, wd):
    """LARS of timm and apex: the ratio multiplies the gradient, PyTorch's SGD follows."""
    params, v = start(), {}
    for grads in gradients():
        for key, p in params.items():
            n = norm(p)
            ratio = trust * n / (norm(grads[key]) + wd * n + eps) if n else 1.0
            v[key] = mu * v.get(key, 0.0) + ratio * (grads[key] + wd * p)
            p -= lr * v[key]
    return params


def test_lars_with_the_rate_outside_the_velocity_while_the_rate_is_constant():
    ours = trained(fo.LARS(0.1, 0.9, trust=0.02, eps=1e-8, weight_decay=0.1))
    same(ours, lars_with_rate_outside(0.1, 0.9, 0.02, 1e-8, 0.1))


def lamb(lr, b1, b2, eps, wd, corrected, most=np.inf):
    """LAMB in forms that PyTorch's world has: without the correction, with a bounded ratio."""
    params = start()
    m = {key: np.zeros_like(p) for key, p in params.items()}
    v = {key: np.zeros_like(p) for key, p in params.items()}
    for t, grads in enumerate(gradients(), 1):
        for key, p in params.items():
            g = grads[key]
            m[key] = b1 * m[key] + (1 - b1) * g
            v[key] = b2 * v[key] + (1 - b2) * g * g
            first, second = (1 - b1**t, 1 - b2**t) if corrected else (1.0, 1.0)
            step = m[key] / first / (np.sqrt(v[key] / second) + eps) + wd * p
            of_p, of_step = norm(p), norm(step)
            ratio = min(of_p / of_step, most) if of_p and of_step else 1.0
            p -= lr * ratio * step
    return params


LAMBS = {
    "the paper's": (lamb(0.01, 0.9, 0.999, 1e-6, 0.01, True), fo.LAMB(0.01)),
    "no correction": (
        lamb(0.01, 0.9, 0.999, 1e-6, 0.1, False),
        fo.LAMB(0.01, weight_decay=0.1, bias_correction=False),
    ),
    "the ratio at most 1": (
        lamb(0.01, 0.9, 0.999, 1e-6, 0.1, True, most=1.0),
        fo.LAMB(0.01, weight_decay=0.1, trust_ratio=(0, 1)),
    ),
}


@pytest.mark.parametrize("form", LAMBS)
def test_lamb_as_others_have_it(form):
    theirs, ours = LAMBS[form]
    same(trained(ours), theirs)


# ---------------------------------------------------------------- Keras


@pytest.fixture
def keras():
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    keras = pytest.importorskip("keras")
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(before)


KERAS = {
    # name, arguments, shape → the same here
    "MaxNorm": ("MaxNorm", {"max_value": 1.5}, (7, 5), fo.MaxNorm(1.5)),
    "MaxNorm, per row": ("MaxNorm", {"max_value": 1.5, "axis": 1}, (7, 5), fo.MaxNorm(1.5, "row")),
    "MaxNorm, kernel": (
        "MaxNorm", {"max_value": 1.5, "axis": [0, 1, 2]}, (3, 2, 4, 5), fo.MaxNorm(1.5),
    ),
    "MaxNorm, bias": ("MaxNorm", {"max_value": 1.5}, (11,), fo.MaxNorm(1.5)),
    "UnitNorm": ("UnitNorm", {}, (7, 5), "unit_norm"),
    "UnitNorm, per row": ("UnitNorm", {"axis": 1}, (7, 5), fo.UnitNorm("row")),
    "NonNeg": ("NonNeg", {}, (7, 5), "nonnegative"),
}


@pytest.mark.parametrize("row", KERAS)
def test_keras_constraints(keras, row):
    """Keras adds 1e-7 to each norm that it divides by."""
    name, arguments, shape, ours = KERAS[row]
    x = np.random.default_rng(0).standard_normal(shape)
    theirs = keras.ops.convert_to_numpy(getattr(keras.constraints, name)(**arguments)(x))
    params = {"W": x}
    fo.SGD(constraint=ours).update(params, {"W": np.zeros(shape)})
    same(params, {"W": theirs}, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_lamb(keras):
    """To float32's accuracy: so computes Keras without TensorFlow."""
    theirs = keras.optimizers.Lamb(0.125)
    x = start()
    variables = [keras.Variable(p, dtype="float64") for p in x.values()]
    for grads in gradients():
        theirs.apply([keras.ops.convert_to_tensor(g) for g in grads.values()], variables)
    x = dict(zip(x, map(keras.ops.convert_to_numpy, variables), strict=True))
    same(trained(fo.LAMB(0.125, eps=1e-7, weight_decay=0.0)), x, rtol=1e-4)
