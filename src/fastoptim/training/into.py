"""What a file holds, taken over by objects and arrays that are there: all checked, then replaced.

The checks make a list of calls, all of them of compiled functions. One compiled loop makes them, so
no interrupt comes between two. A call may still find no memory, or an optimizer that another thread
uses; then those before it are undone. Arrays come last, since nothing can fail there.
"""

from collections import deque
from collections.abc import Mapping, MutableMapping
from functools import partial
from operator import length_hint, setitem
from typing import Any, NoReturn
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from fastoptim.checkpoint.tree import Stored
from fastoptim.ode import state as ode_state
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer import plateaus, state
from fastoptim.optimizer.base import Optimizer
from fastoptim.schedules.arithmetic import observers
from fastoptim.schedules.plateau import plateau
from fastoptim.softbatch.batch import SoftBatch
from fastoptim.training import generators
from fastoptim.training.build import Builder
from fastoptim.training.objects import KINDS

Call = partial[Any]
PLAIN = (type(None), bool, int, float, str)
EXPECTED = (
    "a dict, list or tuple of arrays, optimizers, SoftBatches, plateaus, random generators and "
    "plain values; of anything else leave the key out, and take what load returns"
)


class Into:
    """Compares what is there with what a file holds, and lists the calls that replace it."""

    def __init__(self, builder: Builder, convert: bool = False) -> None:
        self.builder, self.convert = builder, convert
        self.calls: list[tuple[Call, Call]] = []  # each with the one that undoes it
        self.arrays: list[Call] = []
        self.lost: list[str] = []
        self.places: dict[int, str] = {}
        self.filled: dict[int, tuple[NDArray[Any], str]] = {}  # by identity: with what, and where

    def taken(self, here: Any, there: Any, place: str = "tree") -> Any:
        """Return what takes the place of `here`: itself, unless it is a plain value."""
        if isinstance(here, Mapping):
            return self.of_mapping(here, there, place)
        if isinstance(here, (list, tuple)):
            return self.of_items(here, there, place)
        if isinstance(here, np.ndarray) and not isinstance(here, np.ma.MaskedArray):
            return self.of_array(here, there, place)
        if isinstance(here, PLAIN):
            if not isinstance(there, PLAIN):
                self.differ("a plain value", there, place)
            return there
        kind = kind_of(here)
        if kind is None:
            raise TypeError(
                f"{place} of into must be {EXPECTED}, got {type(here).__module__}."
                f"{type(here).__qualname__}"
            )
        if not isinstance(there, Stored) or there.kind != kind:
            self.differ(KINDS[kind], there, place)
        try:
            self.of_object(kind, here, there.content, place)
        except (TypeError, KeyError, ValueError) as problem:
            self.builder.refuse(place, problem)
        return here

    def of_mapping(self, here: Mapping[Any, Any], there: Any, place: str) -> Any:
        """Compare a dict; the tree's own may lack keys, which come back as new objects."""
        if not isinstance(there, dict):
            self.differ("a dict", there, place)
        unknown = [key for key in here if key not in there]
        missing = [key for key in there if key not in here]
        if unknown or (missing and place != "tree"):
            what = "the file has no" if unknown else "into has no"
            raise KeyError(
                f"{self.builder.name}: {place}: {what} {(unknown or missing)[0]!r}; the file's "
                f"keys are {list(there)[:8]}, those of into {list(here)[:8]}"
            )
        found = dict.fromkeys(there)  # the file's order
        for key, ours in here.items():
            inside = f"{place}[{key!r}]"
            found[key] = self.taken(ours, there[key], inside)
            if isinstance(ours, PLAIN):
                self.replace(here, key, there[key], inside)
        for key in missing:  # last: what is new shares the plateaus that are here
            found[key] = self.builder.made(there[key], f"{place}[{key!r}]")
        return found if place == "tree" else here

    def of_items(self, here: Any, there: Any, place: str) -> Any:
        """Compare a list or tuple."""
        if not isinstance(there, (list, tuple)):
            self.differ(f"a {type(here).__name__}", there, place)
        if len(there) != len(here):
            raise ValueError(
                f"{self.builder.name}: {place}: the file has {len(there)} items, into {len(here)}"
            )
        for i, (ours, theirs) in enumerate(zip(here, there, strict=True)):
            self.taken(ours, theirs, f"{place}[{i}]")
            if isinstance(ours, PLAIN):
                self.replace(here, i, theirs, f"{place}[{i}]")
        return here

    def replace(self, here: Any, key: Any, value: Any, place: str) -> None:
        """Put a plain value at the place of one."""
        if not isinstance(here, (MutableMapping, list)):
            raise TypeError(
                f"{self.builder.name}: {place} is a plain value in a {type(here).__name__}, which "
                f"cannot be changed; leave it out of into, and take it from what load returns"
            )
        undo = partial(setitem, here, key, here[key])
        self.calls.append((partial(setitem, here, key, value), undo))

    def of_array(self, here: Any, there: Any, place: str) -> Any:
        """Compare an array."""
        if not isinstance(there, np.ndarray):
            self.differ("an array", there, place)
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise ValueError(
                f"{self.builder.name}: {place} is {there.dtype} {there.shape} in the file, and "
                f"{here.dtype} {here.shape} in into"
            )
        if not here.flags.writeable:
            raise ValueError(f"{self.builder.name}: {place} of into is read-only")
        first, other = self.filled.setdefault(id(here), (there, place))
        if first is not there and first.tobytes() != there.tobytes():
            raise ValueError(
                f"{self.builder.name}: {place} of into is the same array as {other}, and the file "
                f"has two that differ"
            )
        self.arrays.append(partial(setitem, here, ..., there))
        return here

    def of_object(self, kind: str, here: Any, content: Any, place: str) -> None:
        """Compare an object of another kind, which may be in the tree once."""
        known = self.places.setdefault(id(getattr(here, "opt", here)), place)
        if known != place:
            raise ValueError(f"into has the same {type(here).__name__} here and at {known}")
        getattr(self, f"of_{kind}")(here, content, place)

    def of_optimizer(self, here: Optimizer, content: Any, place: str) -> None:
        """Compare an optimizer."""
        restore, undo = self.restoring(here, content)
        self.calls.append((partial(restore, None), partial(undo, None)))

    def restoring(self, opt: Optimizer, content: Any) -> tuple[Call, Call]:
        """Return the calls that restore an optimizer and undo that, which both take a source."""
        known = self.builder.known(content["schedules"])
        of_groups = tuple(self.builder.known(one) for one in content["groups"])
        rest, of_rest = opt.inner(), content.get("rest", {"schedules": {}, "groups": []})
        inside = self.builder.known(of_rest["schedules"])
        of_inside = tuple(self.builder.known(one) for one in of_rest["groups"])
        restore, lost = state.checked(
            opt, content["state"], known, of_groups, (inside, of_inside), convert=self.convert
        )
        self.lost += lost
        self.keep(opt, known, of_groups)
        if rest is not None:
            self.keep(rest, inside, of_inside)
        *_, changes = restore.args
        undo = partial(
            opt.engine.restore, opt.engine.records(), opt.iter, opt.skipped, opt.clipped,
            [(kept, before(kept, new)) for kept, new in changes], norm=opt.grad_norm,
        )
        return restore, undo

    def keep(
        self, opt: Optimizer, known: Mapping[str, Any], of_groups: tuple[Mapping[str, Any], ...]
    ) -> None:
        """Let the plateaus of an optimizer be those of what is made from now on."""
        self.stay(known, vars(opt))
        for group, theirs in zip(opt.groups, of_groups, strict=True):
            self.stay(theirs, group.hyperparameters)

    def of_method(self, here: RungeKutta, content: Any, place: str) -> None:
        """Compare a Runge–Kutta method."""
        known = self.builder.known(content["schedules"])
        changes, lost = ode_state.checked(here, content["state"], known)
        self.lost += lost
        self.stay(known, vars(here))
        for kept, new in changes:
            self.update(kept, new)

    def of_softbatch(self, here: SoftBatch, content: Any, place: str) -> None:
        """Compare a SoftBatch."""
        of_opt = content["optimizer"]
        loaded = here._checked({**content["waiting"], "optimizer": of_opt["state"]})
        waiting = here._adder.still(here._waiting)
        restore, undo = self.restoring(here.opt, of_opt)
        replace = here._adder.restore
        self.calls.append((partial(replace, loaded, restore), partial(replace, waiting, undo)))

    def of_schedule(self, here: plateau, content: Any, place: str) -> None:
        """Compare a plateau, alone of all schedules something to take over."""
        there = self.builder.schedule(place, content)
        if not isinstance(there, plateau):
            raise ValueError(f"into has a plateau here, and the file {there!r}")
        # as it is in the file: another plateau of into may stand for it by now
        there = self.builder.schedules.plateaus[content.get("plateau")]
        self.update(vars(here), plateaus.seen_by(place, here, vars(there)))
        self.builder.schedules.stay(there, here)

    def stay(self, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        """Let the plateaus of hyperparameters that stay be those of what is made from now on."""
        for name, schedule in there.items():
            theirs, ours = observers(schedule), observers(here[name])
            if len(theirs) == len(ours):
                for pair in zip(theirs, ours, strict=True):
                    self.builder.schedules.stay(*pair)

    def of_generator(self, here: np.random.Generator, content: Any, place: str) -> None:
        """Compare a random generator."""
        bits, there = here.bit_generator, generators.made(content).bit_generator
        if type(bits) is not type(there):
            raise ValueError(
                f"into has a generator of {type(bits).__name__} here, the file one of "
                f"{type(there).__name__}"
            )
        undo = partial(setattr, bits, "state", bits.state)
        self.calls.append((partial(setattr, bits, "state", there.state), undo))

    def update(self, kept: dict[str, Any], new: Mapping[str, Any]) -> None:
        """List the change of a dict."""
        self.calls.append(
            (partial(dict.update, kept, new), partial(dict.update, kept, before(kept, new)))
        )

    def differ(self, ours: str, there: Any, place: str) -> NoReturn:
        """Refuse something of another kind."""
        if isinstance(there, Stored):
            theirs = KINDS.get(there.kind, there.kind)
        elif isinstance(there, PLAIN):
            theirs = "a plain value"
        else:
            theirs = "an array" if isinstance(there, np.ndarray) else f"a {type(there).__name__}"
        raise TypeError(f"{self.builder.name}: {place} is {theirs} in the file, and {ours} in into")

    def replace_all(self) -> None:
        """Make the calls."""
        for line in self.lost:  # first: a filter may make a warning an error
            warn(line, UserWarning, stacklevel=4)
        calls = [call for call, _ in self.calls] + self.arrays
        left = iter(calls)
        try:
            deque(map(partial.__call__, left), maxlen=0)
        except Exception:  # an interrupt comes behind the last call: all is done then
            made = len(calls) - length_hint(left) - 1  # the last one failed, and changed nothing
            for _, undo in reversed(self.calls[:made]):
                undo()
            raise


def kind_of(here: object) -> str | None:
    """Return the kind of an object that can take over another one's state."""
    kinds = {
        "optimizer": Optimizer, "method": RungeKutta, "softbatch": SoftBatch, "schedule": plateau,
        "generator": np.random.Generator,
    }
    return next((kind for kind, cls in kinds.items() if isinstance(here, cls)), None)


def before(kept: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a dict has where an update will replace it."""
    return {name: kept[name] for name in new if name in kept}
