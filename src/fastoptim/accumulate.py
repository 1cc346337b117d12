"""Soft batches: gradients of several small batches, applied as one."""

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, Self

import numpy as np

from fastoptim import checkpoint, state
from fastoptim.base import Arrays, Optimizer
from fastoptim.hyperparameters import Choice
from fastoptim.kernels import RULES, Collector, Line
from fastoptim.kernels.checks import as_dict, caller_array
from fastoptim.ode import RungeKutta
from fastoptim.rowsum import RowSum, is_by_rows


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
    the batch.

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
        self._pending = 0
        self._sums: dict[Any, Any] = {}  # key → array, zeros between batches
        self._rows: dict[Any, RowSum] = {}  # instead of a sum: keys with gradients of rows only
        self._with: set[Any] = set()  # keys that had a gradient in this batch
        self._params: Arrays | None = None
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
        return self._pending

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{name} cannot be set; make another SoftBatch, or set it on opt")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"SoftBatch({self.opt!r}, every={self.every}, reduce={self.reduce!r})"

    def update(self, params: Arrays, grads: Arrays) -> bool:
        """Add gradients to the batch; with the last of it, update `params`.

        Takes and raises what the optimizer's `update` does, at every call: what it would refuse
        is refused here, and changes nothing. Only if gradients are each finite and their sum is not
        (with ``nonfinite="raise"`` or clip_norm) is the batch discarded when that is found.

        Returns
        -------
        bool
            Whether an update was applied.
        """
        lines, clip_norm, nonfinite, _ = self.opt._prepared or self.opt._prepare()
        if not self.opt._collector.update(params, grads, lines, clip_norm, nonfinite, dry=True):
            return False
        if self.pending == 0:
            self._adder = Collector(RULES, self.opt._group_of)
        keyed_params, keyed_grads = by_key(params), by_key(grads)
        given = {key: g for key, g in keyed_grads.items() if g is not None}
        self._check_keys(given, keyed_params)
        rows = {key: g for key, g in given.items() if is_by_rows(g) and not self._is_dense(key)}
        sums_of_rows = {key: self._rows.get(key) or row_sum(key, keyed_params) for key in rows}
        parts = {key: sums_of_rows[key].part(g) for key, g in rows.items()}
        for key in given.keys() - rows.keys():
            if key not in self._sums:
                self._sums[key] = np.zeros_like(np.asarray(keyed_params[key]), subok=False)
        if self._lines is None or self._lines[0] is not lines:  # some hyperparameter has changed
            add = [
                Line(RULES["_add"], (), (), no_coefficients, zero_grads=line.zero_grads)
                for line in lines
            ]
            self._lines = lines, add
        for key in given.keys() & self._rows.keys() - rows.keys():
            so_far = {key: self._rows[key].gradient()}
            self._adder.update({key: self._sums[key]}, so_far, self._lines[1])
            del self._rows[key]
        dense = {key: g for key, g in given.items() if key not in rows}
        written = grads if isinstance(grads, (dict, list)) and len(dense) == len(grads) else dense
        sums = {key: self._sums[key] for key in dense}
        flat = list(sums.values()) if isinstance(written, list) else sums
        self._adder.update(flat, written, self._lines[1])
        for key, part in parts.items():
            sums_of_rows[key].add(*part)
        self._rows.update(sums_of_rows)
        for key, g in rows.items():
            if lines[self.opt._group_of(key)].zero_grads:
                caller_array(g)[...] = 0
        self._with |= given.keys()
        self._params = params
        self._pending += 1
        return self.flush() if self.pending == self.every else False

    def _is_dense(self, key: object) -> bool:
        """Whether a parameter has had a gradient in this batch that is not of rows."""
        return key in self._with and key not in self._rows

    def _check_keys(self, given: Mapping[Any, Any], params: Mapping[Any, Any]) -> None:
        self._check_gone(params)
        self._check_shapes(given.keys() & self._with, params)
        for key in given.keys() & self._sums.keys() - self._with:
            now, before = np.asarray(params[key]), self._sums[key]
            if now.shape != before.shape or now.dtype != before.dtype:
                del self._sums[key]

    def _check_shapes(self, keys: Iterable[Any], params: Mapping[Any, Any]) -> None:
        for key in keys:
            now, before = np.asarray(params[key]), self._rows.get(key, self._sums.get(key))
            assert before is not None
            if now.shape != before.shape or now.dtype != before.dtype:
                raise ValueError(
                    f"params[{key!r}] is {now.dtype} {now.shape}, but was {before.dtype} "
                    f"{before.shape} earlier in this batch"
                )

    def _check_gone(self, params: Mapping[Any, Any]) -> None:
        gone = self._with - params.keys()
        if gone:
            raise KeyError(
                f"params has no {', '.join(map(repr, gone))}, which had gradients earlier in this "
                f"batch; flush() before going on with other parameters, or discard()"
            )

    def flush(self, params: Arrays | None = None) -> bool:
        """Update with what is there, as at an epoch's end; return whether there was anything.

        Parameters
        ----------
        params : dict or list, optional
            Those of the last call, unless given; after `load` they must be given.
        """
        if self.pending == 0:
            return False
        params = self._params if params is None else params
        if params is None:
            raise ValueError("after loading, flush(params) must be told the parameters")
        self._check_gone(by_key(params))
        self._check_shapes(self._rows, by_key(params))  # rows would fit any table that is as wide
        means = {key: self._sum_of(key) for key in by_key(params)}
        prepared = self.opt._prepared or self.opt._prepare()
        try:
            applied = self.opt._collector.update(
                params,
                list(means.values()) if isinstance(params, (list, tuple)) else means,
                *prepared,
                factor=1.0 / self.pending if self.reduce == "mean" else 1.0,
                zero=True,
            )
        except FloatingPointError as problem:
            problem.add_note(
                f"here grads is the sum of {self.pending} calls, each finite; it was discarded"
            )
            self.discard()
            raise
        if not applied:
            self.discard()
        self._pending, self._params = 0, None
        self._with.clear()
        self._rows.clear()
        return applied

    def _sum_of(self, key: object) -> Any:
        """Return the sum of a key's gradients in this batch, None if it had none."""
        if key in self._rows:
            return self._rows[key].gradient()
        return self._sums[key] if key in self._with else None

    def discard(self) -> None:
        """Forget what waits."""
        for a in self._sums.values():
            a.fill(0)
        self._pending, self._params = 0, None
        self._with.clear()
        self._rows.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and what waits, as plain dicts and copies of arrays."""
        return self._state(copy=True)

    def _state(self, *, copy: bool) -> dict[str, Any]:
        dense = {key: a for key, a in self._sums.items() if self._is_dense(key)}
        return {
            "every": self.every, "reduce": self.reduce, "pending": self.pending,
            "sums": {key: a.copy() if copy else a for key, a in dense.items()},
            "rows": {key: rows.state() for key, rows in self._rows.items()},
            "optimizer": state.of(self.opt, copy=copy),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; all is checked before anything is replaced."""
        if not isinstance(saved, Mapping):
            raise TypeError(f"a state is a dict as state_dict gives it, got {type(saved).__name__}")
        for name in ("every", "reduce"):
            if state.part(saved, name) != getattr(self, name):
                raise ValueError(
                    f"the state has {name}={saved[name]!r}, this SoftBatch {getattr(self, name)!r}"
                )
        pending = state.whole(saved, "pending")
        if pending > self.every:
            raise ValueError(f"pending must be in [0, {self.every}], got {pending}")
        sums = state.part(saved, "sums", Mapping)
        of_rows = part_rows(saved)
        for key, a in [*sums.items(), *of_rows.items()]:
            if not isinstance(a, (np.ndarray, RowSum)) or a.dtype not in (np.float32, np.float64):
                raise ValueError(f"the sum of {key!r} must be an array of float32 or float64")
            of_key = self._record_of(key, saved)
            if of_key and (tuple(of_key["shape"]), of_key["dtype"]) != (a.shape, a.dtype.name):
                raise ValueError(
                    f"the sum of {key!r} is {a.dtype} {a.shape}, its parameter "
                    f"{of_key['dtype']} {tuple(of_key['shape'])}"
                )
        state.load(self.opt, state.part(saved, "optimizer"))
        self._sums = {key: a.copy() for key, a in sums.items()}
        self._rows = of_rows
        self._with = {*sums, *of_rows}
        self._pending, self._params = pending, None
        self._adder = Collector(RULES, self.opt._group_of)

    @staticmethod
    def _record_of(key: object, saved: Mapping[str, Any]) -> Any:
        """Return what a state says of a key's parameter, if it says anything."""
        of_opt = state.part(saved, "optimizer", Mapping)
        return state.part(of_opt, "parameters", Mapping).get(key)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the optimizer's state and what waits to a file; see the optimizer's `save`."""
        checkpoint.save(path, state.for_file(self._state(copy=False)))

    def load(self, path: str | PathLike[str]) -> None:
        """Read a file that `save` wrote; see the optimizer's `load`."""
        self.load_state_dict(checkpoint.load(path))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = type(self)(self.opt.__deepcopy__(memo), self.every, self.reduce)
        saved = self._state(copy=True)
        twin._sums, twin._with, twin._rows = saved["sums"], set(self._with), part_rows(saved)
        twin._pending = self.pending  # its flush must be told the parameters: they may be copies
        twin._adder = Collector(RULES, twin.opt._group_of)
        memo[id(self)] = twin
        return twin


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
