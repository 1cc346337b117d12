"""`param_groups` of fastoptim.torch: other options in each, changed while training, added to.

All as PyTorch's own classes do it, 40 steps, to 1e-12 in float64.
"""

import numpy as np
import pytest
from torch_twins import (  # noqa: F401
    FILLED,
    SHAPES,
    Twins,
    check_states,
    close,
    counts_in_float64,
    fastoptim,
    give_gradients,
    made,
    torch,
)

pytestmark = pytest.mark.usefixtures("counts_in_float64")

STEPS = 40
NAMES = [
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop",
    "Adafactor",
]


def twins_of(name, **given):
    return Twins(name, FILLED if name == "Adafactor" else SHAPES, **given)


# ---------------------------------------------------------------- other options in each group

GROUPS = {
    "SGD": [{"momentum": 0.0}, {"momentum": 0.8, "dampening": 0.3}, {"maximize": True, "lr": 0.3}],
    "Adam": [{"amsgrad": True}, {"betas": (0.5, 0.7), "maximize": True}, {"weight_decay": 0.2}],
    "AdamW": [{"weight_decay": 0.0}, {"amsgrad": True, "lr": 0.1}, {"maximize": True}],
    "NAdam": [{"momentum_decay": 0.1}, {"decoupled_weight_decay": True, "weight_decay": 0.1}, {}],
    "RAdam": [{"weight_decay": 0.1}, {"betas": (0.9, 0.5)}, {"maximize": True}],
    "Adamax": [{"eps": 1e-3}, {"betas": (0.6, 0.8)}, {"maximize": True}],
    "Adagrad": [{"lr_decay": 0.1}, {"weight_decay": 0.1, "lr": 0.5}, {"maximize": True}],
    "Adadelta": [{"rho": 0.5}, {"lr": 0.1, "eps": 1e-3}, {"maximize": True}],
    "RMSprop": [{"centered": True}, {"momentum": 0.7}, {"maximize": True, "alpha": 0.5}],
    "Rprop": [{"etas": (0.3, 1.9)}, {"step_sizes": (1e-3, 0.1)}, {"maximize": True, "lr": 0.2}],
    "Adafactor": [{"d": 3.0}, {"beta2_decay": -0.4, "eps": (None, 0.1)}, {"weight_decay": 0.1}],
}


def in_three(options):
    """Deal parameters out to three groups, and leave a fourth without any."""

    def groups(params):
        values = list(params.values())
        return [
            {"params": values[k::3], **own} for k, own in enumerate(options)
        ] + [{"params": []}]

    return groups


@pytest.mark.parametrize("name", NAMES)
def test_each_group_has_its_own(name):
    twins = twins_of(name, groups=in_three(GROUPS[name]))
    twins.run(STEPS)
    twins.check()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_parameters(name):
    twins = twins_of(name, groups=lambda params: list(params.items()))
    twins.run(5)
    twins.check()
    assert list(twins.ours.param_groups[0]["param_names"]) == list(twins.params[0])


# ---------------------------------------------------------------- changed while training

