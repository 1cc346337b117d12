"""Which tensors an update takes where they lie, and what is said of the others."""

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import prune as pruning  # noqa: E402

import fastoptim as fo  # noqa: E402
from fastoptim import torch as ft  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning"),
]
F64, F32 = torch.float64, torch.float32
N = 12


def numbers(*shape, dtype=F64, start=1.0):
    n = int(np.prod(shape))
    return (start + torch.arange(n, dtype=F64) / 7).to(dtype).reshape(shape)


def parameter(tensor):
    return torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point())


def optimizer(*parameters, rule="Adam", library=ft, **options):
    named = [(f"{k}.weight", p) for k, p in enumerate(parameters)]
    return getattr(library, rule)(named, **({"lr": 0.1} | options))


# ---------------------------------------------------------------- taken where they lie

base = numbers(6, 8)
LAYOUTS = {
    "plain": lambda: numbers(3, 4),
    "transposed": lambda: numbers(3, 4).t(),
    "every second row, some columns": lambda: numbers(6, 8)[::2, 2:5],
    "permuted": lambda: numbers(2, 3, 4).permute(2, 0, 1),
    "channels_last": lambda: numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "one column": lambda: numbers(6, 4)[:, 1:2],
    "0-d": lambda: torch.tensor(1.5, dtype=F64),
    "0-d of a vector": lambda: numbers(5)[3],
    "empty": lambda: torch.ones(0, 3, dtype=F64),
    "empty in the middle": lambda: torch.ones(2, 0, 3, dtype=F64),
    "64 axes": lambda: numbers(*(1,) * 62, 2, 3),
    "of length 1, with odd strides": lambda: torch.as_strided(numbers(9), (1, 4), (0, 2)),
    "a view into a flat buffer": lambda: numbers(20)[4:16].view(3, 4),
    "in shared memory": lambda: numbers(3, 4).share_memory_(),
    "on an array": lambda: torch.from_numpy(np.arange(12.0).reshape(3, 4)[:, ::2]),
    "the real part of complex numbers": lambda: torch.ones(3, 4, dtype=torch.complex128).real,
    "the imaginary part": lambda: torch.ones(3, 4, dtype=torch.complex128).imag,
}
GRADS = {
    "plain": lambda p: numbers(*p.shape, start=-0.5),
    "as the parameter": lambda p: numbers(*p.shape, start=-0.5).as_strided(p.shape, p.stride())
    if p.is_contiguous() else numbers(*p.shape, start=-0.5),
    "reversed axes": lambda p: numbers(*reversed(p.shape)).permute(tuple(reversed(range(p.ndim)))),
    "expanded": lambda p: torch.tensor(0.5, dtype=F64).expand(p.shape),
    "negated": lambda p: torch.complex(numbers(*p.shape), numbers(*p.shape)).conj().imag,
    "requires gradients itself": lambda p: numbers(*p.shape).requires_grad_() * 2,
    "a parameter": lambda p: torch.nn.Parameter(numbers(*p.shape)),
}


@pytest.mark.parametrize("rule", ["SGD", "Adam", "Rprop"])
@pytest.mark.parametrize("grad", GRADS.values(), ids=GRADS)
@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(make, grad, rule):
    ended = []
    for library in (torch.optim, ft):
        p = torch.nn.Parameter(make())
        address, strides = p.data_ptr(), p.stride()
        opt = optimizer(p, rule=rule, library=library)
        for _ in range(3):
            p.grad = grad(p).detach() if library is torch.optim else grad(p)
            opt.step()
        assert (p.data_ptr(), p.stride()) == (address, strides)
        ended.append(p.detach().clone())
    theirs, ours = ended
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert ours.numel() == 0 or not torch.equal(ours, make())


def test_what_lies_around_a_view_stays():
    flat = numbers(20)
    before = flat.clone()
    p = torch.nn.Parameter(flat[4:16:2])
    p.grad = torch.ones(6, dtype=F64)
    optimizer(p).step()
    changed = flat != before
    assert changed.nonzero().flatten().tolist() == [4, 6, 8, 10, 12, 14]


