"""`paths`: the ways of rules over a function of two numbers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.plot import style
from fastoptim.plot.given import (
    Points,
    Traces,
    losses_at,
    names_of,
    only_traces,
    points,
    window_around,
    window_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Window = list[tuple[float, float]]

LEVELS = 14
MARKED = 12  # steps of the longest path that get its marker; every step has a dot
FARTHEST = 1e4  # widths of the picture: what is drawn beyond overflows in the renderer


def paths(
    fn: Callable[[Any], Any], traces: Traces, ax: "Axes | None" = None, *,
    window: Any = None, grid: int = 100, legend: bool = True,
) -> "Axes":
    """Draw paths over the contours of a function of two numbers.

    Parameters
    ----------
    fn : callable
        As for `fastoptim.trace`, returning (loss, gradients); called once per point of the grid,
        with parameters of the traces' form and dtype. A `problems.Problem` also says where its
        minima are, which are then marked.
    traces : Trace, list of Trace, or mapping of labels to Trace
        Paths of the same parameters: two numbers, or one array of two elements. The labels of a
        list are the traces' names.
    ax : matplotlib axes, optional
        Where to draw; a new figure if not given. Where a notebook runs or pyplot is imported, that
        is one of pyplot's, and shows as those do.
    window : ((lowest, highest), (lowest, highest)), optional
        The limits of both axes. By default they hold all of every path on which the loss is at most
        ten times as far above the lowest as at the start.
    grid : int of at least 2, default 100
        How many points each axis has for the contours.
    legend : bool, default True
        Whether there is a legend.

    Returns
    -------
    Axes
        The axes' labels are the keys of the parameters.

    Raises
    ------
    ValueError
        A trace has more or fewer than two numbers, or other parameters than the first; the window
        is none; `fn` returns no loss.
    TypeError
        `traces` are not as described.
    ImportError
        matplotlib is not installed.

    Notes
    -----
    Every step is a dot; the same steps of all paths have a larger marker. A ring is the start, a
    large marker the end, a star a minimum. A path that leaves the picture for good has an arrow
    where it leaves, and its label says after which step. The loss lies, in equal parts of the
    window's area, below the contours: each encloses (k/15)² of it, so that those of a paraboloid
    are evenly spaced.

    Examples
    --------
    >>> import fastoptim as fo
    >>> f = fo.problems.valley
    >>> rules = {"SGD": fo.SGD(lr=0.01), "Momentum": fo.Momentum(lr=0.01, alpha=0.5)}
    >>> traces = {name: fo.trace(opt, f.start(), f, steps=20) for name, opt in rules.items()}
    >>> ax = fo.plot.paths(f, traces)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['SGD', 'Momentum', 'start', 'minimum']
    """
    pairs = only_traces(traces, 2)
    names = names_of(pairs[0][1])
    minima = np.reshape(getattr(fn, "minima", ()), (-1, 2))
    limits = window_of(window, names) or window_around(fn, pairs, minima)
    if isinstance(grid, bool) or not isinstance(grid, (int, np.integer)) or grid < 2:
        raise ValueError(f"grid must be a whole number of at least 2, got {grid!r}")
    x, y = (np.linspace(*of_axis, int(grid)) for of_axis in limits)
    over = np.stack(np.meshgrid(x, y), axis=-1)
    z = losses_at(fn, over.reshape(-1, 2), pairs[0][1]).reshape(len(y), len(x))

    ax = style.axes(ax)
    contours(ax, x, y, z)
    longest = max(trace.steps for _, trace in pairs)
    for k, (label, trace) in enumerate(pairs):
        draw(ax, points(trace), label, style.style(k), max(1, -(-longest // MARKED)), limits)
    starts = np.unique([points(trace)[0] for _, trace in pairs], axis=0)
    ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "color": "black"}
    ax.plot(*starts.T, linestyle="none", label="start", zorder=4, **ring)  # type: ignore[arg-type]
    if len(minima):
        ax.plot(
            *minima.T, linestyle="none", marker="*", markersize=13, color="white",
            markeredgecolor="black", label="minimum" if len(minima) == 1 else "minima", zorder=4,
        )
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    if legend:
        ax.legend(fontsize="small", handlelength=3.5, framealpha=0.9)
    return ax


def contours(ax: "Axes", x: Points, y: Points, z: Points) -> None:
    """Draw contours that enclose (k/15)² of the window's finite losses each, k = 1, …, 14."""
    from matplotlib.colors import LinearSegmentedColormap

    z = np.ma.masked_invalid(z)
    known = z.compressed()
    if not len(known):
        return
    shares = np.linspace(0, 1, LEVELS + 2) ** 2
    levels = np.unique(np.quantile(known, shares))
    if len(levels) < 3:  # flat
        return
    greys = LinearSegmentedColormap.from_list("fastoptim", style.FILL)
    tones = greys(np.linspace(0, 1, len(levels) - 1))
    ax.contourf(x, y, z, levels, colors=tones, zorder=0)
    ax.contour(x, y, z, levels[1:-1], colors=style.CONTOUR, linewidths=0.6, zorder=1)


def draw(
    ax: "Axes", at: Points, label: str, look: dict[str, Any], every: int, limits: Window
) -> None:
    """Draw a path, and how it leaves the picture if it does."""
    low, high = np.transpose(limits)
    inside = ((at >= low) & (at <= high)).all(axis=1)
    left = not inside[-1]
    last = int(inside.nonzero()[0].max(initial=-1)) if left else len(at) - 1
    if left:
        label = f"{label} (leaves after step {last})" if last >= 0 else f"{label} (outside)"
    drawn = near(at, low, high)
    seen = drawn if not left or last < 0 else drawn[: last + 1]
    colour = look["color"]
    ax.plot(
        *seen.T, color=colour, linestyle="none", marker="o", markersize=2.2,
        markeredgewidth=0, zorder=3,
    )
    ax.plot(
        *seen.T, label=label, markevery=every, markersize=6.5, linewidth=1.4, zorder=3, **look
    )
    if not left:
        ax.plot(
            *drawn[-1:].T, color=colour, marker=look["marker"], markersize=10,
            markeredgecolor="black", linestyle="none", zorder=5,
        )
    elif 0 <= last and np.isfinite(drawn[last + 1]).all():
        inner, outer = drawn[last], crossing(drawn[last], drawn[last + 1], low, high)
        ax.annotate(
            "", xy=tuple(outer), xytext=tuple(inner),
            arrowprops={"arrowstyle": "-|>", "color": colour, "mutation_scale": 18}, zorder=5,
        )


def near(at: Points, low: Points, high: Points) -> Points:
    """Return the points, those very far away brought nearer in their direction from the middle."""
    middle, width = (low + high) / 2, high - low
    with np.errstate(all="ignore"):
        away = np.abs((at - middle) / width).max(axis=1, keepdims=True)
        nearer = np.where(away > FARTHEST, middle + (at - middle) * (FARTHEST / away), at)
    return np.where(np.isfinite(nearer), nearer, np.nan)


def crossing(inner: Points, outer: Points, low: Points, high: Points) -> Points:
    """Return where the line from a point of the window to one outside crosses its border."""
    way = outer - inner
    with np.errstate(all="ignore"):
        shares = np.where(way > 0, (high - inner) / way, (low - inner) / way)
    return inner + way * np.nanmin(np.where(way == 0, np.nan, shares))
