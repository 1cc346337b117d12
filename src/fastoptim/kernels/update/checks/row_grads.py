"""Gradients of rows and of single elements: `Rows`, `Elements` and SciPy's sparse arrays."""

import math
import sys
from typing import Any, NamedTuple

import numpy as np

from fastoptim.kernels.update.checks.arrays import check_same_dtype, checked_array, plain
from fastoptim.rows import Elements


class RowGrad(NamedTuple):
    """A gradient of rows, or of single elements, after its checks."""

    index: Any  # integers, not yet compared with the table's size
    values: Any  # aligned, contiguous
    given: Any  # the caller's array, which is values or was copied to it
    n_rows: int  # of the parameter
    length: int  # elements of a row
    unique: bool


def is_sparse(g: object) -> bool:
    """Whether g is a sparse array or matrix of SciPy, which is not imported for that."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and sparse.issparse(g)


def not_whole(key: object, g: object, owner: object) -> TypeError:
    """Return the error for a gradient of rows where a rule needs all of them."""
    kind = "a sparse array" if is_sparse(g) else "of rows"
    dense = f"grads[{key!r}].toarray()" if is_sparse(g) else "an array of the parameter's shape"
    return TypeError(
        f"grads[{key!r}] is {kind}, but {type(owner).__name__} needs whole gradients, since it "
        f"looks at each tensor as a whole; pass {dense}, or use another rule for this key"
    )


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
