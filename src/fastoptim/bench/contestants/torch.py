"""torch.optim, fused where it can be, and as it comes."""

from typing import Any

import fastoptim
from fastoptim.bench.cases import Case
from fastoptim.bench.turns import Contestant

# Their momentum keeps the learning rate outside the velocity, which moves the same memory.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.01}),
    "Momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "Nesterov": ("SGD", {"lr": 0.01, "momentum": 0.9, "nesterov": True}),
    "AdaGrad": ("Adagrad", {"lr": 0.01}),
    "RMSprop": ("RMSprop", {"lr": 0.01}),
    "Adam": ("Adam", {"lr": 0.001}),
}
FUSED = ("SGD", "Adagrad", "Adam")  # what torch fuses on the CPU


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return the optimizer at work on as many threads as ours."""
    import torch

    torch.set_num_threads(fastoptim.get_num_threads())
    kind, settings = RULES[case.rule]

    def at_work(name: str, **how: Any) -> Contestant:
        arrays, grads = new()
        params = [torch.nn.Parameter(torch.from_numpy(a)) for a in arrays.values()]
        for p, g in zip(params, grads.values(), strict=True):
            p.grad = torch.from_numpy(g)
        optimizer = getattr(torch.optim, kind)(params, **settings, **how)
        return Contestant(name, optimizer.step, params)

    everyone = [at_work("torch")]
    if kind in FUSED:
        everyone.append(at_work("torch fused", fused=True))
    return everyone
