"""thinc, the library under spaCy: SGD and Adam, float32 alone."""

from typing import Any

from fastoptim.bench.cases import Case
from fastoptim.bench.turns import Contestant


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return the optimizer at work, nobody where it has none for the rule."""
    from thinc import optimizers

    if case.rule not in ("SGD", "Adam") or case.dtype != "float32":
        return []
    params, grads = new()
    if case.rule == "SGD":
        optimizer = optimizers.SGD(0.01, L2=0.0, grad_clip=0.0)
    else:
        optimizer = optimizers.Adam(0.001, L2=0.0, grad_clip=0.0)

    def call() -> None:
        for k, (key, p) in enumerate(params.items()):
            params[key], _ = optimizer((k, key), p, grads[key])
        optimizer.step_schedules()

    return [Contestant("thinc", call, [params, grads])]
