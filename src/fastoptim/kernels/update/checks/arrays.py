"""What arrays and their containers must be, in words: the part of every door that says no.

The doors (collect.pyx, points.pyx) let the usual array pass by its flags and addresses alone;
what is unusual comes here, so this is Python, and takes its time to say what would be right.
"""

import math
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from heapq import nlargest
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from fastoptim.porting.tensors import tensor_hint
from fastoptim.rows import Elements, Rows

# np.shares_memory is exact and can take exponential time; past this it counts as shared.
OVERLAP_EFFORT = 1_000_000

# Of the keys that an error looks through for one that may be meant.
MOST_HINTS = 1000
LONGEST_HINT = 100  # characters


def is_masked(a: object) -> bool:
    """Whether a is a masked array.

    np.ma is imported when it is first touched; an import here, in the middle of an update, would
    leave its lock held in a child that another thread forks at that moment.
    """
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(a, getattr(ma, "MaskedArray", ()))


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
        raise TypeError(
            f"{name} must be float32 or float64, got {dtype}; "
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

    A subclass may say of its dtype, shape or flags what is not so, and memory would be read by it.
    """
    return a if type(a) is np.ndarray else np.ndarray.view(a, np.ndarray)


def is_scalar(x: object) -> bool:
    """Whether x is a real number of Python or NumPy (a bool is not)."""
    return isinstance(x, (int, float, np.floating, np.integer)) and not isinstance(x, bool)


def checked_param(key: object, p: Any) -> Any:
    """Return a parameter as an array that may be written; a float in a new 0-d array."""
    name = f"params[{key!r}]"
    if isinstance(p, (float, np.floating)):
        return checked_array(name, np.array(p))
    if isinstance(p, (int, np.integer)):
        raise TypeError(
            f"{name} must be a float or an array of float32 or float64, got {p!r} "
            f"({type(p).__name__}); an integer cannot hold what an update makes of it"
        )
    a = checked_array(name, p)
    if not a.flags.writeable:
        raise ValueError(
            f"{name} is read-only, and an update writes in place; "
            f"pass a writable array (a copy, or a memmap opened with mode 'r+')"
        )
    return a


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


class RowGrad(NamedTuple):
    """A gradient of rows, or of single elements, after its checks."""

    index: Any  # integers, not yet compared with the table's size
    values: Any  # aligned, contiguous
    given: Any  # the caller's array, which is values or was copied to it
    table: int  # rows that the parameter has
    length: int  # elements of a row
    unique: bool


def is_sparse(g: object) -> bool:
    """Whether g is a sparse array or matrix of SciPy, which is not imported for that."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and sparse.issparse(g)


def row_grad(key: object, g: Any, dtype: Any, shape: tuple[int, ...]) -> RowGrad:
    """Return a gradient that is `Rows` or sparse, checked as far as dtypes and shapes go."""
    name = f"grads[{key!r}]"
    if is_sparse(g):
        return element_grad(name, key, g, dtype, shape)
    values = checked_array(f"{name}.values", g.values)
    if shape == ():
        raise ValueError(f"{name} is {g!r}, but params[{key!r}] is a number and has no rows")
    if isinstance(g, Elements):
        check_same_dtype(f"{name}.values", key, values.dtype, dtype)
        if values.ndim != 1:
            raise ValueError(f"{name}.values must be one-dimensional, got shape {values.shape}")
        check_as_many(name, g.index, values)
        return RowGrad(g.index, flat(values), values, math.prod(shape), 1, g.unique)
    if values.shape[1:] != shape[1:]:
        raise ValueError(
            f"{name}.values has rows of shape {values.shape[1:]}, but a row of params[{key!r}] "
            f"(shape {shape}) has shape {shape[1:]}; rows are never broadcast"
        )
    check_same_dtype(f"{name}.values", key, values.dtype, dtype)
    check_as_many(name, g.index, values)
    length = math.prod(shape[1:])
    return RowGrad(g.index, flat(values), values, shape[0], length, g.unique)


def element_grad(name: str, key: object, g: Any, dtype: Any, shape: tuple[int, ...]) -> RowGrad:
    """Return a sparse gradient as rows of one element each."""
    if g.format not in ("csr", "csc", "coo"):
        raise TypeError(f"{name} is sparse in the format {g.format!r}; pass {name}.tocsr()")
    if g.shape != shape:
        raise ValueError(f"{name} has shape {g.shape}, but params[{key!r}] has shape {shape}")
    values = checked_array(f"{name}.data", g.data)
    check_same_dtype(f"{name}.data", key, values.dtype, dtype)
    if values.ndim != 1:
        raise ValueError(f"{name}.data must be one-dimensional, got shape {values.shape}")
    coords, n_stored = element_places(name, g, len(values))
    if len(coords) != len(shape):
        raise ValueError(
            f"{name}.coords are {len(coords)} arrays, but params[{key!r}] has {len(shape)} axes "
            f"(shape {shape}); each axis needs one"
        )
    values = values[:n_stored]
    index: Any = np.zeros(len(values), np.intp)
    for axis, (places, n) in enumerate(zip(coords, shape, strict=True)):
        check_as_many(name, places, values)
        if places.dtype.kind not in "iu":
            raise TypeError(
                f"{name} has an index along axis {axis} of {places.dtype}, not integers"
            )
        if places.size and not 0 <= places.min() <= places.max() < n:
            raise IndexError(f"{name} has an index along axis {axis} that is not in [0, {n})")
        index = index * n + places.astype(np.intp, copy=False)
    return RowGrad(index, flat(values), g.data, math.prod(shape), 1, False)


def element_places(name: str, g: Any, n_data: int) -> tuple[tuple[Any, ...], int | None]:
    """Return where a sparse array's elements are, axis by axis, and how many of its data are.

    SciPy's own conversion trusts `indptr`: wrong bounds make it write past its arrays, and data
    that lie behind the last bound (it ignores them elsewhere) would count.
    """
    if g.format == "coo":
        return tuple(flat_array(f"{name}.coords[{k}]", c) for k, c in enumerate(g.coords)), None
    bounds = flat_array(f"{name}.indptr", g.indptr)
    minor = flat_array(f"{name}.indices", g.indices)
    if bounds.dtype.kind not in "iu":
        raise TypeError(
            f"{name}.indptr must be of integers, got {bounds.dtype}; convert it: "
            f"{name}.indptr.astype(np.intp)"
        )
    n = g.shape[-1] if g.format == "csc" else g.shape[0] if g.ndim == 2 else 1
    counts = np.diff(bounds.astype(np.intp, copy=False))
    if (
        len(bounds) != n + 1 or bounds[0] != 0 or (counts < 0).any()
        or bounds[-1] > min(len(minor), n_data)
    ):
        raise ValueError(
            f"{name}.indptr does not bound {n} rows or columns of {len(minor)} indices and "
            f"{n_data} data in order; {name}.check_format() says more"
        )
    if len(minor) != n_data:
        raise ValueError(
            f"{name} has {len(minor)} indices for {n_data} data; one of the two arrays was resized"
        )
    minor = minor[:bounds[-1]]
    if g.ndim == 1:
        return (minor,), len(minor)
    major = np.repeat(np.arange(n), counts)
    return (minor, major) if g.format == "csc" else (major, minor), len(minor)


def flat_array(name: str, a: Any) -> Any:
    """Return a part of a sparse array that must be an array with one axis."""
    if not isinstance(a, np.ndarray):
        raise TypeError(
            f"{name} must be an array of integers, got {type(a).__name__}; convert it: "
            f"np.asarray({name}, np.intp)"
        )
    a = plain(a)
    if a.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {a.shape}")
    return a


def check_as_many(name: str, index: Any, values: Any) -> None:
    """Refuse an index and values that were resized since they were put together."""
    if index.shape != values.shape[:1]:
        raise ValueError(
            f"{name} has {index.shape} indices for {values.shape[:1]} values; one of the two "
            f"arrays was resized"
        )


def flat(values: Any) -> Any:
    """Return an array as it is if it is contiguous and aligned, else a copy that is."""
    flags = values.flags
    if flags.c_contiguous and flags.aligned:
        return values
    return np.require(values, requirements=("C", "A"))


def check_same_dtype(name: str, key: object, dtype: Any, wanted: Any) -> None:
    """Refuse a gradient of another dtype than its parameter."""
    if dtype != wanted:
        raise TypeError(
            f"{name} is {dtype}, but params[{key!r}] is {wanted}; "
            f"convert the gradient: {name}.astype(np.{wanted})"
        )


def overlaps_itself(a: Any) -> bool:
    """Whether two elements of an array lie in the same place."""
    if a.size < 2 or a.flags.c_contiguous or a.flags.f_contiguous:
        return False
    if any(stride == 0 and n > 1 for stride, n in zip(a.strides, a.shape, strict=True)):
        return True
    axes = sorted((abs(stride), n) for stride, n in zip(a.strides, a.shape, strict=True) if n > 1)
    reach = a.itemsize
    for stride, n in axes:
        if stride < reach:
            break
        reach += stride * (n - 1)
    else:
        return False                # each axis steps over all that the axes inside it reach
    places = np.zeros((), np.intp)
    for stride, n in zip(a.strides, a.shape, strict=True):
        places = places[..., None] + np.arange(n) * stride
    places = np.sort(places, axis=None)
    return bool((np.diff(places) < a.itemsize).any())


def share_memory(a: Any, b: Any) -> bool:
    """Whether two arrays have an element in common."""
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_EFFORT)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


