"""What the functions that draw take: traces and their labels, as points of one or two numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.optimizer.objective import loss_and_grads
from fastoptim.porting.answers import shown
from fastoptim.tracing import Trace, in_form

Traces = Trace | Sequence[Trace] | Mapping[str, Trace]
Points = NDArray[np.float64]

LARGEST = 1e307  # coordinate of a window; the width must be a number, too


def labelled(traces: Any) -> list[tuple[str, Any]]:
    """Return labels with what they belong to; those of a list of traces are their names."""
    if isinstance(traces, Trace):
        return [(traces.name, traces)]
    if isinstance(traces, Mapping):
        pairs = [(str(label), one) for label, one in traces.items()]
    elif isinstance(traces, (list, tuple)):
        for k, one in enumerate(traces):
            if not isinstance(one, Trace):
                raise TypeError(
                    f"traces[{k}] must be a Trace, as fastoptim.trace returns it, "
                    f"got {type(one).__name__}"
                )
        pairs = [(one.name, one) for one in traces]
    else:
        raise TypeError(
            f"traces must be a Trace, a list of them or a mapping of labels to them, "
            f"got {type(traces).__name__}"
        )
    if not pairs:
        raise ValueError("there is no trace to draw")
    return pairs


def only_traces(traces: Any, numbers: int) -> list[tuple[str, Trace]]:
    """Return labels and traces, all of the same parameters, which have so many numbers."""
    pairs = labelled(traces)
    for label, one in pairs:
        if not isinstance(one, Trace):
            raise TypeError(
                f"traces[{label!r}] must be a Trace, as fastoptim.trace returns it, "
                f"got {type(one).__name__}"
            )
        names = names_of(one)
        if len(names) != numbers:
            other = {1: "; curve draws one", 2: "; paths draws two"}.get(len(names), "")
            raise ValueError(
                f"the trace of {label} has {len(names)} parameter{'s' * (len(names) != 1)} "
                f"({', '.join(names[:6])}{', …' * (len(names) > 6)}), and only {numbers} can be "
                f"drawn{other}"
            )
        if shapes(one) != shapes(pairs[0][1]):
            raise ValueError(
                f"the traces are of different parameters: {pairs[0][0]} has "
                f"{', '.join(names_of(pairs[0][1]))}, {label} has {', '.join(names)}"
            )
    return pairs


def shapes(trace: Trace) -> dict[Any, tuple[int, ...]]:
    """Return the shape of every parameter by key."""
    return {key: a.shape[1:] for key, a in trace.positions.items()}


def names_of(trace: Trace) -> list[str]:
    """Return a name for every number of the parameters: its key, and its index if there are more.

    A parameter of a list has the name ``params[0]``, ``params[1]``, ….
    """
    names = []
    for key, shape in shapes(trace).items():
        name = f"params[{key}]" if isinstance(key, int) else str(key)
        one = np.prod(shape) == 1
        names += [name if one else f"{name}[{', '.join(map(str, i))}]" for i in np.ndindex(shape)]
    return names


def points(trace: Trace) -> Points:
    """Return the path as an array of shape (steps + 1, numbers)."""
    each = [np.asarray(a, float).reshape(len(a), -1) for a in trace.positions.values()]
    return np.concatenate(each, axis=1)


def losses_at(fn: Callable[[Any], Any], at: Points, like: Trace) -> NDArray[np.float64]:
    """Return fn's loss at each point, called with parameters in the form of a trace's."""
    found = np.empty(len(at))
    with np.errstate(all="ignore"):  # a picture reaches farther than the path did
        for k, point in enumerate(at):
            loss, _ = loss_and_grads(fn(params_at(point, like)))
            if loss is None:
                raise ValueError(
                    "fn returned only gradients; a picture of it needs (loss, gradients)"
                )
            found[k] = loss
    return found


def params_at(point: Points, like: Trace) -> Any:
    """Return the numbers of a point as parameters, in the form and dtype of a trace's."""
    arrays, place = {}, 0
    for key, kept in like.positions.items():
        size = kept[0].size
        part = point[place : place + size].reshape(kept.shape[1:])
        arrays[key], place = part.astype(kept.dtype), place + size
    return in_form(like.form, arrays)


def checked_grid(grid: object) -> int:
    """Return how many points an axis has."""
    if isinstance(grid, bool) or not isinstance(grid, (int, np.integer)):
        raise TypeError(f"grid must be a whole number of at least 2, got {shown(grid)}")
    if grid < 2:
        raise ValueError(f"grid must be a whole number of at least 2, got {grid}")
    return int(grid)


def window_of(window: Any, names: Sequence[str]) -> list[tuple[float, float]]:
    """Return the limits of every axis, checked."""
    wanted = f"window must be {' and '.join(f'(lowest, highest) of {name}' for name in names)}"
    try:
        limits = np.array(window, float).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}, got {shown(window)}") from None
    if (
        len(limits) != len(names) or not np.isfinite(limits).all()
        or not (limits[:, 0] < limits[:, 1]).all()
    ):
        raise ValueError(f"{wanted}, got {shown(window)}")
    return [(float(low), float(high)) for low, high in limits]


def window_around(
    fn: Callable[[Any], Any], pairs: Sequence[tuple[str, Trace]], further: Points
) -> list[tuple[float, float]]:
    """Return limits of every axis that hold what is worth seeing of all paths.

    A path is worth seeing where its loss is at most ten times as far above the lowest of all as
    that of a start. So one that leaves for infinity is seen to leave, and does not squeeze the
    others.
    """
    each = [points(trace) for _, trace in pairs]
    at = np.concatenate(each)
    at = at[np.isfinite(at).all(axis=1)]
    if not len(at):
        raise ValueError("no trace has a finite position; there is nothing to draw")
    found = losses_at(fn, at, pairs[0][1])
    starts = np.array([p[0] for p in each if np.isfinite(p[0]).all()]).reshape(-1, at.shape[1])
    known = found[np.isfinite(found)]
    begun = losses_at(fn, starts, pairs[0][1])
    begun = begun[np.isfinite(begun)]
    if len(known) and len(begun):
        lowest = known.min()
        with np.errstate(over="ignore"):
            at = at[found <= lowest + 10 * (begun.max() - lowest)]
    at = np.concatenate([at, starts, np.reshape(further, (-1, at.shape[1]))])
    at = np.clip(at, -LARGEST, LARGEST)
    low, high = at.min(axis=0), at.max(axis=0)
    room = 0.08 * (high - low)
    room[room == 0] = np.maximum(1.0, np.abs(high))[room == 0]
    return list(zip((low - room).tolist(), (high + room).tolist(), strict=True))
