"""fastoptim demo, as a user runs it."""

import io
import json
import sys

import numpy as np
import pytest
from helpers import CLASSES

import fastoptim
from fastoptim import listings
from fastoptim.bench.quiet import Company
from fastoptim.cli import main as cli
from fastoptim.demo import data as demo_data
from fastoptim.demo import methods as demo_methods
from fastoptim.demo import mlp, picture
from fastoptim.demo import train as demo

LISTED = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")


@pytest.fixture
def simple_gradients(monkeypatch):
    """Gradients made of additions and multiplications alone, the same on every machine.

    The digits of a matrix product depend on the BLAS library and its kernel.
    """

    def gradients(params, x, t):
        centre = np.float32(x[0, 20] - 0.5)
        return {key: p * np.float32(0.125) + centre for key, p in params.items()}

    monkeypatch.setattr(mlp, "gradients", gradients)


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setattr(picture, "both_losses", lambda *_, **__: None)


def run(capsys, output, *arguments):
    """The exit status, stdout and stderr of a demonstration of one epoch, 12 steps."""
    status = cli.main(["demo", "--epochs", "1", "--output", str(output), "--quiet", *arguments])
    return status, *capsys.readouterr()


def rows(out):
    """The table's rows by their first word."""
    table = [line.split() for line in out.splitlines() if "%" in line]
    assert len({row[0] for row in table}) == len(table)
    return {row[0]: row for row in table}


