"""What `trust_ratio` and `constraint` may be."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Never

from fastoptim.optimizer.hyperparameters import Choice, Flag, Interval, real_number
from fastoptim.porting.answers import shown

PER = Choice(("column", "row"))
NORM = Interval("(0, inf)")


class UnitNorm:
    r"""A constraint: each column, or row, of a parameter has the norm 1.

    .. math:: p_u \leftarrow \frac{p_u}{\lVert p_u\rVert}

    A unit of zeros stays as it is. ``constraint="unit_norm"`` stands for ``UnitNorm()``.

    Parameters
    ----------
    per : {"column", "row"}, default "column"
        As for `MaxNorm`.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"words": np.array([[3.0, 4.0], [0.0, 2.0]])}
    >>> opt = fo.SGD(constraint=fo.UnitNorm(per="row"))
    >>> opt.update(params, {"words": np.zeros((2, 2))})
    >>> params["words"]
    array([[0.6, 0.8],
           [0. , 1. ]])
    """

    kind = "unit_norm"
    most: float = 1.0
    per: str

    def __init__(self, per: str = "column") -> None:
        vars(self)["per"] = PER("per", per)

    def __setattr__(self, name: str, value: object) -> Never:
        # an optimizer checks what it is given, and would not see a change of it
        raise AttributeError(
            f"{name} of {self!r} cannot be assigned; assign another constraint to the optimizer"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.per == 'column' else f'per={self.per!r}'})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnitNorm) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash((self.kind, self.most, self.per))

    def plain(self) -> dict[str, Any]:
        """Return what a saved state has in its place."""
        return {"constraint": self.kind, "most": self.most, "per": self.per}


class MaxNorm(UnitNorm):
    r"""A constraint: the norm of each column, or row, of a parameter is at most c.

    .. math:: p_u \leftarrow p_u \min\left(1, \frac{c}{\lVert p_u\rVert}\right)

    Parameters
    ----------
    c : float in (0, inf)
        The largest norm.
    per : {"column", "row"}, default "column"
        Which elements have a norm together. "column": those of one index of the last axis, such as
        the weights into one unit of a layer whose matrix is inputs × outputs. "row": those of one
        index of the first axis, such as one word of an embedding. A parameter with fewer than two
        axes has one norm.

    Notes
    -----
    Keras' MaxNorm multiplies every unit by n / (n + 1e-7) at least; here a unit whose norm is small
    enough stays as it is, to the bit.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    Journal of Machine Learning Research 15 (2014), section 5.1.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"W": np.array([[3.0, 1.0], [4.0, 1.0]])}
    >>> opt = fo.SGD(constraint=fo.MaxNorm(2.5))
    >>> opt.update(params, {"W": np.zeros((2, 2))})
    >>> params["W"]
    array([[1.5, 1. ],
           [2. , 1. ]])
    """

    kind = "max_norm"

    def __init__(self, c: float, per: str = "column") -> None:
        vars(self)["most"] = NORM("c", c)
        super().__init__(per)

    def __repr__(self) -> str:
        return f"MaxNorm({self.most!r}{'' if self.per == 'column' else f', per={self.per!r}'})"


class Constraint:
    """What a constraint may be."""

    names = ("nonnegative", "unit_norm")
    expected = (
        "None, 'nonnegative', 'unit_norm', bounds such as (-1, 1), fastoptim.MaxNorm(c) or "
        "fastoptim.UnitNorm()"
    )

    def __call__(self, name: str, value: object) -> Any:
        """Return a constraint as it is kept, or say what it may be."""
        if value is None or isinstance(value, UnitNorm):
            return value
        if isinstance(value, str) and value in self.names:
            return str(value)
        if isinstance(value, Mapping):
            return self.of_state(name, value)
        if isinstance(value, (tuple, list)):
            low, high = pair(name, value, self.expected)
            if not low <= high:
                raise ValueError(f"{name} must be (low, high) with low <= high, got {value!r}")
            if low == math.inf or high == -math.inf:
                raise ValueError(f"{name} must have a finite number within, got {value!r}")
            return low, high
        kind = ValueError if isinstance(value, str) else TypeError
        made = ""
        if isinstance(value, type) and issubclass(value, UnitNorm):
            made = f"; write fastoptim.{value.__name__}(…)"
        raise kind(f"{name} must be {self.expected}, got {shown(value)}{made}")

    def of_state(self, name: str, saved: Mapping[Any, Any]) -> UnitNorm:
        """Return the constraint that a saved state describes."""
        if saved.get("constraint") == "max_norm":
            return MaxNorm(saved.get("most", math.nan), saved.get("per", ""))
        if saved.get("constraint") == "unit_norm":
            return UnitNorm(saved.get("per", ""))
        raise ValueError(f"{name} must be {self.expected}, got {shown(saved)}")


class TrustRatio(Flag):
    """What a trust ratio may be: on, off, or on within bounds."""

    def __call__(self, name: str, value: object) -> Any:
        """Return True, False, or the two bounds."""
        if isinstance(value, (tuple, list)):
            expected = "True, False, or bounds such as (0, 10)"
            low, high = pair(name, value, expected)
            if not 0 <= low <= high or high == 0:
                raise ValueError(
                    f"{name} must be (low, high) with 0 <= low <= high and high > 0, got {value!r}"
                )
            if low == math.inf:
                raise ValueError(f"{name} must have a finite lower bound, got {value!r}")
            return low, high
        try:
            return super().__call__(name, value)
        except TypeError:
            raise TypeError(
                f"{name} must be True, False, or bounds such as (0, 10), got {shown(value)}"
            ) from None


class NoTrustRatio(TrustRatio):
    """False: a rule has no step that could be scaled."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __call__(self, name: str, value: object) -> Any:
        """Return False, or say why it cannot be on."""
        if super().__call__(name, value) is not False:
            raise ValueError(f"{name} scales the step of a rule, and {self.why}")
        return False


def pair(name: str, value: Sequence[object], expected: str) -> tuple[float, float]:
    """Return two bounds as floats."""
    if len(value) != 2:
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")
    low, high = (real_number(name, x, expected) for x in value)
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")
    return low, high


def trusted(trust_ratio: bool | tuple[float, float]) -> tuple[float, float] | None:
    """Return the bounds of a trust ratio, None if it is off."""
    if isinstance(trust_ratio, tuple):
        return trust_ratio
    return (0.0, math.inf) if trust_ratio else None


def constrained(constraint: Any) -> tuple[Any, ...] | None:
    """Return a constraint as a pipeline takes it."""
    if constraint is None:
        return None
    if constraint == "nonnegative":
        return "bound", 0.0, math.inf
    if isinstance(constraint, tuple):
        return "bound", *constraint
    if constraint == "unit_norm":
        constraint = UnitNorm()
    return constraint.kind, constraint.most, constraint.per == "row"


def plain(value: Any) -> Any:
    """Return a hyperparameter as a saved state has it."""
    return value.plain() if isinstance(value, UnitNorm) else value
