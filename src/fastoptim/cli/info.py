"""``fastoptim info``."""

from argparse import Namespace
from typing import Any

import fastoptim


def add(commands: Any) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser("info", help="show versions, instruction set, OpenMP and threads")
    command.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Print what decides how an update runs."""
    fastoptim.show_runtime()
    return 0
