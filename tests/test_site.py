"""The documentation site: what its pages are made of. `make docs` builds and checks it."""

import ast
import codeop
import doctest
import importlib
import inspect
import re
import sys
from itertools import takewhile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import fastoptim as fo
from fastoptim.cli.main import COMMANDS
from fastoptim.optimizer.base import Optimizer

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import check  # noqa: E402
import equivalents  # noqa: E402
import links  # noqa: E402
import markers  # noqa: E402
import pasted  # noqa: E402
import rule_pages  # noqa: E402

sys.path.remove(str(DOCS))

MATHML = "http://www.w3.org/1998/Math/MathML"
RULES = rule_pages.rules()
METHODS = {"Heun": 2, "RK23": 4, "RK45": 6}     # arrays of the parameters' sizes


# ---------------------------------------------------------------- a page of each rule


def test_every_rule_has_a_page(tmp_path):
    public = {name: getattr(fo, name) for name in fo.__all__}
    rules = {
        name for name, rule in public.items()
        if inspect.isclass(rule) and issubclass(rule, Optimizer) and rule is not Optimizer
    }
    left = tmp_path / "rules" / "gone.md"
    left.parent.mkdir()
    left.touch()
    rule_pages.write(tmp_path / "rules")
    pages = {path.stem for path in (tmp_path / "rules").iterdir()}
    assert pages == {name.lower() for name in rules | METHODS.keys()}
    for name in rules | METHODS.keys():
        page = (tmp_path / "rules" / f"{name.lower()}.md").read_text("utf-8")
        assert f".. autoclass:: fastoptim.{name}(" in page
        for row in equivalents.of_rule(name):
            assert row.theirs in page
            assert row.ours in page
            assert f"`{row.by}`" in page


def variants():
    """Every kernel of every rule, with arguments that choose it where there are several."""
    flags = "amsgrad", "centered", "nesterov"
    numbers = {"momentum": 0.5}, {"centered": True, "momentum": 0.5}, {"beta1": 0.5}
    for cls in RULES:
        if rule_pages.is_method(cls):
            continue
        found = {}
        listing = [{"form": "listing"}] if cls is fo.Nesterov else []
        for flag in [{}, *({name: True} for name in flags), *listing, *numbers]:
            if flag.keys() <= inspect.signature(cls).parameters.keys():
                found.setdefault(cls(**flag).kernel, flag)
        assert found.keys() == cls.kernels.keys()
        for kernel, flag in found.items():
            yield pytest.param(cls, kernel, flag, id=kernel)


@pytest.mark.parametrize(("cls", "kernel", "flag"), list(variants()))
def test_bytes_per_parameter_are_those_that_an_update_keeps(cls, kernel, flag):
    told = {name: sizes for name, _, *sizes in rule_pages.memory(cls)}
    shape = (2, 5) if cls.of_matrices else (10,)
    variants = [(kernel, shape, cls.kernels[kernel], 0)]
    if cls.factored:                    # two slots of a matrix, which come first, are vectors
        variants.append((f"{kernel}, matrices", (2, 5), cls.factored[kernel], 2 + 5))
    for name, shape, slots, beside in variants:
        for dtype, size in zip((np.float32, np.float64), told[name], strict=True):
            opt = cls(**flag)
            opt.update({"x": np.ones(shape, dtype)}, {"x": np.ones(shape, dtype)})
            kept = sum(getattr(opt, slot)["x"].nbytes for slot in slots)
            assert kept == 10 * size + beside * np.dtype(dtype).itemsize


@pytest.mark.parametrize("name", METHODS)
def test_bytes_per_parameter_of_methods_are_those_of_the_page(name):
    (_, _, single, double), = rule_pages.memory(getattr(fo, name))
    assert (single, double) == (4 * METHODS[name], 8 * METHODS[name])
    row = next(line for line in (DOCS / "ode.md").read_text("utf-8").splitlines()
               if line.startswith(f"| `fo.{name}("))
    assert row.endswith(f"| {METHODS[name]} |")


@pytest.mark.parametrize("cls", RULES)
def test_arguments_are_the_rules_own_in_their_order(cls):
    own = re.findall(r"(?:^|, )(\w+)=", rule_pages.arguments(cls))
    every = list(inspect.signature(cls).parameters)
    inherited = [] if rule_pages.is_method(cls) else list(inspect.signature(fo.SGD).parameters)[1:]
    kept = [name for name in every if name not in inherited or name in cls.__annotations__]
    assert own == kept
    listed = "".join(rule_pages.options(cls))
    told = re.findall(r"`(\w+)`", listed) if inherited else []
    assert told == [name for name in inherited if name not in own]


