r"""Sharpness-aware minimisation: the gradient of a step is taken where the loss is larger.

.. math::

    \hat p = p + \rho\, \frac{g(p)}{\lVert g(p) \rVert}, \qquad
    p \leftarrow \mathrm{rule}\bigl(p,\ g(\hat p)\bigr)

The point in the first formula is written to the caller's arrays (kernels/ode/workspace.pyx), where
fn finds it wherever it looks; whatever is raised, they hold p again. The optimizer's own step asks
for the gradient, so what it does at a step (look-ahead, a soft batch) goes on around it.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np

from fastoptim.checkpoint import file as checkpoint
from fastoptim.kernels import PASSES
from fastoptim.kernels.ode.workspace import MovingParams
from fastoptim.ode import state as ode_state
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer import plateaus, state
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.hyperparameters import Checked, Interval, evaluate, hyper
from fastoptim.optimizer.objective import Function, loss_and_grads
from fastoptim.optimizer.types import Number, Params
from fastoptim.softbatch.batch import SoftBatch

RADIUS = Interval("[0, inf)")


def steps(name: str, value: object) -> object:
    """Return what has a step of this library's, or say what has not."""
    if isinstance(value, (Optimizer, SoftBatch, RungeKutta)):
        return value
    made = f"; write {value.__name__}()" if isinstance(value, type) else ""
    raise TypeError(
        f"{name} must be an optimizer or a SoftBatch of fastoptim, got "
        f"{value.__name__ if isinstance(value, type) else type(value).__name__}{made}"
    )


