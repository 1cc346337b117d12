"""From the lines of a rule's body to what the driver runs; the only place that knows numba.

Nothing is reordered or contracted (``fastmath`` is off), so the bits are NumPy's. Measured with
numba 0.68 (Adam, 100,000 to 50 M elements, both dtypes, one and two threads): an update takes 0.90
to 1.20 of the time of the built-in, whose loop gcc compiled; see bench/README.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastoptim.custom import functions
from fastoptim.custom.body import Body
from fastoptim.kernels.api import foreign_rule

Numbers = Callable[..., tuple[float, ...]]


def numba() -> Any:
    """Return numba, which only rules of the user's own need."""
    try:
        import numba
    except ImportError as problem:
        raise ImportError(
            f"a rule of your own is compiled by numba, which cannot be imported ({problem}): "
            f"pip install 'fastoptim[custom]'"
        ) from problem
    if getattr(numba.config, "DISABLE_JIT", 0):
        raise RuntimeError("NUMBA_DISABLE_JIT is set: without numba's compiler there are no rules")
    return numba


def capsule(name: str, body: Body, slots: int) -> object:
    """Compile a rule's loop for float32 and float64, as a capsule that the driver runs."""
    loops = [loop(body, slots, dtype) for dtype in (np.float32, np.float64)]
    f32, f64 = (one.address for one in loops)
    return foreign_rule(name.encode(), slots, len(body.coefficients), f32, f64, loops)


def loop(body: Body, slots: int, dtype: type[np.floating[Any]]) -> Any:
    """Compile a rule's loop for one dtype: a function of the signature in kernels/rule.pxd."""
    nb = numba()
    state = [f"s{k}" for k in range(slots)]
    arrays = ["p", "g", *state]
    inner = [
        f"def span({', '.join(arrays)}, c, n):",
        "    apart()",
        *(f"    {c} = c[{k}]" for k, c in enumerate(body.coefficients.values())),
        "    for i in range(n):",
        *(f"        {a}_i = {a}[i]" for a in arrays),
        *(f"        {line}" for line in body.lines),
        *(
            f"        {a}[i] = {x}"
            for a, x in zip(["p", *state], body.results, strict=True)
        ),
    ]
    slot = "".join(f"s[{k}], " for k in range(slots))
    outer = ["def rule(p, g, s, c, n):", f"    span(p, g, {slot}c, n)"]
    numbers = body.constants | {"zero": 0.0, "one": 1.0, "minus_one": -1.0, "inf": np.inf}
    names = functions.NAMES | {name: dtype(x) for name, x in numbers.items()}
    names["apart"] = apart(nb)
    compiler = {"error_model": "numpy", "fastmath": False}
    names["span"] = nb.njit(defined("span", inner, names), **compiler)
    pointer = nb.types.CPointer(nb.from_dtype(np.dtype(dtype)))
    signature = nb.types.void(
        pointer, pointer, nb.types.CPointer(pointer), pointer, nb.types.intp
    )
    return nb.cfunc(signature, **compiler)(defined("rule", outer, names))


def apart(nb: Any) -> Any:
    """Return a function that tells LLVM: the pointers given to its caller do not overlap.

    Otherwise its code checks each pair of arrays at each span. Measured on spans of 16 and 64
    elements: nothing with one state array, with six 9 to 50 % more time.
    """
    from numba.extending import intrinsic

    @intrinsic
    def told(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            for argument in builder.function.args:
                if argument.type.is_pointer:
                    argument.add_attribute("noalias")
            return context.get_dummy_value()

        return nb.types.none(), generate

    return told


def defined(name: str, lines: list[str], names: dict[str, Any]) -> Any:
    """Return the function that lines of Python define."""
    exec(compile("\n".join(lines), f"<{name} of a fastoptim rule>", "exec"), names)
    return names[name]


def numbers_of(body: Body) -> Numbers:
    """Return the function that computes a step's coefficients, in double, from its numbers."""
    lines = [
        f"def numbers({', '.join(body.inputs.values())}):",
        *(f"    {line}" for line in body.numbers),
        f"    return ({''.join(f'{name}, ' for name in body.coefficients)})",
    ]
    function = defined("numbers", lines, dict(body.objects))

    def numbers(*values: float) -> tuple[float, ...]:
        try:
            result: tuple[float, ...] = function(*values)
            return result
        except Exception as problem:
            trace = problem.__traceback__
            while trace is not None and trace.tb_frame.f_code is not function.__code__:
                trace = trace.tb_next
            if trace is not None and trace.tb_lineno >= 2:
                problem.add_note(f"in {body.rule}, {body.places[trace.tb_lineno - 2]}")
            raise

    return numbers
