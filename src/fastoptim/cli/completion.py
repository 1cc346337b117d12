"""``fastoptim --completion SHELL``: what a shell needs to complete commands and options by Tab."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


def add(top: argparse.ArgumentParser) -> None:
    """Add the option to the grammar."""
    top.add_argument(
        "--completion", action=Print, choices=SHELLS, metavar="SHELL",
        help=f"print what completes commands and options by Tab in {', '.join(SHELLS)}; for bash: "
        'eval "$(fastoptim --completion bash)"',
    )


class Print(argparse.Action):
    """Prints the completions of a shell, and ends the process."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        """Print and end."""
        try:
            import shtab
        except ImportError:
            why = "shtab is not installed: pip install 'fastoptim[completion]'"
            parser.exit(2, f"fastoptim: {why}\n")
        for action in actions(parser):
            if action.type is Path:
                what = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                action.complete = what  # type: ignore[attr-defined]
            else:
                action.choices = getattr(action.type, "known", action.choices)
        print(shtab.complete(parser, shell=values), flush=True)
        parser.exit()


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield every argument of a grammar and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)
