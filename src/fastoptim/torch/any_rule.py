"""Any rule of fastoptim, with all of its options, on PyTorch's parameters."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

from fastoptim.optimizer import base
from fastoptim.optimizer import groups as grouping
from fastoptim.optimizer.groups import OF_THE_WHOLE
from fastoptim.optimizer.hyperparameters import checks_of
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.porting.answers import shown
from fastoptim.torch.states import Form
from fastoptim.torch.stepped import Stepped
from fastoptim.torch.work import number

APART = ("groups", "rest", "to_rest", "state_dir")  # they are the rule's from the beginning


class Optimizer(Stepped):
    form = Form(counters=True)
    sparse = "taken"
    _rule: base.Optimizer  # without groups and without state

    def __init__(self, params: Iterable[Any], rule: base.Optimizer) -> None:
        given: object = rule
        if not isinstance(given, base.Optimizer):
            made = f", such as fastoptim.{given.__name__}()" if isinstance(given, type) else ""
            raise TypeError(
                f"rule must be an optimizer of fastoptim{made}, got {shown(given)} "
                f"({type(given).__name__})"
            )
        if rule.iter or rule.engine.store.records:
            raise ValueError("rule has been used, and its state is of other parameters: give a new one")
        self.followed = tuple(name for name in checks_of(type(rule)) if name not in OF_THE_WHOLE)
        if rule.groups and not isinstance(params, torch.Tensor):
            params = in_groups(list(params), rule, self.followed)
        self._rule = copy.deepcopy(rule)
        self._rule.groups = ()
        super().__init__(params, {name: vars(rule)[name] for name in self.followed})

    def new_rule(self) -> base.Optimizer:
        """Return the rule without groups and without state, with what `rule` was set to since."""
        rule = copy.deepcopy(self._rule)
        if self._latest is not None:
            for name in OF_THE_WHOLE:
                if name in checks_of(type(rule)) and name not in APART:
                    setattr(rule, name, getattr(self._latest, name))
        return rule

    def translated(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rule's hyperparameters for one of `param_groups`."""
        return {name: number(group[name]) for name in self.followed}

    @property
    def zeroes(self) -> bool:  # type: ignore[override]
        """Whether a step sets gradients to zero."""
        return any(group["zero_grads"] for group in self.param_groups)

    def averaged(self) -> AbstractContextManager[None]:
        """Let the parameters hold their averages for as long as a ``with`` lasts.

        As `fastoptim.Optimizer.averaged`: for rules with ``average``. The tensors are exchanged in
        place, and within the ``with`` no step is made.
        """
        return self._elsewhere("averaged")

    def evaluation(self) -> AbstractContextManager[None]:
        """Let the parameters be where a schedule-free rule is evaluated, as long as a ``with`` lasts.

        Raises
        ------
        AttributeError
            The rule is none of those.
        """
        return self._elsewhere("evaluation")

    @contextmanager
    def _elsewhere(self, name: str) -> Iterator[None]:
        rule, work = self.rule, self._work
        assert work is not None
        arrays = work.views.arrays()
        tensors = list(work.views.tensors)
        try:
            with getattr(rule, name)(arrays):
                torch.autograd.graph.increment_version(tensors)
                yield
        finally:
            torch.autograd.graph.increment_version(tensors)

    def state_dict(self) -> dict[str, Any]:
        """Return state and `param_groups` as PyTorch does; a schedule is code, and None stands there."""
        saved: dict[str, Any] = super().state_dict()
        saved["param_groups"] = [
            {name: None if callable(one) else one for name, one in group.items()}
            for group in saved["param_groups"]
        ]
        return saved

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_rule": self.new_rule(), "followed": self.followed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group, present in zip(state["param_groups"], vars(self).get("param_groups", ()), strict=False):
            for name, value in present.items():
                if callable(value) and group.get(name, ...) is None:
                    group[name] = value
        super().__setstate__(state)


def in_groups(
    params: list[Any], rule: base.Optimizer, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return parameters in groups as those of a rule say, by name and by shape."""
    if params and isinstance(params[0], Mapping):
        raise ValueError(
            "there are groups in params and in the rule; give them to one of both: dicts in params, "
            "or fastoptim.Group in the rule, with named_parameters()"
        )
    pairs = [one if isinstance(one, tuple) else (k, one) for k, one in enumerate(params)]
    infos = {key: ParamInfo(tuple(p.shape), dtype_of(p)) for key, p in pairs}
    grouping.check_keys(
        rule.groups, infos, [np.broadcast_to(np.zeros((), i.dtype), i.shape) for i in infos.values()]
    )
    own = {name: vars(rule)[name] for name in names}
    members: list[list[Any]] = [[] for _ in range(1 + len(rule.groups))]
    for (key, _), one in zip(pairs, params, strict=True):
        members[grouping.index_of(rule.groups, key, infos[key])].append(one)
    values = [own, *({**own, **group.hyperparameters} for group in rule.groups)]
    return [{"params": m, **v} for m, v in zip(members, values, strict=True) if m]


def dtype_of(p: torch.Tensor) -> np.dtype[Any]:
    """Return the dtype that a predicate sees of a parameter."""
    return np.dtype("uint16" if p.dtype is torch.bfloat16 else str(p.dtype).removeprefix("torch."))
