"""PyTorch around a step: autograd, transforms, compilation, processes, threads, interrupts."""

import copy
import gc
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from itertools import count

import numpy as np
import pytest
from helpers import TESTS
from test_interrupts import Interrupt

torch = pytest.importorskip("torch")

import fastoptim as fo  # noqa: E402
from fastoptim import torch as ft  # noqa: E402

F64 = torch.float64
LIBRARIES = (torch.optim, ft)
both = pytest.mark.parametrize("library", LIBRARIES, ids=["torch", "fastoptim"])


def model(seed=0, out=2):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, out)
    ).double()


X = torch.linspace(-1, 1, 15, dtype=F64).reshape(5, 3)


def loss_of(m):
    return m(X).square().sum()


def train(m, opt, steps=1):
    for _ in range(steps):
        opt.zero_grad()
        loss_of(m).backward()
        opt.step()


def values_of(m):
    return [p.detach().clone() for p in m.parameters()]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def trained(library, way, rule="Adam", **options):
    m = model()
    opt = getattr(library, rule)(m.named_parameters(), **({"lr": 0.05} | options))
    way(m, opt)
    return values_of(m)


# ---------------------------------------------------------------- autograd


@both
def test_an_update_between_forward_and_backward(library):
    m = model()
    opt = library.Adam(m.parameters())
    train(m, opt)
    loss = loss_of(m)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@both
def test_versions_of_what_was_written_alone(library):
    m = model()
    opt = library.Adam(m.parameters())
    train(m, opt)
    opt.zero_grad()
    m[2].bias.grad = torch.ones(2, dtype=F64)
    before = [p._version for p in m.parameters()]
    opt.step()
    risen = [now._version > then for now, then in zip(m.parameters(), before, strict=True)]
    assert risen == [False, False, False, True]
    assert m[2].bias.grad._version == 0


def test_versions_of_gradients_that_are_zeroed():
    p, table = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3, 2))
    opt = ft.Optimizer([p, table], fo.SGD(zero_grads=True))
    x = torch.ones(3, requires_grad=True)
    p.grad = x * 2
    kept = (p.grad * torch.ones(3, requires_grad=True)).sum()
    table.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (3, 2), check_invariants=True)
    opt.step()
    assert p.grad.tolist() == [0.0] * 3
    assert table.grad._values().tolist() == [[0.0, 0.0]]
    assert table.grad._version > 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_versions_of_an_update_that_was_left_out():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.full((3,), float("inf"))
    opt = ft.Optimizer([p], fo.SGD(nonfinite="skip", zero_grads=True))
    version, of_grad = p._version, p.grad._version
    opt.step()
    assert (p._version, p.grad._version, opt.rule.skipped) == (version, of_grad, 1)
    assert p.tolist() == [1.0] * 3


def keep_the_graph(m, opt):
    for _ in range(3):
        opt.zero_grad()
        loss = loss_of(m)
        loss.backward(retain_graph=True)
        loss.backward()
        opt.step()


@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph=True:UserWarning")
def create_graph(m, opt):
    for _ in range(3):
        opt.zero_grad()
        loss_of(m).backward(create_graph=True)
        assert m[0].weight.grad.requires_grad
        opt.step()
    for p in m.parameters():
        p.grad = None


def penalty(m, opt):
    """The gradient of a gradient's square."""
    for _ in range(3):
        opt.zero_grad()
        grads = torch.autograd.grad(loss_of(m), list(m.parameters()), create_graph=True)
        sum(g.square().sum() for g in grads).backward()
        opt.step()


def hooks(m, opt):
    m[0].weight.register_hook(lambda g: g / 2)

    def clamp(p):
        p.grad.clamp_(-0.1, 0.1)

    m[2].weight.register_post_accumulate_grad_hook(clamp)
    train(m, opt, 3)


def now_and_then(m, opt):
    for k in range(6):
        train(m, opt)
        opt.zero_grad()
        for j, p in enumerate(m.parameters()):
            p.grad = torch.ones_like(p) if (j + k) % 3 else None
        opt.step()


def accumulated(m, opt):
    for _ in range(3):
        for _ in range(3):
            (loss_of(m) / 3).backward()
        opt.step()
        opt.zero_grad(set_to_none=False)


def without_autograd(m, opt):
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        opt.zero_grad()
        loss_of(m).backward()
        with mode():
            opt.step()