@pytest.mark.parametrize("cls", [fo.Lion, fo.RK23, fo.RAdam])
def test_the_path_is_one_of_a_rate_that_does_not_climb(cls, tmp_path):
    rate = rule_pages.best_rate(cls)
    rule_pages.draw(cls, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    text = "\n".join(rule_pages.picture(cls))
    assert f"]({cls.__name__.lower()}.png)" in text
    assert f"with lr = {rate:g}, beside SGD with lr = {rule_pages.best_rate(fo.SGD):g}:" in text
    losses = rule_pages.path(cls, rate).losses
    assert losses.max() == losses[0] > losses[-1]
    for other in (rate / 10, rate * 10):
        others = rule_pages.path(cls, other).losses
        assert others.max() > others[0] or others[-1] >= losses[-1]


# ---------------------------------------------------------------- formulas


@pytest.fixture
def mathml():
    pytest.importorskip("latex2mathml")     # of the extra docs, like all that builds the site
    pytest.importorskip("sphinx")
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("mathml")
    sys.path.remove(str(DOCS))


def test_lines_and_parts_of_a_formula(mathml):
    assert mathml.split(r"a &= b \\ c &= {d & e}", r"\\") == ["a &= b", "c &= {d & e}"]
    assert mathml.split(r"c &= {d & e}", "&") == ["c", "= {d & e}"]
    table = ElementTree.fromstring(mathml.displayed(r"a &\leftarrow b \\ cd &= \frac{1}{2}"))
    cells = [["".join(cell.itertext()) for cell in row] for row in table.iter(f"{{{MATHML}}}mtr")]
    assert cells == [["a", "←b"], ["cd", "=12"]]


def test_cases_are_a_table_in_a_formula(mathml):
    latex = r"a &= \begin{cases} 1 & \text{if } b \\ 2 & \text{else} \end{cases} \\ c &= d"
    outer, inner = ElementTree.fromstring(mathml.displayed(latex)).iter(f"{{{MATHML}}}mtable")
    assert (len(outer), len(inner)) == (2, 2)


def formulas():
    for cls in RULES:
        for part in inspect.cleandoc(cls.__doc__).split(".. math::")[1:]:
            lines = takewhile(lambda line: not line or line.startswith(" "), part.split("\n"))
            yield cls.__name__, "\n".join(lines).strip()


@pytest.mark.parametrize(("name", "latex"), list(formulas()))
def test_formulas_of_the_rules(mathml, name, latex):
    text = "".join(ElementTree.fromstring(mathml.displayed(latex)).itertext())
    assert text
    assert not re.search(r"[\\&{}]", text), text


# ---------------------------------------------------------------- the numbers of other libraries


def test_the_readme_has_the_rows_that_are_asked_for_most():
    rows = equivalents.of_readme()
    assert len(rows) == 10
    assert equivalents.table(rows) in (ROOT / "README.md").read_text("utf-8")


def calls():
    for row in equivalents.rows():
        for code in re.findall(r"`(fo\.\w+\(.*?\))`", row.ours):
            yield pytest.param(row, code, id=f"{row.library}: {code}")


@pytest.mark.parametrize(("row", "code"), list(calls()))
def test_a_row_is_a_call_that_the_rule_takes(row, code):
    call = ast.parse(code.replace("…", "_"), mode="eval").body
    rule = getattr(fo, call.func.attr)
    assert rule.__name__ in row.rules()
    named = {word.arg for word in call.keywords}
    inspect.signature(rule).bind(*call.args, **dict.fromkeys(named))


@pytest.mark.parametrize("row", equivalents.rows())
def test_a_row_is_held_by_a_test(row):
    file, _, name = row.by.partition("::")
    text = (ROOT / "tests" / file).read_text("utf-8")
    assert f"def {name or 'test_'}" in text


@pytest.mark.parametrize("count", [1, 4, 5, 9, 12])
def test_every_note_of_a_table_has_a_mark_of_its_own(count):
    rows = [equivalents.Row("X", f"`a{k}`", f"`b{k}`", "t", f"note {k}.") for k in range(count)]
    rows.append(rows[0]._replace(theirs="`last`"))
    text = equivalents.table(rows)
    marks = dict(re.findall(r"`b(\d+)` ([⁰¹²³⁴⁵⁶⁷⁸⁹]+) ", text))
    assert len(set(marks.values())) == count
    for k, mark in marks.items():
        assert f"\n\n{mark} note {k}.\n" in text
    assert text.count("note 0.") == 1


def test_every_row_is_in_its_librarys_table():
    for library in equivalents.libraries():
        part = equivalents.page_part(library)
        for row in equivalents.rows_of(library):
            assert f"| {row.theirs} | {row.ours}" in part
            assert row.note in part
    with pytest.raises(LookupError, match="no library 'Torch'; it has PyTorch, Keras"):
        equivalents.page_part("Torch")


def test_a_key_that_no_row_has_is_an_error(tmp_path, monkeypatch):
    data = tmp_path / "equivalents.toml"
    data.write_text('[[library]]\nname = "L"\nby = "t"\nrows = [{theirs = "a", our = "b"}]\n')
    monkeypatch.setattr(equivalents, "DATA", data)
    with pytest.raises(TypeError, match="our"):
        equivalents.rows()


# ---------------------------------------------------------------- what stands for what


def replaced(text, page="coming-from/some"):
    source = [text]
    markers.replace(None, page, source)
    return source[0]


def test_comments_become_what_they_name():
    text = replaced("before\n\n<!-- equivalents: Optax -->\nafter\n")
    assert text == f"before\n\n{equivalents.page_part('Optax')}\n\nafter\n"
    assert "driver.run" in replaced("<!-- way of an update -->\n")
    commands = replaced("<!-- help of commands -->\n")
    for command in COMMANDS:
        assert f"## fastoptim {command.__name__.rpartition('.')[2]}\n" in commands
    assert replaced("[a](../../bench/README.md)\n") == "[a](../made/bench.md)\n"
    with pytest.raises(LookupError, match="<!-- equivalent --> is not known; there are equiv"):
        replaced("<!-- equivalent: Optax -->\n")


def test_every_comment_of_the_pages_is_known():
    found = {
        (match[1], path.name) for path in DOCS.rglob("*.md")
        if not {"made", "_build"} & set(path.parts)
        for match in markers.MARKER.finditer(path.read_text("utf-8"))
    }
    assert {what for what, _ in found} <= markers.MADE.keys()
    assert ("way of an update", "how-built.md") in found


def test_the_empty_line_before_a_fence_is_doctests():
    text = "```python\n>>> 1\n1\n\n```\n\n```text\na\n\n```\n"
    assert replaced(text) == "```python\n>>> 1\n1\n```\n\n```text\na\n\n```\n"


PASTED = [
    (">>> for i in a:\n...     b\n>>> c\n", ">>> for i in a:\n...     b\n...\n>>> c\n"),
    (">>> @d\n... def f(): b\n0\n>>> c\n", ">>> @d\n... def f(): b\n...\n0\n>>> c\n"),
    (">>> with a as b:\n...     c\n\n>>> d\n", ">>> with a as b:\n...     c\n...\n\n>>> d\n"),
    (">>> for i in a:\n...     b\n", None), (">>> a = f(\n...     b\n... )\n>>> c\n", None),
    (">>> a = [1,\n...      2]\n>>> with_c\n", None), (">>> if a: b\n...\n>>> c\n", None),
]


@pytest.mark.parametrize(("code", "expected"), PASTED)
def test_a_block_ends_where_an_interpreter_wants_it(code, expected):
    """Pasted into Python's own prompt, a loop ends at an empty line."""
    assert pasted.ended(code) == (expected or code)
    assert replaced(f"```python\n{code}```\n") == f"```python\n{expected or code}```\n"


def copied(text):
    """What the copy button takes of a block."""
    prompt = re.compile(r">>> |\.\.\. ?")
    lines = (line for line in text.splitlines() if prompt.match(line))
    return "".join(f"{prompt.sub('', line, count=1)}\n" for line in lines) + "\n"


def typed(text):
    """The statements that Python's prompt makes of lines; what it does not take is an error."""
    compiler, buffer, found = codeop.CommandCompiler(), [], []
    for line in text.splitlines():
        buffer.append(line)
        source = "\n".join(buffer)
        if source.strip() and compiler(source):
            found.append(source)
        elif source.strip():
            continue
        buffer = []
    return found, buffer


PAGES = [
    path for path in [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("coming-from/*.md"))]
    if path.name != "gallery.md"        # it needs its pictures, and has no examples with prompts
]


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_what_is_copied_from_a_page_is_what_its_examples_are(path):
    page = path.relative_to(DOCS).with_suffix("").as_posix()
    text = replaced(path.read_text("utf-8"), page)
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        examples = doctest.DocTestParser().get_examples(block)
        statements, rest = typed(copied(block))
        assert len(statements) == len(examples)
        assert not rest


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](rules.md)", "[a](rules.md)"),
        ("[a](../setup.py)", "[a](../setup.py)"),
        ("[a](../bench/README.md)", "[a](made/bench.md)"),
        ("[a](../CONTRIBUTING.md#to-add-a-rule)", "[a](made/contributing.md#to-add-a-rule)"),
        ("[a](../README.md)", "[a](index.md)"),
        ("[`a`](../examples/word2vec)", "[`a`](made/word2vec.md)"),
        ("[a](../examples/c_api)", "a"),
        ("[a](https://example.org/b)", "[a](https://example.org/b)"),
        ("[a](#b)", "[a](#b)"),
        ("[a](no-such-page.md)", "[a](no-such-page.md)"),
        ("![a](../README.md)", "![a](../README.md)"),
    ],
)
def test_links_out_of_the_folder(link, expected):
    assert links.rewrite(link, DOCS, DOCS / "page.md") == expected


