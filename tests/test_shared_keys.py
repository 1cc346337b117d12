"""One key for several arrays, and one call for each key: said once, before anything is written."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import fastoptim as fo

COMES_BACK = (
    r"params\['W'\] is an array that had this key before, and another array, which is still there, "
    r"has had it since.*keys of their own, such as 'layer1\.W', or each dict an optimizer"
)
ONE_BY_ONE = (
    r"update is called with params\['b'\] and params\['W'\] in turn, one key at a time.*pass all "
    r"keys together, opt\.update\(params, grads\), or give each key an optimizer of its own"
)


def layer(n=4, rows=None):
    return {"W": np.zeros(n if rows is None else (rows, n)), "b": np.zeros(2)}


def grads_of(layer):
    return {key: np.ones_like(p) for key, p in layer.items()}


def told(function):
    """The warnings that a function gives."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    return [str(one.message) for one in found]


def update_all(opt, layers, times):
    for _ in range(times):
        for one in layers:
            opt.update(one, grads_of(one))


@pytest.mark.parametrize("n_layers", [2, 3, 7])
def test_layers_with_the_same_keys_are_told_once(n_layers):
    opt, layers = fo.Momentum(), [layer() for _ in range(n_layers)]
    update_all(opt, layers, 1)                      # nothing has come back yet
    with pytest.warns(UserWarning, match=COMES_BACK) as found:
        update_all(opt, layers, 3)
    assert len(found) == 1
    assert found[0].filename == __file__


