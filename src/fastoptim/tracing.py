"""The path of an optimizer over a function: `trace` follows it, a `Trace` is what it was."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import nan, sqrt
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.checks.containers import as_dict
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer.objective import Function, loss_and_grads
from fastoptim.optimizer.types import Params
from fastoptim.porting.answers import shown
from fastoptim.rows import Rows
from fastoptim.sam import SAM

Numbers = NDArray[np.float64]


class Now(NamedTuple):
    """What a callable `stop` is given: where the path is, before the next step is made.

    Attributes
    ----------
    step : int
        How many steps were made.
    params : dict or list
        The parameters there, as arrays that cannot be written.
    loss, grads
        What fn returned: there, or with ``lookahead=True`` where the gradient was wanted.
    """

    step: int
    params: Any
    loss: Any
    grads: Any


Stop = float | Callable[[Now], object] | None


class Form(NamedTuple):
    """How parameters were given: in a list or by name, and which of them as Python floats."""

    listed: bool
    floats: frozenset[Any]


def in_form(form: Form, arrays: Mapping[Any, NDArray[Any]]) -> Any:
    """Return arrays by key as parameters of a form."""
    named = {key: float(a) if key in form.floats else a for key, a in arrays.items()}
    return list(named.values()) if form.listed else named


@dataclass(frozen=True, repr=False, eq=False)
class Trace:
    """A path: where the parameters were after each step, and what was found there.

    Attributes
    ----------
    name : str
        The optimizer as it was at the start.
    positions : dict
        For each key an array of shape (steps + 1, …): ``positions["W"][k]`` is W after k steps. For
        parameters in a list the keys are 0, 1, ….
    losses : array of shape (steps + 1,), or None
        The loss as `step` returned it, and that at the end; None where fn gives only gradients.
        With ``lookahead=True`` it is that of the point at which the gradient was wanted.
    gradient_norms : array of shape (steps + 1,)
        The Euclidean norm of the gradients of all keys, of the same points.
    time : array of shape (steps + 1,)
        Seconds that the steps took until then; keeping the path is not counted.
    flow_time : array of shape (steps + 1,), or None
        ``opt.time`` of a Runge–Kutta method, also inside a `SAM`: how far the differential equation
        was followed.
    ended : {"steps", "gradient", "callable"}
        Why: all steps were made; `stop` was a number, and the gradients were below it; `stop` was a
        callable, and said so.
    """

    name: str
    positions: dict[Any, NDArray[Any]]
    losses: Numbers | None
    gradient_norms: Numbers
    time: Numbers
    flow_time: Numbers | None
    ended: Literal["steps", "gradient", "callable"]
    form: Form

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return len(self.time) - 1

    def at(self, step: int) -> Any:
        """Return new parameters as they were after so many steps, in a dict or list as given."""
        copies = {key: a[step, ...].copy() for key, a in self.positions.items()}
        return in_form(self.form, copies)

    def __repr__(self) -> str:
        loss = "" if self.losses is None else f", loss {self.losses[0]:.6g} → {self.losses[-1]:.6g}"
        why = "" if self.ended == "steps" else f", ended by {self.ended}"
        return f"<Trace of {self.name}: {self.steps} steps{loss}{why}>"


def trace(opt: Any, params: "Params", fn: Function, steps: int = 100, stop: Stop = None) -> Trace:
    """Make steps, and keep the path.

    Parameters
    ----------
    opt : optimizer
        A rule, a Runge–Kutta method, a `SAM`, or a `SoftBatch`, of whose steps each adds to the
        batch. It goes on from the state it is in, and keeps the state it comes to.
    params : dict or list
        As for `opt.step`; they are moved.
    fn : callable
        As for `opt.step`; a loss must be a number. It is called once more at the end, for the last
        loss and gradient; and at the start of a deterministic method that begins with the gradient
        of a step before (inside a `SAM`, at each of its steps).
    steps : int of at least 0, default 100
        The most steps.
    stop : float in (0, inf), callable or None, default None
        A number ends the path where the sum of all elements of all gradients is smaller, in
        magnitude. (Gradients that cancel end it, too.) A callable gets a `Now`, of the fields step,
        params, loss and grads, before each step is made and once at the end, and ends the path by
        returning something true. The step at which `stop` ends the path is not made.

    Returns
    -------
    Trace
        The arrays `positions`, `losses`, `gradient_norms` and `time`, and `ended`, which says why.
        It takes as much memory as steps + 1 copies of the parameters.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; or what `opt.step` raises. Then the parameters and the
        optimizer are as the last step left them.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> def fn(p):
    ...     return float(p["x"] ** 2), {"x": 2 * p["x"]}
    >>> path = fo.trace(fo.SGD(lr=0.25), {"x": np.array(8.0)}, fn, steps=3)
    >>> path.positions["x"], path.losses
    (array([8., 4., 2., 1.]), array([64., 16.,  4.,  1.]))
    >>> fo.trace(fo.SGD(lr=0.25), {"x": np.array(8.0)}, fn, stop=1e-6)
    <Trace of SGD(lr=0.25): 24 steps, loss 64 → 2.27374e-13, ended by gradient>
    >>> path = fo.trace(fo.SGD(lr=0.25), {"x": np.array(8.0)}, fn, stop=lambda now: now.loss < 5)
    >>> path.steps, path.ended
    (2, 'callable')
    """
    check(opt, fn, steps, stop)
    path = Path(opt, params, fn, steps, stop)
    ended: Literal["steps", "gradient", "callable"] = "steps"
    try:
        for _ in range(steps):
            path.step()
        path.finish()
    except Ended:
        ended = "callable" if callable(stop) else "gradient"
    return path.trace(ended)


def check(opt: Any, fn: object, steps: object, stop: object) -> None:
    """Refuse what cannot be followed."""
    if isinstance(opt, type):
        raise TypeError(f"opt must be an optimizer, got its class; write {opt.__name__}()")
    if not callable(getattr(opt, "step", None)):
        raise TypeError(f"opt must be an optimizer of fastoptim, got {type(opt).__name__}")
    if not callable(fn):
        raise TypeError(f"fn must be a function of params, got {type(fn).__name__}")
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be a whole number of at least 0, got {shown(steps)}")
    if steps < 0:
        raise ValueError(f"steps must be a whole number of at least 0, got {steps}")
    if stop is None or callable(stop):
        return
    if isinstance(stop, bool) or not isinstance(stop, (int, float, np.integer, np.floating)):
        raise TypeError(f"stop must be a number, a callable or None, got {shown(stop)}")
    if not 0 < stop < np.inf:
        raise ValueError(f"stop must be in (0, inf), got {stop}")


class Ended(Exception):
    """Raised by fn's stand-in to end a path before the step is made."""


