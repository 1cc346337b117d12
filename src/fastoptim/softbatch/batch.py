"""Soft batches: gradients of several small batches, applied as one.

What waits is described by a `Batch` that is never changed. A call prepares the one that holds after
it and lets an update of the sums or of the parameters choose it by its number, in the same step
as the arrays (`Commit`): an interrupt finds either the old batch with the old sums or the new with
the new.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from os import PathLike
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from fastoptim.checkpoint import file as checkpoint
from fastoptim.kernels import PASSES, Collector, Line
from fastoptim.kernels.learning import ThreadCounts
from fastoptim.kernels.update.checks.containers import as_dict
from fastoptim.kernels.update.checks.gradients import grad_memory
from fastoptim.kernels.update.commit import Commit
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer import state
from fastoptim.optimizer.base import Arrays, Optimizer
from fastoptim.optimizer.hyperparameters import Choice
from fastoptim.softbatch.row_sum import RowSum, is_by_rows

T = TypeVar("T")


class Batch(NamedTuple):
    """What waits after some call of a soft batch."""

    number: int  # by which the commit chooses it
    pending: int = 0  # calls that wait
    sums: Mapping[Any, Any] = {}  # key → array; all zeros where the key is not in `dense`
    dense: frozenset[Any] = frozenset()  # keys that had a dense gradient
    rows: Mapping[Any, RowSum] = {}  # instead of a sum: keys with gradients of rows only
    params: Arrays | None = None  # those of the last call
    adder: Collector | None = None  # adds to the sums

    @property
    def keys(self) -> frozenset[Any]:
        """Keys that had a gradient."""
        return self.dense | self.rows.keys() if self.rows else self.dense

    def sum_of(self, key: object) -> Any:
        """Return the sum of a key's gradients, None if it had none."""
        if key in self.rows:
            return self.rows[key].gradient()
        return self.sums[key] if key in self.dense else None

    def without(self, number: int) -> "Batch":
        """Return the batch in which nothing waits, once the sums are not worth keeping."""
        return Batch(number, sums={key: a for key, a in self.sums.items() if key not in self.dense})


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
    The k-th call gives, to the bit, one update with the gradient sum · (1/k), the sum taken in the
    order of the calls in the parameter's dtype. Sums of `Rows` are rows again, unless the same
    parameter also had a dense gradient in the batch. A gradient of None adds nothing; a parameter
    that had none in the whole batch is skipped. With ``opt.nonfinite == "skip"`` a call whose
    gradients are not finite is left out, counted in ``opt.skipped``, and does not count towards
    the batch. Threads may share a SoftBatch only with a lock around its methods.

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
            raise TypeError(f"opt must be an optimizer of fastoptim, got {type(opt).__name__}")
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)):
            raise TypeError(f"every must be a whole number of at least 1, got {every!r}")
        if every < 1:
            raise ValueError(f"every must be a whole number of at least 1, got {every}")
        self._opt = opt
        self._every = int(every)
        self._reduce = Choice(("mean", "sum"))("reduce", reduce)
        self._commit = Commit(
            "this SoftBatch is in the middle of a call, in another thread or further up in this "
            "one; give each thread its own, or a lock around it"
        )
        self._thread_counts = ThreadCounts()  # of adding
        self._batches = {0: Batch(0)}  # by number: what holds, and what may hold next
        self._lines: tuple[list[Line], list[Line]] | None = None  # the optimizer's, and for adding

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
        """What becomes of the gradients: "mean" or "sum"."""
        return self._reduce

    @property
    def pending(self) -> int:
        """How many calls wait to be applied."""
        return self._batch().pending

    def _batch(self) -> Batch:
        """Return what waits now."""
        return self._batches[self._commit.number]

    def _may_become(self, *batches: Batch) -> None:
        """Prepare what may hold next."""
        self._batches = {one.number: one for one in (self._batch(), *batches)}

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{name} cannot be set; make another SoftBatch, or set it on opt")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"SoftBatch({self.opt!r}, every={self.every}, reduce={self.reduce!r})"

    def update(self, params: Arrays, grads: Arrays) -> bool:
        """Add gradients to the batch; with the last of it, update `params`.

        Takes and raises what the optimizer's `update` does, at every call: what it would refuse
        is refused here, and changes nothing. What only the sum can show is found when it has
        been made: gradients are each finite and their sum is not (with ``nonfinite="raise"`` or
        clip_norm), or it is so large that float32 cannot hold clip_norm's factor. Then the batch is
        discarded, and a note of the exception says so.

        Returns
        -------
        bool
            Whether an update was applied.

        Raises
        ------
        RuntimeError
            Another thread is in the middle of a call.
        """
        return self._commit.alone(self._update, params, grads)

    def _update(self, params: Arrays, grads: Arrays) -> bool:
        prepared = self.opt._prepared or self.opt._prepare()
        lines, clip_norm, nonfinite = prepared[:3]
        if not self.opt._collector.update(params, grads, lines, clip_norm, nonfinite, dry=True):
            return False
        now, keyed_params, keyed_grads = self._batch(), by_key(params), by_key(grads)
        given = {key: g for key, g in keyed_grads.items() if g is not None}
        check_gone(now, keyed_params)
        check_shapes(now, given.keys() & now.keys, keyed_params)
        rows = {key: g for key, g in given.items() if is_by_rows(g) and key not in now.dense}
        dense = {key: g for key, g in given.items() if key not in rows}
        sums = {key: sum_for(now, key, keyed_params[key]) for key in dense}
        sums_of_rows = {key: s for key, s in now.rows.items() if key not in dense}
        for key, g in rows.items():
            so_far = now.rows.get(key) or row_sum(key, keyed_params)
            sums_of_rows[key] = so_far.plus(*so_far.part(g))
        after = Batch(
            now.number + 1, now.pending + 1, {**now.sums, **sums}, now.dense | dense.keys(),
            sums_of_rows, params, now.adder or self._new_adder(),
        )
        assert after.adder is not None
        add = partial(
            after.adder.update, sums, dense, self._adding(lines), numbers=grads,
            wipe=[
                grad_memory(g) for key, g in rows.items()
                if lines[self.opt._group_of(key)].zero_grads
            ],
            commit=self._commit, becomes=after.number,
        )
        if after.pending < self.every:
            self._may_become(after)
            add()
            return False
        # What can be refused is refused before the last gradient is added; what is found later
        # leaves the number at that of the batch discarded.
        discarded, done = after.without(after.number), Batch(after.number + 1, sums=after.sums)
        self._may_become(discarded, done)
        try:
            return self._apply(after, params, prepared, becomes=done.number, first=add)
        except BaseException as problem:
            if self._commit.number == discarded.number:
                problem.add_note(
                    f"here grads is the sum of {after.pending} calls, each finite; it was discarded"
                )
            raise

    def _new_adder(self) -> Collector:
        """Return what adds the gradients of one batch; how fast threads are is known for longer."""
        return Collector(self.opt._group_of, thread_counts=self._thread_counts)

    def _adding(self, lines: list[Line]) -> list[Line]:
        """Return what the groups' gradients pass through on their way to the sums."""
        if self._lines is None or self._lines[0] is not lines:  # some hyperparameter has changed
            add = [
                Line(PASSES["add"], (), (), no_coefficients, zero_grads=line.zero_grads)
                for line in lines
            ]
            self._lines = lines, add
        return self._lines[1]

    def _apply(
        self, batch: Batch, params: Arrays, prepared: tuple[Any, ...], **how: Any
    ) -> bool:
        """Update with a batch."""
        means = {key: batch.sum_of(key) for key in by_key(params)}
        return self.opt._collector.update(
            params,
            list(means.values()) if isinstance(params, (list, tuple)) else means,
            *prepared,
            factor=1.0 / batch.pending if self.reduce == "mean" else 1.0,
            zero=True,
            commit=self._commit,
            **how,
        )

    def flush(self, params: Arrays | None = None) -> bool:
        """Update with what is there, as at an epoch's end; return whether there was anything.

        Parameters
        ----------
        params : dict or list, optional
            Those of the last call, unless given; after `load` they must be given.

        Notes
        -----
        A flush that raises has changed nothing and can be repeated, unless the gradients' sum is
        not finite: then the batch is discarded, and a note of the exception says so.
        """
        return self._commit.alone(self._flush, params)

    def _flush(self, params: Arrays | None) -> bool:
        now = self._batch()
        if now.pending == 0:
            return False
        params = now.params if params is None else params
        if params is None:
            raise ValueError("after loading, flush(params) must be told the parameters")
        check_gone(now, by_key(params))
        check_shapes(now, now.rows, by_key(params))  # rows would fit any table that is as wide
        done = Batch(now.number + 1, sums=now.sums)
        self._may_become(done)
        prepared = self.opt._prepared or self.opt._prepare()
        try:
            applied = self._apply(now, params, prepared, becomes=done.number)
        except FloatingPointError as problem:
            problem.add_note(
                f"here grads is the sum of {now.pending} calls, each finite; it was discarded"
            )
            self._discard()
            raise
        if not applied:
            self._discard()
        return applied

    def discard(self) -> None:
        """Forget what waits."""
        self._commit.alone(self._discard)

    def _discard(self) -> None:
        now = self._batch()
        self._may_become(now.without(now.number + 1))
        self._commit.number = now.number + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and what waits, as plain dicts and copies of arrays."""
        return self._still(partial(self._state, copy=True))

    def _still(self, function: Callable[[], T]) -> T:
        """Call a function while neither this nor the optimizer can change."""
        return self._commit.alone(lambda: self.opt._collector.still(function))

    def _state(self, *, copy: bool) -> dict[str, Any]:
        now = self._batch()
        return {
            "every": self.every, "reduce": self.reduce, "pending": now.pending,
            "sums": {
                key: a.copy() if copy else a for key, a in now.sums.items() if key in now.dense
            },
            "rows": {key: rows.state() for key, rows in now.rows.items()},
            "optimizer": state.of(self.opt, copy=copy),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; all is checked before anything is replaced."""
        self._commit.alone(self._load, saved)

    def _load(self, saved: Mapping[str, Any]) -> None:
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
        now = self._batch()
        loaded = Batch(
            now.number + 1, pending, {key: a.copy() for key, a in sums.items()}, frozenset(sums),
            of_rows,
        )
        self._may_become(loaded)
        state.load(
            self.opt, state.part(saved, "optimizer"), commit=self._commit, becomes=loaded.number
        )

    @staticmethod
    def _record_of(key: object, saved: Mapping[str, Any]) -> Any:
        """Return what a state says of a key's parameter, if it says anything."""
        of_opt = state.part(saved, "optimizer", Mapping)
        return state.part(of_opt, "parameters", Mapping).get(key)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the optimizer's state and what waits to a file; see the optimizer's `save`."""
        self._still(lambda: checkpoint.save(path, state.for_file(self._state(copy=False))))

    def load(self, path: str | PathLike[str]) -> None:
        """Read a file that `save` wrote; see the optimizer's `load`."""
        self.load_state_dict(checkpoint.load(path))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = self._still(partial(self._twin, memo))
        memo[id(self)] = twin
        return twin

    def _twin(self, memo: dict[int, Any]) -> Self:
        """Return a copy; its flush must be told the parameters: they may be copies."""
        twin = type(self)(self.opt.__deepcopy__(memo), self.every, self.reduce)
        now = self._batch()
        sums = {key: a.copy() for key, a in now.sums.items() if key in now.dense}
        rows = {key: RowSum.of_state(key, one.state()) for key, one in now.rows.items()}
        twin._batches = {0: Batch(0, now.pending, sums, now.dense, rows)}
        return twin


