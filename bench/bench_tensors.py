"""What the options cost that look at tensors as a whole, over the same rule without them.

Run it by itself and nothing beside it: ``python bench/bench_tensors.py``. The rule with an option
and the rule without take turns, each with arrays of its own (float32); a ratio is that of the
medians, and a question mark is behind one whose turns do not agree. ``--optax`` measures LAMB
beside `optax.lamb`, compiled and with donated buffers, which has a process of its own, so that no
thread pool of one is awake in the other's turn.
"""

import argparse
import json
import subprocess
import sys
from time import perf_counter

from tqdm import tqdm

import fastoptim as fo
from fastoptim.bench.cases import Case
from fastoptim.bench.figures import FEWEST, Figure
from fastoptim.bench.turns import SECONDS, Contestant, alternate, turn

LAYERS = ((256, 256), (256,)) * 12
CASES = {
    "1 M": ((1_000_000,),),
    "50 M": ((50_000_000,),),
    "12 × (256² + 256)": LAYERS,
    "784-100-10": ((784, 100), (100,), (100, 10), (10,)),
}
# So small a rate that parameters stay what they are, however often they are updated.
LR = 1e-6

# name → the rule without, the rule with
OPTIONS = {
    "clip_norm": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, clip_norm=1.0)),
    "clip_norm_per_key": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, clip_norm_per_key=1.0)),
    "agc": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, agc=0.01)),
    "centralize": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, centralize=True)),
    "trust_ratio": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, trust_ratio=True)),
    "LAMB beside AdamW": (lambda: fo.AdamW(LR), lambda: fo.LAMB(LR)),
    "LARS beside Momentum": (lambda: fo.Momentum(LR), lambda: fo.LARS(LR)),
    "MaxNorm(1)": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, constraint=fo.MaxNorm(1.0))),
    "nonnegative": (lambda: fo.Adam(LR), lambda: fo.Adam(LR, constraint="nonnegative")),
}


def contestant(name, optimizer, shapes):
    """Return an optimizer with arrays of its own."""
    case = Case("Adam", "float32", tuple(shapes))
    params, grads = case.arrays(0), case.arrays(1)
    return Contestant(name, lambda: optimizer.update(params, grads), (params, grads))


def ratio(option, shapes, seconds):
    """Return how many times the time of the bare rule an option takes, as text."""
    bare, full = (make() for make in OPTIONS[option])
    everyone = [contestant("bare", bare, shapes), contestant("full", full, shapes)]
    figures = alternate(everyone, seconds)
    steady = all(figure.steady for figure in figures.values())
    return f"{figures['full'].median / figures['bare'].median:.2f}×{'' if steady else '?'}"


# ---------------------------------------------------------------- beside Optax


def optax_lamb(shapes):
    """Return optax.lamb with arrays of its own, compiled; parameters and state are donated."""
    import jax
    import optax

    case = Case("Adam", "float32", tuple(shapes))
    rule = optax.lamb(LR, weight_decay=0.01)
    params, grads = (
        {key: jax.numpy.asarray(a) for key, a in case.arrays(seed).items()} for seed in (0, 1)
    )

    def update(params, state, grads):
        steps, state = rule.update(grads, state, params)
        return optax.apply_updates(params, steps), state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    now = [params, rule.init(params)]

    def call():
        now[:] = jax.block_until_ready(compiled(*now, grads))

    return Contestant("optax.lamb", call)


def serve():
    """Make a turn for each line that comes, and answer with its readings."""
    theirs = optax_lamb(LAYERS)
    for _ in sys.stdin:
        print(json.dumps(turn(theirs, perf_counter, SECONDS)), flush=True)


def beside_optax(seconds):
    """Return the figures of fo.LAMB and optax.lamb, which take turns in two processes."""
    ours = contestant("fo.LAMB", fo.LAMB(LR), LAYERS)
    turns = {"fo.LAMB": [], "optax.lamb": []}
    command = [sys.executable, __file__, "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as child:
        def theirs():
            child.stdin.write("turn\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        theirs()                                # it is compiled at the first
        start = perf_counter()
        while len(turns["fo.LAMB"]) < FEWEST or perf_counter() - start < seconds:
            turns["fo.LAMB"].append(turn(ours, perf_counter, SECONDS))
            turns["optax.lamb"].append(theirs())
        child.stdin.close()
    return {name: Figure.of(seen) for name, seen in turns.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="at most for a ratio")
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--option", choices=list(OPTIONS), action="append")
    parser.add_argument("--threads", type=int, default=fo.get_num_threads())
    parser.add_argument("--optax", action="store_true", help="only LAMB, beside optax.lamb")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    # Contestants in turn are no loop to learn from.
    fo.set_num_threads(arguments.threads, fixed=True)
    if arguments.optax:
        figures = beside_optax(arguments.seconds)
        for name, figure in figures.items():
            print(f"{name}: {figure.median * 1e6:,.0f} µs{'' if figure.steady else '?'}")
        print(f"{figures['optax.lamb'].median / figures['fo.LAMB'].median:.2f}×")
        return
    cases, options = arguments.case or list(CASES), arguments.option or list(OPTIONS)
    rows = []
    with tqdm(total=len(cases) * len(options), unit="ratio", file=sys.stderr) as bar:
        for option in options:
            rows.append([option])
            for case in cases:
                rows[-1].append(ratio(option, CASES[case], arguments.seconds))
                bar.update()
    print("| option | " + " | ".join(cases) + " |")
    print("|---|" + "---|" * len(cases))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
