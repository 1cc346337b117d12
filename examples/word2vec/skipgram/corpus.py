"""What is trained on: sentences as numbers.

A corpus is one int32 array of word numbers and one int64 array of where its sentences begin; word
0 is the most frequent. It is read once, line by line, and takes 4 bytes a word.
"""

import ast
import os
import re
import sysconfig
import warnings
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

LONGEST = 10_000  # words of one sentence; a longer line is cut, and no window reaches over the cut
NOT_READ = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class InputError(Exception):
    """A corpus, a file or an option that cannot be used, and why: the user's to mend."""


@dataclass
class Corpus:
    """Sentences as numbers, and the words that the numbers stand for.

    Attributes
    ----------
    words : list of str
        The vocabulary, most frequent first.
    counts : array of int64
        How often each occurs.
    ids : array of int32
        All sentences one behind the other, without the words that are too rare.
    starts : array of int64
        Where each sentence begins in `ids`, and at the end the length of `ids`.
    """

    words: list[str]
    counts: np.ndarray
    ids: np.ndarray
    starts: np.ndarray

    def __post_init__(self) -> None:
        """The loop indexes tables by these numbers and checks nothing."""
        self.ids = np.ascontiguousarray(self.ids, np.int32)
        self.starts = np.ascontiguousarray(self.starts, np.int64)
        if not (
            len(self.words) == len(self.counts) > self.ids.max(initial=0)
            and self.ids.min(initial=0) >= 0
            and self.starts[0] == 0
            and self.starts[-1] == len(self.ids)
            and np.all(np.diff(self.starts) > 0)
        ):
            raise ValueError("ids must be numbers of words, and starts rise from 0 to len(ids)")


def from_file(path: Path) -> Iterator[list[str]]:
    """Yield the words of each line of a UTF-8 file, with a progress bar over its bytes."""
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as problem:
        raise InputError(f"cannot read {path}: {problem.strerror}") from None
    with file, tqdm(
        total=size, desc="reading", unit="B", unit_scale=True, disable=None, leave=False, delay=1
    ) as bar:
        try:
            for number, line in enumerate(file, 1):
                try:
                    yield line.decode().removeprefix("\ufeff" if number == 1 else "").split()
                except UnicodeDecodeError as problem:
                    raise InputError(
                        f"{path} is not UTF-8: line {number} has byte 0x{line[problem.start]:02x} "
                        f"at column {problem.start + 1}; convert it, for instance with iconv"
                    ) from None
                bar.update(len(line))
        except OSError as problem:  # a directory opens on some systems, and says so here
            raise InputError(f"cannot read {path}: {problem.strerror}") from None


def from_python() -> Iterator[list[str]]:
    """Yield the sentences of Python's own English: documentation topics, then docstrings.

    The same for the same version of Python. Nothing is imported: the sources are only parsed.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, below, names in os.walk(library):
        below[:] = sorted({*below} - NOT_READ)
        files += [Path(folder, name) for name in sorted(names) if name.endswith(".py")]
    topics = library / "pydoc_data" / "topics.py"
    for path in tqdm(
        [topics, *(path for path in files if path != topics)], unit="file",
        desc="reading Python's documentation", disable=None, leave=False, delay=1,
    ):
        for text in texts_of(path):
            for sentence in re.split(r"[.!?:]\s|\n\s*\n", text.lower()):
                words = re.findall(r"[a-z]+(?:'[a-z]+)*", sentence)
                if words:
                    yield words


def texts_of(path: Path) -> Iterator[str]:
    """Yield the docstrings of a source file, or the values of the documentation topics."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escape sequences
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):  # a library without sources; a file made to fail
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and path.parent.name == "pydoc_data":
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def encode(sentences: Iterable[list[str]], min_count: int = 5, name: str = "the corpus") -> Corpus:
    """Number the words of sentences, most frequent first.

    Parameters
    ----------
    sentences : iterable of list of str
    min_count : int, default 5
        Words that occur less often are left out, as if they were not in the text.
    name : str, optional
        What to call the corpus in an error.

    Returns
    -------
    Corpus
    """
    if type(min_count) is not int or min_count < 1:
        raise InputError(f"--min-count must be a whole number of at least 1, got {min_count!r}")
    number: dict[str, int] = {}
    ids, lengths = array("i"), array("q")
    for words in sentences:
        for start in range(0, len(words), LONGEST):
            part = words[start : start + LONGEST]
            ids.extend([number.setdefault(word, len(number)) for word in part])
            lengths.append(len(part))
    if not ids:
        raise InputError(f"{name} is empty: it has no words")
    found = np.frombuffer(ids, np.int32)
    counts = np.bincount(found)
    order = np.argsort(-counts, kind="stable")  # of equally frequent words, the earlier one first
    order = order[counts[order] >= min_count]
    if len(order) < 2:
        raise InputError(
            f"{name} has {len(order)} of the 2 words that a vocabulary needs: of its "
            f"{len(number)} different words only these occur at least {min_count} times; "
            f"lower --min-count or give more text"
        )
    rank = np.full(len(number), -1, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    ranked = rank[found]
    kept = ranked >= 0
    ends = np.cumsum(np.frombuffer(lengths, np.int64))
    starts = np.concatenate([[0], np.concatenate([[0], np.cumsum(kept)])[ends]])
    names = list(number)
    return Corpus(
        [names[i] for i in order], counts[order], ranked[kept],
        np.unique(starts),  # a sentence of which nothing is left is none
    )
