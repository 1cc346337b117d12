"""Networks that hold their own arrays: fn reads them where they are, whatever it is given."""

import itertools
import signal
import sys
import threading
from collections import UserDict
from functools import lru_cache

import numpy as np
import pytest
from helpers import LAYOUTS, PAST_THRESHOLD, copies, every_dtype, interrupted

import fastoptim as fo
from fastoptim.ode import adaptive, runge_kutta
from fastoptim.optimizer import hyperparameters, lookahead
from fastoptim.optimizer import objective as closure

METHODS = {
    "Heun": lambda: fo.Heun(0.05),
    "RK23": lambda: fo.RK23(0.05),
    "RK45": lambda: fo.RK45(0.05),
    "RK23 adaptive": lambda: fo.RK23(2.0, 1e-3, 1e-4),
    "RK45 adaptive": lambda: fo.RK45(2.0, 1e-3, 1e-4),
    "RK45 deterministic": lambda: fo.RK45(2.0, 1e-3, 1e-4, deterministic=True),
    "look-ahead": lambda: fo.Momentum(0.05, 0.8, lookahead=True),
    "look-ahead, groups": lambda: fo.Momentum(
        0.05, 0.8, lookahead=True, groups=[fo.Group("b", alpha=0.5)]
    ),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def slope(x):
    with np.errstate(over="ignore", invalid="ignore"):  # what is taken back may have overflowed
        return x * x * x + x


class Network:
    """Holds its arrays, and looks at nothing else."""

    def __init__(self, params):
        self.params, self.calls = params, 0

    def gradient(self, given):
        assert given is self.params
        self.calls += 1
        loss = sum(float(np.asarray(p).flat[0]) for p in self.params.values() if np.size(p))
        return loss, {key: slope(p) for key, p in self.params.items()}


def starting_point(dtype, large=False):
    rng = np.random.default_rng(1)
    n = PAST_THRESHOLD if large else 1025
    shapes = {"W": (4, 5, 6), "b": (n,), "none": (0, 3), "c": ()}
    return {key: np.asarray(rng.standard_normal(s), dtype) for key, s in shapes.items()}


def by_the_listing(params, steps, alphas):
    """Momentum with the gradient at p + αv, in NumPy."""
    v = {key: np.zeros_like(p) for key, p in params.items()}
    for _ in range(steps):
        for key, p in params.items():
            alpha, lr = p.dtype.type(alphas[key]), p.dtype.type(0.05)
            g = slope(p + alpha * v[key])
            v[key] = alpha * v[key] - lr * g
            params[key] = p + v[key]
    return params


def gradient_at_copies(p):
    """The loss and the gradients of a network that nobody else sees."""
    own = copies(p)
    return Network(own).gradient(own)


@lru_cache
def functional(name, dtype, large=False):
    """Bits, losses and numbers after three steps with functions of copies."""
    params, opt = starting_point(dtype, large), METHODS[name]()
    losses = [opt.step(params, gradient_at_copies) for _ in range(3)]
    return {key: p.tobytes() for key, p in params.items()}, losses, vars_of(opt)


def vars_of(opt):
    return [getattr(opt, name, None) for name in ("iter", "time", "step_size", "rejected")]


@pytest.mark.parametrize("layout", LAYOUTS)
@every_dtype
@pytest.mark.parametrize("name", METHODS)
def test_it_has_the_bits_of_the_functional_form(name, dtype, layout, threads):
    large = layout in ("C", "every other column")  # enough for four threads
    params = starting_point(dtype, large)
    params["W"] = LAYOUTS[layout](params["W"])
    net, mine, opt = Network(params), dict(params), METHODS[name]()
    losses = [opt.step(net.params, net.gradient) for _ in range(3)]
    bits, expected_losses, numbers = functional(name, dtype, large)
    for key, p in params.items():
        assert p is mine[key]
        assert np.ascontiguousarray(p).tobytes() == bits[key], key
    assert losses == expected_losses
    assert vars_of(opt) == numbers


@every_dtype
@pytest.mark.parametrize("name", ["look-ahead", "look-ahead, groups"])
def test_look_ahead_has_the_bits_of_the_listing(name, dtype):
    params = starting_point(dtype)
    alphas = dict.fromkeys(params, 0.8)
    if name == "look-ahead, groups":
        alphas["b"] = 0.5
    expected = by_the_listing(params, 3, alphas)
    bits, _, _ = functional(name, dtype)
    for key, p in expected.items():
        assert p.tobytes() == bits[key], key


@pytest.mark.parametrize("kind", [dict, UserDict])
@every_method
def test_the_argument_is_the_callers_own_mapping(method, kind):
    array = np.ones(3)
    params, given = kind(b=array), []

    def fn(p):
        given.append((p, p["b"]))
        return {"b": np.ones(3)}

    opt = method()
    for _ in range(2):
        opt.step(params, fn)
    assert given
    assert all(p is params and a is array for p, a in given)


@pytest.mark.parametrize("kind", [list, tuple])
@every_method
def test_the_argument_is_the_callers_own_sequence(method, kind):
    array = np.ones(3)
    params, given = kind([array]), []

    def fn(p):
        given.append((p, p[0]))
        return [np.ones(3)]

    opt = method()
    if isinstance(opt, fo.Momentum) and opt.groups:
        opt.groups = [fo.Group("0", alpha=0.5)]
    for _ in range(2):
        opt.step(params, fn)
    assert given
    assert all(p is params and a is array for p, a in given)


@pytest.mark.parametrize("mapping", [dict, UserDict])
@every_method
def test_numbers_are_the_point_in_the_mapping_and_the_result_afterwards(method, mapping):
    arrays = {"b": np.array([2.0]), "x": np.array(1.5), "y": np.array(-0.5, np.float32)}
    params = mapping(b=np.array([2.0]), x=1.5, y=np.float32(-0.5))
    opt, twin = method(), method()
    seen, expected = [], []

    def fn(p):
        assert type(params["x"]) is float
        assert type(params["y"]) is np.float32
        seen.append((params["x"], float(params["y"])))
        return {"b": slope(p["b"]), "x": slope(params["x"]), "y": slope(params["y"])}

    def fn_of_arrays(p):
        expected.append((float(p["x"]), float(p["y"])))
        return {key: np.asarray(slope(x)) for key, x in p.items()}

    for _ in range(3):
        opt.step(params, fn)
        twin.step(arrays, fn_of_arrays)
    assert seen == expected
    assert len(set(seen)) > 2
    assert (params["x"], float(params["y"])) == (float(arrays["x"]), float(arrays["y"]))
    assert type(params["x"]) is float
    assert type(params["y"]) is np.float32


@every_method
def test_what_fn_writes_may_be_what_is_there(method):
    """Some networks are given the point by copying it into them."""
    start = {"W": np.random.default_rng(2).standard_normal((30, 41)), "b": np.array([-0.0, 2.0])}
    plain = copies(start)
    net = {"W": np.asfortranarray(start["W"]), "b": np.repeat(start["b"], 2)[::2]}

    def fn(p):
        for key in net:
            net[key][...] = p[key].copy()
        return {key: slope(x) for key, x in net.items()}

    a, b = method(), method()
    for _ in range(3):
        a.step(net, fn)
        b.step(plain, lambda p: {key: slope(x) for key, x in p.items()})
    for key, p in plain.items():
        assert np.ascontiguousarray(net[key]).tobytes() == p.tobytes() != start[key].tobytes()


@every_dtype
@every_method
def test_gradients_that_are_the_parameters_themselves(method, dtype, threads):
    """The mapping itself, views of it, rows of it."""
    start = {"W": np.linspace(-1, 1, 6000).reshape(3, 2000), "b": np.linspace(0, 1, 5), "x": 0.5}
    forms = [
        lambda p: {"W": p["W"].copy(), "b": p["b"].copy(), "x": p["x"]},
        lambda p: p,
        lambda p: {"W": p["W"][:], "b": p["b"][::1], "x": p["x"]},
    ]
    results = []
    for form in forms:
        params = {
            "W": np.asfortranarray(start["W"], dtype), "b": start["b"].astype(dtype),
            "x": start["x"],
        }
        opt = method()
        for _ in range(3):
            opt.step(params, form)
        results.append([np.asarray(p).tobytes() for p in params.values()])
    assert results[0] == results[1] == results[2]
    assert results[0][0] != start["W"].astype(dtype).tobytes()


def test_look_ahead_with_rows_and_sparse_gradients_in_the_parameters_memory():
    from scipy import sparse

    results = []
    for copy in (np.copy, np.asarray):
        opt = fo.Momentum(0.1, 0.5, lookahead=True)
        params = {"E": np.arange(12.0).reshape(4, 3), "S": np.ones((2, 3))}

        def fn(p, copy=copy):
            whole = copy(p["S"]).reshape(-1)
            csr = sparse.csr_array((whole, [0, 1, 2, 0, 1, 2], [0, 3, 6]), shape=(2, 3))
            return {"E": fo.Rows([2, 0], copy(p["E"])[1:3]), "S": csr}

        for _ in range(3):
            opt.step(params, fn)
        results.append([p.tobytes() for p in params.values()])
    assert results[0] == results[1]


def test_look_ahead_with_gradients_in_the_memory_of_interleaved_parameters():
    """The last row of b lies behind all of a, and inside the range of b alone."""
    results = []
    for copy in (np.copy, np.asarray):
        table = np.linspace(0, 1, 42).reshape(7, 6)
        params = {"a": table[:, :3], "b": table[:, 3:], "c": np.ones(3)}
        opt = fo.Momentum(0.1, 0.5, lookahead=True)
        for _ in range(3):
            opt.step(params, lambda p, copy=copy: {"a": None, "b": -p["b"], "c": copy(p["b"][-1])})
        results.append([p.tobytes() for p in params.values()])
    assert results[0] == results[1]


def test_look_ahead_refuses_to_zero_the_parameters():
    opt, params = fo.Momentum(0.1, lookahead=True), {"W": np.ones(3)}
    opt.step(params, lambda p: {"W": p["W"]})
    opt.zero_grads = True
    before = params["W"].copy()
    with pytest.raises(ValueError, match="share memory"):
        opt.step(params, lambda p: {"W": p["W"]})
    assert np.array_equal(params["W"], before)
    g = np.ones(3)
    opt.step(params, lambda p: {"W": g})
    assert (g == 0).all()


# ---------------------------------------------------------------- a fn that alters parameters

def layouts():
    strided = np.full((40, 160), 0.5)[:, ::2]
    return {"W": np.linspace(-1, 1, 3000), "S": strided, "x": 0.25, "b": np.ones(2)}


def one_element(p):
    p["W"][7] = 9.0


def the_next_number(p):
    p["W"][1500] = np.nextafter(p["W"][1500], 2)


def the_last_element(p):
    p["W"][-1] = 9.0


def all_signs(p):
    np.negative(p["W"], out=p["W"])


def two_elements_swapped(p):
    p["W"][[3, 2900]] = p["W"][[2900, 3]]


def two_tiles_swapped(p):
    p["W"][:256] = np.roll(p["W"][:256], 128)


def reversed_in_place(p):
    p["W"][...] = p["W"][::-1].copy()


def halves_swapped(p):
    p["W"][...] = np.roll(p["W"], 1024)


def another_view(p):
    p["W"].reshape(30, 100).T[5] = 0


def positive_zero_to_negative(p):
    p["b"][...] = -p["b"]


def another_layout(p):
    p["S"][3, 4] = 9.0


def a_step_of_its_own(p):
    S = p["S"]
    S -= 0.1 * S


def rebound(p):
    p["W"] = p["W"] - 0.1


def rebound_to_equal_numbers(p):
    p["W"] = p["W"].copy()


def rebound_to_a_part(p):
    p["W"] = p["W"][:10]


def another_number(p):
    p["x"] = p["x"] + 1


def a_number_of_another_type(p):
    p["x"] = np.float64(p["x"])


def removed(p):
    del p["b"]


def added(p):
    p["new"] = np.ones(1)


def renamed(p):
    p["V"] = p.pop("W")


def another_shape(p):
    p["W"].shape = (30, 100)


# Each: what fn does to its argument, and the key that the error names.
ALTERATIONS = [
    (one_element, "W"), (the_next_number, "W"), (the_last_element, "W"), (all_signs, "W"),
    (two_elements_swapped, "W"), (two_tiles_swapped, "W"), (reversed_in_place, "W"),
    (halves_swapped, "W"), (another_view, "W"), (positive_zero_to_negative, "b"),
    (another_layout, "S"), (a_step_of_its_own, "S"), (rebound, "W"),
    (rebound_to_equal_numbers, "W"), (rebound_to_a_part, "W"), (another_number, "x"),
    (a_number_of_another_type, "x"), (removed, "b"), (added, "new"), (renamed, "W"),
    (another_shape, "W"),
]


def everything(opt, params):
    return (
        [(key, np.asarray(p).reshape(-1).tobytes(), type(p)) for key, p in params.items()],
        vars_of(opt), [v.tobytes() for v in getattr(opt, "v", {}).values()],
    )


def disturbed(fn, n, disturb):
    """A function that returns what fn does, after it has disturbed something at its n-th call."""
    calls = 0

    def wrapped(p):
        nonlocal calls
        calls += 1
        result = fn(p)
        if calls == n:
            disturb(p)
        return result

    return wrapped


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize("mapping", [dict, UserDict])
@pytest.mark.parametrize(("alter", "key"), ALTERATIONS)
@every_method
def test_a_fn_that_alters_a_parameter(method, alter, key, mapping):
    params, twin_params = mapping(layouts()), layouts()
    opt, twin = method(), method()
    good, net = Network(params), Network(twin_params)
    opt.step(params, good.gradient)
    twin.step(twin_params, net.gradient)
    before, mine = everything(opt, params), dict(params)
    calls_before = net.calls
    twin.step(twin_params, net.gradient)
    calls = net.calls - calls_before
    for n in range(1, calls + 1):
        with pytest.raises(RuntimeError, match=rf"fn .*params\['{key}'\]"):
            opt.step(params, disturbed(good.gradient, n, alter))
        if alter is another_shape:
            mine["W"].shape = 3000
        assert everything(opt, params) == before
        assert all(params[k] is p for k, p in mine.items())
    opt.step(params, good.gradient)
    assert everything(opt, params) == everything(twin, twin_params)


@every_dtype
def test_every_single_bit_is_found(dtype):
    """In each place of a tile, for each bit of a number."""
    opt, params = fo.Heun(0.1), {"W": np.random.default_rng(3).standard_normal(261).astype(dtype)}
    words = params["W"].view(f"u{params['W'].itemsize}")
    places = [*range(0, 261, 7), 0, 127, 128, 259, 260]
    for k, place in enumerate(places * 2):
        flipped = words.dtype.type(1 << k % (8 * words.itemsize))

        def fn(p, place=place, flipped=flipped):
            words[place] ^= flipped
            return {"W": np.ones_like(p["W"])}

        before = params["W"].tobytes()
        with pytest.raises(RuntimeError, match=r"fn altered params\['W'\]"):
            opt.step(params, fn)
        assert params["W"].tobytes() == before


# Not with the groups: there is no b in this mapping.
@pytest.mark.parametrize("name", [name for name in METHODS if name != "look-ahead, groups"])
def test_a_mapping_that_makes_views_and_numbers_at_each_access(name):
    class Table:
        def __init__(self):
            self.memory, self.number = np.linspace(0, 1, 20), 0.5

        def keys(self):
            return ["W", "x"]

        def __getitem__(self, key):
            return self.memory[2:18].reshape(4, 4) if key == "W" else float(str(self.number))

        def __setitem__(self, key, value):
            assert key == "x"
            self.number = value

    def fn(p):
        return {"W": slope(p["W"]), "x": slope(p["x"])}

    table, opt = Table(), METHODS[name]()
    plain, twin = {"W": Table()["W"].copy(), "x": 0.5}, METHODS[name]()
    for _ in range(3):
        opt.step(table, fn)
        twin.step(plain, fn)
    assert table["W"].tobytes() == plain["W"].tobytes()
    assert table.number == plain["x"]

    def bad(p):
        table.memory[5] += 1
        return {"W": slope(p["W"]), "x": 0.0}

    before = table.memory.tobytes(), table.number
    with pytest.raises(RuntimeError, match=r"fn altered params\['W'\]"):
        opt.step(table, bad)
    assert (table.memory.tobytes(), table.number) == before


# ---------------------------------------------------------------- whatever is raised

class Stop(BaseException):
    pass


def leave(p):
    pass


def make_a_mess(p):
    p["W"][...] = 0
    p["S"][...] = 0
    p["x"] = 7.0
    p["other"] = p.pop("b")


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, ArithmeticError])
@pytest.mark.parametrize("alter", [leave, make_a_mess])
@every_method
def test_a_fn_that_raises_at_each_call(method, alter, error):
    def raises(p):
        alter(p)
        raise error

    params, twin_params = layouts(), layouts()
    opt, twin = method(), method()
    good, net = Network(params), Network(twin_params)
    opt.step(params, good.gradient)
    twin.step(twin_params, net.gradient)
    before, mine = everything(opt, params), dict(params)
    calls_before = net.calls
    twin.step(twin_params, net.gradient)
    calls = net.calls - calls_before
    for n in range(1, calls + 1):
        with pytest.raises(error):
            opt.step(params, disturbed(good.gradient, n, raises))
        assert everything(opt, params) == before
        assert all(params[key] is p for key, p in mine.items())
    opt.step(params, good.gradient)
    assert everything(opt, params) == everything(twin, twin_params)


