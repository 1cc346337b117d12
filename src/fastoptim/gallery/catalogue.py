"""The pictures in their order, and what drawing one gives."""

import inspect
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

NAMES = (
    "rates",
)


@dataclass(frozen=True)
class Drawn:
    """A picture that lies in a folder: its files, and what is written beside it."""

    name: str
    title: str
    caption: str
    code: str
    files: tuple[str, ...]


def draw(name: str, folder: Path) -> Drawn:
    """Draw one picture into a folder."""
    module = import_module(f"fastoptim.gallery.pictures.{name}")
    figure, numbers = module.draw()
    files = [f"{name}.png"]
    figure.savefig(folder / files[0], dpi=100)
    if hasattr(module, "animate"):
        files.append(f"{name}.gif")
        module.animate().save(folder / files[1], writer="pillow", dpi=80)
    title, _, text = inspect.cleandoc(module.__doc__ or "").partition("\n")
    return Drawn(
        name, title.removesuffix("."), text.strip().format(**numbers), code(module), tuple(files)
    )


def code(module: ModuleType) -> str:
    """Return the code that makes a picture, as a script: the module without its docstring."""
    text = inspect.getsource(module)
    _, _, body = text.partition('"""')[2].partition('"""')
    name = module.__name__.rpartition(".")[2]
    lines = [body.strip(), "", "", "figure, numbers = draw()", f'figure.savefig("{name}.png")']
    if hasattr(module, "animate"):
        lines.append(f'animate().save("{name}.gif", writer="pillow")')
    return "\n".join(lines)