# ---------------------------------------------------------------- checks of the two containers

def as_dict(name: str, x: Any) -> dict[Any, Any]:
    """Return a mapping, or a list of arrays keyed by position, as a dict."""
    if type(x) is dict:
        return x
    if isinstance(x, Mapping) or (hasattr(x, "keys") and hasattr(x, "__getitem__")):
        return {key: x[key] for key in x.keys()}  # noqa: SIM118 all that is asked for is keys
    if isinstance(x, (list, tuple)):
        return dict(enumerate(x))
    if isinstance(x, np.ndarray):
        hint = f"; put the array into a dict or a list: {name} = {{'W': array}}"
    else:
        hint = ""
    raise TypeError(
        f"{name} must be a dict or a list of NumPy arrays, got {type(x).__name__}{hint}"
    )


def check_keeps(params: Any, arrays: dict[Any, Any]) -> None:
    """Refuse a mapping that makes its arrays when asked: what is written to them would be lost."""
    if isinstance(params, (dict, list, tuple)):
        return
    for key, a in arrays.items():
        again = params[key]
        if isinstance(a, np.ndarray) and again is not a and not (
            isinstance(again, np.ndarray) and share_memory(a, again)
        ):
            raise TypeError(
                f"params[{key!r}] is a new array each time {type(params).__name__} is asked for "
                f"it, so an update in place would be lost; pass dict(params) and keep that"
            )


