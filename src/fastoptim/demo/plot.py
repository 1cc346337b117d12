"""Pictures of losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Curves are told apart without colour too: a marker and a grey of its own each, and from the
# seventh on another line.
MARKERS = ["o", "s", "^", "D", "X", "v"]
COLOURS = ["#000000", "#b83d00", "#3f8fd2", "#5a8f00", "#a23bd6", "#8a8a8a"]
LINES = ["-", "--", ":"]

Losses = tuple[Sequence[float], Sequence[float]]


def losses(curves: Mapping[str, Losses], path: Path, *, title: str, x: str, per: int = 1) -> None:
    """Draw training and validation losses side by side on one logarithmic axis; write a PNG file.

    Parameters
    ----------
    curves : mapping of label to (training, validation)
        Losses, each after `per` more of what the horizontal axis counts.
    path : Path
        Where the picture goes.
    title, x : str
        Of the picture and of the horizontal axis.
    per : int, default 1
        How much the horizontal axis counts from one loss to the next.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = len(curves) if len(curves) <= 4 else 3  # of the legend
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(10, 4.8 + 0.25 * rows), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    longest = max(len(training) for training, _ in curves.values())
    between = max(1, longest // 8)
    for place, (axes, name) in enumerate(zip(panels, ("training", "validation"), strict=True)):
        for k, (label, both) in enumerate(curves.items()):
            axes.plot(
                [per * (i + 1) for i in range(len(both[place]))],
                both[place],
                label=label if place == 0 else None,
                color=COLOURS[k % len(COLOURS)],
                linestyle=LINES[k // len(COLOURS) % len(LINES)],
                marker=MARKERS[k % len(MARKERS)],
                # staggered, so that curves that coincide are both seen
                markevery=(k * between // len(curves), between),
                linewidth=1.5,
                markersize=7,
                markeredgecolor="white",
            )
        axes.set_title(f"{name} loss")
        axes.set_xlabel(x)
        axes.grid(which="major", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yscale("log")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("mean cross-entropy")
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, handlelength=4)
    figure.savefig(path, dpi=120)
