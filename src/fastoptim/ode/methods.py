r"""Gradient descent as the differential equation dp/dt = −∇f(p), followed by Runge–Kutta steps.

The mathematics, stated once. With kᵢ the slopes and h the step,

.. math::

    k_i &= -\nabla f\Bigl(p + h \sum_{j<i} a_{ij} k_j\Bigr), \quad i = 1, …, s \\
    p &\leftarrow p + h \sum_i b_i k_i, \qquad
    \text{error} = h \sum_i e_i k_i, \quad k_{s+1} = -\nabla f(p_\text{new})

e is the difference of the weights b and those of a second formula of another order. Where a kernel
(rules.pyx) runs, the minus sign is inside the coefficients: it is given gradients.

Each line above is one fused pass over all arrays, which also keeps the gradient just evaluated,
because fn may use its memory again. The point in the brackets is written to the caller's arrays
(kernels/ode/workspace.pyx), so that fn finds it wherever it looks; whatever is raised, they hold p again.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np

from fastoptim.checkpoint import file as checkpoint
from fastoptim.kernels import PASSES
from fastoptim.kernels.ode.workspace import MovingParams
from fastoptim.ode import state as ode_state
from fastoptim.optimizer.hyperparameters import (
    Check,
    Checked,
    Flag,
    Interval,
    OrNone,
    checks_of,
    evaluate,
    hyper,
)
from fastoptim.optimizer.objective import Function, loss_and_grads

STEP = Interval("(0, inf)")
SCHEDULED_STEP = Interval("[0, inf)")  # many schedules end at 0, and a step of 0 stays where it is
RTOL = OrNone(Interval(f"[{100 * np.finfo(float).eps}, inf)"))  # less is lost in rounding
ATOL = OrNone(Interval("[0, inf)"))

# The step's control, with SciPy's numbers; the formulas are those of Hairer, Nørsett and Wanner,
# "Solving Ordinary Differential Equations I" (1993), section II.4.
SAFETY, LEAST_FACTOR, MOST_FACTOR = 0.9, 0.2, 10.0
DEFAULT_RTOL, DEFAULT_ATOL = 1e-3, 1e-6

# Two ends that SciPy leaves open. Where all is flat the step grows tenfold each time; it stops
# where every coefficient is still a float32. And a slope that is NaN however short the step: after
# so many trials the step is 0.2²⁵ = 3e-18 of the first, and no parameter notices it.
LONGEST_STEP = 1e30
MOST_NOT_FINITE = 25

Slopes = list[Any]


@dataclass(frozen=True)
class Tableau:
    """A Butcher tableau: rows of a, weights b; e and the exponent of the step's control."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    e: tuple[float, ...] = ()
    exponent: float = 0.0  # −1/(order of the error's formula + 1)

    @property
    def kept(self) -> int:
        """How many slopes later stages need: all but the last."""
        return len(self.b) - 1

    @property
    def place_of_error(self) -> int:
        """The column for the error: that of a slope which neither b nor e needs, or one more."""
        pairs = zip(self.b, self.e, strict=False)
        return next((i for i, (b, e) in enumerate(pairs) if b == e == 0), self.kept)

    @property
    def columns(self) -> int:
        """How many lists of arrays a step needs besides the point that it is at."""
        return max(self.kept, self.place_of_error + 1) if self.e else self.kept


HEUN = Tableau(a=((), (1,)), b=(1 / 2, 1 / 2))

BOGACKI_SHAMPINE = Tableau(
    a=((), (1 / 2,), (0, 3 / 4)),
    b=(2 / 9, 1 / 3, 4 / 9),
    e=(5 / 72, -1 / 12, -1 / 9, 1 / 8),
    exponent=-1 / 3,
)

DORMAND_PRINCE = Tableau(
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    b=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    e=(-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40),
    exponent=-1 / 5,
)


