"""`curve`: the ways of rules over a function of one number."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.plot import style
from fastoptim.plot.given import (
    Traces,
    checked_grid,
    losses_at,
    names_of,
    only_traces,
    points,
    window_around,
    window_of,
)
from fastoptim.plot.paths import MARKED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(
    fn: Callable[[Any], Any], traces: Traces, ax: "Axes | None" = None, *,
    window: Any = None, grid: int = 400, legend: bool = True,
) -> "Axes":
    """Draw a function of one number, and paths as points on it.

    Parameters
    ----------
    fn, traces, ax, legend
        As for `paths`, of one parameter that is one number.
    window : (lowest, highest), optional
        The limits of the horizontal axis. By default they are found as those of `paths`.
    grid : int of at least 2, default 400
        How many points the function is drawn with.

    Returns
    -------
    Axes
        Horizontal is the parameter, by its key; vertical is the loss.

    Raises
    ------
    ValueError, TypeError, ImportError
        As for `paths`.

    Examples
    --------
    >>> import fastoptim as fo
    >>> f = fo.problems.two_minima
    >>> trace = fo.trace(fo.Momentum(lr=0.02), f.start(), f)
    >>> fo.plot.curve(f, {"Momentum": trace}).get_xlabel()
    'w'
    """
    pairs = only_traces(traces, 1)
    (name,) = names_of(pairs[0][1])
    minima = np.reshape(getattr(fn, "minima", ()), (-1, 1))
    if window is None:
        ((low, high),) = window_around(fn, pairs, minima)
    else:
        ((low, high),) = window_of(window, [name])
    over = np.linspace(low, high, checked_grid(grid))
    height = losses_at(fn, over[:, None], pairs[0][1])

    ax = style.axes(ax)
    ax.plot(over, height, color=style.CONTOUR, linewidth=2.5, zorder=1)
    finite = height[np.isfinite(height)]
    longest = max(trace.steps for _, trace in pairs)
    every = max(1, -(-longest // MARKED))
    for k, (label, trace) in enumerate(pairs):
        at = points(trace)
        on = losses_at(fn, at, trace)
        at = at[:, 0]
        seen = (at >= low) & (at <= high) & np.isfinite(on)
        if not seen[-1]:
            last = int(seen.nonzero()[0].max(initial=-1))
            label += f" (leaves after step {last})" if last >= 0 else " (outside)"
        at, on = np.where(seen, at, np.nan), np.where(seen, on, np.nan)
        look = style.style(k)
        ax.plot(
            at, on, color=look["color"], linestyle="none", marker="o", markersize=2.2,
            markeredgewidth=0, zorder=3,
        )
        ax.plot(at, on, label=label, markevery=every, markersize=6.5, linewidth=1, zorder=3, **look)
        if seen[-1]:
            ax.plot(
                at[-1:], on[-1:], color=look["color"], marker=look["marker"], markersize=10,
                markeredgecolor="black", linestyle="none", zorder=5,
            )
    starts = np.unique([points(trace)[0] for _, trace in pairs], axis=0)
    ax.plot(
        starts[:, 0], losses_at(fn, starts, pairs[0][1]), linestyle="none", marker="o",
        markersize=12, markerfacecolor="none", color="black", label="start", zorder=4,
    )
    ax.set_xlim(low, high)
    if len(finite) and finite.max() > finite.min():
        room = 0.06 * (finite.max() - finite.min())
        ax.set_ylim(finite.min() - room, finite.max() + room)
    ax.set_xlabel(name)
    ax.set_ylabel("loss")
    style.plain(ax)
    if legend:
        style.legend(ax)
    return ax
