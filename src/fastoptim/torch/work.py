"""What updates the parameters of an optimizer of PyTorch: a rule that follows `param_groups`."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fastoptim.kernels.update.engine import Engine
from fastoptim.optimizer.assigning import Led, assign
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.groups import Group
from fastoptim.torch.replaced import error_of, is_first_suspect, warn_of
from fastoptim.torch.tensors import TENSORS, array_of, check_memory, check_no_transform
from fastoptim.torch.views import Views
from fastoptim.torch.wording import in_torchs_words

if TYPE_CHECKING:
    from fastoptim.torch.stepped import Stepped

EXCHANGE = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
# A function in C, if it is there: an interrupt cannot arrive in it.
BUMP = getattr(torch._C, "_increment_version", torch.autograd.graph.increment_version)

# What PyTorch says of how a step is made, and why it cannot be so here.
REFUSED = {
    "capturable": "it concerns the capture of CUDA graphs, and fastoptim works on the CPU",
    "differentiable": "autograd cannot go through an update that is made outside of it",
}


class Work:
    """A rule with the parameters of an optimizer, for as long as these stay the same tensors.

    Parameters
    ----------
    owner : Stepped
        Its `param_groups` are followed: numbers at every step; other tensors need another `Work`.
    rule : Optimizer
        Without groups and without state.

    Attributes
    ----------
    rule : Optimizer
        With a group for each of `param_groups` behind the first. After `lead` others may read it.
    engine : Engine
        The rule's, which makes the updates.
    key_of : dict
        id of each parameter → its key, which is its name, or its number without names.
    place_of : dict
        Key → the place of its group among the rule's views.
    """

    def __init__(self, owner: "Stepped", rule: Optimizer) -> None:
        self.owner, self.rule, self.engine = owner, rule, rule.engine
        tensors: list[torch.Tensor] = []
        keys: list[Hashable] = []
        self.key_of: dict[int, Hashable] = {}
        self.place_of: dict[Hashable, int] = {}
        self.places: list[int] = []  # of each group; -1: it has no parameters
        groups: list[Group] = []
        ends: list[int] = []
        for values in owner.param_groups:
            first = not any(place >= 0 for place in self.places)
            place = -1 if not values["params"] else 0 if first else len(groups) + 1
            self.places.append(place)
            for p, key in named(values, len(tensors)):
                tensors.append(p)
                keys.append(key)
                self.key_of[id(p)], self.place_of[key] = key, place
            ends.append(len(tensors))
            try:
                if place > 0:
                    groups.append(Group(self.member_of(place), **owner.translated(values)))
                elif place == 0:
                    assign(rule, 0, owner.translated(values))
            except (TypeError, ValueError) as problem:
                problem.add_note(about(len(self.places) - 1, owner.followed, values))
                raise
        if len({*keys}) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"two parameters have the name {twice!r}; names are keys of the state")
        try:
            if groups:
                rule.groups = groups
        except (TypeError, ValueError):
            for k in range(len(self.places)):
                owner._check_numbers(k)
            raise
        refusable = [n for n in REFUSED if all(n in group for group in owner.param_groups)]
        self.values_of = itemgetter(*owner.followed, *refusable)
        self.seen: list[Any] = [None] * len(self.places)
        self.has_tensors = True
        self.is_over = False  # whether another `Work` has to go on, with the state of this one
        self.follow()
        self.views = Views(keys, tensors, ends, TENSORS, EXCHANGE, array_of, check_memory)
        self.alone: set[Hashable] | None = None  # those nobody has any more, once it was looked

    def member_of(self, place: int) -> Any:
        """Return the predicate of the group at a place."""

        def in_group(key: Hashable, p: object) -> bool:
            return self.place_of[key] == place

        in_group.__name__ = f"param_groups[{self.places.index(place)}]"
        return in_group

    def lead(self) -> None:
        """Refuse that anybody else updates the rule, replaces its state or sets what it follows."""
        name = type(self.owner).__name__
        if self.rule.engine is not self.engine:
            return
        shared = Engine()
        shared.share(
            self.engine,
            f"this {type(self.rule).__name__} is the rule of a fastoptim.torch.{name}, which "
            f"updates, saves and copies it; use the {name} instead",
        )
        led = Led(
            f"this rule follows the param_groups of a fastoptim.torch.{name}, where its "
            f"hyperparameters are set", self.owner.settable,
        )
        vars(self.rule).update(engine=shared, led=led)

    @contextmanager
    def not_led(self) -> Iterator[None]:
        """Let the rule have its engine for as long as a ``with`` lasts."""
        shared = self.rule.engine
        vars(self.rule)["engine"] = self.engine
        try:
            yield
        finally:
            vars(self.rule)["engine"] = shared

    def check_is_still(self) -> None:
        """Refuse what may not be done in the middle of a step, or while averages are exchanged."""
        self.views.check_is_free()
        try:
            self.engine.still(lambda: None)
        except RuntimeError as problem:
            in_torchs_words(problem)
            raise

    def follow(self) -> None:
        """Let the rule have the numbers that `param_groups` have now."""
        values_of, seen = self.values_of, self.seen
        for k, values in enumerate(self.owner.param_groups):
            now = values_of(values)
            try:
                is_known = now == seen[k] and not self.has_tensors
            except RuntimeError:  # a tensor of several elements, which is refused below
                is_known = False
            if is_known:
                continue
            if self.places[k] >= 0:
                self.change(k, self.places[k], values)
            seen[k] = tuple(map(as_it_is, now))
            self.has_tensors = any(map(holds_tensor, seen))

    def change(self, k: int, place: int, values: Mapping[str, Any]) -> None:
        """Assign what is not as it was in one group."""
        target = self.rule if place == 0 else self.rule.groups[place - 1]
        try:
            refuse(values)
            new = self.owner.translated(values)
            changed = {name: value for name, value in new.items() if getattr(target, name) != value}
            # noted first: after an interrupt between the two, nothing would be changed any more
            self.is_over |= self.owner.counts_anew(target, changed)
            assign(self.rule, place, changed)
        except (TypeError, ValueError) as problem:
            problem.add_note(about(k, self.owner.followed, values))
            raise

    def step(self) -> bool:
        """Update all parameters with a gradient; return False if the tensors are others now."""
        check_no_transform()
        return self.views.step(self)

    def go_on(self, written: list[torch.Tensor]) -> None:
        """Make one update, which writes these parameters; the views are of this step."""
        self.owner.check_grads(self.views)
        rule = self.rule
        try:
            self.views.update(
                self.engine, rule.fixed_plan or rule.plan(), written, self.owner.zeroes, BUMP
            )
        except (TypeError, ValueError, FloatingPointError, RuntimeError) as problem:
            in_torchs_words(problem)
            raise

    def notice(self, alone: list[Hashable]) -> Exception | None:
        """Warn if parameters are nobody's any more and others have their place; return an error.

        `alone` has the keys of those that only the optimizer refers to.
        """
        grads, tensors = self.views.grads, self.views.tensors
        tensor_of = dict(zip(self.views.keys, tensors, strict=True))
        if self.alone is None:  # such as are reached through param_groups, or were replaced before
            lost = {key: tensor_of[key] for key in alone if grads[key] is None}
            if lost and is_first_suspect(lost, tensors):
                warn_of([*lost])
            self.alone = {*alone}
            return None
        lost = {key: tensor_of[key] for key in alone if key not in self.alone}
        if not lost:
            return None
        trained = {key: p for key, p in lost.items() if grads[key] is not None}
        problem = error_of(trained, lost, tensors)
        if problem is None:
            self.alone.update(lost)
        return problem


def retire(rule: Optimizer | None) -> None:
    """Refuse that anything be set on a rule that somebody may have, and that works no more."""
    if rule is not None and rule.led is not None:
        vars(rule)["led"] = Led(
            "another rule has taken this one's place, since tensors or state were replaced; it is "
            "the attribute rule of the optimizer that this one is of", (),
        )


def named(group: Mapping[str, Any], first: int) -> Iterator[tuple[torch.Tensor, Hashable]]:
    """Yield the parameters of a group, each with its key; `first` is the number of the first."""
    names = group.get("param_names")
    keys = range(first, first + len(group["params"])) if names is None else names
    yield from zip(group["params"], keys, strict=True)


def about(k: int, names: Iterable[str], values: Mapping[str, Any]) -> str:
    """Return what a message says of the group whose hyperparameters are refused."""
    has = ", ".join(f"{name}={values.get(name)!r}" for name in names)
    return f"these are the hyperparameters of param_groups[{k}]: {has}"


def holds_tensor(values: object) -> bool:
    """Whether there is a tensor among hyperparameters, which may change without being assigned."""
    if isinstance(values, (tuple, list)):
        return any(holds_tensor(one) for one in values)
    return isinstance(values, torch.Tensor)


def as_it_is(value: Any) -> Any:
    """Return a hyperparameter that stays as it is when the given one is changed in place."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [*map(as_it_is, value)] if isinstance(value, list) else value


def number(value: Any) -> Any:
    """Return a hyperparameter; of a tensor of one element, its number."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.numel() != 1:
        raise ValueError(
            f"a tensor as a hyperparameter must have one element, got the shape "
            f"{tuple(value.shape)}"
        )
    return value.item()


def refuse(group: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
    """Refuse what PyTorch's classes take and a step here cannot do."""
    for name, reason in REFUSED.items():
        if group.get(name, (defaults or {}).get(name)):
            raise ValueError(f"{name}=True is not possible: {reason}; leave it out")
