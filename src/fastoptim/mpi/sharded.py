"""An optimizer whose state is divided among the processes of an MPI communicator."""

import pickle
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from os import PathLike
from typing import TYPE_CHECKING, Any, Never

import numpy as np
from numpy.typing import NDArray

from fastoptim.kernels.update.averaged import Averaged
from fastoptim.kernels.update.checks.arrays import checked_param
from fastoptim.kernels.update.checks.containers import as_dict
from fastoptim.kernels.update.engine import Engine
from fastoptim.kernels.update.pipeline import Plan
from fastoptim.kernels.update.shards import Job, Shards
from fastoptim.mpi import agreement, checkpoint, starting
from fastoptim.mpi.cutting import Cut, Cutter, needs_whole
from fastoptim.mpi.exchange import Buckets, SharedRows, as_dense, rows_back
from fastoptim.mpi.table import DENSE, ROWS, Given, Table, flat
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.objective import Function
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.optimizer.types import Grads, Params

LOOKAHEAD = (
    "lookahead=True needs the whole velocity, of which a rank has a part; set opt.lookahead = False"
)


class Sharded:
    r"""Update with the mean of all processes' gradients; each keeps its own part of the state.

    .. math:: p \leftarrow \mathrm{rule}\left(p, \tfrac1N \sum_{r=0}^{N-1} g_r\right)

    Parameters
    ----------
    opt : Optimizer
        One like it in every process. If it has made updates, its state is divided.
    comm : mpi4py.MPI.Intracomm, default MPI.COMM_WORLD
        The processes (*ranks*) that train together.

    Attributes
    ----------
    opt : Optimizer
        Hyperparameters are read and set here, in every rank alike. Its state, such as
        ``opt.m["W"]``, is this rank's part: whole rows, or else a piece of the parameter in C
        order.

    Raises
    ------
    ImportError
        mpi4py is missing, or no MPI can be started.
    TypeError
        `opt` is no optimizer that takes gradients at one point, or `comm` no communicator.

    Notes
    -----
    This is ZeRO's first stage (arXiv 1910.02054). The gradients go to the ranks that own the
    elements, are summed there in the order of the ranks in the parameter's dtype, and the updated
    parameters go to all ranks. N ranks give, to the bit, what one process gives with
    ``SoftBatch(opt, every=N)`` that gets the gradients rank after rank: with clipping, averages,
    groups and gradients of rows, too. A rank keeps 1/N of the state.

    Every method but the attributes is *collective*: all ranks call it. If one of them is refused
    or fails before anything is written, all of them raise an error that names the rank, and nothing
    has changed anywhere. With ``opt.nonfinite == "skip"`` a rank whose gradients are not finite is
    left out, and the mean is of the others.

    Examples
    --------
    On two ranks (it starts MPI, so it is not run with the other examples):

    >>> import numpy as np, fastoptim as fo
    >>> from fastoptim.mpi import Sharded
    >>> params = {"x": np.zeros(2)}
    >>> opt = Sharded(fo.SGD(lr=0.5))  # doctest: +SKIP
    >>> opt.update(params, {"x": np.full(2, 2.0 * opt.comm.rank)})  # doctest: +SKIP
    True
    >>> params["x"]  # doctest: +SKIP
    array([-0.5, -0.5])
    """

    def __init__(self, opt: Optimizer, comm: Any = None) -> None:
        mpi = starting.mpi()
        comm = starting.checked_comm(mpi, comm)
        agreement.agreed(comm, lambda: check_optimizer(opt))
        self._opt, self._comm = opt, comm
        self._constants = (mpi.IN_PLACE, mpi.BYTE)
        self._engine = Engine(self._group_of_piece)
        self._shards = Shards(
            self._engine, comm, (mpi.IN_PLACE, mpi.MAX, mpi.INT64_T, mpi.DOUBLE), self._group_of,
            self._failure, self._described, self._whole_gradient,
        )
        self._cutter = Cutter(comm.Get_size())
        self._cuts: dict[Hashable, Cut] = {}
        self._groups: dict[tuple[Any, ...], int] = {}
        self._group: dict[Hashable, int] = {}
        self._used: frozenset[Hashable] = frozenset()
        self._signature: list[Any] = []
        self._kinds: bytes | None = None  # this rank's, if they may be the same again
        self._table: Table | None = None
        self._plan: Plan | None = None
        self._table_digest = self._settings_digest = 0
        self._seen: list[Any] = []  # what the latest call had, of which messages tell
        self._seen_groups: list[int] = []
        self._note = b""
        starting.share_cores(mpi, comm)
        self._shards.restore(self._taken_over)
        words = (
            f"this {type(opt).__name__} is divided among the ranks by a Sharded; call the methods "
            f"of the Sharded instead"
        )
        for one in (opt, opt.inner()):
            if one is not None:
                one.engine.share(self._engine, words)

    def _taken_over(self, job: Job) -> Any:
        """Return this rank's part of what the optimizer has kept so far."""
        opt = self.opt
        records = opt.engine.records()
        check_records(records)
        job.digest = checkpoint.digest(records, opt)
        return self._divided(
            {key: (tuple(one["shape"]), np.dtype(one["dtype"])) for key, one in records.items()},
            lambda cuts: {
                key: checkpoint.piece(records[key], cut, self._shards.rank)
                for key, cut in cuts.items()
            },
            (opt.iter, opt.skipped, opt.clipped, ()),
        )

    def _divided(
        self, keys: dict[Hashable, tuple[tuple[int, ...], np.dtype[Any]]],
        pieces_of: Callable[[dict[Hashable, Cut]], dict[Hashable, dict[str, Any]]],
        counts: tuple[int, int, int, Any],
    ) -> tuple[dict[Hashable, dict[str, Any]], int, int, int, Any]:
        """Return what `Engine.restore` takes, for a state that is divided anew."""
        cutter, cuts, plan = Cutter(self._shards.size), {}, self.opt.plan()
        for key, (shape, dtype) in keys.items():
            group = self._group[key] = self.opt.group_of(key, ParamInfo(shape, dtype))
            cuts[key] = cutter.cut(key, shape, dtype, needs_whole(plan, group))
        rank = self._shards.rank
        records = pieces_of({k: cut for k, cut in cuts.items() if cut.part_of(rank) is not None})
        kept = {
            "_cutter": cutter, "_cuts": cuts, "_used": frozenset(cuts), "_signature": [],
            "_kinds": None, "_table": None, "_plan": None,
        }
        iter_, skipped, clipped, changes = counts
        return records, iter_, skipped, clipped, [*changes, (vars(self), kept)]

    # ------------------------------------------------ what can be seen

    @property
    def opt(self) -> Optimizer:
        """The optimizer."""
        return self._opt

    @property
    def comm(self) -> Any:
        """The communicator: one of its own, of the same ranks."""
        return self._comm

    if not TYPE_CHECKING:  # which would take it to mean that any attribute may be set

        def __setattr__(self, name: str, value: object) -> None:
            if not name.startswith("_"):
                raise AttributeError(
                    f"{name} cannot be set; make another Sharded, or set it on opt"
                )
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Sharded({self.opt!r}, rank {self._shards.rank} of {self._shards.size})"

    def __reduce__(self) -> Never:
        raise TypeError(
            "a Sharded has a part of the state in each process and cannot be copied or pickled; "
            "use its save, or state_dict"
        )

    # ------------------------------------------------ updates

    def update(self, params: Params, grads: Grads) -> bool:
        """Update every parameter in place, in all ranks alike.

        Parameters
        ----------
        params : dict or list
            Arrays as for the optimizer's `update`, equal in all ranks; no Python floats.
        grads : dict or list
            This rank's gradients, as for the optimizer's `update`.

        Returns
        -------
        bool
            Whether an update was applied: not if ``opt.nonfinite == "skip"`` left out all ranks, or
            the sum.

        Raises
        ------
        ValueError
            The ranks have other keys, another order of keys, shapes, dtypes, hyperparameters or
            counts of updates.
        RuntimeError
            Another rank was interrupted, or its error has no name that is known here; or a thread
            of this process is in the middle of a call.

        Notes
        -----
        Whatever the optimizer's `update` raises in one rank is raised in all. Nothing has changed
        then. If MPI itself fails on the way, the parameters may be half updated.
        """
        return self._shards.update(
            vars(self), lambda: self._prepared(params, grads), self._prepared_again
        )

    def step(self, params: Params, fn: Function) -> Any:
        """Evaluate a function on this rank's share of a batch, and update.

        Returns
        -------
        The loss, or None if `fn` gives only gradients. What `fn` raises in one rank is raised in
        all of them.
        """
        losses = []

        def prepared() -> Job:
            loss, grads = self.opt.loss_and_grads(params, fn)
            losses.append(loss)
            return self._prepared(params, grads)

        self._shards.update(vars(self), prepared, self._prepared_again)
        return losses[0]

    def _prepared(self, params: Params, grads: Grads) -> Job:
        """Check what this rank was given, and return what it brings to the update."""
        opt, plan = self.opt, self._plan_now()
        given = Given(*self._shards.look(params, grads, plan))
        self._given = given, params
        kept: dict[str, Any] = {}
        self._seen = signature = [
            (key, a.shape, a.dtype) for key, a in zip(given.keys, map(np.asarray, given.arrays),
                                                      strict=True)
        ]
        if signature != self._signature:
            if not self._used:
                opt.check_keys(given.keys, given.arrays)
            self._check_unchanged(signature)
            self._seen_groups = [
                self._group_of(key, np.asarray(a))
                for key, a in zip(given.keys, given.arrays, strict=True)
            ]
            kept["_signature"] = signature
            kept["_table_digest"] = agreement.digest("\n".join(self._told_keys()))
        kinds = given.kinds
        job = Job()
        job.plan, job.kept, job.to_zero = plan, kept, given.to_zero if given.passes else []
        job.digest = agreement.digest(
            f"{kept.get('_table_digest', self._table_digest)} {self._settings_digest} {opt.iter} "
            f"{opt.skipped} {agreement.scheduled(opt)}"
        )
        job.changed = bool(kept) or kinds != self._kinds or self._table is None
        if not job.changed:
            assert self._table is not None
            job.note = self._note
            return self._with(job, self._table, given, self._comm.Get_size(), [])
        rows = {i: g for i, g in enumerate(given.grads) if isinstance(g, tuple)}
        job.note = pickle.dumps((kinds, rows if given.passes else {}))
        return job

    def _plan_now(self) -> Plan:
        """Return the plan of the next update; note what it says if it is new."""
        opt = self.opt
        if getattr(opt, "lookahead", False):
            raise ValueError(LOOKAHEAD)
        plan = opt.plan()
        if plan is not self._plan:
            if not self._used:
                self._groups.clear()
                self._shards.forget_groups()
            self._check_cuts(plan)
            check_kept(opt, plan)
            self._plan = plan
            fixed = "\n".join(agreement.settings(opt, fixed=True))
            self._settings_digest = agreement.digest(fixed)
        return plan

    def _check_cuts(self, plan: Plan) -> None:
        """Refuse options that look at whole tensors, for keys that are in pieces."""
        for key, cut in self._cuts.items():
            if not cut.whole and len(cut.parts) > 1 and needs_whole(plan, self._group[key]):
                raise ValueError(
                    f"params[{key!r}] is divided among the ranks, and an option that was set since "
                    f"the first update looks at it as a whole; set it before, or save the state "
                    f"and load it into a new Sharded"
                )

    def _check_unchanged(self, signature: list[Any]) -> None:
        """Refuse keys of other shapes or dtypes than before, in the words of an update."""
        for key, shape, dtype in signature:
            cut = self._cuts.get(key)
            if cut is None:
                continue
            if cut.shape != shape:
                raise ValueError(
                    f"params[{key!r}] has shape {shape}, but its state has shape {cut.shape} from "
                    f"earlier updates; use another key or a new optimizer"
                )
            if cut.dtype != dtype:
                raise TypeError(
                    f"params[{key!r}] is {dtype}, but its state is {cut.dtype} from earlier "
                    f"updates; convert the parameter or use a new optimizer"
                )

    def _prepared_again(self, job: Job, notes: list[bytes]) -> Job:
        """Return the same job, now that every rank's kinds of gradients are known."""
        given, params = self._given
        told = [pickle.loads(note) for note in notes]
        every = [kinds for kinds, _ in told if kinds]
        job.changed = False
        job.left_out = len(told) - len(every)
        if not every:
            job.pieces = None
            return job
        n = len(given.keys)
        seen = [{kinds[i] for kinds in every} for i in range(n)]
        dense = [i for i in range(n) if DENSE in seen[i]]
        rows = [i for i in range(n) if ROWS in seen[i] and DENSE not in seen[i]]
        given = self._completed(given, params, job.plan, {*dense, *rows})
        cutter, cuts = copy(self._cutter), dict(self._cuts)
        cutter.loads = list(cutter.loads)
        for i in sorted([*dense, *rows]):
            key, a = given.keys[i], np.asarray(given.arrays[i])
            group = self._group[key] = self._group_of(key, a)
            if key not in cuts:
                cuts[key] = cutter.cut(key, a.shape, a.dtype, needs_whole(job.plan, group))
        comm = self._comm
        table = Table.of(
            comm, self._constants, {i: cuts[given.keys[i]] for i in (*dense, *rows)}, dense, rows
        )
        shared = [
            SharedRows.of(table.cuts[i], [parts[i] for _, parts in told if i in parts])
            for i in rows
        ]
        grads = list(given.grads)
        for i in dense:
            if isinstance(grads[i], tuple):
                grads[i] = as_dense(table.cuts[i], grads[i])
        if not given.passes:
            grads = [None] * n
        again = bool(rows) or job.left_out > 0 or ROWS in given.kinds
        job.kept = {
            **job.kept, "_cutter": cutter, "_cuts": cuts, "_table": table,
            "_used": self._used | {given.keys[i] for i in (*dense, *rows)},
            "_kinds": None if again else given.kinds,
            "_note": pickle.dumps((given.kinds, {})),
        }
        return self._with(job, table, given._replace(grads=grads), len(every), shared)

    def _completed(
        self, given: Given, params: Params, plan: Plan, wanted: set[int]
    ) -> Given:
        """Check the parameters that have no gradient here, and one in another rank."""
        missing = [i for i in wanted if given.grads[i] is None]
        if not missing:
            return given
        keys = [given.keys[i] for i in missing]
        arrays = [given.arrays[i] for i in missing]
        zeros = {key: np.zeros_like(a) for key, a in zip(keys, arrays, strict=True)}
        self._shards.look(dict(zip(keys, arrays, strict=True)), zeros, plan)
        return given

    def _with(
        self, job: Job, table: Table, given: Given, ranks: int, shared: list[SharedRows]
    ) -> Job:
        """Complete a job: this rank's parts of the parameters, and of the sums."""
        job.copies, self._cut_of = [], {cut.key: cut for cut in table.cuts.values()}
        flats = {}
        for i in (*table.dense, *table.rows):
            flats[i], copied = flat(given.arrays[i])
            if copied:
                job.copies.append((np.asarray(given.arrays[i]), flats[i]))
        rank = self._shards.rank
        job.factor = 1.0 / ranks
        job.pieces, job.sums = {}, dict(table.sums)
        for i, (start, stop) in table.owned:
            cut = table.cuts[i]
            own = cut.part_of(rank)
            assert own is not None
            job.pieces[cut.key] = flats[i][start:stop].reshape(cut.shape_of(own))
        for one in shared:
            if one.cut.part_of(rank) is not None:
                job.sums[one.cut.key] = one.gradient(rank)
        job.exchange = None if table.buckets is None else table.buckets.exchange
        job.arrays = [flats[i] for i in table.dense]
        job.grads = [given.grads[i] for i in table.dense]
        job.span_of, job.start_of, job.first_of = table.span_of, table.start_of, table.first_of
        job.blocks, job.row_sums = table.blocks, [one.sums for one in shared]
        job.rows = None
        if shared:
            job.rows = rows_back(
                self._comm, self._constants, shared, [flats[i] for i in table.rows]
            )
        return job

    # ------------------------------------------------ averages in the place of the weights

    def averaged(self, params: Params) -> Any:
        """Let the parameters hold their averages for as long as a ``with`` lasts, in all ranks.

        See the optimizer's `averaged`. The ranks enter and leave together.
        """
        return self._exchanged(params, lambda opt, pieces: opt.averaged(pieces))

    def evaluation(self, params: Params) -> Any:
        """Let the parameters hold the point to evaluate at, with schedule-free rules.

        See the rules' own `evaluation`. The ranks enter and leave together.
        """
        if not hasattr(self.opt, "evaluation"):
            raise AttributeError(f"{type(self.opt).__name__} has no other point to evaluate at")
        return self._exchanged(params, lambda opt, pieces: opt.evaluation(pieces))

    @contextmanager
    def _exchanged(
        self, params: Params, make: Callable[[Any, dict[Any, Any]], Averaged]
    ) -> Iterator[Params]:
        """Let each rank exchange its part, and all of them what they hold then."""
        entered: list[Averaged] = []

        def enter() -> tuple[Buckets, list[NDArray[Any]], list[tuple[Any, Any]]]:
            arrays, keys = as_dict("params", params), list(self._used_in_order())
            for key in keys:
                if key not in arrays:
                    raise KeyError(f"params has no key {key!r}, which has been updated")
            flats, copies, pieces = [], [], {}
            for key in keys:
                a = checked_param(key, arrays[key])
                self._check_unchanged([(key, a.shape, a.dtype)])
                one, copied = flat(a)
                flats.append(one)
                if copied:
                    copies.append((a, one))
                cut = self._cuts[key]
                own = cut.part_of(self._shards.rank)
                if own is not None:
                    pieces[key] = one[own.start:own.stop].reshape(cut.shape_of(own))
            buckets = Buckets.of(self._comm, self._constants, [self._cuts[key] for key in keys])
            if pieces:
                with checkpoint.engine_of(self.opt, self._engine):
                    context = make(self.opt, pieces)
                context.__enter__()
                entered.append(context)
            return buckets, flats, copies

        try:
            buckets, flats, copies = self._shards.together(enter)
        except BaseException:
            for context in entered:
                context.__exit__(None, None, None)
            raise
        try:
            self._shards.gather(buckets.exchange, flats, copies)
            yield params
        finally:
            for context in entered:
                context.__exit__(None, None, None)
            self._shards.gather(buckets.exchange, flats, copies)

    def _used_in_order(self) -> list[Hashable]:
        """Return the keys that have been updated, in the order in which they came."""
        return [key for key in self._cuts if key in self._used]

    # ------------------------------------------------ saving

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, in every rank: what the optimizer's `state_dict` gives.

        It takes the memory of the whole state in each rank; `save` takes it in rank 0 alone.
        """
        whole: dict[str, Any] = self._whole(self._comm.allgather)
        return whole

    def _whole(self, gather: Callable[[Any], Any]) -> Any:
        """Return the whole state where `gather` gives all ranks' parts."""
        own = self._shards.together(lambda: checkpoint.own_state(self.opt, self._engine))
        told = gather(own["parameters"])
        return self._shards.together(
            lambda: None if told is None else checkpoint.joined(own, self._cuts, told)
        )

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, here or of an optimizer in one process.

        Each rank passes the same; all is checked in every rank before anything is replaced.
        """
        self._shards.restore(lambda job: self._loaded(job, lambda: checkpoint.OneState(saved)))

    def save(self, path: str | PathLike[str], whole: bool = True) -> None:
        """Write the state to one file, or to a file for each rank.

        Parameters
        ----------
        path : str or path-like
            Of a folder that all ranks can write to, or else rank 0.
        whole : bool, default True
            One file, which rank 0 writes and which the optimizer's own `load` reads, too. False:
            rank r of N writes its part to ``path.r-of-N``.

        Raises
        ------
        OSError
            A rank cannot write. The whole file is as it was. Of files for each rank some may be
            new and some old; `load` refuses such a mixture.

        Notes
        -----
        As the optimizer's `save`. The whole state takes its memory in rank 0.
        """
        if whole:
            tree = self._whole(self._comm.gather)
            self._shards.together(lambda: checkpoint.write_whole(path, tree))
            return
        name = self._comm.bcast(checkpoint.new_name())
        self._shards.together(
            lambda: checkpoint.write_part(
                path, checkpoint.own_state(self.opt, self._engine, copy=False), self._cuts,
                self._shards.rank, self._shards.size, name,
            )
        )

    def load(self, path: str | PathLike[str]) -> None:
        """Read what `save` wrote, in one file or in one for each rank, of any number of ranks.

        A file that an optimizer's own `save` wrote will do as well. Every rank reads; training goes
        on to the bit.

        Raises
        ------
        ValueError
            A file is damaged, or not of this optimizer; files of the ranks are missing, or of
            different saves; or there are both a whole file and some of ranks. Nothing is replaced
            then, in any rank.
        OSError
            A file cannot be read.
        """
        self._shards.restore(lambda job: self._loaded(job, lambda: checkpoint.found(path)))

    def _loaded(self, job: Job, read: Callable[[], checkpoint.Saved]) -> Any:
        """Return this rank's part of a saved state, checked."""
        saved = read()
        described = saved.described()
        if isinstance(described, Mapping):
            check_records(described.get("parameters"))
        with checkpoint.engine_of(self.opt, Engine()):
            counts = checkpoint.checked(self.opt, described)
        keys = saved.keys()
        if self._used:
            if set(keys) != set(self._used):
                raise KeyError(
                    f"the state is of the parameters {list(keys)}, this optimizer has "
                    f"{self._used_in_order()}; load into a new optimizer"
                )
            for key, (shape, dtype) in keys.items():
                if (self._cuts[key].shape, self._cuts[key].dtype) != (shape, dtype):
                    raise ValueError(
                        f"params[{key!r}] is {self._cuts[key].dtype} {self._cuts[key].shape}, the "
                        f"state's is {dtype} {shape}"
                    )
        job.digest = saved.digest()
        with checkpoint.settings_of(self.opt, counts[3]):
            return self._divided(
                keys, lambda cuts: saved.pieces(cuts, self._shards.rank), counts
            )

    # ------------------------------------------------ what the stations ask

    def _group_of(self, key: Hashable, p: NDArray[Any]) -> int:
        """Return the group of a key, whose whole parameter is `p`; asked once for each."""
        place = (key, p.shape, p.dtype)
        if place not in self._groups:
            self._groups[place] = self.opt.group_of(key, ParamInfo(p.shape, p.dtype))
        return self._groups[place]

    def _group_of_piece(self, key: Hashable, piece: NDArray[Any]) -> int:
        """Return the group of a key of which this rank has a part."""
        return self._group[key]

    def _failure(
        self, problem: BaseException | None, told: list[Any], differ: bool
    ) -> BaseException:
        if differ:
            return agreement.difference(told)
        return agreement.failure(problem, told, self._shards.rank)

    def _described(self, problem: BaseException | None) -> Any:
        if problem is not None:
            return agreement.told(problem, self._shards.size if self._shards.summed else 1)
        counts = [f"opt.iter is {self.opt.iter}", f"opt.skipped is {self.opt.skipped}"]
        return [*self._told_keys(), *counts, *agreement.settings(self.opt)]

    def _told_keys(self) -> list[str]:
        """Return the keys of the latest call, and their groups, line by line."""
        lines = agreement.keys(self._seen)
        if self.opt.groups and len(self._seen) == len(self._seen_groups):
            titles = ["no group", *(group.label for group in self.opt.groups)]
            lines += [
                f"params[{one[0]!r}] is of {titles[group]}"
                for one, group in zip(self._seen, self._seen_groups, strict=True)
            ]
        return lines

    def _whole_gradient(self, key: Hashable, grad: Any) -> Any:
        """Return a sum in the place that it has in its key, for messages."""
        cut = self._cut_of[key]
        own = cut.part_of(self._shards.rank)
        if own is None or not isinstance(grad, np.ndarray):
            return grad
        whole = np.zeros(cut.shape, cut.dtype)
        whole.reshape(-1)[own.start:own.stop] = grad.reshape(-1)
        return whole


