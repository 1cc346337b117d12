"""The optimizers of scikit-learn's multilayer perceptrons: SGD and Adam."""

from typing import Any

from fastoptim.bench.cases import Case
from fastoptim.bench.turns import Contestant

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGDOptimizer", {"learning_rate_init": 0.01, "momentum": 0.0, "nesterov": False}),
    "Momentum": ("SGDOptimizer", {"learning_rate_init": 0.01, "nesterov": False}),
    "Nesterov": ("SGDOptimizer", {"learning_rate_init": 0.01}),
    "Adam": ("AdamOptimizer", {"learning_rate_init": 0.001}),
}


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return the optimizer at work, nobody where it has none for the rule."""
    from sklearn.neural_network import _stochastic_optimizers as optimizers

    if case.rule not in RULES:
        return []
    kind, settings = RULES[case.rule]
    params, grads = (list(of.values()) for of in new())
    optimizer = getattr(optimizers, kind)(params, **settings)
    return [
        Contestant(
            "scikit-learn", lambda: optimizer.update_params(params, grads), [params, grads]
        )
    ]
