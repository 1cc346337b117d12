"""A page of each rule, made of its class: what it computes, what it keeps, who else has it."""

import inspect
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import equivalents
import numpy as np

import fastoptim
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer.base import Optimizer

Class = type[Any]
VALLEY, STEPS = fastoptim.problems.bowl, 40


def rules() -> list[Class]:
    """Return the public optimizers, in order of complexity; the Runge–Kutta methods come last."""
    public = [getattr(fastoptim, name) for name in fastoptim.__all__]
    found = [
        c for c in public
        if inspect.isclass(c) and issubclass(c, (Optimizer, RungeKutta)) and c is not Optimizer
    ]
    order = {Optimizer: 0, RungeKutta: 1}

    def place(cls: Class) -> tuple[int, bool, int]:
        family = next(order[base] for base in cls.__mro__ if base in order)
        own_file = cls.__module__ != fastoptim.SGD.__module__
        return family, own_file, inspect.getsourcelines(cls)[1]

    return sorted(found, key=place)


def is_method(cls: Class) -> bool:
    """Return whether a class is a Runge–Kutta method."""
    return issubclass(cls, RungeKutta)


def page_of(cls: Class) -> str:
    """Return the name of a rule's page."""
    return f"rules/{cls.__name__.lower()}"


def summary(cls: Class) -> str:
    """Return the first line of a rule's docstring."""
    return (cls.__doc__ or "").strip().split("\n")[0]


# ------------------------------------------------ what a rule keeps


def memory(cls: Class) -> list[tuple[str, str, int, int]]:
    """Return kernel, slots, and bytes per parameter in float32 and float64, of each variant."""
    if is_method(cls):
        sizes = 1 + cls.tableau.columns     # the point that a step starts from, and slopes
        return [("", f"{sizes} arrays of the parameters' sizes", 4 * sizes, 8 * sizes)]
    found = [(kernel, slots, len(slots)) for kernel, slots in cls.kernels.items()]
    # two slots have an element for each row and for each column, next to nothing for a parameter
    for kernel, slots in cls.factored.items():
        found.append((f"{kernel}, matrices", slots, len(slots) - 2))
    return [
        (kernel, ", ".join(f"`{slot}`" for slot in slots) or "none", 4 * arrays, 8 * arrays)
        for kernel, slots, arrays in found
    ]


def memory_table(cls: Class) -> Iterator[str]:
    """Yield the lines of the table of what a rule keeps."""
    found = memory(cls)
    several = len(found) > 1
    yield ("| kernel " if several else "") + "| state | bytes per parameter, float32 | float64 |"
    yield ("|---" if several else "") + "|---|---:|---:|"
    for kernel, slots, single, double in found:
        yield (f"| `{kernel}` " if several else "") + f"| {slots} | {single} | {double} |"


def table(_: str) -> str:
    """Return a table of all rules with a link to each one's page."""
    lines = ["| rule | what it is | bytes per parameter, float32 |", "|---|---|---:|"]
    for cls in rules():
        sizes = sorted({single for _, _, single, _ in memory(cls)})
        size = " – ".join(str(n) for n in (sizes[0], sizes[-1])[:len(sizes)])
        lines.append(f"| [{cls.__name__}]({page_of(cls)}.md) | {plain(summary(cls))} | {size} |")
    return "\n".join(lines)


def contents(_: str) -> str:
    """Return the list of the rules' pages for the site's navigation."""
    return "\n".join(["```{toctree}", ":hidden:", "", *map(page_of, rules()), "```"])


def plain(text: str) -> str:
    """Return a line of a docstring as Markdown: what stands for itself here, escaped."""
    return text.replace("|", r"\|").replace("``", "`")


# ------------------------------------------------ pages


def page(cls: Class) -> str:
    """Return the page of a rule."""
    name = cls.__name__
    return "\n".join([
        f"# {name}", "",
        "```{eval-rst}", f".. autoclass:: fastoptim.{name}({arguments(cls)})", "```", "",
        *picture(cls), *kept(cls), *options(cls), *elsewhere(cls),
    ])


def arguments(cls: Class) -> str:
    """Return a rule's own arguments; those that every rule has are told by two stars."""
    own = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(cls).parameters.items()
        if is_method(cls) or name not in common(cls)
    ]
    if not is_method(cls):
        own.append(inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD))
    return str(inspect.Signature(own))[1:-1]


