"""The demonstration's picture: training and validation losses, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastoptim import plot
from fastoptim.plot.save import save

Losses = tuple[Sequence[float], Sequence[float]]


def both_losses(
    curves: Mapping[str, Losses], path: Path, *, title: str, x: str, per: int = 1
) -> None:
    """Draw training and validation losses on one logarithmic axis; write a PNG file.

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

    columns = len(curves) if len(curves) <= 4 else 3  # of the legend
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(10, 4.8 + 0.25 * rows), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for place, (axes, name) in enumerate(zip(panels, ("training", "validation"), strict=True)):
        plot.losses(
            {label: both[place] for label, both in curves.items()}, axes,
            first=per, per=per, x=x, y="mean cross-entropy" if place == 0 else "",
            log=True, legend=False,
        )
        axes.set_title(f"{name} loss")
    panels[0].yaxis.set_major_formatter("{x:g}")
    figure.suptitle(title)
    lines = panels[0].get_lines()
    figure.legend(
        handles=lines, loc="outside lower center", ncols=columns, frameon=False, handlelength=4
    )
    save(figure, path)
