"""Rules as points that move over a function: an animation, for `rules_*` of pictures/."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.plot import paths
from fastoptim.plot.given import points
from fastoptim.plot.style import style
from fastoptim.tracing import Trace

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation

FRAMES = 50
STILL = 10  # frames at the end in which nothing moves, before it begins again
TAIL = 6  # frames


def moving(
    fn: Any, traces: Mapping[str, Trace], window: Any, panels: tuple[int, int] = (2, 2)
) -> "FuncAnimation":
    """Return paths as moving points with short tails, dealt in their order to the panels.

    Where points coincide, the later and smaller one lies on top.
    """
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    axes: Sequence[Any] = figure.subplots(*panels, sharex=True, sharey=True).ravel()
    each = -(-len(traces) // len(axes))
    pairs = list(traces.items())
    lines = []
    for k, ax in enumerate(axes):
        for j, (label, trace) in enumerate(pairs[k * each : (k + 1) * each]):
            look = style(j) | {"linestyle": "-", "markersize": 11 - 2 * j}
            (line,) = ax.plot([], [], label=label, markevery=[-1], zorder=3 + j, **look)
            lines.append((line, points(trace)))
    steps = max(trace.steps for trace in traces.values())
    every = -(-steps // FRAMES)

    def show(frame: int) -> list[Any]:
        step = min(frame * every, steps)
        for line, at in lines:
            line.set_data(*at[max(0, step - TAIL * every) : step + 1].T)
        figure.suptitle(f"step {step}")
        return [line for line, _ in lines]

    return FuncAnimation(figure, show, frames=-(-steps // every) + 1 + STILL, interval=100)
