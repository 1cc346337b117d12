"""How the state of a rule is kept: in the parameter's dtype, or as codes of 16 or 8 bits."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from fastoptim.kernels.update.codes import decoded
from fastoptim.optimizer.hyperparameters import Steps, checks_of
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

NAMES = ("bfloat16", "int8")
PLAIN, BFLOAT16, UNSIGNED, SIGNED = 0, 1, 3, 4  # of the enum Code in kernels/table.pxd


class StateDtype:
    """What ``state_dtype`` may be: None, "bfloat16", "int8", or a dtype of that name."""

    def __call__(self, name: str, value: object) -> str | None:
        """Return the name of a dtype, or None, or say what it may be."""
        wanted = f"{name} must be None, 'bfloat16' or 'int8', got {shown(value)}"
        if value is None:
            return None
        try:
            given = value if isinstance(value, str) else np.dtype(value).name  # type: ignore[call-overload]
        except (TypeError, ValueError):  # the latter of a dict
            raise TypeError(wanted) from None
        if given not in NAMES:
            raise ValueError(
                f"{wanted}; None keeps state in the parameter's own dtype"
            )
        return str(given)


class Seed(Steps):
    """The seed of random bits, a number of 64 bits."""

    def __call__(self, name: str, value: object) -> int:
        """Return a value as an int, or say what it may be."""
        seed = super().__call__(name, value)
        if seed >= 2**64:
            raise ValueError(f"{name} must be a whole number below 2**64, got {shown(seed)}")
        return seed


def codes_of(view: "Optimizer", slots: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the code of each slot, or say which slot a dtype does not suit."""
    if view.state_dtype is None:
        return None
    return tuple(code_of(type(view), slot, view.state_dtype) for slot in slots)


def code_of(cls: "type[Optimizer]", slot: str, state_dtype: str) -> int:
    """Return how a rule's slot is kept."""
    declared = getattr(cls, slot)
    if declared.whole:
        return PLAIN
    reason = declared.exact or (state_dtype == "int8" and declared.not_in_8_bits)
    if reason:
        other = "None" if declared.exact else "'bfloat16'"
        raise ValueError(
            f"state_dtype={state_dtype!r} does not suit {cls.__name__}'s {slot}: {reason}; use "
            f"state_dtype={other}"
        )
    if state_dtype == "bfloat16":
        return BFLOAT16
    return SIGNED if declared.signed else UNSIGNED


def check_slots(opt: "Optimizer") -> None:
    """Refuse a state_dtype that does not suit a slot, where no schedule chooses the slots."""
    values = {name: vars(opt)[name] for name in checks_of(type(opt))}
    for group in ({}, *(group.hyperparameters for group in opt.groups)):
        view = object.__new__(type(opt))
        vars(view).update(values)
        vars(view).update(group)
        if view.state_dtype is None or any(callable(x) for x in vars(view).values()):
            continue
        codes_of(view, view.kernels[view.kernel])


class Int8Array(NDArrayOperatorsMixin):
    """State of 8 bits per number: ``opt.m["W"]`` of an optimizer with ``state_dtype="int8"``.

    A number is :math:`a (f - 1) / (F - 1)`, where a is the largest absolute value of its block, f a
    float of at least 1 with 3 bits of fraction, and F the largest of them: 2³¹ · 1.875 of unsigned
    codes, 2¹⁵ · 1.875 of codes with a sign. A code counts the f from 1 on. A block has at most 256
    numbers in C order and does not span rows, which are what has one index of the first axis.

    Attributes
    ----------
    codes : array of uint8, shaped like the parameter
    largest : array of float32
        One per block.
    signed : bool
    shape, ndim, size, nbytes
        As of an array; `nbytes` is that of the codes and of what the blocks have in common.

    Notes
    -----
    ``np.asarray(a)`` and ``a[...]`` give the numbers as a new array of float32; operators and
    NumPy's functions take them so, too. Both arrays may be read; to change state, decode it, and
    load a state that has been changed.
    """

    __slots__ = ("codes", "largest", "signed")

    def __init__(
        self, codes: NDArray[np.uint8], largest: NDArray[np.float32], signed: bool
    ) -> None:
        self.codes, self.largest, self.signed = codes.view(), largest.view(), signed
        self.codes.flags.writeable = self.largest.flags.writeable = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's shape."""
        return self.codes.shape

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return self.codes.ndim

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.codes.size

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.codes.nbytes + self.largest.nbytes

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """The dtype of the numbers that the codes stand for."""
        return np.dtype(np.float32)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the numbers of int8 state are made when they are asked for")
        code = SIGNED if self.signed else UNSIGNED
        return decoded(code, self.codes, self.largest, np.float32 if dtype is None else dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(one, Int8Array) for one in options.get("out", ())):
            raise not_written()
        given = [np.asarray(x) if isinstance(x, Int8Array) else x for x in inputs]
        return getattr(ufunc, method)(*given, **options)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise not_written()

    def __repr__(self) -> str:
        kind = "signed" if self.signed else "unsigned"
        return f"Int8Array(shape={self.shape}, {kind}, nbytes={self.nbytes})"


def not_written() -> TypeError:
    """Return what to say of writing into state of 8 bits."""
    return TypeError(
        "int8 state cannot be written in place: a block's numbers have their largest in common; "
        "load the state into an optimizer without state_dtype, change it there, and load its state "
        "here, both with convert=True"
    )


def as_seen(
    state: Mapping[str, Any], slot: str, coding: str | None, signed: bool
) -> Any:
    """Return what a user sees of a slot: an array, or what stands for one; None without one."""
    array = state.get(slot)
    if array is None or coding is None or array.dtype not in (np.uint16, np.uint8):
        return None if array is None else array.view()
    if coding == "int8":
        return Int8Array(array, state[f"{slot}.largest"], signed)
    return array.view(bfloat16())


def bfloat16() -> np.dtype[Any]:
    """Return NumPy's dtype for bfloat16, or say where it comes from."""
    try:
        import ml_dtypes
    except ImportError as problem:
        raise ImportError(
            "NumPy alone has no bfloat16, which this state is kept in; to see it, "
            "pip install 'fastoptim[lowbits]' (the package ml_dtypes)"
        ) from problem
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def numbers_of(
    state: Mapping[str, Any], slot: str, coding: str | None, signed: bool, dtype: DTypeLike
) -> Any:
    """Return a slot as numbers of a dtype: the array itself where it is not kept as codes."""
    array = state.get(slot)
    if array is None or coding is None or array.dtype not in (np.uint16, np.uint8):
        return array
    code = BFLOAT16 if coding == "bfloat16" else SIGNED if signed else UNSIGNED
    return decoded(code, array, state.get(f"{slot}.largest"), dtype)
