"""fastoptim paths, as a user runs it, and the rules that are written on the command line."""

import json
import re
import sys
from argparse import ArgumentTypeError

import numpy as np
import pytest
import tqdm
from helpers import CLASSES, assert_same_array

import fastoptim as fo
from fastoptim.cli import arguments, rules
from fastoptim.cli import main as cli
from fastoptim.cli import paths as command

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def run(capsys, *given):
    """The exit status, stdout and stderr."""
    try:
        status = cli.main(["paths", *map(str, given)])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setattr(command, "draw", lambda *_: None)
    monkeypatch.setattr(command, "save", lambda *_: None)


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ---------------------------------------------------------------- what it draws and prints


def test_by_default_four_rules_on_the_valley(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    head, *rows, picture = out.splitlines()
    assert head.split() == ["rule", "last", "position", "last", "loss", "steps"]
    assert [row.split()[0] for row in rows] == ["SGD", "Momentum", "AdaGrad", "Adam"]
    assert all(row.endswith("    100") for row in rows)
    assert picture == "Picture: paths/paths.png"
    assert everything(tmp_path) == ["paths", "paths/paths.png"]
    assert (tmp_path / "paths/paths.png").read_bytes().startswith(SIGNATURES[".png"])


@pytest.mark.parametrize("name", ["new/p.png", "p.SVG", "new/more/p.pdf"])
def test_a_file(name, tmp_path, capsys):
    path = tmp_path / name
    status, out, _ = run(capsys, "--rule", "SGD:lr=0.01", "--steps", 3, "-o", path)
    assert status == 0
    assert out.endswith(f"Picture: {path}\n")
    assert path.read_bytes().startswith(SIGNATURES[path.suffix.lower()])
    assert [each for each in everything(tmp_path) if "." in each] == [name]  # nothing beside it


@pytest.mark.parametrize("name", ["new.folder", "there.png"])
def test_a_folder(name, tmp_path, capsys):
    (tmp_path / "there.png").mkdir()
    assert run(capsys, "--rule", "SGD:lr=0.01", "--steps", 3, "-o", tmp_path / name)[0] == 0
    assert (tmp_path / name / "paths.png").is_file()


def test_one_parameter(tmp_path, capsys):
    given = "--function", "Two-Minima", "--rule", "adam:lr=0.1", "--start", "3", "-o", tmp_path
    status, out, _ = run(capsys, *given)
    assert status == 0
    assert re.search(r"Adam \(lr=0.1\) +w = ", out)


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("start", [["--start", "-7,2"], ["--start=-7,2"], ["--start", "-7.0,+2"]])
def test_numbers_are_those_of_trace(start, tmp_path, capsys):
    status, out, err = run(
        capsys, "--function", "bowl", "--rule", "Momentum:alpha=0.8,lr=0.1",
        "--rule", "RK45:rtol=1e-3", "--lr", "0.5", *start, "--steps", 9, "--json", "-o", tmp_path,
    )
    assert (status, err) == (0, "")
    said = json.loads(out)
    assert said["function"] == "bowl"
    assert said["start"] == {"x": -7, "y": 2}
    assert said["picture"] == str(tmp_path / "paths.png")
    bowl = fo.problems.bowl
    for one, opt in zip(
        said["paths"], [fo.Momentum(lr=0.1, alpha=0.8), fo.RK45(lr=0.5, rtol=1e-3)], strict=True
    ):
        trace = fo.trace(opt, bowl.start(-7, 2), bowl, steps=9)
        assert one["steps"] == 9
        assert one["optimizer"] == trace.name
        for key in ("x", "y"):
            assert_same_array(np.array(one["positions"][key]), trace.positions[key], key)
        assert_same_array(np.array(one["losses"]), trace.losses, "losses")
        assert_same_array(np.array(one["gradient_norms"]), trace.gradient_norms, "norms")
    assert [one["rule"] for one in said["paths"]] == [
        "Momentum (alpha=0.8, lr=0.1)", "RK45 (lr=0.5, rtol=0.001)"
    ]


@pytest.mark.usefixtures("no_picture")
def test_what_is_not_finite_is_null(tmp_path, capsys):
    _, out, _ = run(
        capsys, "--rule", "SGD:lr=1e200", "--steps", 4, "--json", "-o", tmp_path
    )
    said = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert said["paths"][0]["losses"][-1] is None


def test_a_picture_of_a_path_to_infinity(tmp_path, capsys):
    status, out, _ = run(capsys, "--rule", "SGD:lr=1e200", "--steps", 4, "-o", tmp_path / "p.png")
    assert (status, "nan" in out) == (0, True)


@pytest.mark.usefixtures("no_picture")
def test_a_rule_that_is_given_twice_is_drawn_once(tmp_path, capsys):
    _, out, _ = run(capsys, "--rule", "SGD", "--rule", "sgd:lr=0.1", "--lr", 0.1, "-o", tmp_path)
    assert out.count("SGD") == 1


def test_the_picture_replaces_an_older_one(tmp_path, capsys):
    path = tmp_path / "p.png"
    path.write_text("old")
    run(capsys, "--rule", "SGD", "--lr", "0.01", "--steps", "2", "-o", path)
    assert path.read_bytes().startswith(SIGNATURES[".png"])


@pytest.mark.usefixtures("full_disk")
def test_a_picture_that_fails_on_the_way_leaves_the_older_one(tmp_path, capsys):
    path = tmp_path / "p.png"
    path.write_text("old")
    status, out, err = run(capsys, "--rule", "SGD:lr=0.01", "--steps", "2", "-o", path)
    assert (status, out) == (2, "")
    assert "No space left on device" in err
    assert path.read_text() == "old"
    assert everything(tmp_path) == ["p.png"]


# ---------------------------------------------------------------- the rate where none is given


@pytest.mark.parametrize("problem", [fo.problems.valley, fo.problems.rosenbrock])
@pytest.mark.parametrize("name", ["SGD", "Momentum", "AdaGrad", "Heun"])
def test_the_rate_is_the_smallest_that_does_about_as_well_as_the_best(name, problem):
    """Of those with which the loss is never above that at the start."""
    start = tuple(problem.first.values())
    chosen = dict(command.suited(rules.rule(name), problem, start, 50).options)["lr"]
    assert chosen in command.RATES
    downs = {}
    for lr in command.RATES:
        losses = fo.trace(getattr(fo, name)(lr=lr), problem.start(), problem, steps=50).losses
        if max(losses) <= losses[0]:
            downs[lr] = losses[0] - losses[-1]
    assert chosen == min(lr for lr, down in downs.items() if down >= 0.99 * max(downs.values()))


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("installed", [True, False])
def test_progress_on_a_terminal(installed, tmp_path, capsys, monkeypatch):
    given = []

    def bar(rules, **how):
        given.append(how)
        return rules

    monkeypatch.setattr(tqdm, "tqdm", bar)
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    assert run(capsys, "--rule", "SGD:lr=0.01", "-o", tmp_path)[0] == 0
    assert [(how["disable"], how["delay"]) for how in given] == [(None, 2)] * installed


def test_the_rates_that_are_tried():
    assert command.RATES[:3] + command.RATES[-2:] == [0.00001, 0.00003, 0.0001, 100, 300]


def test_a_long_run_tries_rates_in_its_first_steps(monkeypatch):
    tried = []
    follow = command.follow
    monkeypatch.setattr(
        command, "follow", lambda *given: tried.append(given[-1]) or follow(*given[:-1], 3)
    )
    command.suited(rules.rule("SGD"), fo.problems.valley, (180.0, 90.0), 10**6)
    assert set(tried) == {200}


# ---------------------------------------------------------------- rules on the command line


def test_every_rule_and_method_is_known_and_nothing_else():
    methods = {"Heun", "RK23", "RK45"}
    assert set(rules.known()) == {cls.__name__ for cls in CLASSES} | methods
    for name in rules.known():
        assert repr(rules.rule(name.lower()).build()) == repr(getattr(fo, name)())


@pytest.mark.parametrize(("text", "optimizer", "shown"), [
    ("Momentum:alpha=0.9", fo.Momentum(alpha=0.9), "Momentum (alpha=0.9)"),
    (" adam : lr = 1e-1 , beta1=0.8,", fo.Adam(lr=0.1, beta1=0.8), "Adam (lr=0.1, beta1=0.8)"),
    ("NESTEROV:form=listing", fo.Nesterov(form="listing"), "Nesterov (form=listing)"),
    ("Adam:amsgrad=true", fo.Adam(amsgrad=True), "Adam (amsgrad=true)"),
    ("Adam:amsgrad=False", fo.Adam(amsgrad=False), "Adam (amsgrad=false)"),
    ("SGD:clip_norm=none", fo.SGD(clip_norm=None), "SGD (clip_norm=none)"),
    ("SGD:clip_norm=3", fo.SGD(clip_norm=3), "SGD (clip_norm=3)"),
    ("rk23:atol=0.1", fo.RK23(atol=0.1), "RK23 (atol=0.1)"),
    ("SGD:", fo.SGD(), "SGD"),
])
def test_rules_as_text(text, optimizer, shown):
    found = rules.rule(text)
    assert repr(found.build()) == repr(optimizer)
    assert str(found) == shown
    assert found.has_rate == ("lr" in text)
    assert found.with_rate(0.5).build().lr == 0.5
    assert found.with_rate(0.5).with_rate(0.25).build().lr == 0.25


BAD_RULES = [
    ("Momentun", "'Momentun' is no rule. Did you mean Momentum? There are AdaBelief, "),
    ("SoftBatch", "'SoftBatch' is no rule."),
    ("", "'' is no rule. There are"),
    ("Adam:betas=3", "'Adam:betas=3': Adam has no 'betas'; here they are beta1 and beta2"),
    ("Adam:beta1=1.5", "'Adam:beta1=1.5': beta1 must be in [0, 1), got 1.5"),
    ("Adam:beta1=half", "beta1 must be a number in [0, 1), got 'half'"),
    ("Adam:lr=nan", "lr must be"),
    ("Adam:groups=1", "groups must be a list"),
    ("Nesterov:form=new", "form must be one of"),
    ("Adam:lr", "'lr' must be a hyperparameter and its value, as in Adam:lr=0.1"),
    ("Adam:=3", "'=3' must be a hyperparameter and its value"),
    ("Adam:lr=", "'lr=' must be a hyperparameter and its value"),
    ("Adam:lr=1,lr=2", "lr is given twice"),
    ("Heun:alpha=1", "Heun has no hyperparameter 'alpha'"),
]


@pytest.mark.parametrize(("text", "said"), BAD_RULES, ids=[text for text, _ in BAD_RULES])
def test_bad_rules(text, said):
    with pytest.raises(ArgumentTypeError) as caught:
        rules.rule(text)
    assert said in str(caught.value)


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(("given", "read"), [
    (["--start", "-7,2"], ["--start=-7,2"]),
    (["--lr", "-.5", "-o", "-5"], ["--lr=-.5", "-o", "-5"]),
    (["--start=1", "-7"], ["--start=1", "-7"]),
    (["--json", "-o", "x"], ["--json", "-o", "x"]),
    (["-7"], ["-7"]), ([], []),
])
def test_negative_numbers(given, read):
    assert arguments.negative_joined(given) == read


# ---------------------------------------------------------------- bad input

BAD = [
    (["--rule", "Momentun"], "Did you mean Momentum?"),
    (["--rule", "SoftBatch"], "is no rule"),
    (["--function", "vally"], "'vally' is no function. Did you mean valley?"),
    (["--function", "cube"], "There are valley, bowl, rosenbrock, two-minima\n"),
    (["--function", "all"], "must be one of valley, bowl, rosenbrock, two-minima"),
    (["--function", "valley,bowl"], "must be one of valley, bowl, rosenbrock, two-minima"),
    (["--start", "1"], "valley has 2 parameters (x, y), got 1 number to start from"),
    (["--function", "two-minima", "--start", "-1,2"], "1 parameter (w), got 2 numbers"),
    (["--start", "1,two"], "must be a number, got 'two'"),
    (["--start", "1,inf"], "must be a number, got 'inf'"),
    (["--start", "-1,"], "must be a number, got ''"),
    (["--steps", "0"], "must be a whole number of at least 1"),
    (["--steps", "-3"], "must be a whole number of at least 1"),
    (["--lr", "-1"], "lr must be in [0, inf), got -1"),
    (["--lr", "fast"], "must be a number, got 'fast'"),
    (["--start", "1e300,1"], "SGD: no learning rate lowers the loss from here; give one: --lr"),
    (["--start", "1e308,1", "--rule", "RK45:rtol=1e-3,lr=1"],
     "RK45 (rtol=0.001, lr=1): grads['x'] is not finite"),
    (["-o", "{}/p.jpg"], "p.jpg: a picture is .png, .svg, .pdf; give another --output"),
    (["-o", "{}/file/p.png"], "cannot write to "),
    (["-o", "{}/file"], "cannot write to "),
]


@pytest.mark.parametrize(("given", "said"), BAD, ids=[" ".join(given) for given, _ in BAD])
def test_bad_input_writes_nothing(given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    status, out, err = run(capsys, *[text.format(tmp_path) for text in given])
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1] + "\n"
    assert everything(tmp_path) == ["file"]


def test_a_function_of_three_parameters_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys
):
    """Should a problem of three ever be added to the list."""
    problem = fo.problems.Problem(
        "cube", "x² + y² + z²", lambda x, y, z: x * x + y * y + z * z,
        (lambda x, y, z: 2 * x, lambda x, y, z: 2 * y, lambda x, y, z: 2 * z),
        {"x": 1.0, "y": 1.0, "z": 1.0}, ((0.0, 0.0, 0.0),),
    )
    monkeypatch.setitem(fo.problems.ALL, "cube", problem)
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "--function", "cube", "--rule", "SGD:lr=0.1")
    assert (status, out) == (2, "")
    assert "has 3 parameters (x, y, z), and only 2 can be drawn" in err
    assert everything(tmp_path) == []


def test_without_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert err == "fastoptim paths: matplotlib is not installed: pip install 'fastoptim[plot]'\n"
    assert everything(tmp_path) == []
