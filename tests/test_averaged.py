"""with opt.averaged(params): the weights' averages in the place of the weights."""

import copy
import pickle
import signal
import threading
from collections import UserDict

import numpy as np
import pytest
from helpers import (
    arrays,
    assert_same_arrays,
    bytes_at_peak,
    copies,
    every_dtype,
    interrupted,
    packed,
    strided,
)
from reference import global_norm

import fastoptim as fo

SHAPES = {"W": (30, 41), "big": (40, 1025), "b": (7,), "e": (0,), "s": ()}


def trained(params, **options):
    """An optimizer with averages of some parameters, after three updates."""
    rng = np.random.default_rng(0)
    opt = fo.Momentum(lr=0.1, average=0.5, **options)
    for _ in range(3):
        grads = {key: rng.standard_normal(a.shape).astype(a.dtype) for key, a in params.items()}
        opt.update(params, grads)
    return opt


@every_dtype
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, strided, packed])
def test_there_and_back(layout, dtype):
    made = arrays(np.random.default_rng(1), SHAPES, dtype)
    params = {key: layout(a) if a.ndim else a for key, a in made.items()}
    opt = trained(params)
    weights, averages = copies(params), copies(opt.average_of)
    with opt.averaged(params) as given:
        assert given is params
        assert_same_arrays(params, averages, "params")
    assert_same_arrays(params, weights, "params")
    assert_same_arrays(opt.average_of, averages, "averages")


def test_training_goes_on_as_if_nothing_had_been():
    one, other = ({"W": np.ones((300, 7))} for _ in "12")
    first, second = trained(one), trained(other)
    with first.averaged(one):
        pass
    for _ in range(2):
        first.update(one, {"W": np.full((300, 7), 0.25)})
        second.update(other, {"W": np.full((300, 7), 0.25)})
    assert_same_arrays(one, other, "params")
    assert_same_arrays(first.average_of, second.average_of, "averages")


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_whatever_is_raised_the_weights_come_back(raised):
    params = {"W": np.ones(5)}
    opt = trained(params)
    weights = copies(params)
    with pytest.raises(raised), opt.averaged(params):
        raise raised
    assert_same_arrays(params, weights, "params")
    opt.update(params, {"W": np.ones(5)})


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no setitimer")
def test_an_interrupt_at_any_instruction_leaves_the_weights():
    """A signal comes before the with, inside it or after it, however early it is sent."""
    params = {"W": np.ones(5)}
    opt = trained(params)
    weights, averages = copies(params), copies(opt.average_of)

    def act():
        with opt.averaged(params):
            assert_same_arrays(params, averages, "params")

    for k in range(400):
        interrupted(1e-6 * (1 + k % 80), act)
        assert_same_arrays(params, weights, "params")
        assert_same_arrays(opt.average_of, averages, "averages")
    act()


def test_lists_mappings_and_numbers():
    pair = [np.ones(2), np.zeros(3)]
    opt = fo.SGD(lr=1.0, average=0.5)
    opt.update(pair, [np.ones(2), np.ones(3)])
    with opt.averaged(pair):
        assert [a.tolist() for a in pair] == [[0.5, 0.5], [-0.5, -0.5, -0.5]]
    assert [a.tolist() for a in pair] == [[0.0, 0.0], [-1.0, -1.0, -1.0]]
    params = UserDict({"x": 8.0, "y": np.float32(2.0), "z": np.zeros(1)})
    opt = fo.SGD(lr=1.0, average=0.75)
    opt.update(params, {"x": 4.0, "y": np.float32(4.0), "z": np.ones(1)})
    with opt.averaged(params):
        assert (params["x"], params["y"], params["z"][0]) == (7.0, 1.0, -0.25)
        assert (type(params["x"]), type(params["y"])) == (float, np.float32)
    assert (params["x"], params["y"], params["z"][0]) == (4.0, -2.0, -1.0)
    assert (opt.average_of["x"], opt.average_of["y"]) == (7.0, 1.0)


