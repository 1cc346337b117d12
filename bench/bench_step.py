"""The whole training step of networks written by hand, beside those of torch and JAX.

Run it by itself and nothing beside it: ``python bench/bench_step.py``. torch and JAX take part if
they can be imported. The figures are medians of a step in µs, in brackets those of the update.

 a) NumPy's contestants share a process and take turns, so that all of them see the same machine.
    A turn begins when the threads of the turn before sleep (OpenBLAS's spin for 25 ms), and its
    first steps, in which memory is touched and counts of threads are learned, do not count.
 b) torch and JAX have processes of their own, which alternate with NumPy's, because each starts
    threads that would be in the others' way.
 c) "alone, OpenBLAS on one thread" and "beside a busy process per processor" are the surroundings
    that people have who see other figures than ours.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import cycle, pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

NETWORKS = {
    "784-100-10, 100": ([784, 100, 10], 100),
    "784-100-10, 10": ([784, 100, 10], 10),
    "784-512-512-10, 100": ([784, 512, 512, 10], 100),
    "784-2048-2048-10, 32": ([784, 2048, 2048, 10], 32),
    "20 layers of 64, 32": ([64] * 20 + [10], 32),
}
SURROUNDINGS = {
    "alone": {},
    "alone, OpenBLAS on one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "beside a busy process per processor": {},
}
FAMILIES = ("numpy", "torch", "jax")
TURN_SECONDS = 0.3
UNCOUNTED = 30  # steps of a turn
FEWEST = 12     # steps of a turn that count
PAUSE = 0.06    # between turns
BATCHES = 32    # of inputs, in turn
BUSY = "while True: pass"


def data(sizes, batch, converted=lambda a: a):
    """Endless batches, the same for everyone; classes can be learned, one label in five is wrong.

    The wrong ones are drawn anew at each step. So the network neither dies nor learns all by heart;
    state would then decay to subnormal numbers, which are many times slower on some processors, in
    any library.
    """
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal((sizes[0], sizes[-1]), dtype=np.float32)
    inputs = [rng.standard_normal((batch, sizes[0]), dtype=np.float32) for _ in range(BATCHES)]
    pairs = [(converted(x), (x @ teacher).argmax(axis=1)) for x in inputs]
    for x, t in cycle(pairs):
        noise = rng.integers(0, sizes[-1], batch)
        yield x, converted(np.where(rng.random(batch) < 0.2, noise, t))


class Network:
    """A network of fastoptim.demo.mlp, and something that updates it."""

    def __init__(self, sizes, batch, optimizer, threads=None, share=False):
        from fastoptim.demo import mlp

        self.optimizer, self.threads, self.share = optimizer, threads, share
        self.params = mlp.init(sizes, 0)
        self.batches = data(sizes, batch)
        self.mlp = mlp

    def begin_turn(self):
        import fastoptim as fo

        fo.set_num_threads(self.threads, fixed=self.threads is not None)
        self.shared = fo.share_threads() if self.share else None

    def end_turn(self):
        if self.shared is not None:
            self.shared.close()

    def step(self):
        x, t = next(self.batches)
        start = perf_counter()
        grads = self.mlp.gradients(self.params, x, t)
        between = perf_counter()
        if self.optimizer is not None:
            self.optimizer.update(self.params, grads)
        end = perf_counter()
        return end - start, end - between

    def loss(self):
        return self.mlp.loss(self.params, *next(self.batches))


def numpy_contestants(sizes, batch):
    from cases import AdamWithOut

    import fastoptim as fo
    from fastoptim import listings

    def network(optimizer, **how):
        return Network(sizes, batch, optimizer, **how)

    counts = [2**k for k in range(os.cpu_count().bit_length()) if 2**k <= os.cpu_count()]
    return {
        "no update": network(None),
        "NumPy listing": network(listings.Adam()),
        "NumPy out=": network(AdamWithOut()),
        **{f"fixed {n}": network(fo.Adam(), threads=n) for n in counts},
        "fastoptim": network(fo.Adam()),
        "shared": network(fo.Adam(), share=True),
    }


class Other:
    """A contestant that needs nothing around its turns."""

    def __init__(self, step, loss):
        self.step, self.loss = step, loss

    def begin_turn(self): ...
    def end_turn(self): ...


def torch_contestants(sizes, batch):
    import torch

    def contestant(fused):
        torch.manual_seed(0)
        layers = []
        for rows, columns in pairwise(sizes):
            layers += [torch.nn.Linear(rows, columns), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1])
        batches = data(sizes, batch, torch.from_numpy)
        opt = torch.optim.Adam(net.parameters(), fused=fused)
        cross_entropy = torch.nn.CrossEntropyLoss()

        def loss_of(x, t):
            return cross_entropy(net(x), t)

        def step():
            x, t = next(batches)
            start = perf_counter()
            opt.zero_grad()
            loss_of(x, t).backward()
            between = perf_counter()
            opt.step()
            end = perf_counter()
            return end - start, end - between

        return Other(step, lambda: loss_of(*next(batches)).item())

    return {"torch": contestant(None), "torch fused": contestant(True)}


def jax_contestants(sizes, batch):
    import jax
    import optax
    from jax import numpy as jnp

    from fastoptim.demo import mlp

    batches = data(sizes, batch, jnp.asarray)
    opt = optax.adam(1e-3)
    depth = len(sizes) - 1

    def loss_of(params, x, t):
        a = x
        for k in range(1, depth + 1):
            a = a @ params[f"W{k}"] + params[f"b{k}"]
            a = jnp.maximum(a, 0) if k < depth else a
        return optax.softmax_cross_entropy_with_integer_labels(a, t).mean()

    def both(params, state, x, t):
        grads = jax.grad(loss_of)(params, x, t)
        updates, state = opt.update(grads, state)
        return optax.apply_updates(params, updates), state

    call = jax.jit(both, donate_argnums=(0, 1))
    now = [{key: jnp.asarray(a) for key, a in mlp.init(sizes, 0).items()}]
    now.append(opt.init(now[0]))

    def step():
        x, t = next(batches)
        start = perf_counter()
        now[:] = call(*now, x, t)
        jax.block_until_ready(now[0])
        return perf_counter() - start, float("nan")

    return {"JAX": Other(step, lambda: float(loss_of(now[0], *next(batches))))}


def take_turns(contestants, rounds):
    """Return name → steps' and updates' times, and the loss in the end."""
    seen = {name: ([], []) for name in contestants}
    for _ in range(rounds):
        for name, one in contestants.items():
            time.sleep(PAUSE)
            one.begin_turn()
            for _ in range(UNCOUNTED):
                one.step()
            end, n = perf_counter() + TURN_SECONDS, 0
            while n < FEWEST or perf_counter() < end:
                for times, value in zip(seen[name], one.step(), strict=True):
                    times.append(value)
                n += 1
            one.end_turn()
    return {name: [*seen[name], one.loss()] for name, one in contestants.items()}


def child(family, network, rounds):
    make = {"numpy": numpy_contestants, "torch": torch_contestants, "jax": jax_contestants}[family]
    print(json.dumps(take_turns(make(*NETWORKS[network]), rounds)))


def measure(network, surroundings, families, rounds):
    """Return name → (median of steps, median of updates, loss) of all contestants, in µs."""
    times = {}
    busy = []
    if surroundings.startswith("beside"):
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count())]
    try:
        for _ in range(rounds):
            for family in families:
                command = [sys.executable, __file__, "--child", family, network]
                done = subprocess.run(
                    command, env=os.environ | SURROUNDINGS[surroundings], check=True,
                    stdout=subprocess.PIPE, text=True, encoding="utf-8",
                )
                for name, (steps, updates, loss) in json.loads(done.stdout).items():
                    all_steps, all_updates, _ = times.setdefault(name, ([], [], []))
                    all_steps += steps
                    all_updates += updates
                    times[name][2].append(loss)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return {
        name: (median(steps) * 1e6, median(updates) * 1e6, losses[-1])
        for name, (steps, updates, losses) in times.items()
    }


def importable(family):
    """Whether a family can take part."""
    names = {"numpy": ("numpy",), "torch": ("torch",), "jax": ("jax", "optax")}[family]
    code = "; ".join(f"import {name}" for name in names)
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def cell(figures):
    step, update, _ = figures
    return f"{step:,.0f}" if update != update else f"{step:,.0f} ({update:,.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=list(SURROUNDINGS), action="append")
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, rounds=2)
        return
    families = [family for family in FAMILIES if importable(family)]
    networks, places = arguments.network or list(NETWORKS), arguments.only or list(SURROUNDINGS)
    figures = {}
    with tqdm(total=len(networks) * len(places), unit="cell", file=sys.stderr) as bar:
        for place in places:
            for network in networks:
                figures[place, network] = measure(network, place, families, arguments.rounds)
                bar.update()
    for place in places:
        names = list(figures[place, networks[0]])
        print(f"\n{place}\n\n| network, batch | " + " | ".join(names) + " |")
        print("|---|" + "---|" * len(names))
        for network in networks:
            row = figures[place, network]
            print(f"| {network} | " + " | ".join(cell(row[name]) for name in names) + " |")
    print("\nlosses after as many steps as each took:")
    for (place, network), row in figures.items():
        print(f"  {place}; {network}: " + ", ".join(f"{n} {f[2]:.3g}" for n, f in row.items()))
    if arguments.json:
        named = {f"{place}; {network}": row for (place, network), row in figures.items()}
        arguments.json.write_text(json.dumps(named, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