def common(cls: Class) -> list[str]:
    """Return the options of every rule that a class leaves as they are."""
    return [field.name for field in fields(Optimizer) if field.name not in cls.__annotations__]


def is_of_matrices(cls: Class) -> bool:
    """Return whether a rule's keys are matrices."""
    return bool(getattr(cls, "of_matrices", False))


def with_path() -> list[Class]:
    """Return the optimizers that move a point over a valley."""
    return [cls for cls in rules() if not is_of_matrices(cls)]


def picture(cls: Class) -> list[str]:
    """Return the lines that show the path of a rule."""
    if is_of_matrices(cls):
        return []
    name, lr, sgd = cls.__name__, best_rate(cls), best_rate(fastoptim.SGD)
    beside = "" if cls is fastoptim.SGD else f", beside SGD with lr = {sgd:g}"
    return [
        "## Its path", "",
        f"![{name} over the contours of {VALLEY.formula}]({name.lower()}.png)", "",
        f"{STEPS} steps over the valley {VALLEY.formula} with lr = {lr:g}{beside}: the rates, of "
        "1 and 3 times the powers of ten, that end lowest without climbing past the start. All "
        "else is the default. A valley of two numbers says how a rule moves, not which one suits "
        "a network.", "",
    ]


def path(cls: Class, lr: float) -> Any:
    """Return a rule's path over the valley."""
    opt = cls(lr=lr)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        return fastoptim.trace(opt, VALLEY.start(), VALLEY, steps=STEPS)


@lru_cache
def best_rate(cls: Class) -> float:
    """Return the learning rate whose path ends lowest, of those that never climb past its start."""
    rates = [digit * 10.0**power for power in range(-5, 4) for digit in (1, 3)]
    losses = {lr: path(cls, lr).losses for lr in rates}
    return min(
        (lr for lr in rates if (losses[lr] <= losses[lr][0]).all()), key=lambda lr: losses[lr][-1]
    )


def draw(cls: Class, file: Path) -> None:
    """Draw a rule's path over the valley, beside that of SGD."""
    from matplotlib.figure import Figure

    traces = {rule.__name__: path(rule, best_rate(rule)) for rule in (cls, fastoptim.SGD)}
    ax = Figure(figsize=(7.5, 4), layout="constrained").subplots()
    fastoptim.plot.paths(VALLEY, traces, ax).figure.savefig(file, dpi=150)


def kept(cls: Class) -> list[str]:
    """Return the lines about memory."""
    return [
        "## What it keeps", "", *memory_table(cls), "",
        "These bytes come beside the parameter's own 4 or 8 and its gradient's."
        + ("" if is_method(cls) else " `average=` takes one array more.")
        + (" The iteration has memory of its own, see above." if is_of_matrices(cls) else ""),
        "",
    ]


def options(cls: Class) -> list[str]:
    """Return the lines about what every rule has."""
    if is_method(cls):
        return [
            "## What the methods share", "",
            "Steps, tolerances, what `fn` is given, saving: [gradient descent as a differential "
            "equation](../ode.md). The options of the rules are not for these methods.", "",
        ]
    rows = "gradients may be [rows of a table](../rows.md), "
    if cls.factored:
        rows = "gradients are whole arrays ([why](../adafactor.md)), "
    if is_of_matrices(cls):
        rows = ""
    return [
        "## Options that every rule has", "",
        ", ".join(f"`{name}`" for name in common(cls)) + ": keyword-only, described in "
        "[options](../options.md). Every number may be a [schedule](../schedules.md), " + rows +
        "and [soft batches](../soft-batches.md) and "
        "[saving](../saving.md) work with every rule.", "",
    ]


def elsewhere(cls: Class) -> list[str]:
    """Return the lines about the same rule in other libraries."""
    found = equivalents.of_rule(cls.__name__)
    if not found:
        return []
    return [
        "## In other libraries", "", equivalents.table(found), "",
        "[Coming from another library](../coming-from.md) says what else differs.", "",
    ]


def write(folder: Path) -> None:
    """Write the pages; one whose text is as it was is left alone, so that it is not read again."""
    pages = {f"{cls.__name__.lower()}.md": page(cls) for cls in rules()}
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        if left.with_suffix(".md").name not in pages:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8", newline="\n")