def keys_error(params: dict[Any, Any], grads: dict[Any, Any]) -> KeyError:
    """Return the KeyError for two dicts whose keys differ."""
    missing = [key for key in params if key not in grads]
    unknown = [key for key in grads if key not in params]
    parts = []
    if missing:
        parts.append(f"grads has no {listed(missing)}, which params has")
    if unknown:
        parts.append(f"grads has {listed(unknown)}, which params has not")
    text = "; ".join(parts)
    texts = [key for key in unknown if isinstance(key, str)]
    close = [
        (key, other) for key in missing[:3] if isinstance(key, str)
        for other in closest(key, texts)
    ]
    if close:
        text += ". Did you mean " + ", ".join(f"{u!r} for {key!r}" for key, u in close) + "?"
    elif missing:
        text += ". To leave a parameter as it is, give None as its gradient"
    return KeyError(text)


def closest(text: str, others: list[str]) -> list[str]:
    """Return the text that is most like another, in a list; an empty list if none is alike.

    difflib compares a pair in up to the product of the lengths, so it gets only a few short texts:
    those that share most of their beginning and end. Measured, at most 100 letters each, 1,000
    keys: 0.18 s for three of them, where one pair of 10,000 letters alone can take seconds.
    """
    if len(text) > LONGEST_HINT:
        return []
    short = (other for other in others[:MOST_HINTS] if len(other) <= LONGEST_HINT)
    likely = nlargest(16, short, lambda other: shared_ends(text, other))
    return get_close_matches(text, likely, 1)


def shared_ends(a: str, b: str) -> int:
    """Return how many characters two texts have in common at the beginning and at the end."""
    return shared_start(a, b) + shared_start(a[::-1], b[::-1])


