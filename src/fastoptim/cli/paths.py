"""``fastoptim paths``."""

import json
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastoptim import plot, problems
from fastoptim.cli.arguments import names_of, number, numbers, positive, writable
from fastoptim.cli.refused import Refused, need
from fastoptim.cli.rules import Rule, rule
from fastoptim.plot.save import save
from fastoptim.problems import Problem
from fastoptim.tracing import Trace, trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT = ("SGD", "Momentum", "AdaGrad", "Adam")
FORMATS = (".png", ".svg", ".pdf")
OTHERS = (".jpg", ".jpeg", ".gif", ".bmp", ".eps", ".ps", ".tif", ".tiff", ".webp")

# The rates that are tried where none is given. The largest that do well make a picture of luck: one
# step across the whole valley, and then on the minimum.
RATES = [float(f"{digit}e{power}") for power in range(-5, 3) for digit in (1, 3)]
TRIED = 200  # steps at most
ENOUGH = 0.99  # of the way down


def add(commands: Any) -> None:
    """Add the command to the grammar."""
    command = commands.add_parser(
        "paths",
        help="draw the paths of rules over a function of one or two numbers",
        description="Follows each rule over a function, draws the paths over its contours, and "
        "prints where each one ends.",
        epilog="Example: fastoptim paths --function bowl --rule SGD:lr=0.9 "
        "--rule Momentum:alpha=0.8 --start -7,2 --steps 40 -o bowl.svg",
    )
    command.add_argument(
        "--function", type=function, default=problems.valley, metavar="NAME",
        help="; ".join(f"{name} is {each.formula}" for name, each in problems.ALL.items())
        + " (default: valley)",
    )
    command.add_argument(
        "--rule", action="append", type=rule, metavar="RULE",
        help="a rule or Runge-Kutta method, with hyperparameters after a colon, as in "
        f"Momentum:alpha=0.9,lr=0.01; may be repeated (default: {', '.join(DEFAULT)})",
    )
    command.add_argument(
        "--lr", type=number, metavar="X",
        help="the learning rate of every rule that is given none. Without it, each such rule gets "
        "one that suits it here: of 0.00001, 0.00003, 0.0001, … 300, with which the loss is never "
        f"above that at the start, the smallest that makes {ENOUGH:.0%}% of the way down that the "
        f"best of them makes (in the first {TRIED} steps, if there are more)",
    )
    command.add_argument(
        "--start", type=numbers, metavar="X,Y",
        help="where the paths start (default: "
        + "; ".join(f"{','.join(f'{x:g}' for x in p.first.values())} for {name}"
                    for name, p in problems.ALL.items()) + ")",
    )
    command.add_argument("--steps", type=positive, default=100, metavar="N", help="default 100")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("paths"), metavar="FILE|DIR",
        help="the picture's file (png, svg or pdf), or a folder for paths.png; made if missing "
        "(default: paths)",
    )
    command.add_argument(
        "--json", action="store_true",
        help="print the table as JSON, with all positions, losses and gradient norms",
    )
    command.set_defaults(run=run)


def function(text: str) -> Problem:
    """Return a problem by its name."""
    if "," in text or text.strip().lower() in ("", "all"):
        raise ArgumentTypeError(f"must be one of {', '.join(problems.ALL)}, got {text!r}")
    (name,) = names_of("function", list(problems.ALL), whole="")(text)
    return problems.ALL[name]


function.known = tuple(problems.ALL)  # type: ignore[attr-defined]  # for completion by Tab


def run(arguments: Namespace) -> int:
    """Draw the paths; print where they end."""
    need("plot", "matplotlib")
    problem: Problem = arguments.function
    start = arguments.start or tuple(problem.first.values())
    try:
        problem.start(*start)
    except ValueError as refusal:
        raise Refused(refusal) from None
    picture = target(arguments.output)

    traces = {}
    for given in progress(arguments.rule or list(map(rule, DEFAULT))):
        if given.has_rate:
            one = given
        elif arguments.lr is not None:
            one = given.with_rate(arguments.lr)
        else:
            one = suited(given, problem, start, arguments.steps)
        try:
            traces[str(one)] = follow(one, problem, start, arguments.steps)
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as refusal:
            raise Refused(f"{one}: {refusal}") from None
    try:
        figure = draw(problem, traces)
    except ValueError as refusal:
        raise Refused(refusal) from None
    save(figure, writable(picture.parent) / picture.name)
    if arguments.json:
        print(json.dumps(report(problem, start, traces, picture), ensure_ascii=False))
    else:
        print("\n".join([*table(traces), f"Picture: {picture}"]))
    return 0


