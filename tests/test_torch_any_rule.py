"""`fastoptim.torch.Optimizer`: any rule with any option, to the bit as on NumPy arrays."""

import copy
import io
import pickle
import re

import numpy as np
import pytest
from helpers import every_class_with_every_option, every_dtype, every_rule

import fastoptim as fo

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastoptim.torch")

SHAPES = {"W": (6, 5), "b": (7,), "scale": ()}
MATRICES = {"W": (6, 5), "U": (4, 9), "b": (7,)}


class Both:
    """One rule twice: for PyTorch's parameters, and for arrays with the same numbers."""

    def __init__(self, make, dtype=np.float64, shapes=SHAPES, half=None, names=True):
        rng = np.random.default_rng(3)
        self.arrays = {key: np.asarray(rng.normal(size=s), dtype) for key, s in shapes.items()}
        self.tensors = {
            key: torch.nn.Parameter(torch.from_numpy(a.copy())) for key, a in self.arrays.items()
        }
        if half is not None:
            self.arrays = {key: a.astype(half) for key, a in self.arrays.items()}
            self.tensors = {
                key: torch.nn.Parameter(p.detach().to(getattr(torch, half.__name__)))
                for key, p in self.tensors.items()
            }
        self.make, self.plain = make, make()
        self.opt = ft.Optimizer(self.tensors.items() if names else self.tensors.values(), make())
        self.n = 0

    def give_grads(self, change=None):
        """Give both new gradients."""
        rng = np.random.default_rng(50 + self.n)
        self.n += 1
        self.grads = {}
        for key, a in self.arrays.items():
            g = np.asarray(rng.normal(size=a.shape), np.float64).astype(a.dtype)
            self.tensors[key].grad = torch.from_numpy(
                g.astype(np.float32)).to(self.tensors[key].dtype) if g.dtype.itemsize == 2 else (
                torch.from_numpy(g.copy())
            )
            self.grads[key] = g
        if change is not None:
            change(self)

    def step(self, times=1, change=None):
        for _ in range(times):
            self.give_grads(change)
            self.plain.update(self.arrays, self.grads)
            self.opt.step()
        return self

    def assert_same(self):
        """Parameters, every slot, averages, step counts and counters are the same to the bit."""
        for key, a in self.arrays.items():
            assert_same_bits(self.tensors[key].detach(), a, key)
        records = self.plain.engine.store.records
        state = self.opt.state
        assert len(records) == len([p for p in self.tensors.values() if p in state])
        for key, record in records.items():
            of_p = state[self.tensors[key]]
            slots = {**record.state}
            if record.average is not None:
                slots["average"] = record.average
            numbers = {"step", "mean", "carried", "number"}
            assert {*of_p} - numbers == {*slots}
            for name, a in slots.items():
                assert_same_bits(of_p[name], a, f"{name} of {key}")
            assert of_p["step"] == record.t
            assert of_p.get("carried") == record.carried
            assert of_p.get("mean") == record.mean
        for name in ("iter", "skipped", "clipped", "grad_norm"):
            assert getattr(self.opt.rule, name) == getattr(self.plain, name), name


def assert_same_bits(tensor, a, name):
    if tensor.dtype == torch.bfloat16:
        tensor, a = tensor.view(torch.int16), a.view(np.int16)
    assert tensor.shape == a.shape, name
    assert np.array_equal(tensor.numpy(), a, equal_nan=True), name


# ---------------------------------------------------------------- bits


@every_dtype
@every_rule
def test_every_rule(case, dtype):
    Both(case.ours, dtype).step(5).assert_same()


@every_class_with_every_option
def test_every_option(case, options):
    both = Both(lambda: case.ours_with(options))
    for _ in range(3):
        both.step().assert_same()
        for key, g in both.grads.items():  # zero_grads
            assert np.array_equal(both.tensors[key].grad.numpy(), g)


