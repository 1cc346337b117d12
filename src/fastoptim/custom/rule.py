"""Rules that users write: a function on one element of each array becomes an optimizer class."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from fastoptim.custom import numba_loop
from fastoptim.custom.body import Body
from fastoptim.custom.checks import (
    Coupled,
    check_function,
    checked_arguments,
    checked_codes,
    checked_hyperparameters,
    checked_norms,
    checked_state,
    defaults_of,
)
from fastoptim.custom.further_numbers import FurtherNumbers, picker
from fastoptim.optimizer.base import Optimizer, Slot
from fastoptim.optimizer.groups import Group
from fastoptim.optimizer.hyperparameters import hyper
from fastoptim.optimizer.tensor_options import NoTrustRatio, UnitNorm
from fastoptim.optimizer.types import Number, Schedule

NOTHING: Mapping[str, Any] = {}


class Rule(Optimizer):
    """What the classes that `rule` makes share."""

    rounds_to_0: ClassVar[bool] = True  # such as βᵗ; what it is for only its author knows
    body: ClassVar[Callable[..., Any]]
    _compiled: ClassVar[object]
    _numbers: ClassVar[numba_loop.Numbers]
    _arguments: ClassVar[tuple[str, ...]]
    _pick: ClassVar[Any]
    _further: ClassVar[FurtherNumbers | None]

    if TYPE_CHECKING:  # each class has its own

        def __init__(
            self, *numbers: float | Schedule,
            **hyperparameters: float | Schedule | bool | str | tuple[float, float] | UnitNorm
            | Sequence[Group] | None,
        ) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def capsule(self) -> object:
        """Return the compiled loop."""
        return self._compiled

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return the scalars that the kernel gets at a parameter's t-th update, t = 1, 2, …."""
        values = vars(self)
        return self._numbers(*self._pick(values, self._further and self._further(t, values)))

    def with_norms(self, t: int, norm_p: float = 1.0, norm_g: float = 1.0) -> tuple[float, ...]:
        """Return the same where the function asks for norms."""
        values, norms = vars(self), {"norm_p": norm_p, "norm_g": norm_g}
        further = self._further(t, values, norms) if self._further else {}
        return self._numbers(*self._pick(values, {**further, **norms}))


