"""An optimizer inside another one, for the keys that are not the other's: ``fo.Muon(rest=…)``.

Both have one engine: the inner one's pipelines come behind the outer one's, as those of further
groups. So an update is checked as a whole, is one walk over memory, and is saved in one place. The
outer optimizer has its own copy of the inner one, as of its groups; the copy shows the state of its
keys, and refuses to be used alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

from fastoptim.kernels.update.engine import Engine
from fastoptim.kernels.update.pipeline import Pipeline, Plan
from fastoptim.optimizer import plateaus
from fastoptim.optimizer.groups import OF_THE_WHOLE
from fastoptim.optimizer.hyperparameters import both_set, checks_of
from fastoptim.optimizer.plan import LivePlan
from fastoptim.optimizer.predicates import ParamInfo, Predicate, answer, check_predicate, name_of
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

Patterns: TypeAlias = tuple[str | Predicate, ...]

if TYPE_CHECKING:

    class Keys:
        """A hyperparameter that says which keys are meant."""

        def __get__(self, optimizer: object, owner: Any) -> Patterns: ...
        def __set__(
            self, optimizer: object, value: str | Predicate | Sequence[str | Predicate]
        ) -> None: ...

else:  # what signatures and help show
    Keys: TypeAlias = str | Callable | Sequence


class KeyPatterns:
    """Which keys are meant: a shell pattern, a predicate, or several of them."""

    wanted = "a pattern such as 'embedding*', a predicate, or a list of them"

    def __call__(self, name: str, value: object) -> Patterns:
        """Return patterns and predicates as a tuple, or say what is neither."""
        single = isinstance(value, str) or callable(value)
        if not single and not isinstance(value, Sequence):
            raise TypeError(f"{name} must be {self.wanted}, got {shown(value)}")
        several: Any = (value,) if single else value
        for one in several:
            if callable(one):
                check_predicate(one)
            elif not isinstance(one, str):
                raise TypeError(f"{name} must be {self.wanted}, got {shown(one)} in it")
        return tuple(several)


def matches(pattern: str | Predicate, key: object, p: ParamInfo) -> bool:
    """Whether a key is meant by a pattern or a predicate."""
    return answer(pattern, key, p) if callable(pattern) else fnmatchcase(str(key), pattern)


def check_patterns(
    name: str, patterns: Patterns, pairs: Iterable[tuple[object, ParamInfo]]
) -> None:
    """Refuse a pattern or predicate that no key matches: a misspelt one would be ignored."""
    pairs = list(pairs)
    for pattern in patterns:
        if not any(matches(pattern, key, p) for key, p in pairs):
            keys = ", ".join(repr(key) for key, _ in pairs[:8]) + (", …" if len(pairs) > 8 else "")
            raise ValueError(f"{name_of(pattern)} of {name} matches no key; the keys are {keys}")


class Rest:
    """An optimizer of this library that can be a part of another one, or None."""

    def __call__(self, name: str, value: Any) -> "Optimizer | None":
        """Return a copy of an optimizer without its state, or say why it cannot be inside."""
        from fastoptim.optimizer.base import Optimizer

        if value is None:
            return None
        if not isinstance(value, Optimizer):
            got = value.__name__ if isinstance(value, type) else type(value).__name__
            made = f"; write {got}()" if isinstance(value, type) else ""
            raise TypeError(f"{name} must be an optimizer of fastoptim or None, got {got}{made}")
        if value.prelude is not None:
            raise TypeError(
                f"{name} cannot be {type(value).__name__}; fastoptim.AdamW() is the usual choice"
            )
        if value.engine.store.records and value.whole is None:
            raise ValueError(
                f"{name} has made {value.iter} updates, and its state would stay behind; give a "
                f"new {type(value).__name__}"
            )
        check_is_part(name, value)
        return copied(value)


def check_is_part(name: str, rest: "Optimizer") -> None:
    """Refuse options of the inner optimizer that concern the whole update."""
    fields = type(rest).__dataclass_fields__
    for option in OF_THE_WHOLE:
        if option in fields and option != "groups" and vars(rest)[option] != fields[option].default:
            raise ValueError(
                f"{option} concerns the whole update, and {name} is a part of it; give "
                f"{option}={vars(rest)[option]!r} to the optimizer around"
            )


def check_clips_once(values: Mapping[str, Any], clip_norm: Any) -> None:
    """Refuse an inner optimizer that clips, too, what has been clipped with all gradients."""
    both = both_set({**values, "clip_norm": clip_norm})
    if both is not None:
        own = both[both[0] == "clip_norm"]
        raise ValueError(
            f"clip_norm clips the gradients of all keys, so {own} of rest cannot be set, too; set "
            f"one of them to None"
        )


def copied(rest: "Optimizer") -> "Optimizer":
    """Return an optimizer with the same hyperparameters, schedules and groups, and no state."""
    return type(rest)(**{name: vars(rest)[name] for name in checks_of(type(rest))})


def copy_observers(opt: "Optimizer", memo: dict[int, Any]) -> None:
    """Give an optimizer its own copies of the schedules that observe."""
    names = [name for name in checks_of(type(opt)) if name != "groups"]
    vars(opt).update(plateaus.copied({name: vars(opt)[name] for name in names}, memo))
    for group in opt.groups:
        group._given.update(plateaus.copied(group._given, memo))
    opt._forget()


def bind(rest: "Optimizer", whole: "Optimizer") -> None:
    """Make an optimizer a part of another one."""
    engine, name, around = Engine(), type(rest).__name__, type(whole).__name__
    engine.share(
        whole.engine,
        f"this {name} is the rest of a {around}, which updates, saves and copies both; use the "
        f"{around} instead",
    )
    vars(rest).update(engine=engine, whole=whole)


class PlanWithRest(LivePlan):
    """The plan of an optimizer and, behind it, of the one inside it."""

    theirs: Plan | None = None  # the inner one's, of which the pipelines were made
    latest: Plan | None = None  # the inner one's of this update: its schedules are asked once

    def others(self) -> list[Pipeline]:
        """Return the pipelines of the optimizer inside."""
        rest = self.opt.inner()
        if rest is None:
            return []
        check_is_part("rest", rest)
        theirs = self.latest or rest.plan()
        assert rest.live_plan is not None
        for view in rest.live_plan.views:
            check_clips_once(vars(view), self.views[0].clip_norm)
        self.theirs = theirs  # after the checks: what is refused now is refused again
        return theirs.pipelines

    @property
    def changes(self) -> bool:
        """Whether numbers change from update to update."""
        rest = self.opt.inner()
        if rest is None:
            return super().changes
        return super().changes or rest.fixed_plan is None

    def prepared(self) -> Plan:
        """Return what the next update must know."""
        rest = self.opt.inner()
        if rest is not None:
            self.latest = rest.plan()
            if self.latest is not self.theirs:
                self.make_pipelines()
        return super().prepared()