@every_dtype
def test_muon_with_a_rest(dtype):
    def make():
        return fo.Muon(lr=0.02, rest=fo.AdamW(lr=0.01), to_rest="U", clip_norm=2.0)

    both = Both(make, dtype, MATRICES).step(4)
    both.assert_same()
    both.opt.rule.rest.lr = both.plain.rest.lr = 0.5
    both.opt.param_groups[0]["lr"] = both.plain.lr = 0.05
    both.step(2).assert_same()
    both.opt.load_state_dict(copy.deepcopy(both.opt.state_dict()))  # another rule, with that rate
    both.step(2).assert_same()
    assert both.opt.rule.rest.lr == 0.5


@every_dtype
def test_rules_of_the_users_own(dtype):
    pytest.importorskip("numba")

    @fo.rule(state=("v",), lr=0.01, alpha=(0.9, "[0, 1)"))
    def Damped(p, g, v, lr, alpha):
        v = alpha * v - lr * g
        return p + v / (1.0 + np.abs(v)), v

    both = Both(lambda: Damped(lr=0.1, clip_norm=1.0, average=0.5), dtype).step(3)
    both.assert_same()
    resumed(both).assert_same()


@pytest.mark.parametrize("name", ["average", "mean", "average_from"])
def test_averages(name):
    options = {
        "average": {"average": 0.9}, "mean": {"average": "mean"},
        "average_from": {"average": "mean", "average_from": 2},
    }[name]
    both = Both(lambda: fo.Adam(lr=0.1, **options)).step(5)
    both.assert_same()
    weights = [p.detach().clone() for p in both.tensors.values()]
    versions = [p._version for p in both.tensors.values()]
    with both.opt.averaged(), both.plain.averaged(both.arrays):
        for key, a in both.arrays.items():
            assert np.array_equal(both.tensors[key].detach().numpy(), a)
        assert all(p._version > v for p, v in zip(both.tensors.values(), versions, strict=True))
        for refused in (both.opt.step, both.opt.state_dict, lambda: copy.deepcopy(both.opt)):
            with pytest.raises(RuntimeError, match="the parameters hold their averages"):
                refused()
    for p, w, v in zip(both.tensors.values(), weights, versions, strict=True):
        assert torch.equal(p, w)
        assert p._version > v + 1
    both.step(2).assert_same()


def test_an_average_that_becomes_a_mean_is_counted_in_the_state():
    both = Both(lambda: fo.Adam(average=0.5)).step(2)
    both.assert_same()
    for values in (vars(both.plain), both.opt.param_groups[0]):
        assert values["average"] == 0.5
    both.plain.average_from, both.plain.average = 2, "mean"
    both.opt.param_groups[0].update(average="mean", average_from=2)
    both.step(2).assert_same()
    assert both.opt.state[both.tensors["W"]]["mean"] is not None


def test_averages_that_nobody_keeps():
    both = Both(fo.Adam).step()
    with pytest.raises(ValueError, match="average"), both.opt.averaged():
        pass
    both.step().assert_same()


REPLACING = {
    "add_param_group": lambda opt, p: opt.add_param_group({"params": [torch.ones(2)]}),
    "load_state_dict": lambda opt, p: opt.load_state_dict(
        {"state": {}, "param_groups": [{**opt.param_groups[0], "params": [0, 1]}]}
    ),
    "a shorter list": lambda opt, p: (opt.param_groups[0]["params"].pop(), opt.step()),
    "an edited state": lambda opt, p: (opt.state[p].update(step=7), opt.step()),
    "another state": lambda opt, p: setattr(opt, "state", {}),
}


@pytest.mark.parametrize("way", REPLACING)
def test_nothing_is_replaced_while_parameters_hold_their_averages(way):
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    opt = ft.Optimizer(params, fo.Momentum(lr=0.1, average=0.9))
    for _ in range(3):
        for p in params:
            p.grad = torch.ones_like(p)
        opt.step()
    p = params[0]
    weights, average = p.detach().clone(), opt.rule.average_of[0].copy()
    with opt.averaged():
        with pytest.raises(RuntimeError, match=r"leave `with opt\.averaged"):
            REPLACING[way](opt, p)
        assert np.array_equal(p.detach().numpy(), average)
    assert torch.equal(p, weights)
    assert np.array_equal(opt.rule.average_of[0], average)