def test_only_what_is_averaged():
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    opt = fo.SGD(lr=1.0, average=0.5, groups=[fo.Group("b", average=None)])
    opt.update(params, {"a": np.ones(2), "b": np.ones(2)})
    with opt.averaged(params):
        assert (params["a"][0], params["b"][0]) == (-0.5, -1.0)
    with opt.averaged({"a": params["a"]}):
        assert params["a"][0] == -0.5
    assert (params["a"][0], params["b"][0]) == (-1.0, -1.0)


def test_the_same_arrays_get_their_weights_whatever_the_dict_has_by_then():
    params = {"W": np.ones(5)}
    opt, own = trained(params), params["W"]
    weights, averages = own.copy(), opt.average_of["W"].copy()
    with opt.averaged(params):
        params["W"] = np.zeros(5)
    np.testing.assert_array_equal(own, weights)
    np.testing.assert_array_equal(params["W"], np.zeros(5))
    np.testing.assert_array_equal(opt.average_of["W"], averages)


@pytest.mark.parametrize(
    "act",
    [
        lambda opt, params: opt.update(params, {"W": np.ones(5)}),
        lambda opt, params: opt.state_dict(),
        lambda opt, params: opt.load_state_dict(fo.Momentum().state_dict()),
        lambda opt, params: opt.reset(),
        lambda opt, params: opt.averaged(params).__enter__(),
        lambda opt, params: fo.SoftBatch(opt).update(params, {"W": np.ones(5)}),
    ],
)
def test_what_must_wait_until_the_weights_are_back(act):
    params = {"W": np.ones(5)}
    opt = trained(params)
    weights = copies(params)
    with (
        opt.averaged(params),
        pytest.raises(RuntimeError, match=r"leave `with opt.averaged\(params\)` first"),
    ):
        act(opt, params)
    assert_same_arrays(params, weights, "params")


def test_an_entered_context_is_not_entered_again():
    params = {"W": np.ones(5)}
    context = trained(params).averaged(params)
    with context, pytest.raises(RuntimeError, match="this context has been entered"):
        context.__enter__()
    with context:       # but after it has been left
        pass


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({}, KeyError, "params has no key 'W', of which an average is kept"),
        ({"W": np.ones(6)}, ValueError, r"params\['W'\] has shape \(6,\)"),
        ({"W": np.ones(5, np.float32)}, TypeError, r"params\['W'\] is float32"),
        ({"W": np.broadcast_to(1.0, 5)}, ValueError, "read-only"),
        (np.ones(5), TypeError, "params must be a dict or a list"),
    ],
)
def test_what_cannot_be_exchanged(params, error, words):
    own = {"W": np.ones(5)}
    opt = trained(own)
    averages = copies(opt.average_of)
    with pytest.raises(error, match=words), opt.averaged(params):
        pass
    assert_same_arrays(opt.average_of, averages, "averages")
    with opt.averaged(own):
        pass


def test_two_keys_on_one_memory():
    opt = fo.SGD(average=0.5)
    opt.update([np.ones(2), np.ones(2)], [np.ones(2), np.ones(2)])
    a = np.zeros(3)
    with pytest.raises(ValueError, match="share memory"), opt.averaged([a[:2], a[1:]]):
        pass
    np.testing.assert_array_equal(a, np.zeros(3))


@pytest.mark.parametrize("options", [{}, {"average": 0.5}])
def test_no_average_is_kept(options):
    with pytest.raises(ValueError, match="no average is kept: set average=0.999"), fo.SGD(
        **options
    ).averaged({"W": np.ones(2)}):
        pass


def test_a_container_that_refuses_a_number():
    """Then nothing is exchanged, and no number is another."""

    class Refusing(UserDict):
        refuses = False

        def __setitem__(self, key, value):
            if self.refuses and key == "y":
                raise ZeroDivisionError
            super().__setitem__(key, value)

    params = Refusing({"x": 1.0, "y": 2.0, "W": np.ones(2)})
    opt = fo.SGD(average=0.5)
    opt.update(params, {"x": 1.0, "y": 1.0, "W": np.ones(2)})
    kept = {"x": params["x"], "W": params["W"].copy()}
    params.refuses = True
    with pytest.raises(ZeroDivisionError), opt.averaged(params):
        pass
    assert params["x"] == kept["x"]
    np.testing.assert_array_equal(params["W"], kept["W"])


