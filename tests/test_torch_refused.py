"""What constructors and steps of fastoptim.torch refuse, and what they say; nothing changes."""

import copy

import pytest
from torch_twins import fastoptim, same, torch

ft = fastoptim.torch
NAMES = [name for name in ft.__all__ if name != "Optimizer"]
NAN, INF = float("nan"), float("inf")


def parameter():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.full((3,), 0.5)
    return p


# ---------------------------------------------------------------- constructors

# PyTorch's own checks, whose messages come through.
AS_PYTORCH = [
    ("SGD", {"lr": -1.0}), ("SGD", {"momentum": -1.0}), ("SGD", {"weight_decay": -1.0}),
    ("SGD", {"nesterov": True}), ("SGD", {"lr": torch.ones(2)}), ("SGD", {"capturable": True}),
    ("SGD", {"foreach": True, "fused": True}), ("Adam", {"betas": (1.0, 0.9)}),
    ("Adam", {"betas": (0.9, torch.tensor(0.9))}), ("Adam", {"eps": -1.0}), ("Adam", {"lr": "a"}),
    ("Adam", {"lr": NAN}), ("Adam", {"lr": torch.tensor(0.1), "foreach": True}),
    ("Adam", {"fused": True, "foreach": True}), ("AdamW", {"decoupled_weight_decay": True}),
    ("NAdam", {"momentum_decay": -1.0}), ("RAdam", {"betas": (0.9, 1.0)}),
    ("Adamax", {"betas": (-0.1, 0.9)}), ("Adagrad", {"lr_decay": -1.0}),
    ("Adagrad", {"initial_accumulator_value": -1.0}), ("Adadelta", {"rho": 1.5}),
    ("RMSprop", {"alpha": -1.0}), ("RMSprop", {"momentum": -1.0}), ("Rprop", {"etas": (1.2, 0.5)}),
    ("SparseAdam", {"lr": 0.0}), ("SparseAdam", {"eps": 0.0}), ("Adafactor", {"d": 0.5}),
    ("Adafactor", {"beta2_decay": 0.5}),
]


@pytest.mark.parametrize(("name", "given"), AS_PYTORCH)
def test_pytorchs_messages(name, given):
    refusals = []
    for module in (ft, torch.optim):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as refused:
            getattr(module, name)([parameter()], **given)
        refusals.append((refused.type, str(refused.value)))
    assert refusals[0] == refusals[1]


CAPTURE = "capturable=True is not possible: it concerns the capture of CUDA graphs"
DIFFERENTIABLE = "differentiable=True is not possible: autograd cannot go through"
CAPTURABLE = ["Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"]
# What PyTorch takes and we do not: class, arguments, exception, message.
OURS = [
    *((name, {"capturable": True}, ValueError, CAPTURE) for name in CAPTURABLE),
    *(
        (name, {"differentiable": True}, ValueError, DIFFERENTIABLE)
        for name in ("SGD", "Adagrad", *CAPTURABLE)
    ),
    ("SGD", {"lr": NAN}, ValueError, r"lr must be in \[0, inf\), got nan"),
    ("SGD", {"lr": INF}, ValueError, r"lr must be in \[0, inf\), got inf"),
    ("SGD", {"momentum": 1.5}, ValueError, r"mu must be in \[0, 1\], got 1.5"),
    ("SGD", {"dampening": -0.5}, ValueError, r"dampening must be in \[0, 1\], got -0.5"),
    ("Adam", {"lr": True}, TypeError, r"lr must be a number in \[0, inf\), got True \(bool\)"),
    ("Adam", {"amsgrad": 1}, TypeError, "amsgrad must be True or False, got 1"),
    ("Adam", {"maximize": "no"}, TypeError, "maximize must be True or False, got 'no'"),
    ("RMSprop", {"alpha": 1.5}, ValueError, r"decay_rate must be in \[0, 1\), got 1.5"),
    ("Adadelta", {"rho": 1.0}, ValueError, r"rho must be in \[0, 1\), got 1.0"),
    ("Adafactor", {"eps": (1e-3, 1e-3)}, ValueError, r"eps\[0\] is 0.001, .* leave it None"),
]