def closures(m, opt):
    def closure():
        opt.zero_grad()
        loss = loss_of(m)
        loss.backward()
        return loss

    for _ in range(3):
        loss = loss_of(m)
        assert torch.equal(opt.step(closure), loss)
    with torch.no_grad():
        opt.step(closure)


def by_function(m, opt):
    """Gradients of torch.func, put where a step looks for them."""
    def loss(params):
        return torch.func.functional_call(m, params, (X,)).square().sum()

    for _ in range(3):
        params = dict(m.named_parameters())
        grads = torch.func.grad(loss)({name: p.detach() for name, p in params.items()})
        for name, p in params.items():
            p.grad = grads[name]
        opt.step()


def of_each_example(m, opt):
    def loss(params, x):
        return torch.func.functional_call(m, params, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    for _ in range(3):
        params = dict(m.named_parameters())
        grads = each({name: p.detach() for name, p in params.items()}, X)
        for name, p in params.items():
            p.grad = grads[name].sum(0)
        opt.step()


def schedule(m, opt):
    scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=5)
    for _ in range(4):
        train(m, opt)
        scheduler.step()


def averaged(m, opt):
    average = torch.optim.swa_utils.AveragedModel(m)
    for _ in range(3):
        train(m, opt)
        average.update_parameters(m)
    m.load_state_dict(average.module.state_dict())
    train(m, opt)


def profiled(m, opt):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train(m, opt, 2)
    names = {event.key for event in profile.key_averages()}
    assert f"Optimizer.step#{type(opt).__name__}.step" in names


def autocast(m, opt):
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            train(m, opt)


def anomalies(m, opt):
    with torch.autograd.detect_anomaly(check_nan=True):
        train(m, opt, 2)


def counted(m, opt):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        train(m, opt, 2)


def workers(m, opt):
    """Processes that load data are forked while updates are made."""
    data = torch.utils.data.TensorDataset(X)
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2, timeout=60)
    for _ in range(2):
        for (x,) in loader:
            opt.zero_grad()
            m(x).square().sum().backward()
            opt.step()


def on_other_thread_counts(m, opt):
    before = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            fo.set_num_threads(3 - n)
            train(m, opt)
            assert torch.get_num_threads() == n
            assert fo.get_num_threads() == 3 - n
    finally:
        torch.set_num_threads(before)


WAYS = [
    keep_the_graph, create_graph, penalty, hooks, now_and_then, accumulated, without_autograd,
    closures, by_function, of_each_example, schedule, averaged, profiled, autocast, anomalies,
    counted, workers, on_other_thread_counts,
]


@pytest.mark.filterwarnings("ignore:Using backward\\(\\) with create_graph=True:UserWarning")
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_as_with_torch_optim(way, rule):
    options = {"momentum": 0.9} if rule == "SGD" else {"amsgrad": True}
    theirs, ours = (trained(library, way, rule, **options) for library in LIBRARIES)
    gc.collect()
    assert_same(ours, theirs)
    assert not all(map(torch.equal, ours, values_of(model())))


def test_step_within_a_hook():
    """Each parameter is updated as soon as its gradient is there, by an optimizer of its own."""
    ended = []
    for library in LIBRARIES:
        m = model()
        of = {p: library.Adam([p], lr=0.05) for p in m.parameters()}

        def at_once(p, of=of):
            of[p].step()
            p.grad = None

        for p in m.parameters():
            p.register_post_accumulate_grad_hook(at_once)
        for _ in range(3):
            loss_of(m).backward()
        ended.append(values_of(m))
    assert_same(*ended)


def inside_grad(opt):
    def loss(x):
        opt.step()
        return x.sum()

    torch.func.grad(loss)(torch.ones(3))


def inside_vmap(opt):
    torch.func.vmap(lambda x: (opt.step(), x)[1])(torch.ones(2, 3))


def inside_functionalize(opt):
    torch.func.functionalize(lambda x: (opt.step(), x * 2)[1])(torch.ones(3))


def inside_fake_mode(opt):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        opt.step()


def inside_make_fx(opt):
    from torch.fx.experimental.proxy_tensor import make_fx

    make_fx(lambda x: (opt.step(), x * 2)[1])(torch.ones(3))


@pytest.mark.parametrize(
    "inside", [inside_grad, inside_vmap, inside_functionalize, inside_fake_mode, inside_make_fx]
)
def test_a_step_inside_of_a_transform(inside):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    opt = ft.SGD([p], lr=0.5)
    version = p._version
    with pytest.raises(RuntimeError, match="inside of a transform.*call step after it"):
        inside(opt)
    assert p.tolist() == [1.0] * 3
    assert p._version == version
    opt.step()
    assert p.tolist() == [0.5] * 3


