"""Sparse gradients in fastoptim.torch: as PyTorch's classes that take them; the others refuse.

To 1e-12 in float64, parameters and state.
"""

import copy

import numpy as np
import pytest
from torch_twins import check_states, counts_in_float64, fastoptim, torch  # noqa: F401

pytestmark = [
    pytest.mark.usefixtures("counts_in_float64"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning"),  # PyTorch's Adagrad
]

STEPS = 40
ROWS, WIDTH = 30, 5
# Indices of a step, and whether the gradient says that each comes once, in order.
GRADIENTS = {
    "duplicates": (lambda rng: rng.integers(0, 20, 12), False),
    "coalesced": (lambda rng: np.sort(rng.permutation(20)[:7]), True),
    "one row": (lambda rng: np.full(9, 4), False),
    "sometimes empty": (lambda rng: rng.integers(0, 20, 6 * rng.integers(0, 2)), False),
}
CLASSES = [
    ("SparseAdam", {"lr": 0.01}),
    ("SparseAdam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-6, "maximize": True}),
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "maximize": True, "foreach": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.2, "eps": 1e-3}),
    ("Adagrad", {"maximize": True, "foreach": False}),
]
MODULES = fastoptim.torch, torch.optim


def close(ours, theirs):
    np.testing.assert_allclose(
        ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-12, atol=1e-13
    )


def gradient(index, values, is_coalesced, shape):
    return torch.sparse_coo_tensor(
        torch.tensor(index)[None], torch.tensor(values), shape, is_coalesced=is_coalesced,
        check_invariants=True,
    )


@pytest.mark.parametrize("shape", [(ROWS, WIDTH), (ROWS, 2, 3), (ROWS,)])
@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize(("name", "given"), CLASSES)
def test_the_same_numbers(name, given, kind, shape):
    draw, is_coalesced = GRADIENTS[kind]
    rng = np.random.default_rng(0)
    start = rng.standard_normal(shape)
    params = [torch.nn.Parameter(torch.tensor(start)) for _ in MODULES]
    opts = [
        getattr(module, name)([p], **given) for module, p in zip(MODULES, params, strict=True)
    ]
    for _ in range(STEPS):
        index = draw(rng)
        values = rng.standard_normal((len(index), *shape[1:]))
        for p, opt in zip(params, opts, strict=True):
            p.grad = gradient(index, values, is_coalesced, shape)
            opt.step()
    close(*params)
    check_states(*(opt.state_dict() for opt in opts))
    assert torch.equal(params[0][25:], torch.tensor(start[25:]))  # never in a gradient
    assert not torch.equal(params[0], torch.tensor(start))


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_dense_and_sparse_by_turns(name):
    rng = np.random.default_rng(0)
    start = rng.standard_normal((ROWS, WIDTH))
    params = [torch.nn.Parameter(torch.tensor(start)) for _ in MODULES]
    opts = [getattr(module, name)([p], lr=0.1) for module, p in zip(MODULES, params, strict=True)]
    for t in range(STEPS):
        index = rng.integers(0, 20, 12)
        values = rng.standard_normal((12, WIDTH))
        for p, opt in zip(params, opts, strict=True):
            g = gradient(index, values, False, start.shape)
            p.grad = g.to_dense() if t % 3 == 0 else g
            opt.step()
    close(*params)
    check_states(*(opt.state_dict() for opt in opts))


MOMENTA = [{}, {"nesterov": True}, {"dampening": 0.3}, {"maximize": True}]