class Path:
    """A path on the way."""

    def __init__(self, opt: Any, params: "Params", fn: Function, steps: int, stop: Stop) -> None:
        self.opt, self.params, self.fn, self.stop = opt, params, fn, stop
        self.name = repr(opt)
        self.method = opt.opt if isinstance(opt, SAM) else opt
        first = as_dict("params", params)
        floats = frozenset(key for key, a in first.items() if isinstance(a, float))
        self.form = Form(isinstance(params, (list, tuple)), floats)
        first = {key: np.asarray(a) for key, a in first.items()}
        self.positions = {key: np.empty((steps + 1, *a.shape), a.dtype) for key, a in first.items()}
        self.made = 0
        self.losses: list[float | None] = []
        self.norms: list[float] = []
        self.time, self.flow_time = [0.0], [getattr(self.method, "time", 0.0)]
        self.looked = 0.0  # seconds of the present step that looking took
        self.last: Any = None  # what fn returned last, where the next step may begin with it
        self.keep()

    def keep(self) -> None:
        """Copy the parameters."""
        for key, kept in self.positions.items():
            kept[self.made] = self.params[key]

    def step(self) -> None:
        """Make a step, and look at the gradient at its start."""
        start, self.looked = perf_counter(), 0.0
        self.opt.step(self.params, self.looking)
        seconds = perf_counter() - start - self.looked
        self.made += 1
        self.time.append(self.time[-1] + seconds)
        self.flow_time.append(getattr(self.method, "time", 0.0))
        self.keep()

    def looking(self, given: Any) -> Any:
        """Stand in for fn, and look at what the first call of a step returns."""
        start = perf_counter()
        deterministic = getattr(self.method, "deterministic", False)
        first = len(self.losses) == self.made
        # A deterministic method begins with the gradient that the step before ended with.
        kept = deterministic and first and not self.at_start(given)
        # That step was made before the path began, or ended at SAM's shifted point.
        if kept and (self.last is None or self.method is not self.opt):
            copies = {key: a[self.made, ...].copy() for key, a in self.positions.items()}
            self.last = deepcopy(loss_and_grads(self.fn(in_form(self.form, copies))))
        self.looked += perf_counter() - start
        result = self.fn(given)
        start = perf_counter()
        loss, grads = loss_and_grads(result)
        if first:
            self.look(*(self.last if kept else (loss, grads)))
        if deterministic:
            self.last = deepcopy((loss, grads))
        self.looked += perf_counter() - start
        return result

    def finish(self) -> None:
        """Look at the gradient where the last step ended."""
        loss, grads = loss_and_grads(self.fn(self.params))
        self.look(loss, grads)

    def at_start(self, params: Any) -> bool:
        """Whether the parameters are where the step began."""
        return all(
            np.array_equal(kept[self.made], params[key], equal_nan=True)
            for key, kept in self.positions.items()
        )

    def look(self, loss: Any, grads: Any) -> None:
        """Keep a loss and the norm of gradients, and end here if `stop` wants it."""
        self.losses.append(number(loss))
        norm, total = norm_and_sum(grads)
        self.norms.append(norm)
        if callable(self.stop):
            if self.stop(Now(self.made, self.here(), loss, grads)):
                raise Ended
        elif self.stop is not None and abs(total) < self.stop:
            raise Ended

    def here(self) -> Any:
        """Return the parameters as they were kept last, in the form that they were given in."""
        views = {key: a[self.made, ...] for key, a in self.positions.items()}
        for view in views.values():
            view.flags.writeable = False
        return in_form(self.form, views)

    def trace(self, ended: Literal["steps", "gradient", "callable"]) -> Trace:
        """Return the path."""
        n = self.made + 1
        kept = {key: a if len(a) == n else a[:n].copy() for key, a in self.positions.items()}
        known = all(loss is not None for loss in self.losses)
        return Trace(
            self.name,
            kept,
            np.array(self.losses, float) if known else None,
            np.array(self.norms),
            np.array(self.time),
            np.array(self.flow_time) if isinstance(self.method, RungeKutta) else None,
            ended,
            self.form,
        )


