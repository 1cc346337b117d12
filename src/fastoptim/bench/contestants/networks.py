"""Who trains the networks: families, each of which has a process of its own."""

import os
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from typing import Any

import fastoptim
from fastoptim import listings
from fastoptim.bench.contestants.numpy import Adam as AdamWithOut
from fastoptim.bench.names import LISTING, NO_UPDATE, OURS, PRODUCTS, SHARED, WITH_OUT
from fastoptim.bench.networks import NETWORKS, Network, Other, Times, Trained, check, data
from fastoptim.demo import mlp


def of_numpy(name: str, fixed: bool) -> dict[str, Trained]:
    """Return NumPy's: without an update, with the listing, with ``out=``, with this library.

    Ours is there as it comes, with products as gradients, with shared threads and, where `fixed`
    says so, with each count of threads. Sharing needs NumPy's OpenBLAS.
    """
    sizes, batch = NETWORKS[name]
    check(name, sizes, batch, fastoptim.Adam(), listings.Adam())
    check(name, sizes, batch, fastoptim.Adam(), listings.Adam(), products=True)

    def network(optimizer: Any, **how: Any) -> Network:
        return Network(sizes, batch, optimizer, **how)

    processors = os.cpu_count() or 1
    counts = [2**k for k in range(processors.bit_length()) if fixed and 2**k <= processors]
    found: dict[str, Trained] = {
        OURS: network(fastoptim.Adam()),
        PRODUCTS: network(fastoptim.Adam(), products=True),
        **{f"fixed {n}": network(fastoptim.Adam(), threads=n) for n in counts},
        LISTING: network(listings.Adam()),
        WITH_OUT: network(AdamWithOut()),
        NO_UPDATE: network(None),
    }
    try:
        fastoptim.share_threads().close()
    except RuntimeError:  # another BLAS
        return found
    return found | {SHARED: network(fastoptim.Adam(), share=True)}


def of_torch(name: str, fixed: bool) -> dict[str, Trained]:
    """Return torch's: autograd, and Adam as it comes and fused."""
    import torch

    sizes, batch = NETWORKS[name]

    def contestant(fused: bool | None) -> Trained:
        torch.manual_seed(0)
        layers: list[Any] = []
        for rows, columns in pairwise(sizes):
            layers += [torch.nn.Linear(rows, columns), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1])
        batches = data(sizes, batch, torch.from_numpy)
        opt = torch.optim.Adam(net.parameters(), fused=fused)
        cross_entropy = torch.nn.CrossEntropyLoss()

        def loss_of(x: Any, t: Any) -> Any:
            return cross_entropy(net(x), t)

        def step() -> Times:
            x, t = next(batches)
            start = perf_counter()
            opt.zero_grad()
            loss_of(x, t).backward()
            between = perf_counter()
            opt.step()
            end = perf_counter()
            return end - start, end - between

        return Other(step, lambda: float(loss_of(*next(batches)).item()))

    return {"torch": contestant(None), "torch fused": contestant(True)}


def of_jax(name: str, fixed: bool) -> dict[str, Trained]:
    """Return JAX's: gradient and Optax' update in one jitted call, buffers donated."""
    import jax
    import optax
    from jax import numpy as jnp

    sizes, batch = NETWORKS[name]
    batches = data(sizes, batch, jnp.asarray)
    opt = optax.adam(1e-3)
    depth = len(sizes) - 1

    def loss_of(params: Any, x: Any, t: Any) -> Any:
        a = x
        for k in range(1, depth + 1):
            a = a @ params[f"W{k}"] + params[f"b{k}"]
            a = jnp.maximum(a, 0) if k < depth else a
        return optax.softmax_cross_entropy_with_integer_labels(a, t).mean()

    def both(params: Any, state: Any, x: Any, t: Any) -> Any:
        grads = jax.grad(loss_of)(params, x, t)
        updates, state = opt.update(grads, state)
        return optax.apply_updates(params, updates), state

    call = jax.jit(both, donate_argnums=(0, 1))
    params = {key: jnp.array(a) for key, a in mlp.init(sizes, 0).items()}
    now: list[Any] = [params, opt.init(params)]

    def step() -> Times:
        x, t = next(batches)
        start = perf_counter()
        now[:] = call(*now, x, t)
        jax.block_until_ready(now[0])
        return perf_counter() - start, float("nan")

    return {"JAX": Other(step, lambda: float(loss_of(now[0], *next(batches))))}


FAMILIES: dict[str, Callable[[str, bool], dict[str, Trained]]] = {
    "numpy": of_numpy, "torch": of_torch, "jax": of_jax,
}
