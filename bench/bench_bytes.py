"""What an update moves, and what that takes: the constants of docs/costs.md.

    python bench/bench_bytes.py                             # float32 state
    python bench/bench_bytes.py --state float32 bfloat16 int8
    python bench/bench_bytes.py --peer torch --peer bitsandbytes
    python bench/bench_bytes.py --peer torchao --alone

Run it by itself and nothing beside it. Contestants take turns, each with arrays of its own
(float32), and are called a few times before the clock runs. Bytes are those that an update has to
read and write at least: the parameter and each array of state both, the gradient once. The stream
limit moves Adam's 28 bytes with one addition for each number that is written.

Sizes are multiples of 256, since torchao keeps other arrays in float32. torchao compiles its update
at the first call, which needs a C++ compiler. Its threads wait for work by spinning, and whoever
has the next turn waits with them (measured: fourteen times slower). So it has a process of its own.
"""

import argparse
from time import perf_counter

import numpy as np

import fastoptim as fo
from fastoptim.bench.cases import Case
from fastoptim.bench.contestants.stream import Stream
from fastoptim.bench.turns import Contestant, alternate

SIZES = {"1 M": 1 << 20, "50 M": 195_313 * 256}
BLOCK = 256  # elements of an array that share one scale of 4 bytes
STATES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0 + 4 / BLOCK}  # bytes of an element
RULES = {"SGD": (fo.SGD, 0), "Momentum": (fo.Momentum, 1), "Adam": (fo.Adam, 2)}
PEERS = ("torch", "bitsandbytes", "torchao")
LIMIT = "stream limit"
# So small a rate that parameters stay what they are, however often they are updated.
LR = 1e-6


def moved(slots, state):
    """Return the bytes of a parameter that an update reads and writes."""
    return 12 + 2 * slots * STATES[state]


def arrays(n):
    """Return parameters and gradients of one contestant."""
    case = Case("Adam", "float32", ((n,),))
    return case.arrays(0), case.arrays(1)


def ours(name, optimizer, n):
    """Return an optimizer of this library at work."""
    params, grads = arrays(n)
    return Contestant(name, lambda: optimizer.update(params, grads), (params, grads))


def peer(name, n):
    """Return Adam of another library at work: torch in float32, the others with 8 bits of state."""
    import torch

    torch.set_num_threads(fo.get_num_threads())
    p, g = (torch.from_numpy(of["k0"]) for of in arrays(n))
    param = torch.nn.Parameter(p)
    param.grad = g
    if name == "torch":
        optimizer = torch.optim.Adam([param], lr=LR, fused=True)
    elif name == "torchao":
        from torchao.optim import Adam8bit

        optimizer = Adam8bit([param], lr=LR)
    else:
        from bitsandbytes.optim import Adam8bit

        optimizer = Adam8bit([param], lr=LR)
    optimizer.step()
    return Contestant(name, optimizer.step, param)


def of_this_library(n, states):
    """Yield each contestant with the bytes of a parameter that it moves.

    Adam is there with every kind of state, the other rules with float32 alone.
    """
    yield ours(LIMIT, Stream(), n), moved(2, "float32")
    for name, (rule, slots) in RULES.items():
        for state in states if name == "Adam" else ("float32",):
            options = {} if state == "float32" else {"state_dtype": state}
            yield ours(f"{name}, {state}", rule(LR, **options), n), moved(slots, state)


def product():
    """Return how many floating-point operations NumPy's products make in a second, at best."""
    a, b = (np.random.default_rng(k).standard_normal((2048, 2048), np.float32) for k in (0, 1))
    best = float("inf")
    for _ in range(8):
        start = perf_counter()
        a @ b
        best = min(best, perf_counter() - start)
    return 2 * 2048**3 / best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--state", nargs="+", choices=list(STATES), default=["float32"], help="always with float32"
    )
    parser.add_argument("--peer", action="append", choices=PEERS, default=[])
    parser.add_argument("--alone", action="store_true", help="the peers, and nobody else")
    parser.add_argument("--size", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=15.0, help="at most for a size")
    parser.add_argument("--threads", type=int, default=fo.get_num_threads())
    arguments = parser.parse_args()
    fo.set_num_threads(arguments.threads, fixed=True)   # contestants in turn are no loop to learn
    print(f"{arguments.threads} threads\n")
    print("| size | contestant | ms | ns per parameter | bytes | GB/s | times Adam's time |")
    print("|---|---|---|---|---|---|---|")
    for size in arguments.size:
        n = SIZES[size]
        states = dict.fromkeys(["float32", *arguments.state])
        everyone = [] if arguments.alone else list(of_this_library(n, states))
        everyone += [(peer(name, n), None) for name in arguments.peer]
        figures = alternate([one for one, _ in everyone], arguments.seconds)
        adam = [figure.median for name, figure in figures.items() if name == "Adam, float32"]
        for one, of_each in everyone:
            figure = figures[one.name]
            t, doubt = figure.median, "" if figure.steady else "?"
            rate = "| | " if of_each is None else f"| {of_each:.3g} | {of_each * n / t / 1e9:.1f} "
            times = f"{t / adam[0]:.2f}×" if adam else ""
            print(
                f"| {size} | {one.name} | {t * 1e3:.3f}{doubt} | {t / n * 1e9:.3f} "
                f"{rate}| {times} |"
            )
        del everyone
    if not arguments.alone:
        print(f"\nproducts of 2048 × 2048: {product() / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