def check_gone(batch: Batch, params: Mapping[Any, Any]) -> None:
    """Refuse parameters of which some that had gradients in the batch are missing."""
    gone = batch.keys - params.keys()
    if gone:
        raise KeyError(
            f"params has no {', '.join(map(repr, gone))}, which had gradients earlier in this "
            f"batch; flush() before going on with other parameters, or discard()"
        )


def check_shapes(batch: Batch, keys: Iterable[Any], params: Mapping[Any, Any]) -> None:
    """Refuse parameters that are not like the sums of their gradients."""
    for key in keys:
        now, before = np.asarray(params[key]), batch.rows.get(key, batch.sums.get(key))
        assert before is not None
        if now.shape != before.shape or now.dtype != before.dtype:
            raise ValueError(
                f"params[{key!r}] is {now.dtype} {now.shape}, but was {before.dtype} "
                f"{before.shape} earlier in this batch"
            )


def sum_for(batch: Batch, key: object, p: Any) -> Any:
    """Return the array that a key's next dense gradient is added to."""
    a = batch.sums.get(key)
    if key in batch.dense:
        return a
    p = np.asarray(p)
    if key in batch.rows:
        a = np.zeros_like(p, subok=False)
        batch.rows[key].fill(a)
    elif a is None or a.shape != p.shape or a.dtype != p.dtype:
        a = np.zeros_like(p, subok=False)
    return a


def row_sum(key: object, params: Mapping[Any, Any]) -> RowSum:
    """Return an empty sum of a parameter's row gradients."""
    p = np.asarray(params[key])
    return RowSum(key, p.shape, p.dtype)


def part_rows(saved: Mapping[str, Any]) -> dict[Any, RowSum]:
    """Return the row sums of a saved state."""
    rows = state.part(saved, "rows", Mapping)
    return {key: RowSum.of_state(key, one) for key, one in rows.items()}


def no_coefficients(t: int) -> tuple[float, ...]:
    """Return the scalars of a rule that has none."""
    return ()


def by_key(x: Arrays) -> Mapping[Any, Any]:
    """Return a list of arrays as a dict by position; a mapping as it is."""
    return as_dict("params", x)