def test_views_of_one_buffer_are_updated_as_if_apart():
    flat, grads = numbers(10), numbers(10, start=-1.0)
    parts = [torch.nn.Parameter(flat[a:b]) for a, b in ((0, 3), (3, 4), (4, 10))]
    apart = [torch.nn.Parameter(p.detach().clone()) for p in parts]
    for group in (parts, apart):
        for p, (a, b) in zip(group, ((0, 3), (3, 4), (4, 10)), strict=True):
            p.grad = grads[a:b]
        optimizer(*group).step()
    assert torch.equal(flat, torch.cat([p.detach() for p in apart]))


def test_gradients_on_one_memory():
    g = numbers(5)
    alone, first, second = (torch.nn.Parameter(numbers(5)) for _ in range(3))
    alone.grad = g.clone()
    first.grad = second.grad = g
    optimizer(alone).step()
    optimizer(first, second).step()
    assert torch.equal(first, alone)
    assert torch.equal(second, alone)
    assert torch.equal(g, numbers(5))


def test_a_gradient_on_the_memory_of_parameters():
    """Read as it was before the update, all of it."""
    for where in ("its own", "another's"):
        flat = numbers(9)
        p, q = torch.nn.Parameter(flat[:4]), torch.nn.Parameter(flat[4:8])
        p.grad, q.grad = (flat[:4], flat[4:8]) if where == "its own" else (flat[5:9], flat[1:5])
        g, h, start = p.grad.clone(), q.grad.clone(), flat.clone()
        optimizer(p, q, rule="SGD", lr=0.5).step()
        assert torch.equal(flat[:4], start[:4] - 0.5 * g)
        assert torch.equal(flat[4:8], start[4:8] - 0.5 * h)
        assert flat[8] == start[8]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(dtype):
    pytest.importorskip("ml_dtypes")
    p = torch.nn.Parameter(numbers(3, 4).to(dtype))
    q = {"w": p.detach().float().numpy().copy()}
    opt, own = optimizer(p, lr=0.25), fo.Adam(lr=0.25, eps=1e-8, eps_corrected=True)
    for _ in range(3):
        p.grad = torch.full((3, 4), 0.5, dtype=dtype)
        opt.step()
        own.update(q, {"w": np.full((3, 4), 0.5, np.float32)})
        # Each step starts at the numbers that 16 bits have room for.
        q["w"][...] = torch.from_numpy(q["w"]).to(dtype).float().numpy()
        assert torch.equal(p.detach().float(), torch.from_numpy(q["w"]))


def test_bfloat16_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    p = torch.nn.Parameter(numbers(3).to(torch.bfloat16))
    p.grad = torch.ones_like(p)
    opt = optimizer(p)
    with pytest.raises(ImportError, match=r"'0.weight' is bfloat16.*fastoptim\[lowbits\]"):
        opt.step()
    assert torch.equal(p, numbers(3).to(torch.bfloat16))


class WithFunction(torch.Tensor):
    """A subclass that has no memory but a tensor's."""


class OwnParameter(torch.nn.Parameter):
    pass


SUBCLASSES = {
    "tensor": lambda: numbers(3).as_subclass(WithFunction).requires_grad_(),
    "parameter": lambda: OwnParameter(numbers(3)),
    "buffer": lambda: torch.nn.Buffer(numbers(3)),
    "made in inference mode": lambda: made_in_inference_mode(),
}


def made_in_inference_mode():
    with torch.inference_mode():
        return torch.nn.Parameter(numbers(3))


@pytest.mark.parametrize("make", SUBCLASSES.values(), ids=SUBCLASSES)
def test_subclasses_with_memory(make):
    p, q = make(), torch.nn.Parameter(numbers(3))
    ours, plain = optimizer(p), optimizer(q)
    for k in range(3):
        p.grad = torch.full((3,), k + 1.0, dtype=F64).as_subclass(WithFunction)
        q.grad = torch.full((3,), k + 1.0, dtype=F64)
        ours.step()
        plain.step()
    assert torch.equal(p.detach(), q.detach())


def test_a_mapped_file(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(np.arange(6.0).tobytes())
    p = torch.nn.Parameter(torch.from_file(str(file), shared=True, size=6, dtype=F64))
    p.grad = torch.ones(6, dtype=F64)
    optimizer(p, rule="SGD", lr=0.5).step()
    assert np.fromfile(file).tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5]


