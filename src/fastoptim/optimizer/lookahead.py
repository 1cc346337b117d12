"""The position that momentum will carry the parameters to, and the flag that asks for it."""

from typing import TYPE_CHECKING, Any, TypeAlias, overload

from fastoptim.kernels.ode.workspace import MovingParams
from fastoptim.kernels.update.store import Record
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.objective import Function, loss_and_grads
from fastoptim.optimizer.state_dtypes import numbers_of
from fastoptim.optimizer.types import Params

Leap = tuple[list[Any] | None, tuple[float, ...], list[int]]


class AtPosition:
    """``opt.lookahead``: the flag, and a function of params.

    Both have one name: ``Momentum(lookahead=True)`` sets the flag, ``opt.lookahead(params)`` calls
    the function.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def __bool__(self) -> bool:
        return bool(vars(self.optimizer)["lookahead"])

    def __repr__(self) -> str:
        return repr(bool(self))

    def __eq__(self, other: object) -> bool:
        return bool(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, params: "Params") -> Any:
        """Return where the velocity alone would carry the parameters: p + αv.

        Parameters
        ----------
        params : dict or list
            As for `update`; they are left alone. (`step` moves them there and back instead.)

        Returns
        -------
        dict or list
            Arrays like the parameters, in memory that the next call uses again.
        """
        moving = self.moving()

        def position() -> tuple[Any, dict[str, Any], dict[str, Any], object]:
            return moving.ahead(*self.leap(moving)), {}, {}, None

        return moving.session(params, position)

    def loss_and_grads(self, params: "Params", fn: Function) -> tuple[Any, Any]:
        """Return a function's loss and gradients where the arrays of `params` are p + αv.

        Two passes over memory: the first keeps p and writes p + αv, the second restores p.
        """
        moving = self.moving()

        def there() -> tuple[Any, dict[str, Any], dict[str, Any], object]:
            moving.leap(*self.leap(moving))
            loss, grads = loss_and_grads(fn(moving.given))
            zeroing = any(view.zero_grads for view in self.optimizer.views())
            grads = moving.lasting(grads, zeroing)
            moving.back()
            return (loss, grads), {}, {}, None

        loss, grads = moving.session(params, there)
        return loss, grads

    def moving(self) -> MovingParams:
        """Return the optimizer's workspace, made when it first looks ahead."""
        moving: MovingParams = vars(self.optimizer).setdefault("moving", MovingParams(0))
        return moving

    def leap(self, moving: MovingParams) -> Leap:
        """Return v (or None), the α of each group, and the group of each parameter."""
        optimizer = self.optimizer
        records = optimizer.engine.store.records
        v = [velocity(records.get(key)) for key in moving.keys]
        if all(a is None for a in v):  # nothing has moved yet
            return None, (), []
        for key, x, a in zip(moving.keys, moving.x, v, strict=True):
            if a is not None:
                check_fits(key, x, a)
        given = v if is_list(moving.given) else dict(zip(moving.keys, v, strict=True))
        alphas = tuple(view.alpha for view in optimizer.views())  # type: ignore[attr-defined]
        rows = [optimizer.group_of(*one) for one in zip(moving.keys, moving.x, strict=True)]
        return moving.gradients(given, False), alphas, rows


def velocity(record: Record | None) -> Any:
    """Return the velocity that is kept of a key, decoded where it is kept as codes."""
    if record is None or record.coding is None:
        return None if record is None else record.state.get("v")
    dtype = record.described()["dtype"]
    return numbers_of(record.state, "v", record.coding, signed=True, dtype=dtype)


def check_fits(key: object, x: Any, v: Any) -> None:
    """Refuse a parameter of another shape or dtype than its velocity, in the words of `update`."""
    if x.shape != v.shape:
        raise ValueError(
            f"params[{key!r}] has shape {x.shape}, but its state has shape {v.shape} from "
            f"earlier updates; use another key or a new optimizer"
        )
    if x.dtype != v.dtype:
        raise TypeError(
            f"params[{key!r}] is {x.dtype}, but its state is {v.dtype} from earlier updates; "
            f"convert the parameter or use a new optimizer"
        )


def is_list(params: object) -> bool:
    """Whether parameters are given by position."""
    return isinstance(params, (list, tuple))


class LookAhead:
    """Makes an optimizer's flag `lookahead` the function of that name, too."""

    @overload
    def __get__(self, optimizer: None, owner: type) -> "LookAhead": ...
    @overload
    def __get__(self, optimizer: Optimizer, owner: type) -> AtPosition: ...
    def __get__(self, optimizer: Optimizer | None, owner: type) -> "LookAhead | AtPosition":
        return self if optimizer is None else AtPosition(optimizer)

    def __set__(self, optimizer: Optimizer, value: bool) -> None:
        vars(optimizer)["lookahead"] = value


if TYPE_CHECKING:
    FlagAndFunction: TypeAlias = LookAhead
else:  # what signatures and help show
    FlagAndFunction: TypeAlias = bool
