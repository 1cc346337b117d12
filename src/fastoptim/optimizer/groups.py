"""Groups: parameters with hyperparameters of their own, chosen by a pattern or a predicate."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Self

from fastoptim.optimizer.hyperparameters import may_be_schedule
from fastoptim.optimizer.predicates import ParamInfo, Predicate, answer, check_predicate, name_of
from fastoptim.optimizer.tensor_options import UnitNorm
from fastoptim.optimizer.types import Schedule
from fastoptim.porting import answers

# These concern a whole update, all its gradients or all its kernels.
OF_THE_WHOLE = (
    "clip_norm", "norm", "nonfinite", "denormals", "groups", "lookahead", "rest", "to_rest",
    "state_dir",
)


class Group:
    """Other hyperparameters for the keys that match a pattern, or that a predicate picks.

    Parameters
    ----------
    pattern : str or callable
        A shell pattern for keys, case-sensitive: ``*`` any text, ``?`` one character, ``[ab]`` one
        of these. A key that is not a text is matched as ``str(key)``. Or a predicate: called as
        ``pattern(key, p)``, it returns True or False.
    **hyperparameters
        Any of the optimizer's, by name, numbers or schedules. Not clip_norm, norm,
        nonfinite, denormals, state_dir, lookahead, and `Muon`'s rest and to_rest, which concern
        the whole update.

    Notes
    -----
    The optimizer takes its own copy: change a group's values as ``opt.groups[0].lr = 0.1``.

    A predicate is asked once for each key, when the key is first seen. Its p has the parameter's
    `shape`, `dtype`, `ndim`, `size` and `nbytes`, but no elements: they change from update to
    update, and groups do not. A predicate is code and is not saved. The group of each key is, and
    `load` refuses a state whose keys are in other groups than the predicates here put them.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> opt = fo.SGD(lr=0.1, groups=[fo.Group("*.bias", lr=1.0)])
    >>> params = {"a.W": np.zeros(2), "a.bias": np.zeros(2)}
    >>> opt.update(params, {"a.W": np.ones(2), "a.bias": np.ones(2)})
    >>> params
    {'a.W': array([-0.1, -0.1]), 'a.bias': array([-1., -1.])}

    Weight decay for matrices alone:

    >>> opt = fo.AdamW(groups=[fo.Group(lambda key, p: p.ndim < 2, weight_decay=0.0)])
    """

    pattern: str | Predicate
    _asked: dict[tuple[object, ParamInfo], bool]
    _given: dict[str, Any]
    _checks: Mapping[str, Callable[[str, object], object]] | None
    _changed: Callable[[str, object, object], None]

    def __init__(
        self, pattern: str | Predicate,
        **hyperparameters: float | Schedule | bool | str | tuple[float, ...] | UnitNorm | None,
    ) -> None:
        if callable(pattern):
            check_predicate(pattern)
        elif not isinstance(pattern, str):
            raise TypeError(
                f"pattern must be a text such as '*.bias', or a predicate such as lambda key, p: "
                f"p.ndim < 2, got {answers.shown(pattern)}"
            )
        if not hyperparameters:
            raise TypeError(f"Group({name_of(pattern)}) gives no hyperparameter")
        for name in OF_THE_WHOLE:
            if name in hyperparameters:
                raise TypeError(f"{name} concerns the whole update and cannot be in a group")
        vars(self).update(pattern=pattern, _given=hyperparameters, _checks=None, _asked={})

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """What this group sets, by name; to change one, assign the attribute of that name."""
        return MappingProxyType(self._given)

    @property
    def label(self) -> str:
        """What messages call this group: its pattern in quotes, or its predicate's name."""
        return name_of(self.pattern)

    @property
    def title(self) -> str:
        """The pattern as it was given, or the predicate's name."""
        return self.pattern if isinstance(self.pattern, str) else self.label

    def __reduce__(self) -> Any:
        return unpickled, (type(self), self.pattern, dict(self._given))

    def __repr__(self) -> str:
        inside = "".join(f", {name}={value!r}" for name, value in self.hyperparameters.items())
        return f"Group({self.label}{inside})"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._given:
            return self._given[name]
        raise AttributeError(f"this group has no {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if self._checks is None:
            raise AttributeError("give a group to an optimizer first; then set opt.groups[k].name")
        checked = self._checked(name, value)
        self._changed(name, self._given.get(name, ...), checked)
        self._given[name] = checked

    def _checked(self, name: str, value: object) -> object:
        assert self._checks is not None
        check = self._checks.get(name)
        if check is None or name in OF_THE_WHOLE:
            close = get_close_matches(name, self._checks, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            hint = answers.synonym(name, self._checks) or hint
            raise TypeError(f"Group({self.label}) cannot set {name!r}{hint}")
        return value if callable(value) and may_be_schedule(check) else check(name, value)

    def bound(
        self, checks: Mapping[str, Callable[[str, object], object]],
        changed: Callable[[str, object, object], None],
    ) -> Self:
        """Return a copy whose hyperparameters are checked as an optimizer's are.

        `changed` is called with a name, the value before (... where it was the optimizer's) and the
        value that it gets, and may refuse that.
        """
        copy = type(self)(self.pattern, **self._given)
        vars(copy).update(_checks=checks, _changed=changed)
        for name, value in self.hyperparameters.items():
            copy._given[name] = copy._checked(name, value)
        return copy

    def matches(self, key: object, p: ParamInfo) -> bool:
        """Whether a key's parameter may belong to this group."""
        if isinstance(self.pattern, str):
            return fnmatchcase(str(key), self.pattern)
        if (key, p) not in self._asked:
            self._asked[key, p] = answer(self.pattern, key, p)
        return self._asked[key, p]


def unpickled(cls: type[Group], pattern: str | Predicate, values: dict[str, Any]) -> Group:
    """Return a group that was pickled; an optimizer binds it anew."""
    return cls(pattern, **values)


def index_of(groups: Iterable[Group], key: object, p: ParamInfo) -> int:
    """Return 1 + the place of the first group that a key matches, 0 if none."""
    return next((k for k, group in enumerate(groups, start=1) if group.matches(key, p)), 0)


def check_keys(groups: Iterable[Group], keys: Iterable[object], arrays: Iterable[object]) -> None:
    """Refuse a pattern or predicate that no key matches: a misspelt one would be ignored."""
    keys, infos = list(keys), [ParamInfo.of(p) for p in arrays]
    pairs = [(key, p) for key, p in zip(keys, infos, strict=True) if p is not None]
    if len(pairs) < len(keys):
        return  # what is no parameter is refused in a moment, by its name
    for group in groups:
        if not any(group.matches(key, p) for key, p in pairs):
            shown = ", ".join(map(repr, keys[:8])) + (", …" if len(keys) > 8 else "")
            raise ValueError(f"{group!r} matches no key; the keys are {shown}")


def place_of(groups: Sequence[Group], group: "int | Group | None") -> int:
    """Return where a group is among the views of an optimizer, whose first is of no group."""
    if group is None:
        return 0
    if isinstance(group, Group):
        for k, one in enumerate(groups):
            if one is group:
                return k + 1
        raise ValueError(f"{group!r} is none of this optimizer's groups; give one of opt.groups")
    if isinstance(group, bool) or not isinstance(group, int):
        raise TypeError(f"group must be one of opt.groups or its index, got {answers.shown(group)}")
    if not 0 <= group < len(groups):
        raise ValueError(f"this optimizer has {len(groups)} groups, counted from 0, got {group}")
    return group + 1
