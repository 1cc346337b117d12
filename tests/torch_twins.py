"""An optimizer of torch.optim and fastoptim's of the same name, on equal parameters.

A module that imports this one is skipped where there is no PyTorch.
"""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastoptim.torch  # noqa: E402

RTOL = 1e-12
# Axes of several lengths and layouts; "empty" has no element, "frozen" never gets a gradient.
SHAPES = {
    "scale": (), "bias": (11,), "weight": (7, 5), "turned": (4, 6), "image": (2, 3, 4, 5),
    "empty": (0, 3), "often": (3, 4), "plain": (5,), "frozen": (2, 2),
}
# PyTorch's Adafactor divides by the number of elements.
FILLED = {name: shape for name, shape in SHAPES.items() if name != "empty"}


def made(shape, name, rng):
    """Return a parameter, which lies as its name says."""
    a = torch.tensor(rng.standard_normal(shape))
    if name == "turned":
        a = a.t().contiguous().t()
    if name == "image":
        a = a.to(memory_format=torch.channels_last)
    return torch.nn.Parameter(a, requires_grad=name not in ("plain", "frozen"))


def parameters(shapes=SHAPES, seed=0):
    """Return named parameters; of one seed they are equal."""
    rng = np.random.default_rng(seed)
    return {name: made(shape, name, rng) for name, shape in shapes.items()}


def give_gradients(of_both, rng, t=1):
    """Give equal parameters equal gradients: a pull towards zero, noise, and some exact zeros."""
    ours, theirs = of_both
    for name, p in ours.items():
        noise = rng.standard_normal(p.shape)
        pull = theirs[name].detach().numpy() + noise
        g = np.where(rng.random(p.shape) < 0.1, 0.0, pull)
        has_none = name == "frozen" or (name == "often" and t % 3 == 0)
        for side in (p, theirs[name]):
            side.grad = None if has_none else torch.empty_like(side).copy_(torch.tensor(g))


class Twins:
    """Two optimizers of one name and their parameters.

    Parameters
    ----------
    name : str
        Of the class.
    shapes : dict
        Of the parameters, by name.
    groups : callable, optional
        From named parameters to what a constructor takes; a list of them without.
    given
        Keyword arguments of both constructors.
    """

    def __init__(self, name, shapes=SHAPES, groups=None, **given):
        self.rng = np.random.default_rng(1)
        self.t = 0
        self.params = parameters(shapes), parameters(shapes)
        groups = groups or (lambda params: list(params.values()))
        modules = fastoptim.torch, torch.optim
        self.ours, self.theirs = (
            getattr(module, name)(groups(params), **copy.deepcopy(given))
            for module, params in zip(modules, self.params, strict=True)
        )
        self.both = self.ours, self.theirs

    def step(self):
        """Give gradients, and make one step of both."""
        self.t += 1
        give_gradients(self.params, self.rng, self.t)
        self.ours.step()
        self.theirs.step()

    def run(self, steps):
        """Make several steps."""
        for _ in range(steps):
            self.step()

    def check(self):
        """Compare parameters, states and groups, all of them."""
        ours, theirs = self.params
        for name, p in ours.items():
            close(p, theirs[name], name)
        check_states(self.ours.state_dict(), self.theirs.state_dict())
        assert repr(self.ours) == repr(self.theirs)
        assert same(self.ours.defaults, self.theirs.defaults)


def check_states(ours, theirs):
    """Compare what `state_dict` gives: names, numbers, shapes."""
    assert same(ours["param_groups"], theirs["param_groups"])
    assert ours["state"].keys() == theirs["state"].keys()
    for key, of_theirs in theirs["state"].items():
        of_ours = ours["state"][key]
        assert of_ours.keys() == of_theirs.keys(), key
        for name, value in of_theirs.items():
            assert type(of_ours[name]) is type(value), name
            close(of_ours[name], value, f"{key}: {name}")


def close(ours, theirs, name):
    """Compare a tensor or a number to 1e-12, its shape exactly."""
    a, b = (
        np.asarray(one.detach() if isinstance(one, torch.Tensor) else one) for one in (ours, theirs)
    )
    assert a.shape == b.shape, name
    np.testing.assert_allclose(a, b, rtol=RTOL, atol=1e-13, err_msg=str(name))


def same(a, b):
    """Whether nested dicts, lists and tensors are equal."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(one, b[name]) for name, one in a.items())
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.fixture
def counts_in_float64():
    """Let PyTorch keep step counts and products of momenta in float64, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
