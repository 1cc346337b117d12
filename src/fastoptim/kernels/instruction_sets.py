"""Which compiled kernels run: those for the best instruction set, or for one that is named.

The rules and passes are compiled once per instruction set. ``FASTOPTIM_ISA`` names another than the
best one that was built and that this processor has. All give the same bits.
"""

import os
from importlib import import_module
from importlib.util import find_spec

from fastoptim.kernels import api, cpu

RULES: dict[str, object] = {}  # name → capsule: what `use` chose
PASSES: dict[str, object] = {}  # the same for the kernels that are no rules
CODECS: dict[str, object] = {}  # and for those that decode and encode numbers


def module_name(isa: str) -> str:
    """Return the name of the module with the kernels for an instruction set."""
    return "fastoptim.kernels.rules" if isa == "baseline" else f"fastoptim.kernels.rules_{isa}"


def available_isas() -> list[str]:
    """Return the instruction sets that were built and that this processor has, plainest first."""
    # The processor first: the start-up code of an AVX2 module contains AVX2 instructions.
    return [isa for isa in cpu.instruction_sets() if find_spec(module_name(isa))]


def chosen_isa() -> str:
    """Return the instruction set to use: the best, or what FASTOPTIM_ISA says."""
    isas = available_isas()
    isa = os.environ.get("FASTOPTIM_ISA") or isas[-1]
    if isa not in isas:
        raise ValueError(
            f"FASTOPTIM_ISA must be one of baseline, avx2, avx512, of which this machine and "
            f"this build have {', '.join(isas)}; got {isa!r}"
        )
    return isa


def use(isa: str) -> None:
    """Let everything that is made from now on run the kernels for an instruction set."""
    module = import_module(module_name(isa))
    RULES.update(module.RULES)
    PASSES.update(module.PASSES)
    CODECS.update(module.CODECS)
    api.publish(RULES)