@pytest.mark.parametrize("make", [
    lambda: fo.ScheduleFreeSGD(lr=0.1), lambda: fo.ScheduleFreeAdamW(lr=0.1),
], ids=["SGD", "AdamW"])
def test_where_a_schedule_free_rule_is_evaluated(make):
    both = Both(make).step(5)
    with both.opt.evaluation(), both.plain.evaluation(both.arrays):
        for key, a in both.arrays.items():
            assert np.array_equal(both.tensors[key].detach().numpy(), a)
    both.step(2).assert_same()


def test_there_is_an_evaluation_of_schedule_free_rules_alone():
    opt = Both(fo.Adam).opt
    with pytest.raises(AttributeError, match=r"place in opt\.averaged\(\)$"), opt.evaluation():
        pass


def test_what_is_refused_within_averaged_names_the_call_that_there_is_here():
    both = Both(lambda: fo.Adam(average=0.9)).step()
    with both.opt.averaged():
        for call in (both.opt.step, both.opt.state_dict):
            with pytest.raises(RuntimeError, match=r"leave `with opt\.averaged\(\)` first$"):
                call()
    both.step().assert_same()


def put_nan(both):
    if both.n == 2:
        both.tensors["b"].grad[3] = both.grads["b"][3] = np.nan


def test_a_step_that_is_skipped():
    both = Both(lambda: fo.Adam(nonfinite="skip"))
    both.step(1, put_nan).assert_same()
    versions = [p._version for p in both.tensors.values()]
    both.step(1, put_nan).assert_same()
    assert [p._version for p in both.tensors.values()] == versions
    both.step(2, put_nan).assert_same()
    assert both.opt.rule.skipped == 1
    assert both.opt.rule.iter == 3
    again = ft.Optimizer(both.tensors.items(), fo.Adam(nonfinite="skip"))
    again.load_state_dict(both.opt.state_dict())
    assert (again.rule.skipped, again.rule.iter) == (1, 3)


def test_a_step_that_raises():
    both = Both(lambda: fo.Adam(nonfinite="raise")).step()
    both.give_grads()
    both.n = 2
    put_nan(both)
    with pytest.raises(FloatingPointError, match="'b'"):
        both.opt.step()
    both.assert_same()


@pytest.mark.parametrize("options", [
    {"norm": True}, {"denormals": "flush"}, {"state_dtype": "bfloat16"}, {"state_dtype": "int8"},
    {"state_dtype": "int8", "rounding_seed": 5},
], ids=str)
@every_dtype
def test_options_beside_the_stages(options, dtype):
    both = Both(lambda: fo.Adam(lr=0.1, **options), dtype, {"W": (40, 9), "b": (3,), "s": ()})
    both.step(4).assert_same()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("master", [True, False])
def test_parameters_of_16_bits(half, master):
    kind = np.float16
    if half == "bfloat16":
        kind = pytest.importorskip("ml_dtypes").bfloat16
    both = Both(lambda: fo.Adam(lr=0.1, master=master), np.float32, half=kind).step(4)
    both.assert_same()
    resumed(both).assert_same()


def test_gradients_are_zeroed_where_they_lie():
    both = Both(lambda: fo.SGD(zero_grads=True))
    both.give_grads()
    held = {key: (p.grad, p.grad._version) for key, p in both.tensors.items()}
    both.opt.step()
    for key, (g, version) in held.items():
        assert both.tensors[key].grad is g
        assert not g.any()
        assert g._version > version


def test_sparse_gradients_update_their_rows_alone():
    weight = np.random.default_rng(0).normal(size=(10, 4))
    p = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    opt, plain = ft.Optimizer([p], fo.Adam(lr=0.1)), fo.Adam(lr=0.1)
    values = np.arange(12.0).reshape(3, 4)
    for _ in range(3):
        p.grad = torch.sparse_coo_tensor(
            [[1, 7, 1]], torch.from_numpy(values), (10, 4), check_invariants=True
        )
        opt.step()
        plain.update({0: weight}, {0: fo.Rows(np.array([1, 7, 1]), values, unique=False)})
    assert np.array_equal(p.detach().numpy(), weight)
    assert np.array_equal(opt.state[p]["m"].numpy(), plain.m[0])


# ---------------------------------------------------------------- groups and schedules

