"""``fastoptim demo``."""

from argparse import Namespace
from typing import Any

from fastoptim.cli.arguments import add_output, names_of, once, positive, writable
from fastoptim.cli.refused import Refused, need
from fastoptim.demo import methods as demo_methods
from fastoptim.demo import train as demo


def add(commands: Any) -> None:
    """Add the command to the grammar."""
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
    command.add_argument(
        "--mpi", action="store_true",
        help="train on all processes that mpiexec started, each with a part of every batch: "
        "mpiexec -n 4 python -m fastoptim demo --mpi; the bits are compared with one process's",
    )
    command.add_argument("--epochs", type=positive, default=30, metavar="N", help="default 30")
    add_output(command, "demo", "loss.png and methods.png")
    command.add_argument(
        "--own-threads", action="store_true",
        help="leave NumPy's products on threads of their own; without it they run on the threads "
        "of updates, as after fastoptim.share_threads()",
    )
    command.add_argument(
        "--json", action="store_true", help="print losses and times for a machine to read"
    )
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Run the demonstration."""
    need("demo", "matplotlib", "sklearn", "tqdm")
    rules, methods = arguments.rules, arguments.methods
    if arguments.mpi:
        if methods is not None:
            raise Refused("--mpi trains with rules; leave --methods away")
        if arguments.own_threads:
            raise Refused("with --mpi each rank has its cores; leave --own-threads away")
        return on_all_ranks(arguments)
    if rules is None:
        rules = [] if methods is not None else [demo.LISTED]
    if methods == []:
        methods = [demo_methods.METHODS]
    return demo.main(
        once(rules), once(methods or []), arguments.epochs, writable(arguments.output),
        arguments.quiet, share=not arguments.own_threads, as_json=arguments.json,
    )


def on_all_ranks(arguments: Namespace) -> int:
    """Run the demonstration on all processes that mpiexec started."""
    need("mpi", "mpi4py")
    from fastoptim.demo import ranks  # which needs MPI

    return ranks.main(
        once(arguments.rules or [demo.LISTED]), arguments.epochs, arguments.output, arguments.quiet,
        arguments.json, writable,
    )