@overload
def rule(fn: Callable[..., Any], /) -> type[Rule]: ...
@overload
def rule(
    *,
    state: Sequence[str] | Mapping[str, str | None] = (),
    coefficients: Callable[..., Mapping[str, Any]] | None = None,
    norms: Sequence[Literal["p", "g"]] = (),
    int8: Mapping[str, Literal["signed", "unsigned"]] = NOTHING,
    **hyperparameters: float | tuple[float, str],
) -> Callable[[Callable[..., Any]], type[Rule]]: ...
def rule(
    fn: Callable[..., Any] | None = None, /, *,
    state: Sequence[str] | Mapping[str, str | None] = (),
    coefficients: Callable[..., Mapping[str, Any]] | None = None,
    norms: Sequence[Literal["p", "g"]] = (),
    int8: Mapping[str, Literal["signed", "unsigned"]] = NOTHING,
    **hyperparameters: float | tuple[float, str],
) -> Callable[[Callable[..., Any]], type[Rule]] | type[Rule]:
    r"""Make an optimizer class of a function that says what happens to one element.

    The function is called as f(p, g, \*state, \*numbers) and returns the new p, followed by the new
    state if there is any:

    .. math:: (p,\ s_1, …) \leftarrow f(p,\ g,\ s_1, …,\ \eta, …)

    It is compiled with numba into a loop of the built-in rules' kind, which the same driver runs:
    the class takes every option, groups and schedules, runs on all threads, and is saved and loaded
    like the others.

    Parameters
    ----------
    fn : callable, optional
        The function itself, where ``@fo.rule`` stands without parentheses: a rule without state,
        whose hyperparameters have their defaults in the ``def``, as in
        ``def Mine(p, g, lr=0.01, beta=(0.9, "[0, 1)"))``. lr may go without; it is then 0.01.
    state : tuple of str, or dict of str to str or None, default ()
        Names of up to six state arrays, each shaped like the parameter. They start at zero; in a
        dict each name has the hyperparameter that it starts at, or None.
    coefficients : callable, optional
        Called once per step with t, the number of this update of the parameter (1, 2, …), and
        hyperparameters, as many of them as it names; returns a dict of further numbers that the
        function takes, such as a bias correction.
    norms : tuple of "p" and "g", default ()
        Norms that the function, or `coefficients`, takes as the numbers ``norm_p`` and ``norm_g``:
        of the whole parameter before the step, and of the whole gradient as the rule sees it, after
        clipping and weight decay. They are summed in float64, and cost a pass that reads both.
    int8 : dict of str to {"signed", "unsigned"}, default {}
        State arrays that may be kept in 8 bits, where an optimizer has ``state_dtype="int8"``:
        "unsigned" for numbers that are never negative. Steps between codes are a quarter of a
        number or less, and larger for a signed one below 1/60,000 of the largest of its block of
        256, or an unsigned one below 1/4,000,000,000.
    **hyperparameters : float or (float, str)
        Defaults, by name, in the order in which the class takes them; with an interval, as in
        ``beta1=(0.9, "[0, 1)")``, outside which a value is refused. Without one any finite number
        will do; lr is in [0, inf).

    Returns
    -------
    callable
        A decorator for the function, which returns the class; given `fn`, the class. Its attribute
        ``body`` is the function.

    Raises
    ------
    ImportError
        numba is not installed: ``pip install 'fastoptim[custom]'``.
    TypeError, ValueError, NameError
        Something in the function cannot be in a rule, does not fit the names, or is not defined.
        The message has the file, the line and its text.

    Notes
    -----
    The function's arguments after g are the state in its order, then hyperparameters and what
    `coefficients` returns, in any order. Its body is arithmetic on single numbers: assignments,
    ``if`` and ``return``; + − × ÷ \*\*, comparisons, & | ~, ``and``, ``or``, ``not``, ``a if b
    else c``; of NumPy and math: where, clip, maximum, minimum, fmax, fmin, sign, abs, sqrt, square,
    copysign, floor, ceil, trunc, rint, isnan, isinf, isfinite, signbit, and exp, log, sin, tanh and
    their kin; max and min; and functions of your own that are written so. Numbers outside the
    function are taken as they are at definition. All of it is read from its source, which must be
    a file, a notebook or a doctest: text given to ``exec`` or ``python -c`` has none.

    Without exp and its kin, and powers other than −1, 0, 0.5, 1 and 2, the result is, to the bit,
    what NumPy gives for the same body on arrays with hyperparameters that are Python's floats: what
    depends on numbers alone, such as ``1 - beta1``, is computed in double, once per step, and
    rounded once to the arrays' dtype; everything else is in the arrays' dtype. With them the last
    places may differ from NumPy's. Which of 0 and −0 is the larger is as in NumPy on x86-64; fmax
    and fmin may give either, as NumPy's do, whose choice depends on the place in the array.
    Where NumPy would leave the dtype of float32 arrays, as in ``np.sqrt(beta) * g`` or
    ``np.where(g > 0, 1.0, 0.0)``, a rule stays in it.

    Both sides of an ``if`` on elements are computed, and one is chosen. A saved state has the
    class's name, its hyperparameters and its state arrays; that the body is still the same is for
    you to see to.

    Examples
    --------
    >>> import numpy as np, fastoptim as fo
    >>> @fo.rule(state=("m",), lr=1e-4, beta1=(0.9, "[0, 1)"), beta2=(0.99, "[0, 1)"))
    ... def MyLion(p, g, m, lr, beta1, beta2):
    ...     return p - lr * np.sign(beta1 * m + (1 - beta1) * g), beta2 * m + (1 - beta2) * g
    >>> params = {"x": np.array([5.0, 1.0])}                   # minimise x₀² + 50 x₁²
    >>> opt = MyLion(lr=0.1)
    >>> for step in range(3):
    ...     x = params["x"]
    ...     print(f"{x[0]**2 + 50 * x[1]**2:.3f}")
    ...     opt.update(params, {"x": np.array([2.0, 100.0]) * x})
    75.000
    64.510
    55.040

    >>> @fo.rule
    ... def Signs(p, g, lr=0.1):
    ...     return p - lr * np.sign(g)
    >>> Signs()
    Signs(lr=0.1)
    """
    if fn is not None:
        if state or coefficients is not None or norms or int8 or hyperparameters:
            raise TypeError(
                "rule is given a function, and arguments beside it; write rule(lr=0.01)(function), "
                "or @rule(lr=0.01) above its def"
            )
        check_function(fn, True)
        return made(fn, {}, checked_hyperparameters(defaults_of(fn)), None, (), {})
    starts = checked_state(state)
    signs = checked_codes(int8, starts)
    fields = checked_hyperparameters(hyperparameters)
    for slot, start in starts.items():
        if slot in fields:
            raise ValueError(f"{slot} is both a state array and a hyperparameter")
        if start is not None and start not in fields:
            raise ValueError(f"state {slot!r} starts at {start!r}, which is no hyperparameter")
    asked = checked_norms(norms)
    for name in asked:
        if name in starts:
            raise ValueError(f"{name} is both a state array and a norm that norms asks for")
    further = None if coefficients is None else FurtherNumbers(coefficients, fields, asked)

    def decorate(fn: Callable[..., Any]) -> type[Rule]:
        check_function(fn)
        return made(fn, starts, fields, further, asked, signs)

    return decorate