class Fragile(UserDict):
    """Raises at the n-th access of any kind, and perhaps once more."""

    left, again = None, None

    def tick(self):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.left, self.again = self.again, None
                raise Stop

    def __getitem__(self, key):
        self.tick()
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self.tick()
        super().__setitem__(key, value)

    def __iter__(self):
        self.tick()
        return super().__iter__()

    def __len__(self):
        self.tick()
        return super().__len__()


@pytest.mark.parametrize("again", [None, 1, 2, 3, 4, 6, 9])
@every_method
def test_a_mapping_that_raises_at_each_access(method, again):
    """While it is given back what it held, too."""
    params, twin_params = Fragile(layouts()), layouts()
    opt, twin = method(), method()
    if isinstance(opt, fo.Momentum):  # whose update has a writing back of its own
        del params["x"], twin_params["x"]

    def fn(p):
        return {key: slope(p.data[key]) for key in p.data}

    def plain(p):
        return {key: slope(x) for key, x in p.items()}

    opt.step(params, fn)
    twin.step(twin_params, plain)
    before = everything(opt, params.data)
    twin.step(twin_params, plain)
    after = everything(twin, twin_params)
    for n in itertools.count(1):
        params.left, params.again = n, again
        try:
            opt.step(params, fn)
        except Stop:
            params.left = params.again = None
            assert everything(opt, params.data) == before, n
        else:
            break
    assert n > 15
    assert everything(opt, params.data) == after


