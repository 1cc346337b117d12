"""What an update needs of an optimizer's hyperparameters, kept until one of them is assigned.

A schedule changes numbers at every update. It hardly ever changes which rule runs, on which state,
between which stages, so the pipelines are made once. An update asks each schedule for its number
and hands that to the pipelines. Measured (Adam, one key, a cosine for lr): an update took 11.5 µs
more than without a schedule when it made everything anew; bench/README.md has today's figure.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fastoptim.kernels.update.pipeline import Pipeline, Plan
from fastoptim.optimizer.hyperparameters import (
    CLIPPING,
    Check,
    both_set,
    checked_number,
    checks_of,
    may_be_schedule,
)
from fastoptim.optimizer.state_dtypes import codes_of
from fastoptim.optimizer.tensor_options import constrained, trusted

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

# The hyperparameters whose numbers a pipeline keeps. The others reach the kernel through
# `coefficients`, which is asked at every update.
KEPT_BY_PIPELINES = frozenset(
    {"clip_value", "weight_decay", "average", "clip_norm_per_key", "agc"}
)

Values = dict[str, Any]


class Scheduled(NamedTuple):
    """A schedule, and the values that it sets: those of the groups that have it."""

    schedule: Any
    name: str
    places: list[Values]
    low: float  # a number between these needs no further check
    high: float
    check: Check

    @classmethod
    def of(cls, name: str, check: Any, schedule: Any, places: list[Values]) -> Self:
        """Return the schedule of a hyperparameter."""
        low, high, _, _ = getattr(check, "interval", check).ends
        return cls(schedule, name, places, low, high, check)


class LivePlan:
    """The values and the pipelines of all groups of an optimizer, as of its next update.

    Parameters
    ----------
    opt : Optimizer

    Attributes
    ----------
    views : list of Optimizer
        Copies whose hyperparameters are all numbers: for the keys of no group, then for each group.
    schedules : list of Scheduled
    """

    def __init__(self, opt: "Optimizer") -> None:
        self.opt = opt
        self.schedules: list[Scheduled] = []
        checks = checks_of(type(opt))
        own = {name: vars(opt)[name] for name in checks}
        groups: list[Mapping[str, Any]] = [{}, *(group.hyperparameters for group in opt.groups)]
        self.views = [object.__new__(type(opt)) for _ in groups]
        places = [vars(view) for view in self.views]
        for values, group in zip(places, groups, strict=True):
            values.update(own, first_group=opt.first_group)
            values.update(group)
        for name, value in own.items():
            users = [v for v, group in zip(places, groups, strict=True) if name not in group]
            self.follow(name, checks[name], value, users)
        for values, group in zip(places, groups, strict=True):
            for name, value in group.items():
                self.follow(name, checks[name], value, [values])
        self.averages = [
            (v, v["average"])
            for v, group in zip(places, groups, strict=True)
            if v["average"] == "mean" or v["average_from"]
            # without an average of its own a group has nothing to begin later
            if v["average"] is not None or "average" not in group or "average_from" in group
        ]
        for k, values in enumerate(places):
            check_mean_begins(opt, k, values)
        self.set_numbers()
        self.make_pipelines()

    def follow(self, name: str, check: Check, value: object, places: list[Values]) -> None:
        """Note a hyperparameter that is a schedule."""
        if callable(value) and may_be_schedule(check):
            self.schedules.append(Scheduled.of(name, check, value, places))

    @property
    def changes(self) -> bool:
        """Whether numbers change from update to update."""
        return bool(self.schedules or self.averages)

    def set_numbers(self) -> None:
        """Let every schedule give its number for the next update."""
        step = self.opt.iter
        for schedule, name, places, low, high, check in self.schedules:
            try:
                value = schedule(step)
            except Exception as problem:
                problem.add_note(f"{name} is a schedule: {schedule!r} was asked at step {step}")
                raise
            if type(value) is not float or not low < value < high:
                value = checked_number(name, check, schedule, value, step)
            for values in places:
                values[name] = value
        for values, wanted in self.averages:
            decay = values["average"] if callable(wanted) else wanted
            values["average"] = decay_at(step - values["average_from"], decay)

    def make_pipelines(self) -> None:
        """Make the pipelines, and note what schedules may change of them."""
        opt, scheduled = self.opt, {one.name for one in self.schedules}
        if self.averages:
            scheduled.add("average")
        begins = {id(v): v["average_from"] for v, wanted in self.averages if wanted == "mean"}
        pipelines = [pipeline_of(view, begins.get(id(vars(view)), -1)) for view in self.views]
        self.made_for, self.pipelines = self.kinds(), pipelines
        self.plan = Plan(
            [*pipelines, *self.others()], self.views[0].clip_norm, opt.nonfinite,
            opt.denormals == "flush", norm=opt.norm, prelude=opt.prelude,
        )
        starts = {
            getattr(type(opt), slot).start for pipeline in pipelines for slot in pipeline.slots
        }
        self.remakes = bool(scheduled & {*starts, "clip_norm"})
        self.may_choose = bool(scheduled if len(opt.kernels) > 1 else scheduled & {*CLIPPING})
        pairs = [(one, vars(view)) for one, view in zip(pipelines, self.views, strict=True)]
        trusts = any(view.trust_ratio for view in self.views)
        kept = KEPT_BY_PIPELINES | {"lr"} if trusts else KEPT_BY_PIPELINES
        self.adjusted = pairs if scheduled & kept else []
        self.shrunk = [
            (pipeline, values)
            for pipeline, values in pairs
            if not self.adjusted and "lr" in scheduled
            and values["decoupled"] and values["weight_decay"] and not opt.decays
        ]

    def takes(self, place: int, values: Mapping[str, Any]) -> bool:
        """Take over numbers that were assigned to one group; return False if all must be made anew.

        Measured (Adam, 4 keys of 64, lr assigned before each update): 7 µs, 36 with a new plan.
        """
        opt, view, checks = self.opt, self.views[place], checks_of(type(self.opt))
        inherited = place == 0 and any(
            name not in group.hyperparameters for group in opt.groups for name in values
        )
        starts = {getattr(type(opt), slot).start for slot in view.kernels[view.kernel]}
        if self.changes or inherited or {*values} & {*starts, *CLIPPING, "average"} or not all(
            may_be_schedule(checks[name]) and not callable(value) for name, value in values.items()
        ):
            return False
        vars(view).update(values)
        if self.made_for != self.kinds():
            return False
        self.pipelines[place].adjust(*numbers_of(vars(view), opt.decays))
        return True

    def others(self) -> list[Pipeline]:
        """Return the pipelines of keys that are another optimizer's, a part of this one."""
        return []

    def kinds(self) -> list[tuple[object, ...]]:
        """Return what pipelines are made for: each view's kernel, and which clipping is on."""
        return [
            (view.kernel, *(vars(view)[name] is None for name in CLIPPING)) for view in self.views
        ]

    def prepared(self) -> Plan:
        """Return what the next update must know."""
        if self.changes:
            self.set_numbers()
            if self.remakes or (self.may_choose and self.made_for != self.kinds()):
                self.make_pipelines()
            else:
                for pipeline, values in self.adjusted:
                    pipeline.adjust(*numbers_of(values, self.opt.decays))
                for pipeline, values in self.shrunk:
                    pipeline.set_shrink(1.0 - values["lr"] * values["weight_decay"])
        return self.plan