VIEWS = {
    "views made anew": lambda a: a[:],
    "reshaped": lambda a: a.reshape(2, 2),
    "strided": lambda a: a.reshape(2, 2).T,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_counts_and_not_the_object(view):
    flat = np.zeros(8)                              # two layers in one array
    opt, halves = fo.Adam(), (flat[:4], flat[4:])

    def run():
        for k in (0, 1, 0):
            p = view(halves[k])
            opt.update({"W": p, "b": np.zeros(2)}, {"W": np.ones(p.shape), "b": np.ones(2)})

    with pytest.warns(UserWarning, match=COMES_BACK):
        run()


def test_an_error_of_a_warning_comes_each_time_and_changes_nothing():
    opt, (one, other) = fo.Momentum(), (layer(), layer())
    update_all(opt, (one, other), 1)
    before, v = one["W"].copy(), opt.v["W"].copy()
    for _ in range(3):
        with pytest.raises(UserWarning, match=COMES_BACK):
            opt.update(one, grads_of(one))
        assert np.array_equal(one["W"], before)
        assert np.array_equal(opt.v["W"], v)
        assert opt.iter == 2
    opt.update(other, grads_of(other))


def replaced_and_freed():
    opt, params = fo.Momentum(), layer()
    for _ in range(50):                             # often at an address that was used before
        opt.update(params, grads_of(params))
        params = {key: p.copy() for key, p in params.items()}


def replaced_and_kept():
    opt, params, kept = fo.Momentum(), layer(), []
    for _ in range(10):
        opt.update(params, grads_of(params))
        kept.append(params["W"])
        params["W"] = params["W"].copy()


def best_weights_put_back():
    opt, params = fo.Momentum(), layer()
    opt.update(params, grads_of(params))
    best = params["W"]
    params["W"] = best.copy()
    opt.update(params, grads_of(params))
    params["W"] = best                              # what was there since is gone
    opt.update(params, grads_of(params))


def keys_of_their_own():
    opt, layers = fo.Momentum(), ({"1.W": np.zeros(4)}, {"2.W": np.zeros(4), "2.b": np.zeros(2)})
    update_all(opt, layers, 5)


def nothing_is_shared():
    update_all(fo.SGD(), (layer(), layer()), 3)     # no state


def new_views_of_the_same():
    opt, flat = fo.Momentum(), np.zeros(8)
    for _ in range(5):
        opt.update({"W": flat[:4], "b": flat[4:]}, {"W": np.ones(4), "b": np.ones(4)})


def numbers():
    opt = fo.Momentum()
    for k in range(5):
        params = {"x": float(k % 2), "y": np.float64(k % 2)}
        opt.update(params, {"x": 1.0, "y": np.float64(1.0)})


def no_elements():
    update_all(fo.Momentum(), [{"W": np.zeros(0), "b": np.zeros(0)} for _ in range(3)], 3)


def one_key_alone():
    opt, params = fo.Momentum(), {"W": np.zeros(4)}
    for _ in range(5):
        opt.update(params, {"W": np.ones(4)})


def one_key_after_the_other():
    opt = fo.Momentum()
    for key in "WbWb":
        params = {key: np.zeros(4)}
        for _ in range(3):
            opt.update(params, {key: np.ones(4)})


def there_and_back():
    opt, params = fo.Momentum(), layer()
    for key in "WWWbW":
        opt.update({key: params[key]}, {key: np.ones_like(params[key])})


def others_left_out():
    opt, params = fo.Momentum(), layer()
    for k in range(6):
        opt.update(params, {"W": np.ones(4) if k % 2 else None, "b": None if k % 2 else np.ones(2)})


def an_average_of_its_own():
    opt, params = fo.Momentum(average=0.5), layer()
    for _ in range(3):
        opt.update(params, grads_of(params))
        with opt.averaged(params):
            pass


QUIET = [
    replaced_and_freed, replaced_and_kept, best_weights_put_back, keys_of_their_own,
    nothing_is_shared, new_views_of_the_same, numbers, no_elements, one_key_alone,
    one_key_after_the_other, there_and_back, others_left_out, an_average_of_its_own,
]


@pytest.mark.parametrize("habit", QUIET, ids=lambda f: f.__name__)
def test_habits_that_are_none(habit):
    assert told(habit) == []


def test_no_array_is_kept_alive():
    opt, params = fo.Momentum(), layer()
    gone = weakref.ref(params["W"])
    opt.update(params, grads_of(params))
    params["W"] = params["W"].copy()
    opt.update(params, grads_of(params))
    gc.collect()
    assert gone() is None


def test_a_call_for_each_key_is_told_once():
    opt, params = fo.SGD(lr=fo.schedules.linear(1.0, 0.0, 9)), layer()

    def run():
        for _ in range(3):
            for key, p in params.items():
                opt.update({key: p}, {key: np.ones_like(p)})

    with pytest.warns(UserWarning, match=ONE_BY_ONE) as found:
        run()
    assert len(found) == 1
    assert found[0].filename == __file__


def test_a_call_for_each_key_of_lists_and_in_soft_batches():
    params = layer()
    for opt in (fo.Adam(), fo.SoftBatch(fo.Adam(), every=1)):

        def run(opt=opt):
            for key in "WbWbW":
                opt.update({key: params[key]}, {key: np.ones_like(params[key])})

        assert len(told(run)) == 1


def test_a_copy_and_a_loaded_optimizer_begin_anew():
    opt, layers = fo.Momentum(), (layer(), layer())
    update_all(opt, layers, 1)
    other = fo.Momentum()
    other.load_state_dict(opt.state_dict())
    assert told(lambda: other.update(layers[0], grads_of(layers[0]))) == []
    assert len(told(lambda: update_all(other, layers[::-1], 1))) == 1


def test_a_cycle_that_begins_after_the_first_array_was_freed():
    opt = fo.Momentum()
    opt.update({"W": np.zeros(8)}, {"W": np.ones(8)})           # freed at the end of this line
    first, second = {"W": np.zeros(8)}, {"W": np.zeros(8)}
    opt.update(first, {"W": np.ones(8)})
    opt.update(second, {"W": np.ones(8)})
    with pytest.warns(UserWarning, match=r"params\['W'\] is an array that had this key before"):
        opt.update(first, {"W": np.ones(8)})
