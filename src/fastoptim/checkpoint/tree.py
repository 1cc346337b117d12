"""A tree of dicts, lists, tuples, numbers, text and arrays as JSON text and a list of arrays.

What JSON has stands for itself; everything else is an object with one key that says what it is:
``{"dict": [[key, value], …]}``, ``{"tuple": […]}``, ``{"array": [dtype, shape, order]}``,
``{"float": "nan"}``, ``{"int": "0x…"}``, ``{"object": [kind, content]}``. So any text may be a key,
and nothing is guessed back.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

import numpy as np
from numpy.typing import NDArray

MakeArray = Callable[[str, tuple[int, ...], str], NDArray[Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """What stands in a tree for an object of another kind: the kind's name, and a plain tree."""

    kind: str
    content: Any


# Returns what stands for an object, None if it knows nothing that does; the text is the place.
Describe = Callable[[Any, Callable[[], str]], Stored | None]
OBJECT = '{"object":'  # never within a text of the tree, whose quotes have backslashes

DEPTH = 100  # of nesting; far below where Python's own recursion ends, and a cycle gets there too
# As stored; those of codes are no kind of number that a caller would train with.
DTYPES: dict[Any, np.dtype[Any]] = {
    np.float32: np.dtype("<f4"), np.float64: np.dtype("<f8"),
    np.uint8: np.dtype("u1"), np.uint16: np.dtype("<u2"),
}
ARRAYS = (np.ndarray, np.memmap, np.matrix)  # not the masked array, whose mask would be lost
KEY = "a str, int, float, bool, None or a tuple of these"
EXPECTED = "a dict, list, tuple, str, int, float, bool, None or an array of float32 or float64"


def to_json(
    tree: object, describe: Describe | None = None, expected: str = EXPECTED
) -> tuple[str, list[NDArray[Any]]]:
    """Return a tree as ASCII text, and its arrays in the order in which the text names them.

    What the tree may hold besides, `describe` makes plain, and `expected` is what messages say.
    """
    arrays: list[NDArray[Any]] = []
    text: list[str] = []
    _write(tree, None, 0, text.append, arrays, describe, expected)
    return "".join(text), arrays


# Where something is: the keys on the way, the last first, None at the root. Only a message makes
# text of it.
Place = tuple[Any, Any] | None


def _text(place: Place) -> str:
    return "tree" if place is None else f"{_text(place[0])}[{_show(place[1])}]"


def _write(
    x: Any, place: Place, depth: int, put: Callable[[str], None], arrays: list[NDArray[Any]],
    describe: Describe | None, expected: str,
) -> None:
    """Write JSON piece by piece.

    The pieces are no containers, so the garbage collector leaves them alone. Measured (Adam with
    20,000 keys): 2.0 s to build the same as lists for json.dumps, of which the collector took 1.5.
    """
    # types are compared exactly: a subclass (np.float64, a named tuple, an enum) would come back
    # as something else than what was saved
    kind = type(x)
    if depth > DEPTH:
        raise ValueError(f"{_text(place)[:80]}… is nested deeper than {DEPTH} levels")
    if x is None:
        put("null")
    elif kind is str:
        put(quoted(x))
    elif kind is bool:
        put("true" if x else "false")
    elif kind is int:
        put(repr(x) if -(2**63) <= x < 2**63 else f'{{"int":"{x:#x}"}}')
    elif kind is float:
        put(repr(x) if math.isfinite(x) else f'{{"float":"{x!r}"}}')
    elif kind is list:
        _write_items(x, place, depth, put, arrays, describe, expected)
    elif kind is tuple:
        put('{"tuple":')
        _write_items(x, place, depth, put, arrays, describe, expected)
        put("}")
    elif kind is dict:
        between = '{"dict":[['
        for key, value in x.items():
            put(between)
            between = "],["
            _write_key(key, (place, key), put)
            put(",")
            _write(value, (place, key), depth + 1, put, arrays, describe, expected)
        put("]]}" if x else '{"dict":[]}')
    elif kind in ARRAYS:
        _write_array(x, place, put, arrays)
    else:
        stored = describe(x, lambda: _text(place)) if describe else None
        if stored is None:
            raise TypeError(
                f"{_text(place)} must be {expected}, got {kind.__module__}.{kind.__qualname__}"
            )
        put(f"{OBJECT}[{quoted(stored.kind)},")
        _write(stored.content, place, depth + 1, put, arrays, describe, expected)
        put("]}")


def _write_items(
    x: Any, place: Place, depth: int, put: Callable[[str], None], arrays: list[NDArray[Any]],
    describe: Describe | None, expected: str,
) -> None:
    put("[")
    for i, item in enumerate(x):
        if i:
            put(",")
        _write(item, (place, i), depth + 1, put, arrays, describe, expected)
    put("]")


def _write_key(key: Any, place: Place, put: Callable[[str], None]) -> None:
    if type(key) is str:
        put(quoted(key))
        return
    if not may_be_key(key):
        raise TypeError(
            f"the key of {_text(place)} must be {KEY}, "
            f"got {type(key).__module__}.{type(key).__qualname__}"
        )
    _write(key, place, 0, put, [], None, KEY)


def may_be_key(key: object) -> bool:
    """Whether a dict with this key can be stored."""
    if type(key) is str:
        return True
    kinds = {type(part) for part in _parts(key)}
    return kinds <= {str, int, float, bool, type(None)}


def _show(key: Any) -> str:
    try:
        return repr(key)
    except ValueError:  # an int with more digits than Python prints
        return "…"


def _parts(key: Any) -> list[Any]:
    return [leaf for part in key for leaf in _parts(part)] if type(key) is tuple else [key]


def _write_array(
    x: NDArray[Any], place: Place, put: Callable[[str], None], arrays: list[NDArray[Any]]
) -> None:
    stored = DTYPES.get(x.dtype.type)
    if stored is None:
        half = x.dtype.name in ("float16", "bfloat16")
        hint = "; .astype(np.float32) has the same numbers" if half else ""
        raise TypeError(
            f"{_text(place)} must be an array of float32 or float64, got one of {x.dtype}{hint}"
        )
    # A Fortran-ordered array is stored as its transpose, which needs no copy and keeps the layout.
    order = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
    plain = np.asarray(x)  # a matrix would stay two-dimensional when it is flattened
    if order == "F":
        plain = plain.T
    arrays.append(np.asarray(plain, dtype=stored, order="C"))
    put(f'{{"array":["{x.dtype.type.__name__}",{list(x.shape)},"{order}"]}}'.replace(" ", ""))


def from_json(text: str, make: MakeArray, objects: bool = False) -> Any:
    """Return the tree of a text; make(dtype, shape, order) is asked for its arrays, in order.

    An object, where there may be any, is what stands for it, since its arrays are not read yet.
    Anything that `to_json` does not write is a ValueError.
    """
    def decode(pairs: list[tuple[str, Any]]) -> Any:
        """Return what an object stands for; json has decoded its content."""
        ((kind, value),) = pairs
        if kind == "dict":
            return {key: item for key, item in value}  # noqa: C416  dict() takes more than pairs
        if kind == "tuple":
            return tuple(value)
        if kind == "array":
            dtype, shape, order = value
            return make(dtype, tuple(shape), order)
        if kind == "float":
            return float(value)
        if kind == "int":
            return int(value, 16)
        if kind == "object" and objects:
            name, content = value
            return Stored(name, content)
        raise ValueError(f"not a tree: {kind!r} is nothing that is stored")

    try:
        return json.loads(text, object_pairs_hook=decode)
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

