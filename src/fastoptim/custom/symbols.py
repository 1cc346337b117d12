"""What stands for a value while a rule's body is walked."""

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Const:
    """A number that is known at definition."""

    value: Any

    def __eq__(self, other: object) -> bool:  # 0 is not −0, and NaN is NaN
        return isinstance(other, Const) and repr(self.value) == repr(other.value)


@dataclass(frozen=True)
class Number:
    """A number that is known at each step, by its name among the lines for Python."""

    name: str


@dataclass(frozen=True)
class Element:
    """A value of the array's dtype, by its name among the lines for numba."""

    name: str


@dataclass(frozen=True)
class Condition:
    """A truth value of an element, by its name among the lines for numba."""

    name: str


@dataclass(frozen=True, eq=False)
class Known:
    """An object of the user's program, such as np.sqrt."""

    value: Any
    name: str


@dataclass(frozen=True)
class Missing:
    """What a name stands for where only one side of an ``if`` has given it a value."""


Value: TypeAlias = Const | Number | Element | Condition | Known | Missing | tuple["Value", ...]