DECAY = [(3, "weight_decay", 0.1), (5, "maximize", True), (9, "maximize", False)]
DECAY += [(11, "weight_decay", 0.0), (12, "lr", 0.03), (20, "lr", 0)]
BETAS = [(7, "betas", (0.7, 0.9)), (14, "eps", 1e-2)]
DECOUPLED = [(4, "decoupled_weight_decay", True), (8, "decoupled_weight_decay", False)]
ON_AND_OFF = [(5, "momentum", 0.9), (9, "momentum", 0.0), (12, "momentum", 0.8)]
# Class, arguments, and what is changed before which step.
CHANGES = [
    ("SGD", {}, DECAY),
    ("SGD", {"lr": 0.1}, ON_AND_OFF),
    ("SGD", {"lr": 0.1, "dampening": 0.4}, ON_AND_OFF),
    ("SGD", {"lr": 0.1, "dampening": 0.4, "momentum": 0.9}, [(5, "momentum", 0.0)]),
    (
        "SGD", {"lr": 0.1, "momentum": 0.9},
        [
            (5, "nesterov", True), (8, "dampening", 0.2), (12, "momentum", 0.5),
            (15, "nesterov", False),
        ],
    ),
    ("SGD", {"lr": 0.1}, [(5, "nesterov", True), (8, "momentum", 0.9)]),
    ("Adam", {}, [*DECAY, *BETAS, *DECOUPLED]),
    ("Adam", {"amsgrad": True}, [(5, "amsgrad", False), (9, "amsgrad", True)]),
    ("Adam", {}, [(0, "amsgrad", True)]),
    ("Adam", {}, [(5, "foreach", True), (9, "foreach", False), (12, "fused", None)]),
    ("AdamW", {}, [*DECAY, *BETAS, *DECOUPLED]),
    ("NAdam", {}, [*DECAY, *BETAS, *DECOUPLED, (9, "momentum_decay", 0.1)]),
    ("RAdam", {}, [*DECAY, *BETAS, *DECOUPLED]),
    ("Adamax", {}, [*DECAY, *BETAS]),
    (
        "Adagrad", {},
        [*DECAY, (8, "lr_decay", 0.1), (9, "initial_accumulator_value", 3.0), (14, "eps", 1e-2)],
    ),
    ("Adadelta", {}, [*DECAY, (8, "rho", 0.5), (14, "eps", 1e-2)]),
    ("RMSprop", {}, [*DECAY, (8, "alpha", 0.5), (14, "eps", 1e-2)]),
    (
        "RMSprop", {"momentum": 0.5, "centered": True},
        [
            (5, "momentum", 0.0), (6, "centered", False), (9, "momentum", 0.6),
            (11, "centered", True),
        ],
    ),
    (
        "Rprop", {},
        [*DECAY[1:3], (6, "step_sizes", (1e-3, 1.0)), (9, "etas", (0.4, 1.5)), (12, "lr", 1)],
    ),
    ("Adafactor", {}, [*DECAY, (8, "d", 3.0), (9, "beta2_decay", -0.5), (14, "eps", (None, 0.1))]),
]


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize(("name", "given", "changes"), CHANGES)
def test_changed_between_steps(name, given, changes, looks):
    twins = twins_of(name, **given)
    for t in range(STEPS):
        for at, field, value in changes:
            if at == t:
                twins.ours.param_groups[0][field] = twins.theirs.param_groups[0][field] = value
        twins.step()
        if looks and t % 4 == 0:  # whoever looks at the state gets it as it is, at once
            twins.check()
    twins.check()


def test_a_list_is_looked_into():
    twins = twins_of("NAdam", betas=[0.9, 0.999])
    twins.run(3)
    for opt in twins.both:
        opt.param_groups[0]["betas"][0] = 0.5
    twins.run(3)
    twins.check()


# PyTorch has no memory for these then, and its step raises KeyError.
LATE = [
    ("Adam", "amsgrad", True, "max_exp_avg_sq"),
    ("AdamW", "amsgrad", True, "max_exp_avg_sq"),
    ("RMSprop", "momentum", 0.5, "momentum_buffer"),
    ("RMSprop", "centered", True, "grad_avg"),
]


@pytest.mark.parametrize(("name", "field", "value", "slot"), LATE)
def test_what_begins_late_begins_at_zero(name, field, value, slot):
    late = twins_of(name)
    late.run(3)
    late.theirs.param_groups[0][field] = value
    with pytest.raises(KeyError):
        late.theirs.step()
    twins = twins_of(name)
    twins.run(3)
    for opt in twins.both:
        opt.param_groups[0][field] = value
    for p, of_theirs in twins.theirs.state.items():
        of_theirs[slot] = torch.zeros_like(p)
    twins.run(5)
    twins.check()


def test_groups_start_with_the_constructors_sum():
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [{"params": [p]}, {"params": [q], "initial_accumulator_value": 2.0}]
    with pytest.raises(ValueError, match="the constructor's, 0.5; give it there"):
        fastoptim.torch.Adagrad(groups, initial_accumulator_value=0.5)
    opt = fastoptim.torch.Adagrad(groups[:1], initial_accumulator_value=0.5)
    with pytest.raises(ValueError, match="the constructor's, 0.5; give it there"):
        opt.add_param_group(groups[1])
    assert len(opt.param_groups) == 1