# ---------------------------------------------------------------- parameters that were replaced


REPLACED = {
    "load_state_dict(assign=True)": lambda m: m.load_state_dict(
        {name: one * 2 for name, one in m.state_dict().items()}, assign=True
    ),
    "a layer exchanged": lambda m: m.__setitem__(2, torch.nn.Linear(4, 2).double()),
    "a layer of another size": lambda m: m.__setitem__(2, torch.nn.Linear(4, 7).double()),
    "parametrized": lambda m: torch.nn.utils.parametrizations.weight_norm(m[2]),
}
looks = pytest.mark.parametrize("looked", [False, True], ids=["", "state looked at"])


@looks
@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
def test_replaced_parameters_without_gradients(replace, looked):
    """One warning; then silence, and what is left goes on."""
    m = model()
    opt = ft.Adam(m.named_parameters())
    train(m, opt, 2)
    if looked:
        assert len(opt.state) == 4
    replace(m)
    with pytest.warns(UserWarning, match=r"'2.weight'.*add these with add_param_group"):
        train(m, opt)
    train(m, opt, 2)


@looks
@pytest.mark.parametrize("replace", [
    one for name, one in REPLACED.items() if name != "a layer of another size"
])
def test_replaced_parameters_with_gradients_of_before(replace, looked):
    m = model()
    opt = ft.Adam(m.named_parameters())
    train(m, opt, 2)
    if looked:
        assert len(opt.state) == 4
    kept = values_of(m)
    bias = m[0].bias
    replace(m)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"'2.weight'.*still have gradients.*anew of"):
            opt.step()
    assert opt.rule.iter == 2
    assert torch.equal(bias, kept[1])


def test_replaced_before_the_first_step():
    m = model()
    opt = ft.Adam(m.named_parameters())
    m.load_state_dict({name: one * 2 for name, one in m.state_dict().items()}, assign=True)
    with pytest.warns(UserWarning, match=r"'0.weight', '0.bias', '2.weight', '2.bias'"):
        train(m, opt)
    train(m, opt)


def test_a_head_of_another_size_before_the_first_step():
    m = model()
    opt = ft.Adam(m.named_parameters())
    m[2] = model(1, out=5)[2]
    with pytest.warns(UserWarning, match=r"has the parameters '2.weight', '2.bias' any more"):
        train(m, opt)
    train(m, opt)


@pytest.mark.filterwarnings("default")
def test_the_warning_has_the_line_of_the_step_each_time():
    """A cell of a notebook that makes the model anew is run twice: two warnings."""
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        for _ in range(2):
            m = model()
            opt = ft.Adam(m.named_parameters())
            train(m, opt, 2)
            m = model()
            opt.zero_grad()
            lines.append(sys._getframe().f_lineno + 1)
            opt.step()
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, k) for k in lines]
    assert "the model or a layer was made anew" in str(caught[0].message)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("steps", [0, 1])
def test_a_head_that_is_replaced_and_added(steps):
    """The old one stays, without gradients, and there is nothing to say."""
    ended = []
    for library in LIBRARIES:
        m = opt = None
        m = model()
        opt = library.Adam(m.named_parameters(), lr=0.05)
        train(m, opt, steps)
        m[2] = model(1, out=5)[2]
        opt.add_param_group({"params": [(f"head.{n}", p) for n, p in m[2].named_parameters()]})
        average = torch.optim.swa_utils.AveragedModel(m)
        train(m, opt, 2)
        del average
        ended.append(values_of(m))
    assert_same(*ended)


def fill(opt):
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("looked", [False, True], ids=["", "state looked at"])
def test_parameters_that_only_the_groups_hold(looked):
    opt = ft.Adam([torch.nn.Parameter(torch.ones(3)) for _ in range(2)], lr=0.1)
    other = torch.nn.Parameter(torch.ones(7), requires_grad=False)
    p = opt.param_groups[0]["params"][1]  # for the first step, and no longer
    fill(opt)
    opt.step()
    del p
    for _ in range(3):
        if looked:
            assert len(opt.state) == 2
        fill(opt)
        opt.step()
        opt.zero_grad()
        opt.step()
    assert opt.rule.iter == 4
    assert other.tolist() == [1.0] * 7


