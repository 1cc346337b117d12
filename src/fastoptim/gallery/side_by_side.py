"""All rules on one function, side by side: still and moving, for the pictures ``rules_*``."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import fastoptim
from fastoptim import plot, tracing
from fastoptim.optimizer.base import Optimizer
from fastoptim.plot.given import losses_at, points
from fastoptim.plot.paths import contours
from fastoptim.plot.style import style
from fastoptim.problems import Problem
from fastoptim.tracing import Trace

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

Rules = Mapping[str, Iterable[Any]]
Groups = Mapping[str, Mapping[str, Trace]]
Window = tuple[tuple[float, float], tuple[float, float]]

FRAMES = 40
STILL = 8  # frames at the end in which nothing moves, before it begins again
TAIL = 4  # frames
LAST = 10  # heights
RATES = [float(f"{digit}e{power}") for power in range(-7, 6) for digit in (1, 2, 5)]


def follow(problem: Problem, rules: Rules, steps: int) -> Groups:
    """Return the paths of the rules of each group; a rule that no group has is in one more."""
    groups = {title: list(group) for title, group in rules.items()}
    named = {type(rule) for group in groups.values() for rule in group}
    if more := [best(cls, problem, steps) for cls in optimizers() if cls not in named]:
        groups["others"] = more
    return {
        title: {
            f"{type(rule).__name__}, lr = {rule.lr:g}": tracing.trace(
                rule, problem.start(), problem, steps
            )
            for rule in group
        }
        for title, group in groups.items()
    }


def optimizers() -> Iterator[type[Any]]:
    """Yield every rule of the library that moves points."""
    for public in (getattr(fastoptim, name) for name in fastoptim.__all__):
        if not isinstance(public, type) or not issubclass(public, Optimizer):
            continue
        if public is not Optimizer and not public.of_matrices:
            yield public


def best(cls: type[Any], problem: Problem, steps: int) -> Any:
    """Return a rule with the rate whose last heights are lowest, of those that never climb.

    Without weight decay, which pulls to 0, wherever the minimum is.
    """
    found = {}
    for lr in RATES:
        with np.errstate(all="ignore"):
            path = tracing.trace(cls(lr, weight_decay=0.0), problem.start(), problem, steps)
        assert path.losses is not None
        if (path.losses <= path.losses[0]).all():
            found[lr] = highest(path)
    return cls(min(found, key=found.__getitem__), weight_decay=0.0)


def highest(trace: Trace) -> float:
    """Return the highest of the last ten heights.

    The last one alone may be low by luck, where a path crosses a minimum without coming to rest.
    """
    assert trace.losses is not None
    return float(trace.losses[-LAST:].max())


def still(fn: Any, groups: Groups, window: Window) -> "Figure":
    """Return a figure with a panel for each path, and a row of them for each group."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.4 * len(groups)), layout="constrained")
    columns = max(map(len, groups.values()))
    panels = figure.subplots(len(groups), columns, sharex=True, sharey=True)
    for row, group in zip(panels, groups.values(), strict=True):
        for ax in row[len(group):]:
            ax.remove()
        for ax, (label, trace) in zip(row, group.items(), strict=False):
            plot.paths(fn, trace, ax=ax, window=window, grid=50, legend=False)
            height = highest(trace)
            shown = f"{height:,.0f}" if height >= 100 else f"{height:.2g}"
            ax.set_title(f"{label}\nf ≤ {shown}", fontsize="medium")
            ax.label_outer()
    return figure


def moving(fn: Any, groups: Groups, window: Window, legend: str) -> "FuncAnimation":
    """Return paths as moving points with short tails, in a panel for each group.

    Where points of a panel coincide, the later one is smaller and lies on top. A point outside the
    window is not seen. `legend` is a place where no path comes, such as "upper left".
    """
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

    rows = -(-len(groups) // 2)
    figure = Figure(figsize=(9, 3.4 * rows), dpi=80, layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True, sharey=True)
    for ax in panels.flat[len(groups):]:
        ax.remove()
    traces = [trace for group in groups.values() for trace in group.values()]
    x, y = (np.linspace(*limits, 100) for limits in window)
    over = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    z = losses_at(fn, over, traces[0]).reshape(len(y), len(x))
    lines = []
    for ax, (title, group) in zip(panels.flat, groups.items(), strict=False):
        contours(ax, x, y, z)
        ax.plot(*np.transpose(fn.minima), "*", color="white", markeredgecolor="black", ms=13)
        for k, (label, trace) in enumerate(group.items()):
            look = style(k) | {"linestyle": "-", "markersize": max(4, 16 - 3.5 * k)}
            (line,) = ax.plot([], [], label=label, markevery=[-1], zorder=4 + k, **look)
            lines.append((line, points(trace)))
        ax.set_title(title)
        ax.set_xlim(*window[0])
        ax.set_ylim(*window[1])
        ax.legend(fontsize="small", handlelength=1, labelspacing=0.7, loc=legend)
    heading = figure.suptitle(" ")
    freeze(figure, {heading, *(line for line, _ in lines)})
    steps = max(trace.steps for trace in traces)
    every = -(-steps // FRAMES)

    def show(frame: int) -> list[Any]:
        step = min(frame * every, steps)
        heading.set_text(f"step {step}")
        for line, at in lines:
            line.set_data(*at[max(0, step - TAIL * every) : step + 1].T)
        return [heading, *(line for line, _ in lines)]

    return FuncAnimation(figure, show, frames=-(-steps // every) + 1 + STILL, interval=120)


def freeze(figure: "Figure", moving: set[Any]) -> None:
    """Put a picture in place of all that does not move, as drawing it takes most of the time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    background = np.array(canvas.buffer_rgba())
    figure.set_layout_engine("none")
    for ax in figure.axes:
        ax.set_axis_off()
        for artist in ax.get_children():
            artist.set_visible(artist in moving)
    behind = figure.add_axes((0, 0, 1, 1), zorder=-1)
    behind.imshow(background, aspect="auto", interpolation="nearest")
    behind.set_axis_off()
