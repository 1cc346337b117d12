"""Fused gradient-descent update rules for NumPy arrays on the CPU.

>>> import numpy as np, fastoptim as fo
>>> params = {"W": np.ones(3), "b": np.zeros(1)}
>>> opt = fo.Momentum(lr=0.1)
>>> opt.update(params, {"W": np.ones(3), "b": np.ones(1)})
>>> params["W"]
array([0.9, 0.9, 0.9])
"""

import typing as _typing
from importlib.metadata import version as _version

from fastoptim import plot, problems, schedules
from fastoptim.custom.rule import rule
from fastoptim.muon import Muon
from fastoptim.ode.methods import RK23, RK45, Heun
from fastoptim.optimizer.base import Optimizer
from fastoptim.optimizer.groups import Group
from fastoptim.optimizer.state_dtypes import Int8Array
from fastoptim.optimizer.tensor_options import MaxNorm, UnitNorm
from fastoptim.optimizer.types import Grads, Params, Schedule
from fastoptim.porting.answers import of_module as _of_module
from fastoptim.product import Product
from fastoptim.rows import Rows
from fastoptim.rules import (
    FTRL,
    LAMB,
    LARS,
    SGD,
    AdaBelief,
    AdaDelta,
    Adafactor,
    AdaGrad,
    Adam,
    AdaMax,
    AdamW,
    Adan,
    HeavyBall,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RAdam,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    SignSGD,
    Yogi,
)
from fastoptim.runtime import get_include, get_num_threads, set_num_threads, show_runtime
from fastoptim.sam import SAM
from fastoptim.sharing import share_threads
from fastoptim.softbatch.batch import SoftBatch
from fastoptim.tracing import Trace, trace
from fastoptim.training import Checkpoints, load, save

__version__ = _version("fastoptim")

__all__ = [
    "FTRL",
    "LAMB",
    "LARS",
    "RK23",
    "RK45",
    "SAM",
    "SGD",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adafactor",
    "Adam",
    "AdamW",
    "Adan",
    "Checkpoints",
    "Grads",
    "Group",
    "HeavyBall",
    "Heun",
    "Int8Array",
    "Lion",
    "MaxNorm",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "Optimizer",
    "Params",
    "Product",
    "RAdam",
    "RMSprop",
    "Rows",
    "Rprop",
    "Schedule",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "SignSGD",
    "SoftBatch",
    "Trace",
    "UnitNorm",
    "Yogi",
    "get_include",
    "get_num_threads",
    "load",
    "plot",
    "problems",
    "rule",
    "save",
    "schedules",
    "set_num_threads",
    "share_threads",
    "show_runtime",
    "trace",
]


if not _typing.TYPE_CHECKING:  # a type checker should know what is not there

    def __getattr__(name: str) -> _typing.Never:
        raise AttributeError(_of_module(name, __all__), name=name)


def __dir__() -> list[str]:
    """Return the public names alone: what completion should offer."""
    return sorted(__all__)