def test_an_update_of_another_thread_waits_for_nobody():
    params = {"W": np.ones(5)}
    opt, found = trained(params), []

    def update():
        try:
            opt.update(params, {"W": np.ones(5)})
        except RuntimeError as problem:
            found.append(str(problem))

    with opt.averaged(params):
        thread = threading.Thread(target=update)
        thread.start()
        thread.join()
    assert "hold their averages" in found[0]


# ---------------------------------------------------------------- the mean, and where it begins


def oracle(average, start, params, grads):
    """Averages by NumPy of SGD with lr = 0.1: None before the first update that averages."""
    p, a = {key: x.copy() for key, x in params.items()}, None
    for step, g in enumerate(grads):
        before = copies(p)
        for key in p:
            p[key] -= p[key].dtype.type(0.1) * g[key]
        n = step - start
        if n < 0:
            continue
        a = before if a is None else a
        decay = n / (n + 1) if average == "mean" else average
        for key in p:
            a[key] += p[key].dtype.type(1 - decay) * (p[key] - a[key])
    return p, a


@every_dtype
@pytest.mark.parametrize("start", [0, 1, 3])
@pytest.mark.parametrize("average", ["mean", 0.75])
def test_averages_from_an_update_on(average, start, dtype):
    rng = np.random.default_rng(3)
    params = arrays(rng, SHAPES, dtype)
    grads = [arrays(rng, SHAPES, dtype) for _ in range(6)]
    opt, ours = fo.SGD(lr=0.1, average=average, average_from=start), copies(params)
    for k, g in enumerate(grads):
        opt.update(ours, g)
        expected, averages = oracle(average, start, params, grads[: k + 1])
        assert_same_arrays(ours, expected, "params")
        assert_same_arrays(dict(opt.average_of), averages or {}, "averages")


def test_the_mean_is_the_mean():
    opt, params, seen = fo.SGD(lr=1.0, average="mean", average_from=2), {"W": np.zeros(3)}, []
    for step in range(40):
        opt.update(params, {"W": np.array([1.0, -2.0, step])})
        seen.append(params["W"].copy())
    np.testing.assert_allclose(opt.average_of["W"], np.mean(seen[2:], axis=0), rtol=1e-14)


def test_a_mean_goes_on_after_saving(tmp_path):
    def steps(opt, params, n):
        for _ in range(n):
            opt.update(params, {"W": params["W"] * 0.5 + 1})

    one, other = {"W": np.ones(5)}, {"W": np.ones(5)}
    whole, first = (fo.Adam(average="mean", average_from=2) for _ in "12")
    steps(whole, one, 9)
    steps(first, other, 4)
    first.save(tmp_path / "state")
    second = fo.Adam()
    second.load(tmp_path / "state")
    assert (second.average, second.average_from) == ("mean", 2)
    steps(second, other, 5)
    assert_same_arrays(whole.average_of, second.average_of, "averages")


def test_what_average_and_average_from_may_be():
    with pytest.raises(ValueError, match=r"average must be in \[0, 1\) or 'mean', got 'median'"):
        fo.SGD(average="median")
    with pytest.raises(ValueError, match="average_from must be a whole number of at least 0, got"):
        fo.SGD(average="mean", average_from=-1)
    for value in (1.5, True, "2"):
        with pytest.raises(TypeError, match="average_from must be a whole number of at least 0"):
            fo.SGD(average="mean", average_from=value)
    params = {"W": np.ones(2)}
    with pytest.raises(ValueError, match="average_from needs average: set it to 'mean'"):
        fo.SGD(average_from=3).update(params, {"W": np.ones(2)})
    np.testing.assert_array_equal(params["W"], np.ones(2))


