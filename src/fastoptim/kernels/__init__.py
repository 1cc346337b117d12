"""The compiled part: the rules for this processor, and the loops that run them.

The rules are compiled once per instruction set. The best one that was built and that this
processor has is imported here; ``FASTOPTIM_ISA`` names another. All give the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels import one_array
from fastoptim.kernels.instruction_sets import PASSES as PASSES
from fastoptim.kernels.instruction_sets import RULES, available_isas, chosen_isa, use
from fastoptim.kernels.update.row_numbers import coalesced_rows
from fastoptim.porting.answers import shown

__all__ = ["ISA", "RULES", "available_isas", "capsule", "step"]


ISA: str = chosen_isa()
use(ISA)


def coalesced(
    name: str, index: NDArray[Any], values: NDArray[Any], table: int, length: int
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return the distinct rows of a gradient in order, and their sums; see `coalesced_rows`."""
    return coalesced_rows(PASSES["add"], name, index, values, table, length)


def capsule(name: str) -> object:
    """Return a rule as a PyCapsule named "fastoptim.Rule" around its C struct.

    For C, ctypes and numba; a Cython client cimports `find_rule` instead. The capsule's pointer is
    valid as long as the process lives; include/fastoptim.h (in `fastoptim.get_include`) declares
    what it points to.

    Parameters
    ----------
    name : str
        Such as "adam".

    Examples
    --------
    >>> from fastoptim import kernels
    >>> "fastoptim.Rule" in repr(kernels.capsule("adam"))
    True
    """
    return named(name)


def named(rule: object) -> object:
    """Return the capsule of a rule's name, or list the names."""
    if not isinstance(rule, str) or rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {shown(rule)}")
    return RULES[rule]


Array = NDArray[np.float32] | NDArray[np.float64]


def step(
    rule: object, param: Array, grad: Array, state: Sequence[Array], coefficients: Sequence[float]
) -> None:
    """Apply a rule once to one array, in place.

    Parameters
    ----------
    rule : str
        A key of ``fastoptim.kernels.RULES``, such as "adam".
    param : array of shape (n,), float32 or float64, contiguous
        Updated in place. Give a larger array as ``W.reshape(-1)``, a view of the same memory.
    grad : array of shape (n,), contiguous
    state : sequence of arrays of shape (n,), contiguous
        One per slot of the rule, in its order; updated in place.
    coefficients : sequence of float
        The rule's scalars, as ``coefficients(t)`` of its optimizer gives them.

    Raises
    ------
    ValueError
        An unknown rule, a wrong number of arrays or coefficients, a wrong size, a read-only or
        non-contiguous array, arrays that share memory, a coefficient that is not finite.
    TypeError
        Something is not an array, or the dtypes differ or are not float32 or float64; a
        coefficient is no number.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> from fastoptim.kernels import step
    >>> p, g = np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    >>> m, v = np.zeros_like(p), np.zeros_like(p)
    >>> for t in (1, 2):
    ...     step("adam", p, g, (m, v), fo.Adam(lr=0.1).coefficients(t))
    >>> p
    array([0.8000011, 0.8000011, 0.8000011], dtype=float32)
    """
    one_array.step(named(rule), param, grad, state, coefficients)
