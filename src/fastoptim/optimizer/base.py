"""What every optimizer has: checked attributes, options, state by name, and ``update``."""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from os import PathLike
from os.path import isdir
from typing import Any, ClassVar, Never, Self, overload

import numpy as np
from numpy.typing import NDArray

from fastoptim.checkpoint import file as checkpoint
from fastoptim.kernels import RULES, driver
from fastoptim.kernels.update.averaged import Averaged
from fastoptim.kernels.update.engine import Engine
from fastoptim.kernels.update.pipeline import Plan
from fastoptim.kernels.update.prelude import Prelude
from fastoptim.optimizer import groups as grouping
from fastoptim.optimizer import pickling, plateaus, state
from fastoptim.optimizer.assigning import Led
from fastoptim.optimizer.by_key import ByKey
from fastoptim.optimizer.folder import FolderName, FolderOrNone, keep_in_files, load_folder, sync
from fastoptim.optimizer.groups import Group
from fastoptim.optimizer.hyperparameters import (
    CLIPPING,
    Check,
    Checked,
    Choice,
    Decay,
    Flag,
    Interval,
    OrNone,
    Steps,
    both_set,
    checks_of,
    hyper,
    may_be_schedule,
)
from fastoptim.optimizer.objective import Function, loss_and_grads
from fastoptim.optimizer.option_help import other_defaults, with_options
from fastoptim.optimizer.plan import LivePlan
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.optimizer.state_dtypes import Seed, StateDtype, check_slots
from fastoptim.optimizer.tensor_options import Constraint, MaxNorm, TrustRatio, UnitNorm
from fastoptim.optimizer.types import DecayOrNone, Grads, Number, NumberOrNone, Params
from fastoptim.porting import answers

ConstraintOrNone = str | tuple[float, float] | MaxNorm | UnitNorm | None


class Slot:
    """A state array per key: ``opt.v["W1"]``, shaped like the parameter.

    Parameters
    ----------
    start : str, optional
        The hyperparameter that fresh state is filled with; zeros without.
    signed : bool, default True
        Whether its numbers may be negative: 8-bit codes are of either kind.
    exact : str, optional
        Why its numbers cannot be rounded.
    not_in_8_bits : str, optional
        Why they cannot be kept in 8 bits.
    whole : bool, default False
        Whether it is always kept in the parameter's dtype, since it is small.

    Notes
    -----
    The arrays are views of the live state and may be read and written in place; the mapping itself
    is read-only, since the update goes on with the arrays that it knows.
    """

    name: str

    def __init__(
        self, start: str | None = None, *, signed: bool = True, exact: str = "",
        not_in_8_bits: str = "", whole: bool = False,
    ) -> None:
        self.start, self.signed = start, signed
        self.exact, self.not_in_8_bits, self.whole = exact, not_in_8_bits, whole

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, optimizer: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self, optimizer: "Optimizer", owner: type
    ) -> Mapping[Hashable, NDArray[np.floating[Any]]]: ...
    def __get__(self, optimizer: "Optimizer | None", owner: type) -> Any:
        if optimizer is None:
            return self
        return ByKey(optimizer.engine.store, self.name, optimizer.own_groups, signed=self.signed)

    def __set__(self, optimizer: "Optimizer", value: Never) -> None:
        raise AttributeError(
            f"{self.name} cannot be replaced; write into its arrays instead: "
            f"opt.{self.name}[key][...] = value"
        )


class Groups:
    """What the groups of an optimizer may be: a list of `Group`."""

    def __call__(self, name: str, value: object) -> tuple[Group, ...]:
        """Return groups as a tuple, or say what is not a group."""
        if isinstance(value, Group) or not isinstance(value, Sequence):
            raise TypeError(f"{name} must be a list of fastoptim.Group, got {answers.shown(value)}")
        for one in value:
            if not isinstance(one, Group):
                shown = answers.shown(one)
                raise TypeError(f"{name} must be a list of fastoptim.Group, got {shown} in it")
        return tuple(value)


