"""`losses`: how the losses of runs fall."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.plot import style
from fastoptim.plot.given import labelled
from fastoptim.porting.answers import shown
from fastoptim.tracing import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Runs = Trace | Sequence[Trace] | Mapping[str, Trace | Sequence[float]]


def losses(
    runs: Runs, ax: "Axes | None" = None, *, first: float = 0, per: float = 1,
    x: str = "step", y: str = "loss", log: bool | None = None, legend: bool = True,
) -> "Axes":
    """Draw losses against steps, or against whatever they were taken after.

    Parameters
    ----------
    runs : Trace, list of Trace, or mapping of labels to Trace or to a sequence of numbers
        A line each. The labels of a list are the traces' names.
    ax : matplotlib axes, optional
        Where to draw; a new figure if not given, as for `paths`. A second call on other axes draws
        the runs of the same places in the same style.
    first, per : float, default 0 and 1
        The k-th loss of a run, k = 0, 1, …, is drawn at first + k·per.
    x, y : str, default "step" and "loss"
        The axes' labels.
    log : bool, optional
        Whether the losses' axis is logarithmic. By default it is if no loss is negative.
    legend : bool, default True
        Whether there is a legend.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        A trace has no losses, a run is not a sequence of numbers, or there is none.
    TypeError
        `runs` are not as described.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import fastoptim as fo
    >>> ax = fo.plot.losses({"training": [1.0, 0.3, 0.1], "validation": [1.1, 0.5, 0.4]}, x="epoch")
    >>> ax.get_yscale()
    'log'
    """
    check(first, per, log)
    lines = [(label, numbers(label, run)) for label, run in labelled(runs)]
    ax = style.axes(ax)
    between = max(1, max(len(line) for _, line in lines) // 8)
    for k, (label, line) in enumerate(lines):
        # The markers are staggered, so that lines that coincide are both seen.
        offset = min(k * between // len(lines), max(0, len(line) - 1))
        ax.plot(
            first + per * np.arange(len(line)), line, label=label,
            markevery=(offset, between), markersize=7, linewidth=1.5, **style.style(k),
        )
    finite = np.concatenate([line[np.isfinite(line)] for _, line in lines])
    if log is None:
        log = len(finite) > 0 and finite.min() >= 0 and finite.max() > 0
    if log:
        ax.set_yscale("log")
    if per == int(per) and first == int(first):
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    style.plain(ax)
    if legend:
        style.legend(ax)
    return ax


def check(first: object, per: object, log: object) -> None:
    """Refuse numbers that are none."""
    for name, given in (("first", first), ("per", per)):
        if isinstance(given, bool) or not isinstance(given, (int, float, np.integer, np.floating)):
            raise TypeError(f"{name} must be a number, got {given!r}")
        if not np.isfinite(given):
            raise ValueError(f"{name} must be finite, got {given}")
    if not (log is None or isinstance(log, (bool, np.bool))):
        raise TypeError(f"log must be True, False or None, got {log!r}")


def numbers(label: str, run: Any) -> Any:
    """Return a run's losses; those that are not finite are left out of the line."""
    if isinstance(run, Trace):
        if run.losses is None:
            raise ValueError(
                f"the trace of {label} has no losses: its fn returned only gradients"
            )
        run = run.losses
    try:
        line = np.array(run, float)
    except (TypeError, ValueError):
        line = None
    if line is None or line.ndim != 1:
        raise ValueError(
            f"runs[{label!r}] must be a Trace or a sequence of numbers, got {shown(run)}"
        )
    return np.where(np.isfinite(line), line, np.nan)
