"""Gradients that touch few rows of a table, such as those of an embedding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.porting.answers import shown


class Rows:
    """The gradient of some rows of a parameter: the others have none.

    Parameters
    ----------
    index : array of integers of shape (r,)
        Row numbers from 0, in any order; a list will do. A row that is there several times gets
        the sum of its gradients, added in the order of the index.
    values : array of shape (r, …), float32 or float64
        The gradient of row ``index[k]`` is ``values[k]``. For a parameter of shape (v, a, b)
        its shape is (r, a, b), for one of shape (v,) it is (r,).
    unique : bool, default False
        Promise that no row is there twice. Then nothing is summed, which saves time. The promise
        is checked, and it changes no result.

    Raises
    ------
    TypeError
        The index is not of integers, or the values are not an array.
    ValueError
        The index is not one-dimensional, or there are not as many values.

    Notes
    -----
    The update is *lazy*: rows that are not in the index keep their values, their state and their
    averages, and pay neither weight decay nor the decay of a momentum, as with PyTorch's
    SparseAdam. If a rule's state decays, a dense gradient with zeros there gives another update.
    The step count is the parameter's: it grows at every update, even at one of no rows. Rows that
    cover the whole table give, to the bit, the update with the dense gradient.

    Every option takes them, and every rule but `Adafactor`, which looks at whole tensors. The norm
    of `clip_norm` is that of the summed rows; `zero_grads` sets `values` to zero.

    A sparse array of SciPy (CSR, CSC or COO) of the parameter's shape is taken as a gradient in
    the same way, element by element instead of row by row. To make one takes SciPy longer than the
    update: pass it if it is there, and rows where you make the gradient yourself.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"E": np.zeros((1000, 2))}
    >>> opt = fo.AdaGrad(lr=0.1)
    >>> values = np.array([[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])
    >>> opt.update(params, {"E": fo.Rows([7, 3, 7], values)})
    >>> params["E"][[3, 4, 7]].round(3)
    array([[-0.1, -0.1],
           [ 0. ,  0. ],
           [-0.1, -0.1]])
    >>> opt.h["E"][7]                                          # the square of 1 + 1
    array([4., 4.])
    """

    __slots__ = ("_index", "_unique", "_values")

    def __init__(self, index: Any, values: NDArray[Any], unique: bool = False) -> None:
        if not isinstance(values, np.ndarray):
            raise TypeError(f"values must be a NumPy array, got {type(values).__name__}")
        if values.ndim == 0:
            raise ValueError("values must have a first axis, one entry per row, got a 0-d array")
        self._index = checked_index(index)
        if len(self._index) != len(values):
            raise ValueError(
                f"index has {len(self._index)} row numbers, but values has {len(values)} rows "
                f"(shape {values.shape})"
            )
        if not isinstance(unique, (bool, np.bool)):
            raise TypeError(f"unique must be True or False, got {shown(unique)}")
        self._values, self._unique = values, bool(unique)

    @property
    def index(self) -> NDArray[np.integer[Any]]:
        """The row numbers."""
        return self._index

    @property
    def values(self) -> NDArray[Any]:
        """The gradients of these rows."""
        return self._values

    @property
    def unique(self) -> bool:
        """Whether no row is there twice."""
        return self._unique

    def __repr__(self) -> str:
        rows = f"{len(self.index)} row{'s' if len(self.index) != 1 else ''}"
        values = f"{self.values.dtype} {self.values.shape}"
        return f"{type(self).__name__}({rows}, {values}, unique={self.unique})"


class Elements(Rows):
    """The gradient of single elements, counted along the parameter in C order."""


def checked_index(index: Any) -> NDArray[np.integer[Any]]:
    """Return row numbers as an array of integers, or say what they should have been."""
    if isinstance(index, np.ndarray) and hasattr(index, "mask"):
        raise TypeError("index is a masked array; pass index.compressed() and as many values")
    a = index if type(index) is np.ndarray else np.asarray(index)
    if a.size == 0 and not isinstance(index, np.ndarray):
        a = a.astype(np.intp)  # an empty list is of float64 to NumPy
    if a.dtype.kind not in "iu":
        hint = "; np.flatnonzero(index) gives the rows of a mask" if a.dtype == np.bool else ""
        raise TypeError(f"index must be of integers, got {a.dtype}{hint}")
    if a.ndim != 1:
        raise ValueError(f"index must be one-dimensional, got shape {a.shape}")
    return a
