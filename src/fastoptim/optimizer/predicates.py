"""Predicates of groups: functions of a key and of what a parameter is, apart from its elements."""

import dataclasses
import inspect
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from fastoptim.kernels.update.checks.arrays import is_scalar
from fastoptim.porting.answers import shown


@dataclasses.dataclass(frozen=True, slots=True)
class ParamInfo:
    """What a predicate sees of a parameter: what does not change while it is trained.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        float32 or float64.
    ndim, size, nbytes : int
        Number of axes, of elements, and of their bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, p: object) -> Self | None:
        """Return what is to be seen of a parameter; None of what cannot be one."""
        if isinstance(p, np.ndarray):
            p = np.ndarray.view(p, np.ndarray)  # a subclass may say of itself what it likes
            return cls(p.shape, p.dtype)
        return cls((), np.asarray(p).dtype) if is_scalar(p) else None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the elements."""
        return self.size * self.dtype.itemsize

    if not TYPE_CHECKING:  # a type checker knows the attributes

        def __getattr__(self, name):
            raise AttributeError(
                f"a predicate's parameter has shape, dtype, ndim, size and nbytes, and no "
                f"{name!r}: elements change in training, and a key's group does not"
            )


Predicate: TypeAlias = Callable[[Any, ParamInfo], bool]


def check_predicate(predicate: Callable[..., object]) -> None:
    """Refuse what cannot be called with a key and a parameter."""
    try:
        signature = inspect.signature(predicate)
    except (TypeError, ValueError):  # of some built-in functions nothing is known
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"a predicate is called with a key and its parameter, such as lambda key, p: "
            f"p.ndim < 2; {name_of(predicate)} takes {signature}"
        ) from None


def answer(predicate: Predicate, key: object, p: ParamInfo) -> bool:
    """Return what a predicate says of a key, which must be True or False."""
    try:
        picked = predicate(key, p)
        if not isinstance(picked, (bool, np.bool)):
            raise TypeError(
                f"a predicate must return True or False, got {shown(picked)} "
                f"({type(picked).__name__})"
            )
    except Exception as problem:
        problem.add_note(f"the group's predicate {name_of(predicate)} was asked for {key!r}")
        raise
    return bool(picked)


def name_of(pattern: object) -> str:
    """Return a pattern in quotes, or a predicate's name; of a lambda, where it is written."""
    if not callable(pattern):
        return repr(pattern)
    name, code = getattr(pattern, "__name__", None), getattr(pattern, "__code__", None)
    if name == "<lambda>" and code is not None:
        return f"<lambda at {os.path.basename(code.co_filename)}:{code.co_firstlineno}>"
    return name or shown(pattern)
