"""Every scheduler of torch.optim.lr_scheduler on fastoptim.torch's classes, 40 steps, to 1e-12.

A warning is an error in these tests: none comes that PyTorch's own classes would not give.
"""

import copy

import pytest
from torch_twins import Twins, counts_in_float64, fastoptim, torch  # noqa: F401

ls = torch.optim.lr_scheduler
SWALR, AveragedModel = torch.optim.swa_utils.SWALR, torch.optim.swa_utils.AveragedModel

pytestmark = pytest.mark.usefixtures("counts_in_float64")

STEPS = 40


def chained(opt):
    return ls.ChainedScheduler([ls.ExponentialLR(opt, 0.9), ls.ConstantLR(opt, 0.1, 5)])


def one_after_the_other(opt):
    return ls.SequentialLR(opt, [ls.LinearLR(opt, 0.1), ls.CosineAnnealingLR(opt, 20)], [8])


SCHEDULERS = {
    "LambdaLR": lambda opt: ls.LambdaLR(opt, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda opt: ls.MultiplicativeLR(opt, lambda t: 0.9 + 0.01 * (t % 3)),
    "StepLR": lambda opt: ls.StepLR(opt, 7, 0.5),
    "MultiStepLR": lambda opt: ls.MultiStepLR(opt, [5, 20], 0.3),
    "ConstantLR": lambda opt: ls.ConstantLR(opt, 0.2, 10),
    "LinearLR": lambda opt: ls.LinearLR(opt, 0.1, total_iters=15),
    "ExponentialLR": lambda opt: ls.ExponentialLR(opt, 0.9),
    "PolynomialLR": lambda opt: ls.PolynomialLR(opt, 30, 2.0),
    "CosineAnnealingLR": lambda opt: ls.CosineAnnealingLR(opt, 15, 1e-4),
    "CosineAnnealingWarmRestarts": lambda opt: ls.CosineAnnealingWarmRestarts(opt, 5, 2),
    "CyclicLR": lambda opt: ls.CyclicLR(opt, 0.001, 0.1, 6, mode="triangular2"),
    "OneCycleLR": lambda opt: ls.OneCycleLR(opt, 0.1, total_steps=STEPS + 1),
    "OneCycleLR-3": lambda opt: ls.OneCycleLR(opt, 0.1, total_steps=STEPS + 1, three_phase=True),
    "SequentialLR": one_after_the_other,
    "ChainedScheduler": chained,
    "SWALR": lambda opt: SWALR(opt, 0.05, anneal_epochs=10),
}
# OneCycleLR and CyclicLR move momentum, or the first of betas, against the learning rate.
CLASSES = [
    ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}),
    ("AdamW", {"amsgrad": True}), ("NAdam", {}), ("RMSprop", {"momentum": 0.5}),
]


def two_groups(params):
    values = list(params.values())
    return [{"params": values[:4]}, {"params": values[4:], "lr": 0.03}]


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize(("name", "given"), CLASSES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_each_scheduler(scheduler, name, given, tensor):
    lr = torch.tensor(0.01) if tensor else 0.01
    twins = Twins(name, groups=two_groups, lr=lr, foreach=False, **given)
    schedulers = [SCHEDULERS[scheduler](opt) for opt in twins.both]
    for t in range(STEPS):
        twins.step()
        for one in schedulers:
            one.step()
        if t == 20:  # they are saved and loaded with their optimizers
            for one in schedulers:
                one.load_state_dict(copy.deepcopy(one.state_dict()))
            for opt in twins.both:
                opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert schedulers[0].get_last_lr() == schedulers[1].get_last_lr()
    twins.check()


@pytest.mark.parametrize(("name", "given"), CLASSES)
def test_plateaus(name, given):
    twins = Twins(name, groups=two_groups, **given)
    schedulers = [
        ls.ReduceLROnPlateau(opt, factor=0.5, patience=3, cooldown=2) for opt in twins.both
    ]
    for t in range(STEPS):
        twins.step()
        for one in schedulers:
            one.step(max(1.0, 20.0 - t))
    assert twins.ours.param_groups[0]["lr"] < 0.3 * twins.ours.defaults["lr"]
    twins.check()


def test_a_scheduler_that_comes_before_the_step_is_warned_of():
    opt = Twins("Adam").ours
    scheduler = ls.ExponentialLR(opt, 0.9)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()


def test_averaged_models():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(20, 6, generator=rng)
    models, averages = [], []
    torch.manual_seed(0)
    first = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    for cls in (fastoptim.torch.SGD, torch.optim.SGD):
        model = copy.deepcopy(first)
        average = AveragedModel(model)
        opt = cls(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = SWALR(opt, 0.05, anneal_epochs=10)
        for _ in range(STEPS):
            opt.zero_grad()
            (model(x) ** 2).mean().backward()
            opt.step()
            average.update_parameters(model)
            scheduler.step()
        models.append(model)
        averages.append(average)
    for of_both in (models, averages):
        for p, q in zip(*(one.parameters() for one in of_both), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
        assert not torch.equal(next(of_both[0].parameters()), next(first.parameters()))
