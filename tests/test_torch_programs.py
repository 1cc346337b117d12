"""Random programs: steps of every kind and what comes between them, as with PyTorch's own classes.

A usual step is compiled as a whole. Whatever is out of the ordinary goes another way, so a program
mixes both: rates and groups change in place, states are looked at, edited and loaded, gradients
are None, sparse or elsewhere, hooks come and go.
"""

import copy

import numpy as np
import pytest
from torch_twins import (  # noqa: F401
    FILLED,
    Twins,
    close,
    counts_in_float64,
    give_gradients,
    torch,
)

pytestmark = pytest.mark.usefixtures("counts_in_float64")

GIVEN = {
    "SGD": {"momentum": 0.9}, "Adam": {"amsgrad": True}, "AdamW": {}, "NAdam": {}, "RAdam": {},
    "Adamax": {}, "Adagrad": {"lr_decay": 0.1}, "Adadelta": {}, "RMSprop": {"centered": True},
    "Rprop": {}, "Adafactor": {},
}


def two_groups(params):
    """The first group has other parameters than the second, and another rate."""
    values = [*params.values()]
    return [{"params": values[:4], "lr": 0.03}, {"params": values[4:]}]


def params_of(opt):
    return [p for group in opt.param_groups for p in group["params"]]


def rate(opt, k):
    opt.param_groups[k % 2]["lr"] *= 0.8


def other_way(opt, k):
    opt.param_groups[k % 2]["maximize"] = k % 3 == 0


def rate_as_tensor(opt, k):
    opt.param_groups[0]["lr"] = torch.tensor(0.01 * (1 + k % 3))


def rate_as_number(opt, k):
    opt.param_groups[0]["lr"] = 0.02


def next_group(opt, k):
    here, there = (group["params"] for group in opt.param_groups[:: 1 if k % 2 else -1])
    if here:
        there.insert(0 if k % 3 else len(there), here.pop(-1 if k % 5 else 0))


def groups_turned(opt, k):
    opt.param_groups.reverse()


def groups_anew(opt, k):
    opt.param_groups[:] = [dict(group) for group in opt.param_groups]


def looked(opt, k):
    opt.state_dict()


def edited(opt, k):
    of_key = opt.state.get(params_of(opt)[k % 6], {})
    for name, one in of_key.items():
        if isinstance(one, torch.Tensor) and one.ndim:
            of_key[name] = one.mul_(0.5) if k % 2 else one * 0.5


def loaded(opt, k):
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))


def moved(opt, k):
    p = params_of(opt)[k % 6]
    p.data = p.data.clone()


def assigned(opt, k):
    with torch.no_grad():
        params_of(opt)[k % 6].mul_(0.9)


def hooked(opt, k):
    opt.register_step_post_hook(lambda *_: None)


def unhooked(opt, k):
    opt._optimizer_step_post_hooks.clear()


def fixed(opt, k):
    params_of(opt)[k % 6].requires_grad_(k % 2 == 0)


BETWEEN = [
    rate, other_way, rate_as_tensor, rate_as_number, next_group, groups_turned, groups_anew, looked,
    edited, loaded, moved, assigned, hooked, unhooked, fixed,
]


def change_gradients(twins, k, kind):
    """Let one gradient be another kind of tensor, or none."""
    for params in twins.params:
        p = [*params.values()][k % len(params)]
        if p.grad is None:
            continue
        if kind == "none":
            p.grad = None
        elif kind == "strided":
            p.grad = torch.stack([p.grad, p.grad], -1)[..., 0]
        elif kind == "sparse" and p.ndim:
            p.grad = p.grad.to_sparse(1)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", GIVEN)
def test_programs(name, seed):
    rng = np.random.default_rng([seed, *name.encode()])
    twins = Twins(name, FILLED, two_groups, **GIVEN[name])
    kinds = ["usual"] * 8 + ["none", "strided"] + ["sparse"] * (name == "Adagrad")
    between = [
        one for one in BETWEEN
        if not (name in ("Rprop", "Adafactor") and one is rate_as_tensor)
    ]
    for k in range(30):
        if rng.random() < 0.4:
            change, n = between[rng.integers(len(between))], int(rng.integers(60))
            for opt in twins.both:
                change(opt, n)
        give_gradients(twins.params, twins.rng, k)
        change_gradients(twins, int(rng.integers(60)), kinds[rng.integers(len(kinds))])
        for opt in twins.both:
            opt.step()
        for key, p in twins.params[0].items():
            close(p, twins.params[1][key], key)
    twins.check()
