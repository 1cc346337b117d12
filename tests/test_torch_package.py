"""What `import fastoptim` has of PyTorch, and what `fastoptim.torch` needs of it."""

from pathlib import Path

import numpy as np
import pytest
from helpers import output_of, run_code
from test_types import every_checker

DOCS = Path(__file__).parent.parent / "docs"
CLIENT = Path(__file__).with_name("typed_torch_client.py")

# Whoever imports PyTorch in this process is told that it is not installed.
WITHOUT = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nowhere())
sys.modules.pop("torch", None)
"""


def test_fastoptim_imports_nothing_of_it():
    code = """
        import sys
        import fastoptim, fastoptim.rules, fastoptim.cli.main, fastoptim.porting
        print(sorted(name for name in sys.modules if "torch" in name))
    """
    assert output_of(code) == "[]"


@pytest.mark.parametrize("line", [
    "import fastoptim.torch", "from fastoptim.torch import Adam", "import fastoptim.torch.classes",
])
def test_without_pytorch_the_last_line_says_what_to_install(line):
    done = run_code(f"{WITHOUT}{line}\n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: fastoptim.torch needs PyTorch: pip install 'fastoptim[torch]'"
    )
    assert "During handling" not in done.stderr


def test_a_module_that_pytorch_lacks_is_named():
    broken = WITHOUT.replace("{name!r}\", name=name", "'sympy'\", name='sympy'")
    assert broken != WITHOUT
    done = run_code(f"{broken}import fastoptim.torch\n")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'sympy'"


def test_the_docstrings_can_be_read_without_pytorch():
    """The site is built without it; what is imported for that is not left for others to find."""
    code = f"""
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else real(name, *more)
sys.path.insert(0, {str(DOCS)!r})
import without_torch
without_torch.import_it()
import fastoptim.torch
print("torch" in sys.modules, *sorted(fastoptim.torch.__all__))
print(fastoptim.torch.AdamW.__mro__[1].__name__, fastoptim.torch.SGD.step.__doc__[:6])
"""
    first, second = output_of(code).splitlines()
    assert first.split()[0] == "False"
    assert "AdamW" in first.split()
    assert second == "Adam Update"


def test_the_package_of_that_name_is_not_taken_for_pytorch():
    pytest.importorskip("torch")
    code = """
        import fastoptim.torch, torch
        print(fastoptim.torch is not torch, fastoptim.torch.SGD.__mro__[2] is torch.optim.SGD)
    """
    assert output_of(code) == "True True"


def trained(optimizer, dtype, steps=5):
    """Parameters of some shapes after some steps, and their state; one parameter is transposed."""
    import torch

    generator = torch.Generator().manual_seed(1)
    shapes = (4, 3), (7,), (), (2, 3, 5)
    params = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    params.append(torch.randn(5, 6, generator=generator, dtype=dtype).t())
    for p in params:
        p.requires_grad_()
    opt = optimizer(params)
    for _ in range(steps):
        opt.zero_grad()
        sum((p**3).sum() + (p * p.detach().cos()).sum() for p in params).backward()
        opt.step()
    state = [tensor for of_key in opt.state_dict()["state"].values() for tensor in of_key.values()]
    return [tensor.detach().numpy() for tensor in [*params, *state]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_the_table_of_functions_each_tensor_is_asked(monkeypatch, dtype):
    """Releases of PyTorch that have no such table give the same bits."""
    torch = pytest.importorskip("torch")
    from fastoptim.torch import AdamW, tensors, work

    usual = trained(AdamW, getattr(torch, dtype))
    asked = []

    def array_of(key, tensor, what):
        asked.append(what)
        return tensors.array_of(key, tensor, what)

    monkeypatch.setattr(work, "EXCHANGE", None)
    monkeypatch.setattr(work, "array_of", array_of)
    got = trained(AdamW, getattr(torch, dtype))
    assert asked == 5 * 5 * ["params", "grads"]
    assert len(got) == len(usual) == 5 + 5 * 3
    for a, b in zip(got, usual, strict=True):
        np.testing.assert_array_equal(a, b)


def test_this_release_of_pytorch_has_the_table(monkeypatch):
    """And then nothing is asked of a tensor that lies as an array does."""
    torch = pytest.importorskip("torch")
    from fastoptim.torch import AdamW, work

    assert work.EXCHANGE is not None
    asked = []
    monkeypatch.setattr(work, "array_of", lambda key, tensor, what: asked.append(key))
    trained(AdamW, torch.float32)
    assert asked == []


@every_checker
def test_a_typed_program(checker, tmp_path):
    """The classes have PyTorch's constructors, for type checkers as well."""
    pytest.importorskip("torch")
    lines = CLIENT.read_text("utf-8").splitlines()
    path = tmp_path / "client.py"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    bad = {n for n, line in enumerate(lines, start=1) if line.endswith("# error")}
    assert len(bad) == 8
    found = checker(path)
    assert {lines[n - 1] for n in bad - found} == set()  # accepted
    assert {lines[n - 1] for n in found - bad} == set()  # refused
