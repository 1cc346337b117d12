"""A tree of dicts, lists, tuples, numbers, text and arrays as JSON text and a list of arrays.

What JSON has stands for itself; everything else is an object with one key that says what it is:
``{"dict": [[key, value], …]}``, ``{"tuple": […]}``, ``{"array": [dtype, shape, order]}``,
``{"float": "nan"}``, ``{"int": "0x…"}``. So any text may be a key, and nothing is guessed back.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

MakeArray = Callable[[str, tuple[int, ...], str], NDArray[Any]]

DEPTH = 100  # of nesting; far below where Python's own recursion ends, and a cycle gets there too
ARRAYS = (np.ndarray, np.memmap, np.matrix)  # not the masked array, whose mask would be lost
EXPECTED = "a dict, list, tuple, str, int, float, bool, None or an array of float32 or float64"


def to_json(tree: object) -> tuple[str, list[NDArray[Any]]]:
    """Return a tree as ASCII text, and its arrays in the order in which the text names them."""
    arrays: list[NDArray[Any]] = []
    return json.dumps(_encode(tree, "tree", 0, arrays), separators=(",", ":")), arrays


def _encode(x: Any, place: str, depth: int, arrays: list[NDArray[Any]]) -> Any:
    # types are compared exactly: a subclass (np.float64, a named tuple, an enum) would come back
    # as something else than what was saved
    kind = type(x)
    if depth > DEPTH:
        raise ValueError(f"{place[:80]}… is nested deeper than {DEPTH} levels")
    if x is None or kind is bool or kind is str:
        return x
    if kind is int:
        return x if -(2**63) <= x < 2**63 else {"int": hex(x)}
    if kind is float:
        return x if math.isfinite(x) else {"float": repr(x)}
    if kind is list:
        return [_encode(item, f"{place}[{i}]", depth + 1, arrays) for i, item in enumerate(x)]
    if kind is tuple:
        items = [_encode(item, f"{place}[{i}]", depth + 1, arrays) for i, item in enumerate(x)]
        return {"tuple": items}
    if kind is dict:
        pairs = []
        for key, value in x.items():
            at = f"{place}[{_show(key)}]"
            pairs.append([_encode_key(key, at), _encode(value, at, depth + 1, arrays)])
        return {"dict": pairs}
    if kind in ARRAYS:
        return _encode_array(x, place, arrays)
    raise TypeError(f"{place} must be {EXPECTED}, got {kind.__module__}.{kind.__qualname__}")


def _encode_key(key: Any, place: str) -> Any:
    kinds = {type(part) for part in _parts(key)}
    if not kinds <= {str, int, float, bool, type(None)}:
        raise TypeError(
            f"the key of {place} must be a str, int, float, bool, None or a tuple of these, "
            f"got {type(key).__module__}.{type(key).__qualname__}"
        )
    return _encode(key, place, 0, [])


def _show(key: Any) -> str:
    try:
        return repr(key)
    except ValueError:  # an int with more digits than Python prints
        return "…"


def _parts(key: Any) -> list[Any]:
    return [leaf for part in key for leaf in _parts(part)] if type(key) is tuple else [key]


def _encode_array(x: NDArray[Any], place: str, arrays: list[NDArray[Any]]) -> Any:
    if x.dtype.type not in (np.float32, np.float64):
        raise TypeError(f"{place} must be an array of float32 or float64, got one of {x.dtype}")
    # A Fortran-ordered array is stored as its transpose, which needs no copy and keeps the layout.
    order = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
    plain = np.asarray(x)  # a matrix would stay two-dimensional when it is flattened
    if order == "F":
        plain = plain.T
    arrays.append(np.asarray(plain, dtype=x.dtype.newbyteorder("<"), order="C"))
    return {"array": [x.dtype.newbyteorder("=").name, list(x.shape), order]}


def from_json(text: str, make: MakeArray) -> Any:
    """Return the tree of a text; make(dtype, shape, order) is asked for its arrays, in order.

    Anything that `to_json` does not write is a ValueError.
    """
    try:
        return _decode(parse(text), make)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a tree: {error!r}") from error


def parse(text: str | bytes) -> Any:
    """Return what a JSON text says, and refuse an object that names a key twice."""
    return json.loads(text, object_pairs_hook=_no_duplicates)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _decode(x: Any, make: MakeArray) -> Any:
    if isinstance(x, list):
        return [_decode(item, make) for item in x]
    if not isinstance(x, dict):
        return x
    ((kind, value),) = x.items()
    if kind == "dict":
        return {_decode(key, make): _decode(item, make) for key, item in value}
    if kind == "tuple":
        return tuple(_decode(item, make) for item in value)
    if kind == "array":
        dtype, shape, order = value
        return make(dtype, tuple(shape), order)
    if kind == "float":
        return float(value)
    if kind == "int":
        return int(value, 16)
    raise ValueError(f"not a tree: {kind!r} is nothing that is stored")
