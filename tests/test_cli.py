"""The command fastoptim: its grammar, info, inspect and completion."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import run_code

import fastoptim as fo
from fastoptim import checkpoint
from fastoptim.checkpoint import file as of_file
from fastoptim.checkpoint.tree import Stored
from fastoptim.cli import completion, info
from fastoptim.cli import main as cli
from fastoptim.cli.refused import Refused


def run(capsys, *arguments):
    """The exit status, stdout and stderr of a command."""
    status = cli.main([*map(str, arguments)])
    return status, *capsys.readouterr()


# ---------------------------------------------------------------- of all commands


def test_letters_that_the_terminal_does_not_have():
    """In the locale C the demonstration's µ and × cannot be printed."""
    code = """
        from fastoptim.cli import info, main
        info.runtime.described = lambda: {"time": "\\xb5s, 3\\xd7"}
        info.learned_by = lambda sizes: "one thread"
        info.extras = dict
        raise SystemExit(main.main(["info"]))
    """
    done = run_code(code, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xb5s, 3\\xd7\n" in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"fastoptim {fo.__version__}\n"


def test_without_a_command_the_help_goes_to_stderr(capsys):
    """A script that has lost the name of its command must not go on; no data came."""
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert err == cli.parser().format_help()


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [(["--version"], 0, f"fastoptim {fo.__version__}\n"), ([], 2, ""), (["inspect", "no"], 2, "")],
)  # fmt: skip
def test_python_dash_m(arguments, status, text):
    command = [sys.executable, "-m", "fastoptim", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (status, text)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_line_of_help_and_a_text(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    name = command.__name__.rpartition(".")[2]
    assert f"\n    {name} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: fastoptim {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (Refused("no such case"), 2, "fastoptim info: no such case\n"),
        (OSError(28, "No space left on device", "a.png"), 2,
         "fastoptim info: a.png: No space left on device\n"),
        (OSError("strange"), 2, "fastoptim info: strange\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)  # fmt: skip
def test_what_a_command_raises(raised, status, message, capsys, monkeypatch):
    def refuse(sizes):
        raise raised

    monkeypatch.setattr(info, "learned_by", refuse)
    assert run(capsys, "info") == (status, "", message)


def test_whoever_reads_has_had_enough(monkeypatch):
    """No traceback where the reader of a pipe ends, neither at once nor at the end."""
    code = """
        import sys
        from fastoptim.cli.main import main
        sys.exit(main(["info"]))
    """
    command = [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141  # 1 would say that a check failed


@pytest.mark.parametrize("arguments", [["info"], ["--completion", "bash"]], ids=" ".join)
@pytest.mark.parametrize(("shell", "status", "message"), [
    ("{} > /dev/full", 2, "{}: No space left on device\n"),
    ("{} >&-", 0, ""),
    ("{} >&- 2>&-", 0, ""),
], ids=["full disk", "stdout closed", "both closed"])  # fmt: skip
def test_output_that_goes_nowhere(arguments, shell, status, message):
    code = f"import sys; from fastoptim.cli.main import main; sys.exit(main({arguments}))"
    line = shell.format(shlex.join([sys.executable, "-c", code]))
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    command = "fastoptim" if arguments[0].startswith("-") else f"fastoptim {arguments[0]}"
    assert (done.returncode, done.stdout, done.stderr) == (status, "", message.format(command))


# ---------------------------------------------------------------- info


def test_info(capsys):
    status, out, err = run(capsys, "info")
    assert (status, err) == (0, "")
    rows = dict(line.split(":", 1) for line in out.splitlines() if line[0] != " ")
    assert {"fastoptim", "NumPy", "instructions", "compiler", "flags", "threads"} <= set(rows)
    assert "-ffp-contract=off" in rows["flags"]
    assert "784-100-10: " in rows["learned"]
    assert "checkpoint" in rows["extras"]


def test_info_for_a_machine(capsys):
    status, out, _ = run(capsys, "info", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["fastoptim"] == fo.__version__
    assert set(found["learned"]) == {"784-100-10", "784-512-512-10"}
    assert found["extras"]["checkpoint"] == []


def test_extras_that_are_not_complete(capsys, monkeypatch):
    requires = [
        "numpy>=2", 'matplotlib>=3; extra == "plot"', 'fastoptim[plot]; extra == "demo"',
        "no-such-library>=1; extra == 'demo'", 'another_one; extra == "other"',
    ]
    monkeypatch.setattr(info.metadata, "requires", lambda name: requires)
    assert (info.missing("plot"), info.missing("demo")) == ([], ["no-such-library"])
    monkeypatch.setattr(info, "extras", lambda: {"plot": [], "demo": ["no-such-library"]})
    _, out, _ = run(capsys, "info")
    assert "plot; demo (without no-such-library)\n" in out
    assert "pip install 'fastoptim[NAME]'" in out


def test_what_an_optimizer_learned(capsys):
    """What info and show_runtime say of threads is what the optimizer's engine keeps."""
    with pytest.raises(TypeError, match="opt must be an optimizer of fastoptim, got int"):
        fo.show_runtime(3)
    opt, params = fo.SGD(), {"W": np.zeros(8)}
    opt.update(params, {"W": np.ones(8)})
    assert opt.engine.learned() == []
    capsys.readouterr()
    fo.show_runtime(opt)
    assert "learned:      nothing yet" in capsys.readouterr().out


# ---------------------------------------------------------------- inspect


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of Adam with all that inspect shows: groups, a schedule, averages."""
    opt = fo.Adam(
        lr=fo.schedules.linear(0.1, 0.2, 10), average=0.9, groups=[fo.Group("W", weight_decay=0.5)]
    )
    params = {"W": np.ones((2, 3), np.float32), ("t", 1): np.array(2.0)}
    opt.update(params, {"W": np.full((2, 3), 3, np.float32), ("t", 1): np.array(np.inf)})
    opt.save(tmp_path / "adam.ckpt")
    return tmp_path / "adam.ckpt", opt


def test_inspect(saved, capsys):
    path, opt = saved
    status, out, err = run(capsys, "inspect", path)
    assert (status, err) == (0, "")
    first, rule, counters, hyperparameters, group, head, w, t = out.splitlines()
    assert first == f"{path}: {path.stat().st_size:,} bytes, the digest holds"
    assert rule == f"Adam, written by fastoptim {fo.__version__}"
    assert counters == "iter = 1, skipped = 0, clipped = 0"
    assert hyperparameters.startswith("hyperparameters: lr=linear(start=0.1, stop=0.2, steps=10), ")
    assert "beta1=0.9, beta2=0.999," in hyperparameters
    assert group == "group 'W': weight_decay=0.5"
    assert head.split("  ")[:1] == ["key"]
    norm = np.linalg.norm(opt.m["W"].astype(float))
    assert w.split()[:6] == ["W", "float32", "2", "×", "3", "1"]
    assert w.split()[6] == f"{norm:.6g}"
    assert t.split() == ["('t',", "1)", "float64", "a", "number", "1", "inf", "inf", "nan"]


def test_inspect_groups_by_predicate(tmp_path, capsys):
    opt = fo.SGD(groups=[fo.Group(lambda key, p: p.ndim < 2, lr=0.5), fo.Group("W", lr=0.25)])
    opt.update({"W": np.ones((2, 2)), "b": np.ones(2)}, {"W": np.ones((2, 2)), "b": np.ones(2)})
    opt.save(tmp_path / "saved")
    out = run(capsys, "inspect", tmp_path / "saved")[1]
    assert "\ngroup of a predicate: lr=0.5\ngroup 'W': lr=0.25\n" in out


def test_inspect_for_a_machine(saved, capsys):
    path, opt = saved
    status, out, _ = run(capsys, "inspect", path, "--json")
    found = json.loads(out, parse_constant=pytest.fail)  # NaN is no JSON
    assert (status, found["digest holds"]) == (0, True)
    record = found["content"]["parameters"]["W"]
    assert record["state"]["m"] == {
        "dtype": "float32", "shape": [2, 3], "norm": np.linalg.norm(opt.m["W"].astype(float))
    }
    assert record["updates"] == 1
    assert found["content"]["parameters"]["('t', 1)"]["state"]["m"]["norm"] == "inf"


def test_inspect_a_soft_batch(tmp_path, capsys):
    soft = fo.SoftBatch(fo.SGD(), every=3)
    params = {"E": np.ones((5, 2)), "b": np.ones(2)}
    soft.update(params, {"E": fo.Rows([1, 1], np.ones((2, 2))), "b": np.array([3.0, 4.0])})
    soft.save(tmp_path / "soft")
    status, out, _ = run(capsys, "inspect", tmp_path / "soft")
    assert status == 0
    assert "SoftBatch of every=3, reduce=mean: 1 wait\n" in out
    assert "sums/b         float64  2            5\n" in out
    assert "rows/E/values  float64  1 × 2  2.82843\n" in out
    assert "SGD, written by fastoptim" in out


def test_inspect_a_method_and_a_tree_of_arrays(tmp_path, capsys):
    opt, params = fo.RK45(rtol=1e-3), {"x": np.ones(2)}
    opt.step(params, lambda p: {"x": p["x"].copy()})
    opt.save(tmp_path / "rk45")
    assert "iter = 1, time = 0.01, step_size = 0.1, rejected = 0" in run(
        capsys, "inspect", tmp_path / "rk45"
    )[1]
    checkpoint.save(tmp_path / "tree", {"params": [np.array([3.0, 4.0]), 7]})
    assert "params/0  float64  2         5\n" in run(capsys, "inspect", tmp_path / "tree")[1]


def whole_training(path):
    soft, params = fo.SoftBatch(fo.SGD(), every=3), {"W": np.ones(2)}
    soft.update(params, {"W": np.array([3.0, 4.0])})
    opt = fo.Adam(lr=fo.schedules.linear(0.1, 0.0, 9), groups=[fo.Group("W", lr=lambda step: 0.5)])
    opt.update(params, {"W": np.ones(2)})
    fo.save(path, {
        "params": params, "opt": opt, "epoch": 3, "text": "x" * 99, "history": [1.0, 2.0],
        "more": [fo.RK45(), soft], "rng": np.random.default_rng(0),
        "rate": fo.schedules.constant(0.5),
    })


def test_inspect_a_whole_training(tmp_path, capsys):
    whole_training(tmp_path / "t")
    status, out, err = run(capsys, "inspect", tmp_path / "t")
    assert (status, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[1:5] == [
        "epoch = 3", "text = '" + "x" * 68 + "…",
        f"opt: Adam, written by fastoptim {fo.__version__}",
        "  iter = 1, skipped = 0, clipped = 0",
    ]
    assert lines[5].startswith("  hyperparameters: lr=linear(start=0.1, stop=0.0, steps=9), beta")
    assert lines[6].startswith("  group 'W': lr=<function whole_training.<locals>.<lambda>")
    assert lines[8].split()[:5] == ["W", "float64", "2", "1", "0.141421"]
    assert lines[9] == f"more/0: RK45, written by fastoptim {fo.__version__}"
    assert lines[12:15] == [
        "more/1: SoftBatch of every=3, reduce=mean: 1 wait", "  array   dtype    shape  norm",
        "  sums/W  float64  2         5",
    ]
    assert lines[-4:-2] == [
        "rng: numpy.random.Generator of PCG64", "rate: constant(value=0.5)",
    ]
    assert lines[-1].split()[:3] == ["params/W", "float64", "2"]


def test_inspect_a_whole_training_for_a_machine(tmp_path, capsys):
    whole_training(tmp_path / "t")
    status, out, _ = run(capsys, "inspect", tmp_path / "t", "--json")
    found = json.loads(out, parse_constant=pytest.fail)["content"]
    assert status == 0
    assert found["opt"]["optimizer"]["rule"] == "Adam"
    assert found["more"][1]["softbatch"]["sums"]["W"]["norm"] == 5
    assert found["more"][1]["softbatch"]["optimizer"]["rule"] == "SGD"
    assert (found["rng"], found["rate"]) == (
        {"generator": "PCG64"}, {"schedule": "constant(value=0.5)"}
    )
    assert (found["epoch"], found["history"]) == (3, [1.0, 2.0])


@pytest.mark.parametrize("name", ["rule", "pending"])
def test_inspect_a_tree_with_a_name_of_a_state(tmp_path, capsys, name):
    checkpoint.save(tmp_path / "t", {name: 1, "x": np.ones(4)})
    status, out, _ = run(capsys, "inspect", tmp_path / "t")
    assert status == 0
    assert f"\n{name} = 1\n" in out
    assert "\nx      float64  4         2\n" in out


def test_inspect_a_damaged_file(saved, capsys):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    status, out, err = run(capsys, "inspect", path)
    assert (status, out) == (1, "")
    assert err.startswith(f"fastoptim inspect: {path} is damaged: its content does not match")
    status, out, _ = run(capsys, "inspect", path, "--json")
    assert (status, json.loads(out)["digest holds"]) == (1, False)


def test_inspect_what_is_no_file(tmp_path, capsys):
    status, out, err = run(capsys, "inspect", tmp_path / "none")
    assert (status, out) == (2, "")
    assert err == f"fastoptim inspect: {tmp_path / 'none'}: No such file or directory\n"


def test_inspect_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    status, _, err = run(capsys, "inspect", "a")
    assert status == 2
    assert "safetensors is not installed: pip install 'fastoptim[checkpoint]'" in err


# ---------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion(shell, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--completion", shell])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for word in ("inspect", "--rules", "AdaBelief"):
        assert word in out


@pytest.mark.parametrize(
    ("line", "expected"), [("fastoptim insp", "inspect"), ("fastoptim demo --rules AdamW", "AdamW")]
)
def test_bash_completes(line, expected, capsys, tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["--completion", "bash"])
    words = line.split()
    (tmp_path / "try.sh").write_text(
        f"{capsys.readouterr().out}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}\n"
        f'_shtab_fastoptim; echo "${{COMPREPLY[@]}}"\n', encoding="utf-8",
    )
    command = [shutil.which("bash"), tmp_path / "try.sh"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == [expected]


def test_completion_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as stop:
        cli.main(["--completion", "bash"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err == "fastoptim: shtab is not installed: pip install 'fastoptim[completion]'\n"


@pytest.mark.parametrize("tree", [
    {"rule": "SGD", "fastoptim": "0.1"},
    {"pending": 1, "every": 2, "optimizer": "Adam"},
    {"sizes": {"dtype": "float32", "shape": None, "norm": None}},
    {"n": 1 << 20_000, (1 << 20_000, 1): np.ones(1), 1 << 20_000: np.ones(1)},
], ids=["rule", "pending", "summary", "long number"])
def test_inspect_a_tree_that_looks_like_something_else(tmp_path, capsys, tree):
    fo.save(tmp_path / "t", tree)
    for how in ([], ["--json"]):
        status, out, err = run(capsys, "inspect", tmp_path / "t", *how)
        assert (status, err) == (0, "")
        assert "digest holds" in out
    assert next(iter(tree)) in out


def test_inspect_keys_that_a_terminal_obeys_or_that_look_alike(tmp_path, capsys):
    fo.save(tmp_path / "t", {1: np.ones(1), "1": np.ones(2), "\x1b[2J\na": np.ones(3)})
    out = run(capsys, "inspect", tmp_path / "t")[1]
    assert "\x1b" not in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["(1)", "1", r"\x1b[2J\na"]
    found = json.loads(run(capsys, "inspect", tmp_path / "t", "--json")[1])["content"]
    assert [one["shape"] for one in found.values()] == [[1], [2], [3]]


@pytest.mark.parametrize("kind", ["optimizer", "method", "softbatch", "schedule", "generator"])
def test_inspect_objects_that_nobody_wrote(tmp_path, capsys, kind):
    for content in (None, [], {}, {"schedule": [1], "arguments": {}}):
        of_file.write(tmp_path / "t", {"o": object()}, lambda *_: Stored(kind, content))  # noqa: B023
        status, out, err = run(capsys, "inspect", tmp_path / "t")
        assert status in (0, 1)
        assert bool(err) == (status == 1)
        assert not (status and out)


def test_inspect_sam(tmp_path, capsys):
    opt = fo.SAM(fo.Momentum(0.125))
    opt.step({"x": np.ones(2)}, lambda params: {"x": params["x"].copy()})
    opt.save(tmp_path / "sam")
    out = run(capsys, "inspect", tmp_path / "sam")[1]
    assert "rho=0.05" in out
    assert "\n\n" not in out
    assert "Momentum, written by" in out
    assert "lr=0.125" in out
    assert "norm of v" in out
