"""What people who come from other libraries try first, answered in this library's terms.

Nothing here makes a call succeed: it finds the words for one that cannot. The checks themselves
are in hyperparameters.py.
"""

import dataclasses
import functools
import inspect
import operator
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from fastoptim.porting.tensors import is_of_torch

# What it is called elsewhere: what it may be here. The first of which a class has all is meant.
SYNONYMS: dict[str, tuple[str, ...]] = {
    name: candidates
    for names, candidates in (
        ("learning_rate learning_rate_init step_size stepsize eta eta0", ("lr",)),
        ("momentum mom", ("alpha", "mu", "beta")),
        ("mu beta1", ("alpha", "mu", "momentum")),
        ("gamma beta", ("alpha", "mu", "decay_rate", "rho", "momentum")),
        ("alpha", ("mu", "decay_rate", "rho")),
        ("rho beta2", ("decay_rate", "rho")),
        ("decay", ("decay_rate", "rho", "lr_decay")),
        ("decay_rate", ("rho",)),
        ("betas", ("beta1 beta2 beta3", "beta1 beta2")),
        ("beta_1 b1", ("beta1",)),
        ("beta_2 b2", ("beta2",)),
        ("beta_3 b3", ("beta3",)),
        ("eps", ("eps1 eps2",)),
        ("epsilon_1", ("eps1",)),
        ("epsilon_2", ("eps2",)),
        ("clip_threshold clipping_threshold", ("d",)),
        ("min_dim_size_to_factor", ("factor_from",)),
        ("multiply_by_parameter_scale", ("scale_parameter",)),
        ("epsilon eps_hat", ("eps",)),
        ("epsilon_root", ("eps_root",)),
        ("initial_accumulator_value", ("initial",)),
        ("learning_rate_decay", ("lr_decay",)),
        ("lambda_ lambd lamda lam wd l2 reg weightdecay weight_decay_rate", ("weight_decay",)),
        ("l1_regularization_strength", ("l1",)),
        ("l2_regularization_strength", ("l2",)),
        ("decoupled_weight_decay", ("decoupled",)),
        ("global_clipnorm max_grad_norm max_norm", ("clip_norm",)),
        ("clipvalue", ("clip_value",)),
        ("clip_factor adaptive_grad_clip", ("agc",)),
        ("use_gc gradient_centralization", ("centralize",)),
        ("adjust_lr_fn", ("adjust_lr",)),
        ("clipnorm clip_norm_per_tensor per_param_clip", ("clip_norm_per_key",)),
        ("correct_bias debias", ("bias_correction",)),
        ("etas", ("eta_minus eta_plus",)),
        ("step_sizes", ("step_min step_max",)),
        ("momentum_decay", ("psi",)),
        ("ema_momentum", ("average",)),
        ("initial_accumulator", ("initial",)),
        ("maximise", ("maximize",)),
        ("trust_coefficient trust_coeff", ("trust",)),
        ("kernel_constraint bias_constraint embeddings_constraint", ("constraint",)),
    )
    for name in names.split()
}

# What a class lacks: where it is.
ELSEWHERE = {
    "momentum": "fastoptim.Momentum has it as alpha, fastoptim.HeavyBall (PyTorch's form) as mu",
    "nesterov": "see fastoptim.Nesterov, and fastoptim.HeavyBall(nesterov=True) for PyTorch's form",
    "dampening": "fastoptim.HeavyBall has it",
    "centered": "fastoptim.RMSprop has it",
    "trust_clip": "trust_ratio=(0, 1) bounds the ratio",
    "amsgrad": "fastoptim.Adam has it",
    "warmup_steps": "a rate that rises is a schedule: lr=fastoptim.schedules.linear(…)",
    "decay": "a rate that falls is a schedule: lr=fastoptim.schedules.inverse_time_decay(…)",
    **dict.fromkeys(
        ("foreach", "fused", "capturable", "differentiable", "jit_compile"),
        "every update is one compiled pass; leave it out",
    ),
}

PARAMETERS = ("params", "parameters", "named_parameters", "var_list", "model")