GROUPS = [fo.Group("b", lr=0.5), fo.Group(lambda key, p: p.ndim == 0, weight_decay=0.0, lr=0.01)]


def test_groups_by_name_and_by_predicate():
    both = Both(lambda: fo.AdamW(lr=0.1, weight_decay=0.2, groups=GROUPS)).step(3)
    both.assert_same()
    assert [g["lr"] for g in both.opt.param_groups] == [0.1, 0.5, 0.01]
    assert [g["weight_decay"] for g in both.opt.param_groups] == [0.2, 0.2, 0.0]
    assert [g["param_names"] for g in both.opt.param_groups] == [["W"], ["b"], ["scale"]]
    both.opt.param_groups[1]["lr"] = both.plain.groups[0].lr = 0.25
    both.step(2).assert_same()


def test_groups_of_pytorch():
    both = Both(fo.Adam)
    W, b, s = both.tensors.values()
    groups = [{"params": [W, s]}, {"params": [b], "lr": 0.5, "clip_value": 0.1}]
    opt = ft.Optimizer(groups, fo.Adam())
    plain = fo.Adam(groups=[fo.Group("b", lr=0.5, clip_value=0.1)])
    for _ in range(3):
        both.give_grads()
        opt.step()
        plain.update(both.arrays, both.grads)
    for key, a in both.arrays.items():
        assert np.array_equal(both.tensors[key].detach().numpy(), a)


def test_schedules_of_fastoptim():
    def make():
        return fo.Adam(
            lr=fo.schedules.linear(0.1, 0.0, 6), weight_decay=lambda n: 0.1 / (1 + n),
            groups=[fo.Group("b", lr=fo.schedules.linear(0.2, 0.1, 3))],
        )

    both = Both(make)
    for _ in range(4):
        both.step().assert_same()
    assert both.opt.rule.current("lr") == both.plain.current("lr")
    saved = copy.deepcopy(both.opt.state_dict())
    assert saved["param_groups"][0]["lr"] is None
    both.opt.load_state_dict(saved)
    assert callable(both.opt.param_groups[0]["lr"])
    both.step(2).assert_same()


def test_schedulers_of_pytorch():
    both = Both(lambda: fo.Lion(lr=0.1, groups=[fo.Group("b", lr=0.2)]))
    rates = torch.optim.lr_scheduler.ExponentialLR(both.opt, gamma=0.5)
    for k in range(4):
        both.plain.lr, both.plain.groups[0].lr = 0.1 * 0.5**k, 0.2 * 0.5**k
        both.step().assert_same()
        rates.step()


# ---------------------------------------------------------------- saved, copied, resumed


def resumed(both, file=None):
    """Training that goes on with another optimizer, which has taken the state over."""
    saved = io.BytesIO()
    torch.save(both.opt.state_dict(), saved)
    saved.seek(0)
    other = ft.Optimizer(both.tensors.items(), both.make())
    if file is None:
        other.load_state_dict(torch.load(saved, weights_only=True))
    else:
        both.opt.save(file)
        other.load(file)
    both.opt = other
    return both.step(3)


RESUMED = {
    "Adam": fo.Adam,
    "averages and clipping": lambda: fo.AdamW(average="mean", clip_norm=0.5, average_from=2),
    "an average": lambda: fo.Lion(average=0.9, clip_norm_per_key=0.5),
    "8 bits": lambda: fo.Adam(state_dtype="int8", rounding_seed=3),
    "16 bits": lambda: fo.Adam(state_dtype="bfloat16"),
    "carried": lambda: fo.ScheduleFreeAdamW(lr=0.1),
    "LAMB": fo.LAMB,
    "Adafactor": fo.Adafactor,
    "plain": fo.SGD,
    "groups": lambda: fo.AdamW(groups=[fo.Group("b", lr=0.5)]),
}


