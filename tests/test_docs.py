"""Every example in the docstrings and on the pages runs and prints what it says."""

import doctest
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers import EVERY_CLASS

import fastoptim

ROOT = Path(__file__).parent.parent
MODULES = [
    m.name for m in pkgutil.walk_packages(fastoptim.__path__, "fastoptim.")
    if "rules_" not in m.name  # the same text, for a processor that this may not be
    and not m.name.startswith("fastoptim.torch")  # it needs PyTorch: test_torch_docs.py
]


@pytest.mark.parametrize("name", ["fastoptim", *MODULES])
def test_docstrings(name):
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_every_class_shows_its_objective_falling(cls):
    doc = cls.__doc__
    for heading in ("Parameters", "References", "Examples", ".. math::"):
        assert heading in doc
    printed = [float(x) for x in re.findall(r"^\s*(\d+\.\d{3})$", doc, re.MULTILINE)]
    assert len(printed) >= 3
    assert printed == sorted(printed, reverse=True)


EXAMPLE = re.compile(r"^ *>>> ", re.MULTILINE)
MADE = "_build", "made", "rules"    # by `make docs`, from what is tested at its place
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "bench" / "README.md", *(ROOT / "docs").rglob("*.md"))
    if path.relative_to(ROOT).parts[1:2] not in [(folder,) for folder in MADE]
}


OF_TORCH = {"docs/torch.md"}  # whose examples need PyTorch: test_torch_docs.py
RUN_HERE = [path for path, text in PAGES.items() if EXAMPLE.search(text) and path not in OF_TORCH]


@pytest.mark.parametrize("path", RUN_HERE)
def test_pages(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(ROOT / path), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted == len(EXAMPLE.findall(PAGES[path]))


def test_pages_have_examples():
    assert sum(len(EXAMPLE.findall(text)) for text in PAGES.values()) >= 170


def test_the_page_on_pictures_has_every_function_with_its_arguments():
    from fastoptim import plot

    empty = inspect.Parameter.empty
    for name in plot.__all__:
        signature = inspect.signature(getattr(plot, name))
        bare = [p.replace(annotation=empty) for p in signature.parameters.values()]
        call = f"{name}{inspect.Signature(bare)}".replace("'", '"')
        assert f"\n| `{call}` |" in PAGES["docs/plots.md"]


def test_excerpts_are_lines_of_what_is_built():
    clients = "examples/c_api/factors.pyx", "examples/c_api/logistic.c"
    texts = [(ROOT / source).read_text("utf-8") for source in clients]
    texts.append(Path(fastoptim.get_include(), "fastoptim.h").read_text("utf-8"))
    page = PAGES["docs/c-api.md"]
    excerpts = re.findall(r"```(?:cython|c)\n(.*?)```", page, re.DOTALL)
    assert excerpts
    for excerpt in excerpts:
        assert any(excerpt in text for text in texts)


def test_the_readme_is_two_screens():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 120
    first = re.search(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)[1]
    assert len(first.strip().splitlines()) <= 12
    assert {"    make demo", "    make test"} < set(lines)
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[0] == "## Speed, of the whole training step"


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


@pytest.mark.parametrize("script", ["way.py", "costs.py"])
def test_what_is_made_of_the_code_is_what_the_code_says(script):
    """The way of an update in CONTRIBUTING.md, the tables of docs/costs.md."""
    command = [sys.executable, str(ROOT / "docs" / script), "--check"]
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
    (path, link) for path, text in PAGES.items() for link in re.findall(r"\]\(([^)#:]+)\)", text)
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_to_files(page, link):
    assert (ROOT / page).parent.joinpath(link).exists()


# ---------------------------------------------------------------- the README in Chinese

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LANGUAGES = [
    COMMENT.sub("", text)
    for text in (PAGES["README.md"], (ROOT / "README.zh-CN.md").read_text("utf-8"))
]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}\S.*\n)+", re.MULTILINE)
TARGET = re.compile(r"\]\(([^)]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-\d+)?")


def links_of(text):
    """Where links and pictures lead, sorted: words come in another order in another language."""
    here = {"README.md": "the other", "README.zh-CN.md": "the other"}
    return sorted(here.get(target, target) for target in TARGET.findall(text))


def tables_of(text):
    """Of each row of each table how many cells it has, its code and its numbers."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [
        (row.count("|"), CODE.findall(row), NUMBER.findall(CODE.sub("", row))) for row in rows
    ]


def prose_of(text):
    """Code and numbers that the sentences have."""
    text = "\n".join(line for line in FENCED.sub("", text).splitlines() if line[:1] != "|")
    plain = TARGET.sub("]", CODE.sub("", text))
    return set(CODE.findall(text)), sorted(NUMBER.findall(plain))


@pytest.mark.parametrize(
    "part", [FENCED.findall, INDENTED.findall, links_of, tables_of, prose_of],
    ids=["fenced", "indented", "links", "tables", "prose"],
)
def test_the_chinese_readme_says_the_same(part):
    """Section by section: blocks of code, links, tables' numbers, code and numbers in sentences."""
    english, chinese = (re.split(r"^## ", text, flags=re.MULTILINE) for text in LANGUAGES)
    assert any(part(text) for text in english)
    assert [part(text) for text in chinese] == [part(text) for text in english]


def test_each_readme_links_to_the_other():
    tops = [text.splitlines()[2] for text in LANGUAGES]
    assert tops == ["English | [简体中文](README.zh-CN.md)", "[English](README.md) | 简体中文"]
