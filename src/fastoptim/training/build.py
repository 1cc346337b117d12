"""New objects of what stands for them in a file."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from fastoptim.checkpoint.tree import Stored
from fastoptim.ode import state as ode_state
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer import state
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.groups import Group
from fastoptim.softbatch.batch import SoftBatch
from fastoptim.training import generators, schedules
from fastoptim.training.objects import BUILT_IN

Classes = Iterable[type[Optimizer] | type[RungeKutta]]


def by_name(classes: Iterable[Any]) -> dict[str, type[Any]]:
    """Return the user's classes by their names, or say what is not one."""
    if isinstance(classes, type):
        raise TypeError(f"classes must be a list of classes, such as [{classes.__name__}]")
    found: dict[str, type[Any]] = {}
    for cls in classes:
        if not isinstance(cls, type) or not issubclass(cls, (Optimizer, RungeKutta)):
            raise TypeError(f"classes must be classes of optimizers, got {cls!r} among them")
        if found.setdefault(cls.__name__, cls) is not cls:
            raise ValueError(f"classes has two of the name {cls.__name__!r}")
    return found


def instead(place: str) -> str:
    """Return how one loads what cannot be made of a file alone."""
    inside = place.removeprefix("tree")
    key = inside[1:].partition("]")[0]
    into = "opt" if not inside else f"{{{key}: …}}"
    return f"give one that has it: fastoptim.load(path, into={into})"


class Builder:
    """Makes a tree's objects; all schedules that are made share their plateaus as they did."""

    def __init__(self, name: str, classes: Classes) -> None:
        self.name = name
        self.own = by_name(classes)
        self.schedules = schedules.Reader()
        self.makers: dict[str, Callable[[str, Any], Any]] = {
            "optimizer": self.optimizer, "method": self.method, "softbatch": self.softbatch,
            "schedule": self.schedule, "generator": lambda place, x: generators.made(x),
        }

    def made(self, x: Any, place: str = "tree") -> Any:
        """Return a tree with new objects in the place of what stands for them."""
        if isinstance(x, dict):
            return {key: self.made(value, f"{place}[{key!r}]") for key, value in x.items()}
        if isinstance(x, (list, tuple)):
            return type(x)(self.made(one, f"{place}[{i}]") for i, one in enumerate(x))
        if not isinstance(x, Stored):
            return x
        try:
            return self.maker(x)(place, x.content)
        except (TypeError, KeyError, ValueError, AttributeError) as problem:
            self.refuse(place, problem)

    def maker(self, x: Stored) -> Callable[[str, Any], Any]:
        """Return what makes a kind of object."""
        if x.kind not in self.makers:
            raise ValueError(f"it is a {x.kind!r}, which this version of fastoptim does not know")
        return self.makers[x.kind]

    def refuse(self, place: str, problem: Exception) -> NoReturn:
        """Raise a problem with the file and the place in its tree."""
        text = problem.args[0] if problem.args else problem
        kinds: tuple[type[Exception], ...] = (TypeError, KeyError)
        kind = next((one for one in kinds if isinstance(problem, one)), ValueError)
        raise kind(f"{self.name}: {place}: {text}") from problem

    def schedule(self, place: str, plain: Any) -> Any:
        """Return a schedule."""
        try:
            return self.schedules.made(plain)
        except schedules.Code as code:
            raise ValueError(
                f"{schedules.text(plain)} has {code} in it, a function of yours: a function is "
                f"code, and not in a file; {instead(place)}"
            ) from None

    def known(self, plain: Any) -> dict[str, Any]:
        """Return those schedules that can be made, by name."""
        found = {}
        for name, one in plain.items():
            try:
                found[name] = self.schedules.made(one)
            except schedules.Code:
                continue
        return found

    def values(self, place: str, saved: Any, plain: Any) -> dict[str, Any]:
        """Return hyperparameters by name: numbers and new schedules."""
        return {
            **state.part(saved, "hyperparameters", dict),
            **{name: self.hyperparameter(place, name, one) for name, one in plain.items()},
        }

    def hyperparameter(self, place: str, name: str, plain: Any) -> Any:
        """Return a schedule, or say that it has to be given: another number would train on."""
        try:
            return self.schedules.made(plain)
        except schedules.Code:
            raise ValueError(
                f"{name} was {schedules.text(plain)}, and a function of yours is code, not in a "
                f"file; {instead(place)}"
            ) from None

    def class_of(self, place: str, content: Any) -> Any:
        """Return the class of an optimizer by its name."""
        name = state.part(content["state"], "rule", str)
        found = (self.own if content["own"] else BUILT_IN).get(name)
        if found is not None:
            return found
        if content["own"]:
            raise ValueError(
                f"{name} is a class of yours: fastoptim.load(path, classes=[{name}])"
            )
        raise ValueError(f"this version of fastoptim has no {name}")

    def optimizer(self, place: str, content: Any) -> Optimizer:
        """Return a new optimizer with the state of the stored one."""
        saved = content["state"]
        inside = {}
        if "rest" in content:
            if None in saved["rest"]["to_rest"]:
                raise ValueError(
                    f"to_rest has a predicate, which is code, and not in a file; {instead(place)}"
                )
            inside = {
                "rest": self.without_state(place, {**content["rest"], "state": saved["rest"]}),
                "to_rest": saved["rest"]["to_rest"],
            }
        opt = self.without_state(place, content, **inside)
        state.load(opt, saved)
        return opt

    def without_state(self, place: str, content: Any, **inside: Any) -> Optimizer:
        """Return a new optimizer with the hyperparameters of the stored one."""
        saved = content["state"]
        groups = []
        for one, plain in zip(saved["groups"], content["groups"], strict=True):
            if one["pattern"] is None:
                raise ValueError(
                    f"one of its groups has a predicate, which is code, and not in a file; "
                    f"{instead(place)}"
                )
            groups.append(Group(one["pattern"], **self.values(place, one, plain)))
        cls = self.class_of(place, content)
        values = self.values(place, saved, content["schedules"])
        opt: Optimizer = cls(**values, groups=groups, **inside)
        return opt

    def method(self, place: str, content: Any) -> RungeKutta:
        """Return a new Runge–Kutta method with the state of the stored one."""
        cls = self.class_of(place, content)
        opt: RungeKutta = cls(**self.values(place, content["state"], content["schedules"]))
        ode_state.load(opt, content["state"])
        return opt

    def softbatch(self, place: str, content: Any) -> SoftBatch:
        """Return a new SoftBatch around a new optimizer."""
        waiting, of_opt = content["waiting"], content["optimizer"]
        soft = SoftBatch(self.optimizer(place, of_opt), waiting["every"], waiting["reduce"])
        soft._adder.start(soft._checked({**waiting, "optimizer": of_opt["state"]}))
        return soft
