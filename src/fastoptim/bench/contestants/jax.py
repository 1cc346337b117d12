"""Optax, jitted as a whole, with its buffers donated."""

from typing import Any

from fastoptim.bench.cases import Case
from fastoptim.bench.turns import Contestant

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("sgd", {"learning_rate": 0.01}),
    "Momentum": ("sgd", {"learning_rate": 0.01, "momentum": 0.9}),
    "Nesterov": ("sgd", {"learning_rate": 0.01, "momentum": 0.9, "nesterov": True}),
    "AdaGrad": ("adagrad", {"learning_rate": 0.01}),
    "RMSprop": ("rmsprop", {"learning_rate": 0.01, "decay": 0.99}),
    "Adam": ("adam", {"learning_rate": 0.001}),
}


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return the optimizer at work; the gradients stay on its side, as after jax.grad."""
    import jax
    import optax

    if case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    kind, settings = RULES[case.rule]
    optimizer = getattr(optax, kind)(**settings)

    def both(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, grads = ({key: jax.numpy.array(a) for key, a in of.items()} for of in new())
    step = jax.jit(both, donate_argnums=(0, 1))
    now = [params, optimizer.init(params)]

    def call() -> None:
        now[:] = step(*now, grads)
        jax.block_until_ready(now)

    return [Contestant("Optax jitted", call, now)]
