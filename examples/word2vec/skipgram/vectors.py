"""Vectors in files, in the text and binary formats of word2vec, and words that are alike."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import numpy as np

from skipgram.corpus import InputError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place at the end, if nothing was raised."""
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write to {path}: it is not a file")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"cannot write to {path}: it is read-only")
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = scratch.open("xb")
    except OSError as problem:
        raise InputError(f"cannot write to {path}: {problem.strerror}") from None
    try:
        with file:
            yield file
        scratch.replace(path)
    except OSError as problem:  # a full disk
        raise OSError(f"cannot write to {path}: {problem.strerror}") from problem
    finally:
        scratch.unlink(missing_ok=True)


def write(file: BinaryIO, words: Sequence[str], vectors: np.ndarray, binary: bool) -> None:
    """Write vectors as word2vec does.

    A first line with the number of words and the dimension; then for each word the word, a space
    and its numbers, float32, little-endian or with nine digits, which is all that they have.
    """
    file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
    numbers = " ".join(["%.9g"] * vectors.shape[1])
    for word, vector in zip(words, vectors, strict=True):
        if binary:
            file.write(word.encode() + b" " + vector.astype("<f4").tobytes() + b"\n")
        else:
            file.write(f"{word} {numbers % tuple(vector.tolist())}\n".encode())


def read(path: Path, binary: bool) -> tuple[list[str], np.ndarray]:
    """Return the words and the vectors of a file in one of word2vec's formats."""
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise InputError(f"cannot read {path}: {problem.strerror}") from None
    kind = "binary" if binary else "text"
    try:
        head, _, rest = data.partition(b"\n")
        count, dim = map(int, head.split())
        words, rows = (read_binary if binary else read_text)(rest, count, dim)
    except (ValueError, IndexError) as problem:
        raise InputError(
            f"{path} is not a whole file of vectors in word2vec's {kind} format ({problem}); "
            f"{'without' if binary else 'with'} --binary it is read as "
            f"{'text' if binary else 'binary'}"
        ) from None
    return words, rows


def read_text(data: bytes, count: int, dim: int) -> tuple[list[str], np.ndarray]:
    lines = data.decode().rstrip("\n").split("\n")
    if len(lines) != count:
        raise ValueError(f"{count} words announced, {len(lines)} found")
    rows = np.empty((count, dim), np.float32)
    words = []
    for row, line in zip(rows, lines, strict=True):
        word, *numbers = line.rstrip(" ").split(" ")
        if len(numbers) != dim:
            raise ValueError(f"{dim} numbers announced, {len(numbers)} found for {word!r}")
        words.append(word)
        row[:] = np.array(numbers, np.float32)
    return words, rows


def read_binary(data: bytes, count: int, dim: int) -> tuple[list[str], np.ndarray]:
    rows = np.empty((count, dim), np.float32)
    words, at = [], 0
    for row in rows:
        space = data.index(b" ", at)
        words.append(data[at:space].lstrip(b"\n").decode())  # gensim writes no newlines
        at = space + 1 + 4 * dim
        row[:] = np.frombuffer(data[space + 1 : at], "<f4", dim)
    if data[at:].strip(b"\n"):
        raise ValueError(f"it goes on after the {count} words announced")
    return words, rows


def check_words(wanted: Sequence[str], words: Sequence[str]) -> None:
    """Raise if a word is not in the vocabulary, with words that look like it."""
    known = set(words)
    for word in wanted:
        if word not in known:
            close = get_close_matches(word, words, 3)
            hint = f"; close to it: {', '.join(close)}" if close else ""
            raise InputError(f"{word!r} is not in the vocabulary of {len(words)} words{hint}")


def most_similar(
    words: Sequence[str], vectors: np.ndarray, word: str, n: int = 10
) -> list[tuple[str, float]]:
    """Return the n words whose vectors have the largest cosine with a word's.

    Parameters
    ----------
    words : sequence of str
    vectors : array of shape (len(words), dim)
    word : str
    n : int

    Returns
    -------
    list of (str, float)
    """
    check_words([word], words)
    k = words.index(word)
    norms = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors[k] / np.maximum(norms * norms[k], np.finfo(np.float32).tiny)
    order = np.argsort(-cosines, kind="stable")
    return [(words[i], float(cosines[i])) for i in order if i != k][:n]