@pytest.mark.usefixtures("simple_gradients")
def test_the_six_by_default(tmp_path, capsys):
    output = tmp_path / "new" / "folder"
    status, out, _ = run(capsys, output)
    assert status == 0
    table = rows(out)
    assert tuple(table) == LISTED
    for name, row in table.items():
        assert len(row) == 10
        assert float(row[1]) == demo.SETTINGS[name]["lr"]
        assert min(map(float, row[5:9])) >= 0
        assert row[-1] == "yes"
    assert (output / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not (output / "methods.png").exists()


@pytest.mark.usefixtures("simple_gradients")
def test_all_rules_of_the_library(tmp_path, capsys):
    status, out, _ = run(capsys, tmp_path, "--rules", "all")
    assert status == 0
    table = rows(out)
    assert set(table) == {cls.__name__ for cls in CLASSES}
    for name, row in table.items():
        alone = name not in LISTED
        assert [row[5], row[7], row[9]] == (["–"] * 3 if alone else [row[5], row[7], "yes"])
    assert "FTRL, lr = 0.03, initial = 0" in out


@pytest.mark.usefixtures("simple_gradients", "no_picture")
def test_a_rule_without_settings_has_its_defaults(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(demo.SETTINGS, "Lion")
    _, out, _ = run(capsys, tmp_path, "--rules", "Lion")
    assert float(rows(out)["Lion"][1]) == fastoptim.Lion().lr


def test_a_schedule_free_rule_is_evaluated_at_its_average():
    class Bar:
        def update(self):
            pass

    data = demo_data.digits()
    training = demo.train("ScheduleFreeSGD", 1, data, Bar())
    opt, params = training.ours.optimizer, training.ours.params
    at_y = mlp.loss(params, data.x_validation, data.t_validation)
    with opt.evaluation(params):
        at_x = mlp.loss(params, data.x_validation, data.t_validation)
        accuracy = mlp.accuracy(params, data.x_validation, data.t_validation)
    assert abs(at_x - at_y) > 0.01 * at_x
    assert training.curve.validation[-1] == pytest.approx(at_x, rel=1e-4)
    assert training.ours.accuracy(data) == accuracy


@pytest.mark.usefixtures("simple_gradients", "no_picture")
def test_the_table_is_as_wide_as_the_longest_name(tmp_path, capsys):
    lines = run(capsys, tmp_path, "--rules", "SGD", "ScheduleFreeAdamW")[1].splitlines()
    table = [line for line in lines if line.startswith(("rule ", "SGD ", "ScheduleFree"))]
    assert len(table) == 3
    assert len({len(line) for line in table}) == 1


@pytest.mark.usefixtures("simple_gradients", "no_picture")
@pytest.mark.parametrize(
    "names", [["Adam,SGD"], ["Adam", "SGD"], ["adam, SGD,"], ["Adam", "SGD", "Adam"]]
)
def test_rules_by_name(names, tmp_path, capsys):
    assert list(rows(run(capsys, tmp_path, "--rules", *names)[1])) == ["Adam", "SGD"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rules", "Adm"], ["'Adm' is no rule. Did you mean Adam?", "SGD, Momentum", "and all"]),
        (["--rules", "SGD,heavybal"], ["'heavybal' is no rule. Did you mean HeavyBall?"]),
        (["--rules", "xyzzy"], ["'xyzzy' is no rule. There are SGD, Momentum"]),
        (["--rules", "RK45"], ["'RK45' is no rule."]),
        (["--rules", ","], ["no rule is named; there are SGD, Momentum"]),
        (["--rules"], ["expected at least one argument"]),
        (["--methods", "RK4"], ["'RK4' is no method. Did you mean RK45?", "Heun, RK23, RK45"]),
        (["--epochs", "0"], ["must be a whole number of at least 1, got '0'"]),
        (["--epochs", "-1"], ["must be a whole number of at least 1, got '-1'"]),
        (["--epochs", "x"], ["must be a whole number of at least 1, got 'x'"]),
        (["--epochs", "1.5"], ["must be a whole number of at least 1, got '1.5'"]),
    ],
)
def test_bad_arguments(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", *arguments])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    for word in words:
        assert word in err


@pytest.mark.usefixtures("simple_gradients", "no_picture")
@pytest.mark.parametrize("heals", [False, True])
@pytest.mark.parametrize("array", ["params['b2']", "params['W3']", "m['b1']", "v['W1']"])
def test_a_run_that_differs_is_an_error(array, heals, tmp_path, capsys, monkeypatch):
    """One bit at step 7, gone again at step 8 or not."""
    slot, key = array[:-2].split("['")

    class OneBitOff(listings.Adam):
        def update(self, params, grads):
            a = (params if slot == "params" else getattr(self, slot)).get(key)
            if self.iter == 7 and heals:
                a[...] = self.right
            super().update(params, grads)
            if self.iter == 7:
                self.right = a.copy()
                a.flat[3] = np.nextafter(a.flat[3], np.float32(9))

    monkeypatch.setattr(listings, "Adam", OneBitOff)
    status, out, err = run(capsys, tmp_path, "--rules", "SGD", "Adam")
    assert status == 1
    assert f"error: Adam first differs from its NumPy listing at step 7 in {array};" in err
    assert "SGD" not in err
    assert [row[-1] for row in rows(out).values()] == ["yes", "NO"]


def test_every_bit_counts_but_a_nans_payload():
    def pair():
        runs = [demo.Run(fastoptim.Adam()), demo.Run(listings.Adam())]
        for r in runs:
            r.grads = {key: p * np.float32(0.5) for key, p in r.params.items()}
            r.optimizer.update(r.params, r.grads)
        return runs

    ours, theirs = pair()
    assert demo.first_difference(ours, theirs) == ""
    for name in ("grads", "params", "m", "v"):
        for key in theirs.params:
            ours, theirs = pair()
            holder = theirs if name in ("grads", "params") else theirs.optimizer
            getattr(holder, name)[key].view(np.uint32).flat[-1] ^= 1
            assert demo.first_difference(ours, theirs) == f"{name}[{key!r}]"
    ours, theirs = pair()
    ours.params["b1"][0], theirs.params["b1"][0] = 0.0, -0.0
    assert demo.first_difference(ours, theirs) == "params['b1']"
    ours.params["b1"].view(np.uint32)[0] = 0x7FC00000
    assert demo.first_difference(ours, theirs) == "params['b1']"
    theirs.params["b1"].view(np.uint32)[0] = 0xFFC00001
    assert demo.first_difference(ours, theirs) == ""


@pytest.mark.usefixtures("no_picture")
def test_a_blas_that_repeats_nothing_is_told_from_an_update(tmp_path, capsys, monkeypatch):
    calls = []

    def gradients(params, x, t):
        calls.append(None)
        return {key: p + np.float32(len(calls) == 4) for key, p in params.items()}

    monkeypatch.setattr(mlp, "gradients", gradients)
    status, _, err = run(capsys, tmp_path, "--rules", "SGD")
    assert status == 1
    assert "SGD first differs from its NumPy listing at step 2 in grads['W1'];" in err


@pytest.mark.usefixtures("no_picture")
def test_it_learns(tmp_path, capsys):
    """36 steps bring the loss far below that of a guess, ln 10 = 2.3."""
    arguments = ["--rules", "SGD", "AdamW", "--methods", "SGD", "Heun"]
    _, out, _ = run(capsys, tmp_path, *arguments, "--epochs", "3")
    of_rules, of_methods, _ = out.split("Losses: ")
    losses = []
    for row in rows(of_rules).values():
        losses += row[2:4]
    for row in rows(of_methods).values():
        losses += row[4:6]
    assert len(losses) == 8
    assert max(float(loss) for loss in losses) < 1.5


def test_methods_evaluate_equally_often(tmp_path, capsys, monkeypatch):
    seen = []

    def gradients(params, x, t):
        seen.append(x.shape)
        return {key: p * np.float32(0.125) for key, p in params.items()}

    monkeypatch.setattr(mlp, "gradients", gradients)
    for name in demo_methods.METHODS:
        seen.clear()
        status, out, _ = run(capsys, tmp_path, "--methods", name, "--epochs", "2")
        assert status == 0
        assert seen == [(120, 64)] * 24
        assert rows(out)[name][2:4] == [
            str(demo_methods.EVALUATIONS[name]), str(24 // demo_methods.EVALUATIONS[name])
        ]
    assert not (tmp_path / "loss.png").exists()
    status, out, _ = run(capsys, tmp_path, "--methods")
    assert tuple(rows(out)) == ("SGD", "Heun", "RK23", "RK45")
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


def test_validation_losses_at_an_equal_training_loss():
    curves = {
        "SGD": demo_data.Curve([2.0, 1.0, 0.5], [2.0, 1.5, 1.25]),
        "Heun": demo_data.Curve([3.0, 0.75, 0.875], [3.0, 1.0, 1.5]),
        "RK23": demo_data.Curve([0.5], [4.0]),
    }
    start = demo_data.Curve([4.5], [3.0])
    level, reached = demo_methods.at_equal_training(curves, start)
    assert level == 0.75
    assert reached == {"SGD": 1.375, "Heun": 1.0, "RK23": 3.9375}  # of which 1/16 at the start
    assert "does not agree: SGD's is not the lowest" in demo_methods.tendency(reached)
    assert "agrees: SGD's is the lowest" in demo_methods.tendency({"SGD": 1.0, "RK45": 1.1})
    assert "run" not in demo_methods.tendency({"SGD": 1.0})


def test_the_split():
    """An epoch is whole steps of every method, all on batches of one size."""
    data = demo_data.digits()
    sizes = [len(x) for x, _ in data.batches(np.random.default_rng(0))]
    assert sizes == [demo_data.BATCH] * demo_data.EPOCH
    assert all(demo_data.EPOCH % n == 0 for n in demo_methods.EVALUATIONS.values())
    assert len(data.x) + len(data.x_validation) == 1797


@pytest.mark.usefixtures("full_disk")
def test_a_picture_that_fails_on_the_way_leaves_the_older_one(tmp_path):
    path = tmp_path / "loss.png"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left on device") as failed:
        picture.both_losses({"SGD": ([1.0], [2.0])}, path, title="", x="epoch")
    assert failed.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_curves_are_told_apart_without_colour(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(picture, "save", lambda figure, path: drawn.append(figure))
    names = demo.rule_names()
    curves = {n: ([1.0] * 9, [2.0] * 9) for n in names}
    picture.both_losses(curves, tmp_path, title="", x="epoch", per=12)
    for axes, loss in zip(drawn[0].axes, (1.0, 2.0), strict=True):
        lines = axes.get_lines()
        assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(names)
        assert all(list(line.get_ydata()) == [loss] * 9 for line in lines)
        assert all(list(line.get_xdata()) == list(range(12, 120, 12)) for line in lines)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.usefixtures("simple_gradients")
def test_progress(quiet, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    arguments = ["--epochs", "1", "--output", str(tmp_path), *(["--quiet"] if quiet else [])]
    cli.main(["demo", "--rules", "SGD", *arguments])
    assert ("training" in capsys.readouterr().err) is not quiet


def test_a_terminal_that_has_only_ascii(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", terminal)
    demo_data.say("1 µs – ¹", "é")
    terminal.flush()
    assert terminal.buffer.getvalue().split() == [b"1", b"us", b"-", b"1", rb"\xe9"]


def test_gradients_of_the_network_are_right():
    """Against central differences in float64."""
    rng = np.random.default_rng(0)
    params = {k: p.astype(float) for k, p in mlp.init([5, 7, 6, 3], 1).items()}
    params["b1"] += 0.1
    x, t = rng.standard_normal((8, 5)), rng.integers(0, 3, 8)
    grads = mlp.gradients(params, x, t)
    assert set(grads) == set(params)
    for key, p in params.items():
        for i in np.ndindex(p.shape):
            kept = p[i]
            p[i] = kept + 1e-6
            above = mlp.loss(params, x, t)
            p[i] = kept - 1e-6
            below = mlp.loss(params, x, t)
            p[i] = kept
            assert grads[key][i] == pytest.approx((above - below) / 2e-6, abs=2e-6)


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    status, _, err = run(capsys, blocked)
    assert status == 2
    assert f"cannot write to {blocked}" in err


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["demo"]) == 2
    assert "pip install 'fastoptim[demo]'" in capsys.readouterr().err


@pytest.mark.usefixtures("simple_gradients", "no_picture")
def test_whose_threads_products_run_on(tmp_path, capsys, monkeypatch):
    """The first lines say it, and the sharing ends with the demonstration."""

    def refuse():
        raise RuntimeError("another BLAS")

    class Shared:
        libraries, n_threads, ended = ("OpenBLAS",), 3, False

        def __enter__(self):
            return self

        def __exit__(self, *problem):
            self.ended = True

    shared = Shared()
    monkeypatch.setattr(fastoptim, "share_threads", lambda: shared)
    assert "products and updates share 3 threads" in run(capsys, tmp_path, "--rules", "SGD")[1]
    assert shared.ended
    monkeypatch.setattr(fastoptim, "share_threads", refuse)
    own = "products on threads of their own"
    assert f"{own} (share_threads says why)" in run(capsys, tmp_path, "--rules", "SGD")[1]
    assert f"{own}\n" in run(capsys, tmp_path, "--rules", "SGD", "--own-threads")[1]


def trained(times, listing=None):
    """A training whose steps took so long, and its listing's."""
    runs = [
        None if seconds is None
        else demo.Run(None, {}, step_seconds=seconds, update_seconds=[t / 2 for t in seconds])
        for seconds in (times, listing)
    ]
    return demo.Training("Adam", *runs)


STEADY, QUIET = [9.0] * 7 + [1.0, 1.05] * 40, Company(0.0, 2, 2)  # the first 7 are left over


@pytest.mark.parametrize(
    ("training", "company", "lines"),
    [
        (trained(STEADY), QUIET, []),
        (trained(STEADY, STEADY), QUIET, []),
        (trained(STEADY, STEADY), Company(None, 2, 2), []),
        (
            trained(STEADY, [1.0] * 40 + [44.0] * 40), QUIET,
            ["Times not to be trusted, since they changed on the way:",
             "  Adam: step with NumPy, update with NumPy"],
        ),
        (
            trained([1.0] * 40 + [1.2] * 40), QUIET,
            ["Times not to be trusted, since they changed on the way:",
             "  Adam: step with fastoptim, update with fastoptim"],
        ),
        (
            trained(STEADY), Company(0.93, 2, 2),
            ["The machine was not quiet: other programs kept 0.9 of 2 processors busy.",
             "None of these times is to be trusted."],
        ),
        (trained([1.0] * 12), QUIET, ["12 steps are too few for times to be trusted."]),
    ],
)
def test_times_that_are_not_to_be_trusted(training, company, lines):
    assert demo.caveats([training], company) == lines


@pytest.mark.usefixtures("simple_gradients", "no_picture")
def test_the_table_says_that_the_machine_was_not_quiet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo.Watch, "company", lambda watch: Company(1.5, 2, 2))
    _, out, _ = run(capsys, tmp_path, "--rules", "SGD")
    assert "The machine was not quiet: other programs kept 1.5 of 2 processors busy.\n" in out


@pytest.mark.usefixtures("simple_gradients", "no_picture")
def test_for_a_machine(tmp_path, capsys):
    status, out, _ = run(capsys, tmp_path, "--json", "--rules", "Adam", "Lion", "--methods", "SGD")
    found = json.loads(out)
    assert (status, found["epochs"]) == (0, 1)
    adam, lion = found["rules"]
    assert (adam["rule"], adam["same bits"], lion["same bits"]) == ("Adam", True, None)
    assert (set(adam["step"]), set(lion["step"])) == ({"NumPy", "fastoptim"}, {"fastoptim"})
    assert len(adam["training"]) == 1
    assert found["not to be trusted"]               # 12 steps are too few
    assert [one["method"] for one in found["methods"]] == ["SGD"]