def check_kept(opt: Optimizer, plan: Plan) -> None:
    """Refuse state that is kept elsewhere than in arrays like the parameters'."""
    if plan.codes:
        raise ValueError(
            "state_dtype: the codes of a key depend on all of its elements' places, of which a "
            "rank has some; a Sharded keeps state in the parameters' dtype, 1/N of it on each rank"
        )
    if opt.state_dir is not None:
        raise ValueError(
            "state_dir is one optimizer's folder, and a Sharded has a part of the state on each "
            "rank; use its save and load"
        )


def check_records(records: Any) -> None:
    """Refuse state that only a whole optimizer can go on with."""
    for key, record in records.items() if isinstance(records, Mapping) else ():
        if not isinstance(record, Mapping):
            continue
        if record.get("half") is not None:
            raise TypeError(
                f"the state of params[{key!r}] is that of a {record['half']} parameter; a Sharded "
                f"takes parameters of float32 or float64"
            )
        if record.get("coding") is not None:
            raise ValueError(
                f"the state of params[{key!r}] has state_dtype {record['coding']!r}, which a "
                f"Sharded does not keep; load it into an optimizer without it, by load(path, "
                f"convert=True), and give that one to Sharded"
            )


def check_optimizer(opt: Any) -> None:
    """Refuse what cannot be divided."""
    if isinstance(opt, Sharded):
        raise TypeError("opt is a Sharded already; give it an optimizer")
    if isinstance(opt, RungeKutta):
        raise TypeError(
            f"opt is a {type(opt).__name__}, which needs gradients at several points of a step, "
            f"and Sharded takes them at one; let fn sum over the ranks, or use one of the rules"
        )
    if not isinstance(opt, Optimizer):
        hint = {
            "SoftBatch": "; the ranks make a soft batch already: divide its optimizer, and sum "
            "further batches before the call",
        }.get(type(opt).__name__, "")
        raise TypeError(f"opt must be an optimizer of fastoptim, got {type(opt).__name__}{hint}")
    if getattr(opt, "lookahead", False):
        raise ValueError(LOOKAHEAD)
    check_kept(opt, opt.plan())
    if opt.whole is not None:
        raise TypeError(
            f"opt is the rest of a {type(opt.whole).__name__}; divide that optimizer"
        )
