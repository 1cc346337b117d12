"""The folder of a gallery, written when all of it has been drawn."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from fastoptim.checkpoint.files import naming
from fastoptim.gallery.catalogue import draw, one_thread
from fastoptim.gallery.page import page


def write(folder: Path, names: Sequence[str], *, quiet: bool = False) -> Path:
    """Draw pictures beside a folder's files, then put them there; return the page's path."""
    with one_thread(), TemporaryDirectory(dir=folder, prefix=".gallery.") as new:
        drawn = []
        with tqdm(names, unit="picture", disable=True if quiet else None, leave=False) as bar:
            for name in bar:
                bar.set_postfix_str(name)
                drawn.append(draw(name, Path(new)))
        (Path(new) / "index.html").write_text(page(drawn), encoding="utf-8")
        for file in (*chain.from_iterable(picture.files for picture in drawn), "index.html"):
            with naming(str(folder / file)):
                (Path(new) / file).replace(folder / file)
    return folder / "index.html"