@dataclass(eq=False)
class RungeKutta(Checked):
    """The part that all methods share; use Heun, RK23 or RK45."""

    tableau: ClassVar[Tableau]
    lr: Any = hyper(0.01, STEP)

    # Of each instance, changed together at the end of a step; ClassVars only to dataclass's eyes.
    _points: ClassVar[MovingParams]
    _h: ClassVar[float | None]  # with tolerances, what the last step found; None: lr
    _t: ClassVar[float]
    _iter: ClassVar[int]
    _rejected: ClassVar[int]

    def __post_init__(self) -> None:
        points = MovingParams(self.tableau.columns)
        vars(self).update(_points=points, _h=None, _t=0.0, _iter=0, _rejected=0)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "lr":
            vars(self).update(lr=self._checked(name, STEP, value), _h=None)
        else:
            super().__setattr__(name, value)

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
        return self._t

    @property
    def iter(self) -> int:
        """Number of completed steps."""
        return self._iter

    def step(self, params: Any, fn: Function) -> Any:
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
        return self._points.session(params, partial(self.body, fn))

    def body(self, fn: Function) -> tuple[Any, dict[str, Any], dict[str, Any], object]:
        """Move the parameters by one step; return loss, and what shall be counted (`session`)."""
        points = self._points
        h = self.step_size
        kept = points.start()
        loss, start = (kept[0], points.columns[0]) if kept else self.evaluate(fn)
        changes, keep = self.advance(fn, start, h)
        names = {f"_{name}": value for name, value in changes.items()}
        return loss, vars(self), {"_iter": self._iter + 1} | names, keep

    def advance(self, fn: Function, start: Slopes, h: float) -> tuple[dict[str, Any], Any]:
        """Take a step of length h from y, whose slope is known; return what has changed."""
        g = self.stages(fn, start, h)
        self.combine("combine", g, h, self.tableau.b)
        return {"t": self._t + h}, None

    def evaluate(self, fn: Function) -> tuple[Any, Slopes]:
        """Return the loss and the checked gradients at x."""
        loss, grads = loss_and_grads(fn(self._points.given))
        return loss, self._points.gradients(grads)

    def stages(self, fn: Function, g: Slopes, h: float) -> Slopes:
        """Evaluate the stages from the second on; return the last."""
        columns = self._points.columns
        for weights, keep in zip(self.tableau.a[1:], columns, strict=False):
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
        points, last = self._points, len(weights) - 1
        both = error or weights
        used = [i for i in range(last) if weights[i] or both[i]]
        columns = (points.y, *(points.columns[i] for i in used), *more)
        used.append(last)
        rows = (weights, error) if error else (weights,)
        coefficients = tuple(-h * row[i] for row in rows for i in used)
        points.move(PASSES[f"{rule}{len(used)}"], g, columns, coefficients)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step needs to go on: hyperparameters, `time`, `iter`, ….

        The parameters are not in it: save them beside it. A schedule is code and is not in it
        either: its place holds None, and "schedules" its repr.
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
            It is of another method or format, or a number is not what it may be. Nothing is
            replaced then.
        RuntimeError
            A step of this object is not finished.

        Warns
        -----
        UserWarning
            lr was a schedule when it was saved, and is none here.
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
        raise TypeError("optimizers are not pickled; use opt.save(path) or opt.state_dict()")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self)(**{name: vars(self)[name] for name in checks_of(type(self))})
        ode_state.load(twin, ode_state.of(self))
        memo[id(self)] = twin
        return twin


