"""The position that momentum will carry the parameters to, and the flag that asks for it."""

from typing import Any, overload

import numpy as np

from fastoptim.base import Arrays, Optimizer
from fastoptim.kernels import RULES
from fastoptim.kernels.points import Points


class AtPosition:
    """``opt.lookahead``: True or False as it was set, and a function of params.

    Both are asked for by the one name: ``Momentum(lookahead=True)`` and ``opt.lookahead(params)``.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def __bool__(self) -> bool:
        return bool(vars(self.optimizer)["lookahead"])

    def __repr__(self) -> str:
        return repr(bool(self))

    def __eq__(self, other: object) -> bool:
        return bool(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, params: Arrays) -> Any:
        """Return where the velocity alone would carry the parameters: p + αv.

        Parameters
        ----------
        params : dict or list
            As for `update`; they are left alone.

        Returns
        -------
        dict or list
            Arrays like the parameters, in memory that the next call uses again.
        """
        optimizer = self.optimizer
        points = vars(optimizer).setdefault("_points", Points(0))
        points.load(params)
        try:
            v = {key: optimizer._collector.slots.get("v", {}).get(key) for key in points.keys}
            if all(a is None for a in v.values()):  # nothing has moved yet
                points.sweep.run(RULES["_copy"], (points.x, points.y))
                return points.point()
            velocities = points.gradients(list(v.values()) if is_list(params) else v)
            alphas = [view.alpha for view in optimizer._views()]  # type: ignore[attr-defined]
            if len(set(alphas)) == 1:
                columns = (points.x, velocities, points.y)
                points.sweep.run(RULES["_combine1"], columns, (alphas[0],))
            else:  # groups with a momentum of their own
                for key, x, y, a in zip(points.keys, points.x, points.y, velocities, strict=True):
                    np.multiply(a, alphas[optimizer._group_of(key)], out=x)
                    np.add(y, x, out=x)
            return points.point()
        finally:
            points.release()


def is_list(params: object) -> bool:
    """Whether parameters are given by position."""
    return isinstance(params, (list, tuple))


class LookAhead:
    """Makes an optimizer's flag `lookahead` the function of that name, too."""

    @overload
    def __get__(self, optimizer: None, owner: type) -> "LookAhead": ...
    @overload
    def __get__(self, optimizer: Optimizer, owner: type) -> AtPosition: ...
    def __get__(self, optimizer: Optimizer | None, owner: type) -> "LookAhead | AtPosition":
        return self if optimizer is None else AtPosition(optimizer)

    def __set__(self, optimizer: Optimizer, value: bool) -> None:
        vars(optimizer)["lookahead"] = value
