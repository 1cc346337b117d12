"""Soft batches: gradients of several small batches, applied as one.

kernels/update/adder.pyx keeps the sums and says what a call does.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fastoptim.checkpoint import file as checkpoint
from fastoptim.kernels.update.adder import Adder
from fastoptim.kernels.update.batch import Batch
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer import state
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.hyperparameters import Choice
from fastoptim.optimizer.objective import Function
from fastoptim.optimizer.types import Grads, Params
from fastoptim.porting.answers import shown
from fastoptim.softbatch.row_sum import RowSum

T = TypeVar("T")


class SoftBatch:
    r"""Gather gradients over several calls, then update once with their mean.

    .. math:: p \leftarrow \mathrm{rule}\left(p, \tfrac1k \sum_{i=1}^k g_i\right)

    Parameters
    ----------
    opt : Optimizer
        Clipping, weight decay, schedules and step counts see the whole batch, once.
    every : int of at least 1, default 4
        How many calls make a batch.
    reduce : {"mean", "sum"}, default "mean"
        "mean" divides the sum by the number of calls.

    Attributes
    ----------
    pending : int
        How many calls wait to be applied.

    Notes
    -----
    The k-th call gives, to the bit, one update with the gradient sum · (1/k). The sum starts at 0,
    so that −0 becomes 0, and is taken in the order of the calls in the parameter's dtype. Sums of
    `Rows` are rows again, unless the same parameter also had a dense gradient in the batch. A
    gradient of None adds nothing; a parameter that had none in the whole batch is skipped. With
    ``opt.nonfinite == "skip"`` a call whose gradients are not finite is left out, counted in
    ``opt.skipped``, and does not count towards the batch. Threads may share a SoftBatch only with
    a lock around its methods.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> params = {"x": np.zeros(1)}
    >>> soft = fo.SoftBatch(fo.SGD(lr=1.0), every=2)
    >>> [soft.update(params, {"x": np.array([g])}) for g in (1.0, 3.0, 5.0)]
    [False, True, False]
    >>> params["x"], soft.pending
    (array([-2.]), 1)
    >>> soft.flush()
    True
    >>> params["x"]
    array([-7.])
    """

    def __init__(self, opt: Optimizer, every: int = 4, reduce: str = "mean") -> None:
        if isinstance(opt, RungeKutta):
            raise TypeError(
                f"opt is a {type(opt).__name__}, which needs gradients at several points of a "
                f"step, and SoftBatch gathers them at one; let fn sum over the small batches, or "
                f"give SoftBatch one of the rules"
            )
        if not isinstance(opt, Optimizer):
            raise TypeError(
                f"opt must be an optimizer of fastoptim, got {type(opt).__name__}" + (
                    "; SAM goes around: SAM(SoftBatch(opt), rho)"
                    if type(opt).__name__ == "SAM" else ""
                )
            )
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)):
            raise TypeError(f"every must be a whole number of at least 1, got {shown(every)}")
        if every < 1:
            raise ValueError(f"every must be a whole number of at least 1, got {every}")
        self._opt = opt
        self._every = int(every)
        self._reduce = Choice(("mean", "sum"))("reduce", reduce)
        self._adder = Adder(opt.engine, RowSum)

    @property
    def opt(self) -> Optimizer:
        """The optimizer."""
        return self._opt

    @property
    def every(self) -> int:
        """How many calls make a batch."""
        return self._every

    @property
    def reduce(self) -> str:
        """How the gradients are combined: "mean" or "sum"."""
        return self._reduce

    @property
    def pending(self) -> int:
        """How many calls wait to be applied."""
        return self._adder.batch.pending

    if not TYPE_CHECKING:  # which would take it to mean that any attribute may be set

        def __setattr__(self, name, value):
            if not name.startswith("_"):
                raise AttributeError(
                    f"{name} cannot be set; make another SoftBatch, or set it on opt"
                )
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"SoftBatch({self.opt!r}, every={self.every}, reduce={self.reduce!r})"

    def update(self, params: "Params", grads: "Grads") -> bool:
        """Add gradients to the batch; with the last of it, update `params`.

        Every call takes and raises what the optimizer's `update` does; a call that is refused
        changes nothing. Two faults show only in the finished sum: it is not finite though every
        gradient was (with ``nonfinite="raise"`` or clip_norm), or it is so large that float32
        cannot hold clip_norm's factor. Then the batch is discarded, and a note of the exception
        says so.

        Returns
        -------
        bool
            Whether an update was applied.

        Raises
        ------
        RuntimeError
            Another thread is in the middle of a call.
        """
        return self._adder.update(
            params, grads, self.opt.plan(), self.every, self.reduce == "mean"
        )

    def step(self, params: "Params", fn: Function) -> Any:
        """Evaluate a function where the optimizer wants it, and add the gradients to the batch.

        Returns
        -------
        The loss, or None if `fn` gives only gradients. See the optimizer's `step`.
        """
        loss, grads = self.opt.loss_and_grads(params, fn)
        self.update(params, grads)
        return loss

    def flush(self, params: "Params | None" = None) -> bool:
        """Update with the calls that wait, at an epoch's end, say; return whether there were any.

        Parameters
        ----------
        params : dict or list, optional
            Those of the last call, unless given; after `load` they must be given.

        Notes
        -----
        A flush that raises has changed nothing and can be repeated, unless the gradients' sum is
        not finite: then the batch is discarded, and a note of the exception says so.
        """
        return self._adder.flush(params, self.opt.plan(), self.reduce == "mean")

    def discard(self) -> None:
        """Forget the calls that wait."""
        self._adder.discard()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and the sums, as plain dicts and copies of arrays."""
        return self._adder.still(partial(self._state, copy=True))

    def _state(self, *, copy: bool) -> dict[str, Any]:
        waiting = self._adder.batch.waiting.values()
        return {
            "every": self.every, "reduce": self.reduce, "pending": self.pending,
            "sums": {
                one.key: one.array.copy() if copy else one.array for one in waiting if one.dense
            },
            "rows": {one.key: one.rows.state() for one in waiting if one.rows is not None},
            "optimizer": state.of(self.opt, copy=copy),
        }

    def load_state_dict(self, saved: Mapping[str, Any], *, convert: bool = False) -> None:
        """Take over what `state_dict` gave; all is checked before anything is replaced.

        `convert` is as in the optimizer's `load_state_dict`.
        """
        self._load(saved, convert=convert)

    def _load(
        self, saved: Mapping[str, Any], also: state.Changes = (), *, convert: bool = False
    ) -> None:
        """Take over a saved state, and in the same step what else changes."""
        loaded = self._checked(saved)
        of_opt = state.part(saved, "optimizer")
        self._adder.restore(
            loaded, lambda adder: state.load(self.opt, of_opt, adder, also, convert=convert)
        )

    def _checked(self, saved: Mapping[str, Any]) -> Batch:
        """Return what waited when a state was saved, or say what is wrong with it."""
        if not isinstance(saved, Mapping):
            raise TypeError(f"a state is a dict as state_dict gives it, got {type(saved).__name__}")
        for name in ("every", "reduce"):
            if state.part(saved, name) != getattr(self, name):
                raise ValueError(
                    f"the state has {name}={saved[name]!r}, this SoftBatch {getattr(self, name)!r}"
                )
        pending = state.whole(saved, "pending")
        if pending >= self.every:
            raise ValueError(f"pending must be in [0, {self.every}), got {pending}")
        sums = state.part(saved, "sums", Mapping)
        of_rows = part_rows(saved)
        if (pending > 0) != bool(sums or of_rows):
            raise ValueError(
                f"the state has pending={pending}, but {len(sums) + len(of_rows)} sums of gradients"
            )
        for key, a in [*sums.items(), *of_rows.items()]:
            if not isinstance(a, (np.ndarray, RowSum)) or a.dtype not in (np.float32, np.float64):
                raise ValueError(f"the sum of {key!r} must be an array of float32 or float64")
            of_key = self._record_of(key, saved)
            if of_key and (tuple(of_key["shape"]), of_key["dtype"]) != (a.shape, a.dtype.name):
                raise ValueError(
                    f"the sum of {key!r} is {a.dtype} {a.shape}, its parameter "
                    f"{of_key['dtype']} {tuple(of_key['shape'])}"
                )
        return Batch(pending, {key: a.copy() for key, a in sums.items()}, of_rows)

    @staticmethod
    def _record_of(key: object, saved: Mapping[str, Any]) -> Any:
        """Return the record of a key's parameter in a state, None if there is none."""
        of_opt = state.part(saved, "optimizer", Mapping)
        return state.part(of_opt, "parameters", Mapping).get(key)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the optimizer's state and the sums to a file; see the optimizer's `save`."""
        self._adder.still(lambda: checkpoint.save(path, state.for_file(self._state(copy=False))))

    def load(self, path: str | PathLike[str], *, convert: bool = False) -> None:
        """Read a file that `save` wrote; see the optimizer's `load`."""
        self.load_state_dict(checkpoint.load(path), convert=convert)

    def __reduce__(self) -> Any:
        waiting = self._adder.still(partial(self._state, copy=True))
        del waiting["optimizer"]  # which is pickled beside it, and so once if others have it, too
        return unpickled, (type(self), self.opt, waiting)

    def __copy__(self) -> Self:
        raise TypeError("a shallow copy would share what waits; use copy.deepcopy")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = self._adder.still(partial(self._twin, memo))
        memo[id(self)] = twin
        return twin

    def _twin(self, memo: dict[int, Any]) -> Self:
        """Return a copy. Its first flush needs params, since the parameters may be copies, too."""
        twin = type(self)(deepcopy(self.opt, memo), self.every, self.reduce)
        twin._adder.start(self._waiting())
        return twin

    def _waiting(self) -> Batch:
        """Return a copy of what waits."""
        sums, rows = {}, {}
        for one in self._adder.batch.waiting.values():
            if one.dense:
                sums[one.key] = one.array.copy()
            elif one.rows is not None:
                rows[one.key] = RowSum.of_state(one.key, one.rows.state())
        return Batch(self.pending, sums, rows)


def unpickled(cls: type[SoftBatch], opt: Optimizer, waiting: dict[str, Any]) -> SoftBatch:
    """Return a SoftBatch that was pickled."""
    soft = cls(opt, waiting["every"], waiting["reduce"])
    soft._adder.start(Batch(waiting["pending"], waiting["sums"], part_rows(waiting)))
    return soft


def part_rows(saved: Mapping[str, Any]) -> dict[Any, RowSum]:
    """Return the row sums of a saved state."""
    rows = state.part(saved, "rows", Mapping)
    return {key: RowSum.of_state(key, one) for key, one in rows.items()}