@pytest.mark.parametrize(("name", "given", "problem", "match"), OURS)
def test_our_own_messages(name, given, problem, match):
    getattr(torch.optim, name)([parameter()], **given)
    with pytest.raises(problem, match=match):
        getattr(ft, name)([parameter()], **given)
    opt = getattr(ft, name)([parameter()])
    with pytest.raises(problem, match=match) as refused:
        opt.add_param_group({"params": [parameter()], **given})
    assert len(opt.param_groups) == 1
    if problem is not ValueError or "possible" not in match:
        assert "param_groups[1]: lr=" in refused.value.__notes__[0]


def test_every_class_that_has_them_is_in_the_tables():
    for name in NAMES:
        defaults = getattr(torch.optim, name)([parameter()]).defaults
        for option in ("capturable", "differentiable"):
            assert (option in defaults) == any(
                one == name and option in given for one, given, *_ in OURS
            )


# ---------------------------------------------------------------- set while training

LIVE = [
    ("lr", -1, ValueError, r"lr must be in \[0, inf\), got -1"),
    ("lr", "a", TypeError, r"lr must be a number in \[0, inf\), got 'a' \(str\)"),
    ("lr", NAN, ValueError, r"lr must be in \[0, inf\), got nan"),
    ("lr", INF, ValueError, r"lr must be in \[0, inf\), got inf"),
    ("lr", None, TypeError, r"lr must be a number in \[0, inf\), got None"),
    ("lr", torch.ones(2), ValueError, r"must have one element, got the shape \(2,\)"),
    ("lr", torch.tensor(-1.0), ValueError, r"lr must be in \[0, inf\), got -1.0"),
    ("weight_decay", -1, ValueError, r"weight_decay must be in \[0, inf\), got -1"),
    ("maximize", "no", TypeError, "maximize must be True or False, got 'no'"),
]
LIVE_ALONE = [
    ("Adam", "betas", (0.9, 1.0), ValueError, r"beta2 must be in \[0, 1\), got 1.0"),
    ("Adam", "capturable", True, ValueError, CAPTURE),
    ("SGD", "differentiable", True, ValueError, DIFFERENTIABLE),
    ("SGD", "nesterov", None, TypeError, "nesterov must be True or False, got None"),
    ("Adafactor", "eps", (0.1, 0.1), ValueError, r"eps\[0\] is 0.1"),
]
ROWS = [
    (name, *row) for name in NAMES for row in LIVE
    if name != "SparseAdam" and (name, row[0]) != ("Rprop", "weight_decay")
]


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("bad", [-1, "a", torch.ones(2)], ids=str)
def test_bad_numbers_are_refused_at_the_first_step(bad, k):
    p, q = parameter(), parameter()
    opt = ft.Adam([{"params": [p]}, {"params": [q]}])
    opt.param_groups[k]["lr"] = bad
    with pytest.raises((TypeError, ValueError)) as refused:
        opt.step()
    (note,) = refused.value.__notes__
    assert note.startswith(f"these are the hyperparameters of param_groups[{k}]: lr=")
    assert p.tolist() == q.tolist() == [1.0] * 3


@pytest.mark.parametrize(("name", "option", "bad", "problem", "match"), ROWS + LIVE_ALONE)
def test_bad_numbers_are_refused_at_the_step(name, option, bad, problem, match):
    p, q = parameter(), parameter()
    opt = getattr(ft, name)([{"params": [p]}, {"params": [q]}])
    opt.step()
    good = opt.param_groups[1][option]
    before = copy.deepcopy([p, q, opt.state_dict()["state"]])
    versions = p._version, q._version
    for _ in range(2):
        opt.param_groups[1][option] = bad
        with pytest.raises(problem, match=match) as refused:
            opt.step()
        assert "param_groups[1]: lr=" in refused.value.__notes__[0]
        assert same([p, q, opt.state_dict()["state"]], before)
        assert (p._version, q._version) == versions
    opt.param_groups[1][option] = good
    opt.step()
    assert torch.equal(p, q)
    assert not torch.equal(p, before[0])


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(("name", "words"), [
    ("Lion", "goes through Optimizer(params, fastoptim.Lion())"),
    ("Muon", "goes through Optimizer(params, fastoptim.Muon())"),
    ("LBFGS", "'LBFGS'; use torch.optim.LBFGS"),
    ("lr_scheduler", "torch.optim.lr_scheduler works with the optimizers here"),
    ("Nothing", "has no attribute 'Nothing'"),
    ("_functional", "has no attribute '_functional'"),
])
def test_names_that_are_elsewhere(name, words):
    with pytest.raises(AttributeError) as refused:
        getattr(ft, name)
    assert str(refused.value).endswith(words)
    assert refused.value.name == name
