"""Rules that users write: a function on one element of each array becomes an optimizer class."""

import dataclasses
import inspect
import keyword
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from fastoptim.custom import numba_loop
from fastoptim.custom.body import Body, own_signature
from fastoptim.kernels.api import MOST_SLOTS
from fastoptim.optimizer.base import Number, Optimizer, Slot
from fastoptim.optimizer.hyperparameters import Flag, Interval, hyper, real_number

ENDS = re.compile(r"[\[(]\s*([^\s,]+)\s*,\s*([^\s,]+)\s*[\])]")


class Rule(Optimizer):
    """What the classes that `rule` makes share."""

    rounds_to_0: ClassVar[bool] = True  # such as βᵗ; what it is for only its author knows
    body: ClassVar[Callable[..., Any]]
    _compiled: ClassVar[object]
    _numbers: ClassVar[numba_loop.Numbers]
    _arguments: ClassVar[tuple[str, ...]]
    _pick: ClassVar[Any]
    _fold: ClassVar["Fold | None"]

    if TYPE_CHECKING:  # each class has its own

        def __init__(self, *args: Any, **hyperparameters: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    def capsule(self) -> object:
        return self._compiled

    def coefficients(self, t: int) -> tuple[float, ...]:
        """Return the scalars that the kernel gets at a parameter's t-th update, t = 1, 2, …."""
        values = vars(self)
        return self._numbers(*self._pick(values, self._fold and self._fold(t, values)))


Pick = Callable[[Mapping[str, Any], Any], Sequence[Any]]


def picker(names: Sequence[str], others: Collection[str] = ()) -> Pick:
    """Return a function of two dicts that takes these names out of one, others out of the other.

    It runs at every update, so it is one expression; merging the dicts would cost more.
    """
    items = (f"{'others' if name in others else 'values'}[{name!r}]" for name in names)
    pick: Pick = eval(f"lambda values, others: ({''.join(f'{item}, ' for item in items)})")
    return pick


def rule(
    *,
    state: Sequence[str] | Mapping[str, str | None] = (),
    coefficients: Callable[..., Mapping[str, Any]] | None = None,
    **hyperparameters: Any,
) -> Callable[[Callable[..., Any]], type[Rule]]:
    r"""Make an optimizer class of a function that says what happens to one element.

    The function is called as f(p, g, \*state, \*numbers) and returns the new p, followed by the new
    state if there is any:

    .. math:: (p,\ s_1, …) \leftarrow f(p,\ g,\ s_1, …,\ \eta, …)

    It is compiled with numba into a loop of the built-in rules' kind, which the same driver runs:
    the class takes every option, groups and schedules, runs on all threads, and is saved and loaded
    like the others.

    Parameters
    ----------
    state : tuple of str, or dict of str to str or None, default ()
        Names of up to six state arrays, each shaped like the parameter. They start at zero; in a
        dict each name has the hyperparameter that it starts at, or None.
    coefficients : callable, optional
        Called once per step with t, the number of this update of the parameter (1, 2, …), and
        hyperparameters, as many of them as it names; returns a dict of further numbers that the
        function takes, such as a bias correction.
    **hyperparameters : float or (float, str)
        Defaults, by name, in the order in which the class takes them; with an interval, as in
        ``beta1=(0.9, "[0, 1)")``, outside which a value is refused. Without one any finite number
        will do; lr is in [0, inf).

    Returns
    -------
    callable
        A decorator for the function, which returns the class. Its attribute ``body`` is the
        function.

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
    """
    starts = checked_state(state)
    fields = checked_hyperparameters(hyperparameters)
    for slot, start in starts.items():
        if slot in fields:
            raise ValueError(f"{slot} is both a state array and a hyperparameter")
        if start is not None and start not in fields:
            raise ValueError(f"state {slot!r} starts at {start!r}, which is no hyperparameter")
    fold = None if coefficients is None else Fold(coefficients, fields)

    def decorate(fn: Callable[..., Any]) -> type[Rule]:
        numba_loop.numba()
        check_function(fn)
        assert isinstance(fn, FunctionType)
        arguments = checked_arguments(fn, starts, fields, fold)
        body = Body(fn, len(starts))
        namespace: dict[str, Any] = {
            "kernels": {fn.__name__: tuple(starts)},
            "body": staticmethod(fn),
            "_compiled": numba_loop.capsule(fn.__name__, body, len(starts)),
            "_numbers": staticmethod(numba_loop.numbers_of(body)),
            "_arguments": arguments,
            "_pick": staticmethod(picker(arguments, fold.names if fold else ())),
            "_fold": fold,
            "__doc__": documentation(fn, fields, starts),
            **{slot: Slot(start) for slot, start in starts.items()},
        }
        of_class = [(name, Number, field) for name, field in fields.items()]
        if "lr" not in fields:
            field = hyper(False, Coupled(fn.__name__), kw_only=True)
            of_class.append(("decoupled", bool, field))
        cls = dataclasses.make_dataclass(
            fn.__name__, of_class, bases=(Rule,), namespace=namespace, eq=False, repr=False
        )
        cls.__module__, cls.__qualname__ = fn.__module__, fn.__qualname__
        return cls

    return decorate


class Coupled(Flag):
    """False: a rule without lr has nothing that its weight decay could be multiplied by."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def __call__(self, name: str, value: object) -> bool:
        """Return False, or say why it cannot be True."""
        if super().__call__(name, value):
            raise ValueError(
                f"{name}=True multiplies by 1 − lr·weight_decay, and {self.rule} has no lr"
            )
        return False


class Fold:
    """The user's function from t and hyperparameters to further numbers."""

    def __init__(self, function: Callable[..., Any], fields: Mapping[str, Any]) -> None:
        if not callable(function):
            raise TypeError(
                f"coefficients must be a function of t and hyperparameters, got {function!r}"
            )
        self.function = function
        parameters = inspect.signature(function).parameters
        self.parameters = tuple(parameters)
        self.pick = picker(self.parameters, {"t"})
        for name, parameter in parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                raise TypeError(f"coefficients must take {name} by position")
            if name != "t" and name not in fields:
                raise TypeError(
                    f"coefficients takes {name!r}, which is neither t nor one of the "
                    f"hyperparameters {', '.join(fields)}"
                )
        self.names: dict[str, None] = {}
        values = {name: field.default for name, field in fields.items()}
        self.names = dict.fromkeys(self(1, values))
        if not self.names:
            raise ValueError("coefficients returns nothing; leave it out")
        for name in self.names:
            if name in fields:
                raise ValueError(
                    f"coefficients returns {name!r}, which is a hyperparameter; choose another name"
                )

    def __call__(self, t: int, values: Mapping[str, Any]) -> Mapping[str, float]:
        """Return the further numbers, checked."""
        given = self.pick(values, {"t": t})
        try:
            result = self.function(*given)
        except Exception as problem:
            named = zip(self.parameters, given, strict=True)
            numbers = ", ".join(f"{name} = {value!r}" for name, value in named)
            problem.add_note(f"in coefficients of a rule, called with {numbers}")
            raise
        if type(result) is not dict and not isinstance(result, Mapping):
            raise TypeError(
                f"coefficients must return a dict of names and numbers, such as "
                f"{{'lr_t': …}}; got {result!r}"
            )
        if self.names and result.keys() != self.names.keys():
            raise ValueError(
                f"coefficients returned {', '.join(map(str, result))} at t = {t}, and "
                f"{', '.join(self.names)} with the defaults at t = 1; the names must not change"
            )
        for value in result.values():
            if type(value) is not float:
                return {
                    name: float(x) if isinstance(x, float)  # np.float64, of np.sqrt and its kin
                    else real_number(f"{name}, as coefficients returns it,", x, "a number")
                    for name, x in result.items()
                }
        return result


def check_name(name: object, what: str) -> str:
    """Return a name if an attribute of the class can have it."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name, got {name!r}")
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"{what} must be a name without a leading underscore, got {name!r}")
    if name == "body" or hasattr(Rule, name):  # the options are attributes, too: their defaults
        raise ValueError(f"{name!r} is an option or attribute of every optimizer; rename {what}")
    return name


def checked_state(state: object) -> dict[str, str | None]:
    """Return the state's names, and the hyperparameter that each starts at."""
    if isinstance(state, str) or not isinstance(state, (Sequence, Mapping)):
        raise TypeError(f"state must be a tuple of names, such as ('m', 'v'), got {state!r}")
    starts = dict(state) if isinstance(state, Mapping) else dict.fromkeys(state)
    for slot in starts:
        check_name(slot, "a state array")
    if len(starts) != len(state):
        raise ValueError(f"state names an array twice: {state!r}")
    if len(starts) > MOST_SLOTS:
        raise ValueError(f"a rule has at most {MOST_SLOTS} state arrays, got {len(starts)}")
    return starts


def checked_hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field of the class for each hyperparameter."""
    fields = {}
    for name, value in given.items():
        check_name(name, "the hyperparameter")
        if name == "t":
            raise ValueError("t is the number of the update, and cannot be a hyperparameter")
        default, text = value, "[0, inf)" if name == "lr" else "(-inf, inf)"
        if isinstance(value, tuple):
            if len(value) != 2 or not isinstance(value[1], str):
                raise TypeError(
                    f"{name} must be a number, or a number and an interval such as "
                    f"(0.9, '[0, 1)'), got {value!r}"
                )
            default, text = value
        check = interval(name, text)
        fields[name] = hyper(check(name, default), check)
    return fields


def interval(name: str, text: str) -> Interval:
    """Return an interval that a user wrote."""
    ends = ENDS.fullmatch(text.strip())
    try:
        low, high = map(float, ends.groups()) if ends else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if not low <= high:
        raise ValueError(f"the interval of {name} must be such as '[0, 1)', got {text!r}")
    return Interval(text.strip())


def check_function(fn: object) -> None:
    """Refuse what is not a plain function with a name."""
    if not isinstance(fn, FunctionType) or fn.__name__ == "<lambda>":
        raise TypeError(f"a rule is made of a function with a name, by def; got {fn!r}")
    if inspect.iscoroutinefunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"{fn.__name__} must be a plain function, without async, await and yield")
    for name, parameter in own_signature(fn).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{fn.__name__} must name each of its arguments, and takes *{name}")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise TypeError(f"{fn.__name__} must take {name} by position")
        if parameter.default is not parameter.empty:
            raise TypeError(
                f"{fn.__name__} gives {name} a default; defaults are given to rule({name}=…)"
            )


def checked_arguments(
    fn: FunctionType, starts: Mapping[str, Any], fields: Mapping[str, Any], fold: Fold | None
) -> tuple[str, ...]:
    """Return the numbers that a function takes, if it takes what a rule of these names should."""
    arguments = tuple(own_signature(fn).parameters)
    folded = tuple(fold.names) if fold else ()
    n = 2 + len(starts)
    slots = ", ".join(["p", "g", *starts])
    if len(arguments) < n or arguments[2:n] != tuple(starts):
        raise TypeError(
            f"{fn.__name__} must take {slots}, in this order, and then its numbers; it takes "
            f"{', '.join(arguments)}"
        )
    if arguments[0] == "g" or arguments[1] == "p":  # other names are the user's affair
        raise TypeError(
            f"{fn.__name__} must take the parameter p first and then its gradient g; it takes "
            f"{', '.join(arguments)}"
        )
    for name in arguments[:2]:
        if name in fields or name in folded:
            raise TypeError(
                f"{fn.__name__} must take {slots} and then its numbers; its first two arguments "
                f"are {', '.join(arguments[:2])}, but {name} is a number"
            )
    numbers = arguments[n:]
    for name in numbers:
        if name not in fields and name not in folded:
            raise TypeError(
                f"{fn.__name__} takes {name}, which is neither of its state nor one of its numbers "
                f"({', '.join([*fields, *folded]) or 'it has none'})"
            )
    used = {*numbers, *starts.values(), *(fold.parameters if fold else ())}
    for name in (*fields, *folded):
        if name not in used:
            source = "coefficients returns" if name in folded else "rule gives it"
            raise TypeError(f"{fn.__name__} does not take {name}, which {source}")
    return numbers


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
