"""What every optimizer has: checked attributes, state by name, and ``update``."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray

from fastoptim.hyperparameters import Checked
from fastoptim.kernels import RULES, Collector

type_of_array = NDArray[np.float32] | NDArray[np.float64]
Arrays = Mapping[Any, Any] | Sequence[Any]


class Slot:
    """A state array per key: ``opt.v["W1"]``, shaped like the parameter, zeros at first.

    The arrays are the live state and may be read and written in place; the mapping itself is
    read-only, since the update goes on with the arrays that it knows.
    """

    name: str

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, optimizer: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, optimizer: "Optimizer", owner: type
    ) -> Mapping[Hashable, NDArray[np.floating[Any]]]: ...
    def __get__(self, optimizer: "Optimizer | None", owner: type) -> Any:
        if optimizer is None:
            return self
        return MappingProxyType(optimizer._collector.slots[self.name])

    def __set__(self, optimizer: "Optimizer", value: object) -> None:
        raise AttributeError(
            f"{self.name} cannot be replaced; write into its arrays instead: "
            f"opt.{self.name}[key][...] = value"
        )


@dataclasses.dataclass(eq=False)
class Optimizer(Checked):
    """The part that all rules share; use one of its subclasses.

    A subclass is a dataclass that says: its hyperparameters (`hyper`), its state (`Slot`s, in
    the kernel's order), the kernels it may use, and its `coefficients`.
    """

    kernels: ClassVar[tuple[str, ...]] = ()
    _slots: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._slots = tuple(name for name, x in vars(cls).items() if isinstance(x, Slot))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_collector", Collector(self._slots))

    _collector: ClassVar[Collector]  # of each instance; a ClassVar only to dataclass's eyes

    @property
    def iter(self) -> int:
        """Number of completed updates."""
        return self._collector.iter

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return self.kernels[0]

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return the scalars that the kernel gets at a parameter's t-th update, t = 1, 2, …."""
        raise TypeError("Optimizer is what the rules share; use one of them, such as fastoptim.SGD")

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Update every parameter in place, in one pass over memory.

        Parameters
        ----------
        params : dict or list
            Arrays of float32 or float64, of any shape and layout, to be written; or Python
            floats, which are replaced in the dict. Any mapping will do.
        grads : dict or list
            For each key of `params` the gradient, of the same shape and dtype, or None to leave
            that parameter, its state and its step count as they are.

        Raises
        ------
        KeyError
            `grads` lacks a key of `params`, or has one that `params` has not.
        ValueError
            A shape differs, a parameter is read-only, two parameters share memory, or every
            gradient is None.
        TypeError
            Something is not an array of float32 or float64 of this machine's byte order, or a
            gradient has another dtype than its parameter.
        RuntimeError
            Another thread is in the middle of an update with this optimizer.

        Notes
        -----
        All is checked before anything is written: a call that raises has changed no parameter,
        no state and no counter.
        """
        self._collector.update(params, grads, RULES[self.kernel], self.coefficients)
