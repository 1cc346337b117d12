"""Pictures of what the rules do."""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Told apart without colour too: each has its own marker and its own grey.
MARKERS = ["o", "s", "^", "D", "X", "v"]
COLOURS = ["#000000", "#b83d00", "#3f8fd2", "#5a8f00", "#a23bd6", "#8a8a8a"]


def losses(curves: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw loss against epoch, one line per rule, on a logarithmic axis; write a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    longest = max(len(values) for values in curves.values())
    between = max(1, longest // 8)
    for k, (name, values) in enumerate(curves.items()):
        axes.plot(
            range(1, len(values) + 1),
            values,
            label=name,
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            # staggered, so that curves that coincide are both seen
            markevery=(k * between // len(curves), between),
            linewidth=1.5,
            markersize=7,
            markeredgecolor="white",
        )
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss (mean cross-entropy)")
    axes.set_title("Handwritten digits, 64-100-10 perceptron, default hyperparameters")
    axes.grid(which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, handlelength=3)
    figure.savefig(path, dpi=120)
