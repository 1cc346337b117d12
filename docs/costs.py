"""What updates cost on paper: the tables of docs/costs.md that are computed, and its picture.

python docs/costs.py            writes both
python docs/costs.py --check    fails if the page has other tables than these

Bytes are those of one parameter, seconds those of one parameter on one machine. The constants are
of `bench/bench_bytes.py`, but for the networks, which are assumed.
"""

import re
import sys
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

import rule_pages

from fastoptim.plot import style

HERE = Path(__file__).parent
PAGE, PICTURE = HERE / "costs.md", HERE / "images" / "costs.png"
PART = re.compile(
    r"(<!-- docs/costs\.py: ([a-z ]+) -->\n).*?(<!-- docs/costs\.py ends -->\n)", re.DOTALL
)

MEMORY = 54.6e9     # bytes in a second: the stream limit of two threads at 50 M parameters
PRODUCTS = 309e9    # floating-point operations in a second of NumPy's products of 2048 × 2048
NETWORKS = {"10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}  # bytes in a second, each way; assumed
MACHINES = tuple(2**k for k in range(11))

FLOAT, HALF, BLOCK = 4, 2, 256
STATES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1 + FLOAT / BLOCK}   # bytes of an element
ADAM = 2            # arrays of state


# ------------------------------------------------ what is computed


def int8_bytes(columns: int) -> float:
    """Return the bytes of an element of int8 state in rows of so many: no block spans two rows."""
    return 1 + FLOAT * ceil(columns / BLOCK) / columns


def of_memory(machines: int, state: str = "float32") -> float:
    """Return the bytes that each machine's memory moves for one parameter of Adam.

    One machine reads and writes the parameter and its state, and reads the gradient. One of several
    does so for its share, after it has read that share of everyone's gradients and written the sum.
    """
    update = 3 * FLOAT + 2 * ADAM * STATES[state]
    return update if machines == 1 else update / machines + FLOAT + FLOAT / machines


def of_network(machines: int) -> float:
    """Return the bytes that each machine sends, and receives, for one parameter.

    Reduce_scatter of gradients and Allgather of parameters send all but a machine's own share.
    """
    return 2 * FLOAT * (machines - 1) / machines


def seconds(machines: int, rate: float, state: str = "float32") -> float:
    """Return how long an update takes for each parameter, memory and network side by side."""
    return max(of_memory(machines, state) / MEMORY, of_network(machines) / rate)


def least_batch(machines: int, rate: float) -> int:
    """Return the smallest batch for which several machines make a step faster than one.

    A dense layer's forward product and its two backward products are 6 operations for each
    parameter and example, of which each machine has its share.
    """
    more = seconds(machines, rate) - seconds(1, rate)
    saved_by_example = 6 / PRODUCTS * (1 - 1 / machines)
    return max(1, ceil(more / saved_by_example))


# ------------------------------------------------ the tables


def lines(columns: str, *rows: list[str]) -> str:
    """Return rows as a table, the first being its head: columns are texts (t) or numbers (n)."""
    head, *rest = rows
    ruler = [{"t": "---", "n": "---:"}[column] for column in columns]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ruler, *rest))


def number(x: float) -> str:
    """Return bytes with as many digits as they need, two at most."""
    return f"{x:.2f}".rstrip("0").rstrip(".")


def of_state(cls: type, slots: tuple[str, ...], state: str, vectors: int) -> str:
    """Return the bytes of a rule's state, a dash where one of its arrays refuses to be kept so."""
    if state == "float32":
        return number((len(slots) - vectors) * STATES[state])
    declared = [getattr(cls, slot) for slot in slots]
    if any(slot.exact or (state == "int8" and slot.not_in_8_bits) for slot in declared):
        return "–"
    kept = sum(FLOAT if slot.whole else STATES[state] for slot in declared)
    return number(kept - FLOAT * vectors)


def rules() -> str:
    """Return which rules keep how many bytes for each parameter."""
    found: dict[tuple[str, ...], list[str]] = {}
    for cls in rule_pages.rules():
        if rule_pages.is_method(cls):
            continue
        # of a matrix two arrays have a number for each row or column alone, kept as they are
        several = [(kernel, slots, 0) for kernel, slots in cls.kernels.items()]
        several += [(kernel, slots, 2) for kernel, slots in cls.factored.items()]
        for kernel, slots, vectors in several:
            sizes = tuple(of_state(cls, slots, state, vectors) for state in STATES)
            name = cls.__name__ if kernel == next(iter(cls.kernels)) else f"`{kernel}`"
            found.setdefault(sizes, []).append(f"{name} (matrices)" if vectors else name)
    return lines("nnnt", [*STATES, "rules"], *(
        [*sizes, ", ".join(dict.fromkeys(names))]
        for sizes, names in sorted(found.items(), key=lambda one: float(one[0][0]))
    ))


