"""The language model of the examples: that it trains alike with either library, and the program."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from helpers import run_python

pytest.importorskip("torch")
pytest.importorskip("tqdm")

PROGRAM = Path(__file__).parent.parent / "examples" / "characters.py"
SMALL = ["--steps=12", "--width=8", "--depth=1", "--sample=0"]
WORDS = "the quick brown fox jumps over the lazy dog. " * 100


@pytest.fixture(scope="module")
def example():
    spec = spec_from_file_location("characters", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(example, name, *more):
    options = example.parsed([*SMALL, *more])
    text = example.Text(WORDS)
    return example.Run(name, text, options).train()


def test_the_losses_are_the_same_with_either_optimizer(example):
    """In float64, where rounding has not grown by the twelfth step."""
    theirs, fused, ours = (
        trained(example, name, "--float64") for name in ("torch", "fused", "fastoptim")
    )
    assert len(ours.losses) == len(ours.steps) == len(ours.updates) == 12
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-9)
    assert fused.losses == pytest.approx(theirs.losses, rel=1e-9)
    assert ours.losses[-1] < ours.losses[0] - 0.1
    parameters = zip(ours.model.parameters(), theirs.model.parameters(), strict=True)
    assert all((a - b).abs().max() < 1e-6 for a, b in parameters)


def test_no_character_is_seen_before_it_comes(example):
    """What the model says of a place does not change with the characters behind it."""
    import torch

    torch.manual_seed(0)
    model = example.Model(20, 8, 2).to(torch.float64)
    x = torch.randint(20, (1, 30))
    changed = x.clone()
    changed[0, 17:] = (changed[0, 17:] + 1) % 20
    with torch.no_grad():
        before, after = model(x)[0], model(changed)[0]
    same = (before - after).abs().amax(1) < 1e-12
    assert same.tolist() == [k < 17 for k in range(30)]


def test_a_batch_is_the_text_and_what_comes_next(example):
    import torch

    text = example.Text(WORDS)
    x, t = text.batch(text.training, torch.Generator().manual_seed(0), 5)
    assert x.shape == t.shape == (5, example.CONTEXT)
    assert torch.equal(x[:, 1:], t[:, :-1])
    for row in x:
        assert "".join(text.characters[k] for k in row) in WORDS


def test_the_texts_of_python_are_long_enough(example, monkeypatch):
    """Also where the documentation's topics were left out."""
    assert len(example.of_python()) > 100_000
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    sources = example.of_python()
    assert 100_000 < len(sources) <= 500_000
    assert "def " in sources


def test_the_program_compares_all_three(example, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, picture = tmp_path / "words.txt", tmp_path / "loss.png"
    path.write_text(WORDS, "utf-8")
    small = ["--compare", "--steps=30", "--width=8", "--depth=1", "--sample=20"]
    assert example.main([*small, f"--text={path}", f"--picture={picture}"]) == 0
    out = capsys.readouterr().out
    assert f"{len(WORDS):,} characters, {len(set(WORDS))} different ones" in out
    header, first, *rest = out.splitlines()[1:9]
    assert header.split() == ["step", *example.OPTIMIZERS]
    step, theirs, _, ours = first.split()
    assert step == "1"
    assert float(ours) == pytest.approx(float(theirs), abs=1e-4)
    assert [line.split()[0] for line in rest] == ["6", "12", "18", "24", "30", "held"]
    assert re.search(r"^ +optimizer( +[\d.]+ ms){3}", out, re.MULTILINE)
    written = out.partition("fastoptim writes:\n")[2]
    assert len(written) >= 20
    assert set(written) <= set(WORDS) | {"\n"}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "argument",
    [
        "--steps=10", "--width=6", "--lr=0", "--depth=0", "--optimizer=adam", "--seed=-1",
        f"--seed={2**63}", "--text=no-such-file", "--picture=no-such-folder/loss.png",
        "--picture=loss.txt",
    ],
)
def test_bad_arguments_end_with_2(argument):
    done = run_python(PROGRAM, argument)
    assert done.returncode == 2
    assert argument.partition("=")[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_fewest_steps_are_drawn(example, tmp_path, capsys):
    """The schedule's rise and the means of the picture need some."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / "loss.png"
    small = ["--steps=11", "--width=4", "--depth=1", "--sample=0", f"--picture={picture}"]
    assert example.main(small) == 0
    assert "held out" in capsys.readouterr().out
    assert picture.exists()


def test_an_interrupt_ends_in_one_line(example, monkeypatch, capsys):
    def step(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(example.Run, "step", step)
    assert example.main(SMALL) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
