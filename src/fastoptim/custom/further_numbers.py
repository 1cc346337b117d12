"""The numbers that a rule computes from t and its hyperparameters, once per step."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fastoptim.optimizer.hyperparameters import real_number
from fastoptim.porting.answers import shown

NONE: Mapping[str, float] = {}

Pick = Callable[[Mapping[str, Any], Any], Sequence[Any]]


def picker(names: Sequence[str], others: Collection[str] = ()) -> Pick:
    """Return a function of two dicts that takes these names out of one, others out of the other.

    It runs at every update, so it is one expression; merging the dicts would cost more.
    """
    items = (f"{'others' if name in others else 'values'}[{name!r}]" for name in names)
    pick: Pick = eval(f"lambda values, others: ({''.join(f'{item}, ' for item in items)})")
    return pick


class FurtherNumbers:
    """The user's function from t and hyperparameters to further numbers."""

    def __init__(
        self, function: Callable[..., Any], fields: Mapping[str, Any], norms: Collection[str] = ()
    ) -> None:
        if not callable(function):
            raise TypeError(
                f"coefficients must be a function of t and hyperparameters, got {shown(function)}"
            )
        self.function = function
        parameters = inspect.signature(function).parameters
        self.parameters = tuple(parameters)
        self.pick = picker(self.parameters, {"t", *norms})
        for name, parameter in parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                raise TypeError(f"coefficients must take {name} by position")
            if name != "t" and name not in fields and name not in norms:
                raise TypeError(
                    f"coefficients takes {name!r}, which is neither t nor one of the "
                    f"hyperparameters {', '.join(fields)}"
                )
        self.names: dict[str, None] = {}
        values = {name: field.default for name, field in fields.items()}
        self.names = dict.fromkeys(self(1, values, dict.fromkeys(norms, 1.0)))
        if not self.names:
            raise ValueError("coefficients returns nothing; leave it out")
        for name in self.names:
            if name in fields:
                raise ValueError(
                    f"coefficients returns {name!r}, which is a hyperparameter; choose another name"
                )
            if name in norms:
                raise ValueError(
                    f"coefficients returns {name!r}, which norms asks for; choose another name"
                )

    def __call__(
        self, t: int, values: Mapping[str, Any], norms: Mapping[str, float] = NONE
    ) -> Mapping[str, float]:
        """Return the further numbers, checked."""
        given = self.pick(values, {"t": t, **norms})
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
                f"{{'lr_t': …}}; got {shown(result)}"
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
