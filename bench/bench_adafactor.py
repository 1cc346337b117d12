"""Adafactor, float32, beside Adam and beside Optax' and PyTorch's; all factor every matrix.

pytest-benchmark's own columns time a whole round of all contestants; the table below them has the
medians of each.
"""

import pytest
from alternate import medians
from cases import Contestant, arrays, with_dicts

import fastoptim as fo

CASES = {
    "12 × (256² + 256)": [(256, 256), (256,)] * 12,
    "1024²": [(1024, 1024)],
    "20,000 × 10": [(20_000, 10)],
}


def optax_jitted(shapes):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    theirs = optax.adafactor(0.01, min_dim_size_to_factor=2)

    def both(params, state, grads):
        updates, state = theirs.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, grads = (
        {key: jax.numpy.array(a) for key, a in arrays(shapes, seed).items()} for seed in (0, 1)
    )
    step = jax.jit(both, donate_argnums=(0, 1))
    now = [params, theirs.init(params)]

    def call():
        now[:] = step(*now, grads)
        jax.block_until_ready(now)

    return Contestant("Optax jitted", call, now)


def torchs(shapes):
    torch = pytest.importorskip("torch")
    params, grads = arrays(shapes, 0), arrays(shapes, 1)
    tensors = [torch.from_numpy(p) for p in params.values()]
    for tensor, g in zip(tensors, grads.values(), strict=True):
        tensor.grad = torch.from_numpy(g)
    return Contestant("torch", torch.optim.Adafactor(tensors).step, [params, grads])


@pytest.mark.parametrize("title", CASES)
def test_adafactor(title, benchmark, table):
    shapes = CASES[title]
    everyone = [
        with_dicts("fastoptim", fo.Adafactor(), shapes),
        with_dicts("fastoptim, momentum", fo.Adafactor(beta1=0.9), shapes),
        with_dicts("fastoptim, d=None", fo.Adafactor(d=None), shapes),
        with_dicts("fo.Adam", fo.Adam(), shapes),
        optax_jitted(shapes),
        torchs(shapes),
    ]
    table.append((title, medians(everyone, benchmark, seconds=4.0)))
