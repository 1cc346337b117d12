"""What the pages for newcomers show: a whole program, and the same loop in another library."""

import doctest
import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def fenced(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def blocks(path):
    """The Python blocks of a page: programs, and examples with prompts."""
    found = fenced(path.read_text("utf-8"))
    return [b for b in found if ">>>" not in b], [b for b in found if ">>>" in b]


def source_of(examples):
    return "".join(e.source for e in doctest.DocTestParser().get_examples(examples))


def test_the_first_network_is_the_example():
    programs, _ = blocks(DOCS / "first-network.md")
    assert programs == [(ROOT / "examples" / "first_network.py").read_text("utf-8")]


def test_the_first_network_prints_what_the_page_says(capsys):
    """Losses to a tenth: the products are those of this machine's BLAS."""
    pytest.importorskip("sklearn")
    names = runpy.run_path(str(ROOT / "examples" / "first_network.py"))
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"^    (epoch .*)", (DOCS / "first-network.md").read_text("utf-8"), re.M)
    assert len(printed) == len(said) == 6
    for ours, pages in zip(printed, said, strict=True):
        assert re.sub(r"\d", "0", ours) == re.sub(r"\d", "0", pages)
        numbers = [np.array(re.findall(r"[\d.]+", line), float) for line in (ours, pages)]
        np.testing.assert_allclose(*numbers, rtol=0.1)
        assert abs(numbers[0][-1] - numbers[1][-1]) < 1      # accuracy, in %
    assert names["accuracy"](names["x_test"], names["t_test"]) > 0.95


# page: the libraries that its other loop needs, the parameter where both loops must have arrived
SIDE_BY_SIDE = {
    "pytorch": (("torch",), "W"), "optax": (("jax", "optax"), "W"), "cs231n": ((), "W1"),
}


def ends_of(page):
    """The parameter at the end of their loop and at the end of ours."""
    libraries, key = SIDE_BY_SIDE[page]
    for library in libraries:
        pytest.importorskip(library)
    programs, examples = blocks(DOCS / "coming-from" / f"{page}.md")
    theirs, ours = {}, {}
    exec(programs[0], theirs)
    exec(source_of(examples[0]), ours)
    tensor = theirs["W"]
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor), ours["params"][key]


@pytest.fixture
def as_before():
    """JAX computes in float64 on its page, and elsewhere as before."""
    if not find_spec("jax"):
        yield
        return
    import jax

    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", SIDE_BY_SIDE)
def test_both_loops_end_at_the_same_numbers(page, as_before):
    theirs, ours = ends_of(page)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)     # PyTorch clips by c / (norm + 1e-6)


def test_a_model_of_pytorch_is_trained_in_place():
    torch = pytest.importorskip("torch")
    names = {}
    exec(blocks(DOCS / "coming-from" / "pytorch.md")[0][1], names)
    assert names["params"]["weight"].ctypes.data == names["net"].weight.data_ptr()
    assert torch.equal(names["net"].weight, torch.tensor(names["params"]["weight"]))
    assert 0 < float(names["loss"].detach()) < 1e-3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gradients_of_jax_are_taken(as_before):
    pytest.importorskip("jax")
    names = {}
    exec(blocks(DOCS / "coming-from" / "optax.md")[0][1], names)
    assert names["params"]["W"].tolist() == [0.375, -0.5]


def test_every_page_has_a_place_for_its_table():
    """Of the library's name in the one table of equivalents."""
    names = {
        "book": "the book", "pytorch": "PyTorch", "keras": "Keras", "optax": "Optax",
        "cs231n": "cs231n", "scikit-learn": "scikit-learn",
    }
    pages = {path.stem: path for path in (DOCS / "coming-from").glob("*.md")}
    assert set(pages) == set(names)
    for stem, path in pages.items():
        markers = re.findall(r"^<!-- equivalents: (.*) -->$", path.read_text("utf-8"), re.M)
        assert markers == [names[stem]]


FIRST, *ANSWERS = re.split(r"^## ", (DOCS / "how-do-i.md").read_text("utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("answer", ANSWERS, ids=[text.partition("\n")[0] for text in ANSWERS])
def test_an_answer_runs_without_the_others(answer, tmp_path, monkeypatch):
    """Who looks up one answer has the page's two imports, and no more."""
    if "sklearn" in answer:
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    text = "\n\n".join(block for part in (FIRST, answer) for block in fenced(part))
    examples = doctest.DocTestParser().get_doctest(text, {}, "how-do-i", None, 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


def slug(heading):
    """A heading's anchor, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


ANCHORS = [
    (page.relative_to(ROOT).as_posix(), file, anchor)
    for page in sorted(DOCS.rglob("*.md"))
    if "_build" not in page.parts
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "file", "anchor"), ANCHORS)
def test_links_lead_to_headings(page, file, anchor):
    path = ROOT / page
    text = (path.parent / file if file else path).read_text("utf-8")
    assert anchor in [slug(h) for h in re.findall(r"^#+ (.*)", text, re.MULTILINE)]
