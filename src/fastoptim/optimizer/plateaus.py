"""What the plateaus among an optimizer's hyperparameters have observed: saved, and taken over.

A schedule is code and is not saved. What a `plateau` has observed is no code: it is saved beside
the schedules' reprs, with the plateau's arguments, and goes to the plateau of the same arguments
at the same place.
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from fastoptim.schedules.arithmetic import observers
from fastoptim.schedules.plateau import plateau

FIELDS = [field.name for field in dataclasses.fields(plateau)]
SEEN = [field.name for field in dataclasses.fields(plateau) if field.kw_only]

Seen = list[tuple[plateau, dict[str, Any]]]  # plateaus, and what they are to have observed


def saved_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plateaus of each hyperparameter as plain dicts, an entry only if there are any."""
    found = {
        name: [dict(vars(one)) for one in observers(value)]
        for name, value in values.items()
    }
    found = {name: states for name, states in found.items() if states}
    return {"plateaus": found} if found else {}


def copied(values: Mapping[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """Return hyperparameters with copies of the schedules that observe; the others stay."""
    return {
        name: copy.deepcopy(value, memo) if observers(value) else value
        for name, value in values.items()
    }


def saved_in(saved: Mapping[str, Any], name: str) -> list[Any]:
    """Return the plateaus that a hyperparameter had when a state was saved."""
    of_all = saved.get("plateaus", {})
    states = of_all.get(name, []) if isinstance(of_all, Mapping) else None
    if not isinstance(states, list):
        raise ValueError("'plateaus' of the state must be a dict of lists")
    return states


def taken(where: str, here: Any, saved: Mapping[str, Any], name: str) -> tuple[Seen, list[str]]:
    """Return what a schedule's plateaus are to have observed, and what to warn of."""
    theirs, ours = saved_in(saved, name), observers(here)
    if not theirs and not ours:
        return [], []
    if not theirs:
        return [], [
            f"{where}{name} has a plateau, {here!r}, and had none when this state was saved; it "
            f"goes on with what it has observed itself"
        ]
    if not ours:
        return [], [
            f"{where}{name} had a plateau when this state was saved, "
            f"{saved['schedules'].get(name)}, and is {here!r} now; what was observed is left out: "
            f"assign such a schedule and load again to keep it"
        ]
    if len(theirs) != len(ours):
        raise ValueError(
            f"{where}{name} has {len(ours)} plateaus here and {len(theirs)} in the state"
        )
    return [(one, seen_by(where + name, one, s)) for one, s in zip(ours, theirs, strict=True)], []


def seen_by(name: str, one: plateau, saved: Any) -> dict[str, Any]:
    """Return what a plateau has observed by a state of it, which has the same arguments."""
    if not isinstance(saved, Mapping) or set(saved) != set(FIELDS):
        raise ValueError(f"{name}: a plateau of the state must be a dict of {', '.join(FIELDS)}")
    try:
        then = plateau(**saved)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{name}: a plateau of the state cannot be: {problem}") from problem
    other = [
        f"{field}={getattr(then, field)!r} (here {getattr(one, field)!r})"
        for field in FIELDS
        if field not in SEEN and getattr(then, field) != getattr(one, field)
    ]
    if other:
        raise ValueError(
            f"{name}: the plateau of the state has {', '.join(other)}; load into one with the "
            f"arguments that were saved, then change them: dataclasses.replace(plateau, …) keeps "
            f"what was observed"
        )
    return {field: getattr(then, field) for field in SEEN}


def changes(seen: Iterable[tuple[plateau, dict[str, Any]]]) -> list[tuple[dict[str, Any], Any]]:
    """Return the dicts to update, each with what; refuse two pasts for one plateau."""
    known: dict[int, dict[str, Any]] = {}
    found = []
    for one, past in seen:
        if known.setdefault(id(one), past) != past:
            raise ValueError(
                f"one plateau stands here where the state has two with different pasts: {one!r}"
            )
        found.append((vars(one), past))
    return found
