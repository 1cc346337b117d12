"""Functions of one or two parameters whose pictures are known: what rules are tried on.

>>> import fastoptim as fo
>>> fo.trace(fo.SGD(lr=0.01), fo.problems.valley.start(), fo.problems.valley)
<Trace of SGD(lr=0.01): 100 steps, loss 437400 → 569.849>
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Problem:
    """A function of named numbers, with its gradient; call it as `opt.step` calls fn.

    Attributes
    ----------
    name, formula : str
        What it is called on the command line, and what it is.
    minima : tuple of tuples of float
        Where it is smallest, the deepest first.
    """

    name: str
    formula: str
    loss: Callable[..., Any]
    gradients: tuple[Callable[..., Any], ...]
    first: Mapping[str, float]
    minima: tuple[tuple[float, ...], ...]

    def __call__(self, params: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
        """Return the loss, and the gradient of every parameter as an array of no dimensions."""
        at = [params[key] for key in self.first]
        with np.errstate(over="ignore", invalid="ignore"):  # of a path that leaves for infinity
            grads = {k: np.array(g(*at)) for k, g in zip(self.first, self.gradients, strict=True)}
            return float(self.loss(*at)), grads

    def start(self, *at: float) -> dict[str, NDArray[np.float64]]:
        """Return new parameters, at the usual start if no other is given.

        >>> rosenbrock.start(0, 2)
        {'x': array(0.), 'y': array(2.)}
        """
        if at and len(at) != len(self.first):
            n, m = len(self.first), len(at)
            raise ValueError(
                f"{self.name} has {n} parameter{'s' * (n > 1)} ({', '.join(self.first)}), "
                f"got {m} number{'s' * (m > 1)} to start from"
            )
        values = at or self.first.values()
        return {k: np.array(x, float) for k, x in zip(self.first, values, strict=True)}


valley = Problem(
    "valley", "x² + 50y²",
    lambda x, y: x * x + 50 * (y * y),
    (lambda x, y: 2 * x, lambda x, y: 100 * y),
    {"x": 180.0, "y": 90.0}, ((0.0, 0.0),),
)
bowl = Problem(
    "bowl", "x²/20 + y²",
    lambda x, y: x * x / 20 + y * y,
    (lambda x, y: x / 10, lambda x, y: 2 * y),
    {"x": -7.0, "y": 2.0}, ((0.0, 0.0),),
)
rosenbrock = Problem(
    "rosenbrock", "(1 − x)² + 100(y − x²)²",
    lambda x, y: (1 - x) * (1 - x) + 100 * ((y - x * x) * (y - x * x)),
    (lambda x, y: 2 * (x - 1) - 400 * x * (y - x * x), lambda x, y: 200 * (y - x * x)),
    {"x": -1.2, "y": 1.0}, ((1.0, 1.0),),
)
two_minima = Problem(
    "two-minima", "w⁴/4 − 2w³/3 − w²/2 + 2w",
    lambda w: ((w / 4 - 2 / 3) * w - 1 / 2) * w * w + 2 * w,
    (lambda w: (w - 2) * (w - 1) * (w + 1),),
    {"w": 3.0}, ((-1.0,), (2.0,)),
)

ALL = {problem.name: problem for problem in (valley, bowl, rosenbrock, two_minima)}
