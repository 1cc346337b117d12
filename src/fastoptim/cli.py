"""The command ``fastoptim``."""

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path

import fastoptim


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    first_line = (fastoptim.__doc__ or "").split("\n")[0]
    top = argparse.ArgumentParser(prog="fastoptim", description=first_line)
    top.add_argument("--version", action="version", version=f"fastoptim {fastoptim.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="train a network on handwritten digits with each rule, beside the NumPy listings",
        description="Trains a 64-100-10 perceptron on scikit-learn's handwritten digits with each "
        "rule, once with its NumPy listing and once with fastoptim; prints a table and draws the "
        "loss curves. Exit status 1 if two runs end on different bits.",
    )
    demo.add_argument("--epochs", type=positive, default=50, metavar="N", help="default 50")
    demo.add_argument(
        "--output", type=Path, default=Path("demo"), metavar="DIR",
        help="folder for loss.png, made if missing (default: demo)",
    )
    demo.add_argument("--quiet", action="store_true", help="no progress bar")
    commands.add_parser("info", help="show versions, instruction set, OpenMP and threads")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal may have no µ and no ×
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    if arguments.command == "info":
        fastoptim.show_runtime()
        return 0
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as missing:
        print(
            f"fastoptim demo needs {missing.name}: pip install 'fastoptim[demo]'", file=sys.stderr
        )
        return 1
    from fastoptim import demo

    try:
        return demo.main(arguments.epochs, arguments.output, arguments.quiet)
    except BrokenPipeError:  # whoever read the table has had enough
        sys.stderr.close()
        return 1
    except OSError as problem:
        print(f"fastoptim demo: cannot write to {arguments.output}: {problem}", file=sys.stderr)
        return 1