FILES = {module.__file__ for module in (runge_kutta, adaptive, lookahead, closure, hyperparameters)}


def interrupted_at(n, step):
    """Run a step with an interrupt at the n-th line of ours; whether there was such a line."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            lines += 1
            if lines == n:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        step()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@every_method
def test_an_interrupt_at_each_line(method):
    params, twin_params = layouts(), layouts()
    opt, twin = method(), method()
    good, net = Network(params), Network(twin_params)
    opt.step(params, good.gradient)
    twin.step(twin_params, net.gradient)
    before = everything(opt, params)
    twin.step(twin_params, net.gradient)
    after = everything(twin, twin_params)
    for n in itertools.count(1):
        if not interrupted_at(n, lambda: opt.step(params, good.gradient)):
            break
        if isinstance(opt, fo.Momentum) and everything(opt, params) == after:
            break  # the line after the update, which returns the loss
        assert everything(opt, params) == before, n
    assert everything(opt, params) == after


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no setitimer")
@pytest.mark.usefixtures("no_collection")
@every_method
def test_interrupts_at_any_moment_leave_a_step_of_the_undisturbed_run(method):
    """Parameters and counters are of the same step, whenever the signal comes."""
    runs, twin_params, params, twin = [], layouts(), layouts(), method()
    if isinstance(twin, fo.Momentum):  # whose update has a writing back of its own
        for key in "Sx":
            del twin_params[key], params[key]
    net = Network(twin_params)
    for _ in range(61):
        runs.append(everything(twin, twin_params))
        twin.step(twin_params, net.gradient)
    opt, rng = method(), np.random.default_rng(4)
    good = Network(params)

    for _ in range(60):
        interrupted(1e-6 + rng.uniform(0, 1.5e-3), lambda: opt.step(params, good.gradient))
        assert everything(opt, params) == runs[opt.iter]


@pytest.mark.parametrize("name", ["look-ahead", "Heun", "RK45 adaptive"])
def test_one_step_at_a_time(name):
    opt, params, errors = METHODS[name](), {"W": np.ones(3)}, []

    def again():
        try:
            opt.step(params, fn)
        except RuntimeError as error:
            errors.append(str(error))

    def fn(p):
        again()
        worker = threading.Thread(target=again)
        worker.start()
        worker.join()
        return {"W": p["W"].copy()}

    opt.step(params, fn)
    assert errors
    assert len(errors) % 2 == 0
    assert all("in the middle of a step" in text for text in errors)
    assert opt.iter == 1


# ---------------------------------------------------------------- what fn returns

G = np.ones(3)
RETURNS = {
    "swapped": (lambda p: ({"W": G}, 1.5), r"fn returned \(grads, loss\), that is \(dict, float\)"),
    "swapped, array": (lambda p: ({"W": G}, np.ones(())), r"fn returned \(grads, loss\)"),
    "triple": (lambda p: (1.5, {"W": G}, "x"), r"fn returned a tuple of 3, that is \(float, dict"),
    "single": (lambda p: ({"W": G},), r"fn returned a tuple of 1, that is \(dict\)"),
    "nothing": (lambda p: None, "fn returned None"),
}


@pytest.mark.parametrize("row", RETURNS.values(), ids=RETURNS)
@pytest.mark.parametrize("method", [*METHODS.values(), fo.SGD], ids=[*METHODS, "SGD"])
def test_what_fn_must_not_return(method, row):
    fn, text = row
    opt, params = method(), {"W": np.ones(3), "b": np.ones(3)}
    with pytest.raises(TypeError, match=text + ".*must return grads or"):
        opt.step(params, fn)
    assert (params["W"] == 1).all()
    assert opt.iter == 0
