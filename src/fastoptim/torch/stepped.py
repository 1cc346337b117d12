"""What all classes of `fastoptim.torch` share: a step that is fastoptim's, state, checkpoints."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from fastoptim.checkpoint import file as checkpoint
from fastoptim.optimizer.assigning import assign
from fastoptim.optimizer.base import Optimizer
from fastoptim.torch import quick, states
from fastoptim.torch.shown import Shown
from fastoptim.torch.states import Form
from fastoptim.torch.tensors import array_of, check_is_here
from fastoptim.torch.views import Views
from fastoptim.torch.work import Work, about, named, refuse, retire

BFLOAT16 = "bfloat16"  # the one key of a dict that stands for a tensor's bits in a file


class Stepped(torch.optim.Optimizer):  # type: ignore[misc, unused-ignore]
    """An optimizer of PyTorch whose parameters one of fastoptim's rules updates.

    `param_groups`, hooks, `zero_grad` and `state_dict` are PyTorch's own. The rule and its arrays
    are in a `Work`, which is made at the first step, and anew where other parameters are there.
    """

    form: ClassVar[Form]
    followed: tuple[str, ...]  # the names in `param_groups` that `translated` reads
    sparse: ClassVar[str] = "refused"  # or "taken", "only", "rows": with no option for all rows
    settable: ClassVar[tuple[str, ...]] = ()  # what may be set of `rule` itself
    zeroes = False  # whether a step sets the gradients to zero
    _work: Work | None = None
    _state: dict[Any, Any]
    _shown: Shown | None = None  # what `_state` has of the rule at work
    _latest: Optimizer | None = None  # the rule at work, or the last one that was
    _lent: bool = False  # whether somebody may hold the state
    _in_hand: dict[Any, Any] | None = None  # a state that is being taken over
    _given: list[dict[str, Any]]  # as it was saved

    def new_rule(self) -> Optimizer:
        """Return the rule without groups and without state."""
        raise NotImplementedError

    def translated(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rule's hyperparameters for one of `param_groups`."""
        raise NotImplementedError

    def counts_anew(self, rule: Any, changed: Mapping[str, Any]) -> bool:
        """Whether updates are counted from 1 again where there is no state, after such a change.

        `rule` (or a group of it) has the hyperparameters of before.
        """
        return False

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether a `GradScaler` leaves it to `step` to divide by its scale, which it shall do."""
        return False

    @_step_supports_amp_scaling.setter
    def _step_supports_amp_scaling(self, value: bool) -> None:
        """Take what PyTorch's constructors say of their own `step` if they get fused=True."""

    # -------------------------------------------------------------- a step

    if TYPE_CHECKING:  # PyTorch's classes do not say what they return

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            """As in `quick`."""
    else:
        step = quick.step

    @torch._disable_dynamo  # type: ignore[untyped-decorator]
    @torch.optim.Optimizer.profile_hook_step  # type: ignore[untyped-decorator]
    def _whole_step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step, whatever is out of the ordinary."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = self._work
        if work is not None:
            work.views.check_is_free()
        if (
            work is None or len(work.places) != len(self.param_groups)
            or (self._lent and not self._is_left_alone())
        ):
            work = self._renewed()
        work.follow()
        if work.is_over:
            work = self._renewed()
        if not work.step():
            self._renewed().step()
        if self._lent:
            self._show()
        return loss

    def _renewed(self) -> Work:
        """Return what updates the parameters that are there now, with the state of now."""
        self._check_is_still()
        if self._work is not None and not self._lent:
            self._show()
        work = Work(self, self.new_rule())
        states.take(work, self.form, self._state)
        self._begin(work)
        return work

    def _begin(self, work: Work) -> None:
        """Go on with a rule that has taken the state over."""
        before, self._work, self._latest = self._latest, work, work.rule
        retire(before)
        if self._lent:
            self._show()
        else:
            self._shown = None
            states.strip(work, self.form, self._state)

    def _check_is_still(self) -> None:
        """Refuse to save or replace the state in a step, or what stands in another one's place."""
        if self._work is not None:
            self._work.check_is_still()

    def _is_left_alone(self) -> bool:
        """Whether nobody has put anything else into the state than was shown there."""
        return self._shown is not None and self._shown.is_left_alone(self._state)

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
                f"SparseAdam, or fastoptim.torch.Optimizer(params, rule), which updates the rows "
                f"of the gradient alone"
            )
        elif views.has_rows and self.sparse == "rows":
            for k, key, p in self._sparse(views):
                group = self.param_groups[k]
                if group.get("weight_decay"):
                    raise RuntimeError(
                        f"the gradient of parameter {key!r} is sparse, and weight_decay of "
                        f"param_groups[{k}] concerns all rows; set it to 0, or use "
                        f"fastoptim.torch.Optimizer(params, rule), which updates the rows of the "
                        f"gradient alone"
                    )
                if group.get("momentum"):  # all rows move, those of before as well
                    views.grads[key] = array_of(key, p.grad.to_dense(), "grads")

    def _sparse(self, views: Views) -> Iterator[tuple[int, Hashable, torch.Tensor]]:
        """Yield the parameters with a sparse gradient, each with its group's number and its key."""
        keys = iter(views.keys)
        for k, group in enumerate(self.param_groups):
            for p, key in zip(group["params"], keys, strict=False):
                if p.grad is not None and p.grad.is_sparse:
                    yield k, key, p

    # -------------------------------------------------------------- parameters

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with hyperparameters of their own; as in PyTorch."""
        if isinstance(param_group, dict):
            refuse(param_group, self.defaults)
        self._check_is_still()
        if self._work is not None and not self._lent:
            self._show()
        super().add_param_group(param_group)
        try:
            self._check_numbers(len(self.param_groups) - 1)
            first = sum(len(group["params"]) for group in self.param_groups[:-1])
            for p, key in named(self.param_groups[-1], first):
                if p.device.type != "meta" and not is_lazy(p):  # they may get memory before a step
                    check_is_here(f"parameter {key!r}", p)
        except BaseException:
            del self.param_groups[-1]
            raise
        self._work = None

    def _check_numbers(self, k: int) -> None:
        """Refuse hyperparameters of a group that the rule does not take."""
        try:
            assign(self.new_rule(), 0, self.translated(self.param_groups[k]))
        except (TypeError, ValueError) as problem:
            problem.add_note(about(k, self.followed, self.param_groups[k]))
            raise

    # -------------------------------------------------------------- state

    @property
    def state(self) -> dict[Any, Any]:
        """The state as PyTorch has it, which is live: each parameter's tensors and step count.

        The tensors share memory with the rule's arrays. What is put there counts from the next step
        on, by its content: a tensor in the place of another one is copied.
        """
        if self._in_hand is not None:
            return self._in_hand
        if self._work is not None and not self._lent:
            self._show()
        elif self._shown is not None and self._is_left_alone():
            self._shown.follow()  # an interrupt may have come between an update and this
        self._lent = True
        return self._state

    @state.setter
    def state(self, state: dict[Any, Any]) -> None:
        self._check_is_still()
        self._lent = "_state" in vars(self)  # else it is the empty one of the beginning
        self._state, self._shown, self._work = state, None, None

    def _show(self) -> None:
        """Let the state be that of now."""
        assert self._work is not None
        if self._shown is None or not self._shown.fits(self._work):
            self._shown = Shown(self._work, self.form, self._state, self._shown)
        else:
            self._shown.follow()

    @contextmanager
    def _not_lent(self) -> Iterator[None]:
        """Look at the state within a ``with``, and keep nothing of it."""
        lent = self._lent
        try:
            yield
        finally:
            self._lent = lent

    def __getstate__(self) -> dict[str, Any]:
        with self._not_lent():
            saved: dict[str, Any] = super().__getstate__()
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what `state_dict` gave, of this class or of PyTorch's; the arrays are copied.

        Raises
        ------
        ValueError, TypeError, KeyError
            It is of another class, or of other parameters. Nothing has changed then.
        """
        given: list[dict[str, Any]] = []

        def look(optimizer: object, state_dict: dict[str, Any]) -> None:
            if isinstance(state_dict.get("state"), Mapping):
                states.check(self, state_dict["state"])
            given.append(state_dict)

        handle = self.register_load_state_dict_pre_hook(look)  # after all others
        self._given = given
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
            del self._given

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._check_is_still()
        before, now = dict(vars(self)), dict(state)
        of_parameters = now.pop("state", None)
        given = before.get("_given")
        if given:  # PyTorch gives each tensor its parameter's dtype, and codes have their own
            of_parameters = by_parameter(given[-1], now["param_groups"])
        self._in_hand = defaultdict(dict, {p: copied(one) for p, one in of_parameters.items()})
        try:
            super().__setstate__(now)  # PyTorch's brings what older versions saved up to date
            for k, group in enumerate(self.param_groups):
                missing = [name for name in self.followed if name not in group]
                if missing:
                    names = ", ".join(map(repr, missing[:3])) + ", …" * (len(missing) > 3)
                    raise KeyError(
                        f"param_groups[{k}] has no {names}, and those of {type(self).__name__} "
                        f"have: it is of another class; load it into one of that class"
                    )
                refuse(group, self.defaults)
            work = Work(self, self.new_rule())
            states.take(work, self.form, self._in_hand)
            states.strip(work, self.form, self._in_hand)
            self.__dict__.update(  # at once: an interrupt finds all of it, or nothing
                _state=self._in_hand, _in_hand=None, _work=work, _latest=work.rule, _shown=None,
                _lent=False,
            )
            retire(before.get("_latest"))
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    # -------------------------------------------------------------- fastoptim's own

    @property
    def rule(self) -> Optimizer:
        """The rule at work, to be read: its state by key, `grad_norm`, `clipped`, `current` ….

        It follows `param_groups`, where its hyperparameters are set, and it is updated, saved and
        loaded here. Other tensors, or another state, have another rule.
        """
        work = self._renewed() if self._work is None else self._work
        work.lead()
        return work.rule

    def save(self, path: "str | PathLike[str]") -> None:
        """Write what `state_dict` gives to a file without pickle, with a digest of its content.

        A crash at any moment leaves the old file or the new one. Needs ``pip install
        'fastoptim[checkpoint]'``.

        Raises
        ------
        OSError
            It cannot be written; an old file is still there.
        """
        with self._not_lent():
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


