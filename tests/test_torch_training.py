"""How people train with PyTorch: scalers, clipping, hooks. What fastoptim.torch's classes are."""

import copy
import doctest
import importlib
import inspect
import re

import pytest
from torch_twins import check_states, fastoptim, same, torch

ft = fastoptim.torch
classes = ft.classes
of_all = importlib.import_module("torch.optim.optimizer")
register_optimizer_step_post_hook = of_all.register_optimizer_step_post_hook
register_optimizer_step_pre_hook = of_all.register_optimizer_step_pre_hook
NAMES = [name for name in ft.__all__ if name != "Optimizer"]
DENSE = [name for name in NAMES if name != "SparseAdam"]
STEPS = 20


class Lesson:
    """A small network in float64 that each of two optimizers trains, its own copy of it."""

    def __init__(self, name, **given):
        torch.manual_seed(0)
        layers = torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
        first = torch.nn.Sequential(*layers).double()
        self.x = torch.randn(20, 6, dtype=torch.float64)
        self.models = first, copy.deepcopy(first)
        self.opts = [
            getattr(module, name)(model.parameters(), **given)
            for module, model in zip((ft, torch.optim), self.models, strict=True)
        ]
        self.both = list(zip(self.models, self.opts, strict=True))

    def loss(self, model):
        return (model(self.x) - 1).square().mean()

    def check(self):
        for p, q in zip(*(model.parameters() for model in self.models), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)
        check_states(*(opt.state_dict() for opt in self.opts))


@pytest.fixture(autouse=True)
def _float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


# ---------------------------------------------------------------- scalers


@pytest.mark.parametrize("unscales", [False, True])
@pytest.mark.parametrize(
    ("name", "given"),
    [("SGD", {}), ("SGD", {"fused": True}), ("Adam", {}), ("Adam", {"fused": True}),
     ("AdamW", {"fused": True}), ("Adagrad", {"fused": True}), ("RMSprop", {})],
)
def test_gradients_of_a_scaled_loss(name, given, unscales):
    """A fused class of PyTorch divides by the scale itself, and ours leaves it to the scaler."""
    lesson = Lesson(name, lr=0.01, **given)
    scales = []
    for model, opt in lesson.both:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
        scales.append([])
        for t in range(STEPS):
            opt.zero_grad()
            scaler.scale(lesson.loss(model)).backward()
            if t == 7:
                model[0].weight.grad[1, 2] = float("inf")  # such a step is left out
            if unscales:
                scaler.unscale_(opt)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(opt)
            scaler.update()
            scales[-1].append(scaler.get_scale())
    assert scales[0] == scales[1]
    assert len({*scales[0]}) > 3
    lesson.check()
    assert not hasattr(lesson.opts[0], "grad_scale")


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("set_to_none", [False, True])
@pytest.mark.parametrize("name", DENSE)
def test_zero_grad_and_clipping(name, set_to_none):
    lesson = Lesson(name)
    for model, opt in lesson.both:
        for _ in range(STEPS):
            lesson.loss(model).backward()
            lesson.loss(model).backward()  # gradients are added up
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
            torch.nn.utils.clip_grad_value_(model.parameters(), 0.1)
            opt.step()
            opt.zero_grad(set_to_none=set_to_none)
            for p in model.parameters():
                assert p.grad is None if set_to_none else not p.grad.any()
    lesson.check()


@pytest.mark.parametrize("name", DENSE)
def test_an_optimizer_for_each_parameter_that_steps_within_backward(name):
    lesson = Lesson(name)
    kept = []
    for module, model in zip((ft, torch.optim), lesson.models, strict=True):
        opts = {p: getattr(module, name)([p]) for p in model.parameters()}
        kept.append(opts)

        def step(p, opts=opts):
            opts[p].step()
            opts[p].zero_grad()

        for p in model.parameters():
            p.register_post_accumulate_grad_hook(step)
        for _ in range(STEPS):
            lesson.loss(model).backward()
    lesson.check()
    for ours, theirs in zip(*(opts.values() for opts in kept), strict=True):
        check_states(ours.state_dict(), theirs.state_dict())


# ---------------------------------------------------------------- hooks


def test_hooks_of_one_optimizer():
    lesson = Lesson("Adam")
    calls = []
    for model, opt in lesson.both:
        seen = []

        def before(optimizer, args, kwargs, seen=seen):
            seen.append(("before", type(optimizer).__name__, len(args), sorted(kwargs)))
            optimizer.param_groups[0]["lr"] *= 0.9

        def after(optimizer, args, kwargs, seen=seen):
            seen.append(("after", float(next(iter(optimizer.state.values()))["step"])))

        handles = opt.register_step_pre_hook(before), opt.register_step_post_hook(after)
        for t in range(STEPS):
            opt.zero_grad()
            lesson.loss(model).backward()
            opt.step()
            if t == STEPS // 2:
                for handle in handles:
                    handle.remove()
        opt.step(closure=lambda: None)
        calls.append(seen)
    assert calls[0] == calls[1]
    assert len(calls[0]) == 2 * (STEPS // 2 + 1)
    lesson.check()


def test_arguments_that_a_hook_exchanges():
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.SGD([p], lr=0.1)
    handle = opt.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 7.0), {}))
    assert opt.step() == 7.0
    handle.remove()
    assert opt.step() is None


