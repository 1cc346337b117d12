"""What stands for a value while a rule's body is walked, and Python's operators by their syntax."""

import ast
import operator
from collections.abc import Callable
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

# Python's operators by syntax: the sign, and the function for what is known at definition.
BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv), ast.Pow: ("**", operator.pow),
    ast.FloorDiv: ("//", operator.floordiv), ast.Mod: ("%", operator.mod),
    ast.BitAnd: ("&", operator.and_), ast.BitOr: ("|", operator.or_),
    ast.BitXor: ("^", operator.xor), ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift), ast.MatMult: ("@", operator.matmul),
}
UNARY: dict[type[ast.unaryop], tuple[str, Callable[[Any], Any]]] = {
    ast.USub: ("-", operator.neg), ast.UAdd: ("+", operator.pos), ast.Not: ("not ", operator.not_),
    ast.Invert: ("~", operator.invert),
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge), ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne),
}
ELEMENTWISE = (ast.Add, ast.Sub, ast.Mult, ast.Div)
LOGICAL = (ast.BitAnd, ast.BitOr, ast.BitXor)