@dataclass(eq=False)
class Adaptive(RungeKutta):
    """A method with a second formula inside, whose difference says how long a step may be."""

    rtol: float | None = hyper(None, RTOL)
    atol: float | None = hyper(None, ATOL)
    _: KW_ONLY
    deterministic: bool = hyper(False, Flag())

    @property
    def tolerances(self) -> tuple[float, float] | None:
        """The rtol and atol in force; None for a fixed step."""
        if self.rtol is None and self.atol is None:
            return None
        return (
            DEFAULT_RTOL if self.rtol is None else self.rtol,
            DEFAULT_ATOL if self.atol is None else self.atol,
        )

    def _checked(self, name: str, check: Check, value: object) -> object:
        """Return what an assignment stores, unless a schedule meets tolerances."""
        value = super()._checked(name, check, value)
        lr, rtol, atol = (value if n == name else getattr(self, n) for n in ("lr", "rtol", "atol"))
        ode_state.check_schedule(lr, rtol, atol)
        return value

    @property
    def step_size(self) -> float:
        """The h that the next step begins with: lr, or with tolerances what the last one found."""
        return super().step_size if self.tolerances is None or self._h is None else self._h

    @property
    def rejected(self) -> int:
        """Number of trials whose error was too large, in all completed steps."""
        return self._rejected

    def advance(self, fn: Function, start: Slopes, h: float) -> tuple[dict[str, Any], Any]:
        """Take a step from y, whose slope is known, of a length within the tolerances."""
        if self.tolerances is None:
            return super().advance(fn, start, h)
        first = self._points.columns[0]
        least = 10 * (math.nextafter(self._t, math.inf) - self._t)
        length, rejected, not_finite = max(h, least), 0, 0
        while True:
            h = self._t + length - self._t  # what time really advances by
            loss, slopes, norm = self.trial(fn, start, h)
            if norm < 1:
                break
            start = first  # where the first trial has kept it
            rejected += 1
            not_finite = 0 if math.isfinite(norm) else not_finite + 1
            length = h * max(LEAST_FACTOR, SAFETY * norm**self.tableau.exponent)  # NaN: the least
            if not_finite:
                self.check_finite(first, h, last=not_finite == MOST_NOT_FINITE or length < least)
            if length < least:
                raise RuntimeError(
                    f"the error is too large even with a step of {h}, and the next shorter one "
                    f"would be lost in the digits of time, {self._t}: the gradient jumps here, or "
                    f"rtol and atol ask for more digits than the parameters have"
                )
        factor = min(MOST_FACTOR, SAFETY * norm**self.tableau.exponent) if norm else MOST_FACTOR
        if rejected:
            factor = min(1.0, factor)
        if self.deterministic:
            self._points.passes.run(PASSES["copy"], (first, slopes))
        changes = {
            "t": self._t + h, "h": min(h * factor, LONGEST_STEP),
            "rejected": self._rejected + rejected,
        }
        return changes, (loss,) if self.deterministic else None

    def trial(self, fn: Function, start: Slopes, h: float) -> tuple[Any, Slopes, float]:
        """Let x be the solution after h; return loss and gradients there, and the error's norm."""
        points, (rtol, atol) = self._points, self.tolerances or (0.0, 0.0)
        b, e = self.tableau.b, self.tableau.e
        error = points.columns[self.tableau.place_of_error]
        g = self.stages(fn, start, h)
        self.combine("embedded", g, h, b, error, error=e[:-1])
        loss, last = self.evaluate(fn)
        total = points.total(
            PASSES["error_squared"], last, (points.y, error), (-h * e[-1], rtol, atol)
        )
        return loss, last, math.sqrt(total / max(1, points.passes.size))

    def check_finite(self, first: Slopes, h: float, last: bool) -> None:
        """After a trial whose error is not finite: raise if no shorter step could help."""
        for key, g in zip(self._points.keys, first, strict=True):
            if not np.isfinite(g).all():
                raise FloatingPointError(
                    f"grads[{key!r}] is not finite at index "
                    f"{tuple(map(int, np.argwhere(~np.isfinite(g))[0]))} where the step starts"
                )
        if last:
            key = self._points.keys[self._points.passes.not_finite()]
            raise FloatingPointError(
                f"the error of params[{key!r}] is not finite, even with a step of {h}; with "
                f"atol=0 a parameter of exactly 0 is enough for that"
            )


@dataclass(eq=False)
class Heun(RungeKutta):
    r"""Heun's method: the mean of the gradients before and after a step of gradient descent.

    .. math::

        \tilde p &= p - h\, g(p) \\
        p &\leftarrow p - \tfrac{h}{2} \bigl(g(p) + g(\tilde p)\bigr)

    Parameters
    ----------
    lr : float in (0, inf), default 0.01
        Step size h; or a schedule, a callable from the number of completed steps to it, which may
        also give 0.

    Attributes
    ----------
    step_size, time : float
        h, and the sum of all h.
    iter : int
        Completed steps.

    Notes
    -----
    Of second order: half the step leaves a quarter of the error. Two evaluations of fn per step.

    References
    ----------
    K. Heun, "Neue Methoden zur approximativen Integration der Differentialgleichungen einer
    unabhängigen Veränderlichen", Zeitschrift für Mathematik und Physik 45 (1900), pages 23–38.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.Heun(lr=0.015)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    43.076
    29.803
    """

    tableau = HEUN


