"""What all classes of `fastoptim.torch` share: an optimizer of PyTorch whose step is fastoptim's."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch

from fastoptim.checkpoint import file as checkpoint
from fastoptim.optimizer.base import Optimizer
from fastoptim.torch import states
from fastoptim.torch.states import Form
from fastoptim.torch.tensors import array_of, check_is_here
from fastoptim.torch.views import Views
from fastoptim.torch.work import Work

# What PyTorch says of how a step is made, and why it cannot be so here.
REFUSED = {
    "capturable": "it concerns the capture of CUDA graphs, and fastoptim works on the CPU",
    "differentiable": "autograd cannot go through an update that is made outside of it",
}


class Stepped(torch.optim.Optimizer):  # type: ignore[misc, unused-ignore]
    """An optimizer of PyTorch whose parameters one of fastoptim's rules updates.

    `param_groups`, hooks, `zero_grad` and `state_dict` are PyTorch's own. The rule and its arrays
    are in a `Work`, which is made at the first step, and anew where other parameters are there.
    """

    form: ClassVar[Form]
    followed: tuple[str, ...]  # the names in `param_groups` that `translated` reads
    sparse: ClassVar[str] = "refused"  # or "taken", "only"
    zeroes = False  # whether a step sets the gradients to zero
    _work: Work | None = None
    _state: dict[Any, Any]
    _shown: dict[int, states.Shown]
    _latest: Optimizer | None = None  # the rule at work, or the last one that was
    _lent: bool  # whether somebody may hold the state that was shown
    _in_hand: dict[Any, Any] | None = None  # a state that is being taken over
    _given: list[dict[str, Any]]  # as it was saved

    def new_rule(self) -> Optimizer:
        """Return the rule without groups and without state."""
        raise NotImplementedError

    def translated(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rule's hyperparameters for one of `param_groups`."""
        raise NotImplementedError

    # -------------------------------------------------------------- a step

    @torch._disable_dynamo  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in place.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients anew; called once, before the update.

        Returns
        -------
        What `closure` returned, or None.

        Raises
        ------
        TypeError, ValueError
            A tensor is not where or what an update takes; nothing has changed then.
        RuntimeError
            Parameters that have gradients are nobody's but this optimizer's any more: others have
            taken their place in the model.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = self._work
        if work is None or (self._lent and not states.is_left_alone(work, self._state, self._shown)):
            work = self._renewed()
        work.follow()
        if not work.step():
            self._renewed().step()
        if self._lent:
            self._show()
        return loss

    def _renewed(self) -> Work:
        """Return what updates the parameters that are there now, with the state that is there now."""
        looked = self._lent and self._work is not None
        if self._work is not None and not self._lent:
            self._show()
        work = Work(self, self.new_rule())
        states.take(work, self.form, self._state)
        self._work, self._shown, self._lent = work, {}, looked
        self._latest = work.rule
        if looked:
            self._show()
        return work

    def check_grads(self, views: Views) -> None:
        """Refuse gradients that this class does not take."""
        name = type(self).__name__
        if self.sparse == "only":
            for key, g in views.grads.items():
                if isinstance(g, np.ndarray):
                    raise RuntimeError(
                        f"the gradient of parameter {key!r} is dense, and {name} takes sparse ones "
                        f"alone; use Adam for it, or sparse=True in its Embedding"
                    )
        elif views.has_rows and self.sparse == "refused":
            raise RuntimeError(
                f"a gradient is sparse, and {name} would have to decay its state in all rows; use "
                f"SparseAdam, or fastoptim.torch.Optimizer(params, rule), which updates the rows of "
                f"the gradient alone"
            )
        elif views.has_rows and type(self).__module__ == __package__ + ".classes":
            for k, group in enumerate(self.param_groups):
                for option in ("weight_decay", "momentum"):
                    if group.get(option):
                        raise RuntimeError(
                            f"a gradient is sparse, and {option} of param_groups[{k}] concerns all "
                            f"rows; set it to 0, or use fastoptim.torch.Optimizer(params, rule), "
                            f"which updates the rows of the gradient alone"
                        )

    # -------------------------------------------------------------- parameters

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with hyperparameters of their own; as in PyTorch."""
        if isinstance(param_group, dict):
            refuse(param_group, self.defaults)
        if self._work is not None:
            self._show()
        super().add_param_group(param_group)
        try:
            for k, p in enumerate(self.param_groups[-1]["params"]):
                if p.device.type != "meta":  # it may get memory before the first step
                    check_is_here(f"parameter {k} of param_groups[{len(self.param_groups) - 1}]", p)
        except BaseException:
            del self.param_groups[-1]
            raise
        self._work, self._lent = None, False

    # -------------------------------------------------------------- state

    @property
    def state(self) -> dict[Any, Any]:
        """The state as PyTorch has it: each parameter's tensors and its step count, which are live."""
        if self._in_hand is not None:
            return self._in_hand
        if self._work is not None:
            self._show()
        return self._state

    @state.setter
    def state(self, state: dict[Any, Any]) -> None:
        self._state, self._shown, self._lent, self._work = state, {}, False, None

    def _show(self) -> None:
        """Let the state be that of now; somebody may hold it from then on."""
        assert self._work is not None
        states.show(self._work, self.form, self._state, self._shown)
        self._lent = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave, of this class or of PyTorch's; the arrays are copied.

        Raises
        ------
        ValueError, TypeError, KeyError
            It is of another class, or of other parameters. Nothing has changed then.
        """
        given: list[dict[str, Any]] = []

        def look(optimizer: object, state_dict: dict[str, Any]) -> None:
            given.append(state_dict)

        handle = self.register_load_state_dict_pre_hook(look)  # after all others
        self._given = given
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
            del self._given

    def __setstate__(self, state: dict[str, Any]) -> None:
        before, now = dict(vars(self)), dict(state)
        of_parameters = now.pop("state", None)
        given = before.get("_given")
        if given:  # PyTorch gives each tensor its parameter's dtype, and codes have one of their own
            of_parameters = by_parameter(given[-1], now["param_groups"])
        self._in_hand = defaultdict(dict, {p: copied(one) for p, one in of_parameters.items()})
        try:
            super().__setstate__(now)  # PyTorch's brings what older versions saved up to date
            for group in self.param_groups:
                refuse(group, self.defaults)
            work = Work(self, self.new_rule())
            states.take(work, self.form, self._in_hand)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self._state, self._in_hand = self._in_hand, None
        self._work, self._shown, self._lent = work, {}, False
        self._latest = work.rule

    # -------------------------------------------------------------- fastoptim's own

    @property
    def rule(self) -> Optimizer:
        """The rule at work, with its state by key; its hyperparameters are set in `param_groups`."""
        if self._work is None:
            self._renewed()
        assert self._work is not None
        return self._work.rule

    def save(self, path: "str | PathLike[str]") -> None:
        """Write what `state_dict` gives to a file without pickle, with a digest of its content.

        A crash at any moment leaves the old file or the new one. Needs ``pip install
        'fastoptim[checkpoint]'``.

        Raises
        ------
        OSError
            It cannot be written; an old file is still there.
        """
        saved = as_arrays(self.state_dict())
        checkpoint.save(path, {"format": 1, "torch": type(self).__name__, **saved})

    def load(self, path: "str | PathLike[str]") -> None:
        """Read a file that `save` wrote, and go on with it.

        Raises
        ------
        ValueError
            It is damaged, not of this class, or not of these parameters. Nothing has changed then.
        OSError
            It cannot be read.
        """
        saved = checkpoint.load(path)
        if saved.get("format") != 1 or saved.get("torch") != type(self).__name__:
            raise ValueError(
                f"{path} was not saved by fastoptim.torch.{type(self).__name__}, but by "
                f"{saved.get('torch') or saved.get('rule')}"
            )
        self.load_state_dict(as_tensors({name: saved[name] for name in ("state", "param_groups")}))


def refuse(group: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse what PyTorch's classes take and a step here cannot do."""
    for name, reason in REFUSED.items():
        if group.get(name, defaults.get(name)):
            raise ValueError(f"{name}=True is not possible: {reason}; leave it out")


def by_parameter(saved: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[Any, Any]:
    """Return a saved state with each parameter in the place of its number."""
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    tensors = [p for group in groups for p in group["params"]]
    of_number = dict(zip(numbers, tensors, strict=True))
    return {of_number.get(number, number): one for number, one in saved["state"].items()}


def copied(of_key: Any) -> Any:
    """Return a dict of its own with the same tensors: PyTorch may put others there."""
    return dict(of_key) if isinstance(of_key, dict) else of_key


def as_arrays(tree: Any) -> Any:
    """Return a state with arrays for tensors, as a file has it."""
    if isinstance(tree, torch.Tensor):
        return array_of("state", tree, "grads")
    if isinstance(tree, dict):
        return {key: as_arrays(one) for key, one in tree.items()}
    return [as_arrays(one) for one in tree] if isinstance(tree, list) else tree


def as_tensors(tree: Any) -> Any:
    """Return a state with tensors for arrays, which own their memory."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree)
    if isinstance(tree, dict):
        return {key: as_tensors(one) for key, one in tree.items()}
    return [as_tensors(one) for one in tree] if isinstance(tree, list) else tree
