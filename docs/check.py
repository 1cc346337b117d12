"""Check the site that was built: python docs/check.py docs/_build/html.

* No page loads anything from another host, so that all of it can be read offline.
* Every public name of the library is described on some page.
* No command of LaTeX is left in a formula.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import fastoptim

LOADED = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href",
    "object": "data", "script": "src", "source": "src", "video": "src",
}
HOST = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
OF_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)


class Page(HTMLParser):
    """What a page loads from other hosts, the names it has, and its formulas."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.foreign: list[str] = OF_STYLE.findall(text)
        self.names: set[str] = set()
        self.feed(text)
        self.formulas = re.findall(r"<math .*?</math>", text, re.DOTALL)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag loads, and its name."""
        for name, value in attributes:
            if name == LOADED.get(tag) and HOST.match(value or ""):
                self.foreign.append(value or "")
            if name == "srcset" and re.search(r"(?:^|,)\s*(?:https?:)?//", value or ""):
                self.foreign.append(value or "")
            if name == "id" and value:
                self.names.add(value)


def faults(pages: dict[str, str], styles: dict[str, str], public: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with a site: texts of pages and style sheets by path."""
    names = set()
    for path, text in pages.items():
        page = Page(text)
        names |= page.names
        for address in page.foreign:
            yield f"{path} loads {address}, which is not there offline: copy it to docs/_static"
        for formula in page.formulas:
            for command in re.findall(r"\\[A-Za-z]+", formula):
                yield f"{path} has {command} in a formula; mathml.py does not know it"
    for path, text in styles.items():
        for address in OF_STYLE.findall(text):
            yield f"{path} loads {address}, which is not there offline"
    for name in public:
        if not names & {f"fastoptim.{name}", f"module-fastoptim.{name}"}:
            yield f"no page describes fastoptim.{name}; docs/api.md should"


def of_torch() -> list[str]:
    """Return the public names of fastoptim.torch, which can be imported with PyTorch alone."""
    spec = find_spec("fastoptim.torch")
    assert spec is not None
    assert spec.origin is not None
    for statement in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return [f"torch.{name}" for name in ast.literal_eval(statement.value)]
    raise LookupError(f"{spec.origin} has no __all__")


def main() -> int:
    """Check a site; return the exit status."""
    site = Path(sys.argv[1])
    pages, styles = (
        {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob(pattern)}
        for pattern in ("*.html", "*.css")
    )
    found = list(faults(pages, styles, [*fastoptim.__all__, *of_torch()]))
    for fault in found:
        print(fault)
    print(f"{len(pages)} pages, {len(found)} faults")
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main())