def test_a_schedule_and_a_group_may_begin_later_too():
    opt = fo.SGD(
        lr=1.0, average=lambda step: 0.5 if step < 2 else 0.25, average_from=1,
        groups=[fo.Group("b", average="mean"), fo.Group("c", average=None, average_from=0)],
    )
    params = {key: np.zeros(1) for key in "abc"}
    for _ in range(3):
        opt.update(params, {key: np.ones(1) for key in "abc"})
    assert (opt.average_of["a"][0], opt.average_of["b"][0]) == (-1.5 + 0.75 * -1.5, -2.5)
    assert "c" not in opt.average_of
    assert (opt.current("average"), opt.current("average", 0)) == (0.25, 2 / 3)


def test_to_exchange_needs_no_copies():
    params = {"W": np.ones(1_000_000)}
    opt = fo.SGD(average=0.5)
    opt.update(params, {"W": np.ones(1_000_000)})

    def there_and_back():
        with opt.averaged(params):
            pass

    assert bytes_at_peak(there_and_back) < 100_000      # a copy has 8 MB


@pytest.mark.parametrize("of", [{"average": None}, {"average": None, "lr": 1.0}])
def test_a_group_without_an_average_needs_no_beginning(of):
    opt = fo.SGD(lr=1.0, average="mean", average_from=2, groups=[fo.Group("b", **of)])
    params = {key: np.zeros(1) for key in "ab"}
    for _ in range(4):
        opt.update(params, {key: -np.ones(1) for key in "ab"})
    assert_same_arrays(dict(opt.average_of), {"a": np.array([3.5])}, "averages")


@pytest.mark.parametrize("groups", [[], [fo.Group("W", lr=1.0)]])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_mean_that_is_set_late_must_say_so(groups, loaded):
    """It would count weights of updates before it as if they had been those of today."""
    opt, params, ones = fo.SGD(lr=1.0, groups=groups), {"W": np.zeros(1)}, {"W": -np.ones(1)}
    for _ in range(10):
        opt.update(params, ones)
    if loaded:
        saved, opt = opt.state_dict(), fo.SGD(groups=groups)
        opt.load_state_dict(saved)
    opt.average = "mean"
    with pytest.raises(ValueError, match="10 were made without it; set average_from=10"):
        opt.update(params, ones)
    assert (opt.iter, params["W"][0]) == (10, 10.0)
    opt.average_from = 10
    for _ in range(3):
        opt.update(params, ones)
    opt.lr = 1.0        # a new plan: the mean that is there goes on
    opt.update(params, ones)
    np.testing.assert_allclose(opt.average_of["W"], [12.5], rtol=1e-15)


def means_by_key(start, params, lessons, scale=lambda g: 1.0):
    """What SGD with lr = 0.1 gives each key, whose mean counts the key's own updates."""
    p, a, counts = copies(params), {}, {}
    for step, grads in enumerate(lessons):
        for key, g in grads.items():
            if g is None:
                continue
            before = p[key].copy()
            f = p[key].dtype.type
            p[key] -= f(0.1) * (g if scale(g) == 1.0 else f(scale(g)) * g)
            if step < start:
                continue
            n = counts.get(key, 0)
            a.setdefault(key, before)
            a[key] += f(1 - n / (n + 1)) * (p[key] - a[key])
            counts[key] = n + 1
    return p, a


def odd_lessons(dtype):
    """Gradients of keys of which one comes late, one goes, and one is without at times."""
    rng = np.random.default_rng(8)
    for step in range(9):
        grads = arrays(rng, SHAPES, dtype)
        first, second, *_ = grads
        if step < 4:
            del grads[first]
        if step in (0, 2, 3, 6):
            grads[second] = None
        yield grads


def follow_means(opt, lessons, start, params, scale=lambda g: 1.0, again=lambda opt: opt):
    ours = copies(params)
    for k, grads in enumerate(lessons):
        opt.update({key: ours[key] for key in grads}, copies_but_none(grads))
        expected, means = means_by_key(start, params, lessons[: k + 1], scale)
        assert_same_arrays(ours, expected, "params")
        assert_same_arrays(dict(opt.average_of), means, "means")
        opt = again(opt)


