"""What a hyperparameter may be: stated once, beside its default; checked at every assignment."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

SMALLEST_FLOAT32 = float(np.finfo(np.float32).smallest_subnormal)


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of real numbers in the usual notation, such as ``"[0, 1)"``."""

    text: str

    def __contains__(self, x: float) -> bool:
        low, high = (float(end) for end in self.text[1:-1].split(","))
        above = x >= low if self.text[0] == "[" else x > low
        below = x <= high if self.text[-1] == "]" else x < high
        return above and below

    def __call__(self, name: str, value: object) -> float:
        """Return a value as a float, or say why it cannot be this hyperparameter."""
        x = real_number(name, value, f"a number in {self.text}")
        if x not in self:  # a NaN is in no interval
            raise ValueError(f"{name} must be in {self.text}, got {value!r}")
        return x


class Epsilon(Interval):
    """An interval whose small numbers must survive float32, where eps guards a division."""

    def __call__(self, name: str, value: object) -> float:
        """Return a value as a float, or say why it cannot be this hyperparameter."""
        x = super().__call__(name, value)
        if x != 0.0 and float(np.float32(x)) == 0.0:
            raise ValueError(
                f"{name} must be 0 or at least {SMALLEST_FLOAT32:.1e}, below which float32 "
                f"rounds it to 0, got {value!r}"
            )
        return x


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    def __call__(self, name: str, value: object) -> str:
        """Return a value if it is one of the names, or list them."""
        if not isinstance(value, str):
            raise TypeError(f"{name} must be one of {self.names}, got {value!r}")
        if value not in self.names:
            raise ValueError(f"{name} must be one of {self.names}, got {value!r}")
        return value


def real_number(name: str, value: object, expected: str) -> float:
    """Return a number of Python or NumPy, or a 0-d array of one, as a float."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, (bool, np.bool)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name} must be {expected}, got {value!r} ({type(value).__name__})")
    try:
        x = float(value)
    except OverflowError:  # an int beyond 1.8e308
        x = math.inf
    return x


def hyper(default: Any, check: Callable[[str, object], object]) -> Any:
    """Declare a hyperparameter of an optimizer class: its default and what it may be."""
    return dataclasses.field(default=default, metadata={"check": check})
