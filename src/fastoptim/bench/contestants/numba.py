"""A loop compiled by numba, on all threads where there is work for them."""

import math
from functools import cache
from typing import Any

import numpy as np

import fastoptim
from fastoptim.bench.cases import Case
from fastoptim.bench.turns import Contestant

PARALLEL = 65_536  # elements of an array from which more than one thread pays here, too

# One element of each rule: p, g, the state s and r, the numbers c0, c1, … of the step.
BODIES = {
    "SGD": "p[i] -= c0 * g[i]",
    "Momentum": "s[i] = c1 * s[i] - c0 * g[i]; p[i] += s[i]",
    "Nesterov": "p[i] += c2 * s[i] - c3 * g[i]; s[i] = c1 * s[i] - c0 * g[i]",
    "AdaGrad": "s[i] += g[i] * g[i]; p[i] -= c0 * g[i] / (math.sqrt(s[i]) + c1)",
    "RMSprop": "s[i] = c2 * s[i] + c3 * g[i] * g[i]; "
               "p[i] -= c0 * g[i] / (math.sqrt(s[i]) + c1)",
    "Adam": "s[i] += c2 * (g[i] - s[i]); r[i] += c3 * (g[i] * g[i] - r[i]); "
            "p[i] -= c0 * s[i] / (math.sqrt(r[i]) + c1)",
}
NUMBERS: dict[str, tuple[float, ...]] = {
    "SGD": (0.01,),
    "Momentum": (0.01, 0.9),
    "Nesterov": (0.01, 0.9, 0.81, 0.019),
    "AdaGrad": (0.01, 1e-7),
    "RMSprop": (0.01, 1e-7, 0.99, 1 - 0.99),
}


@cache
def loop(rule: str, parallel: bool) -> Any:
    """Return the loop of a rule, compiled when it is called with a dtype for the first time."""
    import numba

    what = "numba.prange" if parallel else "range"
    names = ", ".join(f"c{k}" for k in range(len(numbers(rule, 1))))
    source = f"def loop(p, g, s, r, {names}):\n for i in {what}(p.size):\n  {BODIES[rule]}\n"
    made: dict[str, Any] = {"numba": numba, "math": math}
    exec(source, made)
    return numba.njit(parallel=parallel, error_model="numpy")(made["loop"])


def numbers(rule: str, t: int) -> tuple[float, ...]:
    """Return what a step's loop is called with."""
    if rule != "Adam":
        return NUMBERS[rule]
    return 0.001 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t), 1e-7, 1 - 0.9, 1 - 0.999


def contestants(case: Case, new: Any) -> list[Contestant]:
    """Return the loop at work, key after key."""
    import numba

    config: Any = numba.config
    numba.set_num_threads(min(fastoptim.get_num_threads(), config.NUMBA_NUM_THREADS))
    params, grads = new()
    rows = [
        (loop(case.rule, p.size >= PARALLEL), p.reshape(-1), grads[key].reshape(-1),
         *(np.zeros(p.size if k < case.slots else 1, p.dtype) for k in range(2)))
        for key, p in params.items()
    ]
    t, rounded = 0, np.dtype(case.dtype).type

    def call() -> None:
        nonlocal t
        t += 1
        c = tuple(map(rounded, numbers(case.rule, t)))
        for run, p, g, s, r in rows:
            run(p, g, s, r, *c)

    return [Contestant("numba", call, rows)]