def test_of_an_array_that_numpy_would_not_write():
    """PyTorch warns when it takes such an array; its tensors know nothing of it."""
    a = np.ones(3)
    a.flags.writeable = False
    p = torch.nn.Parameter(torch.from_numpy(a))
    p.grad = torch.ones(3, dtype=F64)
    optimizer(p, rule="SGD", lr=0.5).step()
    assert a.tolist() == [0.5] * 3


# ---------------------------------------------------------------- refused


class Wrapper(torch.Tensor):
    """A subclass without memory: its numbers are in another tensor."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        def bare(x):
            return x.inner if isinstance(x, Wrapper) else x

        made = func(*map(bare, args), **(kwargs or {}))
        return cls(made) if isinstance(made, torch.Tensor) else made


def given(p, g=None):
    """A parameter with a gradient, however the two fit."""
    p = p if isinstance(p, torch.nn.Parameter) else parameter(p)
    if g is None:
        g = torch.ones(p.shape, dtype=p.dtype)
    p.grad_dtype = None
    p.grad = g
    return [p]


def overlapping():
    flat = numbers(10)
    return given(flat[:6]) + given(flat[4:])


def tied():
    p = torch.nn.Parameter(numbers(4))
    q = torch.nn.Parameter(p.data)
    return given(p) + given(q)


def freed(offset=0, left=0):
    """A parameter, and what takes its memory away once the optimizer is made."""
    p = torch.nn.Parameter(numbers(9)[offset:])
    p.grad = torch.ones(9 - offset, dtype=F64)
    return [p], lambda: p.untyped_storage().resize_(left)


def freed_gradient(offset=0):
    p = torch.nn.Parameter(numbers(9))
    p.grad = torch.ones(9 + offset, dtype=F64)[offset:]
    p.grad.untyped_storage().resize_(0)
    return [p]


def functional():
    p = torch.nn.Parameter(numbers(3))
    p.grad = torch._to_functional_tensor(torch.ones(3, dtype=F64))
    return [p]


W, G = "parameter '0.weight'", "the gradient of parameter '0.weight'"
# Each: parameters with gradients, the exception, and parts of its text.
REFUSED = {
    "expanded": (
        lambda: given(torch.ones(1, 4).expand(3, 4), torch.ones(3, 4)), ValueError,
        [W, "overlaps itself", "strides (0, 4)", "p.data.clone()"],
    ),
    "windows": (
        lambda: given(torch.ones(10).as_strided((4, 4), (2, 1)), torch.ones(4, 4)), ValueError,
        [W, "overlaps itself", "p.data.clone()"],
    ),
    "overlapping": (
        overlapping, ValueError, [W, "'1.weight'", "share memory", "p.data.clone()"],
    ),
    "two on one memory": (
        tied, ValueError, [W, "'1.weight'", "share memory", "give the optimizer one of them"],
    ),
    "65 axes": (
        lambda: given(torch.ones((1,) * 65)), ValueError, [W, "65 axes", "at most 64", "reshape"],
    ),
    "complex": (
        lambda: given(parameter_of(torch.ones(3, dtype=torch.complex64))), TypeError,
        [W, "torch.complex64", "torch.float32", "torch.view_as_real"],
    ),
    "int64": (
        lambda: given(torch.ones(3, dtype=torch.int64)), TypeError,
        [W, "torch.int64", ".to(torch.float32)"],
    ),
    "bool": (
        lambda: given(torch.ones(3, dtype=torch.bool)), TypeError,
        [W, "torch.bool", ".to(torch.float32)"],
    ),
    "float8": (
        lambda: given(
            torch.nn.Parameter(torch.ones(3).to(torch.float8_e4m3fn), requires_grad=False),
            torch.ones(3).to(torch.float8_e4m3fn),
        ), TypeError, [W, "torch.float8_e4m3fn", ".to(torch.float32)"],
    ),
    "gradient of float64": (
        lambda: given(torch.ones(3), torch.ones(3, dtype=F64)), TypeError,
        [G, "float64", f"{W} is float32", "p.grad.to(torch.float32)"],
    ),
    "gradient of float32": (
        lambda: given(numbers(3), torch.ones(3)), TypeError,
        [G, "float32", f"{W} is float64", "p.grad.to(torch.float64)"],
    ),
    "gradient of integers": (
        lambda: given(torch.ones(3), torch.ones(3, dtype=torch.int32)), TypeError,
        [G, "torch.int32", ".to(torch.float32)"],
    ),
    "elsewhere": (
        lambda: given(torch.ones(3, device="meta"), torch.ones(3, device="meta")), TypeError,
        [W, "device 'meta'", "model.cpu()", "torch.optim"],
    ),
    "sparse": (
        lambda: given(torch.eye(3).to_sparse(), torch.eye(3).to_sparse()), TypeError,
        [W, "sparse", ".to_dense()"],
    ),
    "sparse gradient": (
        lambda: given(torch.eye(3), torch.eye(3).to_sparse()), RuntimeError,
        ["gradient is sparse", "SparseAdam"],
    ),
    "CSR": (
        lambda: given(torch.eye(3).to_sparse_csr(), torch.eye(3).to_sparse_csr()), TypeError,
        [W, "torch.sparse_csr", ".to_dense()"],
    ),
    "mkldnn": (
        lambda: given(torch.ones(3, 3).to_mkldnn(), torch.ones(3, 3).to_mkldnn()), TypeError,
        [W, "torch._mkldnn", ".to_dense()"],
    ),
    "freed": (freed, TypeError, [W, "storage was freed"]),
    "freed, a view": (lambda: freed(3), TypeError, [W, "storage was freed"]),
    "cut": (lambda: freed(left=32), TypeError, [W, "cut to 32 bytes"]),
    "freed gradient": (freed_gradient, TypeError, [G, "storage was freed"]),
    "freed gradient, a view": (lambda: freed_gradient(2), TypeError, [G, "storage was freed"]),
    "functional": (functional, TypeError, [G, "transform"]),
    "wrapper gradient": (
        lambda: given(torch.ones(3), Wrapper(torch.ones(3))), TypeError,
        [G, "Wrapper", "no memory of its own", "plain tensors"],
    ),
    "negated": (
        lambda: given(torch.ones(3, dtype=torch.complex64).conj().imag), ValueError,
        [W, "imaginary part of a conjugated", ".resolve_neg()"],
    ),
}


def parameter_of(tensor):
    return torch.nn.Parameter(tensor)


def bytes_of(p):
    if p.layout != torch.strided or p.device.type != "cpu":
        return repr(p)
    if p.untyped_storage().nbytes() < p.numel() * p.element_size() and 0 not in p.stride():
        return None  # there is not all of it
    return p.detach().clone().view(-1).tolist()


@pytest.mark.filterwarnings("ignore:Casting complex values to real:UserWarning")
@pytest.mark.parametrize("after", [False, True], ids=["at the first step", "later"])
@pytest.mark.parametrize(("make", "kind", "parts"), REFUSED.values(), ids=REFUSED)
def test_refused(make, kind, parts, after):
    """Nothing has changed: not the good parameter beside it, no state, no count, no version."""
    made = make()
    bad, spoil = made if isinstance(made, tuple) else (made, lambda: None)
    good = torch.nn.Parameter(numbers(4, dtype=F32))
    opt = optimizer(*bad, good)
    good.grad = torch.ones(4)
    if after:
        held = [p.grad for p in bad]
        for p in bad:
            p.grad = None
        opt.step()
        for p, g in zip(bad, held, strict=True):
            p.grad = g
    spoil()
    before = good.detach().clone()
    versions = [p._version for p in (*bad, good)]
    numbers_before = [bytes_of(p) for p in bad]
    count = opt.rule.iter
    for _ in range(2):  # it is not forgotten
        with pytest.raises(kind) as caught:
            opt.step()
        for part in parts:
            assert part in str(caught.value)
        assert "params[" not in str(caught.value)
        assert "grads[" not in str(caught.value)
        assert "astype" not in str(caught.value)
    assert torch.equal(good, before)
    assert [p._version for p in (*bad, good)] == versions
    assert [bytes_of(p) for p in bad] == numbers_before
    assert opt.rule.iter == count == after
    assert len(opt.state) == after
    for p in bad:  # and the others go on
        p.grad = None
    opt.step()
    assert opt.rule.iter == count + 1
    assert not torch.equal(good, before)


@pytest.mark.parametrize(("make", "parts"), [
    (lambda: torch.nn.Parameter(Wrapper(torch.ones(3))), ["Wrapper", "plain tensors"]),
    (lambda: torch.nn.Parameter(
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])), ["nested"]),
    (lambda: torch.nn.Parameter(torch.nested.nested_tensor(
        [torch.ones(2), torch.ones(3)], layout=torch.jagged)), ["nested"]),
    (lambda: torch.nn.Parameter(
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), requires_grad=False,
    ), ["quantized"]),
], ids=["wrapper", "nested", "jagged", "quantized"])
def test_refused_when_the_optimizer_is_made(make, parts):
    good = torch.nn.Parameter(torch.ones(3))
    opt = ft.Adam([("good", good)])
    with pytest.raises(TypeError) as caught:
        opt.add_param_group({"params": [("0.weight", make())]})
    assert W in str(caught.value)
    for part in parts:
        assert part in str(caught.value)
    assert len(opt.param_groups) == 1
    with pytest.raises(TypeError):
        ft.Adam([make()])


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        p = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match="FakeTensor"):
        ft.Adam([p])


def test_names_and_numbers_in_messages():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad_dtype = None
    for params, name in (([p], "parameter 0"), ([("a['b']", p)], 'parameter "a[\'b\']"')):
        opt = ft.Adam(params)
        p.grad = torch.ones(3, dtype=F64)
        with pytest.raises(TypeError) as caught:
            opt.step()
        assert f"the gradient of {name} is float64, but {name} is float32" in str(caught.value)


def test_numbers_that_are_not_finite():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.tensor([1.0, float("nan"), 2.0])
    opt = ft.Optimizer([("w", p)], fo.SGD(nonfinite="raise"))
    with pytest.raises(FloatingPointError, match=r"^the gradient of parameter 'w'\[1\] is nan;"):
        opt.step()


def test_zeroing_a_gradient_that_is_two():
    p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    p.grad = q.grad = torch.ones(3)
    opt = ft.Optimizer([("p", p), ("q", q)], fo.SGD(zero_grads=True))
    with pytest.raises(ValueError, match="parameter 'q'.*p.grad = p.grad.clone"):
        opt.step()
    assert p.grad.tolist() == p.tolist() == [1.0] * 3


# ---------------------------------------------------------------- where a parameter lies now


def twice(p):
    return p.detach().clone() * 2


def set_data(m, opt):
    for p in m.parameters():
        p.data = twice(p)


def set_(m, opt):
    for p in m.parameters():
        with torch.no_grad():
            p.set_(twice(p))


def swap_tensors(m, opt):
    for p in m.parameters():
        torch.utils.swap_tensors(p, torch.nn.Parameter(twice(p)))


def swap_at_conversion(m, opt):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        m.float().double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def resized(m, opt):
    for p in m.parameters():
        values = twice(p)
        p.data.resize_(1000).resize_(values.shape).copy_(values)


def load(m, opt):
    m.load_state_dict({name: twice(one) for name, one in m.state_dict().items()})


def through_one_vector(m, opt):
    vector = torch.nn.utils.parameters_to_vector(m.parameters())
    torch.nn.utils.vector_to_parameters(vector * 2, m.parameters())


def prune(m, opt):
    pruning.l1_unstructured(m[0], "weight", amount=0.5)


def prune_and_keep(m, opt):
    prune(m, opt)
    train(m, opt, 1)
    pruning.remove(m[0], "weight")


def tie(m, opt):
    m[1].weight = m[0].weight


def freeze(m, opt):
    m[0].weight.requires_grad_(False)


def ema(m, opt):
    """Train, evaluate with an average in the parameters' place, and go on."""
    own = [p.data for p in m.parameters()]
    for p in m.parameters():
        p.data = torch.zeros_like(p)
    m(torch.ones(5, 3, dtype=F64))
    for p, data in zip(m.parameters(), own, strict=True):
        p.data = data