class Denormals(Choice):
    """What happens to subnormal numbers, if the processor leaves a choice."""

    def __call__(self, name: str, value: object) -> str:
        """Return a value if it is one of the names and this processor has it."""
        choice = super().__call__(name, value)
        if choice == "flush" and not driver.can_flush():
            raise ValueError(f"{name}='flush' is not available on this kind of processor")
        return choice


@dataclasses.dataclass(eq=False, repr=False)
class Optimizer(Checked):
    """The part that all rules share; use one of its subclasses.

    A subclass is a dataclass that says: its hyperparameters (`hyper`), its state (`Slot`), the
    kernels it may use with the slots that each takes, in the kernel's order, and its
    `coefficients`.

    Parameters
    ----------
    weight_decay : float in [0, inf), default 0.0
        λ. L2 decay: the rule sees g + λp.
    decoupled : bool, default False
        The decay multiplies the parameter by 1 − lr·λ before the rule instead, which sees g alone.
    clip_value : float in (0, inf) or None
        Every element of the gradient is brought into [−clip_value, clip_value].
    clip_norm : float in (0, inf) or None
        If the norm of all gradients together is larger, all are multiplied by clip_norm / norm.
        The norm is summed in float64 in an order that depends on the keys' and elements' order
        alone.
    clip_norm_per_key : float in (0, inf) or None
        The same for the gradient of each key by itself. Of clip_value, clip_norm,
        clip_norm_per_key and agc one at most is set.
    agc : float in (0, inf) or None
        λ of adaptive gradient clipping (arXiv 2102.06171): a column of a gradient has at most λ
        times the norm of that column of the parameter, which counts as 0.001 at least. A column
        is what has one index of the last axis. A parameter of which no two axes are longer than 1
        is one column.
    centralize : bool, default False
        Subtract from each row of a gradient its mean (arXiv 2004.01461). A row is what has one
        index of the first axis. Parameters with fewer than two axes, and rows of one element, are
        left alone.
    norm : bool, default False
        Compute the norm of all gradients together, for `grad_norm`, also without clip_norm. It
        costs a pass that reads the gradients.
    maximize : bool, default False
        Go up instead of down: the rule sees −g.
    zero_grads : bool, default False
        Set the gradients to zero in the same pass.
    trust_ratio : bool or (float, float), default False
        Multiply the step of each key by ‖p‖ / ‖step / lr‖, within bounds if they are given. Within
        them the step then has the length lr·‖p‖; around AdamW this is `LAMB`. Weight decay is a
        part of the step. Where a norm is 0 the ratio is 1.
    constraint : "nonnegative", "unit_norm", (float, float), MaxNorm, UnitNorm or None
        What the parameters are brought back to after each step: elements of at least 0, elements
        within two bounds, or columns or rows of norm 1 or of a largest norm.
    average : float in [0, 1), "mean" or None
        Decay d of a moving average of the weights, a ← a + (1−d)(p − a) after every update, kept in
        `average_of`; it starts at the weights before the first update that averages. "mean" is the
        mean of the weights after each update (Polyak averaging, SWA): d = n/(n+1) at the n-th,
        n = 0, 1, …, of a key's own updates. `averaged` lets the parameters hold it.
    average_from : int of at least 0, default 0
        How many updates are made before the first that averages.
    nonfinite : {"propagate", "skip", "raise"}, default "propagate"
        What to do when a gradient has a NaN or an infinity: go on, as NumPy would (with
        clip_norm a NaN then reaches every parameter); leave the update out, count it in `skipped`
        and change nothing else; or raise a FloatingPointError that names key and index.
    denormals : {"keep", "flush"}, default "keep"
        "flush" lets the kernels take numbers below 1.2e-38 (float64: 2.2e-308) for zero. Some
        processors are many times slower with them, and state that decays towards zero ends there.
        "keep" gives the listing's bits.
    state_dtype : {None, "bfloat16", "int8"}, default None
        How the rule's state is kept: in the parameter's dtype, in 16 bits, or in 8 bits and a float
        for each block of up to 256. It is decoded for the rule and rounded stochastically after it.
        See `docs/low-precision`. It cannot change after the first update.
    master : bool, default True
        Of parameters of float16 or bfloat16: whether the optimizer keeps a copy in float32, in
        `master_of`, which is updated and rounded to the nearest number into the parameter. Without
        it the parameter itself is decoded, updated in float32, and rounded stochastically. Their
        gradients are of the same dtype or of float32. It cannot change after the first update.
    rounding_seed : int from 0 to 2⁶⁴ − 1, default 0
        Seed of the random bits that round, a function of it, of the key's number, the slot, the
        key's step and the element.
    groups : list of Group
        Other hyperparameters for some keys; the first group that a key matches counts. One that
        no key matches is an error at the first update.
    state_dir : str, path-like or None
        A folder for the state and the averages, as files that are mapped into memory: for arrays
        that are larger than memory, and to go on after the process has ended. It is made and
        locked at the first update; one that holds a state already is refused until `load` has
        taken that over. Not on Windows.

    Notes
    -----
    A gradient passes, in this order: sign, clipping, centralize, weight decay, rule; then come
    trust_ratio, constraint, average. Every hyperparameter that is a number may also be a schedule:
    a callable from the number of completed updates to a number.
    """

    kernels: ClassVar[dict[str, tuple[str, ...]]] = {}
    norms: ClassVar[str] = ""  # "seen", "before decay": whether coefficients get ‖p‖ and ‖g‖
    # The same for parameters whose second moment is two vectors: their slots, these two first.
    factored: ClassVar[dict[str, tuple[str, ...]]] = {}
    rounds_to_0: ClassVar[bool] = False  # whether a coefficient may be too small for float32
    carries: ClassVar[int] = 0  # how many numbers `carried_on` takes from one update to the next
    decays: ClassVar[bool] = False  # whether the rule itself has the decoupled decay, not a stage
    engine: ClassVar[Engine]  # of each instance; a ClassVar is no field to dataclass
    live_plan: ClassVar[LivePlan | None]  # until a hyperparameter is assigned
    fixed_plan: ClassVar[Plan | None]  # the same, if no schedule can change it
    live_plans: ClassVar[type[LivePlan]] = LivePlan
    prelude: ClassVar[Prelude | None] = None  # of each instance, if its rule needs whole tensors
    of_matrices: ClassVar[bool] = False  # whether its keys have two axes each
    scratch: ClassVar[int] = 0  # arrays of the kernel that are not state, but the prelude's
    whole: ClassVar["Optimizer | None"] = None  # the optimizer that this one is a part of
    first_group: ClassVar[int] = 0  # of a part: where its groups begin among the whole's
    led: ClassVar[Led | None] = None  # of an instance whose hyperparameters are set elsewhere

    _: dataclasses.KW_ONLY
    weight_decay: Number = hyper(0.0, Interval("[0, inf)"))
    decoupled: bool = hyper(False, Flag())
    clip_value: NumberOrNone = hyper(None, OrNone(Interval("(0, inf)")))
    clip_norm: NumberOrNone = hyper(None, OrNone(Interval("(0, inf)")))
    clip_norm_per_key: NumberOrNone = hyper(None, OrNone(Interval("(0, inf)")))
    agc: NumberOrNone = hyper(None, OrNone(Interval("(0, inf)")))
    centralize: bool = hyper(False, Flag())
    trust_ratio: bool | tuple[float, float] = hyper(False, TrustRatio())
    constraint: ConstraintOrNone = hyper(None, Constraint())
    norm: bool = hyper(False, Flag())
    maximize: bool = hyper(False, Flag())
    zero_grads: bool = hyper(False, Flag())
    average: DecayOrNone = hyper(None, Decay(Interval("[0, 1)")))
    average_from: int = hyper(0, Steps())
    nonfinite: str = hyper("propagate", Choice(("propagate", "skip", "raise")))
    denormals: str = hyper("keep", Denormals(("keep", "flush")))
    state_dtype: str | None = hyper(None, StateDtype())
    master: bool = hyper(True, Flag())
    rounding_seed: int = hyper(0, Seed())
    groups: Sequence[Group] = hyper((), Groups())
    state_dir: FolderOrNone = hyper(None, FolderName())

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__doc__ and Optimizer.__doc__:  # python -OO has none
            defaults = other_defaults(cls, Optimizer)
            cls.__doc__ = with_options(cls.__doc__, Optimizer.__doc__, defaults)

    def __post_init__(self) -> None:
        if not self.kernels:
            raise TypeError("Optimizer is what the rules share; use one, such as fastoptim.SGD")
        object.__setattr__(self, "engine", Engine(self.group_of, self.check_keys))
        check_slots(self)
        if self.state_dir is not None:
            keep_in_files(self, self.state_dir)

    def group_of(self, key: object, p: NDArray[Any] | ParamInfo) -> int:
        """Return the index of the view that a key's parameter is updated with."""
        return grouping.index_of(self.groups, key, ParamInfo(p.shape, p.dtype))

    def inner(self) -> "Optimizer | None":
        """Return the optimizer that is a part of this one, for other keys."""
        return None

    def part_of(self, key: object, p: ParamInfo) -> "Optimizer":
        """Return which optimizer's rule a key has: this one's, or that of `inner`."""
        return self

    @property
    def own_groups(self) -> range | None:
        """The numbers of the groups whose keys have this optimizer's state; None: all."""
        if self.whole is None:
            return None
        return range(self.first_group, self.first_group + 1 + len(self.groups))

    def check_keys(self, keys: Iterable[object], arrays: Iterable[object]) -> None:
        """Refuse a group that no key belongs to."""
        if self.groups:
            grouping.check_keys(self.groups, keys, arrays)

    def _checked(self, name: str, check: Check, value: object) -> object:
        """Return what an assignment stores: a checked value, or a schedule."""
        if self.led is not None:
            self.led.check(name)
        if not (callable(value) and may_be_schedule(check)):
            value = check(name, value)
        if name in CLIPPING and value is not None:
            both = both_set({**{one: getattr(self, one) for one in CLIPPING}, name: value})
            if both is not None:
                other = both[both[0] == name]
                raise ValueError(
                    f"{both[0]} and {both[1]} cannot both be set; set {other}=None first"
                )
        if name == "groups":
            value = self._bound(value)
        if name in ("state_dtype", "master") and hasattr(self, "engine"):
            self._check_as_before(name, value, getattr(self, name))
        if name == "state_dir" and hasattr(self, "engine"):
            keep_in_files(self, value)  # type: ignore[arg-type]
        self._forget()
        return value

    def _bound(self, value: Any) -> tuple[Group, ...]:
        """Return groups that check their hyperparameters as this optimizer does."""
        if hasattr(self, "engine"):
            if self.engine.store.records:
                raise ValueError("groups cannot change after the first update; their values can")
            self.engine.store.forget_drafts()
        return tuple(group.bound(checks_of(type(self)), self._group_changes) for group in value)

    def _group_changes(self, name: str, before: object, value: object) -> None:
        """Refuse that what is there be kept otherwise; let the next update plan anew."""
        if self.led is not None:
            self.led.check(name)
        if name in ("state_dtype", "master") and hasattr(self, "engine"):
            self._check_as_before(name, value, getattr(self, name) if before is ... else before)
        self._forget()

    def _check_as_before(self, name: str, value: object, before: object) -> None:
        """Refuse that what is there be kept otherwise."""
        if self.engine.store.records and value != before:
            of_state = name == "state_dtype"
            convert = " and load this one's state with convert=True" if of_state else ""
            raise ValueError(
                f"{name} is {before!r} and cannot change after the first update; make a new "
                f"optimizer{convert}"
            )
        self.engine.store.forget_drafts()

    def _forget(self) -> None:
        """Let the next update make a new plan."""
        object.__setattr__(self, "fixed_plan", None)
        object.__setattr__(self, "live_plan", None)
        if self.whole is not None:
            self.whole._forget()

    def __repr__(self) -> str:
        plain = {f.name: f.default for f in dataclasses.fields(Optimizer)}
        fields = {f.name: f for f in dataclasses.fields(self)}
        shown = []
        for name in checks_of(type(self)):
            value, default = getattr(self, name), fields[name].default
            # AdamW's decay differs from the other rules', a decay of 0 from AdamW's own
            if not fields[name].kw_only or value != default or value != plain.get(name, default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def iter(self) -> int:
        """Number of completed updates."""
        return self.engine.store.iter

    @property
    def skipped(self) -> int:
        """Number of updates left out because a gradient was not finite."""
        return self.engine.store.skipped

    @property
    def clipped(self) -> int:
        """Number of updates at which a norm was larger than `clip_norm` or `clip_norm_per_key`."""
        return self.engine.store.clipped

    @property
    def master_of(self) -> Mapping[Hashable, NDArray[np.floating[Any]]]:
        """The float32 copy of each parameter of 16 bits, by key; see `master`.

        To set parameters by hand, write to it: the next update rounds it into the parameter.
        """
        return ByKey(self.engine.store, "master", self.own_groups)

    @property
    def grad_norm(self) -> float | None:
        """The norm of all gradients together, before clipping, at the last update that computed it.

        `clip_norm` computes it, `clip_norm_per_key` and ``norm=True``. None if there was none yet;
        it is not in a saved state, nor in a copy.
        """
        return self.engine.store.grad_norm

    @property
    def updates_of(self) -> Mapping[Hashable, int]:
        """How many updates each key's parameter had, which is less than `iter` if some left it."""
        return {key: record.t for key, record in self.engine.store.records.items()}

    def current(self, name: str, group: int | Group | None = None) -> Any:
        """Return a hyperparameter's value at the next update: a number also where it is a schedule.

        Parameters
        ----------
        name : str
            Such as "lr".
        group : int or Group, optional
            Of the keys of this group, one of `groups` or its index; without it, of the keys that
            are in no group.

        Raises
        ------
        AttributeError
            There is no hyperparameter of this name.
        ValueError
            There is no such group.

        Examples
        --------
        >>> import fastoptim as fo
        >>> opt = fo.Momentum(lr=fo.schedules.linear(0.0, 0.5, 5), groups=[fo.Group("b*", lr=0.1)])
        >>> opt.current("lr"), opt.current("alpha"), opt.current("lr", group=0)
        (0.0, 0.9, 0.1)
        """
        known = [one for one in checks_of(type(self)) if one != "groups"]
        if name not in known:
            raise AttributeError(answers.unknown(type(self).__name__, name, known))
        return vars(self.views()[grouping.place_of(self.groups, group)])[name]

    def reset(self) -> None:
        """Forget all state, averages and counters; hyperparameters and groups stay.

        Schedules stay, too, with what a `schedules.plateau` has observed; and what waits in a
        `SoftBatch`, whose `discard` forgets it.
        """
        self.engine.restore({}, 0, 0, 0)

    @property
    def average_of(self) -> Mapping[Hashable, NDArray[np.floating[Any]]]:
        """The weights' moving averages by key, where `average` asks for them."""
        return ByKey(self.engine.store, None)

    @property
    def kernel(self) -> str:
        """Name of the kernel that the next update runs."""
        return next(iter(self.kernels))

    @classmethod
    def shape_of(cls, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a state array of a parameter of this shape."""
        if slot in {slots[0] for slots in cls.factored.values()}:  # of rows
            return shape[:-1]
        if slot in {slots[1] for slots in cls.factored.values()}:  # of columns
            return shape[:-2] + shape[-1:]
        return shape

    def capsule(self) -> object:
        """Return the compiled rule that the next update runs."""
        return RULES[self.kernel]

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return the scalars that the kernel gets at a parameter's t-th update, t = 1, 2, …."""
        raise NotImplementedError

    def carried_on(
        self, t: int, carried: tuple[float, ...] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the scalars of a parameter's t-th update, and the numbers that it goes on with.

        A rule that `carries` has this in place of `coefficients`, which then says what the scalars
        are if no hyperparameter has ever changed. What is carried is kept for each key.
        """
        raise NotImplementedError

    def views(self) -> "list[Optimizer]":
        """Return copies whose hyperparameters are numbers: for keys of no group, for each group."""
        self.plan()
        assert self.live_plan is not None
        return self.live_plan.views

    def plan(self) -> Plan:
        """Return what the next update must know of the hyperparameters."""
        if self.fixed_plan is not None:
            return self.fixed_plan
        if self.live_plan is not None:
            return self.live_plan.prepared()
        live = self.live_plans(self)
        object.__setattr__(self, "live_plan", live)
        if not live.changes:
            object.__setattr__(self, "fixed_plan", live.plan)
        return live.plan

    def update(self, params: "Params", grads: "Grads") -> None:
        """Update every parameter in place, in one pass over memory.

        Parameters
        ----------
        params : dict or list
            Arrays of float32 or float64, of any shape and layout, to be written; or Python
            floats, which are replaced in the dict. Any mapping will do.
        grads : dict or list
            For each key of `params` the gradient, of the same shape and dtype; or a `Rows`, a
            `Product`, or a sparse array of SciPy; or None to leave that parameter, its state and
            its step count as they are.

        Raises
        ------
        KeyError
            `grads` lacks a key of `params`, or has one that `params` has not.
        ValueError
            A shape differs, a parameter is read-only, two parameters share memory, every
            gradient is None, or a scalar is too large or too small for a float32 parameter.
        IndexError
            A row number is not one of the parameter's.
        TypeError
            Something is not an array of float32 or float64 of this machine's byte order, or a
            gradient has another dtype than its parameter.
        FloatingPointError
            A gradient is not finite, and `nonfinite` is "raise".
        RuntimeError
            Another thread is in the middle of an update with this optimizer.

        Notes
        -----
        All is checked before anything is written: a call that raises has changed no parameter,
        no state and no counter. An interrupt (Ctrl-C) leaves a whole update or none.
        """
        self.engine.update(params, grads, self.fixed_plan or self.plan())

    def step(self, params: "Params", fn: Function) -> Any:
        """Evaluate a function and update with the gradients it gives.

        Parameters
        ----------
        params : dict or list
            As for `update`.
        fn : callable
            fn(params) returns the gradients, or the loss and the gradients.

        Returns
        -------
        The loss, or None if `fn` gives only gradients.

        Examples
        --------
        >>> import numpy as np, fastoptim as fo
        >>> opt, params = fo.SGD(lr=0.25), {"x": np.array(4.0)}
        >>> def square(params):
        ...     return float(params["x"] ** 2), {"x": 2 * params["x"]}
        >>> [opt.step(params, square) for _ in range(3)]
        [16.0, 4.0, 1.0]
        """
        loss, grads = self.loss_and_grads(params, fn)
        self.update(params, grads)
        return loss

    def loss_and_grads(self, params: "Params", fn: Function) -> tuple[Any, Any]:
        """Return the loss (or None) and the gradients of a function, where a step wants them."""
        return loss_and_grads(fn(params))

    def averaged(self, params: Params) -> Averaged:
        """Let the parameters hold their averages for as long as a ``with`` lasts.

        Parameters
        ----------
        params : dict or list
            As for `update`. Within the ``with`` their arrays hold what `average_of` had, and
            afterwards the weights again, whatever was raised: these arrays, whichever the dict has
            by then. A parameter that no average is kept of stays as it is.

        Returns
        -------
        context manager
            Its value is `params`. Within it this optimizer makes no update and is not saved.

        Raises
        ------
        ValueError
            No average is kept; or an array is not as `update` wants it.
        RuntimeError
            Within another ``with opt.averaged``.

        Notes
        -----
        Arrays and averages exchange what they hold, in one pass and without memory of their own.

        Examples
        --------
        >>> import numpy as np, fastoptim as fo
        >>> opt, params = fo.SGD(lr=1.0, average=0.75), {"x": np.array([8.0])}
        >>> opt.update(params, {"x": np.array([4.0])})
        >>> with opt.averaged(params):
        ...     print(params["x"])
        [7.]
        >>> params["x"]
        array([4.])
        """
        return Averaged(self.engine, params, self.plan())

    def state_dict(self) -> dict[str, Any]:
        """Return all that training needs to go on: plain dicts, numbers, and copies of the arrays.

        Hyperparameters, groups, `iter`, `skipped`, and for every key its step count, state and
        average. A schedule is code and is not in it: its place holds None, and "schedules" its
        repr. What a `schedules.plateau` has observed is in it.
        """
        return self.engine.still(lambda: state.of(self, copy=True))

    def load_state_dict(self, saved: Mapping[str, Any], *, convert: bool = False) -> None:
        """Take over what `state_dict` gave; the arrays are copied.

        Parameters
        ----------
        saved : dict
            Of an optimizer of the same class with the same groups.
        convert : bool, default False
            Take over state of another `state_dtype`, too: each number becomes the nearest that this
            optimizer's can hold. `state_dtype` stays as it is here in any case.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is of another rule, format or set of groups; a number is not what it may be; a
            plateau has other arguments; an array has another shape or dtype than its parameter;
            its `state_dtype` is another one, and is not to be converted; or this optimizer already
            has parameters and they are not the same. Nothing is replaced then.

        Warns
        -----
        UserWarning
            A hyperparameter was a schedule when it was saved, and is not one here; or a plateau
            is missing on either side.
        """
        state.load(self, saved, convert=convert)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file, in the safetensors format, with a digest of its content.

        A crash at any moment leaves the old file or the new one. Needs ``pip install
        'fastoptim[checkpoint]'``.

        Raises
        ------
        OSError
            It cannot be written; an old file is still there.
        TypeError
            A key is not a text, a number, None, a bool or a tuple of these.
        """
        self.engine.still(
            lambda: checkpoint.save(path, state.for_file(state.of(self, copy=False)))
        )

    def load(self, path: str | PathLike[str], *, convert: bool = False) -> None:
        """Read a file that `save` wrote; training goes on to the bit as if it had never stopped.

        A folder of `state_dir` is read, too. If it is this optimizer's own, the files are taken
        over where they are; of any other the arrays are copied.

        Parameters
        ----------
        path : str or path-like
            The file.
        convert : bool, default False
            As for `load_state_dict`.

        Raises
        ------
        ValueError
            It is damaged, not a checkpoint, or not of this optimizer; or a folder was left in the
            middle of an update. Nothing is replaced then.
        RuntimeError
            A folder is in use.
        OSError
            It cannot be read.
        """
        if isdir(path):
            load_folder(self, path, convert=convert)
        else:
            state.load(self, checkpoint.load(path), convert=convert)

    def sync(self) -> None:
        """Bring all files of `state_dir` to the disk, with the hyperparameters as they are now.

        Without it they survive the end of the process, however it ends, and not the end of the
        system.

        Raises
        ------
        ValueError
            This optimizer has no `state_dir`.
        OSError
            Something cannot be written.
        """
        sync(self)

    def __reduce__(self) -> Any:
        if self.whole is not None:  # whose state is the whole's
            return pickling.without_state(self)
        return pickling.of_optimizer(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        values = pickling.values_of(self)
        twin = type(self)(**plateaus.copied(values, memo))
        for group in twin.groups:
            group._given.update(plateaus.copied(group._given, memo))
        if self.whole is None:  # else the state is the whole's
            self.engine.still(lambda: state.load(twin, state.of(self, copy=False)))
        memo[id(self)] = twin
        return twin