@pytest.mark.parametrize("given", MOMENTA)
def test_momentum_moves_all_rows_that_ever_had_a_gradient(given):
    """PyTorch's buffer is sparse; ours has the same numbers, and is loaded from it and into it."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal((ROWS, WIDTH))
    params = [torch.nn.Parameter(torch.tensor(start)) for _ in MODULES]
    ours, theirs = (
        module.SGD([p], lr=0.01, momentum=0.9, foreach=False, **given)
        for module, p in zip(MODULES, params, strict=True)
    )
    for t in range(STEPS):
        index = rng.integers(0, 20, 12)
        values = rng.standard_normal((12, WIDTH))
        for p, opt in zip(params, (ours, theirs), strict=True):
            p.grad = gradient(index, values, False, start.shape)
            opt.step()
        if t == 20:
            ours.load_state_dict(theirs.state_dict())
    close(*params)
    buffer = ours.state[params[0]]["momentum_buffer"]
    close(buffer, theirs.state[params[1]]["momentum_buffer"].to_dense())
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    for p, opt in zip(params, (ours, theirs), strict=True):
        p.grad = torch.ones_like(p)
        opt.step()
    close(*params)


def bag():
    return torch.nn.EmbeddingBag(ROWS, WIDTH, sparse=True, mode="sum")


def table():
    return torch.nn.Embedding(ROWS, WIDTH, sparse=True, padding_idx=3)


@pytest.mark.parametrize("layer", [table, bag])
@pytest.mark.parametrize("name", ["SparseAdam", "SGD", "Adagrad"])
def test_embeddings(name, layer):
    tables = []
    for module in MODULES:
        torch.manual_seed(0)
        embedding = layer()
        opt = getattr(module, name)(embedding.parameters(), lr=0.1)
        for _ in range(STEPS):
            opt.zero_grad()
            words = torch.randint(0, 20, (4, 6))
            (embedding(words) - 1).square().sum().backward()
            assert embedding.weight.grad.is_sparse
            opt.step()
        tables.append((embedding.weight, opt.state_dict()))
    close(tables[0][0], tables[1][0])
    check_states(tables[0][1], tables[1][1])


# ---------------------------------------------------------------- refused, and nothing has changed


def unchanged(opt, p, problem, match):
    """Assert that a step is refused, of which nothing is left."""
    before = p.detach().clone(), p._version
    with pytest.raises(problem, match=match):
        opt.step()
    assert torch.equal(p, before[0])
    assert p._version == before[1]


NONE_TAKEN = [
    "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adadelta", "RMSprop", "Rprop", "Adafactor",
]


def rows_of_two(p):
    return gradient(np.array([1, 2]), np.ones((2, p.shape[1])), True, tuple(p.shape))


@pytest.mark.parametrize("name", NONE_TAKEN)
def test_refused_by_classes_that_decay_all_rows(name):
    p = torch.nn.Parameter(torch.ones(ROWS, WIDTH))
    opt = getattr(fastoptim.torch, name)([p])
    p.grad = rows_of_two(p)
    unchanged(opt, p, RuntimeError, f"sparse, and {name} would .* use SparseAdam")
    assert len(opt.state_dict()["state"]) == 0
    p.grad = torch.ones_like(p)
    opt.step()
    assert not torch.equal(p, torch.ones_like(p))


class Derived(fastoptim.torch.SGD):
    """Somebody's own class."""


@pytest.mark.parametrize("cls", [fastoptim.torch.SGD, fastoptim.torch.Adagrad, Derived])
def test_weight_decay_concerns_all_rows(cls):
    p = torch.nn.Parameter(torch.ones(ROWS, WIDTH))
    opt = cls([p], weight_decay=0.1)
    p.grad = rows_of_two(p)
    unchanged(opt, p, RuntimeError, r"weight_decay of param_groups\[0\] concerns all rows")
    opt.param_groups[0]["weight_decay"] = 0.0
    opt.step()


def test_options_of_other_groups_are_no_obstacle():
    both = []
    for module in MODULES:
        p, q = torch.nn.Parameter(torch.ones(ROWS, WIDTH)), torch.nn.Parameter(torch.ones(3))
        opt = module.SGD([{"params": [p]}, {"params": [q], "momentum": 0.9, "weight_decay": 0.1}])
        for _ in range(3):
            p.grad, q.grad = rows_of_two(p), torch.ones(3)
            opt.step()
        both.append((p, q))
    for ours, theirs in zip(*both, strict=True):
        close(ours, theirs)


def test_dense_gradients_are_not_for_sparse_adam():
    p = torch.nn.Parameter(torch.ones(ROWS, WIDTH))
    opt = fastoptim.torch.SparseAdam([p])
    p.grad = torch.ones_like(p)
    unchanged(opt, p, RuntimeError, "is dense, and SparseAdam takes sparse ones alone; use Adam")


INDICES = [
    (torch.tensor([[0, 30]]), "30"), (torch.tensor([[0, -1]]), "-1"),
]


@pytest.mark.parametrize(("index", "match"), INDICES)
def test_rows_that_are_not_there(index, match):
    p = torch.nn.Parameter(torch.ones(ROWS, WIDTH))
    opt = fastoptim.torch.SparseAdam([p])
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        p.grad = torch.sparse_coo_tensor(index, torch.ones(2, WIDTH), p.shape)
    unchanged(opt, p, (ValueError, IndexError), match)