MOVED = {
    "p.data": set_data, "set_": set_, "swap_tensors": swap_tensors, "resize_": resized,
    "swapped at conversion": swap_at_conversion, "there and back": lambda m, opt: m.half().double(),
    "share_memory": lambda m, opt: m.share_memory(), "load_state_dict": load,
    "vector_to_parameters": through_one_vector, "prune": prune, "prune.remove": prune_and_keep,
    "tie": tie, "freeze": freeze, "average in its place": ema, "nothing": lambda m, opt: None,
}
PARAMETRIZED = {
    "plain": lambda layer: layer,
    "weight_norm": lambda layer: torch.nn.utils.parametrizations.weight_norm(layer),
    "spectral_norm": lambda layer: torch.nn.utils.parametrizations.spectral_norm(layer),
}


def train(m, opt, steps, shape=(5, 3)):
    x = numbers(*shape) / 10
    for _ in range(steps):
        opt.zero_grad()
        m(x).square().sum().backward()
        opt.step()


def as_torch(make, change, shape=(5, 3), rule="Adam"):
    """Train with both, change the model in between; return the largest difference."""
    ended = []
    for library in (torch.optim, ft):
        torch.manual_seed(0)
        m = make().double()
        opt = getattr(library, rule)(m.named_parameters(), lr=0.05)
        train(m, opt, 2, shape)
        change(m, opt)
        train(m, opt, 3, shape)
        ended.append([p.detach().clone() for p in m.parameters()])
    for a, b in zip(*ended, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("looked", [False, True], ids=["", "state looked at"])
@pytest.mark.parametrize("change", MOVED.values(), ids=MOVED)
def test_a_parameter_that_lies_elsewhere(change, looked):
    def also(m, opt):
        if looked:
            assert len(opt.state) == 4
        change(m, opt)

    as_torch(lambda: torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)), also)


