"""Muon beside PyTorch's and Optax': 20 steps in float64, to 1e-12.

PyTorch's iteration casts to bfloat16, which has 3 digits. Here its own code runs with that cast
left out: `Tensor.bfloat16` returns a copy of the tensor, so every operation of theirs is done in
float64. As it is, its step is compared to bfloat16's precision.
"""

import os

import numpy as np
import pytest

import fastoptim as fo

STEPS = 20
SHAPES = {"wide": (5, 9), "tall": (9, 4), "square": (6, 6), "row": (1, 7), "column": (7, 1)}


def start(rng):
    return {key: rng.standard_normal(shape) for key, shape in SHAPES.items()}


def trained(opt):
    """The parameters after all steps, and the gradients that led there."""
    rng = np.random.default_rng(0)
    params, history = start(rng), []
    for _ in range(STEPS):
        grads = {key: p + rng.standard_normal(p.shape) for key, p in params.items()}
        history.append(grads)
        opt.update(params, grads)
    return params, history


def torch_trained(torch, history, **arguments):
    """PyTorch's parameters and momentum with the same gradients."""
    params = {
        key: torch.nn.Parameter(torch.from_numpy(p))
        for key, p in start(np.random.default_rng(0)).items()
    }
    opt = torch.optim.Muon(params.values(), **arguments)
    for grads in history:
        for key, p in params.items():
            p.grad = torch.from_numpy(grads[key].copy())
        opt.step()
    momentum = {key: opt.state[p]["momentum_buffer"].numpy() for key, p in params.items()}
    return {key: p.detach().numpy() for key, p in params.items()}, momentum


TORCH = [
    {}, {"lr": 0.1, "weight_decay": 0.0}, {"nesterov": False}, {"momentum": 0.5}, {"ns_steps": 3},
    {"ns_coefficients": (2.0, -1.5, 0.5)}, {"eps": 20.0}, {"adjust_lr_fn": "match_rms_adamw"},
    {"adjust_lr_fn": "original"},
]


def ours_of(lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn=None, **rest):
    return fo.Muon(
        lr, momentum, nesterov, weight_decay=weight_decay, adjust_lr=adjust_lr_fn or "original",
        **rest,
    )


@pytest.mark.parametrize("arguments", TORCH, ids=str)
def test_torch(arguments, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    opt = ours_of(**arguments)
    ours, history = trained(opt)
    theirs, momentum = torch_trained(torch, history, **arguments)
    for key in SHAPES:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(opt.v[key], momentum[key], rtol=1e-12, atol=1e-13)


def test_torch_as_it_is():
    torch = pytest.importorskip("torch")
    ours, history = trained(fo.Muon(0.02))
    theirs, _ = torch_trained(torch, history, lr=0.02)
    for key in SHAPES:
        np.testing.assert_allclose(ours[key], theirs[key], atol=STEPS * 0.02 * 0.02)


OPTAX = [
    {}, {"nesterov": False}, {"beta": 0.5, "weight_decay": 0.2}, {"ns_steps": 3},
    {"ns_coeffs": (2.0, -1.5, 0.5)}, {"consistent_rms": 0.2},
]


def optax_trained(first, history, **arguments):
    """Optax' parameters with the same gradients; its matrices are ours transposed."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        opt = optax.contrib.muon(0.02, eps=0.0, **arguments)
        params = {key: jax.numpy.asarray(p.T) for key, p in first.items()}
        state, update = opt.init(params), jax.jit(opt.update)
        for grads in history:
            turned = {key: jax.numpy.asarray(g.T) for key, g in grads.items()}
            updates, state = update(turned, state, params)
            params = optax.apply_updates(params, updates)
        return {key: np.asarray(p).T for key, p in params.items()}
    finally:
        jax.config.update("jax_enable_x64", before)


def same(ours, theirs):
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("arguments", OPTAX, ids=str)
def test_optax(arguments):
    """Its ε is added to the norm, and not its least value, so it is 0 there."""
    given = dict(arguments)
    rms = given.pop("consistent_rms", None)
    opt = fo.Muon(
        0.02, given.pop("beta", 0.95), weight_decay=given.pop("weight_decay", 0.0), eps=1e-30,
        ns_coefficients=given.pop("ns_coeffs", (3.4445, -4.775, 2.0315)), bias_correction=True,
        adjust_lr="match_rms_adamw" if rms else "original", **given,
    )
    ours, history = trained(opt)
    same(ours, optax_trained(start(np.random.default_rng(0)), history, **arguments))


def test_optax_with_its_adamw_for_the_rest():
    """Without Nesterov's form, which its AdamW would have, too."""
    rng = np.random.default_rng(0)
    first = {"W": rng.standard_normal((4, 5)), "b": rng.standard_normal(5)}
    opt = fo.Muon(
        0.02, 0.95, False, weight_decay=0.0, eps=1e-30,
        rest=fo.AdamW(0.02, eps=0.0, weight_decay=0.1),
    )
    ours = {key: p.copy() for key, p in first.items()}
    history = [{key: rng.standard_normal(p.shape) for key, p in first.items()} for _ in range(5)]
    for grads in history:
        opt.update(ours, grads)
    same(ours, optax_trained(first, history, nesterov=False, adam_weight_decay=0.1))
