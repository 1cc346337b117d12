"""python -m skipgram: the command line."""

import argparse
import dataclasses
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

from skipgram import corpus, vectors
from skipgram.corpus import InputError
from skipgram.options import Options
from skipgram.training import train


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="skipgram",
        description="Train word vectors: skip-gram, negative sampling, any rule of fastoptim.",
    )
    top.add_argument(
        "corpus", type=Path, nargs="?", metavar="CORPUS",
        help="UTF-8 text, one sentence per line, words with spaces between (default: the English "
        "text of Python's documentation topics and docstrings)",
    )
    top.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the vectors go")
    top.add_argument(
        "--binary", action="store_true", help="word2vec's binary format, as for a FILE.bin"
    )
    top.add_argument(
        "--most-similar", action="append", default=[], metavar="WORD",
        help="print the ten words most like this one; can be given several times",
    )
    top.add_argument(
        "--vectors", type=Path, metavar="FILE", help="train nothing: take the vectors of a file"
    )
    top.add_argument(
        "--min-count", type=int, default=argparse.SUPPRESS, metavar="N",
        help="leave out words that occur less often (default: 5)",
    )
    for field in dataclasses.fields(Options):
        kind = field.type if isinstance(field.type, type) else float
        default = f" (default: {field.default})" if field.default is not None else ""
        top.add_argument(
            "--" + field.name.replace("_", "-"), type=kind, default=argparse.SUPPRESS,
            metavar={int: "N", float: "X", str: "NAME"}[kind],
            help=field.metadata["help"] + default,
        )
    return top


def same_file(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def check(given: argparse.Namespace, options: dict[str, Any]) -> None:
    """Refuse what would be ignored or would lose something."""
    if given.vectors:
        useless = ["--" + name.replace("_", "-") for name in options]
        useless += ["CORPUS"] if given.corpus else []
        useless += ["--output"] if given.output else []
        if useless:
            raise InputError(f"--vectors trains nothing; leave out {', '.join(useless)}")
        if not given.most_similar:
            raise InputError("--vectors needs a --most-similar WORD")
    elif not given.output and not given.most_similar:
        raise InputError("the vectors would be lost: give -o FILE, --most-similar WORD, or both")
    elif given.binary and not given.output:
        raise InputError("--binary needs -o FILE")
    elif given.output and given.corpus and same_file(given.output, given.corpus):
        raise InputError(f"{given.output} is the corpus itself; give another file to -o")


def run(given: argparse.Namespace) -> None:
    names = ["min_count", *(field.name for field in dataclasses.fields(Options))]
    options = {name: vars(given)[name] for name in names if name in given}
    check(given, options)
    file = given.vectors or given.output
    binary = given.binary or (file is not None and file.suffix == ".bin")
    if given.vectors:
        words, rows = vectors.read(given.vectors, binary)
        vectors.check_words(given.most_similar, words)
    else:
        min_count = options.pop("min_count", 5)
        chosen = Options(**options)
        with vectors.replacing(given.output) if given.output else nullcontext() as output:
            if given.corpus:
                sentences, name = corpus.from_file(given.corpus), str(given.corpus)
            else:
                sentences, name = corpus.from_python(), "the text of Python's documentation"
            text = corpus.encode(sentences, min_count, name)
            vectors.check_words(given.most_similar, text.words)
            start = perf_counter()
            model = train(text, chosen)
            seconds = perf_counter() - start
            words, rows = model.words, model.inputs
            if output:
                vectors.write(output, words, rows, binary)
        done = len(text.ids) * chosen.epochs
        print(
            f"skipgram: {len(words):,} vectors of {chosen.dim}; {done:,} words in {seconds:.1f} s, "
            f"{done / seconds:,.0f} words/s"
            + (f"; {given.output}" if output else ""), file=sys.stderr,
        )
    for word in given.most_similar:
        print(word)
        for other, cosine in vectors.most_similar(words, rows, word):
            print(f"  {cosine:.4f}  {other}")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    try:
        run(parser().parse_args(argv))
    except InputError as problem:
        print(f"skipgram: error: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # of the words that are printed at the end, into | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:  # a full disk, at the end
        print(f"skipgram: error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("skipgram: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not have a corpus's letters
    sys.exit(main())