def decay_at(n: int, decay: Any) -> float | None:
    """Return the decay of the n-th update that averages, n = 0, 1, …; None for one before these."""
    if n < 0:
        if decay is None:
            raise ValueError("average_from needs average: set it to 'mean', or to a decay")
        return None
    return n / (n + 1) if decay == "mean" else decay


def check_mean_begins(opt: "Optimizer", group: int, values: Values) -> None:
    """Refuse a mean whose first weights are gone: it would count updates that it never saw."""
    if values["average"] != "mean" or opt.iter <= values["average_from"]:
        return
    group += opt.first_group
    records = [one for one in opt.engine.store.records.values() if one.group == group]
    if records and all(one.average is None for one in records):
        raise ValueError(
            f"average='mean' should begin after average_from={values['average_from']} updates, and "
            f"{opt.iter} were made without it; set average_from={opt.iter} to begin with the next"
        )


def pipeline_of(view: "Optimizer", mean_from: int = -1) -> Pipeline:
    """Return the pipeline that the parameters of a group pass; their mean, if any, begins there."""
    slots, factored = view.kernels[view.kernel], view.factored.get(view.kernel)
    if view.state_dtype is not None:  # records are asked how theirs is kept
        slots = (*slots,)
    if factored is not None:  # new ones: factor_from may be another, and records are asked again
        slots, factored = (*slots,), (*factored,)
    starts = (getattr(type(view), slot).start for slot in slots)
    both = both_set(vars(view))
    if both is not None:
        raise ValueError(f"{both[0]} and {both[1]}, one of them set by a group, cannot go together")
    return Pipeline(
        view.capsule(),
        slots,
        tuple(0.0 if start is None else getattr(view, start) for start in starts),
        view.carried_on if view.carries else view.scalars,
        *numbers_of(vars(view), view.decays),
        maximize=view.maximize,
        zero_grads=view.zero_grads,
        centralize=view.centralize,
        trust=trusted(view.trust_ratio),
        constraint=constrained(view.constraint),
        norms=view.norms,
        mean_from=mean_from,
        owner=view,
        carries=bool(view.carries),
        factored_slots=factored,
        factor_from=getattr(view, "factor_from", 0),
        scratch=view.scratch,
        state_dtype=view.state_dtype,
        codes=codes_of(view, slots),
        factored_codes=None if factored is None else codes_of(view, factored),
        seed=view.rounding_seed,
        master=view.master,
    )


def numbers_of(values: Values, decays: bool) -> tuple[Any, ...]:
    """Return the numbers that a pipeline keeps.

    clip_value, L2 decay, decoupled decay, average, clip_norm_per_key, agc, lr, and what a step that
    is scaled has of the parameter. A rule that `decays` has the decoupled decay among its
    coefficients.
    """
    decay, l2, shrink, start = values["weight_decay"], 0.0, 1.0, 0.0
    if values["decoupled"] and values["trust_ratio"]:
        start = -values["lr"] * decay
    elif values["decoupled"] and not decays:
        shrink = 1.0 - values["lr"] * decay
    elif not values["decoupled"]:
        l2 = decay
    return (
        values["clip_value"], l2, shrink, values["average"], values["clip_norm_per_key"],
        values["agc"], values["lr"] if values["trust_ratio"] else 1.0, start,
    )