# ---------------------------------------------------------------- tensors as numbers


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_as_learning_rate_is_read_at_each_step(name):
    twins = twins_of(name, lr=torch.tensor(0.01), foreach=False)
    for k in range(STEPS):
        if k in (3, 10, 17, 35):
            for opt in twins.both:
                opt.param_groups[0]["lr"].mul_(1.5)
        if k == 20:
            for opt in twins.both:
                opt.param_groups[0]["lr"] = 0.02
        if k == 30:
            for opt in twins.both:
                opt.param_groups[0]["lr"] = torch.tensor([0.03])
        twins.step()
    twins.check()


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_tensors_as_betas(name):
    betas = torch.tensor(0.8), torch.tensor(0.95)
    twins = twins_of(name, betas=betas, lr=torch.tensor(0.01))
    twins.run(STEPS)
    twins.check()


def test_a_tensor_as_weight_decay():
    decay = torch.tensor(0.1)
    twins = twins_of("SGD", weight_decay=decay, foreach=False)
    twins.run(5)
    for opt in twins.both:
        opt.param_groups[0]["weight_decay"].mul_(2)
    twins.run(5)
    twins.check()


# ---------------------------------------------------------------- groups added later


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_group_that_comes_later(name, looks):
    given = {"Adagrad": {"initial_accumulator_value": 0.3}, "SGD": {"momentum": 0.9}}
    twins = twins_of(name, **given.get(name, {}))
    twins.run(10)
    for k, (opt, params) in enumerate(zip(twins.both, twins.params, strict=True)):
        if looks and k == 0:
            assert opt.state
        params["late"] = made((3, 2), "late", np.random.default_rng(7))
        opt.add_param_group({"params": [params["late"]], "lr": 0.05})
    twins.run(10)
    for opt, params in zip(twins.both, twins.params, strict=True):
        params["later"] = made((4,), "later", np.random.default_rng(7))
        opt.add_param_group({"params": params["later"], "maximize": True})
    twins.run(STEPS - 20)
    twins.check()


# ---------------------------------------------------------------- changed in place


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_goes_to_the_next_group(name, looks):
    """In the list of all parameters it stays where it is."""
    twins = Twins(
        name, FILLED, lambda params: [
            {"params": [*params.values()][:2], "lr": 0.3}, {"params": [*params.values()][2:]},
        ],
    )
    twins.run(3)
    if looks:
        twins.ours.state_dict()
    for _ in range(2):
        for opt in twins.both:
            here, there = (group["params"] for group in opt.param_groups)
            there.insert(0, here.pop())
        twins.run(3)
    twins.check()


def test_a_group_without_parameters_gets_some():
    twins = Twins(
        "Adam", FILLED,
        lambda params: [{"params": [*params.values()]}, {"params": [], "lr": 0.5}],
    )
    twins.run(3)
    for opt in twins.both:
        here, there = (group["params"] for group in opt.param_groups)
        there += here
        here.clear()
    twins.run(3)
    twins.check()


@pytest.mark.parametrize("kind", [tuple, type("Several", (list,), {})])
def test_param_groups_may_be_another_sequence(kind):
    twins = twins_of("Adam")
    twins.run(3)
    for opt in twins.both:
        opt.param_groups = kind(opt.param_groups)
    twins.run(3)
    twins.check()


def test_an_array_as_learning_rate_is_read_at_each_step():
    twins, rates = twins_of("Adam"), []
    for opt in twins.both:
        rates.append(np.array(0.1))
        opt.param_groups[0]["lr"] = rates[-1]
    for _ in range(5):
        twins.run(2)
        for lr in rates:
            lr *= 0.7
    twins.check()


# ---------------------------------------------------------------- closures


@pytest.mark.parametrize("name", NAMES)
def test_closures(name):
    twins = twins_of(name)
    losses = []
    for t in range(1, 11):
        both = []
        for opt, params in zip(twins.both, twins.params, strict=True):
            used = [p for key, p in params.items() if key not in ("frozen", "plain")]

            def closure(used=used, opt=opt, t=t):
                assert torch.is_grad_enabled()
                opt.zero_grad()
                loss = sum(((p - 1) ** 2).sum() * t for p in used)
                loss.backward()
                return loss

            with torch.no_grad():
                both.append(opt.step(closure))
        losses.append(both)
    for ours, theirs in losses:
        close(ours, theirs, "loss")
    twins.check()


def test_without_gradients_nothing_happens():
    twins = twins_of("Adam")
    twins.run(3)
    for params in twins.params:
        for p in params.values():
            p.grad = None
    assert [opt.step() for opt in twins.both] == [None, None]
    twins.check()
    check_states(twins.ours.state_dict(), twins.theirs.state_dict())
    give_gradients(twins.params, twins.rng)
    twins.run(3)
    twins.check()
