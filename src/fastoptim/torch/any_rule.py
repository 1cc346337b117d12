"""Any rule of fastoptim, with all of its options, on PyTorch's parameters."""

import copy
import dataclasses
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
from fastoptim.torch.wording import in_torchs_words
from fastoptim.torch.work import number

# What a user does here instead of giving such an optimizer for a rule.
INSTEAD = {
    "SoftBatch": "PyTorch sums gradients by itself until zero_grad: divide each loss by n, and "
    "call step and zero_grad after every n-th backward",
    "Sharded": "it exchanges NumPy's gradients between processes; give its rule, and let "
    "torch.nn.parallel.DistributedDataParallel average the gradients",
    "SAM": "it takes gradients at a second point from a function of arrays; use it on arrays: "
    "tensor.detach().numpy()",
}


class Optimizer(Stepped):
    """Any rule of fastoptim, with any of its options, for PyTorch's parameters on the CPU.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor) or of dict
        As in PyTorch: parameters, ``model.named_parameters()``, or groups as dicts with "params"
        and hyperparameters of their own, by the rule's names. Names are keys of the rule's state.
    rule : fastoptim.Optimizer
        A rule that has not been used, such as ``fastoptim.Lion(lr=1e-4, clip_norm=1.0)``; it is
        copied. Its groups, by name or by predicate, become `param_groups`.

    Attributes
    ----------
    param_groups : list of dict
        The rule's hyperparameters and options, which are live: PyTorch's schedulers work on them,
        and each number may be a schedule of fastoptim, a function of the number of updates.
    state : dict
        Each parameter's step count and the rule's slots, by their own names, as tensors that share
        memory with the rule's arrays; with "average" and "master", where there are such.
    rule : fastoptim.Optimizer
        To be read: `grad_norm`, `clipped`, `skipped`, ``current("lr")``, state by key. Of its
        hyperparameters clip_norm, norm, nonfinite and denormals, which concern a whole step, are
        set there; they are not in `state_dict`. So are those of the rest of a `Muon`.

    Raises
    ------
    TypeError
        `rule` is not a rule: of a SoftBatch, a Sharded and a SAM the message says what to do.
    ValueError
        It has been used; it has a `state_dir`, or `lookahead`; or both it and `params` have groups.

    Notes
    -----
    A step has the bits of the rule's update of the same arrays. ``zero_grads=True`` sets gradients
    to zero where they lie, in the same pass over memory, and `zero_grad` is not needed. PyTorch
    sums gradients of several batches by itself, so there is no soft batch here.
    ``nonfinite="skip"`` leaves a step out and counts it in ``opt.rule.skipped``.

    A schedule is code, and None stands in its place in `state_dict`; one that is here stays when a
    state is loaded.

    Examples
    --------
    >>> import torch, fastoptim as fo, fastoptim.torch as ft
    >>> p = torch.nn.Parameter(torch.tensor([5.0, 1.0], dtype=torch.float64))
    >>> opt = ft.Optimizer([p], fo.Lion(lr=0.1, zero_grads=True))
    >>> for step in range(3):
    ...     loss = p[0]**2 + 50 * p[1]**2
    ...     print(f"{loss.item():.3f}")
    ...     loss.backward()
    ...     opt.step()
    75.000
    64.496
    55.015

    Groups by the names of parameters, and averages:

    >>> model = torch.nn.Linear(3, 2)
    >>> rule = fo.AdamW(average="mean", groups=[fo.Group("*bias", weight_decay=0.0)])
    >>> opt = ft.Optimizer(model.named_parameters(), rule)
    >>> [group["weight_decay"] for group in opt.param_groups]
    [0.01, 0.0]
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> opt.step()
    >>> with opt.averaged():
    ...     y = model(torch.ones(1, 3))
    """

    form = Form(counters=True)
    sparse = "taken"
    settable = ("clip_norm", "norm", "nonfinite", "denormals")
    _rule: base.Optimizer  # without groups and without state

    def __init__(self, params: Iterable[Any], rule: base.Optimizer) -> None:
        check_rule(rule)
        names = tuple(name for name in checks_of(type(rule)) if name not in OF_THE_WHOLE)
        self.followed = names
        if rule.groups and not isinstance(params, torch.Tensor):
            params = in_groups(list(params), rule, names)
        self._rule = copy.deepcopy(rule)
        self._rule.groups = ()
        super().__init__(params, {name: vars(rule)[name] for name in names})

    def new_rule(self) -> base.Optimizer:
        """Return the rule without groups and without state, with what `rule` was set to since."""
        rule = copy.deepcopy(self._rule)
        if self._latest is not None:
            for name in self.settable:
                setattr(rule, name, getattr(self._latest, name))
            if rule.inner() is not None:
                rule.rest = self._latest.inner()  # type: ignore[attr-defined]
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
        """Let the parameters be where a schedule-free rule is evaluated, within a ``with``.

        Raises
        ------
        AttributeError
            The rule is none of those.
        """
        return self._elsewhere("evaluation")

    @contextmanager
    def _elsewhere(self, name: str) -> Iterator[None]:
        work = self._renewed() if self._work is None else self._work
        arrays = work.views.arrays()
        tensors = list(work.views.tensors)
        try:
            with work.not_led():
                inside = getattr(work.rule, name)(arrays)
        except AttributeError as problem:
            in_torchs_words(problem)
            raise
        try:
            with inside:
                torch.autograd.graph.increment_version(tensors)
                yield
        finally:
            torch.autograd.graph.increment_version(tensors)

    def state_dict(self) -> dict[str, Any]:
        """Return state and `param_groups` as PyTorch does; in the place of a schedule stands None.

        Raises
        ------
        RuntimeError
            Within a ``with`` of `averaged` or `evaluation`.
        """
        self._check_is_still()
        saved: dict[str, Any] = super().state_dict()
        saved["param_groups"] = [
            {name: None if callable(one) else one for name, one in group.items()}
            for group in saved["param_groups"]
        ]
        return saved

    def __repr__(self) -> str:
        fields = {f.name: f for f in dataclasses.fields(self._rule)}
        rule = self.new_rule()
        lines = ["Optimizer (", f"rule: {type(rule).__name__}"]
        for name in OF_THE_WHOLE:
            if name in fields and name != "groups" and vars(rule)[name] != fields[name].default:
                lines.append(f"    {name}: {vars(rule)[name]!r}")
        for k, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {k}")
            lines += [
                f"    {name}: {value}" for name, value in group.items()
                if name not in ("params", "param_names") and not (
                    name in fields and fields[name].kw_only and value == fields[name].default
                )
            ]
        return "\n".join([*lines, ")"])

    def __getstate__(self) -> dict[str, Any]:
        self._check_is_still()
        return {**super().__getstate__(), "_rule": self.new_rule(), "followed": self.followed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        here = vars(self).get("param_groups", ())
        for group, present in zip(state["param_groups"], here, strict=False):
            for name, value in present.items():
                if callable(value) and group.get(name, ...) is None:
                    group[name] = value
        super().__setstate__(state)


def check_rule(rule: Any) -> None:
    """Refuse what cannot be the rule of an optimizer of PyTorch."""
    name = type(rule).__name__
    if not isinstance(rule, base.Optimizer):
        made = f", such as fastoptim.{rule.__name__}()" if isinstance(rule, type) else ""
        instead = f"; {INSTEAD[name]}" if name in INSTEAD else ""
        raise TypeError(
            f"rule must be an optimizer of fastoptim{made}, got {shown(rule)} ({name}){instead}"
        )
    if rule.iter or rule.engine.store.records:
        raise ValueError("rule has been used, and its state is of other parameters: give a new one")
    if rule.whole is not None:
        raise ValueError("rule is the rest of another one: give a new one")
    if rule.state_dir is not None:
        raise ValueError(
            "rule has a state_dir, and here the state is PyTorch's, of tensors in memory; leave it "
            "out, or update arrays: tensor.detach().numpy()"
        )
    if vars(rule).get("lookahead"):
        raise ValueError(
            "rule has lookahead=True, and a closure is evaluated where the parameters are; leave "
            "it out, or use fastoptim.Nesterov, whose gradients are taken there"
        )


def in_groups(
    params: list[Any], rule: base.Optimizer, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return parameters in groups as those of a rule say, by name and by shape."""
    if params and isinstance(params[0], Mapping):
        raise ValueError(
            "there are groups in params and in the rule; give them to one of both: dicts in "
            "params, or fastoptim.Group in the rule, with named_parameters()"
        )
    pairs = [one if isinstance(one, tuple) else (k, one) for k, one in enumerate(params)]
    infos = {key: ParamInfo(tuple(p.shape), dtype_of(p)) for key, p in pairs}
    arrays = [np.broadcast_to(np.zeros((), one.dtype), one.shape) for one in infos.values()]
    try:
        grouping.check_keys(rule.groups, infos, arrays)
    except ValueError as problem:
        if any(isinstance(one, tuple) for one in params):
            raise
        raise ValueError(
            f"{problem}, which are numbers, since params has no names: for groups by name give "
            f"model.named_parameters()"
        ) from None
    own = {name: vars(rule)[name] for name in names}
    members: list[list[Any]] = [[] for _ in range(1 + len(rule.groups))]
    for (key, _), one in zip(pairs, params, strict=True):
        members[grouping.index_of(rule.groups, key, infos[key])].append(one)
    values = [own, *({**own, **group.hyperparameters} for group in rule.groups)]
    return [{"params": m, **v} for m, v in zip(members, values, strict=True) if m]


def dtype_of(p: torch.Tensor) -> np.dtype[Any]:
    """Return the dtype that a predicate sees of a parameter."""
    return np.dtype("uint16" if p.dtype is torch.bfloat16 else str(p.dtype).removeprefix("torch."))
