"""What the body of a rule may call, on one element of an array, as expressions for numba.

Choices between values are NumPy's, NaN and signed zeros included, and of plain comparisons, which
LLVM turns into blends; numba's own np.sign, np.maximum and np.clip branch or promote.
"""

import ast
import builtins
import math
from typing import Any

import numpy as np

# +, −, …: the same as the operator.
OPERATORS: dict[Any, type[ast.operator]] = {
    np.add: ast.Add, np.subtract: ast.Sub, np.multiply: ast.Mult, np.divide: ast.Div,
    np.power: ast.Pow, math.pow: ast.Pow, builtins.pow: ast.Pow, np.bitwise_and: ast.BitAnd,
    np.bitwise_or: ast.BitOr, np.bitwise_xor: ast.BitXor,
}
SIGNS: dict[Any, type[ast.unaryop]] = {
    np.negative: ast.USub, np.positive: ast.UAdd, np.logical_not: ast.Not, np.invert: ast.Invert
}
COMPARISONS: dict[Any, type[ast.cmpop]] = {
    np.less: ast.Lt, np.less_equal: ast.LtE, np.greater: ast.Gt, np.greater_equal: ast.GtE,
    np.equal: ast.Eq, np.not_equal: ast.NotEq,
}

SQRT = "sqrt({0})"
ABSOLUTE = "abs({0})"

# Bit for bit NumPy's.
EXACT: dict[Any, str] = {
    np.sqrt: SQRT,
    math.sqrt: SQRT,
    np.absolute: ABSOLUTE,
    np.fabs: ABSOLUTE,
    math.fabs: ABSOLUTE,
    builtins.abs: ABSOLUTE,
    np.square: "{0} * {0}",
    np.reciprocal: "one / {0}",
    np.sign: "minus_one if {0} < zero else (one if {0} > zero else {0} + zero)",  # 0 of −0
    # of equal numbers the second, which matters to 0 and −0
    np.maximum: "{0} if ({0} > {1}) | ({0} != {0}) else {1}",
    np.minimum: "{0} if ({0} < {1}) | ({0} != {0}) else {1}",
    builtins.max: "{1} if {1} > {0} else {0}",
    builtins.min: "{1} if {1} < {0} else {0}",
    np.copysign: "copysign({0}, {1})",
    math.copysign: "copysign({0}, {1})",
    np.floor: "floor({0})",
    np.ceil: "ceil({0})",
    np.trunc: "trunc({0})",
    np.rint: "rint({0})",
}
# NumPy's numbers, but for the sign of a zero: of 0 and −0 its own choice depends on the place in
# the array (np.fmax(np.zeros(7), -np.zeros(7)) has both, on x86-64 with NumPy 2.4).
UNSIGNED: dict[Any, str] = {
    np.fmax: "{0} if ({0} > {1}) | ({1} != {1}) else {1}",
    np.fmin: "{0} if ({0} < {1}) | ({1} != {1}) else {1}",
}
# np.clip's two ways, for bounds that are one number each and for bounds that are not both.
CLIP_BY_NUMBERS = ("{1} if {0} < {1} else {0}", "{1} if {0} > {1} else {0}")
CLIP_BY_ARRAYS = (EXACT[np.maximum], EXACT[np.minimum])

# As libm rounds them: NumPy's own may differ in the last places.
ROUNDED: dict[Any, str] = {
    getattr(module, name): f"{name}({{0}})"
    for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh",
        "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "arcsin", "arccos", "arctan", "cbrt",
    )
    for module in (np, math)
    if hasattr(module, name)
} | {
    math.asin: "arcsin({0})", math.acos: "arccos({0})", math.atan: "arctan({0})",
    math.asinh: "arcsinh({0})", math.acosh: "arccosh({0})", math.atanh: "arctanh({0})",
    np.arctan2: "arctan2({0}, {1})", math.atan2: "arctan2({0}, {1})",
    np.hypot: "hypot({0}, {1})", math.hypot: "hypot({0}, {1})",
}
POWER = "power({0}, {1})"

CONDITIONS: dict[Any, str] = {
    np.isnan: "{0} != {0}",
    math.isnan: "{0} != {0}",
    np.isinf: "abs({0}) == inf",
    math.isinf: "abs({0}) == inf",
    np.isfinite: "abs({0}) < inf",
    math.isfinite: "abs({0}) < inf",
    np.signbit: "copysign(one, {0}) < zero",
}
LOGIC: dict[Any, type[ast.operator]] = {
    np.logical_and: ast.BitAnd, np.logical_or: ast.BitOr, np.logical_xor: ast.BitXor
}

# What the expressions above call, compiled by numba: each keeps float32.
NAMES: dict[str, Any] = {
    "abs": builtins.abs, "sqrt": math.sqrt, "copysign": math.copysign, "power": math.pow,
    **{name: getattr(np, name) for name in ("floor", "ceil", "trunc", "rint")},
    **{text.partition("(")[0]: getattr(np, text.partition("(")[0]) for text in ROUNDED.values()},
}


def arity(text: str) -> int:
    """Return how many arguments an expression above has."""
    return 2 if "{1}" in text else 1


# What Python may call at every step, on the numbers of that step; and NumPy's ufuncs, and math.
PLAIN: tuple[Any, ...] = (
    abs, min, max, float, int, round, bool, pow, np.clip, np.float32, np.float64
)


def of_numbers(function: object) -> bool:
    """Whether a function may be called on the numbers of a step, in double precision."""
    if isinstance(function, np.ufunc):
        return function.nout == 1
    return getattr(function, "__module__", None) == "math" or any(function is f for f in PLAIN)