@pytest.mark.parametrize("way", ["torch.save", "save"])
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_training_has_the_bits_of_training_that_never_stopped(name, way, tmp_path):
    if way == "save":
        pytest.importorskip("safetensors")
    both = Both(RESUMED[name], shapes={"W": (40, 9), "b": (7,)}).step(4)
    if both.plain.clip_norm:
        assert both.plain.clipped == 4
    resumed(both, tmp_path / "opt" if way == "save" else None).assert_same()


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", RESUMED)
def test_copies_go_on_with_the_same_bits(name, way):
    both = Both(RESUMED[name], shapes={"W": (40, 9), "b": (7,)}).step(4)
    if name == "averages and clipping":
        both.opt.rule.nonfinite = "skip"
    pair = both.opt, both.tensors
    opt, tensors = copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))
    before = {key: p.detach().clone() for key, p in both.tensors.items()}
    first, both.opt, both.tensors = both.tensors, opt, tensors
    both.step(3).assert_same()
    assert all(torch.equal(p, before[key]) for key, p in first.items())
    if name == "averages and clipping":
        assert opt.rule.nonfinite == "skip"


def test_a_state_of_another_rule_or_other_slots_is_refused(tmp_path):
    both, other = Both(fo.Adam).step(2), Both(fo.Momentum).step(2)
    saved = copy.deepcopy(other.opt.state_dict())
    for refused in (saved, {**both.opt.state_dict(), "param_groups": saved["param_groups"]}):
        with pytest.raises((KeyError, ValueError, TypeError)):
            both.opt.load_state_dict(refused)
        both.assert_same()
    both.step(2).assert_same()


def test_the_state_of_a_class_of_pytorch_is_refused_with_the_reason():
    both = Both(fo.Adam).step()
    theirs = torch.optim.Adam(both.tensors.values())
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no 'beta1', 'beta2'.*another class"):
        both.opt.load_state_dict(theirs.state_dict())
    both.step().assert_same()


# ---------------------------------------------------------------- what is refused, what is shown

USED = fo.SGD()
USED.update([np.zeros(1)], [np.ones(1)])