def test_links_of_a_page_made_of_a_file_elsewhere():
    text = "[a](docs/rules.md) [b](../README.md) [c](CHANGELOG.md)"
    page = DOCS / "made" / "contributing.md"
    assert links.rewrite(text.replace("../", ""), ROOT, page) == (
        "[a](../rules.md) [b](../index.md) [c](changelog.md)"
    )


# ---------------------------------------------------------------- the check of the whole


@pytest.mark.parametrize(
    "loaded",
    [
        '<script src="https://cdn.example/a.js"></script>', '<img src="http://example.org/a.png">',
        '<link rel="stylesheet" href="//cdn.example/a.css">', '<iframe src="HTTPS://a.b"></iframe>',
        '<img srcset="a.png 1x, https://a.b/c.png 2x">', '<p style="background: url(//a.b/c.png)">',
        '<style>@import "https://fonts.example/a";</style>',
    ],
)
def test_a_page_that_loads_from_another_host_is_a_fault(loaded):
    found, = check.faults({"a.html": f"<body>{loaded}</body>"}, {}, ())
    assert found.startswith("a.html loads ")


def test_what_a_site_may_have():
    text = (
        '<a href="https://example.org">a</a><img src="_static/a.png"><script src="a.js"></script>'
        '<dt id="fastoptim.Adam"></dt><section id="module-fastoptim.schedules"></section>'
        '<math xmlns="http://www.w3.org/1998/Math/MathML"><mi>a</mi></math>'
    )
    style = {"a.css": "url(a.png)"}
    assert list(check.faults({"a.html": text}, style, ("Adam", "schedules"))) == []


def test_every_public_name_has_its_directive():
    """So that `make docs` is not the first to miss one; the rules have pages of their own."""
    page = (DOCS / "api.md").read_text("utf-8")
    described = re.findall(r"^\.\. (?:auto\w+|py:data):: fastoptim\.(\w+)", page, re.MULTILINE)
    assert set(fo.__all__) <= {*described, *(cls.__name__ for cls in RULES)}
    of_torch = re.findall(r"^\.\. autoclass:: fastoptim\.(torch\.\w+)", page, re.MULTILINE)
    assert sorted(check.of_torch()) == sorted(of_torch)
    assert "torch.AdamW" in of_torch


def test_other_faults_of_a_site():
    pages = {"a.html": r"<math display='block'><mi>\frob</mi></math>"}
    styles = {"a.css": "@import url('https://a.b/c.css');"}
    formula, style, name = check.faults(pages, styles, ("Adam",))
    assert formula.startswith(r"a.html has \frob in a formula")
    assert style.startswith("a.css loads https://a.b/c.css")
    assert name.startswith("no page describes fastoptim.Adam")
