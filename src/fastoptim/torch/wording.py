"""Messages about arrays, in the words of somebody who has tensors."""

import re
from collections.abc import Callable

KEY = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+)"""
# What stands in a message of an update, and what stands there for tensors; in this order.
WORDS = [
    (rf"(?:grads\[{KEY}\])(?:\.values)?\.astype\((?:np\.)?(\w+)\)", r"p.grad.to(torch.\2)"),
    (rf"params\[{KEY}\]\.astype\((?:np\.)?(\w+)\)", r"p.to(torch.\2)"),
    (rf"np\.ascontiguousarray\(params\[{KEY}\]\)", r"p.data = p.data.contiguous()"),
    (rf"grads\[{KEY}\](?:\.values|\.data)?", r"the gradient of parameter \1"),
    (rf"params\[{KEY}\]", r"parameter \1"),
    (
        r"convert the parameter or use a new optimizer",
        "convert the parameter back, or make the optimizer anew of model.parameters()",
    ),
    (
        r"use another key or a new optimizer",
        "give it a tensor of this shape, or make the optimizer anew of model.parameters()",
    ),
    (
        rf"the state of ((?:{KEY[1:-1]}) should have .* as its .*)",
        r"the state of \1; it is of another model, or of one whose parameters had another order",
    ),
    (rf"the state of {KEY}", r"the state of parameter \1"),
    (r"opt\.(averaged|evaluation)\(params\)", r"opt.\1()"),
    (
        r"pass a copy$",
        "give it memory of its own: p.data = p.data.clone()",
    ),
    (
        r"pass a copy as the gradient",
        "give one memory of its own: p.grad = p.grad.clone()",
    ),
    (
        r"keep one key per array \(for tied weights: one key, the sum of the gradients\)",
        "give the optimizer one of them, or each its own memory: p.data = p.data.clone()",
    ),
]


def in_torchs_words(
    problem: Exception, slot: Callable[[str], str] | None = None
) -> None:
    """Let an exception of an update name tensors, and what is done with tensors.

    `slot` returns PyTorch's name of what a rule keeps, where a message says it.
    """
    if not problem.args or not isinstance(problem.args[0], str):
        return
    text = problem.args[0]
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    if slot is not None:
        text = re.sub(r"(?<= as its )\w+", lambda found: repr(slot(found[0])), text)
    problem.args = (text, *problem.args[1:])
