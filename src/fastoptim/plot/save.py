"""`save`: a picture's file, written as a whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastoptim.checkpoint.files import replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: "Figure", path: Path) -> None:
    """Write the picture beside its place, and rename it: one that is there stays until then."""
    kind = path.suffix.lower()[1:]
    replace_file(
        str(path),
        lambda temporary: figure.savefig(temporary, format=kind, dpi=120),
        lambda file, temporary: None,
    )