def shared_start(a: str, b: str) -> int:
    """Return how many characters two texts have in common at the beginning."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def check_containers(
    given_params: Any, given_grads: Any, params: dict[Any, Any], grads: dict[Any, Any]
) -> None:
    """Refuse two containers of different kinds or lengths."""
    if isinstance(given_params, (list, tuple)) != isinstance(given_grads, (list, tuple)):
        raise TypeError(
            f"params and grads must both be dicts or both be lists, got "
            f"{type(given_params).__name__} and {type(given_grads).__name__}"
        )
    if len(params) != len(grads):
        if isinstance(given_params, (list, tuple)):
            raise ValueError(
                f"params has {len(params)} arrays, grads has {len(grads)}; for a parameter "
                f"to leave as it is, put None in its place"
            )
        raise keys_error(params, grads)


def listed(keys: list[Any]) -> str:
    """Return the first few keys as text."""
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return ", ".join(map(repr, keys[:8])) + more


def refuse_shared_memory(arrays: list[tuple[str, Any]]) -> None:
    """Refuse named arrays of which two share an element (columns of one table do not)."""
    reached: list[tuple[str, Any]] = []  # those that end beyond the start of the one looked at
    for name, a in sorted(arrays, key=lambda pair: byte_bounds(pair[1])[0]):
        low = byte_bounds(a)[0]
        reached = [pair for pair in reached if byte_bounds(pair[1])[1] > low]
        for other, b in reached:
            if not share_memory(a, b):
                continue
            if "grads[" in name + other:
                raise ValueError(
                    f"{other} and {name} share memory, and zero_grads=True would wipe both; "
                    f"pass a copy as the gradient"
                )
            raise ValueError(
                f"{other} and {name} share memory, which would be updated twice; keep one "
                f"key per array (for tied weights: one key, the sum of the gradients)"
            )
        reached.append((name, a))


def check_write_back(name: str, container: Any, key: Any, value: object) -> None:
    """Refuse a container that cannot take the new value of a number."""
    if isinstance(container, tuple) or not hasattr(container, "__setitem__"):
        raise TypeError(
            f"{name}[{key!r}] is a {type(value).__name__}, whose new value must be written back, "
            f"but {type(container).__name__} cannot be written; use a dict, a list, or 0-d arrays"
        )
    if type(container) is not dict and type(container) is not list:
        container[key] = value      # a rehearsal: if it raises, let it be before anything changes


def caller_array(grad: Any) -> Any:
    """Return where the numbers of a gradient are kept: the array that zero_grads sets to zero."""
    if isinstance(grad, Rows):
        return grad.values
    return grad.data if is_sparse(grad) else grad


def place_of(key: object, grad: object) -> str:
    """Return in words where the numbers of a gradient are kept."""
    part = ".values" if isinstance(grad, Rows) else ".data" if is_sparse(grad) else ""
    return f"grads[{key!r}]{part}"


def check_may_zero(grads: Any, key: Any, grad: Any) -> None:
    """Refuse a gradient that cannot be set to zero."""
    g, name = caller_array(grad), place_of(key, grad)
    if not isinstance(g, np.ndarray):
        check_write_back("grads", grads, key, g)
        return
    g = plain(g)
    if not g.flags.writeable:
        raise ValueError(f"{name} is read-only, and zero_grads=True writes it; pass a copy")
    if overlaps_itself(g):
        raise ValueError(f"{name} overlaps itself, and zero_grads=True writes it")


def write_back(container: Any, key: Any, old: Any, new: Any) -> None:
    """Put a new value where the old one is: into the array, or in place of the number."""
    if isinstance(old, np.ndarray):
        plain(old)[...] = new
    else:
        container[key] = type(old)(new[()])


def not_finite(key: object, grad: Any) -> FloatingPointError:
    """Return the error for a gradient with a NaN or an infinity."""
    g = np.asarray(caller_array(grad))
    places = np.argwhere(~np.isfinite(g))
    if len(places) == 0:
        return FloatingPointError(
            f"{place_of(key, grad)} is finite, but the sum of what is for the same place is not; "
            f"nothing was updated"
        )
    where = tuple(int(i) for i in places[0])
    place = f"[{', '.join(map(str, where))}]" if where else ""
    return FloatingPointError(
        f"{place_of(key, grad)}{place} is {g[where]}; nothing was updated"
    )