@pytest.mark.parametrize("wrap", PARAMETRIZED.values(), ids=PARAMETRIZED)
def test_parametrizations(wrap):
    as_torch(
        lambda: torch.nn.Sequential(wrap(torch.nn.Linear(3, 3)), torch.nn.Linear(3, 2)),
        lambda m, opt: None,
    )


def test_channels_last():
    as_torch(
        lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.Conv2d(4, 2, 2)),
        lambda m, opt: m.to(memory_format=torch.channels_last), (2, 3, 5, 5),
    )


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.float])
def test_converted_after_the_first_step(convert):
    m = torch.nn.Linear(3, 2).double()
    opt = ft.Adam(m.named_parameters())
    train(m, opt, 1)
    convert(m)
    before = [p.detach().clone() for p in m.parameters()]
    for p in m.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(TypeError, match=(
        r"parameter 'weight' is float\d\d, but .* float64 from earlier updates; convert the "
        r"parameter back, or make the optimizer anew of model.parameters\(\)"
    )):
        opt.step()
    assert all(map(torch.equal, m.parameters(), before))
    m.double()
    train(m, opt, 1)


def test_another_shape_after_the_first_step():
    m = torch.nn.Linear(3, 2).double()
    opt = ft.Adam(m.named_parameters())
    train(m, opt, 1)
    m.weight.data = numbers(5, 3)
    m.bias.data = numbers(5)
    m.zero_grad()
    m.weight.grad = torch.ones_like(m.weight)
    with pytest.raises(ValueError, match=(
        r"parameter 'weight' has shape \(5, 3\), but its state has shape \(2, 3\) .*anew of "
    )):
        opt.step()


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_lazy_layers():
    ended = []
    for library in (torch.optim, ft):
        torch.manual_seed(0)
        m = torch.nn.LazyLinear(2).double()
        opt = library.Adam(m.named_parameters())
        train(m, opt, 3)
        ended.append([p.detach().clone() for p in m.parameters()])
    for a, b in zip(*ended, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_from_meta_to_memory():
    """An optimizer of an empty model, which gets its numbers by an exchange of tensors."""
    p = torch.nn.Parameter(torch.ones(3, device="meta"))
    opt = ft.SGD([p], lr=0.5)
    torch.utils.swap_tensors(p, torch.nn.Parameter(torch.ones(3)))
    p.grad = torch.ones(3)
    opt.step()
    assert p.tolist() == [0.5] * 3