def copies_but_none(grads):
    return {key: None if g is None else g.copy() for key, g in grads.items()}


@every_dtype
@pytest.mark.parametrize("start", [0, 1, 3, 5])
@pytest.mark.parametrize("most", [None, 1.5])
def test_a_mean_counts_the_updates_of_its_key(start, most, dtype):
    """With a norm clipped per key, too, whose stages are a key's own already."""
    lessons, params = list(odd_lessons(dtype)), arrays(np.random.default_rng(3), SHAPES, dtype)

    def scale(g):
        norm = global_norm({"": g})
        return 1.0 if most is None or norm <= most else most / norm

    opt = fo.SGD(lr=0.1, average="mean", average_from=start, clip_norm_per_key=most)
    follow_means(opt, lessons, start, params, scale)


def saved_and_loaded(opt, tmp_path):
    opt.save(tmp_path / "state")
    other = fo.SGD()
    other.load(tmp_path / "state")
    return other


def from_a_dict(opt, tmp_path):
    other = fo.SGD()
    other.load_state_dict(opt.state_dict())
    return other


@pytest.mark.parametrize("way", [
    saved_and_loaded, from_a_dict, lambda opt, _: copy.deepcopy(opt),
    lambda opt, _: pickle.loads(pickle.dumps(opt)),
])
def test_the_count_of_a_key_is_saved(way, tmp_path):
    lessons = list(odd_lessons(np.float32))
    params = arrays(np.random.default_rng(3), SHAPES, np.float32)
    opt = fo.SGD(lr=0.1, average="mean", average_from=1)
    follow_means(opt, lessons, 1, params, again=lambda opt: way(opt, tmp_path))


def test_a_state_without_counts_has_those_of_the_optimizer():
    """As earlier versions saved it."""
    params, whole = {"W": np.zeros(3)}, fo.SGD(lr=1.0, average="mean", average_from=1)
    grads = [{"W": np.array([1.0, step, -step])} for step in range(6)]
    for g in grads[:4]:
        whole.update(params, g)
    saved, other = whole.state_dict(), copies(params)
    del saved["parameters"]["W"]["mean"]
    second = fo.SGD()
    second.load_state_dict(saved)
    for g in grads[4:]:
        whole.update(params, g)
        second.update(other, g)
    assert_same_arrays(whole.average_of, second.average_of, "means")


@pytest.mark.parametrize(("mean", "text"), [
    (3, "the state of 'W' should have two counts, or None, as its mean, got 3"),
    ((1, 2, 3), "should have two counts, or None, as its mean"),
    ((-1, 0), "the count of a mean must be a whole number of at least 0, got -1"),
    ((1, 0.5), "the beginning of a mean must be a whole number of at least 0, got 0.5"),
])
def test_a_state_whose_counts_are_none_is_refused(mean, text):
    opt = fo.SGD(average="mean")
    opt.update({"W": np.zeros(3)}, {"W": np.ones(3)})
    saved = opt.state_dict()
    assert saved["parameters"]["W"]["mean"] == (1, 0)
    saved["parameters"]["W"]["mean"] = mean
    with pytest.raises(ValueError, match=text):
        opt.load_state_dict(saved)


def test_a_mean_that_begins_again_forgets_the_one_before():
    opt, params = fo.SGD(lr=1.0, average="mean"), {key: np.zeros(1) for key in "ab"}
    for _ in range(4):
        opt.update(params, {key: -np.ones(1) for key in "ab"})     # 1, 2, 3, 4
    opt.average_from = 4
    opt.update(params, {"a": -np.ones(1), "b": None})               # a is 5
    opt.update(params, {key: -np.ones(1) for key in "ab"})          # a is 6, b is 5
    assert_same_arrays(dict(opt.average_of), {"a": np.array([5.5]), "b": np.array([5.0])}, "means")


