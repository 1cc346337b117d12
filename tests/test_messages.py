"""A message says of a large array what shape it has, and never prints it."""

import numpy as np
import pytest

import fastoptim as fo
from fastoptim import kernels

BIG = np.ones((100, 100))


def rule_with(**given):
    return lambda: fo.rule(**{"lr": 0.1, **given})


def run_schedule():
    fo.SGD(lr=lambda step: BIG).update({"x": np.ones(1)}, {"x": np.ones(1)})


CALLS = {
    "lr": lambda: fo.Adam(0.1, BIG),
    "flag": lambda: fo.SGD(maximize=BIG),
    "choice": lambda: fo.SGD(nonfinite=BIG),
    "steps": lambda: fo.SGD(average_from=BIG),
    "groups": lambda: fo.SGD(groups=BIG),
    "one group": lambda: fo.SGD(groups=[BIG]),
    "pattern": lambda: fo.Group(BIG, lr=1.0),
    "current": lambda: fo.SGD().current("lr", group=BIG),
    "schedule": run_schedule,
    "rate of a schedule": lambda: fo.schedules.linear(BIG, 1.0, 10),
    "steps of a schedule": lambda: fo.schedules.linear(0.0, 1.0, BIG),
    "staircase": lambda: fo.schedules.exponential_decay(0.1, 10, 0.5, BIG),
    "every": lambda: fo.SoftBatch(fo.SGD(), every=BIG),
    "reduce": lambda: fo.SoftBatch(fo.SGD(), reduce=BIG),
    "unique": lambda: fo.Rows([0], np.ones((1, 2)), BIG),
    "fn": lambda: fo.SGD().step({"x": np.ones(1)}, BIG),
    "steps of trace": lambda: fo.trace(fo.SGD(), {"x": np.ones(1)}, lambda p: p, steps=BIG),
    "stop of trace": lambda: fo.trace(fo.SGD(), {"x": np.ones(1)}, lambda p: p, stop=BIG),
    "threads": lambda: fo.set_num_threads(BIG),
    "fixed": lambda: fo.set_num_threads(1, BIG),
    "rule's name": lambda: kernels.capsule([BIG]),
    "coefficients": lambda: kernels.step("sgd", np.ones(1), np.ones(1), (), {"lr": BIG}),
    "a coefficient": lambda: kernels.step("sgd", np.ones(1), np.ones(1), (), (BIG,)),
    "state of a rule": rule_with(state=BIG),
    "default of a rule": rule_with(beta=(BIG, BIG)),
    "function of a rule": lambda: fo.rule(lr=0.1)(BIG),
    "coefficients of a rule": rule_with(coefficients=BIG),
    "what they return": rule_with(coefficients=lambda t: [BIG]),
    "rho": lambda: fo.SAM(fo.SGD(), BIG),
    "opt of SAM": lambda: fo.SAM(BIG),
    "agc": lambda: fo.SGD(agc=BIG),
    "trust_ratio": lambda: fo.SGD(trust_ratio=(0, BIG)),
    "bounds": lambda: fo.SGD(constraint=(BIG, 1)),
    "constraint": lambda: fo.SGD(constraint=BIG),
    "largest norm": lambda: fo.MaxNorm(BIG),
    "per": lambda: fo.UnitNorm(BIG),
    "rest": lambda: fo.Muon(rest=BIG),
    "to_rest": lambda: fo.Muon(to_rest=[BIG]),
    "numbers of Muon": lambda: fo.Muon(ns_coefficients=BIG),
    "norms of a rule": rule_with(norms=BIG),
    "a norm of a rule": rule_with(norms=(BIG,)),
    "point to evaluate at": lambda: fo.ScheduleFreeSGD().evaluation(BIG).__enter__(),
    "params": lambda: fo.SGD().update(BIG, BIG),
    "a parameter": lambda: fo.SGD().update({"x": BIG.astype(int)}, {"x": BIG}),
    "nested": lambda: fo.SGD().update({"x": [BIG]}, {"x": BIG}),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_array_is_printed(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "1., 1., 1." not in text
    assert "1 1 1" not in text
    assert len(text.replace(", ".join(kernels.RULES), "")) < 400
