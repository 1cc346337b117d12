"""The source of a function: its syntax tree, if that is still what runs."""

import ast
import linecache
from inspect import Signature, signature
from types import CodeType, FunctionType
from typing import Any


def definition_of(fn: FunctionType) -> ast.FunctionDef:
    """Return the syntax tree of a function, with the line numbers of its file."""
    code, name = fn.__code__, fn.__name__
    if name == "<lambda>":
        raise ValueError(
            f"a rule calls functions made by def; {code.co_filename} line {code.co_firstlineno} "
            f"has a lambda"
        )
    linecache.checkcache(code.co_filename)
    # not inspect.getsource, which does not find what doctest and some notebooks keep
    text = "".join(linecache.getlines(code.co_filename, fn.__globals__))
    try:
        tree = ast.parse(text)
    except SyntaxError as problem:
        raise ValueError(
            f"{name}: {code.co_filename} is no longer what was run: {problem}"
        ) from problem
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno and compiles_to(tree, code):
                return node
    raise ValueError(
        f"{name}: its source cannot be read from {code.co_filename} line {code.co_firstlineno}; "
        f"a rule must be written in a file or a notebook that has not changed since it was run"
    )


def own_signature(fn: FunctionType) -> Signature:
    """Return the signature of the function whose body is walked, not of one that it wraps."""
    return signature(fn, follow_wrapped=False)


def compiles_to(tree: ast.Module, code: CodeType) -> bool:
    """Whether a function of a module's tree has this code: it has not been edited since."""
    top_level_await = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # in a notebook's cell
    waiting = [compile(tree, code.co_filename, "exec", top_level_await, dont_inherit=True)]
    for outer in waiting:
        waiting += [x for x in outer.co_consts if isinstance(x, CodeType)]
    return any(contents(one) == contents(code) for one in waiting)


def contents(code: CodeType) -> tuple[Any, ...]:
    """Return what of a code object says where it stands and what it does, without positions."""
    constants = [repr(x) for x in code.co_consts if not isinstance(x, CodeType)]
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_firstlineno, code.co_code, constants, *names
