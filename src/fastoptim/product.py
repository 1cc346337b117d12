"""Gradients of dense layers that are never made: `Product`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.checks.arrays import checked_array

# Bytes of a product from which it is cut, and of a tile at most; see docs/products.md.
CUT_FROM = 12 << 20
TILE_BYTES = 1 << 22
LEAST_ROWS = 32  # of a tile, before all are made as long: products of few rows are slow

DOT_BELOW = 1 << 15  # bytes of a product that np.dot makes; see function_for
DTYPES = np.dtype(np.float32), np.dtype(np.float64)


class Product:
    r"""The gradient of a dense layer, :math:`x^\top d`, as its two factors.

    Parameters
    ----------
    x : array of shape (batch, n_in), float32 or float64
        What the layer was given, one row for each example.
    d : array of shape (batch, n_out), of the same dtype
        The gradient with respect to what the layer gave.

    Raises
    ------
    TypeError
        A factor is not an array of float32 or float64 of this machine's byte order, or their
        dtypes differ.
    ValueError
        A factor does not have two axes, or they have different batches. A single example needs
        its axis, too: ``x[None, :]``.

    Notes
    -----
    ``grads["W"] = fo.Product(x, d)`` stands for ``x.T @ d``, the gradient of a parameter of shape
    (n_in, n_out). A small product is made as a whole, in memory that the optimizer keeps. A large
    one is made in tiles, of some rows each: the rule is applied to a tile while it is in cache, so
    that the whole is neither written nor read. `tiles` says how the rows are cut. The shape alone
    decides it, so the number of threads of updates changes no bit.

    The factors are read when the update is made, and not copied before. The update copies factors
    that a BLAS cannot use where they lie, and those that lie on memory that it writes. The bits are
    those that NumPy's BLAS gives for these tiles; `made` returns them as an array.

    Every rule and every option takes products but `zero_grads`: there is no gradient to be set to
    zero. Where a whole tensor is looked at (`trust_ratio`, `agc`, `centralize`, constraints on
    norms, rules with norms, `Adafactor`, `Muon`), and for a parameter that is not in C order, the
    tiles are written into a whole gradient first. Where the norm of the gradients or whether they
    are finite is asked for, each tile is made twice.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> x, t = np.eye(3), np.array([[1.0], [2.0], [3.0]])
    >>> params, opt = {"W": np.zeros((3, 1))}, fo.Adam(lr=0.1)
    >>> for step in range(300):
    ...     d = (x @ params["W"] - t) / len(t)
    ...     opt.update(params, {"W": fo.Product(x, d)})
    >>> params["W"].round(2).ravel()
    array([1., 2., 3.])
    """

    __slots__ = ("_d", "_x")

    def __init__(self, x: NDArray[Any], d: NDArray[Any]) -> None:
        if not (
            type(x) is type(d) is np.ndarray and x.dtype is d.dtype and x.dtype in DTYPES
            and x.ndim == d.ndim == 2 and len(x) == len(d)
        ):
            check_factors("x", "d", x, d)
        self._x, self._d = x, d

    @property
    def x(self) -> NDArray[np.floating[Any]]:
        """What the layer was given."""
        return self._x

    @property
    def d(self) -> NDArray[np.floating[Any]]:
        """The gradient with respect to what it gave."""
        return self._d

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the product: that of its parameter."""
        return self.x.shape[1], self.d.shape[1]

    @property
    def dtype(self) -> np.dtype[np.floating[Any]]:
        """The dtype of both factors, and of the product."""
        return self.x.dtype

    def tiles(self) -> tuple[slice, ...]:
        """Return the rows of each tile in which an update makes this product, in their order.

        Examples
        --------
        >>> import numpy as np, fastoptim as fo
        >>> x, d = np.zeros((32, 4096), np.float32), np.zeros((32, 4096), np.float32)
        >>> tiles = fo.Product(x, d).tiles()
        >>> len(tiles), tiles[1]
        (16, slice(256, 512, None))
        >>> fo.Product(x[:, :100], d).tiles()
        (slice(0, 100, None),)
        """
        return tiles_of(self.x.shape[1], self.d.shape[1], self.x.itemsize)

    def asarray(self) -> NDArray[np.floating[Any]]:
        """Return the product as NumPy computes it in one piece, ``x.T @ d``.

        The last digits may differ from those of `made`.
        """
        product: NDArray[np.floating[Any]] = self.x.T @ self.d
        return product

    def made(self) -> NDArray[np.floating[Any]]:
        """Return the product as an update makes it, tile by tile."""
        return made(self.x, self.d)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                "a Product has no array that could be had without a copy; leave copy=False out"
            )
        whole = self.asarray()
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"Product({self.dtype} {self.shape}, batch {len(self.x)})"


def check_factors(x_name: str, d_name: str, x: Any, d: Any) -> tuple[Any, Any]:
    """Return both factors as plain arrays, or say what they should have been."""
    x, d = checked_factor(x_name, x), checked_factor(d_name, d)
    if len(x) != len(d):
        raise ValueError(
            f"{x_name} has shape {x.shape} and {d_name} has shape {d.shape}, but their first axes "
            f"are one batch and must be as long as each other"
        )
    if x.dtype != d.dtype:
        raise TypeError(
            f"{x_name} is {x.dtype}, but {d_name} is {d.dtype}; convert one of them: "
            f"{d_name}.astype(np.{x.dtype})"
        )
    return x, d


def checked_factor(name: str, a: Any) -> Any:
    """Return one factor as a plain array of two axes."""
    a = checked_array(name, a)
    if a.ndim != 2:
        hint = f"; a single example is a batch of one: {name}[None, :]" if a.ndim == 1 else ""
        raise ValueError(
            f"{name} must have two axes, the batch and the units, got shape {a.shape}{hint}"
        )
    return a


def tiles_of(n_in: int, n_out: int, itemsize: int) -> tuple[slice, ...]:
    """Return how the rows of a product of this shape are cut."""
    row = n_out * itemsize
    if n_in * row < CUT_FROM:
        return (slice(0, n_in),)
    rows = max(LEAST_ROWS, TILE_BYTES // row)
    count = -(-n_in // rows)
    bounds = [n_in * k // count for k in range(count + 1)]
    return tuple(map(slice, bounds, bounds[1:]))


def made(x: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
    """Return the product of two factors, each tile as an update makes it."""
    x, d = for_blas(x), for_blas(d)
    whole = np.empty((x.shape[1], d.shape[1]), x.dtype)
    with np.errstate(all="ignore"):
        for rows in tiles_of(x.shape[1], d.shape[1], whole.itemsize):
            function_for(whole.nbytes)(x[:, rows].T, d, out=whole[rows])
    return whole


def function_for(n_bytes: int) -> Any:
    """Return the function of NumPy that makes a product of so many bytes.

    np.dot sets the memory to zero first, and is called faster: measured, a product of 64 × 64 of a
    batch of 32 takes 2.3 µs, and 2.7 with np.matmul.
    """
    return np.dot if n_bytes < DOT_BELOW else np.matmul


def for_blas(a: NDArray[Any]) -> NDArray[Any]:
    """Return a factor as it is if a BLAS can use it where it lies, else a copy that it can use."""
    size = a.itemsize
    for step, inner, n in ((*a.strides, a.shape[1]), (*a.strides[::-1], a.shape[0])):
        if a.flags.aligned and inner == size and step % size == 0 and step >= n * size:
            return a
    return np.array(a, order="C")
