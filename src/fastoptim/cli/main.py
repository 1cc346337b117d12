"""The grammar of the command ``fastoptim``, and its exit status."""

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import fastoptim
from fastoptim.cli import bench, completion, demo, gallery, info, inspect, paths
from fastoptim.cli.arguments import negative_joined
from fastoptim.cli.refused import Refused

COMMANDS = (demo, bench, gallery, paths, info, inspect)


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    first_line = (fastoptim.__doc__ or "").split("\n")[0]
    top = argparse.ArgumentParser(
        prog="fastoptim", description=first_line,
        epilog="Exit status: 0 done; 1 a check failed, the output says which; 2 the command cannot "
        "do what is asked.",
    )
    top.add_argument("--version", action="version", version=f"fastoptim {fastoptim.__version__}")
    completion.add(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    Without a command the help goes to stderr, and the status is 2, as with ruff and cython: a
    script that has lost the name of its command must not go on as if it had been run.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal may have no µ and no ×
        sys.stdout.reconfigure(errors="backslashreplace")
    grammar = parser()
    arguments = grammar.parse_args(negative_joined(sys.argv[1:] if argv is None else argv))
    if arguments.command is None:
        grammar.print_help(sys.stderr)
        return 2
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
    except Refused as refusal:
        return refused(arguments.command, refusal)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as problem:  # a disk that is full, say
        where = f"{problem.filename}: " if problem.filename else ""
        return refused(arguments.command, f"{where}{problem.strerror or problem}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return int(status)


def refused(command: str, why: object) -> int:
    """Say on one line why a command cannot go on; return the exit status."""
    print(f"fastoptim {command}: {why}", file=sys.stderr)
    return 2
