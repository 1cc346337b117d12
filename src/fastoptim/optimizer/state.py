"""An optimizer's state as plain dicts and arrays, and back; all is checked, then replaced."""

import copy as copying
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastoptim.checkpoint import tree
from fastoptim.kernels.update.engine import Source
from fastoptim.optimizer import coded_state, halves, plateaus
from fastoptim.optimizer.hyperparameters import Check, both_set, checks_of, may_be_schedule
from fastoptim.optimizer.predicates import ParamInfo
from fastoptim.optimizer.tensor_options import plain
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from fastoptim.optimizer.base import Optimizer

FORMAT = 1
NONE: Mapping[str, Any] = {}
Changes = Sequence[tuple[dict[str, Any], Any]]  # dicts to update, each with what
# What says which keys are whose stands apart from the hyperparameters; where the state is kept is
# not part of it.
STRUCTURE = ("groups", "rest", "to_rest", "state_dir")
# Options that states of earlier versions have not; they stay as they are.
ADDED = {
    "agc", "average_from", "centralize", "clip_norm_per_key", "constraint", "master", "norm",
    "rounding_seed", "state_dtype", "trust_ratio",
}


def of(opt: "Optimizer", *, copy: bool) -> dict[str, Any]:
    """Return an optimizer's state, its arrays copied or not."""
    parameters = opt.engine.records()
    if keeps_groups(opt):
        for key, one in opt.engine.store.records.items():
            parameters[key]["group"] = one.group
    for key, described in parameters.items():
        if described.get("coding") == "int8":
            owner = opt.part_of(key, ParamInfo(described["shape"], np.dtype(described["dtype"])))
            described["signed"] = coded_state.signed_slots(owner, described["state"])
    return {
        **without_updates(opt),
        "iter": opt.iter,
        "skipped": opt.skipped,
        "clipped": opt.clipped,
        "parameters": copying.deepcopy(parameters) if copy else parameters,
    }


def without_updates(opt: "Optimizer") -> dict[str, Any]:
    """Return what a state has that no update changes."""
    from fastoptim import __version__

    rest = opt.inner()
    return {
        "format": FORMAT,
        "fastoptim": __version__,
        "rule": type(opt).__name__,
        **settings(opt),
        **({} if rest is None else {"rest": of_rest(opt, rest)}),
    }


def keeps_groups(opt: "Optimizer") -> bool:
    """Whether a state has the group of each key, since its patterns cannot tell."""
    return opt.inner() is not None or any(callable(group.pattern) for group in opt.groups)


def settings(opt: "Optimizer") -> dict[str, Any]:
    """Return an optimizer's hyperparameters and groups."""
    return {
        **numbers({name: vars(opt)[name] for name in values_of(opt)}),
        "groups": [
            {
                "pattern": None if callable(group.pattern) else group.pattern,
                **numbers(group.hyperparameters),
            }
            for group in opt.groups
        ],
    }


def values_of(opt: "Optimizer") -> list[str]:
    """Return the names of the hyperparameters that a state has."""
    return [name for name in checks_of(type(opt)) if name not in STRUCTURE]


def of_rest(opt: "Optimizer", rest: "Optimizer") -> dict[str, Any]:
    """Return what a state has of the optimizer inside another one, and which keys go there."""
    patterns = [None if callable(one) else one for one in vars(opt)["to_rest"]]
    return {"rule": type(rest).__name__, **settings(rest), "to_rest": patterns}


