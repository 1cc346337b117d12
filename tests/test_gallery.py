"""fastoptim gallery: the folder that it writes, and what it refuses."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers import run_python

from fastoptim.cli import main as cli
from fastoptim.gallery import catalogue, write


class Page(HTMLParser):
    """What a page loads, and its headings."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.images += [attrs["src"]] if tag == "img" else []
        self.links += [attrs["href"]] if tag == "a" else []
        self.ids += [attrs["id"]] if tag == "section" else []


def run(capsys, *arguments):
    """The exit status, stdout and stderr of a command."""
    status = cli.main(["gallery", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_a_folder_of_one_picture(tmp_path, capsys):
    folder = tmp_path / "new" / "gallery"
    status, out, err = run(capsys, "--only", "rates", "--output", folder, "--quiet")
    assert (status, out, err) == (0, f"{folder / 'index.html'}\n", "")
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "rates.png"]
    assert (folder / "rates.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "index.html").read_text("utf-8")
    page = Page(text)
    assert (page.images, page.ids) == (["rates.png"], ["rates"])
    assert set(page.links) == {"#rates", "rates.png"}
    assert "://" not in text                            # it loads nothing from elsewhere
    assert "{" not in re.sub(r"<(pre|style)>.*?</\1>", "", text, flags=re.DOTALL)


def test_the_code_beside_a_picture_makes_it(tmp_path):
    """As a script of its own, in a folder of its own."""
    drawn = catalogue.draw("rates", tmp_path)
    shown = (tmp_path / "rates.png").read_bytes()
    (tmp_path / "rates.png").unlink()
    done = run_python("-c", drawn.code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rates.png").read_bytes() == shown


def test_every_picture_has_a_file_and_every_file_is_a_picture():
    folder = Path(catalogue.__file__).parent / "pictures"
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert files == sorted(catalogue.NAMES)


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
def test_nothing_is_half_written(raised, tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text("as it was")

    def draw(name, folder):
        (folder / f"{name}.png").write_text("new")
        if name == "second":
            raise raised
        return catalogue.Drawn(name, name, name, name, (f"{name}.png",))

    monkeypatch.setattr(write, "draw", draw)
    with pytest.raises(raised):
        write.write(tmp_path, ["first", "second"], quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "as it was"
    write.write(tmp_path, ["first"], quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "index.html"]


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        status, out, err = run(capsys, "--output", folder)
        assert (status, out) == (2, "")
        assert err.startswith(f"fastoptim gallery: cannot write to {folder}: ")
        assert err.endswith("; give another --output\n")


def test_a_folder_in_the_place_of_a_picture_is_named(tmp_path, capsys):
    (tmp_path / "rates.png").mkdir()
    status, out, err = run(capsys, "--only", "rates", "--output", tmp_path, "--quiet")
    assert (status, out) == (2, "")
    assert err == f"fastoptim gallery: {tmp_path / 'rates.png'}: Is a directory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]


def test_an_unknown_picture(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(capsys, "--only", "rate", "--output", tmp_path / "none")
    assert stop.value.code == 2
    assert "'rate' is no picture. Did you mean rates?" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_without_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = run(capsys, "--output", tmp_path / "none")
    assert status == 2
    assert "matplotlib is not installed: pip install 'fastoptim[gallery]'\n" in err
    assert not (tmp_path / "none").exists()
