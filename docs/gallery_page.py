"""The gallery's part of the site: its pictures, drawn once, with captions and code."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import fastoptim
from fastoptim.gallery.catalogue import NAMES, Drawn, draw

HERE = Path(__file__).parent
FOLDER = HERE / "made" / "gallery"
SOURCES = Path(fastoptim.__file__).parent


def write() -> None:
    """Draw all pictures, unless those that are there were drawn by the same code."""
    digest, seen = of_sources(), FOLDER / "drawn.json"
    if seen.exists() and json.loads(seen.read_text("utf-8"))["sources"] == digest:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    pictures = [asdict(draw(name, FOLDER)) for name in NAMES]
    seen.write_text(json.dumps({"sources": digest, "pictures": pictures}), "utf-8")


def of_sources() -> str:
    """Return a digest of all Python code of the library."""
    texts = (path.read_bytes() for path in sorted(SOURCES.rglob("*.py")))
    return hashlib.sha256(b"".join(texts)).hexdigest()


def pictures(_: str) -> str:
    """Return the pictures as parts of a page."""
    drawn = json.loads((FOLDER / "drawn.json").read_text("utf-8"))["pictures"]
    return "\n\n".join(part(Drawn(**one)) for one in drawn)


def part(picture: Drawn) -> str:
    """Return the part of one picture."""
    images = "\n\n".join(f"![{picture.title}](made/gallery/{file})" for file in picture.files)
    caption = picture.caption.replace("*", r"\*").replace("_", r"\_")
    return (
        f"## {picture.title}\n\n{caption}\n\n{images}\n\n"
        f":::{{dropdown}} The code\n```python\n{picture.code}\n```\n:::"
    )
