"""From the lines of a rule's body to what the driver runs; the only place that knows numba.

Nothing is reordered or contracted (``fastmath`` is off), so the bits are NumPy's. Measured with
numba 0.68 (Adam, 100,000 to 50 M elements, both dtypes, one and two threads): an update takes 0.90
to 1.20 of the time of the built-in, whose loop gcc compiled; see bench/README.md.
"""

import contextlib
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastoptim.custom import cache, functions
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


@dataclass(frozen=True)
class Loop:
    """A rule's loop for one dtype."""

    address: int
    library: Any  # numba's, which has the code


def capsule(name: str, body: Body, slots: int) -> object:
    """Compile a rule's loop for float32 and float64, as a capsule that the driver runs."""
    loops = [loop(body, slots, dtype) for dtype in (np.float32, np.float64)]
    f32, f64 = (one.address for one in loops)
    return foreign_rule(name.encode(), slots, len(body.coefficients), f32, f64, loops)


def loop(body: Body, slots: int, dtype: type[np.floating[Any]]) -> Loop:
    """Return a rule's loop for one dtype: a function of the signature in kernels/rule.pxd.

    It comes from the cache if it is there.
    """
    nb = numba()
    lines = lines_of(body, slots)
    numbers = body.constants | {"zero": 0.0, "one": 1.0, "minus_one": -1.0, "inf": np.inf}
    key = None
    # What numba has inside may be otherwise in another version; then there is no cache.
    with contextlib.suppress(Exception):
        place = cache.folder(nb.config.CACHE_DIR)
        key = cache.key_of(lines, numbers, dtype.__name__, made_with(nb))
        entry = cache.load(place, key)
        if entry is not None:
            return loaded(nb, key, *entry)
    names = functions.NAMES | {name: dtype(x) for name, x in numbers.items()}
    names["apart"] = apart(nb)
    # All code that numba makes in a process has one table of symbols, so the key is in their names.
    span = f"span_{key or uuid.uuid4().hex}"
    result = compiled(nb, defined(span, [f"def {span}{lines[0]}", *lines[1:]], names), slots, dtype)
    with contextlib.suppress(Exception):
        if key is not None:
            _, _, parts = result.library.serialize_using_object_code()
            cache.store(place, key, *parts)
    return result


def lines_of(body: Body, slots: int) -> list[str]:
    """Return the lines of a rule's loop, the first from behind its name."""
    arrays = ["p", "g", *(f"s{k}" for k in range(slots))]
    return [
        f"({', '.join(arrays)}, c, n):",
        "    apart()",
        *(f"    {c} = c[{k}]" for k, c in enumerate(body.coefficients.values())),
        "    for i in range(n):",
        *(f"        {a}_i = {a}[i]" for a in arrays),
        *(f"        {line}" for line in body.lines),
        *(
            f"        {a}[i] = {x}"
            for a, x in zip([a for a in arrays if a != "g"], body.results, strict=True)
        ),
    ]


def compiled(nb: Any, span: Any, slots: int, dtype: type[np.floating[Any]]) -> Loop:
    """Compile a function of the state's arrays, one by one, and put a C function around it.

    Not numba's own ``cfunc``, whose code for exceptions, which no loop raises, needs numba's whole
    runtime when it is loaded from a file: 40 ms instead of 2.
    """
    from llvmlite import ir
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    floating = nb.from_dtype(np.dtype(dtype))
    pointer, size = nb.types.CPointer(floating), nb.types.intp
    types = [pointer] * (2 + slots) + [pointer, size]
    span = nb.njit(
        nb.types.void(*types), error_model="numpy", fastmath=False, no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(span)
    (inner,) = span.overloads.values()
    context = cpu_target.target_context
    with global_compiler_lock:
        name = f"rule_{span.__name__}"
        library = context.codegen().create_library(name)
        module = library.create_ir_module(name)
        arrays, length = context.get_value_type(pointer), context.get_value_type(size)
        given = [arrays, arrays, arrays.as_pointer(), arrays, length]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), given), name)
        p, g, s, c, n = function.args
        builder = ir.IRBuilder(function.append_basic_block())
        state = [builder.load(builder.gep(s, [ir.Constant(length, k)])) for k in range(slots)]
        context.call_conv.call_function(
            builder, context.declare_function(module, inner.fndesc), nb.types.none, types,
            [p, g, *state, c, n],
        )
        builder.ret_void()
        library.add_ir_module(module)
        library.add_linking_library(inner.library)
        library.enable_object_caching()
        library.finalize()
        return Loop(library.get_pointer_to_function(name), library)


def loaded(nb: Any, key: str, code: bytes, bitcode: bytes) -> Loop:
    """Return a loop from the cache. Of a function that is nowhere LLVM would end the process."""
    from llvmlite import binding
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    with global_compiler_lock:
        codegen = cpu_target.target_context.codegen()
        declared = [f.name for f in binding.parse_bitcode(bitcode).functions if f.is_declaration]
        for name in declared:
            if not name.startswith("llvm.") and binding.address_of_symbol(name) is None:
                raise LookupError(name)
        name = f"rule_span_{key}"
        library = codegen.unserialize_library((name, "object", (code, bitcode)))
        return Loop(library.get_pointer_to_function(name), library)


def made_with(nb: Any) -> tuple[object, ...]:
    """Return what compiled code depends on besides its lines: versions, processor, settings."""
    import llvmlite
    from numba.core.registry import cpu_target

    of_place = {"CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_DEFAULT_NUM_THREADS"}
    settings = {
        name: str(value) for name, value in vars(nb.config).items()
        if name.isupper() and name not in of_place
    }
    versions = [x.__version__ for x in (nb, llvmlite, np)]
    return (
        Path(__file__).read_bytes(), sorted((name, repr(f)) for name, f in functions.NAMES.items()),
        versions, sys.version, cpu_target.target_context.codegen().magic_tuple(),
        sorted(settings.items()),
    )


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
