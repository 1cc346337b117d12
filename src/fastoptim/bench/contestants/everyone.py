"""All contestants of a case, and who is not installed."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fastoptim.bench.cases import Arrays, Case
from fastoptim.bench.contestants import ours, stream
from fastoptim.bench.turns import Contestant

# What has to be importable for each; fastoptim and the limit are always there.
PEERS: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "torch": ("torch",),
    "jax": ("jax", "optax"),
    "numba": ("numba",),
    "sklearn": ("sklearn",),
    "thinc": ("thinc",),
}
TWICE = ("numpy", "torch")  # who takes part in two forms


def missing(peer: str) -> list[str]:
    """Return the modules that a peer needs and that are not installed."""
    return [
        name for name in PEERS[peer]
        if (name in sys.modules and sys.modules[name] is None)
        or (name not in sys.modules and find_spec(name) is None)
    ]


def how_many(peers: Sequence[str]) -> int:
    """Return how many contestants there are at most, ours and the limit included."""
    return 2 + sum(2 if peer in TWICE else 1 for peer in peers)


def new_arrays(case: Case) -> Any:
    """Return what makes parameters and gradients for one contestant after the other."""
    params, grads = case.arrays(0), case.arrays(1)

    def new() -> tuple[Arrays, Arrays]:
        return tuple({key: a.copy() for key, a in of.items()} for of in (params, grads))  # type: ignore[return-value]

    return new


def everyone(case: Case, peers: Sequence[str], failed: dict[str, str]) -> list[Contestant]:
    """Return who takes part in a case; fastoptim first, the limit last.

    Parameters
    ----------
    case : Case
        Rule, dtype, shapes.
    peers : sequence of str
        Keys of `PEERS`, installed.
    failed : dict of peer to reason
        Gains who cannot do it in spite of that; they do not take part from then on.
    """
    new = new_arrays(case)
    found = ours.contestants(case, new)
    for peer in peers:
        if peer in failed:
            continue
        try:
            module = import_module(f"fastoptim.bench.contestants.{peer}")
            those = module.contestants(case, new)
            for one in those:
                one.call()  # compiles, where there is something to compile
            found += those
        except Exception as problem:  # another version of it, say: the others go on
            failed[peer] = f"{type(problem).__name__}: {problem}".split("\n")[0]
    return [*found, stream.contestant(case, *new())]
