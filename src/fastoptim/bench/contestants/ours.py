"""Our own optimizers."""

from typing import Any

import fastoptim
from fastoptim.bench.cases import Case
from fastoptim.bench.names import OURS
from fastoptim.bench.turns import Contestant


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return the optimizer of a case at work."""
    optimizer, (params, grads) = getattr(fastoptim, case.rule)(), new()
    return [Contestant(OURS, lambda: optimizer.update(params, grads), [params, grads])]
