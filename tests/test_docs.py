"""Every example in the docstrings and in the README runs and prints what it says."""

import doctest
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers import CLASSES

import fastoptim

ROOT = Path(__file__).parent.parent
MODULES = [
    m.name for m in pkgutil.walk_packages(fastoptim.__path__, "fastoptim.")
    if "rules_" not in m.name  # the same text, for a processor that this may not be
]


@pytest.mark.parametrize("name", ["fastoptim", *MODULES])
def test_docstrings(name):
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_shows_its_objective_falling(cls):
    doc = cls.__doc__
    for heading in ("Parameters", "References", "Examples", ".. math::"):
        assert heading in doc
    printed = [float(x) for x in re.findall(r"^\s*(\d+\.\d{3})$", doc, re.MULTILINE)]
    assert len(printed) >= 3
    assert printed == sorted(printed, reverse=True)


@pytest.mark.parametrize(
    ("path", "fewest"),
    [("README.md", 80), ("docs/c-api.md", 20), ("docs/ode.md", 20), ("docs/threads.md", 6),
     ("docs/groups.md", 14), ("docs/types.md", 5)],
)
def test_pages(path, fewest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / path), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted >= fewest


@pytest.mark.parametrize("path", ["README.md", "docs/c-api.md"])
def test_excerpts_are_lines_of_what_is_built(path):
    clients = "examples/c_api/factors.pyx", "examples/c_api/logistic.c"
    texts = [(ROOT / source).read_text("utf-8") for source in clients]
    texts.append(Path(fastoptim.get_include(), "fastoptim.h").read_text("utf-8"))
    excerpts = re.findall(r"```(?:cython|c)\n(.*?)```", (ROOT / path).read_text("utf-8"), re.DOTALL)
    assert excerpts
    for excerpt in excerpts:
        assert any(excerpt in text for text in texts)


def test_first_example_is_short():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks[0].strip().splitlines()) <= 12


def test_the_diff_in_contributing_is_what_the_files_say():
    """What "to add a rule" shows of Lion is there, line for line."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    diff = re.search(r"```diff\n(.*?)```", page, re.DOTALL)[1]
    for part in diff.strip().split("\n\n"):
        path, *lines = part.split("\n")
        text = (ROOT / path).read_text("utf-8")
        for line in lines:
            assert line[0] in "+@"
            assert line[0] == "@" or line[1:].strip() in text


def test_the_way_in_contributing_is_what_the_code_says():
    command = [sys.executable, str(ROOT / "docs" / "way.py"), "--check"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def cells_of_where_things_are():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = page.split("## Where things are")[1].split("## ")[0]
    return [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("cell", cells_of_where_things_are())
def test_things_are_where_contributing_says(cell):
    folders = [ROOT / "src" / "fastoptim", ROOT]
    names = re.findall(r"`([^`]+)`(:?)", cell)
    assert names
    for name, colon in names:
        if "/" not in name and "." not in name:     # a function
            continue
        assert any((folder / name).exists() for folder in folders), name
        if colon:
            folders.append(folders[0] / name)


LINKS = [
    (page.relative_to(ROOT).as_posix(), link)
    for page in (ROOT / "README.md", ROOT / "bench" / "README.md", *(ROOT / "docs").glob("*.md"))
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_to_files(page, link):
    assert (ROOT / page).parent.joinpath(link).exists()
