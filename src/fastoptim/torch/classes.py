"""The classes of torch.optim: their arguments, in fastoptim's rules; their state's names."""

import functools
from collections.abc import Mapping
from typing import Any

import torch

from fastoptim import rules
from fastoptim.optimizer.base import Optimizer
from fastoptim.torch.rules import SGD as SGDRule
from fastoptim.torch.rules import CarryingNAdam
from fastoptim.torch.states import Form
from fastoptim.torch.stepped import Stepped
from fastoptim.torch.work import number

Group = Mapping[str, Any]

# What most classes have, under the names of both.
DECAY = ("weight_decay", "maximize")
MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}


def numbers(group: Group, **names: str) -> dict[str, Any]:
    """Return hyperparameters by our names, each with what PyTorch's has in its group."""
    return {ours: number(group[theirs]) for ours, theirs in names.items()}


def betas(group: Group) -> dict[str, Any]:
    """Return the two decays of a rule with moments."""
    beta1, beta2 = group["betas"]
    return {"beta1": number(beta1), "beta2": number(beta2)}


class SGD(Stepped, torch.optim.SGD):
    form = Form({"v": "momentum_buffer"}, step=None)
    followed = ("lr", "momentum", "dampening", "nesterov", *DECAY)
    sparse = "taken"

    def new_rule(self) -> Optimizer:
        return SGDRule()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", mu="momentum", dampening="dampening", nesterov="nesterov",
            weight_decay="weight_decay", maximize="maximize",
        )


class Adam(Stepped, torch.optim.Adam):
    form = Form(MOMENTS)
    followed = ("lr", "betas", "eps", "amsgrad", "decoupled_weight_decay", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.Adam(eps_corrected=True)

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", amsgrad="amsgrad", decoupled="decoupled_weight_decay",
            weight_decay="weight_decay", maximize="maximize",
        )


class AdamW(Adam, torch.optim.AdamW):
    pass


class NAdam(Stepped, torch.optim.NAdam):
    form = Form(MOMENTS, carried="mu_product")
    followed = ("lr", "betas", "eps", "momentum_decay", "decoupled_weight_decay", *DECAY)

    def new_rule(self) -> Optimizer:
        return CarryingNAdam()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", psi="momentum_decay", decoupled="decoupled_weight_decay",
            weight_decay="weight_decay", maximize="maximize",
        )


class RAdam(Stepped, torch.optim.RAdam):
    form = Form(MOMENTS)
    followed = ("lr", "betas", "eps", "decoupled_weight_decay", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.RAdam()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", decoupled="decoupled_weight_decay",
            weight_decay="weight_decay", maximize="maximize",
        )


class Adamax(Stepped, torch.optim.Adamax):
    form = Form({"m": "exp_avg", "u": "exp_inf"})
    followed = ("lr", "betas", "eps", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.AdaMax()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(
            group, lr="lr", eps="eps", weight_decay="weight_decay", maximize="maximize"
        )


class Adagrad(Stepped, torch.optim.Adagrad):
    form = Form({"h": "sum"})
    followed = ("lr", "lr_decay", "initial_accumulator_value", "eps", *DECAY)
    sparse = "taken"

    @functools.wraps(torch.optim.Adagrad.__init__)
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._lent = False  # it has looked at the state to fill it

    def new_rule(self) -> Optimizer:
        return rules.AdaGrad()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", lr_decay="lr_decay", initial="initial_accumulator_value", eps="eps",
            weight_decay="weight_decay", maximize="maximize",
        )

    def share_memory(self) -> None:
        raise NotImplementedError(
            "the state lies in this process's memory, and share_memory would move it elsewhere; "
            "processes that train together: fastoptim.mpi.Sharded"
        )


class Adadelta(Stepped, torch.optim.Adadelta):
    form = Form({"h": "square_avg", "d": "acc_delta"})
    followed = ("lr", "rho", "eps", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.AdaDelta()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", rho="rho", eps="eps", weight_decay="weight_decay", maximize="maximize"
        )


class RMSprop(Stepped, torch.optim.RMSprop):
    form = Form({"h": "square_avg", "m": "grad_avg", "v": "momentum_buffer"})
    followed = ("lr", "alpha", "eps", "momentum", "centered", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.RMSprop()

    def translated(self, group: Group) -> dict[str, Any]:
        return numbers(
            group, lr="lr", decay_rate="alpha", eps="eps", momentum="momentum", centered="centered",
            weight_decay="weight_decay", maximize="maximize",
        )


class Rprop(Stepped, torch.optim.Rprop):
    form = Form({"g_prev": "prev", "delta": "step_size"})
    followed = ("lr", "etas", "step_sizes", "maximize")

    def new_rule(self) -> Optimizer:
        return rules.Rprop()

    def translated(self, group: Group) -> dict[str, Any]:
        names = ("eta_minus", "eta_plus", "step_min", "step_max")
        given = dict(zip(names, (*group["etas"], *group["step_sizes"]), strict=True))
        return given | numbers(group, lr="lr", maximize="maximize")


class SparseAdam(Stepped, torch.optim.SparseAdam):
    form = Form({"m": "exp_avg", "v": "exp_avg_sq"}, step=int)
    followed = ("lr", "betas", "eps", "maximize")
    sparse = "only"

    def new_rule(self) -> Optimizer:
        return rules.Adam()

    def translated(self, group: Group) -> dict[str, Any]:
        return betas(group) | numbers(group, lr="lr", eps="eps", maximize="maximize")


class Adafactor(Stepped, torch.optim.Adafactor):
    form = Form({"r": "row_var", "c": "col_var", "v": "variance"}, axes={"r": -1, "c": -2})
    followed = ("lr", "beta2_decay", "eps", "d", *DECAY)

    def new_rule(self) -> Optimizer:
        return rules.Adafactor(factor_from=0)

    def translated(self, group: Group) -> dict[str, Any]:
        eps1, eps2 = group["eps"]
        if eps1 is not None:
            raise ValueError(
                f"eps[0] is {eps1!r}, the smallest root of a mean square that PyTorch divides by; "
                f"fastoptim adds a number to each square: leave it None, or use "
                f"fastoptim.torch.Optimizer(params, fastoptim.Adafactor(eps1=…))"
            )
        return {"decay_rate": -group["beta2_decay"], "eps2": eps2} | numbers(
            group, lr="lr", d="d", weight_decay="weight_decay", maximize="maximize"
        )
