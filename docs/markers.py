"""What a page of the site has that the file has not.

``<!-- equivalents: PyTorch -->`` becomes a table: on a forge, where pages are read as they are, a
comment is nothing; the site has what it names. Links that lead out of docs/ are those of links.py.
"""

import argparse
import os
import re
from pathlib import Path
from unittest.mock import patch

import equivalents
import gallery_page
import links
import pasted
import rule_pages

import fastoptim
from fastoptim.cli.main import parser

HERE = Path(__file__).parent
ROOT = HERE.parent
MARKER = re.compile(r"^<!-- ([a-z ]+?)(?:: (.+))? -->$", re.MULTILINE)

# doctest wants an empty line after what is printed; a reader does not
LAST_LINE = re.compile(r"(^```python\n(?:(?!```).*\n)*?)\n(?=```$)", re.MULTILINE)
FENCED = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)


def replace(app: object, page: str, source: list[str]) -> None:
    """Put what the comments of a page name in their place."""
    path = (HERE / page).with_suffix(".md")
    if path.relative_to(HERE).as_posix() in links.PAGES.values():
        return      # links.py has made it of a file that is not for the site alone
    text = links.rewrite(source[0], path.parent, path)
    text = MARKER.sub(lambda found: made(*found.groups("")) + "\n", text)
    text = FENCED.sub(lambda found: pasted.ended(found[0]), text)
    source[0] = LAST_LINE.sub(r"\1", text)


def made(what: str, of: str) -> str:
    """Return what a comment names."""
    if what not in MADE:
        raise LookupError(f"<!-- {what} --> is not known; there are {', '.join(MADE)}")
    return MADE[what](of)


def way_of_an_update(_: str) -> str:
    """Return the picture that way.py draws into CONTRIBUTING.md."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    start, end = "<!-- the way: made by docs/way.py -->\n", "<!-- the way ends -->\n"
    return page.split(start)[1].split(end)[0]


def help_of_commands(_: str) -> str:
    """Return what ``fastoptim --help`` says, and that of each command."""
    top = parser()
    with patch.dict(os.environ, COLUMNS="95", NO_COLOR="1"):    # whatever terminal this is
        texts = [f"```text\n{top.format_help()}```\n"]
        for action in top._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    texts.append(f"## fastoptim {name}\n\n```text\n{command.format_help()}```\n")
    return "\n".join(texts)


def problems(_: str) -> str:
    """Return a table of the functions that rules are tried on."""
    lines = ["| problem | function | start | minima |", "|---|---|---|---|"]
    for name, problem in fastoptim.problems.ALL.items():
        start = ", ".join(f"{key} = {x:g}" for key, x in problem.first.items())
        minima = "; ".join(", ".join(f"{x:g}" for x in point) for point in problem.minima)
        lines.append(
            f"| `problems.{name.replace('-', '_')}` | {problem.formula} | {start} | {minima} |"
        )
    return "\n".join(lines)


MADE = {
    "equivalents": equivalents.page_part,
    "gallery": gallery_page.pictures,
    "way of an update": way_of_an_update,
    "help of commands": help_of_commands,
    "problems": problems,
    "table of rules": rule_pages.table,
    "pages of rules": rule_pages.contents,
}
