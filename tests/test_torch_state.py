"""The state of `fastoptim.torch`'s classes: PyTorch's, in both directions; checkpoints; copies."""

import copy
import gc
import io
import pickle
import re
import tracemalloc
from collections import defaultdict
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

import fastoptim as fo

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastoptim.torch")

SHAPES = {"W": (7, 5), "b": (11,), "scale": ()}
TOLERANCE = {"rtol": 1e-12, "atol": 1e-14}

# Each class with arguments that give it all the state it may have.
CASES = {
    "SGD": {"lr": 0.1},
    "SGD-momentum": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "SGD-nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True},
    "Adam": {"lr": 0.01},
    "Adam-amsgrad": {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
    "AdamW-amsgrad": {"lr": 0.01, "amsgrad": True},
    "NAdam": {"lr": 0.01},
    "RAdam": {"lr": 0.01},
    "Adamax": {"lr": 0.01},
    "Adagrad": {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1},
    "Adadelta": {"lr": 1.0},
    "RMSprop": {"lr": 0.01},
    "RMSprop-all": {"lr": 0.01, "momentum": 0.5, "centered": True},
    "Rprop": {"lr": 0.01},
    "SparseAdam": {"lr": 0.01},
    "Adafactor": {"lr": 0.05},
}
every_case = pytest.mark.parametrize("case", CASES)
WITH_STEPS = [name for name in CASES if not name.startswith("SGD")]


def named(case):
    """The name of a case's class."""
    return case.split("-")[0]


class Training:
    """Parameters and an optimizer of `classes`, with gradients that depend on the step alone."""

    def __init__(self, case, classes, dtype=torch.float64, groups=False):
        self.case, self.n = case, 0
        rng = np.random.default_rng(1)
        shapes = [(7, 5), (4, 3)] if case == "SparseAdam" else SHAPES.values()
        self.params = [
            torch.nn.Parameter(torch.tensor(rng.normal(size=shape), dtype=dtype))
            for shape in shapes
        ]
        given = self.params
        if groups:
            given = [{"params": self.params[:1]}, {"params": self.params[1:], "lr": 0.02}]
        self.opt = getattr(classes, named(case))(given, **CASES[case])

    def step(self, times=1, without=()):
        for _ in range(times):
            rng = np.random.default_rng(100 + self.n)
            for k, p in enumerate(self.params):
                g = torch.tensor(rng.normal(size=tuple(p.shape)), dtype=p.dtype)
                if self.case == "SparseAdam":
                    g[self.n % 3] = 0.0
                    g = g.to_sparse(1)
                p.grad = None if k in without else g
            self.opt.step()
            self.n += 1
        return self

    def goes_on_from(self, other):
        """Take another training's parameters, gradients and state over, through a state_dict."""
        for p, theirs in zip(self.params, other.params, strict=True):
            p.data.copy_(theirs)
        self.n = other.n
        self.opt.load_state_dict(copy.deepcopy(other.opt.state_dict()))
        return self


@pytest.fixture
def in_double():
    """Counts in float64.

    PyTorch keeps NAdam's product of momenta in its default dtype, and in the parameter's once it
    was loaded. So even PyTorch does not go on as if it had never stopped, unless both are the same.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def ours(case, **also):
    return Training(case, ft, **also)


def theirs(case, **also):
    return Training(case, torch.optim, **also)


def assert_close(a, b):
    """Parameters and state agree to 1e-12, and the state has the same names, shapes and dtypes."""
    for p, q in zip(a.params, b.params, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), **TOLERANCE)
    assert_same_form(a.opt.state_dict(), b.opt.state_dict())
    assert_close_state(a.opt.state_dict()["state"], b.opt.state_dict()["state"])


def assert_same_form(mine, other):
    """Two state_dicts have the same parameters, names, types, shapes and dtypes, and groups."""
    assert mine.keys() == other.keys()
    assert {*mine["state"]} == {*other["state"]}
    for number, of_p in other["state"].items():
        assert mine["state"][number].keys() == of_p.keys()
        for name, x in of_p.items():
            y = mine["state"][number][name]
            assert type(y) is type(x), name
            if isinstance(x, torch.Tensor):
                assert (y.shape, y.dtype, y.requires_grad) == (x.shape, x.dtype, x.requires_grad)
    names = [{name: v for name, v in g.items() if name != "fused"} for g in mine["param_groups"]]
    assert names == [
        {name: v for name, v in g.items() if name != "fused"} for g in other["param_groups"]
    ]


def assert_close_state(mine, other):
    assert {*mine} == {*other}
    for number, of_p in other.items():
        assert mine[number].keys() == of_p.keys()
        for name, x in of_p.items():
            np.testing.assert_allclose(
                np.asarray(mine[number][name]), np.asarray(x), **TOLERANCE, err_msg=name
            )


def snapshot(training):
    """All that a refused call must leave alone, as copies."""
    saved = training.opt.state_dict()
    return copy.deepcopy(([p.detach().numpy() for p in training.params], saved))


def assert_same(a, b):
    """Two snapshots are equal to the bit."""
    for p, q in zip(a[0], b[0], strict=True):
        assert np.array_equal(p, q)
    assert_same_trees(a[1], b[1])


def assert_same_trees(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.array_equal(a.numpy(), b.numpy())
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key, one in a.items():
            assert_same_trees(one, b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same_trees(one, other)
    else:
        assert a == b


# ---------------------------------------------------------------- state_dict is PyTorch's


@every_case
def test_state_dict_is_what_pytorch_gives(case):
    assert_close(ours(case).step(5), theirs(case).step(5))


@every_case
def test_state_dict_before_the_first_step_is_what_pytorch_gives(case):
    assert_close(ours(case), theirs(case))


@every_case
def test_parameters_without_gradients_have_the_state_that_they_have_in_pytorch(case):
    a, b = ours(case), theirs(case)
    assert_close(a.step(2, without=[0]), b.step(2, without=[0]))
    assert_close(a.step(3), b.step(3))


def test_step_has_the_dtype_that_pytorch_gives_it():
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            assert_close(ours("Adam").step(3), theirs("Adam").step(3))
    finally:
        torch.set_default_dtype(before)


@every_case
def test_pytorch_goes_on_with_our_state(case, in_double):
    whole = theirs(case).step(12)
    assert_close(theirs(case).goes_on_from(ours(case).step(5)).step(7), whole)


@every_case
def test_we_go_on_with_pytorchs_state(case):
    whole = theirs(case).step(12)
    assert_close(ours(case).goes_on_from(theirs(case).step(5)).step(7), whole)


@every_case
def test_state_is_exchanged_at_every_step(case, in_double):
    whole, now = theirs(case).step(6), theirs(case)
    for k in range(6):
        now = (ours if k % 2 else theirs)(case).goes_on_from(now).step()
    assert_close(now, whole)


@every_case
def test_a_state_can_be_loaded_into_an_optimizer_that_has_stepped(case):
    used = ours(case).step(3)
    used.opt.state_dict()
    assert_close(used.goes_on_from(theirs(case).step(5)).step(2), theirs(case).step(7))


@every_case
def test_partial_and_empty_state_is_taken(case):
    partial = theirs(case).step(4, without=[1])
    whole = theirs(case).step(4, without=[1]).step(3)
    assert_close(ours(case).goes_on_from(partial).step(3), whole)
    assert_close(ours(case).goes_on_from(theirs(case)).step(3), theirs(case).step(3))
    assert_close(ours(case).step(2).goes_on_from(theirs(case)).step(3), theirs(case).step(3))


@every_case
def test_groups_and_their_numbers_are_exchanged(case, in_double):
    first = ours(case, groups=True).step(3)
    first.opt.param_groups[0]["lr"] = 0.5
    second = theirs(case, groups=True).goes_on_from(first)
    assert second.opt.param_groups[0]["lr"] == 0.5
    third = ours(case, groups=True).goes_on_from(second)
    assert_close(third.step(3), second.step(3))


@every_case
def test_state_in_float32_becomes_float64_as_in_pytorch(case, in_double):
    saved = theirs(case, dtype=torch.float32).step(4)
    assert_close(ours(case).goes_on_from(saved).step(3), theirs(case).goes_on_from(saved).step(3))


@pytest.mark.parametrize("case", [name for name in WITH_STEPS if name != "SparseAdam"])
@pytest.mark.parametrize("kind", [float, int])
def test_a_step_that_is_a_number_is_taken(case, kind):
    """Older versions of PyTorch saved it so."""
    first = theirs(case).step(4)
    saved = copy.deepcopy(first.opt.state_dict())
    for of_p in saved["state"].values():
        of_p["step"] = kind(of_p["step"])
    second = ours(case).goes_on_from(first)
    second.opt.load_state_dict(saved)
    assert_close(second.step(3), first.step(3))


def test_what_pytorch_saved_before_it_had_an_argument_gets_its_default():
    first = theirs("Adam").step(2)
    saved = copy.deepcopy(first.opt.state_dict())
    for name in ("amsgrad", "maximize", "foreach", "capturable", "decoupled_weight_decay"):
        saved["param_groups"][0].pop(name)
    second = ours("Adam").goes_on_from(first)
    second.opt.load_state_dict(saved)
    assert_close(second.step(3), first.step(3))


def test_gradients_of_16_bits_keep_a_master_copy_that_pytorch_ignores():
    a = ours("Adam", dtype=torch.float16).step(3)
    state = a.opt.state_dict()["state"][0]
    assert state["exp_avg"].dtype == state["master"].dtype == torch.float32
    b = theirs("Adam", dtype=torch.float16).goes_on_from(a)
    assert b.opt.state_dict()["state"][0]["exp_avg"].dtype == torch.float16
    c = ours("Adam", dtype=torch.float16).goes_on_from(a).step(2)
    a.step(2)
    for p, q in zip(a.params, c.params, strict=True):
        assert torch.equal(p, q)


# ---------------------------------------------------------------- files and copies


def written(saved, weights_only=True):
    """What torch.save has written, read again."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


@every_case
def test_torch_save_and_load(case):
    first = ours(case).step(4)
    saved = written(first.opt.state_dict())
    second = ours(case).goes_on_from(first)
    second.opt.load_state_dict(saved)
    first.step(3)
    second.step(3)
    assert_same(snapshot(first), snapshot(second))


def test_a_saved_file_holds_the_state_and_nothing_beside_it():
    training = ours("Adam").step(2)
    ours_file, theirs_file = io.BytesIO(), io.BytesIO()
    torch.save(training.opt.state_dict(), ours_file)
    torch.save(theirs("Adam").step(2).opt.state_dict(), theirs_file)
    assert ours_file.tell() < 1.1 * theirs_file.tell()


@every_case
@pytest.mark.parametrize("times", [0, 4])
def test_deepcopy_of_model_and_optimizer_together(case, times):
    first = ours(case).step(times)
    second = copy.deepcopy(first)
    assert all(p is q for p, q in zip(second.params, all_of(second.opt), strict=True))
    assert not any(p is q for p, q in zip(first.params, second.params, strict=True))
    before = snapshot(first)
    second.step(3)
    assert_same(snapshot(first), before)
    first.step(3)
    assert_same(snapshot(first), snapshot(second))


def all_of(opt):
    return [p for group in opt.param_groups for p in group["params"]]


@every_case
def test_pickled_together_with_its_parameters(case):
    first = ours(case).step(4)
    second = pickle.loads(pickle.dumps(first))
    assert all(p is q for p, q in zip(second.params, all_of(second.opt), strict=True))
    first.step(3)
    second.step(3)
    assert_same(snapshot(first), snapshot(second))


def test_pickled_for_another_process():
    """As torch.multiprocessing does it, which sends tensors through shared memory."""
    first = ours("Adam").step(4)
    sent = bytes(ForkingPickler.dumps(first.opt))
    second = pickle.loads(sent)
    assert_same_trees(second.state_dict(), first.opt.state_dict())


def test_a_copy_that_nobody_looks_at_does_not_make_the_original_follow_its_state():
    training = ours("Adam").step(2)
    copy.deepcopy(training)
    pickle.dumps(training.opt)
    assert not training.opt._lent


@every_case
def test_save_and_load_to_the_bit(case, tmp_path):
    pytest.importorskip("safetensors")
    first = ours(case).step(4)
    first.opt.save(tmp_path / "opt")
    second = ours(case).step(1)
    for p, q in zip(second.params, first.params, strict=True):
        p.data.copy_(q)
    second.opt.load(tmp_path / "opt")
    second.n = first.n
    assert_same(snapshot(first), snapshot(second))
    first.step(3)
    second.step(3)
    assert_same(snapshot(first), snapshot(second))


def test_a_file_of_another_class_or_damaged_changes_nothing(tmp_path):
    pytest.importorskip("safetensors")
    ours("Adam").step(2).opt.save(tmp_path / "opt")
    training = ours("AdamW").step(3)
    before = snapshot(training)
    with pytest.raises(ValueError, match=r"not saved by fastoptim\.torch\.AdamW, but by Adam"):
        training.opt.load(tmp_path / "opt")
    plain = fo.SGD()
    plain.update([np.zeros(2)], [np.ones(2)])
    plain.save(tmp_path / "plain")
    with pytest.raises(ValueError, match=r"not saved by fastoptim\.torch\.AdamW, but by SGD"):
        training.opt.load(tmp_path / "plain")
    content = bytearray((tmp_path / "opt").read_bytes())
    content[-3] ^= 1
    (tmp_path / "opt").write_bytes(content)
    with pytest.raises(ValueError, match="damaged|digest"):
        training.opt.load(tmp_path / "opt")
    with pytest.raises(FileNotFoundError):
        training.opt.load(tmp_path / "nothing")
    assert_same(snapshot(training), before)


def test_named_parameters_keep_their_names(tmp_path):
    pytest.importorskip("safetensors")
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).double()
    opt = ft.Adam(model.named_parameters(), lr=0.1)
    peer = torch.optim.Adam(copy.deepcopy(model).named_parameters(), lr=0.1)
    for one in (opt, peer):
        for p in all_of(one):
            p.grad = torch.ones_like(p)
        one.step()
    assert opt.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert_same_form(opt.state_dict(), peer.state_dict())
    assert [*opt.rule.m] == ["weight", "bias"]
    opt.save(tmp_path / "opt")
    again = ft.Adam(model.named_parameters(), lr=0.1)
    again.load(tmp_path / "opt")
    assert_same_trees(again.state_dict(), opt.state_dict())
    numbered = ft.Adam(model.parameters(), lr=0.1)
    numbered.load_state_dict(opt.state_dict())
    assert_close_state(numbered.state_dict()["state"], opt.state_dict()["state"])


