"""What updates the parameters of one of PyTorch's optimizers: a rule, which follows `param_groups`."""

from collections.abc import Hashable, Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch

from fastoptim.optimizer.assigning import assign
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.groups import Group
from fastoptim.torch.tensors import TENSORS, array_of
from fastoptim.torch.views import Views

if TYPE_CHECKING:
    from fastoptim.torch.stepped import Stepped

EXCHANGE = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)


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
        With a group for each of `param_groups` behind the first.
    key_of : dict
        id of each parameter → its key, which is its name, or its number without names.
    place_of : dict
        Key → the place of its group among the rule's views.
    """

    def __init__(self, owner: "Stepped", rule: Optimizer) -> None:
        self.owner, self.rule = owner, rule
        tensors: list[torch.Tensor] = []
        keys: list[Hashable] = []
        self.key_of: dict[int, Hashable] = {}
        self.place_of: dict[Hashable, int] = {}
        self.places: list[int] = []  # of each group; -1: it has no parameters
        groups: list[Group] = []
        for values in owner.param_groups:
            first = not any(place >= 0 for place in self.places)
            place = -1 if not values["params"] else 0 if first else len(groups) + 1
            self.places.append(place)
            for p, key in named(values, len(tensors)):
                tensors.append(p)
                keys.append(key)
                self.key_of[id(p)], self.place_of[key] = key, place
            if place > 0:
                groups.append(Group(self.member_of(place), **owner.translated(values)))
            elif place == 0:
                assign(rule, 0, owner.translated(values))
        if len({*keys}) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"two parameters have the name {twice!r}; names are keys of the state")
        if groups:
            rule.groups = groups
        self.values_of = itemgetter(*owner.followed)
        self.seen: list[Any] = [None] * len(self.places)
        self.has_tensors = True
        self.follow()
        self.views = Views(keys, tensors, TENSORS, EXCHANGE, array_of)
        self.held: set[Hashable] = {*keys}  # keys whose parameters somebody else has
        self.alone: set[Hashable] | None = None  # those nobody has any more, once it was looked

    def member_of(self, place: int) -> Any:
        """Return the predicate of the group at a place."""

        def in_group(key: Hashable, p: object) -> bool:
            return self.place_of[key] == place

        in_group.__name__ = f"param_groups[{self.places.index(place)}]"
        return in_group

    def follow(self) -> None:
        """Let the rule have the numbers that `param_groups` have now."""
        for k, (values, place) in enumerate(zip(self.owner.param_groups, self.places, strict=True)):
            now = self.values_of(values)
            if place < 0 or (now == self.seen[k] and not self.has_tensors):
                continue
            self.change(k, place, values)
            self.seen[k] = now
        self.has_tensors = any(holds_tensor(now) for now in self.seen if now is not None)

    def change(self, k: int, place: int, values: Mapping[str, Any]) -> None:
        """Assign what is not as it was in one group."""
        target = self.rule if place == 0 else self.rule.groups[place - 1]
        try:
            new = self.owner.translated(values)
            assign(self.rule, place, {
                name: value for name, value in new.items() if getattr(target, name) != value
            })
        except (TypeError, ValueError) as problem:
            problem.add_note(f"these are the hyperparameters of param_groups[{k}]")
            raise

    def step(self) -> bool:
        """Update every parameter that has a gradient; return False if the tensors are others now."""
        alone: list[Hashable] = []
        views = self.views
        try:
            written = views.look(self.owner.param_groups, alone)
            if written is None:
                return False
            self.notice(alone)
            if written:
                self.owner.check_grads(views)
                self.apply(written)
        finally:
            views.let_go()
        return True

    def apply(self, written: list[torch.Tensor]) -> None:
        """Make one update, and tell autograd which tensors it has written."""
        rule = self.rule
        if not rule.engine.update(
            self.views.params, self.views.grads, rule.fixed_plan or rule.plan()
        ):
            return
        if self.owner.zeroes:
            written = written + [g for g in (p.grad for p in written) if not g.is_sparse]
        try:
            torch.autograd.graph.increment_version(written)
        except KeyboardInterrupt:
            torch.autograd.graph.increment_version(written)
            raise

    def notice(self, alone: list[Hashable]) -> None:
        """Say it if parameters are nobody's any more: other ones have taken their place."""
        if self.alone is None:  # those that nobody ever had are used through param_groups
            self.alone = {*alone}
        lost = [key for key in alone if key not in self.alone]
        if not lost:
            return
        trained = [key for key in lost if self.views.grads[key] is not None]
        names = ", ".join(map(repr, (trained or lost)[:8])) + (", …" if len(lost) > 8 else "")
        text = (
            f"nothing but this optimizer has the parameters {names} any more: a layer was "
            f"exchanged, or load_state_dict(assign=True) made new ones. "
        )
        if trained:
            raise RuntimeError(
                f"{text}They still have gradients, and the model would not see their update; make "
                f"the optimizer anew of model.parameters() (its state_dict can be loaded into it)"
            )
        self.alone.update(lost)
        import warnings

        warnings.warn(
            f"{text}They get no gradients and stay as they are; if others have taken their place, "
            f"add these with add_param_group, or make the optimizer anew of model.parameters()",
            UserWarning, stacklevel=4,
        )


def named(group: Mapping[str, Any], first: int) -> Iterator[tuple[torch.Tensor, Hashable]]:
    """Yield the parameters of a group, each with its key; `first` is the number of the first."""
    names = group.get("param_names")
    keys = range(first, first + len(group["params"])) if names is None else names
    yield from zip(group["params"], keys, strict=True)


def holds_tensor(values: object) -> bool:
    """Whether there is a tensor among hyperparameters, which may change without being assigned."""
    if isinstance(values, tuple):
        return any(holds_tensor(one) for one in values)
    return isinstance(values, torch.Tensor)


def number(value: Any) -> Any:
    """Return a hyperparameter; of a tensor of one element, its number."""
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
