"""The page on PyTorch runs, and the reference says what its classes take."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import fastoptim  # noqa: E402
import fastoptim.torch  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "torch.md").read_text("utf-8")
MODULES = [m.name for m in pkgutil.iter_modules(fastoptim.torch.__path__, "fastoptim.torch.")]


@pytest.fixture
def as_before():
    """What a page sets is not there for the tests after it."""
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("name", ["fastoptim.torch", *MODULES])
def test_docstrings(name, as_before):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_page(tmp_path, monkeypatch, as_before):
    pytest.importorskip("numba")
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(DOCS / "torch.md"), module_relative=False, encoding="utf-8")
    assert result.failed == 0
    assert result.attempted == len(re.findall(r"^>>> ", PAGE, re.MULTILINE))


def test_the_page_names_every_class():
    listed = re.search(r"## The classes\n\n(.*?)\. Each", PAGE, re.DOTALL)[1]
    assert {*re.findall(r"`(\w+)`", listed), "Optimizer"} == set(fastoptim.torch.__all__)


def test_every_file_is_told_what_it_is_for():
    """In the package's docstring and in the row of CONTRIBUTING.md."""
    package = Path(fastoptim.torch.__path__[0])
    files = {path.name for pattern in ("*.py", "*.pyx", "*.h") for path in package.glob(pattern)}
    files.remove("__init__.py")
    about = (DOCS.parent / "CONTRIBUTING.md").read_text("utf-8")
    row = re.search(r"^\| the optimizers of PyTorch's names \|.*$", about, re.MULTILINE)[0]
    assert files - {*re.findall(r"`(\w+\.\w+)`", row)} == set()
    assert {name for name in files if name not in fastoptim.torch.__doc__} == set()


def test_the_reference_has_every_class_with_its_arguments():
    page = (DOCS / "api.md").read_text("utf-8")
    described = dict(re.findall(r"^\.\. autoclass:: fastoptim\.torch\.(\w+)(.*)$", page, re.M))
    assert set(described) == set(fastoptim.torch.__all__)
    empty = inspect.Parameter.empty
    for name, arguments in described.items():
        signature = inspect.signature(getattr(fastoptim.torch, name))
        bare = [p.replace(annotation=empty) for p in signature.parameters.values()]
        assert arguments == str(inspect.Signature(bare))


def test_the_answer_runs():
    page = (DOCS / "how-do-i.md").read_text("utf-8")
    answer = page.split("## Train a PyTorch model\n")[1].split("\n## ")[0]
    code, = re.findall(r"^```python\n(.*?)^```", answer, re.MULTILINE | re.DOTALL)
    names = {"net": torch.nn.Linear(3, 2), "fo": fastoptim}
    exec(code, names)
    names["net"](torch.ones(4, 3)).sum().backward()
    names["opt"].step()
    assert names["opt"].rule.iter == 1
    assert not names["net"].weight.grad.any()