def settings() -> str:
    """Return what Adam's parameters take in memory, each setting beside the others."""
    rows: list[tuple[str, float, float, float]] = [
        ("float32", FLOAT, FLOAT, ADAM * STATES["float32"]),
        ('`state_dtype="bfloat16"`', FLOAT, FLOAT, ADAM * STATES["bfloat16"]),
        ('`state_dtype="int8"`', FLOAT, FLOAT, ADAM * STATES["int8"]),
        ("16-bit arrays, `master=True`", HALF, HALF, FLOAT + ADAM * STATES["float32"]),
        ('16-bit arrays, `master=True`, `state_dtype="int8"`', HALF, HALF,
         FLOAT + ADAM * STATES["int8"]),
        ("16-bit arrays, `master=False`", HALF, HALF, ADAM * STATES["float32"]),
        ('16-bit arrays, `master=False`, `state_dtype="int8"`', HALF, HALF, ADAM * STATES["int8"]),
        ("float32, gradient as `fo.Product`", FLOAT, 0, ADAM * STATES["float32"]),
        ('`state_dtype="int8"`, gradient as `fo.Product`', FLOAT, 0, ADAM * STATES["int8"]),
    ]
    return lines("tnnnn", ["Adam", "parameter", "gradient", "state", "together"], *(
        [name, *map(number, (p, g, s, p + g + s))] for name, p, g, s in rows
    ))


def rows() -> str:
    """Return what int8 state takes where rows are short or do not fill their last block."""
    columns = 1, 4, 16, 64, 100, 256, 257, 784, 1024
    return lines(
        "t" + "n" * len(columns),
        ["elements of a row", *(f"{n:,}" for n in columns)],
        ["bytes of an element", *(number(int8_bytes(n)) for n in columns)],
    )


def machines() -> str:
    """Return bytes and times of an update of Adam on so many machines."""
    head = ["machines", "state, float32", "int8", "memory, ns", "int8, ns"]
    head += [f"{what}, {name}" for name in NETWORKS for what in ("update, ns", "least batch")]
    table = [head]
    for n in MACHINES:
        row = [f"{n:,}", *(f"{ADAM * STATES[of] / n:.3g}" for of in ("float32", "int8"))]
        row += [f"{of_memory(n, state) / MEMORY * 1e9:.3f}" for state in ("float32", "int8")]
        for rate in NETWORKS.values():
            row.append(f"{seconds(n, rate) * 1e9:.3f}")
            row.append("" if n == 1 else f"{least_batch(n, rate):,}")
        table.append(row)
    return lines("n" * len(head), *table)


TABLES: dict[str, Callable[[], str]] = {
    "rules": rules, "settings": settings, "rows": rows, "machines": machines,
}


# ------------------------------------------------ the picture


def curves() -> Iterator[tuple[str, list[float]]]:
    """Yield the name of each curve and its nanoseconds, machine by machine."""
    for state in ("float32", "int8"):
        yield f"memory, {state} state", [of_memory(n, state) / MEMORY * 1e9 for n in MACHINES]
    for name, rate in NETWORKS.items():
        yield f"update, {name}", [seconds(n, rate) * 1e9 for n in MACHINES]


def draw() -> None:
    """Draw the time of an update against the number of machines."""
    ax = style.axes(None)
    for k, (name, values) in enumerate(curves()):
        ax.plot(MACHINES, values, label=name, **style.style(k))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(MACHINES, [f"{n:,}" for n in MACHINES])
    ax.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()
    ax.grid(color=style.GRID)
    ax.set_axisbelow(True)
    ax.set_xlabel("machines")
    ax.set_ylabel("ns for each parameter")
    ax.set_title("Adam, sharded: what an update takes on paper")
    ax.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.69))
    ax.figure.savefig(PICTURE, dpi=100, metadata={"Software": None})


# ------------------------------------------------ where it is written


def page(text: str) -> str:
    """Return the page with every table as it is computed."""
    names = [found[2] for found in PART.finditer(text)]
    if names != list(TABLES):
        raise LookupError(f"{PAGE.name} must have the tables {list(TABLES)}, it has {names}")
    return PART.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> int:
    """Write page and picture, or check the page; return the exit status."""
    text = PAGE.read_text("utf-8")
    made = page(text)
    if "--check" in sys.argv[1:]:
        if made != text:
            print("docs/costs.md has other tables than these: run python docs/costs.py")
        return int(made != text)
    PAGE.write_text(made, "utf-8", newline="\n")
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
