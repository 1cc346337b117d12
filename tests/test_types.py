"""Types and help: what checkers refuse; what signatures, help, completion and repr show."""

import inspect
import json
import os
import pydoc
import re
import subprocess
import sys
import typing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import EVERY_CLASS, own_fields

import fastoptim as fo
from fastoptim.ode.runge_kutta import RungeKutta
from fastoptim.optimizer.hyperparameters import Decay, OrNone, checks_of, may_be_schedule
from fastoptim.optimizer.option_help import TITLE, entries, section

CLIENT = Path(__file__).with_name("typed_client.py")
METHODS = [fo.Heun, fo.RK23, fo.RK45]

every_class = pytest.mark.parametrize("cls", [*EVERY_CLASS, *METHODS])


# ---------------------------------------------------------------- type checkers

# Where the library is that these tests run; mypy finds what is installed by itself, and wants to.
ROOT = Path(fo.__file__).resolve().parent.parent
INSTALLED = ROOT.name == "site-packages"


def run(path, *command, **environment):
    """The output of a type checker that has read a file, in the file's folder."""
    done = subprocess.run(
        [sys.executable, "-m", *command, str(path)], capture_output=True, encoding="utf-8",
        cwd=path if path.is_dir() else path.parent, env=os.environ | environment, check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(path):
    """Line numbers of the errors that mypy finds in a file."""
    pytest.importorskip("mypy")
    where = {} if INSTALLED else {"MYPYPATH": str(ROOT)}
    output = run(path, "mypy", "--strict", "--config-file=", "--follow-imports=silent", **where)
    found = re.findall(rf"^{re.escape(path.name)}:(\d+): error:", output, re.MULTILINE)
    return {int(line) for line in found}


def pyright(path):
    """Line numbers of the errors that pyright finds in a file."""
    pytest.importorskip("pyright")
    config = {"include": [path.name], "extraPaths": [str(ROOT)]}
    (path.parent / "pyrightconfig.json").write_text(json.dumps(config), "utf-8")
    output = run(path.parent, "pyright", "--outputjson", "--pythonpath", sys.executable, "-p")
    found = json.loads(output)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


every_checker = pytest.mark.parametrize("checker", [mypy, pyright])


@every_checker
def test_a_typed_program(checker, tmp_path):
    """The checker refuses the lines that say so, and no other."""
    text = CLIENT.read_text("utf-8")
    path = tmp_path / "client.py"  # beside no test, whose modules have no types
    path.write_text(text, "utf-8")
    lines = text.splitlines()
    bad = {n for n, line in enumerate(lines, start=1) if line.endswith("# error")}
    assert len(bad) > 40
    found = checker(path)
    assert {lines[n - 1] for n in bad - found} == set()  # accepted
    assert {lines[n - 1] for n in found - bad} == set()  # refused


@every_checker
def test_the_arguments_of_every_class(checker, tmp_path):
    """A checker knows which arguments go by position, which by name, and what each may be."""
    lines, bad = ["import fastoptim as fo"], set()
    for cls in [*EVERY_CLASS, *METHODS]:
        parameters = inspect.signature(cls).parameters.values()
        by_position = [v.default for v in parameters if v.kind is v.POSITIONAL_OR_KEYWORD]
        named = [f"{v.name}={v.default!r}" for v in parameters if v.kind is v.KEYWORD_ONLY]
        values = list(map(repr, by_position))
        lines.append(f"fo.{cls.__name__}({', '.join(values + named)})")
        lines.append(f"fo.{cls.__name__}({', '.join([*values, '0.0'])})")
        bad.add(len(lines))
        for name in checks_of(cls):
            lines.append(f"fo.{cls.__name__}({name}=object())")
            bad.add(len(lines))
    path = tmp_path / "calls.py"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    found = checker(path)
    assert {lines[n - 1] for n in bad - found} == set()
    assert {lines[n - 1] for n in found - bad} == set()


@every_class
def test_annotations(cls):
    """What may be a schedule says so, and nothing is Any."""
    hints = typing.get_type_hints(cls)
    for name, check in checks_of(cls).items():
        assert hints[name] is not typing.Any
        if may_be_schedule(check) and not (cls in METHODS and name != "lr"):
            kind = float | fo.Schedule
            kind |= type(None) if isinstance(check, OrNone) else float
            kind |= typing.Literal["mean"] if isinstance(check, Decay) else float
            assert hints[name] == kind


# ---------------------------------------------------------------- attributes at run time


@every_class
def test_a_misspelt_attribute_is_refused(cls):
    opt = cls()
    with pytest.raises(AttributeError, match="has no hyperparameter 'lrr'; did you mean 'lr'"):
        opt.lrr = 3
    assert not hasattr(opt, "lrr")


def test_public_types():
    assert issubclass(fo.Adam, fo.Optimizer)
    with pytest.raises(TypeError, match="Optimizer is what the rules share"):
        fo.Optimizer()
    for name in ("Params", "Grads", "Schedule", "Optimizer"):
        assert name in fo.__all__


def test_completion_offers_public_names_alone():
    assert dir(fo) == sorted(fo.__all__)


@every_class
def test_completion_offers_no_attribute_that_is_only_answered(cls):
    opt = cls()
    offered = dir(opt)
    assert {"lr", "step", "save", "iter"} <= set(offered)
    for name in offered:
        if not name.startswith("_"):
            getattr(opt, name)
    assert "param_groups" not in offered


def test_keys_are_completed():
    opt = fo.Adam()
    assert opt.m._ipython_key_completions_() == []
    params = {"W": np.ones(2), "b": np.ones(1), 3: np.ones(1)}
    opt.update(params, {"W": np.ones(2), "b": None, 3: np.ones(1)})
    assert opt.m._ipython_key_completions_() == ["W", 3]


# ---------------------------------------------------------------- help


@every_class
def test_signatures_show_names_types_and_defaults(cls):
    text = str(inspect.signature(cls))
    assert text.startswith("(lr: float | fastoptim.Schedule = ")
    assert "Any" not in text
    for name in checks_of(cls):
        assert f"{name}: " in text


def test_signatures_of_methods_are_short():
    assert str(inspect.signature(fo.SGD.update)) == (
        "(self, params: 'Params', grads: 'Grads') -> None"
    )


OPTIONS = dict(entries(section(inspect.cleandoc(fo.Optimizer.__doc__), "Parameters")))


def test_every_option_is_described():
    assert set(OPTIONS) == set(checks_of(fo.Optimizer))


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_help_lists_the_options_that_a_class_inherits(cls):
    """Each option is described once: by the class, or in the section that all share."""
    own = re.findall(r"^(\w+(?:, \w+)*) :", section(cls.__doc__, "Parameters"), re.MULTILINE)
    names = [name for entry in own for name in entry.split(", ")]
    listed = dict(entries(section(cls.__doc__, TITLE)))
    assert set(names) >= {field.name for field in own_fields(cls)}
    assert sorted([*names, *listed]) == sorted(checks_of(cls))
    for name, entry in listed.items():
        assert entry.partition("\n")[2] == OPTIONS[name].partition("\n")[2]
        default = inspect.signature(cls).parameters[name].default
        said = re.search(r", default (\S+)$", entry.partition("\n")[0])
        assert eval(said[1]) == default if said else default in (None, ())
    assert TITLE in pydoc.render_doc(cls)
    text = cls.__doc__
    assert text.index("Parameters\n---") < text.index(TITLE) < text.index("References\n---")


def test_help_of_ones_own_subclass():
    @dataclass(eq=False, repr=False)
    class Mine(fo.AdamW):
        """Mine."""

    listed = dict(entries(section(Mine.__doc__, TITLE)))
    assert set(listed) == set(OPTIONS)
    assert listed["weight_decay"].startswith("weight_decay : float in [0, inf), default 0.01\n")
    assert Mine.__doc__.startswith("Mine.\n\nOther Parameters\n----------------\nweight_decay")


def test_methods_describe_all_that_they_take():
    for cls in METHODS:
        for name in checks_of(cls):
            assert re.search(rf"^\s+(\w+, )*{name}(, \w+)* :", cls.__doc__, re.MULTILINE)
        assert issubclass(cls, RungeKutta)
