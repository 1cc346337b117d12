"""`schedule`: what schedules give, update by update."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastoptim.optimizer.hyperparameters import checked_number, real_number
from fastoptim.plot import style
from fastoptim.schedules.arguments import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

One = Callable[[int], Any] | float


def schedule(
    schedules: One | Sequence[One] | Mapping[str, One], steps: int, ax: "Axes | None" = None, *,
    x: str = "completed updates", y: str = "learning rate", log: bool = False, legend: bool = True,
) -> "Axes":
    """Draw the numbers that schedules give at steps 0, 1, …, `steps`.

    Parameters
    ----------
    schedules : callable or float, list of these, or mapping of labels to these
        A line each: any callables from a step to a number, and numbers, which do not change.
        Without labels a schedule is called by its name, such as "cosine_decay"; those of a list
        that share a name are numbered.
    steps : int
        The last step, in [1, inf). Every step is asked for; of `schedules.plateau`, which does not
        look at the step, the number now is drawn.
    ax : matplotlib axes, optional
        Where to draw; a new figure if not given, as for `paths`.
    x, y : str, default "completed updates" and "learning rate"
        The axes' labels.
    log : bool, default False
        Whether the numbers' axis is logarithmic.
    legend : bool, default True
        Whether there is a legend.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        Something is neither callable nor a number, or a schedule gives no number.
    ValueError
        There is nothing to draw, or `steps` is no whole number in [1, inf).
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import fastoptim as fo
    >>> rate = fo.schedules.one_cycle(0.1, steps=100)
    >>> ax = fo.plot.schedule({"1cycle": rate, "half of it": rate / 2}, steps=100)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('completed updates', 'learning rate')
    """
    last = whole("steps", steps)
    lines = [(label, numbers_of(label, one, last)) for label, one in named(schedules)]
    ax = style.axes(ax)
    between = max(1, last // 8)
    for k, (label, line) in enumerate(lines):
        # The markers are staggered, so that lines that coincide are both seen.
        ax.plot(
            line, label=label, markevery=(k * between // len(lines), between), markersize=7,
            linewidth=1.5, **style.style(k),
        )
    if log:
        ax.set_yscale("log")
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    style.plain(ax)
    if legend:
        style.legend(ax)
    return ax


def named(schedules: Any) -> list[tuple[str, Any]]:
    """Return labels with schedules."""
    if isinstance(schedules, Mapping):
        pairs = [(str(label), one) for label, one in schedules.items()]
    elif isinstance(schedules, (list, tuple)):
        names = [name_of(one) for one in schedules]
        pairs = [
            (f"{name} ({1 + names[:k].count(name)})" if names.count(name) > 1 else name, one)
            for k, (name, one) in enumerate(zip(names, schedules, strict=True))
        ]
    else:
        pairs = [(name_of(schedules), schedules)]
    if not pairs:
        raise ValueError("there is no schedule to draw")
    return pairs


def name_of(one: Any) -> str:
    """Return what to call a schedule that has no label: a number, a function's or class's name."""
    if not callable(one):
        return str(one)
    return str(getattr(one, "__name__", type(one).__name__))


def any_number(name: str, value: Any) -> float:
    """Return a number as a float; infinities and NaN are left out of the line."""
    number = real_number(name, value, "a number")
    return number if np.isfinite(number) else np.nan


def numbers_of(label: str, one: Any, last: int) -> NDArray[np.float64]:
    """Return what a schedule gives at steps 0, 1, …, last."""
    name = f"schedules[{label!r}]"
    if not callable(one):
        return np.full(last + 1, any_number(name, one))
    return np.array(
        [checked_number(name, any_number, one, one(step), step) for step in range(last + 1)], float
    )