# What is asked of an optimizer (a `NotHere` of hyperparameters.py each): what to do instead.
ATTRIBUTES = {
    "param_groups": "hyperparameters are attributes, as in opt.lr = 0.1; "
    "groups=[fastoptim.Group(…)] gives some keys their own",
    "apply_gradients": "use opt.update(params, grads)",
    "minimize": "use opt.step(params, fn)",
    "iterations": "the number of completed updates is opt.iter",
    "eval": "within `with opt.evaluation(params)` the parameters hold the point to evaluate at",
    "train": "leave `with opt.evaluation(params)`, and the parameters are those of training again",
    "evaluation": "the parameters themselves are the point to evaluate at; their averages, with "
    "average=…, take their place in opt.averaged(params)",
}


# Rules that have another name here, or none: where they are.
RULES = {
    "signum": "it is fastoptim.SignSGD(momentum=0.9)",
    "schedulefree": "there are fastoptim.ScheduleFreeSGD and fastoptim.ScheduleFreeAdamW",
    "sgdschedulefree": "it is fastoptim.ScheduleFreeSGD",
    "adamwschedulefree": "it is fastoptim.ScheduleFreeAdamW",
    "nag": "see fastoptim.Nesterov",
    **dict.fromkeys(
        ("ademamix", "adopt", "novograd", "madgrad", "lookahead"),
        "it is a dozen lines with fastoptim.rule, to be copied from docs/bodies.md",
    ),
}


class Short(reprlib.Repr):
    """A repr that says of a large array what shape it has."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200

    def repr_ndarray(self, x: np.ndarray[Any, Any], level: int) -> str:
        """Return an array of a few numbers as it is, any other's shape."""
        return repr(x) if x.size <= 8 else f"array of shape {x.shape}"


shown = Short().repr


