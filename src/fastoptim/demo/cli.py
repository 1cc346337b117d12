"""The command ``fastoptim``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from itertools import chain
from pathlib import Path

import fastoptim
from fastoptim.demo import methods as demo_methods
from fastoptim.demo import train as demo


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def names_of(what: str, known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return what reads one name or several with commas between; "all" is every known one."""
    exact = {name.lower(): name for name in known}

    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not names:
            raise argparse.ArgumentTypeError(f"no {what} is named; there are {', '.join(known)}")
        for name in names:
            if name.lower() not in ("all", *exact):
                close = get_close_matches(name.lower(), exact, n=1)
                hint = f" Did you mean {exact[close[0]]}?" if close else ""
                raise argparse.ArgumentTypeError(
                    f"{name!r} is no {what}.{hint} There are {', '.join(known)}, and all"
                )
        if "all" in (name.lower() for name in names):
            return list(known)
        return [exact[name.lower()] for name in names]

    return read


def once(lists: Sequence[list[str]]) -> list[str]:
    """Return the names of all lists in their order, each once."""
    return list(dict.fromkeys(chain.from_iterable(lists)))


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    first_line = (fastoptim.__doc__ or "").split("\n")[0]
    top = argparse.ArgumentParser(prog="fastoptim", description=first_line)
    top.add_argument("--version", action="version", version=f"fastoptim {fastoptim.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "demo",
        help="train a network on handwritten digits with each rule, beside the NumPy listings",
        description="Trains a 64-512-256-10 perceptron on scikit-learn's handwritten digits with "
        "each rule, once with its NumPy listing, where it has one, and once with fastoptim; prints "
        "a table of losses and times and draws the losses. Exit status 1 if any step gives other "
        "bits than the listing.",
    )
    command.add_argument(
        "--rules", nargs="+", type=names_of("rule", demo.rule_names()), metavar="NAME",
        help=f"rules to train with, or all (default: {' '.join(demo.LISTED)})",
    )
    command.add_argument(
        "--methods", nargs="*", type=names_of("method", demo_methods.METHODS), metavar="NAME",
        help="follow the gradient flow by SGD and Runge-Kutta methods instead, at equal numbers of "
        f"gradient evaluations (default: {' '.join(demo_methods.METHODS)}); with --rules do both",
    )
    command.add_argument("--epochs", type=positive, default=30, metavar="N", help="default 30")
    command.add_argument(
        "--output", type=Path, default=Path("demo"), metavar="DIR",
        help="folder for loss.png and methods.png, made if missing (default: demo)",
    )
    command.add_argument(
        "--own-threads", action="store_true",
        help="leave NumPy's products on threads of their own; without it they run on the threads "
        "of updates, as after fastoptim.share_threads()",
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
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
    rules, methods = arguments.rules, arguments.methods
    if rules is None:
        rules = [] if methods is not None else [demo.LISTED]
    if methods == []:
        methods = [demo_methods.METHODS]
    try:
        return demo.main(
            once(rules), once(methods or []), arguments.epochs, arguments.output, arguments.quiet,
            share=not arguments.own_threads,
        )
    except BrokenPipeError:  # whoever read the table has had enough
        sys.stderr.close()
        return 1
    except OSError as problem:
        print(f"fastoptim demo: cannot write to {arguments.output}: {problem}", file=sys.stderr)
        return 1
