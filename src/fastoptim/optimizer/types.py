"""The types of what a user gives: hyperparameters, parameters, gradients.

A hyperparameter takes a number or a schedule, and a type checker reads it as a number. The rules'
own mathematics reads numbers, since schedules have been asked by then; and ``opt.lr *= 0.5`` would
not be typed otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastoptim.product import Product
from fastoptim.rows import Rows


class Schedule(Protocol):
    """A hyperparameter that changes: a callable from the number of completed updates to a number.

    The first update asks for step 0. Any function of one argument will do, be it a lambda, one of
    `fastoptim.schedules`, or of Optax.

    Examples
    --------
    >>> import fastoptim as fo
    >>> def halved(step: int) -> float:
    ...     return 0.1 * 0.5 ** (step // 100)
    >>> rate: fo.Schedule = halved
    >>> fo.SGD(lr=rate).lr is halved
    True
    """

    def __call__(self, step: int, /) -> SupportsFloat:
        """Return the number for the update that follows `step` completed ones."""
        ...


class Sparse(Protocol):
    """A sparse array or matrix of SciPy, of any format."""

    def tocsr(self) -> Any:
        """Return the same in compressed rows."""
        ...


Param: TypeAlias = NDArray[np.floating[Any]] | np.floating[Any] | float
Grad: TypeAlias = Param | Rows | Product | Sparse | None

Params: TypeAlias = Mapping[Any, Param] | Sequence[Param]
Grads: TypeAlias = Mapping[Any, Grad] | Sequence[Grad]

if TYPE_CHECKING:

    class Number:
        """A hyperparameter that takes a number or a schedule."""

        def __get__(self, optimizer: object, owner: Any) -> float: ...
        def __set__(self, optimizer: object, value: float | Schedule) -> None: ...

    class NumberOrNone:
        """A hyperparameter that takes a number, a schedule or None, which turns it off."""

        def __get__(self, optimizer: object, owner: Any) -> float | None: ...
        def __set__(self, optimizer: object, value: float | Schedule | None) -> None: ...

    class DecayOrNone:
        """The same, or "mean"."""

        def __get__(self, optimizer: object, owner: Any) -> Any: ...
        def __set__(
            self, optimizer: object, value: float | Schedule | Literal["mean"] | None
        ) -> None: ...

else:  # what signatures and help show
    Number: TypeAlias = float | Schedule
    NumberOrNone: TypeAlias = float | Schedule | None
    DecayOrNone: TypeAlias = float | Schedule | Literal["mean"] | None

# Where they are found, and so how help writes them.
Schedule.__module__ = "fastoptim"