@pytest.mark.parametrize("name", DENSE)
def test_hooks_of_all_optimizers(name):
    lesson = Lesson(name)
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda opt, args, kwargs: seen.append(opt)),
        register_optimizer_step_post_hook(lambda opt, args, kwargs: seen.append(opt)),
    ]
    try:
        for model, opt in lesson.both:
            lesson.loss(model).backward()
            opt.step()
    finally:
        for handle in handles:
            handle.remove()
    assert [id(one) for one in seen] == [id(opt) for opt in lesson.opts for _ in range(2)]
    lesson.check()


@pytest.mark.parametrize("name", DENSE)
def test_states_are_exchanged_in_the_middle(name):
    lesson = Lesson(name)
    for t in range(STEPS):
        for model, opt in lesson.both:
            opt.zero_grad()
            lesson.loss(model).backward()
            opt.step()
        if t % 6 == 5:
            saved = [copy.deepcopy(opt.state_dict()) for opt in lesson.opts]
            for opt, one in zip(lesson.opts, reversed(saved), strict=True):
                opt.load_state_dict(one)
    lesson.check()


def test_hooks_of_state_dicts():
    lesson = Lesson("Adam")
    saved = []
    for model, opt in lesson.both:
        lesson.loss(model).backward()
        opt.step()
        order = []
        opt.register_state_dict_pre_hook(lambda opt, order=order: order.append("save"))
        opt.register_state_dict_post_hook(lambda opt, state: {**state, "note": 1})
        opt.register_load_state_dict_pre_hook(
            lambda opt, state: {**state, "state": {k: dict(v) for k, v in state["state"].items()}}
        )
        opt.register_load_state_dict_post_hook(lambda opt, order=order: order.append("load"))
        saved.append(copy.deepcopy(opt.state_dict()))
        assert saved[-1]["note"] == 1
        opt.step()
        opt.load_state_dict(saved[-1])
        assert order == ["save", "load"]
        opt.step()
    lesson.check()


# ---------------------------------------------------------------- what the classes are


@pytest.mark.parametrize("name", NAMES)
def test_they_are_pytorchs(name):
    ours, theirs = getattr(ft, name), getattr(torch.optim, name)
    opt = ours([torch.nn.Parameter(torch.ones(3))])
    assert isinstance(opt, theirs)
    assert isinstance(opt, torch.optim.Optimizer)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__doc__ != theirs.__doc__
    assert inspect.getdoc(ours.step).startswith("Update every parameter")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_counts_have_the_dtype_that_pytorch_gives_them(dtype):
    torch.set_default_dtype(dtype)
    counts = []
    for module in (ft, torch.optim):
        p = torch.nn.Parameter(torch.ones(3, dtype=torch.float32))
        p.grad = torch.ones_like(p)
        opt = module.NAdam([p])
        for _ in range(3):
            opt.step()
        counts.append((opt.state[p]["step"], opt.state[p]["mu_product"]))
    for ours, theirs in zip(*counts, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_adamw_is_an_adam():
    opt = ft.AdamW([torch.nn.Parameter(torch.ones(3))])
    for cls in (ft.Adam, ft.AdamW, torch.optim.Adam, torch.optim.AdamW):
        assert isinstance(opt, cls)
    assert not isinstance(ft.Adam([torch.nn.Parameter(torch.ones(3))]), torch.optim.AdamW)
    assert opt.param_groups[0]["decoupled_weight_decay"] is True


def test_groups_are_pytorchs_lists():
    p = torch.nn.Parameter(torch.ones(3))
    ours, theirs = ft.Adam([p]), torch.optim.Adam([p])
    assert same(ours.param_groups, theirs.param_groups)
    assert ours.param_groups[0]["params"][0] is p
    with pytest.raises(ValueError, match="some parameters appear in more than one"):
        ours.add_param_group({"params": [p]})
    with pytest.raises(ValueError, match="an empty parameter list"):
        ft.Adam([])


# ---------------------------------------------------------------- docstrings


def test_examples_print_what_they_say():
    tried = doctest.testmod(classes)
    assert tried.failed == 0
    assert tried.attempted > 5 * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_name_every_argument_and_show_an_objective_falling(name):
    cls = getattr(ft, name)
    parts = re.split(r"^(\w+)\n-+\n", inspect.getdoc(cls), flags=re.MULTILINE)
    assert parts[1::2] == ["Parameters", "Raises", "Notes", "References", "Examples"]
    named = ", ".join(re.findall(r"^(\w.*?) : ", parts[2], re.MULTILINE)).split(", ")
    assert named == [*dict.fromkeys(named)]
    assert {*named} == {*inspect.signature(cls).parameters}
    assert ".. math::" in cls.__doc__
    printed = [float(x) for x in re.findall(r"^ *(\d+\.\d\d)$", cls.__doc__, re.MULTILINE)]
    assert len(printed) == 3
    assert printed == sorted(printed, reverse=True)