def test_a_moving_average_that_becomes_a_mean_goes_on():
    opt, params = fo.SGD(lr=1.0, average=0.5), {"W": np.zeros(1)}
    for _ in range(3):
        opt.update(params, {"W": -np.ones(1)})
    assert opt.average_of["W"].tolist() == [2.125]
    opt.average = "mean"
    opt.update(params, {"W": -np.ones(1)})
    assert opt.average_of["W"].tolist() == [2.125 + 0.25 * (4 - 2.125)]


def test_groups_and_soft_batches_count_by_key():
    opt = fo.SGD(lr=1.0, average="mean", groups=[fo.Group("b", average_from=2)])
    soft, params = fo.SoftBatch(opt, every=2), {key: np.zeros(1) for key in "ab"}
    for step in range(10):
        alone = step in (0, 1, 6, 7)                                # updates 0 and 3 are of a alone
        soft.update(params, {"a": -np.ones(1), "b": None if alone else -np.ones(1)})
    assert (opt.iter, params["a"][0], params["b"][0]) == (5, 5.0, 3.0)
    assert_same_arrays(dict(opt.average_of), {"a": np.array([3.0]), "b": np.array([2.5])}, "means")


def test_numbers_and_rows_count_by_key():
    opt = fo.SGD(lr=1.0, average="mean")
    params = {"n": 0.0, "E": np.zeros((2, 1)), "W": np.zeros(1)}
    for step in range(4):
        every = step in (1, 3)
        row = fo.Rows(np.array([0]), -np.ones((1, 1)))
        opt.update(params, {
            "n": -1.0 if every else None, "E": row if every else None, "W": -np.ones(1),
        })
    assert opt.average_of["n"].item() == 1.5
    assert opt.average_of["E"].tolist() == [[1.5], [0.0]]
    assert opt.average_of["W"].tolist() == [2.5]


def test_a_refused_update_counts_in_no_mean():
    opt = fo.SGD(lr=1.0, average="mean", nonfinite="skip")
    params = {key: np.zeros(1) for key in "ab"}
    opt.update(params, {"a": -np.ones(1), "b": None})
    opt.update(params, {"a": -np.ones(1), "b": np.array([np.nan])})
    with pytest.raises(KeyError):
        opt.update(params, {"a": -np.ones(1)})
    for _ in range(2):
        opt.update(params, {key: -np.ones(1) for key in "ab"})
    assert_same_arrays(dict(opt.average_of), {"a": np.array([2.0]), "b": np.array([1.5])}, "means")


def test_a_context_is_left_once():
    params, opt = {"W": np.zeros(2)}, fo.SGD(lr=1.0, average=0.5)
    opt.update(params, {"W": np.ones(2)})
    context = opt.averaged(params)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="has not been entered, or was left before"):
            context.__exit__(None, None, None)
        with context:
            pass
    np.testing.assert_array_equal(params["W"], [-1.0, -1.0])


@pytest.mark.parametrize(("own", "given", "error", "text"), [
    (np.zeros(2), 1.0, ValueError, r"params\['W'\] is a number, but its average has shape \(2,\)"),
    (1.0, 3, TypeError, r"params\['W'\] is int64, but its average is float64"),
    (np.float32(1.0), 1.0, TypeError, r"params\['W'\] is float64, but its average is float32"),
])
def test_a_number_takes_the_place_of_its_like_alone(own, given, error, text):
    params, opt = {"W": own}, fo.SGD(lr=1.0, average=0.5)
    opt.update(params, {"W": own * 0})
    with pytest.raises(error, match=text):
        opt.averaged({"W": given}).__enter__()


@pytest.mark.parametrize("start", [0, 1])
def test_a_schedule_gives_no_mean(start):
    opt, params = fo.SGD(average=lambda step: "mean", average_from=start), {"W": np.zeros(2)}
    with pytest.raises(TypeError, match="average must be a number or None, got 'mean'"):
        opt.update(params, {"W": np.ones(2)})