def test_a_graph_that_held_parameters_for_a_while():
    """Another model is there, but none of its parameters could be theirs."""
    other = torch.nn.Linear(9, 9)
    opt = ft.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    graph = opt.param_groups[0]["params"][0].square().sum()
    graph.backward()
    opt.step()
    del graph
    fill(opt)
    with pytest.warns(UserWarning, match="unless they get gradients"):
        opt.step()
    assert opt.rule.iter == 2
    assert other.weight.requires_grad


@pytest.mark.usefixtures("alone")
def test_a_rate_that_is_drawn_without_a_model():
    opt = ft.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
    rates = []
    for _ in range(3):
        opt.step()
        rates.append(scheduler.get_last_lr()[0])
        scheduler.step()
    assert rates == [1.0, 0.5, 0.25]


@pytest.mark.usefixtures("alone")
def test_a_model_that_is_deleted():
    m = model()
    opt = ft.Adam(m.parameters())
    train(m, opt)
    del m
    gc.collect()
    opt.step()
    opt.zero_grad()
    opt.step()


@pytest.mark.usefixtures("alone")
def test_no_false_alarm():
    """Loops, copies, closures, generators, tracebacks that hold frames, collections."""
    m = model()
    opt = ft.Adam(m.parameters(), lr=0.05)
    train(m, opt)
    for group in opt.param_groups:
        for p in group["params"]:
            p.grad = torch.zeros_like(p)
        opt.step()
    del p, group
    opt.step()
    shadow, generator = copy.deepcopy(m), (p for p in m.parameters())
    next(generator)
    opt.step()
    generator.close()
    opt.step()
    try:
        for p in m.parameters():
            raise ValueError(p.shape)
    except ValueError as problem:
        kept = problem
        opt.step()
    del kept, p
    train(m, opt)
    m2, opt2 = copy.deepcopy((m, opt))
    train(m2, opt2, 2)
    train(m, opt, 2)
    assert_same(values_of(m2), values_of(m))
    assert len(opt.state) == 4
    gc.collect()
    train(m, opt, 2)
    saved = opt.state_dict()
    del m2, opt2, shadow
    gc.collect()
    opt.load_state_dict(saved)
    train(m, opt, 2)


@pytest.mark.usefixtures("alone")
def test_a_copy_of_the_optimizer_alone():
    m = model()
    opt = ft.Adam(m.parameters())
    train(m, opt)
    twin = copy.deepcopy(opt)
    for _ in range(3):
        fill(twin)
        twin.step()
    assert twin.rule.iter == 4


# ---------------------------------------------------------------- compilation


@pytest.fixture
def compiler():
    import shutil

    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler where it runs")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning",
    "ignore:Guards may run slower:RuntimeWarning",  # with Python 3.13.0
)
def test_compiled_models_and_steps(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def plain(m, opt):
        train(m, opt, 3)

    def of_model(m, opt):
        train(torch.compile(m), opt, 3)

    def of_step(m, opt):
        step = torch.compile(opt.step, backend="eager")
        for _ in range(3):
            opt.zero_grad()
            loss_of(m).backward()
            step()

    def of_training(m, opt):
        one = torch.compile(lambda: train(m, opt), backend="eager")
        for _ in range(3):
            one()

    expected = trained(ft, plain)
    assert_same(expected, trained(torch.optim, plain))
    for way in (of_model, of_step, of_training):
        torch._dynamo.reset()
        assert_same(trained(ft, way), expected)


def test_a_step_in_one_whole_graph(compiler):
    m = model()
    opt = ft.Adam(m.parameters())
    train(m, opt)
    before = values_of(m)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="`step`"):
        torch.compile(lambda: opt.step(), backend="eager", fullgraph=True)()
    assert all(map(torch.equal, values_of(m), before))
    train(m, opt)


# ---------------------------------------------------------------- processes


