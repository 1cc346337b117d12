"""``fastoptim gallery``."""

from argparse import Namespace
from typing import Any

from fastoptim.cli.arguments import add_output, names_of, once, writable
from fastoptim.cli.refused import need
from fastoptim.gallery.catalogue import NAMES


def add(commands: Any) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser(
        "gallery",
        help="draw what the rules do: a page of pictures, each with the code that makes it",
        description="Draws every picture and writes index.html, which shows them with captions "
        "that say what to see and with the code that makes them.",
    )
    command.add_argument(
        "--only", nargs="+", type=names_of("picture", NAMES), metavar="NAME",
        help=f"draw these pictures alone, of {', '.join(NAMES)}",
    )
    add_output(command, "gallery", "index.html and the pictures")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Draw the pictures."""
    need("gallery", "matplotlib", "sklearn", "tqdm")
    from fastoptim.gallery.write import write

    names = NAMES if arguments.only is None else once(arguments.only)
    print(write(writable(arguments.output), names, quiet=arguments.quiet))
    return 0