def number(loss: Any) -> float | None:
    """Return a loss as a number: fn may use its memory again."""
    if loss is None:
        return None
    try:
        return float(loss.item() if isinstance(loss, np.ndarray) else loss)
    except (TypeError, ValueError):
        raise TypeError(f"fn's loss must be a number, got {type(loss).__name__}") from None


def norm_and_sum(grads: Any) -> tuple[float, float]:
    """Return the Euclidean norm of all gradients, and the sum of their elements.

    Both are NaN where something is no gradient: the optimizer says what is wrong with it.
    """
    try:
        flat = [elements(g) for g in as_dict("grads", grads).values() if g is not None]
    except (TypeError, ValueError, IndexError):
        return nan, nan
    with np.errstate(over="ignore", invalid="ignore"):  # of a path that leaves for infinity
        return sqrt(sum(float(g @ g) for g in flat)), sum(float(g.sum()) for g in flat)


def elements(grad: Any) -> Numbers:
    """Return all elements that may not be zero; those that are there twice are summed."""
    if isinstance(grad, Rows):
        index, place = np.unique(grad.index, return_inverse=True)
        summed = np.zeros((len(index), *grad.values.shape[1:]))
        np.add.at(summed, place, grad.values)
        return summed.ravel()
    if hasattr(grad, "tocoo"):
        grad = grad.tocoo(copy=True)
        grad.sum_duplicates()
        grad = grad.data
    return np.asarray(grad, np.float64).ravel()
