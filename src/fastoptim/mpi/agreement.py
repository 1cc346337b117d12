"""What must be equal in all ranks, and what all of them raise if something is not, or one fails."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastoptim.optimizer.hyperparameters import checks_of

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

# What another rank raises is raised by its name here, if it is one of these.
KNOWN = (
    FloatingPointError, OverflowError, ZeroDivisionError, KeyError, IndexError, MemoryError,
    TypeError, ValueError, AttributeError, FileNotFoundError, OSError, ImportError, RuntimeError,
)


def digest(text: str) -> int:
    """Return a number of 62 bits that stands for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 2


def settings(opt: "Optimizer", *, fixed: bool = False) -> list[str]:
    """Return the hyperparameters of the next update, line by line; `fixed`: without schedules'."""
    lines = [f"the optimizer is {type(opt).__name__}"]
    for one in (opt, opt.inner()):
        if one is None or one.live_plan is None:
            continue
        inside = "" if one is opt else "rest: "
        names = [name for name in checks_of(type(one)) if name not in ("groups", "rest")]
        if fixed:
            changing = {schedule.name for schedule in one.live_plan.schedules}
            if one.live_plan.averages:
                changing.add("average")
            names = [name for name in names if name not in changing]
        titles = ["", *(f"of {group.label} " for group in one.groups)]
        for view, title in zip(one.live_plan.views, titles, strict=True):
            lines += [
                f"{inside}{name} {title}is {plain(vars(view).get(name))}" for name in names
            ]
    return lines


def plain(value: object) -> str:
    """Return a hyperparameter as a text that is the same in every process."""
    if isinstance(value, tuple):
        return f"({', '.join(plain(one) for one in value)})"
    return getattr(value, "__name__", "a function") if callable(value) else repr(value)


def scheduled(opt: "Optimizer") -> list[Any]:
    """Return the numbers that schedules gave for the next update."""
    values: list[Any] = []
    for one in (opt, opt.inner()):
        if one is None or one.live_plan is None:
            continue
        for schedule in one.live_plan.schedules:
            values += [vars(view)[schedule.name] for view in one.live_plan.views]
        if one.live_plan.averages:
            values += [vars(view)["average"] for view in one.live_plan.views]
    return values


def keys(table: Iterable[tuple[Any, Any, Any]]) -> list[str]:
    """Return keys with their shapes and dtypes, line by line."""
    return [f"params[{key!r}] is {dtype} {shape}" for key, shape, dtype in table]


# ------------------------------------------------ what is raised


def told(problem: BaseException, summed: int = 1) -> tuple[str, str]:
    """Return what other ranks are told of an exception: its kind and its text.

    `summed` says of how many ranks' gradients it is.
    """
    kind = next((k.__name__ for k in KNOWN if isinstance(problem, k)), "")
    try:
        if isinstance(problem, KeyError) and len(problem.args) == 1:
            return kind, str(problem.args[0])  # str would quote it
        text = str(problem) or type(problem).__name__
    except Exception:  # of a class that has no text; the others wait
        text = type(problem).__name__
    if summed > 1 and isinstance(problem, FloatingPointError):
        text += f"; here grads is the sum of {summed} ranks' gradients"
    return kind, text


def failure(
    problem: BaseException | None, told_by: Sequence[Any], rank: int
) -> BaseException:
    """Return what a rank raises when some have failed: the first one's error, with its rank."""
    failed = [r for r, one in enumerate(told_by) if one is not None]
    first, size = failed[0], len(told_by)
    if problem is not None and (size == 1 or not isinstance(problem, Exception)):
        if size > 1:
            problem.add_note(f"this was rank {rank} of {size}; no rank has changed anything")
        return problem
    kind, text = told_by[first]
    classes = {one.__name__: one for one in KNOWN}
    more = f" (and so have ranks {failed[1:]})" if len(failed) > 1 else ""
    if not kind:
        return RuntimeError(f"rank {first} of {size} has stopped: {text}{more}")
    return classes[kind](f"rank {first} of {size}: {text}{more}")


def agreed(comm: Any, check: Callable[[], None]) -> None:
    """Raise in all ranks what a check raises in any of them."""
    problem: Exception | None = None
    try:
        check()
    except Exception as raised:
        problem = raised
    every = comm.allgather(None if problem is None else told(problem))
    if any(one is not None for one in every):
        raise failure(problem, every, comm.Get_rank())


def difference(lines_of: Sequence[Sequence[str]]) -> ValueError:
    """Return the error for ranks whose parameters or optimizers differ: the first such line."""
    size, own = len(lines_of), lines_of[0]
    for rank, lines in enumerate(lines_of):
        for k in range(max(len(lines), len(own))):
            here = own[k] if k < len(own) else "nothing more"
            there = lines[k] if k < len(lines) else "nothing more"
            if here != there:
                return ValueError(
                    f"rank {rank} of {size} differs: there {there}, and in rank 0 {here}; all "
                    f"ranks need the same keys in one order, shapes, dtypes, hyperparameters and "
                    f"counts of updates"
                )
    return ValueError(
        "the ranks differ in the numbers or counts of the state that they have or load; give all "
        "of them the same"
    )
