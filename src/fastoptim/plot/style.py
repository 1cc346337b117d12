"""What tells one line of a picture from another, and where a picture is drawn.

Lines are told apart three times over, so that neither colour blindness nor a printer in black and
white takes the difference away: by marker, by dashes, and by a colour whose grey is its own.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# 7 markers and 4 dashes have no common divisor: the first 28 lines differ in one or the other. The
# greys of the colours are 0, 119, 87, 147, 59 and 174 of 255.
MARKERS = ["o", "s", "^", "D", "X", "v", "P"]
LINES = ["-", "--", "-.", ":"]
COLOURS = ["#000000", "#d55e00", "#0b6bb8", "#3fbf8a", "#5a1f78", "#efb000"]

# Of what is not a line of its own: the function below the paths, and the lines of a grid.
FILL = ["#d4d4d4", "#ffffff"]  # from the lowest loss to the highest
CONTOUR = "#a8a8a8"
GRID = "#dddddd"


def style(k: int) -> dict[str, Any]:
    """Return how the k-th line is drawn, k = 0, 1, …, as arguments of ``ax.plot``."""
    return {
        "color": COLOURS[k % len(COLOURS)],
        "linestyle": LINES[k % len(LINES)],
        "marker": MARKERS[k % len(MARKERS)],
        "markeredgecolor": "white",
        "markeredgewidth": 0.7,
    }


def axes(ax: "Axes | None", width: float = 7.0, height: float = 4.6) -> "Axes":
    """Return the axes to draw on: those given, or those of a new figure, of a size in inches.

    The new figure is one of pyplot's where that is imported or a notebook runs, so that the
    notebook and ``plt.show()`` show it. Elsewhere nothing but the axes keeps it: a server that
    draws for days does not fill its memory, and no window system is looked for.
    """
    if ax is not None:
        return checked(ax)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "fastoptim.plot draws with matplotlib, which is not installed: "
            "pip install 'fastoptim[plot]'"
        ) from None
    if {"matplotlib.pyplot", "ipykernel"} & sys.modules.keys():
        from matplotlib import pyplot

        figure: Figure = pyplot.figure(figsize=(width, height), layout="constrained")
    else:
        figure = Figure(figsize=(width, height), layout="constrained")
    return figure.subplots()


def checked(ax: Any) -> "Axes":
    """Return what was given as ``ax``, if it is axes."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        several = "; choose one of them, as in ax[0]" if hasattr(ax, "__getitem__") else ""
        raise TypeError(f"ax must be matplotlib axes, got {type(ax).__name__}{several}")
    return ax


def plain(ax: "Axes") -> None:
    """Leave out the frame's upper and right line, and draw a light grid behind the lines."""
    ax.grid(which="major", color=GRID)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def legend(ax: "Axes") -> None:
    """Add a legend, beside the axes where it is long and the figure makes room by itself."""
    room = ax.figure.get_layout_engine() is not None
    beside = room and len(ax.get_legend_handles_labels()[1]) > 7
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)} if beside else {"loc": "best"}
    ax.legend(fontsize="small", handlelength=3.5, framealpha=0.9, **place)
