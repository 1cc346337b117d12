"""What pickle keeps of an optimizer: its class, its hyperparameters and its state.

Schedules and predicates are pickled as pickle sees fit: a function of a module by its name, a
lambda not at all; those tools that can do more (cloudpickle, in joblib's workers) do more.
Checkpoints have no part in this, and are pickle-free.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastoptim.ode import state as ode_state
from fastoptim.optimizer import state
from fastoptim.optimizer.hyperparameters import checks_of

if TYPE_CHECKING:
    from fastoptim.ode.runge_kutta import RungeKutta
    from fastoptim.optimizer.base import Optimizer

Parts = tuple[type[Any], dict[str, Any], dict[str, Any]]


def of_optimizer(opt: "Optimizer") -> tuple[Callable[..., Any], Parts]:
    """Return how an optimizer is made again."""
    return optimizer, (type(opt), values_of(opt), opt.state_dict())


def optimizer(cls: type[Any], values: dict[str, Any], saved: dict[str, Any]) -> Any:
    """Return an optimizer that was pickled."""
    opt = cls(**values)
    state.load(opt, saved)
    return opt


def without_state(opt: "Optimizer") -> tuple[Callable[..., Any], tuple[Any, dict[str, Any]]]:
    """Return how an optimizer is made again that is a part of another, which has the state."""
    return new, (type(opt), values_of(opt))


def new(cls: type[Any], values: dict[str, Any]) -> Any:
    """Return an optimizer without state."""
    return cls(**values)


def of_method(opt: "RungeKutta") -> tuple[Callable[..., Any], Parts]:
    """Return how a Runge–Kutta method is made again."""
    return method, (type(opt), values_of(opt), opt.state_dict())


def method(cls: type[Any], values: dict[str, Any], saved: dict[str, Any]) -> Any:
    """Return a Runge–Kutta method that was pickled."""
    opt = cls(**values)
    ode_state.load(opt, saved)
    return opt


def values_of(opt: Any) -> dict[str, Any]:
    """Return hyperparameters by name, schedules and groups themselves.

    The folder of an optimizer's state stays its own: the state of a copy is in memory.
    """
    return {name: vars(opt)[name] for name in checks_of(type(opt)) if name != "state_dir"}
