"""Draw the way of an update, from the code, into CONTRIBUTING.md and the docstring of update/.

python docs/way.py            writes both
python docs/way.py --check    fails if either is not what the code says

The stations are the calls in `Engine.apply`, in the order of its lines. `check`, `may_go_on` and
`end` are parts of it, because a soft batch uses them too. The text beside a station is the first
sentence of its docstring.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
KERNELS = ROOT / "src" / "fastoptim" / "kernels"
UPDATE = KERNELS / "update"
ENGINE = UPDATE / "engine.pyx"
PARTS = "check", "may_go_on", "end"
PASSED = "Plan", "Record", "Call", "Detour", "Source", "Prelude"
WRITTEN = "╪═   before this line no array is written; after it nothing is refused"
WIDTH = 99
PAGE, DOCSTRING = ROOT / "CONTRIBUTING.md", UPDATE / "__init__.py"
MADE, END = "<!-- the way: made by docs/way.py -->\n", "<!-- the way ends -->\n"


# ------------------------------------------------ reading Cython


class Block(NamedTuple):
    """A line of code and the lines that are indented below it."""

    line: str
    blocks: list["Block"]


def text_of(path: Path) -> str:
    """Return a file's text."""
    return path.read_text("utf-8")


def file_of(name: str) -> Path:
    """Return the file of kernels/ or kernels/update/ that defines a class."""
    found = [
        path for path in (*KERNELS.glob("*.pyx"), *UPDATE.glob("*.pyx"))
        if re.search(rf"^cdef class {name}\b", text_of(path), re.MULTILINE)
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found)} files define the class {name}")
    return found[0]


def class_in(path: Path, name: str) -> str:
    """Return the text of a class."""
    found = re.search(rf"^cdef class {name}\b.*\n(?:[ \n].*\n|\n)*", text_of(path), re.MULTILINE)
    if found is None:
        raise LookupError(f"{path.name} has no class {name}")
    return found[0]


def function_in(text: str, name: str) -> re.Match[str] | None:
    """Find a function: its indent, its docstring's first sentence, its body."""
    return re.search(
        rf"^( *)(?:cdef|cpdef|def)\b[^\n(]*\b{name}\((?:[^()]|\(.*?\))*\)[^()\n]*:\n"
        r'(?: +"""(.*?)(?:\.\s.*?)?\.?""" *\n)?'
        r"((?:\1 +\S[^\n]*\n|\n)*)",
        text, re.MULTILINE | re.DOTALL,
    )