def in_a_process(code, timeout=120):
    """Run a script; return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        timeout=timeout, cwd=TESTS, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_fork_in_the_middle():
    """The child goes on with its copy, on several threads, and the parent with its own."""
    assert in_a_process("""
        import os, torch, fastoptim as fo, fastoptim.torch as ft
        torch.set_num_threads(1)
        fo.set_num_threads(2, fixed=True)
        p = torch.nn.Parameter(torch.ones(300_000))
        opt = ft.SGD([p], lr=0.5)
        p.grad = torch.ones(300_000)
        opt.step()
        child = os.fork()
        if child == 0:
            opt.step()
            opt.step()
            os._exit(0 if p.eq(-0.5).all() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        opt.step()
        print(p.unique().tolist())
    """) == "[0.0]\n"


def test_processes_that_share_parameters():
    """As in Hogwild: each has an optimizer of its own on the same memory."""
    assert in_a_process("""
        import torch, torch.multiprocessing as mp
        from torch_programs import work
        m = torch.nn.Linear(3, 2).share_memory()
        with torch.no_grad():
            for p in m.parameters():
                p.fill_(1)
        mp.spawn(work, (m,), nprocs=1)
        print(m.weight.unique().tolist(), m.bias.unique().tolist())
    """) == "[0.0] [0.0]\n"


def test_zero_redundancy_optimizer():
    out = in_a_process("""
        import os, socket, torch, torch.distributed as dist, warnings
        warnings.simplefilter("ignore")
        from torch.distributed.optim import ZeroRedundancyOptimizer
        import fastoptim.torch as ft
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
        ended = []
        for kind in (torch.optim.Adam, ft.Adam):
            torch.manual_seed(0)
            m = torch.nn.Linear(3, 2).double()
            opt = ZeroRedundancyOptimizer(m.parameters(), optimizer_class=kind, lr=0.1)
            for k in range(4):
                opt.zero_grad()
                m(torch.ones(4, 3, dtype=torch.float64)).square().sum().backward()
                opt.step()
                if k == 1:
                    opt.consolidate_state_dict()
                    saved = opt.state_dict()
                    opt.load_state_dict(saved)
            ended.append(torch.cat([p.detach().flatten() for p in m.parameters()]))
        dist.destroy_process_group()
        print((ended[0] - ended[1]).abs().max().item() < 1e-12)
    """)
    assert out.endswith("True\n")


# ---------------------------------------------------------------- threads


def test_two_optimizers_in_two_threads():
    alone = trained(ft, lambda m, opt: train(m, opt, 50))
    ended, problems = [], []

    def work():
        try:
            m = Frozen().m
            opt = ft.Adam(m.named_parameters(), lr=0.05)
            train(m, opt, 50)
            ended.append(values_of(m))
        except BaseException as problem:
            problems.append(problem)

    class Frozen:
        start = copy.deepcopy(model())  # torch's seed is of the process

        def __init__(self):
            self.m = copy.deepcopy(self.start)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert problems == []
    for one in ended:
        assert all(map(torch.equal, one, alone))
    assert len(ended) == 2


class SteppedInside(fo.SGD):
    """A rule in whose update somebody else makes a step."""

    meanwhile = []

    def coefficients(self, t):
        for function in self.meanwhile:
            function()
        return super().coefficients(t)


def test_one_optimizer_in_two_threads():
    """The second is refused, and the first ends as if it had been alone."""
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.Optimizer([p], SteppedInside(lr=0.5))
    problems = []

    def step():
        try:
            opt.step()
        except RuntimeError as problem:
            problems.append(str(problem))

    def meanwhile():
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        p.grad = None  # the step holds it
        gc.collect()

    p.grad = torch.ones(3)
    SteppedInside.meanwhile.append(meanwhile)
    try:
        opt.step()
    finally:
        SteppedInside.meanwhile.clear()
    assert p.tolist() == [0.5] * 3
    assert len(problems) == 1
    assert "in the middle of a step" in problems[0]
    p.grad = torch.ones(3)
    opt.step()
    assert p.tolist() == [0.0] * 3


class Asking(torch.nn.Parameter):
    """A parameter that does something when it is asked for its gradient."""

    asked = staticmethod(lambda: None)

    @property
    def grad(self):
        self.asked()
        return torch.ones_like(self)


def set_rate(opt):
    opt.param_groups[0]["lr"] = 0.5
    opt.step()


IN_A_STEP = {
    "step": lambda opt: opt.step(),
    "another rate": set_rate,
    "add_param_group": lambda opt: opt.add_param_group({"params": [torch.nn.Parameter(X)]}),
    "load_state_dict": lambda opt: opt.load_state_dict(
        {"state": {}, "param_groups": [
            {**group, "params": [k]} for k, group in enumerate(opt.param_groups)
        ]}
    ),
    "another state": lambda opt: setattr(opt, "state", {}),
}


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("way", IN_A_STEP)
def test_nothing_else_is_done_in_the_middle_of_a_step(way, steps):
    p, q = Asking(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
    q.grad = torch.ones(3)
    opt = ft.SGD([{"params": [p]}, {"params": [q]}], lr=1.0)
    for _ in range(steps):
        opt.step()
    refused = []

    def asked():
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            IN_A_STEP[way](opt)
        refused.append(way)

    Asking.asked = staticmethod(asked)
    try:
        opt.step()
    finally:
        Asking.asked = staticmethod(lambda: None)
    assert refused
    for one in (p, q):
        assert torch.equal(one.detach(), torch.full((3,), -1.0 - steps))


def test_backward_in_another_thread():
    """Gradients of one model are made while another is updated."""
    m, other = model(), model(1)
    opt = ft.Adam(m.named_parameters(), lr=0.05)
    stop, problems = threading.Event(), []

    def backward():
        try:
            while not stop.is_set():
                loss_of(other).backward()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=backward)
    thread.start()
    try:
        train(m, opt, 100)
    finally:
        stop.set()
        thread.join()
    assert problems == []
    assert all(map(torch.equal, values_of(m), trained(ft, lambda m, opt: train(m, opt, 100))))


# ---------------------------------------------------------------- interrupts


def snapshot(m, opt):
    """All that there is, and whether it is of one step."""
    state = opt.state_dict()["state"]
    shown = {
        (k, name): one.tolist() if isinstance(one, torch.Tensor) else one
        for k, of_key in state.items() for name, one in of_key.items()
        if opt.rule.iter or k != "fastoptim"  # counts of 0 are there or not
    }
    return shown, [p.tolist() for p in m.parameters()], opt.rule.iter


def started(kind, looked, steps):
    torch.manual_seed(0)
    m = torch.nn.Linear(3, 2).double()
    if kind == "any rule":
        opt = ft.Optimizer(m.named_parameters(), fo.Adam(lr=0.1, average=0.5, zero_grads=True))
    else:
        opt = getattr(ft, kind)(m.named_parameters(), lr=0.1)
    for _ in range(steps):
        train(m, opt)
        if looked:
            assert isinstance(opt.state, dict)
    opt.zero_grad()
    loss_of(m).backward()
    return m, opt


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(("steps", "looked", "every"), [
    (0, False, 7), (1, True, 7), (2, False, 1), (2, True, 1),
], ids=["first", "second, state looked at", "third", "third, state looked at"])
@pytest.mark.parametrize("kind", ["NAdam", "any rule"])
def test_an_interrupt_anywhere_in_a_step(kind, steps, looked, every):
    """Parameters, state, counts and versions are of one step; the next goes on from there.

    The first step has many lines that make the rule, of which every seventh is tried.
    """
    m, opt = started(kind, looked, steps)
    before = snapshot(m, opt)
    opt.step()
    after = snapshot(m, opt)
    train(m, opt)
    in_the_end = snapshot(m, opt)
    assert before != after != in_the_end
    for n in count(step=every):
        m, opt = started(kind, looked, steps)
        versions = [p._version for p in m.parameters()]
        interrupt = Interrupt(n)
        interrupt.during(opt.step)
        made = opt.rule.iter > steps
        risen = {p._version > then for p, then in zip(m.parameters(), versions, strict=True)}
        assert risen == {made}
        if n % 2:  # somebody looks at once, or the next step comes first
            assert snapshot(m, opt) == (after if made else before)
        if not made:
            opt.step()
            if n % 2:
                assert snapshot(m, opt) == after
        train(m, opt)
        assert snapshot(m, opt) == in_the_end
        if not interrupt.raised:
            break
    assert n > 5  # a usual step has few lines of Python


@pytest.mark.usefixtures("no_collection")
def test_an_interrupt_anywhere_while_a_state_is_loaded():
    m, opt = started("SGD", False, 3)
    opt.param_groups[0]["momentum"] = 0.9
    opt.step()
    saved, new = opt.state_dict(), snapshot(m, opt)[0]
    assert new
    for n in count(step=3):
        m, opt = started("SGD", False, 1)
        old, interrupt = snapshot(m, opt)[0], Interrupt(n)
        interrupt.during(opt.load_state_dict, saved)
        assert snapshot(m, opt)[0] in (old, new)
        opt.step()
        if not interrupt.raised:
            break
    assert n > 20


def test_an_update_by_numpy_between_steps():
    """Arrays on a parameter's memory, as an algorithm outside of PyTorch has them."""
    p = torch.nn.Parameter(torch.ones(3))
    opt = ft.SGD([p], lr=0.5)
    p.grad = torch.ones(3)
    opt.step()
    p.detach().numpy()[...] = np.arange(3)
    opt.step()
    assert p.tolist() == [-0.5, 0.5, 1.5]
