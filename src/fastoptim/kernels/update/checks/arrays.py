"""What one parameter array must be, and one dense gradient."""

import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from fastoptim.porting.tensors import tensor_hint


def is_masked(a: object) -> bool:
    """Whether a is a masked array.

    np.ma is imported when it is first touched; an import here, in the middle of an update, would
    leave its lock held in a child that another thread forks at that moment.
    """
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(a, getattr(ma, "MaskedArray", ()))


def is_half(a: object) -> bool:
    """Whether a is an array of float16 or bfloat16, in this machine's byte order."""
    return (
        isinstance(a, np.ndarray) and a.dtype.itemsize == 2 and not is_masked(a)
        and a.dtype.name in ("float16", "bfloat16") and a.dtype.isnative
    )


def checked_array(name: str, a: Any) -> Any:
    """Return a as a plain ndarray of float32 or float64, or say what it should have been."""
    if is_masked(a):
        raise TypeError(
            f"{name} is a masked array, and whether masked elements shall move is not said; "
            f"pass {name}.filled(0) or {name}.data"
        )
    if not isinstance(a, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array of float32 or float64, got {type(a).__name__}"
            f"{tensor_hint(a)}"
        )
    a = plain(a)
    dtype = a.dtype
    if dtype.type is not np.float32 and dtype.type is not np.float64:
        of_update = ""
        if name.startswith("params") and is_half(a):
            of_update = " (update takes 16 bits, not so look-ahead, SAM, Runge–Kutta methods)"
        raise TypeError(
            f"{name} must be float32 or float64, got {dtype}{of_update}; "
            f"convert it first: {name}.astype(np.float32)"
        )
    if not dtype.isnative:
        raise TypeError(
            f"{name} has dtype {dtype.str}, which is not this machine's byte order; "
            f"convert it first: {name}.astype('={dtype.str[1:]}')"
        )
    return a


def plain(a: Any) -> Any:
    """Return an array as an ndarray of the same memory.

    A subclass may report a wrong dtype, shape or flags, and memory would be read accordingly.
    """
    return a if type(a) is np.ndarray else np.ndarray.view(a, np.ndarray)


def is_scalar(x: object) -> bool:
    """Whether x is a real number of Python or NumPy (a bool is not)."""
    return isinstance(x, (int, float, np.floating, np.integer)) and not isinstance(x, bool)


def checked_param(key: object, p: Any, half: bool = False) -> Any:
    """Return a parameter as an array that may be written; a float in a new 0-d array.

    It is of float32 or float64, or where `half` ones are admitted of float16 or bfloat16.
    """
    name = f"params[{key!r}]"
    if isinstance(p, (float, np.floating)):
        return checked_array(name, np.array(p))
    if isinstance(p, (int, np.integer)):
        raise TypeError(
            f"{name} must be a float or an array of float32 or float64, got {p!r} "
            f"({type(p).__name__}); an integer cannot hold what an update makes of it"
        )
    if is_nested(p):
        raise TypeError(nested(key, p))
    a = plain(p) if half and is_half(p) else checked_array(name, p)
    if not a.flags.writeable:
        raise ValueError(
            f"{name} is read-only, and an update writes in place; "
            f"pass a writable array (a copy, or a memmap opened with mode 'r+')"
        )
    return a


def is_nested(x: object) -> bool:
    """Whether x holds arrays instead of being one; a list of numbers is an array not yet made."""
    if isinstance(x, (list, tuple)):
        return any(isinstance(one, np.ndarray) or is_nested(one) for one in x)
    return isinstance(x, Mapping)


def nested(key: object, p: Any) -> str:
    """Return what to say of a dict or a list where an array should be: how to flatten it."""
    found = list(islice(leaves(str(key), f"params[{key!r}]", p), 3))
    shown = ", ".join(f"{path!r}: {place}" for path, place in found[:2])
    more = ", …" if len(found) > 2 else ""
    return (
        f"params[{key!r}] is a {type(p).__name__}, and parameters are arrays by one key each; "
        f"flatten params once, and grads in the same way: {{{shown}{more}}}. The arrays stay the "
        f"same, so that an update is seen in the nested {type(p).__name__}s, too"
    )


def leaves(path: str, place: str, x: Any) -> Iterator[tuple[str, str]]:
    """Yield a flat key for each thing in nested containers, and where it is."""
    if isinstance(x, Mapping):
        items = list(x.items())
    elif isinstance(x, (list, tuple)):
        items = list(enumerate(x))
    else:
        yield path, place
        return
    for name, one in items:
        yield from leaves(f"{path}.{name}", f"{place}[{name!r}]", one)


def checked_grad(key: object, g: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return a gradient as an array of the parameter's dtype and shape."""
    name = f"grads[{key!r}]"
    if shape == () and is_scalar(g):
        if isinstance(g, np.floating) and type(g) is not np.float64 and g.dtype != dtype:
            raise TypeError(f"{name} is {g.dtype}, params[{key!r}] is {dtype}: convert one of them")
        try:
            with np.errstate(over="raise"):
                return np.array(g, dtype=dtype)
        except (OverflowError, FloatingPointError):
            raise ValueError(f"{name} is {g!r}, which {dtype} cannot hold") from None
    a = checked_array(name, g)
    if a.shape != shape:
        hint = "reshape it" if a.size == np.prod(shape) else "gradients are never broadcast"
        raise ValueError(
            f"{name} has shape {a.shape}, but params[{key!r}] has shape {shape}; {hint}"
        )
    check_same_dtype(name, key, a.dtype, dtype)
    return a


def check_same_dtype(name: str, key: object, dtype: Any, wanted: Any) -> None:
    """Refuse a gradient of another dtype than its parameter."""
    if dtype != wanted:
        raise TypeError(
            f"{name} is {dtype}, but params[{key!r}] is {wanted}; "
            f"convert the gradient: {name}.astype(np.{wanted})"
        )
