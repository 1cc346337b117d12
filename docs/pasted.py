"""Examples that can be pasted into Python's own prompt: there a loop ends at an empty line."""

import re

COMPOUND = re.compile(r">>> (?:async|class|def|for|if|try|while|with|@)\b")
EXAMPLE = re.compile(r"^( *)>>> .*\n(?:\1\.\.\..*\n)+", re.MULTILINE)


def ended(code: str) -> str:
    """Return examples with ``...`` after each block that more examples follow."""
    def end(found: re.Match[str]) -> str:
        block, indent = found[0], found[1]
        last = ">>> " not in code[found.end():] or block.endswith(f"\n{indent}...\n")
        return block if last or not COMPOUND.match(block.lstrip()) else f"{block}{indent}...\n"

    return EXAMPLE.sub(end, code)