def progress(rules: list[Rule]) -> Iterable[Rule]:
    """Return rules that show how many are done: on a terminal, with tqdm, if it takes long."""
    try:
        from tqdm import tqdm
    except ImportError:  # the extra "plot" does not ask for it
        return rules
    bar: Iterable[Rule] = tqdm(rules, unit="rule", leave=False, disable=None, delay=2)
    return bar


def target(output: Path) -> Path:
    """Return the picture's file."""
    suffix = output.suffix.lower()
    if output.is_dir() or suffix not in FORMATS:
        if suffix in OTHERS and not output.is_dir():
            raise Refused(f"{output}: a picture is {', '.join(FORMATS)}; give another --output")
        return output / "paths.png"
    return output


def follow(one: Rule, problem: Problem, start: tuple[float, ...], steps: int) -> Trace:
    """Return the path of a rule."""
    return trace(one.build(), problem.start(*start), problem, steps=steps)


def suited(one: Rule, problem: Problem, start: tuple[float, ...], steps: int) -> Rule:
    """Return a rule with the smallest learning rate that is about as good as the best."""
    ends: dict[float, float] = {}
    for lr in RATES:
        try:
            path = follow(one.with_rate(lr), problem, start, min(steps, TRIED))
        except (ArithmeticError, RuntimeError, ValueError):  # too large for this rule
            continue
        assert path.losses is not None
        if isfinite(path.losses[0]) and (path.losses <= path.losses[0]).all():
            ends[lr] = float(path.losses[0] - path.losses[-1])
    if not ends:
        raise Refused(f"{one}: no learning rate lowers the loss from here; give one: --lr 0.01")
    wanted = ENOUGH * max(ends.values())
    return one.with_rate(min(lr for lr, way in ends.items() if way >= wanted))


def draw(problem: Problem, traces: dict[str, Trace]) -> "Figure":
    """Return the picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    ax = figure.subplots()
    (plot.curve if len(problem.first) == 1 else plot.paths)(problem, traces, ax)
    steps = max(one.steps for one in traces.values())
    ax.set_title(f"{problem.formula}, {steps} step{'s' * (steps > 1)}", fontsize="medium")
    return figure


def table(traces: dict[str, Trace]) -> list[str]:
    """Return the lines of the table."""
    width = max(12, *map(len, traces))
    places = [
        ", ".join(f"{key} = {a[-1]:.6g}" for key, a in one.positions.items())
        for one in traces.values()
    ]
    wide = max(14, *map(len, places))
    lines = [f"{'rule':{width}}  {'last position':{wide}}  {'last loss':>12}  {'steps':>7}"]
    for (label, one), place in zip(traces.items(), places, strict=True):
        assert one.losses is not None
        lines.append(f"{label:{width}}  {place:{wide}}  {one.losses[-1]:12.6g}  {one.steps:7}")
    return lines


def report(
    problem: Problem, start: tuple[float, ...], traces: dict[str, Trace], picture: Path
) -> dict[str, Any]:
    """Return the table for machines; what is not finite is null."""
    return {
        "function": problem.name,
        "formula": problem.formula,
        "start": dict(zip(problem.first, start, strict=True)),
        "picture": str(picture),
        "paths": [
            {
                "rule": label,
                "optimizer": one.name,
                "steps": one.steps,
                "losses": finite(one.losses),
                "gradient_norms": finite(one.gradient_norms),
                "positions": {key: finite(a) for key, a in one.positions.items()},
            }
            for label, one in traces.items()
        ],
    }


def finite(numbers: Any) -> list[float | None]:
    """Return numbers of which those that are not finite are None, since JSON has none such."""
    return [x if isfinite(x) else None for x in numbers.tolist()]
