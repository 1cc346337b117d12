"""The pictures in their order, and what drawing one gives."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

NAMES = (
    "rates",
    "friction",
    "ramp",
    "changed_rate",
    "rules_valley",
    "rules_rosenbrock",
    "rules_bowl",
    "lookahead",
    "flow",
    "speedup",
    "soft_batch",
    "two_minima",
    "step_sizes",
    "falling_rate",
    "bias_correction",
    "reddi",
    "digits",
    "digits_flow",
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
    return Drawn(name, *words(module, numbers), code(module), tuple(files))


def words(module: ModuleType, numbers: Mapping[str, object]) -> tuple[str, str]:
    """Return the title and the caption of a picture; numbers get the minus sign of the formulas."""
    title, _, text = inspect.cleandoc(module.__doc__ or "").partition("\n")
    caption = text.strip().format(**numbers)
    return title.removesuffix("."), re.sub(r"(?<!\w)-(?=\d)", "−", caption)


def code(module: ModuleType) -> str:
    """Return the code that makes a picture, as a script: the module without its docstring."""
    text = inspect.getsource(module)
    _, _, body = text.partition('"""')[2].partition('"""')
    name = module.__name__.rpartition(".")[2]
    lines = [body.strip(), "", "", "figure, numbers = draw()", f'figure.savefig("{name}.png")']
    if hasattr(module, "animate"):
        lines.append(f'animate().save("{name}.gif", writer="pillow")')
    return "\n".join(lines)