@dataclass(eq=False)
class RK23(Adaptive):
    r"""The Runge–Kutta method of Bogacki and Shampine, third order, with steps as long as may be.

    .. math::

        k_1 &= -g(p), \quad k_2 = -g(p + \tfrac{1}{2} h k_1), \quad
            k_3 = -g(p + \tfrac{3}{4} h k_2) \\
        p &\leftarrow p + h \bigl(\tfrac{2}{9} k_1 + \tfrac{1}{3} k_2 + \tfrac{4}{9} k_3\bigr)

    Parameters
    ----------
    lr : float in (0, inf), default 0.01
        Step size h; with tolerances that of the first step, and assigning it starts again from it.
        Without tolerances it may be a schedule, a callable from the number of completed steps to
        the step size, which may also give 0.
    rtol, atol : float or None, default None
        Relative tolerance in [2.2e-14, inf) and absolute tolerance in [0, inf). If either is given
        the step adapts: h is the largest for which the root mean square over all elements of
        error / (atol + rtol max(|p|, |p_new|)) is expected below 1, as in
        scipy.integrate.RK23. One that is None is then 1e-3 and 1e-6, SciPy's defaults.
    deterministic : bool, default False
        Whether fn gives the same gradient whenever it is given the same parameters. With
        tolerances the last stage of a step is then the first of the next one, which saves one
        evaluation per step; with mini-batches it would be wrong. It is used only if every
        parameter still has the bits that the step wrote.

    Attributes
    ----------
    step_size, time : float
        The h that the next step begins with, and the sum of all h.
    iter, rejected : int
        Completed steps, and trials on the way to them whose error was too large.

    Notes
    -----
    Three evaluations of fn per step; with tolerances four in the first trial (three if
    `deterministic`), three more for each that is rejected. Memory: four times the parameters'.

    References
    ----------
    P. Bogacki and L. F. Shampine, "A 3(2) pair of Runge–Kutta formulas", Applied Mathematics
    Letters 2 (1989), pages 321–325, doi:10.1016/0893-9659(89)90079-7.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.RK23(lr=0.01, rtol=0.1, atol=0.1)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    29.575
    26.346
    """

    tableau = BOGACKI_SHAMPINE


@dataclass(eq=False)
class RK45(Adaptive):
    r"""The Runge–Kutta method of Dormand and Prince, fifth order, with steps as long as may be.

    .. math::

        k_i &= -g\Bigl(p + h \sum_{j<i} a_{ij} k_j\Bigr), \quad i = 1, …, 6 \\
        p &\leftarrow p + h \bigl(\tfrac{35}{384} k_1 + \tfrac{500}{1113} k_3
            + \tfrac{125}{192} k_4 - \tfrac{2187}{6784} k_5 + \tfrac{11}{84} k_6\bigr)

    Parameters
    ----------
    lr : float in (0, inf), default 0.01
        Step size h; with tolerances that of the first step, and assigning it starts again from it.
        Without tolerances it may be a schedule, a callable from the number of completed steps to
        the step size, which may also give 0.
    rtol, atol : float or None, default None
        Relative tolerance in [2.2e-14, inf) and absolute tolerance in [0, inf). If either is given
        the step adapts: h is the largest for which the root mean square over all elements of
        error / (atol + rtol max(|p|, |p_new|)) is expected below 1, as in
        scipy.integrate.RK45. One that is None is then 1e-3 and 1e-6, SciPy's defaults.
    deterministic : bool, default False
        Whether fn gives the same gradient whenever it is given the same parameters; see RK23.

    Attributes
    ----------
    step_size, time : float
        The h that the next step begins with, and the sum of all h.
    iter, rejected : int
        Completed steps, and trials on the way to them whose error was too large.

    Notes
    -----
    Six evaluations of fn per step; with tolerances seven in the first trial (six if
    `deterministic`), six more for each that is rejected. Memory: six times the parameters'.

    References
    ----------
    J. R. Dormand and P. J. Prince, "A family of embedded Runge–Kutta formulae", Journal of
    Computational and Applied Mathematics 6 (1980), pages 19–26,
    doi:10.1016/0771-050X(80)90013-3.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.RK45(lr=0.01, rtol=0.1, atol=0.1)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    30.803
    22.286
    """

    tableau = DORMAND_PRINCE
