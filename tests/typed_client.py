# pyright: strict
"""What a typed program does with the library. It is read by type checkers and never run.

Each line that ends in ``# error`` must be refused by every checker, and no other line.
"""

from collections.abc import Mapping
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastoptim as fo
from fastoptim import schedules

Array32 = NDArray[np.float32]

params: dict[str, Array32] = {"W": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}
counts: NDArray[np.int64] = np.ones(3, np.int64)
grads: dict[str, Array32] = {key: np.ones_like(p) for key, p in params.items()}


def halved(step: int) -> float:
    return 0.1 * 0.5**step


def loss_and_grads(p: Mapping[str, Array32]) -> tuple[float, dict[str, Array32]]:
    return float(np.sum(p["W"])), {key: np.ones_like(a) for key, a in p.items()}


# ---------------------------------------------------------------- hyperparameters

opt = fo.Adam(0.1, 0.9, 0.99, eps=1e-8, weight_decay=0.01, clip_norm=None, amsgrad=True)
fo.Adam(lr=halved)
fo.Adam(lr=lambda step: 0.1 / (step + 1), clip_norm=schedules.linear(1.0, 0.5, steps=10))
fo.Adam(lr=1)
fo.Adam(lr="x")  # error
fo.Adam(lr=None)  # error
fo.Adam(lr=[0.1])  # error
fo.Adam(lr=lambda step: "x")  # error
fo.Adam(lr=lambda: 0.1)  # error
fo.Adam(0.1, 0.9, 0.999, 1e-8, 0.0)  # error
fo.Adam(learning_rate=0.1)  # error
fo.Adam(params)  # error
fo.Adam(clip_norm="1")  # error
fo.Adam(amsgrad="yes")  # error
fo.Nesterov(form=True)  # error
fo.SGD(agc=halved, centralize=True, trust_ratio=(0.0, 10.0), constraint=fo.UnitNorm())
fo.SGD(constraint="nonnegative")
fo.SGD(constraint=fo.MaxNorm)  # error
fo.SGD(trust_ratio="yes")  # error
fo.SGD(agc="0.01")  # error
fo.LARS(trust=None, form="norm_of_sum")
fo.MaxNorm("1")  # error
fo.RK45(lr=halved)
fo.RK45(lr="x")  # error
fo.RK45(rtol=halved)  # error
fo.Muon(rest=fo.AdamW(), to_rest=["head.*", lambda key, p: p.ndim > 2])
fo.Muon(rest=fo.AdamW)  # error
fo.Muon(to_rest=3)  # error

assert_type(opt.lr, float)
assert_type(opt.clip_norm, float | None)
assert_type(opt.iter, int)
opt.lr = 0.1
opt.lr = halved
opt.lr *= 0.5
opt.clip_norm = None
opt.lr = "x"  # error
opt.lr = None  # error
opt.lrr = 3  # error
opt.lr = lambda step: None  # error
print(fo.SGD().v)  # error
fo.Heun().lrr = 3  # error

rate: fo.Schedule = schedules.cosine_decay(0.1, steps=10)
rate = schedules.linear(0.1, 0.0, steps=2)
rate = "x"  # error

# ---------------------------------------------------------------- parameters and gradients


def train(optimizer: fo.Optimizer, params: fo.Params, grads: fo.Grads) -> None:
    optimizer.update(params, grads)
    print(optimizer.lr)  # error
    fo.SoftBatch(optimizer, every=2).flush(params)


train(opt, params, grads)
train(fo.SGD(), list(params.values()), list(grads.values()))
train(fo.RK45(), params, grads)  # error

opt.update(params, grads)
opt.update(params, {"W": fo.Rows([0, 2], np.ones((2, 2), np.float32)), "b": None})
opt.update({"x": 1.0}, {"x": 0.5})
opt.update({"x": 1.0, "W": params["W"]}, {"x": 0.5, "W": grads["W"]})
opt.update([params["W"]], [grads["W"]])
opt.update(params, "x")  # error
opt.update(params["W"], grads["W"])  # error
opt.update({"x": counts}, {"x": np.ones(3)})  # error
opt.update({"layer1": {"W": params["W"]}}, grads)  # error
opt.update(params)  # error
opt.step(params, loss_and_grads)
opt.step(params)  # error
fo.Heun().step(params, loss_and_grads)
fo.Heun().update(params, grads)  # error

m: NDArray[np.floating[Any]] = opt.m["W"]
opt.m["W"] = m  # error
opt.m = {}  # error

# ---------------------------------------------------------------- look-ahead, groups, soft batches

momentum = fo.Momentum(0.1, lookahead=True)
momentum.lookahead = False
momentum.lookahead = "yes"  # error
momentum.lookahead(params)
fo.Momentum(lookahead="yes")  # error

fo.SGD(groups=[fo.Group("*.b", lr=0.1), fo.Group(lambda key, p: p.ndim < 2, lr=halved)])
fo.SGD(groups=[fo.Group("E", constraint=fo.MaxNorm(1.0, per="row")), fo.Group("W", agc=None)])
fo.AdamW(groups=[fo.Group("W", trust_ratio=(0, 10), constraint=(-1.0, 1.0))])
fo.SGD(groups=[fo.Group(lambda key, p: p.dim() < 2, lr=0.1)])  # error
fo.SGD(groups=[fo.Group(3, lr=0.1)])  # error
fo.SGD(groups=["*.b"])  # error
fo.SGD(groups=[fo.Group("*.b", lr=[0.1])])  # error

soft = fo.SoftBatch(opt, every=4)
applied: bool = soft.update(params, grads)
soft.evry = 3  # error
fo.SoftBatch(opt, every="4")  # error

free = fo.ScheduleFreeAdamW(schedules.linear(0.0, 0.0025, 100), beta1=0.9, weight_decay=0.1)
with free.evaluation(params), opt.averaged(params):
    pass
opt.evaluation(params)  # error
fo.ScheduleFreeSGD(beta="x")  # error

# ---------------------------------------------------------------- rules of one's own


@fo.rule(state=("m",), lr=1e-4, beta=(0.9, "[0, 1)"))
def my_momentum(p: Any, g: Any, m: Any, lr: float, beta: float) -> tuple[Any, Any]:
    return p - lr * m, beta * m + g


mine = my_momentum(0.1, beta=halved, weight_decay=0.1, nonfinite="skip", groups=[])
train(mine, params, grads)
my_momentum("x")  # error
my_momentum(lr={})  # error
fo.rule(lr="x")  # error
fo.rule(state=3)  # error