def unknown(cls: str, name: str, known: Collection[str]) -> str:
    """Return what to say of a hyperparameter that a class does not have."""
    if name in PARAMETERS:
        return no_place_for_parameters(cls)
    here = synonym(name, known)
    if here:
        return f"{cls} has no {name!r}{here}"
    if name.lower() in ELSEWHERE:
        return f"{cls} has no {name!r}; {ELSEWHERE[name.lower()]}"
    close = get_close_matches(name.lower(), known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
    return f"{cls} has no hyperparameter {name!r}; {hint}"


def of_module(name: str, known: Collection[str]) -> str:
    """Return what to say of a public name that is not there."""
    text = f"module 'fastoptim' has no attribute {name!r}"
    if name.lower() in RULES:
        return f"{text}; {RULES[name.lower()]}"
    lower = {one.lower(): one for one in known}
    close = [] if name.startswith("_") else get_close_matches(name.lower(), lower, 1, 0.75)
    return f"{text}; did you mean {lower[close[0]]!r}?" if close else text


def synonym(name: str, known: Collection[str]) -> str:
    """Return what a name of another library is among those known, "" if nothing."""
    for candidate in SYNONYMS.get(name.lower(), ()):
        names = candidate.split()
        if all(one in known for one in names):
            listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
            return f"; here {'it is' if len(names) == 1 else 'they are'} {listed}"
    return ""


def no_place_for_parameters(cls: str, given: object = None) -> str:
    """Return what to say when an optimizer is made with parameters."""
    of_torch = "; for those of PyTorch see fastoptim.torch" if is_of_torch(given) else ""
    return (
        f"{cls} is made without parameters; parameters go to update(params, grads), each time"
        f"{of_torch}"
    )


def are_parameters(x: object) -> bool:
    """Whether x, given where a number should be, is what other optimizers are made with."""
    if isinstance(x, (str, bytes)) or getattr(x, "shape", None) == ():
        return False
    return (
        isinstance(x, Iterable) or callable(getattr(x, "parameters", None))
        or isinstance(getattr(x, "params", None), Mapping)
    )


def check_arguments(cls: type, args: Sequence[object], named: Mapping[str, object]) -> None:
    """Refuse arguments that the class is not made with, in words that say what it is made with."""
    code = getattr(cls.__init__, "__code__", None)  # type: ignore[misc]
    if code is None or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    by_position = names[: code.co_argcount - 1]
    if args and by_position[:1] == ("lr",) and are_parameters(args[0]):
        raise TypeError(no_place_for_parameters(cls.__name__, args[0]))
    for name in named:
        if name not in names:
            if name in PARAMETERS:
                raise TypeError(no_place_for_parameters(cls.__name__, named[name]))
            raise TypeError(unknown(cls.__name__, name, names))
    if len(args) > len(by_position):
        raise TypeError(
            f"{cls.__name__} has {', '.join(by_position)} as positional arguments, got "
            f"{len(args)}; the others are given by name"
        )
    for name in by_position[: len(args)]:
        if name in named:
            raise TypeError(f"{cls.__name__} was given {name} twice, by position and by name")


def attribute(cls: type, name: str, known: Collection[str]) -> str:
    """Return what to say when an attribute that is not there is asked for."""
    if name == "zero_grad":
        hint = "gradients are made anew at each step"
        if "zero_grads" in known:
            hint += "; for code that adds to its own, zero_grads=True zeroes them in the update"
        return f"{cls.__name__} has no {name!r}: {hint}"
    if name in ATTRIBUTES and hasattr(cls, "update"):
        of_rest = "; a schedule-free rest has it: opt.rest.evaluation(params)"
        more = of_rest if name == "evaluation" and "rest" in known else ""
        return f"{cls.__name__} has no {name!r}: {ATTRIBUTES[name]}{more}"
    if name in SYNONYMS:
        return unknown(cls.__name__, name, known)
    return f"{cls.__name__!r} object has no attribute {name!r}"


class NotHere:
    """What a class has in place of an attribute of other libraries: hasattr says that it is not."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        of_rule = dataclasses.is_dataclass(owner)  # pydoc asks the bases of rules, too
        fields = [field.name for field in dataclasses.fields(owner)] if of_rule else []
        raise AttributeError(attribute(owner, self.name, fields))

    def __repr__(self) -> str:
        return "<not here; asking for it says what is>"


def is_not_here(cls: type, name: str) -> bool:
    """Whether a class has a `NotHere` of this name."""
    return isinstance(inspect.getattr_static(cls, name, None), NotHere)


Method = Callable[..., Any]


def step_door(step: Method) -> Method:
    """Return a method step(params, fn) that answers PyTorch's step() and step(closure)."""
    takes = list(inspect.signature(step).parameters)
    if takes[1:] != ["params", "fn"]:
        return step  # of a subclass of the user's, which has its own idea

    @functools.wraps(step)
    def door(self: Any, *args: Any, **named: Any) -> Any:
        if len(args) + len(named) < 2:
            other = "; with the gradients at hand, opt.update(params, grads)"
            raise TypeError(
                f"step needs the parameters and a function: opt.step(params, fn), where fn(params) "
                f"returns grads or (loss, grads){other if hasattr(self, 'update') else ''}"
            )
        fn = named["fn"] if "fn" in named else args[-1]
        if not callable(fn) and len(args) + len(named) == 2:
            other = "; with the gradients at hand call opt.update(params, grads)"
            raise TypeError(
                f"fn must be a function of params that returns grads or (loss, grads), got "
                f"{shown(fn)} ({type(fn).__name__}){other if hasattr(self, 'update') else ''}"
            )
        return step(self, *args, **named)

    return door


def coefficients_door(coefficients: Method) -> Method:
    """Return a method coefficients(t) that refuses a t before the first, and schedules."""

    @functools.wraps(coefficients)
    def door(self: Any, t: int, *norms: float) -> tuple[float, ...]:
        try:
            at_least_1 = operator.index(t) >= 1
        except TypeError:
            raise TypeError(
                f"t must be a whole number, got {shown(t)} ({type(t).__name__})"
            ) from None
        if not at_least_1:
            raise ValueError(f"t counts the updates of a parameter from 1, got {t}")
        try:
            numbers: tuple[float, ...] = coefficients(self, t, *norms)
            if not any(map(callable, numbers)):
                return numbers
        except TypeError:
            if not any(map(callable, vars(self).values())):
                raise
        names = [name for name, value in vars(self).items() if callable(value)]
        raise TypeError(
            f"coefficients(t) are made of numbers, and {' and '.join(names)} of this "
            f"{type(self).__name__} {'is a schedule' if len(names) == 1 else 'are schedules'}; "
            f"set each to a number first, as in opt.{names[0]} = schedule(step)"
        )

    return door