REFUSED = {
    "a class": (lambda: fo.Adam, TypeError, "such as fastoptim.Adam()"),
    "a name": (lambda: "Adam", TypeError, "rule must be an optimizer of fastoptim, got 'Adam'"),
    "a soft batch": (lambda: fo.SoftBatch(fo.SGD(), 4), TypeError, "PyTorch sums gradients"),
    "SAM": (lambda: fo.SAM(fo.SGD()), TypeError, "at a second point"),
    "one of PyTorch's": (
        lambda: torch.optim.SGD([torch.zeros(1)], lr=0.1), TypeError,
        "rule must be an optimizer of fastoptim",
    ),
    "a used one": (lambda: USED, ValueError, "rule has been used"),
    "a rest": (lambda: fo.Muon(rest=fo.SGD()).rest, ValueError, "the rest of another one"),
    "look-ahead": (lambda: fo.Momentum(lookahead=True), ValueError, "lookahead=True"),
    "a group for nobody": (
        lambda: fo.SGD(groups=[fo.Group("nobody", lr=1.0)]), ValueError,
        "matches no key; the keys are 0, which are numbers, since params has no names: for groups "
        "by name give model.named_parameters()",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_rule(name):
    make, problem, words = REFUSED[name]
    with pytest.raises(problem, match=re.escape(words)):
        ft.Optimizer([torch.nn.Parameter(torch.zeros(2))], make())


def test_a_state_dir_is_refused_and_stays_unused(tmp_path):
    with pytest.raises(ValueError, match="the state is PyTorch's"):
        ft.Optimizer([torch.zeros(2)], fo.Adam(state_dir=tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_groups_in_both_places_are_refused():
    given = [{"params": [torch.zeros(2)]}]
    with pytest.raises(ValueError, match="there are groups in params and in the rule"):
        ft.Optimizer(given, fo.SGD(groups=[fo.Group("*", lr=1.0)]))


def test_the_rule_that_was_given_stays_as_it_is():
    rule = fo.Adam(lr=0.1, groups=[fo.Group("W", lr=0.5)])
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.ones(2)
    opt = ft.Optimizer([("W", p)], rule)
    opt.step()
    assert (rule.iter, rule.lr, len(rule.groups)) == (0, 0.1, 1)
    rule.lr = 3.0
    opt.step()
    assert opt.param_groups[0]["lr"] == 0.5


LED = {
    "lr": lambda rule: setattr(rule, "lr", 0.5),
    "clip_value": lambda rule: setattr(rule, "clip_value", 0.5),
    "groups": lambda rule: setattr(rule, "groups", []),
    "lr of a group": lambda rule: setattr(rule.groups[0], "lr", 0.5),
    "update": lambda rule: rule.update([np.zeros(1)], [np.ones(1)]),
    "step": lambda rule: rule.step([np.zeros(1)], lambda params: [np.ones(1)]),
    "reset": lambda rule: rule.reset(),
    "state_dict": lambda rule: rule.state_dict(),
    "deepcopy": copy.deepcopy,
    "averaged": lambda rule: rule.averaged([np.zeros(1)]).__enter__(),
}


@pytest.mark.parametrize("name", LED)
def test_the_rule_at_work_can_be_read_and_is_led_by_the_optimizer(name):
    both = Both(lambda: fo.Adam(lr=0.1, average=0.5, groups=[fo.Group("b", lr=0.2)])).step(2)
    rule = both.opt.rule
    with pytest.raises((AttributeError, RuntimeError), match=r"of a fastoptim\.torch\.Optimizer"):
        LED[name](rule)
    both.step(2).assert_same()
    both.plain.clip_value = 0.25
    for group in both.opt.param_groups:
        group["clip_value"] = 0.25
    assert both.opt.rule is rule
    both.step(2).assert_same()


def test_options_of_a_whole_step_are_set_on_the_rule_and_stay():
    both = Both(fo.Adam).step()
    both.opt.rule.clip_norm = both.plain.clip_norm = 0.5
    both.step().assert_same()
    both.opt.load_state_dict(copy.deepcopy(both.opt.state_dict()))
    assert both.opt.rule.clip_norm == 0.5
    both.step().assert_same()
    assert both.opt.rule.clipped == 2


@pytest.mark.parametrize("way", ["loads", "adds"])
def test_nothing_is_set_on_a_rule_that_works_no_more(way):
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.Optimizer([p], fo.SGD(lr=0.1))
    p.grad = torch.ones(3)
    opt.step()
    rule = opt.rule
    if way == "loads":
        opt.load_state_dict(opt.state_dict())
    else:
        opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
        rule.nonfinite = "skip"     # there is no other yet
        opt.step()
        assert opt.rule.nonfinite == "skip"
    with pytest.raises(AttributeError, match="another rule has taken this one's place"):
        rule.clip_norm = 1.0
    opt.rule.clip_norm = 1.0


@pytest.mark.parametrize("order", [1, -1])
def test_one_clipping_takes_the_place_of_another(order):
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.Optimizer([p], fo.SGD(lr=1.0))
    limits = {"agc": 0.5, "clip_norm_per_key": 0.25, "clip_value": 0.125}
    before = None
    for name in [*limits][::order] + [*limits][::-order]:
        if before is not None:
            opt.param_groups[0][before] = None
        opt.param_groups[0][name] = limits[name]
        before = name
        p.grad = torch.ones(3)
        opt.step()
        assert getattr(opt.rule, name) == limits[name]


def test_classes_of_pytorch_let_nothing_be_set_on_their_rule():
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.ones(2)
    opt = ft.Adam([p], lr=0.1)
    opt.step()
    for name, value in [("lr", 0.5), ("clip_norm", 1.0)]:
        with pytest.raises(AttributeError, match=r"param_groups of a fastoptim\.torch\.Adam"):
            setattr(opt.rule, name, value)
    opt.param_groups[0]["lr"] = 0.5
    opt.step()
    assert opt.rule.lr == 0.5


def test_repr_has_what_differs_from_the_defaults():
    p, q = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    rule = fo.Adam(lr=0.1, clip_norm=1.0, groups=[fo.Group("q", weight_decay=0.5)])
    assert repr(ft.Optimizer([("p", p), ("q", q)], rule)) == """Optimizer (
rule: Adam
    clip_norm: 1.0
Parameter Group 0
    lr: 0.1
    beta1: 0.9
    beta2: 0.999
    eps: 1e-07
Parameter Group 1
    lr: 0.1
    beta1: 0.9
    beta2: 0.999
    eps: 1e-07
    weight_decay: 0.5
)"""