def numbers(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return hyperparameters, a schedule as None, the schedules' reprs, and their plateaus."""
    return {
        "hyperparameters": {
            name: None if callable(v) else plain(v) for name, v in values.items()
        },
        "schedules": {name: repr(v) for name, v in values.items() if callable(v)},
        **plateaus.saved_of(values),
    }


def load(
    opt: "Optimizer", saved: Mapping[str, Any], source: Source | None = None, also: Changes = (),
    *, convert: bool = False,
) -> None:
    """Check a saved state as a whole, then take it over.

    In the same step the source is told, and each dict of `also` is updated with the one beside it.
    """
    restore, lost = checked(opt, saved, convert=convert)
    *_, changes = restore.args
    changes += also
    for line in lost:       # first: a filter may make a warning an error
        warnings.warn(line, UserWarning, stacklevel=3)
    restore(source)


# What takes a state over: called with a source, or None, it runs no instruction of Python, so no
# interrupt comes within.
Restore = partial[None]


def checked(
    opt: "Optimizer", saved: Mapping[str, Any], schedules: Mapping[str, Any] = NONE,
    of_the_groups: tuple[Mapping[str, Any], ...] = (),
    of_the_rest: tuple[Mapping[str, Any], tuple[Mapping[str, Any], ...]] = (NONE, ()),
    *, convert: bool = False,
) -> tuple[Restore, list[str]]:
    """Check a saved state as a whole; return what takes it over, and what to warn of.

    The schedules, and those of each group, take the places at which this optimizer has numbers.
    `of_the_rest` are the same for the optimizer inside this one. `convert`: state of another
    state_dtype is converted to this optimizer's.
    """
    if not isinstance(convert, bool):
        raise TypeError(f"convert must be True or False, got {shown(convert)}")
    check_is_of(opt, saved)
    iter_, skipped = whole(saved, "iter"), whole(saved, "skipped")
    clipped = whole({"clipped": 0, **saved}, "clipped")
    changes, seen, lost = settings_of(opt, saved, "", schedules, of_the_groups, convert)
    rest = opt.inner()
    if (rest is None) != ("rest" not in saved):
        here, there = ("a rest", "no") if rest is not None else ("no rest", "one")
        raise ValueError(f"this optimizer has {here}, and the state has {there}")
    if rest is not None:
        check_is_rest(opt, rest, part(saved, "rest", Mapping))
        also_changes, also, gone = settings_of(
            rest, saved["rest"], "rest: ", *of_the_rest, convert
        )
        changes += also_changes
        seen += also
        lost += gone
    observed = plateaus.changes(seen)
    of_keys = part(saved, "parameters", Mapping)
    records = {key: record(opt, key, r, len(of_keys)) for key, r in of_keys.items()}
    check_present(opt, records)
    changes += observed
    return partial(opt.engine.restore, records, iter_, skipped, clipped, changes), lost


def settings_of(
    opt: "Optimizer", saved: Mapping[str, Any], where: str, schedules: Mapping[str, Any],
    of_the_groups: tuple[Mapping[str, Any], ...], convert: bool,
) -> tuple[list[tuple[dict[str, Any], Any]], plateaus.Seen, list[str]]:
    """Return the dicts that take over saved hyperparameters, each with what; and as `merged`."""
    checks = checks_of(type(opt))
    present = {name: vars(opt)[name] for name in values_of(opt)}
    check_names(saved, present)
    values, seen, lost = merged(saved, present, checks, where, schedules)
    keep_state_dtype(where, values, present, convert)
    check_groups(opt, saved)
    of_groups = []
    given = of_the_groups or (NONE,) * len(opt.groups)
    for group, theirs, known in zip(opt.groups, saved["groups"], given, strict=True):
        if set(part(theirs, "hyperparameters", Mapping)) != set(group.hyperparameters):
            raise ValueError(
                f"the state's group {group.label} sets {sorted(theirs['hyperparameters'])}, "
                f"this optimizer's {sorted(group.hyperparameters)}"
            )
        inside, also, gone = merged(
            theirs, group.hyperparameters, checks, f"{where}{group.title}: ", known
        )
        if "state_dtype" in inside:
            keep_state_dtype(f"{where}{group.title}: ", inside, group.hyperparameters, convert)
        of_groups.append(inside)
        seen += also
        lost += gone
    changes = [(vars(opt), {**values, "live_plan": None, "fixed_plan": None})]
    changes += [(g._given, inside) for g, inside in zip(opt.groups, of_groups, strict=True)]
    return changes, seen, lost


def keep_state_dtype(
    where: str, values: dict[str, Any], present: Mapping[str, Any], convert: bool
) -> None:
    """Let the state_dtype be the one that is here, or refuse another one."""
    coded_state.check_same(where, values.get("state_dtype"), present["state_dtype"], convert)
    values["state_dtype"] = present["state_dtype"]


def check_is_rest(opt: "Optimizer", rest: "Optimizer", saved: Mapping[str, Any]) -> None:
    """Refuse a state whose optimizer for the other keys is another one, or has other keys."""
    if part(saved, "rule") != type(rest).__name__:
        raise ValueError(
            f"the state's rest is of {saved['rule']}, this optimizer's is {type(rest).__name__}"
        )
    theirs = part(saved, "to_rest", list)
    ours = [None if callable(one) else one for one in vars(opt)["to_rest"]]
    if theirs != ours:
        raise ValueError(
            f"the state's to_rest is {written(theirs)}, this optimizer's is {written(ours)}"
        )


def check_is_of(opt: object, saved: Any) -> None:
    """Refuse a state of another format, or of another class."""
    if not isinstance(saved, Mapping):
        raise TypeError(f"a state is a dict as state_dict gives it, got {type(saved).__name__}")
    if type(part(saved, "format")) is not int or saved["format"] != FORMAT:
        raise ValueError(
            f"the state has format {saved['format']!r}, this fastoptim reads {FORMAT}; it was "
            f"saved by fastoptim {saved.get('fastoptim')}"
        )
    if part(saved, "rule") != type(opt).__name__:
        raise ValueError(f"the state is of {saved['rule']}, this optimizer is {type(opt).__name__}")


def check_groups(opt: "Optimizer", saved: Mapping[str, Any]) -> None:
    """Refuse a state with other groups; of a predicate only its place can be compared."""
    theirs = [part(group, "pattern") for group in part(saved, "groups", list)]
    ours = [None if callable(group.pattern) else group.pattern for group in opt.groups]
    if theirs != ours:
        raise ValueError(
            f"the state's groups are {written(theirs)}, this optimizer's are {written(ours)}"
        )


def written(patterns: list[Any]) -> str:
    """Return groups as a list of their patterns."""
    return f"[{', '.join('a predicate' if p is None else repr(p) for p in patterns)}]"


def check_member(opt: "Optimizer", key: object, p: ParamInfo, saved: Mapping[str, Any]) -> None:
    """Refuse a state that has a key in another group than this optimizer puts it.

    A predicate is code, and code is not saved: what it said of each key is, and that is compared.
    """
    names = ["no group", *(f"the group {group.label}" for group in opt.groups)]
    rest = opt.inner()
    if rest is not None:
        names += ["rest", *(f"the group {group.label} of rest" for group in rest.groups)]
    then, now = part(saved, "group", int), opt.group_of(key, p)
    if then != now:
        raise ValueError(
            f"the state has {key!r} in {name_at(names, then)}, and this optimizer puts it in "
            f"{names[now]}; give the group the predicate that it had when the state was saved"
        )


def name_at(names: list[str], k: int) -> str:
    """Return the name of a saved group, whose number may be anything."""
    return names[k] if 0 <= k < len(names) else f"group {k}"


def check_names(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Refuse a state with other hyperparameters than those that are here."""
    names = set(part(saved, "hyperparameters", Mapping))
    if not set(present) - ADDED <= names <= set(present):
        raise ValueError(
            f"the state's hyperparameters are {sorted(saved['hyperparameters'])}, this "
            f"optimizer's are {sorted(present)}"
        )


def for_file(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it is, or refuse a key of params that a file cannot hold."""
    for name in ("parameters", "sums", "rows"):
        for key in saved.get(name, ()):
            if not tree.may_be_key(key):
                raise TypeError(
                    f"params has the key {key!r}, a {type(key).__name__}, which a file cannot "
                    f"hold; to be saved, a key must be {tree.KEY}"
                )
    if "optimizer" in saved:  # of a soft batch
        for_file(saved["optimizer"])
    return saved


def part(saved: Any, name: str, kind: Any = object) -> Any:
    """Return a part of a state, which must be there and of this kind."""
    if not isinstance(saved, Mapping) or name not in saved:
        raise ValueError(f"the state has no {name!r}; it must be one that state_dict gave")
    if not isinstance(saved[name], kind):
        raise ValueError(f"{name!r} of the state is a {type(saved[name]).__name__}")
    return saved[name]


def whole(saved: Mapping[str, Any], name: str) -> int:
    """Return a count of a state."""
    n = part(saved, name)
    if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < 2**62:
        raise ValueError(f"{name} must be a whole number of at least 0, got {shown(n)}")
    return n


def merged(
    saved: Mapping[str, Any], present: Mapping[str, Any], checks: Mapping[str, Check], where: str,
    schedules: Mapping[str, Any] = NONE,
) -> tuple[dict[str, Any], plateaus.Seen, list[str]]:
    """Return hyperparameters to go on with, what plateaus have observed, and what to warn of.

    A schedule is code and is not in a state. A schedule of this optimizer stays. If only the saved
    optimizer had one, and it is not among `schedules`, a warning says so.
    """
    values: dict[str, Any] = {}
    seen: plateaus.Seen = []
    lost: list[str] = []
    for name, value in part(saved, "hyperparameters", Mapping).items():
        if name not in checks:
            raise ValueError(f"{where}{name} is no hyperparameter of this optimizer")
        here = present.get(name)
        if callable(here) and may_be_schedule(checks[name]):
            values[name] = here
            of_name, gone = plateaus.taken(where, here, saved, name)
            seen += of_name
            lost += gone
        elif name in schedules and may_be_schedule(checks[name]):
            values[name] = schedules[name]
        elif plateaus.saved_in(saved, name):
            values[name] = here
            lost += plateaus.taken(where, here, saved, name)[1]
        elif name in part(saved, "schedules", Mapping):
            values[name] = here
            lost.append(
                f"{where}{name} was a schedule when this state was saved, "
                f"{saved['schedules'][name]}, and is {here!r} now; a schedule is code and is not "
                f"saved: assign it again"
            )
        else:
            values[name] = checks[name](name, value)
    both = both_set(values)
    if both is not None:
        raise ValueError(f"the state has both {both[0]} and {both[1]}")
    return values, seen, lost


def record(
    opt: "Optimizer", key: object, saved: Mapping[str, Any], n_keys: int
) -> dict[str, Any]:
    """Return what was saved of one key, checked, with the state_dtype that is here."""
    name = f"the state of {key!r}"
    shape, dtype = tuple(part(saved, "shape", (tuple, list))), part(saved, "dtype")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{name} has dtype {shown(dtype)}, not float32 or float64")
    if opt.factored and part(saved, "order") != "C":
        raise ValueError(f"{name} has order {saved['order']!r}, and {type(opt).__name__}'s is 'C'")
    if part(saved, "order") not in ("C", "F"):
        raise ValueError(f"{name} has order {saved['order']!r}, not 'C' or 'F'")
    info = ParamInfo(shape, np.dtype(dtype))
    if keeps_groups(opt):
        check_member(opt, key, info, saved)
    owner = opt.part_of(key, info)
    complete = [*owner.kernels.values(), *owner.factored.values()]
    known = {slot for slots in complete for slot in slots}
    arrays = dict(part(saved, "state", Mapping))
    beside = {f"{slot}.largest" for slot in known} if saved.get("coding") == "int8" else set()
    has_master = coded_state.of_group(opt, key, info, "master")
    half = halves.check(name, has_master, dtype, shape, saved, arrays)
    master = {} if half is None else {
        slot: arrays.pop(slot) for slot in [halves.MASTER] if slot in arrays
    }
    there = {slot: a for slot, a in arrays.items() if slot not in beside}
    if not set(there) <= known:
        raise ValueError(f"{name} has slots {sorted(there)}, this rule has {sorted(known)}")
    if not any(set(slots) <= set(there) for slots in complete):
        raise ValueError(f"{name} has only the slots {sorted(there)} of {sorted(known)}")
    coding = coded_state.check(name, owner, shape, saved, n_keys)
    for slot, a in [*there.items(), ("average", part(saved, "average"))]:
        if slot == "average" and a is None:
            continue
        if slot != "average" and coding is not None and not getattr(type(owner), slot).whole:
            coded_state.check_codes(name, slot, coding, shape, arrays)
            continue
        wanted = owner.shape_of(slot, shape)
        if type(a) is not np.ndarray or a.dtype != dtype or a.shape != wanted:
            got = f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__
            raise ValueError(f"{name} should have {dtype} {wanted} as its {slot}, got {got}")
    kept_in, order = coded_state.wanted_for(opt, key, info), saved["order"]
    if kept_in != coding:
        arrays = coded_state.converted(owner, dtype, arrays, coding, kept_in)
        order = "C"
    return {
        "updates": whole(saved, "updates"), "shape": shape, "dtype": dtype,
        "order": order, "state": {**arrays, **master}, "average": saved["average"],
        **({"carried": carried(owner, name, saved)} if owner.carries else {}),
        "mean": mean_of(name, saved.get("mean")), "coding": kept_in,
        **({} if coding is None and half is None else {"number": saved["number"]}),
        **({} if half is None else {"half": half}),
    }


def carried(opt: "Optimizer", name: str, saved: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the numbers that a rule goes on with, checked."""
    numbers = part(saved, "carried", (tuple, list))
    if len(numbers) != opt.carries or not all(
        type(x) is float and 0.0 <= x < math.inf for x in numbers
    ):
        raise ValueError(
            f"{name} must carry {opt.carries} finite floats of at least 0, got {shown(numbers)}"
        )
    return tuple(numbers)


def mean_of(name: str, saved: Any) -> tuple[int, int] | None:
    """Return how many updates a key's mean has in it, and at which it began; None: not counted."""
    if saved is None:
        return None
    if not isinstance(saved, (tuple, list)) or len(saved) != 2:
        raise ValueError(f"{name} should have two counts, or None, as its mean, got {shown(saved)}")
    numbers = dict(zip(("the count of a mean", "the beginning of a mean"), saved, strict=True))
    count, begin = (whole(numbers, number) for number in numbers)
    return count, begin


def check_present(opt: "Optimizer", records: Mapping[Any, Mapping[str, Any]]) -> None:
    """Refuse a state whose parameters are not those that this optimizer has been updating."""
    here = opt.engine.records()
    if not here:
        return
    if set(here) != set(records):
        raise KeyError(
            f"the state is of the parameters {list(records)}, this optimizer has {list(here)}; "
            f"load into a new optimizer"
        )
    for key, now in here.items():
        then = records[key]
        ours, theirs = (one.get("half") or one["dtype"] for one in (now, then))
        if (now["shape"], ours) != (then["shape"], theirs):
            raise ValueError(
                f"params[{key!r}] is {ours} {now['shape']}, the state's is {theirs} {then['shape']}"
            )
