"""`fastoptim.torch` imported where PyTorch is not installed, so that its docstrings can be read.

Sphinx's own stand-ins cannot be used in annotations such as ``torch.Tensor | None``.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class AbsentClass(type):
    """A class of PyTorch's, whose methods may be named; those derived from it are as any others."""

    def __getattr__(cls, name: str) -> Any:
        """Return a stand-in for a method."""
        if name.startswith("__") or "absent" not in vars(cls):
            raise AttributeError(name)
        return Absent(name)


class Absent(ModuleType):
    """A module, a dtype or a decorator: a name with a capital in it is a class."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Return a stand-in, the same each time."""
        if name.startswith("__"):
            raise AttributeError(name)
        made = AbsentClass(name, (), {"absent": True}) if name[0].isupper() else Absent(name)
        setattr(self, name, made)
        return made

    def __call__(self, decorated: Any) -> Any:
        """Return what would be decorated."""
        return decorated


class Finder(MetaPathFinder, Loader):
    """Makes such a module of every import of PyTorch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return what is to be imported."""
        of_torch = name.partition(".")[0] == "torch"
        return ModuleSpec(name, self, is_package=True) if of_torch else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a stand-in."""
        return Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it as it is."""


def import_it() -> None:
    """Import `fastoptim.torch` with PyTorch, or else with stand-ins, which are then taken away."""
    finder = Finder()
    if find_spec("torch") is None:
        sys.meta_path.insert(0, finder)
    try:
        import fastoptim.torch  # noqa: F401
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
                del sys.modules[name]
