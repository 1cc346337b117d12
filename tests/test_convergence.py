"""Every rule reaches the minimum of x² + 50y², and of Rosenbrock's valley.

Weight decay, which would move the minimum, is off.
"""

import numpy as np
import pytest
from helpers import CASES

QUADRATIC = {
    "SGD": {"lr": 0.015}, "Momentum": {"lr": 0.005}, "Nesterov": {"lr": 0.005},
    "AdaGrad": {"lr": 1.0}, "RMSprop": {"lr": 0.05, "decay_rate": 0.9}, "Adam": {"lr": 0.1},
    "HeavyBall": {"lr": 0.005}, "Lion": {"lr": 0.05}, "Rprop": {"lr": 0.1}, "FTRL": {"lr": 1.0},
    "AdaDelta": {"lr": 10.0}, "AdamW": {"lr": 0.1}, "AdaMax": {"lr": 0.1}, "NAdam": {"lr": 0.1},
    "RAdam": {"lr": 0.05}, "AdaBelief": {"lr": 0.1}, "SignSGD": {"lr": 0.05}, "Yogi": {"lr": 0.1},
    "Adan": {"lr": 0.1}, "ScheduleFreeSGD": {"lr": 0.04}, "ScheduleFreeAdamW": {"lr": 0.5},
    "Adafactor": {"lr": 0.3}, "LAMB": {"lr": 0.05}, "LARS": {"lr": 0.05, "trust": 0.5},
}
ROSENBROCK = {
    "SGD": {"lr": 0.001}, "Momentum": {"lr": 0.0002}, "Nesterov": {"lr": 0.0002},
    "AdaGrad": {"lr": 1.0}, "RMSprop": {"lr": 0.005, "decay_rate": 0.9}, "Adam": {"lr": 0.02},
    "HeavyBall": {"lr": 0.0002}, "Lion": {"lr": 0.001}, "Rprop": {"lr": 0.01}, "FTRL": {"lr": 0.5},
    "AdaDelta": {"lr": 1.0}, "AdamW": {"lr": 0.02}, "AdaMax": {"lr": 0.02}, "NAdam": {"lr": 0.02},
    "RAdam": {"lr": 0.001}, "AdaBelief": {"lr": 0.02}, "SignSGD": {"lr": 0.0006},
    "Yogi": {"lr": 0.02}, "Adan": {"lr": 0.02}, "ScheduleFreeSGD": {"lr": 0.004},
    "ScheduleFreeAdamW": {"lr": 0.02}, "Adafactor": {"lr": 0.02}, "LAMB": {"lr": 0.01},
    "LARS": {"lr": 0.02, "trust": 0.05},
}
# FTRL's learning rate divides what is past, too; of a falling one schedule-free rules have no need.
STEADY = {"FTRL", "ScheduleFreeSGD", "ScheduleFreeAdamW"}


def minimise(opt, start, gradient, steps):
    """Train, with the learning rate falling to zero so that RMSprop, too, comes to rest."""
    params, grads, lr = {"x": np.array(start)}, {"x": np.empty(2)}, opt.lr
    for step in range(steps):
        if step % (steps // 1000) == 0 and type(opt).__name__ not in STEADY:
            opt.lr = lr * (1 - step / steps)
        grads["x"][:] = gradient(*params["x"].tolist())
        opt.update(params, grads)
    return params["x"]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_quadratic(case):
    opt = case.ours(**QUADRATIC[case.cls.__name__], **case.without_decay)
    x = minimise(opt, [5.0, 1.0], lambda x, y: (2 * x, 100 * y), 2000)
    assert np.abs(x).max() < 1e-4


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_rosenbrock(case):
    def gradient(x, y):
        return 2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)

    opt = case.ours(**ROSENBROCK[case.cls.__name__], **case.without_decay)
    x = minimise(opt, [-1.2, 1.0], gradient, 30_000)
    assert np.abs(x - 1).max() < 0.02
