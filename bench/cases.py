"""What the suites share with ``fastoptim bench``: its contestants, and sets of parameter shapes."""

from fastoptim.bench.cases import KEYS, Case
from fastoptim.bench.contestants.numpy import Adam as AdamWithOut
from fastoptim.bench.contestants.stream import Stream, bare
from fastoptim.bench.turns import Contestant

__all__ = ["CASES", "AdamWithOut", "Contestant", "Stream", "arrays", "bare", "with_dicts"]

SHAPES = (*KEYS, ((1_000_000,),), ((50_000_000,),))
CASES = {case.title: case for case in (Case("Adam", "float32", shapes) for shapes in SHAPES)}


def arrays(shapes, seed):
    return Case("Adam", "float32", tuple(shapes)).arrays(seed)


def with_dicts(name, optimizer, shapes):
    params, grads = arrays(shapes, 0), arrays(shapes, 1)
    return Contestant(name, lambda: optimizer.update(params, grads), [params, grads])