def test_hooks_of_loading_and_saving_are_called_and_may_change_what_they_see():
    first, second, calls = ours("Adam").step(3), ours("Adam"), []

    def rename(optimizer, state_dict):
        calls.append("pre")
        return {**state_dict, "state": {
            k: {name.removeprefix("old_"): x for name, x in of_p.items()}
            for k, of_p in state_dict["state"].items()
        }}

    def add(optimizer, state_dict):
        calls.append("saved")
        state_dict["state"] = {
            k: {f"old_{name}": x for name, x in of_p.items()}
            for k, of_p in state_dict["state"].items()
        }

    first.opt.register_state_dict_post_hook(add)
    first.opt.register_state_dict_pre_hook(lambda optimizer: calls.append("saving"))
    second.opt.register_load_state_dict_pre_hook(rename)
    second.opt.register_load_state_dict_post_hook(lambda optimizer: calls.append("post"))
    second.opt.load_state_dict(first.opt.state_dict())
    assert calls == ["saving", "saved", "pre", "post"]
    first.opt._optimizer_state_dict_post_hooks.clear()
    assert_same_trees(second.opt.state_dict()["state"], first.opt.state_dict()["state"])


def test_averages_of_swa_utils():
    torch.manual_seed(0)
    results = []
    for classes in (ft, torch.optim):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3).double()
        average = torch.optim.swa_utils.AveragedModel(model)
        opt = classes.SGD(model.parameters(), lr=0.1, momentum=0.9)
        rates = torch.optim.swa_utils.SWALR(opt, swa_lr=0.05, anneal_epochs=3)
        for _ in range(6):
            opt.zero_grad()
            model(torch.ones(2, 4, dtype=torch.float64)).square().sum().backward()
            opt.step()
            average.update_parameters(model)
            rates.step()
        results.append([p.detach().numpy() for p in average.module.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)


def test_state_dicts_of_distributed_checkpoints_without_a_process_group():
    checkpoint = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double()
    opt = ft.AdamW(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    opt.step()
    saved = copy.deepcopy(checkpoint.get_optimizer_state_dict(model, opt))
    assert [*saved["state"]] == ["weight", "bias"]
    other = ft.AdamW(model.parameters(), lr=0.3)
    checkpoint.set_optimizer_state_dict(model, other, saved)
    assert_same_trees(other.state_dict()["state"], opt.state_dict()["state"])
    assert other.param_groups[0]["lr"] == 0.1


# ---------------------------------------------------------------- what is refused


def change(saved, **items):
    saved["state"][0].update(items)


def drop(saved, name):
    del saved["state"][0][name]


# What is done to a state_dict of Adam; the exception; a part of its text.
DAMAGES = {
    "another class's": (
        lambda saved: saved.update(state=theirs("SGD-momentum").step(2).opt.state_dict()["state"]),
        ValueError, "of another class",
    ),
    "a slot is missing": (lambda s: drop(s, "exp_avg"), ValueError, "only the slots"),
    "another shape": (
        lambda s: change(s, exp_avg=torch.zeros(5, 7, dtype=torch.float64)), ValueError,
        "should have float64 (7, 5) as its 'exp_avg', got float64 (5, 7); it is of another model",
    ),
    "too few elements": (
        lambda s: change(s, exp_avg_sq=torch.zeros((), dtype=torch.float64)), ValueError, "(7, 5)",
    ),
    "an array for a tensor": (
        lambda s: change(s, exp_avg=np.zeros((7, 5))), TypeError,
        "should have a tensor as its 'exp_avg', got ndarray",
    ),
    "integers": (
        lambda s: change(s, exp_avg=torch.zeros(7, 5, dtype=torch.int64)), ValueError,
        "float64 (7, 5)",
    ),
    "on no device": (
        lambda s: change(s, exp_avg=torch.zeros(7, 5, device="meta")), TypeError,
        "the device 'meta'",
    ),
    "step of NaN": (lambda s: change(s, step=torch.tensor(float("nan"))), ValueError, "got nan"),
    "infinite step": (lambda s: change(s, step=float("inf")), ValueError, "got inf"),
    "negative step": (lambda s: change(s, step=torch.tensor(-1.0)), ValueError, "got -1.0"),
    "half a step": (lambda s: change(s, step=2.5), ValueError, "got 2.5"),
    "step of two": (lambda s: change(s, step=torch.ones(2)), ValueError, "whole number"),
    "step of a text": (lambda s: change(s, step="three"), ValueError, "three"),
    "no step": (lambda s: drop(s, "step"), ValueError, "has no 'step'"),
    "no dict": (lambda s: s["state"].update({0: 3}), TypeError, "should be a dict, got 3"),
    "too few groups": (lambda s: s["param_groups"].pop(), ValueError, "parameter groups"),
    "too few parameters": (
        lambda s: s["param_groups"][0]["params"].pop(), ValueError, "doesn't match the size",
    ),
    "a wrong number": (
        lambda s: s["param_groups"][1].update(betas=(0.9, 1.5)), ValueError, r"beta2 must be in",
    ),
    "a number of another type": (
        lambda s: s["param_groups"][1].update(eps="small"), TypeError, "eps must be",
    ),
    "capturable": (
        lambda s: s["param_groups"][0].update(capturable=True), ValueError, "CUDA graphs",
    ),
    "no groups": (lambda s: s.pop("param_groups"), KeyError, "param_groups"),
    "no state": (lambda s: s.pop("state"), KeyError, "state"),
}


@pytest.mark.parametrize("looked", [False, True], ids=["unseen", "looked at"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_refused_state_changes_nothing(name, looked):
    damage, problem, words = DAMAGES[name]
    training, twin = (ours("Adam", groups=True).step(3) for _ in range(2))
    saved = copy.deepcopy(theirs("Adam", groups=True).step(2).opt.state_dict())
    damage(saved)
    held = training.opt.state if looked else None
    groups, before = training.opt.param_groups, snapshot(twin)
    with pytest.raises(problem, match=re.escape(words)):
        training.opt.load_state_dict(saved)
    assert training.opt.param_groups is groups
    if looked:
        assert training.opt.state is held
    assert_same(snapshot(training), before)
    assert_same(snapshot(training.step(2)), snapshot(twin.step(2)))


# ---------------------------------------------------------------- the live state


def slots_of(opt, p):
    return [one for one in opt.state[p].values() if isinstance(one, torch.Tensor)]


@every_case
def test_the_state_that_was_looked_at_is_live(case):
    a, b = ours(case).step(2), theirs(case).step(2)
    held = [(a.opt.state.get(p, {}), b.opt.state.get(q, {}))
            for p, q in zip(a.params, b.params, strict=True)]
    tensors = [({**mine}, {**other}) for mine, other in held]
    a.step(3)
    b.step(3)
    for (mine, other), (m, o) in zip(held, tensors, strict=True):
        assert mine.keys() == other.keys() == m.keys()
        for name, x in other.items():
            np.testing.assert_allclose(np.asarray(mine[name]), np.asarray(x), **TOLERANCE)
            if isinstance(x, torch.Tensor):
                assert mine[name] is m[name]
                assert x is o[name]
    assert_close(a, b)


def test_the_state_shares_memory_with_the_rules_arrays():
    a = ours("Adam").step()
    for key, p in enumerate(a.params):
        state = a.opt.state[p]
        assert np.shares_memory(state["exp_avg"].numpy(), a.opt.rule.m[key])
        assert np.shares_memory(state["exp_avg_sq"].numpy(), a.opt.rule.v[key])


def zero_in_place(opt, params):
    for p in params:
        opt.state[p]["exp_avg"].zero_()


def replace_one(opt, params):
    opt.state[params[0]]["exp_avg_sq"] = torch.full((7, 5), 2.0, dtype=torch.float64)


def replace_and_write(opt, params):
    """A tensor that was held before another one was replaced is live still."""
    held = opt.state[params[1]]["exp_avg"]
    opt.state[params[0]]["exp_avg"] = torch.ones(7, 5, dtype=torch.float64)
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()
    held.fill_(3.0)


def new_memory(opt, params):
    opt.state[params[0]]["exp_avg"].data = torch.ones(7, 5, dtype=torch.float64)


def forget_one(opt, params):
    del opt.state[params[1]]


def forget_all(opt, params):
    opt.state.clear()


def reset(opt, params):
    opt.state = defaultdict(dict)


def reset_and_hold(opt, params):
    """The dict that was assigned is the state from then on."""
    state = opt.state = defaultdict(dict)
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()
    state[params[0]]["exp_avg"].fill_(2.0)


def step_in_place(opt, params):
    opt.state[params[0]]["step"].fill_(7.0)


def add_to_step(opt, params):
    opt.state[params[2]]["step"] += 3
    assert opt.state[params[2]]["step"] == 6


def replace_step(opt, params):
    opt.state[params[0]]["step"] = torch.tensor(9.0)


def new_dict(opt, params):
    opt.state[params[0]] = {
        "step": torch.tensor(2.0), "exp_avg": torch.zeros(7, 5, dtype=torch.float64),
        "exp_avg_sq": torch.ones(7, 5, dtype=torch.float64),
    }


def exchange(opt, params):
    """The same dicts, in another order."""
    state = opt.state
    state[params[0]] = state.pop(params[0])


def note(opt, params):
    """Somebody's own notes stay where they are."""
    opt.state[params[0]]["note"] = "mine"
    opt.state["whole"] = {"n": 3}


def another_group(opt, params):
    held = opt.state[params[0]]["exp_avg"]
    params.append(torch.nn.Parameter(torch.ones(3, dtype=torch.float64)))
    opt.add_param_group({"params": [params[-1]], "lr": 0.3})
    for p in params:
        p.grad = torch.ones_like(p)
    opt.step()
    held.fill_(0.5)


EDITS = [
    zero_in_place, replace_one, replace_and_write, new_memory, forget_one, forget_all, reset,
    reset_and_hold, step_in_place, add_to_step, replace_step, new_dict, exchange, note,
    another_group,
]


@pytest.mark.parametrize("looked", [False, True], ids=["at once", "looked at before"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_what_is_put_into_the_state_does_what_it_does_in_pytorch(edit, looked):
    a, b = ours("Adam").step(3), theirs("Adam").step(3)
    for one in (a, b):
        if looked:
            one.opt.state[one.params[0]]
            one.step()
            one.n -= 1
            for p in one.params:
                one.opt.state[p]["step"].fill_(3.0)
        edit(one.opt, one.params)
        one.step(2)
        edit(one.opt, one.params) if edit in (forget_all, note, replace_one) else None
        one.step(2)
    for p, q in zip(a.params, b.params, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), **TOLERANCE)
    mine, other = a.opt.state_dict()["state"], b.opt.state_dict()["state"]
    assert {*mine} == {*other}
    for key, of_p in other.items():
        if isinstance(key, int) and key < len(a.params):
            assert mine[key].keys() == of_p.keys()
            for name, x in of_p.items():
                if isinstance(x, torch.Tensor):
                    np.testing.assert_allclose(mine[key][name], x, **TOLERANCE)
                else:
                    assert mine[key][name] == x


def test_empty_entries_make_no_difference():
    """PyTorch's state is a defaultdict: to look at a parameter without state makes an entry."""
    a, b = ours("Adam"), theirs("Adam")
    for one in (a, b):
        one.step(2, without=[0])
        one.opt.state_dict()
    work = a.opt._work
    for one in (a, b):
        assert one.opt.state[one.params[0]] == {}
        one.step(3, without=[0])
    assert a.opt._work is work
    assert_close(a, b)
    assert_close(a.step(2), b.step(2))


def test_states_that_are_exchanged_between_parameters():
    results = []
    for classes in (ft, torch.optim):
        p, q = (torch.nn.Parameter(torch.full((3,), x, dtype=torch.float64)) for x in (1.0, 2.0))
        opt = classes.Adam([p, q], lr=0.1)
        for k in range(4):
            p.grad, q.grad = torch.full_like(p, 1.0 + k), torch.full_like(q, -2.0)
            if k == 2:
                first, second = opt.state.pop(p), opt.state.pop(q)
                opt.state[q], opt.state[p] = first, second
            opt.step()
        results.append([p.detach().numpy(), q.detach().numpy()])
    np.testing.assert_allclose(*results, **TOLERANCE)


def test_somebodys_own_notes_outlive_a_load():
    for one in (ours("Adam").step(2), theirs("Adam").step(2)):
        one.opt.state[one.params[0]]["note"] = 5
        one.opt.load_state_dict(copy.deepcopy(one.opt.state_dict()))
        one.step()
        assert one.opt.state[one.params[0]]["note"] == 5


def test_a_state_that_nobody_looked_at_is_not_followed():
    for case in CASES:
        assert not ours(case).step().opt._lent


@pytest.mark.parametrize("edit", [
    lambda state: state.update(other=state.pop("exp_avg_sq")),
    lambda state: state.update(step=torch.tensor(-1.0)),
    lambda state: state.update(exp_avg=torch.zeros(2)),
    lambda state: state.pop("exp_avg"),
    lambda state: state.update(exp_avg=None),
], ids=["another name", "step", "shape", "missing", "None"])
def test_what_cannot_be_a_state_is_refused_at_the_step_and_can_be_put_right(edit):
    a, b = ours("Adam").step(3), ours("Adam").step(3)
    state = a.opt.state[a.params[0]]
    good = {**state}
    edit(state)
    before = [p.detach().clone() for p in a.params]
    for _ in range(2):
        with pytest.raises(ValueError, match="the state of"):
            a.opt.step()
        assert all(torch.equal(p, q) for p, q in zip(a.params, before, strict=True))
    state.pop("other", None)
    state.update(good)
    assert_same(snapshot(a.step(2)), snapshot(b.step(2)))


def test_momentum_that_is_put_in_place_of_none():
    """SGD's older checkpoints have momentum_buffer=None before the first update."""
    a, b = ours("SGD-momentum"), theirs("SGD-momentum")
    for one in (a, b):
        for p in one.params:
            one.opt.state[p]["momentum_buffer"] = None
        one.step(3)
    assert_close(a, b)


def test_memory_is_flat_however_often_somebody_looks():
    training = ours("Adam").step(2)
    for p in training.params:
        p.grad = torch.ones_like(p)

    def look(times):
        for k in range(times):
            training.opt.step()
            training.opt.state[training.params[0]]["exp_avg"]
            if k % 100 == 0:
                training.opt.state_dict()

    look(200)
    gc.collect()
    tracemalloc.start()
    try:
        look(10)
        before = tracemalloc.get_traced_memory()[0]
        look(1000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["look", "group", "load", "edit"])
def test_the_state_is_there_once(way):
    """Whatever happens, nothing holds arrays of state beside the rule's own."""
    p = torch.nn.Parameter(torch.zeros(1_000_000))
    p.grad = torch.ones_like(p)
    tracemalloc.start()
    try:
        opt = ft.Adam([p], lr=0.1)
        opt.step()
        one = tracemalloc.get_traced_memory()[0]
        assert one > 8_000_000
        if way == "look":
            opt.state_dict()
        if way == "group":
            opt.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))]})
        if way == "load":
            opt.load_state_dict(opt.state_dict())
        if way == "edit":
            opt.state[p]["step"].fill_(5.0)
        opt.step()
        opt.step()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < one + 100_000
    finally:
        tracemalloc.stop()