@dataclasses.dataclass(eq=False, repr=False)
class SAM(Checked):
    r"""Sharpness-aware minimisation around an optimizer.

    .. math::

        \hat p &= p + \frac{\rho}{\lVert g \rVert}\, g, \qquad g = \nabla f(p) \\
        p &\leftarrow \mathrm{rule}\bigl(p,\ \nabla f(\hat p)\bigr)

    Parameters
    ----------
    opt : Optimizer, SoftBatch or Runge–Kutta method
        What makes the step. Its state and its options (clipping, weight decay, groups, schedules,
        averages) are as without SAM; they see the gradient at the shifted point alone.
    rho : float in [0, inf), default 0.05
        Length of the shift ρ; or a schedule, a callable from the number of completed updates to it.

    Attributes
    ----------
    iter : int
        Completed updates of `opt`.

    Notes
    -----
    ‖g‖ is the norm of the gradients of all keys together, summed in float64 in an order that
    depends on the keys' and elements' order alone, as that of `clip_norm`. The factor ρ/‖g‖ is
    computed in double and rounded once to each array's dtype. Where it is infinite, or beyond what
    an array's dtype holds, there is no direction, and the shift is 0. A gradient of None shifts
    nothing. Keys whose option `maximize` is set are shifted against their gradient.

    If ‖g‖ is not finite, fn is not called again: the optimizer is given g, and its `nonfinite`
    decides.

    Two evaluations of fn per step, and four passes over memory besides the update's own. With a
    `SoftBatch` inside, each small batch has its own shift. With ``lookahead=True`` inside, p is the
    position ahead; with a Runge–Kutta method, that of each stage.

    References
    ----------
    P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, "Sharpness-Aware Minimization for Efficiently
    Improving Generalization", arXiv 2010.01412.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> scale = np.array([2.0, 100.0])
    >>> def fn(p):
    ...     return scale @ p["x"]**2 / 2, {"x": scale * p["x"]}
    >>> opt = fo.SAM(fo.SGD(lr=0.01), rho=0.05)
    >>> for step in range(3):
    ...     print(f"{opt.step(params, fn):.3f}")
    75.000
    24.133
    23.075
    """

    opt: Optimizer | SoftBatch | RungeKutta = dataclasses.field(metadata={"check": steps})
    rho: Number = hyper(0.05, RADIUS)

    moving: ClassVar[MovingParams]  # of each instance; a ClassVar is no field to dataclass

    def __post_init__(self) -> None:
        vars(self).update(moving=MovingParams(0))

    def _checked(self, name: str, check: Any, value: object) -> object:
        """Return what an assignment stores: a checked value, or for rho a schedule."""
        return value if name == "rho" and callable(value) else check(name, value)

    def __repr__(self) -> str:
        return f"SAM({self.opt!r}, rho={self.rho!r})"

    @property
    def iter(self) -> int:
        """Number of completed updates."""
        return self.opt.opt.iter if isinstance(self.opt, SoftBatch) else self.opt.iter

    @property
    def radius(self) -> float:
        """The ρ of the next step."""
        if callable(self.rho):
            return evaluate("rho", RADIUS, self.rho, self.iter)  # type: ignore[return-value]
        return float(self.rho)

    def step(self, params: "Params", fn: Function) -> Any:
        """Take one step, in place.

        Parameters
        ----------
        params : dict or list
            As for the optimizer's `update`.
        fn : callable
            ``fn(params)`` returns grads, or (loss, grads), at the point that **the arrays of
            `params` hold at that moment**: p at the first call, the shifted point at the second. It
            must not write them. The gradients of the first call must be arrays.

        Returns
        -------
        loss
            At p, as the first call returned it; None if `fn` gives only gradients.

        Raises
        ------
        ValueError
            The optimizer's `zero_grads` is set: it zeroes what the second call returned alone, and
            a network that adds to its gradients would add the second to the first.
        RuntimeError
            `fn` altered a parameter or the mapping; or another step of this object is not finished.
        KeyError, TypeError, ValueError, IndexError, FloatingPointError
            As for the optimizer's `step`.

        Notes
        -----
        A call that raises, be it in `fn`, be it an interrupt, leaves the parameters where the step
        started, and changes neither state nor counters.
        """
        return self.opt.step(params, partial(self.loss_and_grads, fn=fn))

    def loss_and_grads(self, params: "Params", fn: Function) -> tuple[Any, Any]:
        """Return a function's loss at p, and its gradients at the shifted point."""
        result: tuple[Any, Any] = self.moving.session(params, partial(self.body, fn))
        return result

    def body(self, fn: Function) -> tuple[Any, dict[str, Any], dict[str, Any], object]:
        """Move the parameters there and back, as `session` wants it."""
        moving, radius, views = self.moving, self.radius, self.views()
        if any(view.zero_grads for view in views):
            raise ValueError(
                "SAM calls fn twice for one update, and zero_grads zeroes the gradients after the "
                "update alone; set zero_grads=False and let fn make its gradients anew"
            )
        moving.start()
        loss, grads = loss_and_grads(fn(moving.given))
        slope = moving.gradients(grads)
        norm = moving.norm(slope)
        if math.isfinite(norm):
            factor = self.factor(radius, norm)
            signs = tuple([-factor if view.maximize else factor for view in views]) or (factor,)
            rows = None if len(signs) == 1 else self.rows()
            moving.move(PASSES["combine1"], slope, (moving.memory.base,), signs, rows)
            _, grads = loss_and_grads(fn(moving.given))
        grads = moving.lasting(grads, False)
        moving.back()
        return (loss, grads), {}, {}, None

    def factor(self, radius: float, norm: float) -> float:
        """Return ρ/‖g‖, or 0 where that is no number of the parameters' dtypes."""
        most = min((float(np.finfo(x.dtype).max) for x in self.moving.x), default=0.0)
        factor = radius / norm if norm > 0.0 else math.inf
        return factor if factor <= most else 0.0

    def rule(self) -> Optimizer | None:
        """Return the optimizer that has groups and options; a Runge–Kutta method has none."""
        opt = self.opt.opt if isinstance(self.opt, SoftBatch) else self.opt
        return opt if isinstance(opt, Optimizer) else None

    def views(self) -> list[Optimizer]:
        """Return the optimizer's options: for keys of no group, for each group."""
        rule = self.rule()
        return [] if rule is None else rule.views()

    def rows(self) -> list[int]:
        """Return the group of each parameter."""
        rule = self.rule()
        assert rule is not None
        return [rule.group_of(*one) for one in zip(self.moving.keys, self.moving.x, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state with rho beside it; a schedule is not in it, see there."""
        return self.state_of(self.opt.state_dict())

    def state_of(self, inner: dict[str, Any]) -> dict[str, Any]:
        """Return a state around the optimizer's."""
        from fastoptim import __version__

        return {
            "format": state.FORMAT, "fastoptim": __version__, "rule": "SAM",
            **state.numbers({"rho": self.rho}), "optimizer": inner,
        }

    def load_state_dict(self, saved: Mapping[str, Any], *, convert: bool = False) -> None:
        """Take over what `state_dict` gave; all is checked before anything is replaced.

        `convert` is as in the optimizer's `load_state_dict`.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is of another rule or format, or the optimizer refuses its own; or `convert` is set,
            and the optimizer is a Runge–Kutta method. Nothing is replaced then.

        Warns
        -----
        UserWarning
            rho was a schedule when it was saved, and is not one here; or as the optimizer's
            `load_state_dict`.
        """
        state.check_is_of(self, saved)
        present = {"rho": self.rho}
        state.check_names(saved, present)
        values, seen, lost = state.merged(saved, present, {"rho": RADIUS}, "")
        changes = [(vars(self), values), *plateaus.changes(seen)]
        inner = state.part(saved, "optimizer", Mapping)
        for line in lost:  # before anything is replaced: a warning may be an error
            warnings.warn(line, UserWarning, stacklevel=2)
        if isinstance(self.opt, SoftBatch):
            self.opt._load(inner, changes, convert=convert)
        elif isinstance(self.opt, Optimizer):
            state.load(self.opt, inner, also=changes, convert=convert)
        elif convert:
            raise TypeError(
                f"convert is for state of another state_dtype, and {type(self.opt).__name__} has "
                f"none; leave it out"
            )
        else:
            ode_state.load(self.opt, inner, changes)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file; see the optimizer's `save`."""
        checkpoint.save(path, state.for_file(self.state_dict()))

    def load(self, path: str | PathLike[str], *, convert: bool = False) -> None:
        """Read a file that `save` wrote; see the optimizer's `load`."""
        self.load_state_dict(checkpoint.load(path), convert=convert)

    def __reduce__(self) -> Any:
        return type(self), (self.opt, self.rho)  # all that is kept is theirs

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        rho = plateaus.copied({"rho": self.rho}, memo)["rho"]
        twin = type(self)(deepcopy(self.opt, memo), rho)
        memo[id(self)] = twin
        return twin
