r"""Gradient descent as the differential equation dp/dt = −∇f(p), followed by Runge–Kutta steps.

The mathematics, stated once. With kᵢ the slopes and h the step,

.. math::

    k_i &= -\nabla f\Bigl(p + h \sum_{j<i} a_{ij} k_j\Bigr), \quad i = 1, …, s \\
    p &\leftarrow p + h \sum_i b_i k_i, \qquad
    \text{error} = h \sum_i e_i k_i, \quad k_{s+1} = -\nabla f(p_\text{new})

e is the difference of the weights b and those of a second formula of another order. Where a kernel
(runge_kutta.pxi) runs, the minus sign is inside the coefficients: it is given gradients.

Each line above is one fused pass over all arrays, which also keeps the gradient just evaluated,
because fn may use its memory again. The point in the brackets is written to the caller's arrays
(kernels/ode/workspace.pyx), so that fn finds it wherever it looks; whatever is raised, they hold p
again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, ClassVar, Self

from fastoptim.checkpoint import file as checkpoint
from fastoptim.kernels import PASSES
from fastoptim.kernels.ode.workspace import MovingParams
from fastoptim.ode import state as ode_state
from fastoptim.ode.state import Progress
from fastoptim.ode.tableaus import Tableau
from fastoptim.optimizer import pickling, plateaus
from fastoptim.optimizer.hyperparameters import Check, Checked, Interval, checks_of, evaluate, hyper
from fastoptim.optimizer.objective import Function, loss_and_grads
from fastoptim.optimizer.types import Number, Params

STEP = Interval("(0, inf)")
SCHEDULED_STEP = Interval("[0, inf)")  # many schedules end at 0, and a step of 0 stays where it is

Slopes = list[Any]


@dataclass(eq=False)
class RungeKutta(Checked):
    """The part that all methods share; use Heun, RK23 or RK45."""

    tableau: ClassVar[Tableau]
    lr: Number = hyper(0.01, STEP)

    # Of each instance; ClassVars only to dataclass's eyes.
    moving: ClassVar[MovingParams]
    progress: ClassVar[Progress] = Progress()

    def __post_init__(self) -> None:
        vars(self).update(moving=MovingParams(self.tableau.columns))

    def _assign(self, name: str, value: object) -> None:
        """Set an attribute that there is, to what it may be; a new lr starts again from it."""
        if name == "lr":
            progress = self.progress._replace(step_size=None)
            vars(self).update(lr=self._checked(name, STEP, value), progress=progress)
        else:
            super()._assign(name, value)

    def _checked(self, name: str, check: Check, value: object) -> object:
        """Return what an assignment stores: a checked value, or for lr a schedule."""
        return value if name == "lr" and callable(value) else check(name, value)

    @property
    def step_size(self) -> float:
        """The h that the next step begins with."""
        if callable(self.lr):
            return evaluate("lr", SCHEDULED_STEP, self.lr, self.iter)  # type: ignore[return-value]
        return float(self.lr)

    @property
    def time(self) -> float:
        """How far the differential equation has been followed: the sum of all h."""
        return self.progress.time

    @property
    def iter(self) -> int:
        """Number of completed steps."""
        return self.progress.iter

    def step(self, params: "Params", fn: Function) -> Any:
        """Take one step, in place.

        Parameters
        ----------
        params : dict or list
            Arrays of float32 or float64, of any shape and layout, to be written; or Python
            floats, which are replaced in the dict. Any mapping will do.
        fn : callable
            ``fn(params)`` returns grads, or (loss, grads), at the point that **the arrays of
            `params` hold at that moment**: the step moves them before each call, so fn may just
            as well read them where a network keeps them. It must not write them, nor keep them to
            be read later. What it returns may live in buffers of its own, or be the parameters.
            A gradient of None leaves a parameter where it is.

        Returns
        -------
        loss
            At the start of the step, as fn returned it; None if it returns only gradients.

        Raises
        ------
        KeyError
            `fn` returned gradients without a key of `params`, or with one more.
        ValueError
            A shape differs, a parameter is read-only, two parameters share memory, or every
            gradient is None.
        TypeError
            Something is not an array of float32 or float64 of this machine's byte order, or a
            gradient has another dtype than its parameter.
        FloatingPointError
            With tolerances: a gradient at the start is not finite, or the error is not, however
            short the step.
        RuntimeError
            `fn` altered a parameter or the mapping. With tolerances: the error is too large with
            the shortest step that `time` can be advanced by. Or another step of this object is not
            finished.

        Notes
        -----
        A call that raises, be it in `fn`, be it an interrupt, leaves the parameters where the step
        started, and changes neither time, step size nor counters.
        """
        return self.moving.session(params, partial(self.body, fn))

    def body(self, fn: Function) -> tuple[Any, dict[str, Any], dict[str, Any], object]:
        """Move the parameters by one step; return loss and progress, as `session` wants it."""
        h = self.step_size
        kept = self.moving.start()
        loss, start = (kept[0], self.moving.memory.columns[0]) if kept else self.evaluate(fn)
        progress, keep = self.advance(fn, start, h)
        return loss, vars(self), {"progress": progress}, keep

    def advance(self, fn: Function, start: Slopes, h: float) -> tuple[Progress, Any]:
        """Take a step of length h from y, whose slope is known; return the progress then."""
        g = self.stages(fn, start, h)
        self.combine("combine", g, h, self.tableau.b)
        iter_, t, step_size, rejected = self.progress
        return Progress(iter_ + 1, t + h, step_size, rejected), None

    def evaluate(self, fn: Function) -> tuple[Any, Slopes]:
        """Return the loss and the checked gradients at x."""
        loss, grads = loss_and_grads(fn(self.moving.given))
        return loss, self.moving.gradients(grads)

    def stages(self, fn: Function, g: Slopes, h: float) -> Slopes:
        """Evaluate the stages from the second on; return the last."""
        for weights, keep in zip(self.tableau.a[1:], self.moving.memory.columns, strict=False):
            if g is keep:  # the first slope, when it is known from before
                self.combine("combine", g, h, weights)
            else:
                self.combine("slope", g, h, weights, keep)
            _, g = self.evaluate(fn)
        return g

    def combine(
        self, rule: str, g: Slopes, h: float, weights: tuple[float, ...], *more: Slopes,
        error: tuple[float, ...] = (),
    ) -> None:
        """Let x be y + h Σ wᵢ kᵢ in one pass; the last k is g, those of weight 0 are not read."""
        memory, last = self.moving.memory, len(weights) - 1
        both = error or weights
        used = [i for i in range(last) if weights[i] or both[i]]
        columns = (memory.base, *[memory.columns[i] for i in used], *more)
        used.append(last)
        rows = (weights, error) if error else (weights,)
        coefficients = tuple([-h * row[i] for row in rows for i in used])
        self.moving.move(PASSES[f"{rule}{len(used)}"], g, columns, coefficients)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step needs to go on: hyperparameters, `time`, `iter`, ….

        The parameters are not in it: save them beside it. A schedule is code and is not in it
        either: its place holds None, and "schedules" its repr. What a `schedules.plateau` has
        observed is in it.
        """
        return ode_state.of(self)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; training goes on to the bit as if it had never stopped.

        Parameters
        ----------
        saved : dict
            Of a method of the same class.

        Raises
        ------
        ValueError, TypeError
            It is of another method or format, a number is not what it may be, or a plateau has
            other arguments. Nothing is replaced then.
        RuntimeError
            A step of this object is not finished.

        Warns
        -----
        UserWarning
            lr was a schedule when it was saved, and is not one here; or a plateau is missing on
            either side.
        """
        ode_state.load(self, saved)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file, as `Optimizer.save` does.

        Needs ``pip install 'fastoptim[checkpoint]'``.

        Raises
        ------
        OSError
            It cannot be written; an old file is still there.
        """
        checkpoint.save(path, self.state_dict())

    def load(self, path: str | PathLike[str]) -> None:
        """Read a file that `save` wrote.

        Raises
        ------
        ValueError
            It is damaged, not a checkpoint, or not of this method; nothing is replaced then.
        OSError
            It cannot be read.
        """
        ode_state.load(self, checkpoint.load(path))

    def __reduce__(self) -> Any:
        return pickling.of_method(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        values = {name: vars(self)[name] for name in checks_of(type(self))}
        twin = type(self)(**plateaus.copied(values, memo))
        ode_state.load(twin, ode_state.of(self))
        memo[id(self)] = twin
        return twin
