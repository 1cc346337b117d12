"""Pages that lie beside docs/, and links that lead out of it.

On a forge a page links to files and folders of the repository. In the site such a link leads to the
page that is made of the file (`PAGES`), or else to a copy of it; a folder is its README.
"""

import os
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGES = {
    "CHANGELOG.md": "made/changelog.md",
    "CONTRIBUTING.md": "made/contributing.md",
    "bench/README.md": "made/bench.md",
    "examples/online/README.md": "made/online.md",
    "examples/word2vec/README.md": "made/word2vec.md",
}
HOME = {"README.md": "index.md"}
LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\(([^)\s:#]+)(#[^)]*)?\)")


def rewrite(text: str, folder: Path, page: Path) -> str:
    """Return the text of a page whose links start in a folder, for a page of the site."""
    def link(found: re.Match[str]) -> str:
        name, target, anchor = found[1], found[2], found[3] or ""
        path = Path(os.path.normpath(folder / target))
        if path.is_dir():
            path /= "README.md"
        if not path.exists():       # of a folder without a README, or Sphinx says that it is lost
            return name if path.parent.is_dir() and path.name == "README.md" else found[0]
        made = (PAGES | HOME).get(path.relative_to(ROOT).as_posix())
        path = HERE / made if made else path
        return f"[{name}]({Path(os.path.relpath(path, page.parent)).as_posix()}{anchor})"

    return LINK.sub(link, text)


def write(folder: Path) -> None:
    """Write the pages that are made of files beside docs/."""
    folder.mkdir(exist_ok=True)
    for file, made in PAGES.items():
        source, page = ROOT / file, HERE / made
        text = rewrite(source.read_text("utf-8"), source.parent, page)
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8", newline="\n")
