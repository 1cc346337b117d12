"""Groups: parameters with hyperparameters of their own, chosen by patterns of their keys."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Self

from fastoptim.optimizer.hyperparameters import may_be_schedule
from fastoptim.porting import answers

# These concern a whole update, all its gradients or all its kernels.
OF_THE_WHOLE = ("clip_norm", "norm", "nonfinite", "denormals", "groups", "lookahead")


class Group:
    """Other hyperparameters for the keys that match a pattern.

    Parameters
    ----------
    pattern : str
        A shell pattern for keys, case-sensitive: ``*`` any text, ``?`` one character, ``[ab]`` one
        of these. A key that is not a text is matched as ``str(key)``.
    **hyperparameters
        Any of the optimizer's, by name, numbers or schedules. Not clip_norm, nonfinite and
        denormals, which concern the whole update.

    Notes
    -----
    The optimizer takes its own copy: change a group's values as ``opt.groups[0].lr = 0.1``.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> opt = fo.SGD(lr=0.1, groups=[fo.Group("*.bias", lr=1.0)])
    >>> params = {"a.W": np.zeros(2), "a.bias": np.zeros(2)}
    >>> opt.update(params, {"a.W": np.ones(2), "a.bias": np.ones(2)})
    >>> params
    {'a.W': array([-0.1, -0.1]), 'a.bias': array([-1., -1.])}
    """

    pattern: str
    _given: dict[str, Any]
    _checks: Mapping[str, Callable[[str, object], object]] | None
    _changed: Callable[[], None]

    def __init__(self, pattern: str, **hyperparameters: Any) -> None:
        if not isinstance(pattern, str):
            raise TypeError(f"pattern must be a text such as '*.bias', got {pattern!r}")
        if not hyperparameters:
            raise TypeError(f"Group({pattern!r}) gives no hyperparameter")
        for name in OF_THE_WHOLE:
            if name in hyperparameters:
                raise TypeError(f"{name} concerns the whole update and cannot be in a group")
        vars(self).update(pattern=pattern, _given=hyperparameters, _checks=None)

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """What this group sets, by name; to change one, assign the attribute of that name."""
        return MappingProxyType(self._given)

    def __repr__(self) -> str:
        inside = "".join(f", {name}={value!r}" for name, value in self.hyperparameters.items())
        return f"Group({self.pattern!r}{inside})"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._given:
            return self._given[name]
        raise AttributeError(f"this group has no {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        if self._checks is None:
            raise AttributeError("give a group to an optimizer first; then set opt.groups[k].name")
        self._given[name] = self._checked(name, value)
        self._changed()

    def _checked(self, name: str, value: object) -> object:
        assert self._checks is not None
        check = self._checks.get(name)
        if check is None or name in OF_THE_WHOLE:
            close = get_close_matches(name, self._checks, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            hint = answers.synonym(name, self._checks) or hint
            raise TypeError(f"Group({self.pattern!r}) cannot set {name!r}{hint}")
        return value if callable(value) and may_be_schedule(check) else check(name, value)

    def bound(
        self, checks: Mapping[str, Callable[[str, object], object]], changed: Callable[[], None]
    ) -> Self:
        """Return a copy whose hyperparameters are checked as an optimizer's are."""
        copy = type(self)(self.pattern, **self._given)
        vars(copy).update(_checks=checks, _changed=changed)
        for name, value in self.hyperparameters.items():
            copy._given[name] = copy._checked(name, value)
        return copy

    def matches(self, key: object) -> bool:
        """Whether a key's parameter may belong to this group."""
        return fnmatchcase(str(key), self.pattern)


def index_of(groups: Iterable[Group], key: object) -> int:
    """Return 1 + the place of the first group that a key matches, 0 if none."""
    return next((k for k, group in enumerate(groups, start=1) if group.matches(key)), 0)


def check_keys(groups: Iterable[Group], keys: Iterable[object]) -> None:
    """Refuse a pattern that no key matches: a misspelt one would be ignored."""
    keys = list(keys)
    for group in groups:
        if not any(group.matches(key) for key in keys):
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
        raise TypeError(f"group must be one of opt.groups or its index, got {group!r}")
    if not 0 <= group < len(groups):
        raise ValueError(f"this optimizer has {len(groups)} groups, counted from 0, got {group}")
    return group + 1
