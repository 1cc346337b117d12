"""What a hyperparameter may be: stated once, beside its default; checked at every assignment."""

import dataclasses
import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, ClassVar

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


@dataclasses.dataclass(frozen=True)
class OrNone:
    """None, or what another check lets pass."""

    check: Callable[[str, object], object]

    def __call__(self, name: str, value: object) -> object:
        """Return a value if it is None, or what the other check makes of it."""
        return None if value is None else self.check(name, value)


def switch(name: str, value: object) -> bool:
    """Return a value if it is True or False."""
    if not isinstance(value, (bool, np.bool)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


class Checked:
    """A dataclass whose hyperparameters (`hyper`) are checked at every assignment.

    It has no other attributes that could be assigned, so that a misspelt name is an error.
    """

    _checks: ClassVar[dict[str, Callable[[str, object], object]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._checks = cls._checks | {
            name: field.metadata["check"]
            for name, field in vars(cls).items()
            if isinstance(field, dataclasses.Field)
        }

    def __setattr__(self, name: str, value: object) -> None:
        check = self._checks.get(name)
        if check is not None:
            object.__setattr__(self, name, check(name, value))
        elif hasattr(getattr(type(self), name, None), "__set__"):
            object.__setattr__(self, name, value)  # a property or a slot, which refuses
        else:
            close = get_close_matches(name.lower(), self._checks, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self._checks)}"
            raise AttributeError(f"{type(self).__name__} has no hyperparameter {name!r}; {hint}")


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