def by_parameter(saved: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[Any, Any]:
    """Return a saved state with each parameter in the place of its number."""
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    tensors = [p for group in groups for p in group["params"]]
    of_number = dict(zip(numbers, tensors, strict=True))
    return {of_number.get(number, number): one for number, one in saved["state"].items()}


def copied(of_key: Any) -> Any:
    """Return a dict of its own, since PyTorch may put others there, with tensors on the CPU."""
    if not isinstance(of_key, dict):
        return of_key
    return {
        name: one.cpu() if isinstance(one, torch.Tensor) and one.device.type != "cpu" else one
        for name, one in of_key.items()
    }


def as_arrays(tree: Any) -> Any:
    """Return a state with arrays for tensors, as a file has it; those of bfloat16 are named so."""
    if isinstance(tree, torch.Tensor):
        tree = tree.detach()
        if tree.dtype is torch.bfloat16:
            return {BFLOAT16: tree.view(torch.uint16).numpy()}
        return tree.numpy()
    if isinstance(tree, dict):
        return {key: as_arrays(one) for key, one in tree.items()}
    return [as_arrays(one) for one in tree] if isinstance(tree, list) else tree


def as_tensors(tree: Any) -> Any:
    """Return a state with tensors for arrays, which own their memory."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree)
    if isinstance(tree, dict):
        if tree.keys() == {BFLOAT16}:
            return torch.from_numpy(tree[BFLOAT16]).view(torch.bfloat16)
        return {key: as_tensors(one) for key, one in tree.items()}
    return [as_tensors(one) for one in tree] if isinstance(tree, list) else tree