def sentence(text: str) -> str:
    """Return the first sentence of the first docstring."""
    found = re.search(r'"""(.*?)(?:\.?"""|\.\s|\n\n)', text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def blocks_of(lines: list[str]) -> list[Block]:
    """Return the tree that the indents of some lines make."""
    blocks: list[Block] = []
    while lines:
        indent = len(lines[0]) - len(lines[0].lstrip())
        n = 1
        while n < len(lines) and len(lines[n]) - len(lines[n].lstrip()) > indent:
            n += 1
        blocks.append(Block(lines[0].strip(), blocks_of(lines[1:n])))
        lines = lines[n:]
    return blocks


def attributes(*names: str) -> dict[str, str]:
    """Return which class each attribute of some classes has."""
    types: dict[str, str] = {}
    for name in names:
        declared = re.sub(" *#.*", "", class_in(file_of(name).with_suffix(".pxd"), name))
        for cls, listed in re.findall(
            r"^ +cdef (?:readonly |public )?([A-Z]\w+) (\w+(?:, \w+)*)$", declared, re.MULTILINE
        ):
            types |= dict.fromkeys(listed.split(", "), cls)
    return types


# ------------------------------------------------ the way


class Way:
    """The lines of the diagram, read from engine.pyx."""

    def __init__(self) -> None:
        self.engine = text_of(ENGINE)
        self.types = attributes("Stations", "Engine", "Call")
        self.types |= {"detour": "Detour", "source": "Source", "prelude": "Prelude"}
        self.visited = {"engine"}
        self.files = {}
        for package, listed in re.findall(
            r"^from fastoptim\.(kernels[\w.]*) cimport (.+)$", self.engine, re.MULTILINE
        ):
            path = ROOT / "src" / "fastoptim" / package.replace(".", "/")
            for name in listed.split(", "):
                file = path / name if path.is_dir() else path
                self.files[name] = file.with_suffix(".pyx")

    def station(self, owner: str, name: str) -> tuple[str, str] | None:
        """Return file.function and what it does, None for what is no station (len, say)."""
        if owner in self.types:
            path = file_of(self.types[owner])
            text = class_in(path, self.types[owner])
        elif owner == "self":
            path, text = ENGINE, self.engine
        elif (owner or name) in self.files:
            path = self.files[owner or name]
            text = text_of(path)
        else:
            return None
        found = function_in(text, name)
        if found is None or not found[2]:
            raise LookupError(f"{path.name} has no {name}, or not what it does")
        self.visited.add(path.stem)
        file = owner if owner == "source" else path.stem
        return f"{file}.{name}", " ".join(found[2].split())

    def drawn(self) -> Iterator[str]:
        """Yield the diagram, then what is passed, then the files that are no station."""
        yield "params, grads"
        yield "│"
        yield from self.part("apply", "", False)
        yield "╵"
        yield ""
        yield "│ in every update  ╎ only if an option, a detour, a number or a soft batch needs it"
        yield ""
        yield "Passed from station to station:"
        passed = {name: file_of(name) for name in PASSED}
        for name, path in passed.items():
            yield from described("", f"{name}, {path.name}", sentence(class_in(path, name)))
        yield ""
        yield "Beside the way:"
        for path in sorted([*UPDATE.glob("*.pyx"), UPDATE / "checks" / "__init__.py"]):
            if path.stem not in self.visited and path not in passed.values():
                name = path.name if path.parent == UPDATE else "checks/"
                yield from described("", name, sentence(text_of(path)))

    def part(self, name: str, stem: str, optional: bool) -> Iterator[str]:
        """Yield the lines for a function of the engine, called in every update or not."""
        found = function_in(self.engine, name)
        if found is None:
            raise LookupError(f"engine.pyx has no {name}")
        lines = [line for line in found[3].splitlines() if line.strip()]
        return self.walk(blocks_of(lines), stem, optional)

    def walk(self, blocks: list[Block], stem: str, optional: bool) -> Iterator[str]:
        """Yield the lines for some code; the stem is drawn to the left of them."""
        for block in blocks:
            line = block.line
            if line == "finally:":
                yield "╵"
                yield "in any case, at the end"
                yield "╷"
            if line == "with nogil:":
                yield from (stem + "│", stem + WRITTEN, stem + "│")
            for call in re.finditer(r"((?:\w+\.)*)(\w+)\(", line):
                owner, name = call[1].rstrip(".").split(".")[-1], call[2]
                only_if = optional or re.search(r"\b(or|and)\b", line[:call.start()]) is not None
                found = self.station(owner, name)
                if owner == "self" and name in PARTS and found is not None:
                    yield from described("├─╮", name, found[1])
                    yield from self.part(name, "│ ", only_if)
                    yield "├─╯"
                elif found is not None:
                    yield from described(stem + ("╎" if only_if else "│"), *found)
            chosen = line.startswith(("if ", "for "))
            if not stem and chosen and block.blocks[-1].line.startswith("return"):
                yield f"├──→ {block.blocks[-1].line}"
            else:
                yield from self.walk(block.blocks, stem, optional or chosen)


def described(mark: str, name: str, what: str) -> Iterator[str]:
    """Yield a name and what it says, in as many lines as it takes."""
    left = len(f"{mark:5}{name:22} ")
    first, *more = wrap(what, WIDTH - left)
    yield f"{mark:5}{name:22} {first}"
    for line in more:
        yield f"{mark.replace('├─╮', '│ │'):{left}}{line}"


# ------------------------------------------------ where it is written


def page(diagram: str) -> str:
    """Return CONTRIBUTING.md with the diagram between its two comments."""
    text = text_of(PAGE)
    parts = re.fullmatch(rf"(.*{MADE})(.*)({END}.*)", text, re.DOTALL)
    if parts is None:
        raise LookupError(f"{PAGE.name} has lost the comments around the diagram")
    return f"{parts[1]}```text\n{diagram}```\n{parts[3]}"


def docstring(diagram: str) -> str:
    """Return update/__init__.py, which is the diagram alone."""
    return f'"""One update: the stations that the keys of a dict pass.\n\n{diagram}"""\n'


def main() -> int:
    """Write both, or check them; return the exit status."""
    diagram = "".join(f"{line.rstrip()}\n" for line in Way().drawn())
    stale = [
        (path, text) for path, text in ((PAGE, page(diagram)), (DOCSTRING, docstring(diagram)))
        if text_of(path) != text
    ]
    for path, text in stale:
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is not what the code says: run python docs/way.py")
        else:
            path.write_text(text, "utf-8", newline="\n")
    return int("--check" in sys.argv[1:] and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