def slot_of(name: str, start: str | None, signs: Mapping[str, bool]) -> Slot:
    """Return a state array of a rule."""
    if name in signs:
        return Slot(start, signed=signs[name])
    return Slot(start, not_in_8_bits=f"rule was not given int8={{{name!r}: …}}")


def made(
    fn: Callable[..., Any],
    starts: Mapping[str, str | None],
    fields: Mapping[str, Any],
    further: FurtherNumbers | None,
    norms: tuple[str, ...],
    signs: Mapping[str, bool],
) -> type[Rule]:
    """Return the class of a function, of its state, hyperparameters and further numbers."""
    numba_loop.numba()
    assert isinstance(fn, FunctionType)
    arguments = checked_arguments(fn, starts, fields, further, norms)
    body = Body(fn, len(starts))
    namespace: dict[str, Any] = {
        "kernels": {fn.__name__: tuple(starts)},
        "body": staticmethod(fn),
        "_compiled": numba_loop.capsule(fn.__name__, body, len(starts)),
        "_numbers": staticmethod(numba_loop.numbers_of(body)),
        "_arguments": arguments,
        "_pick": staticmethod(picker(arguments, (*(further.names if further else ()), *norms))),
        "_further": further,
        "norms": "seen" if norms else "",
        "__doc__": documentation(fn, fields, starts),
        **{slot: slot_of(slot, start, signs) for slot, start in starts.items()},
    }
    of_class: list[tuple[str, Any, Any]] = [(n, Number, field) for n, field in fields.items()]
    if norms:
        namespace["coefficients"] = Rule.with_norms
    no_step = ""
    if "lr" not in fields:
        field = hyper(False, Coupled(fn.__name__), kw_only=True)
        of_class.append(("decoupled", bool, field))
        no_step = f"{fn.__name__} has no lr to measure it by"
    elif not body.adds_a_step:
        no_step = f"{fn.__name__} does more with p than to add a step to it"
    if no_step:
        field = hyper(False, NoTrustRatio(no_step), kw_only=True)
        of_class.append(("trust_ratio", bool, field))
    cls = dataclasses.make_dataclass(
        fn.__name__, of_class, bases=(Rule,), namespace=namespace, eq=False, repr=False
    )
    cls.__module__, cls.__qualname__ = fn.__module__, fn.__qualname__
    return cls


def documentation(
    fn: FunctionType, fields: Mapping[str, Any], starts: Mapping[str, str | None]
) -> str:
    """Return the class's docstring: the function's, and a list of what the class takes."""
    text = inspect.cleandoc(fn.__doc__ or f"{fn.__name__}, a rule made by fastoptim.rule.")
    if re.search(r"^Parameters\n-+$", text, re.MULTILINE):
        return text
    sections = {
        "Parameters": [
            f"{name} : float in {field.metadata['check'].text}, default {field.default!r}"
            for name, field in fields.items()
        ],
        "Attributes": [
            f"{slot} : mapping of key to array, which starts at {start or 0}"
            for slot, start in starts.items()
        ],
    }
    for title, entries in sections.items():
        if entries:
            text += f"\n\n{title}\n{'-' * len(title)}\n" + "\n".join(entries)
    return text
