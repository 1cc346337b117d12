"""A small language model in PyTorch: a causal transformer that writes like Python's documentation.

The text is the documentation topics that come with Python, some 460,000 characters (without them,
the sources of its standard library). The model sees 64 characters and says of each which one comes
next. It is PyTorch's throughout; the optimizer is one line, and may come from either library:

    python examples/characters.py                          # from fastoptim.torch import AdamW
    python examples/characters.py --optimizer fused        # torch.optim.AdamW(…, fused=True)
    python examples/characters.py --compare                # all three, from the same start

It needs PyTorch, tqdm and, for --picture, matplotlib: pip install 'fastoptim[torch,plot]' tqdm.
"""

import argparse
import os
import sys
import sysconfig
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

import fastoptim.torch

OPTIMIZERS = {
    "torch": torch.optim.AdamW,
    "fused": lambda params, **options: torch.optim.AdamW(params, fused=True, **options),
    "fastoptim": fastoptim.torch.AdamW,
}
CONTEXT, BATCH = 64, 16                         # characters that the model sees; texts per step


# ---------------------------------------------------------------- the text


def of_python():
    """Text that comes with Python: its documentation's topics, or else its modules' sources."""
    try:
        from pydoc_data.topics import topics
    except ImportError:                         # some distributions leave it out
        paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        return "\n".join(path.read_text("utf-8", "replace") for path in paths)[:500_000]
    return "\n".join(topics[name] for name in sorted(topics))


class Text:
    """Characters as numbers; the last tenth is held out."""

    def __init__(self, text):
        self.characters = sorted(set(text))
        self.number = {c: k for k, c in enumerate(self.characters)}
        numbers = torch.tensor([self.number[c] for c in text])
        n = len(numbers) * 9 // 10
        self.training, self.held_out = numbers[:n], numbers[n:]

    def batch(self, of, generator, size):
        """Draw pieces of a text, and the same one character later."""
        starts = torch.randint(len(of) - CONTEXT, (size, 1), generator=generator)
        index = starts + torch.arange(CONTEXT + 1)
        return of[index[:, :-1]], of[index[:, 1:]]


# ---------------------------------------------------------------- the model


class Block(nn.Module):
    """Attention to what came before, then two layers for each character."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.together = nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        batch, length, width = x.shape
        of_heads = self.queries_keys_values(self.before_attention(x)).view(
            batch, length, 3, self.heads, width // self.heads
        )
        q, k, v = of_heads.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.together(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.layers(self.before_layers(x))


class Model(nn.Module):
    """From characters to the scores of those that come next."""

    def __init__(self, characters, width, depth, heads=4):
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.places = nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters))

    def forward(self, x):
        at = torch.arange(x.shape[1])
        return self.scores(self.blocks(self.characters(x) + self.places(at)))

    def loss(self, x, t):
        return functional.cross_entropy(self(x).flatten(0, 1), t.flatten())


# ---------------------------------------------------------------- training


class Run:
    """One training: its losses, the seconds of its steps and, of these, of its optimizer."""

    def __init__(self, name, text, options):
        torch.manual_seed(options.seed)         # the same start for all
        self.name, self.text, self.options = name, text, options
        self.model = Model(len(text.characters), options.width, options.depth)
        self.model.to(torch.float64 if options.float64 else torch.float32)
        self.opt = OPTIMIZERS[name](self.model.parameters(), lr=options.lr, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.opt, max_lr=options.lr, total_steps=options.steps, pct_start=0.1
        )
        self.generator = torch.Generator().manual_seed(options.seed)
        self.losses, self.steps, self.updates = [], [], []

    def train(self):
        with tqdm(total=self.options.steps, desc=f"{self.name:9}", unit="step") as bar:
            for _ in range(self.options.steps):
                self.losses.append(self.step())
                bar.set_postfix_str(f"loss {self.losses[-1]:.3f}", refresh=False)
                bar.update()
        return self

    def step(self):
        start = perf_counter()
        x, t = self.text.batch(self.text.training, self.generator, BATCH)
        self.opt.zero_grad()
        loss = self.model.loss(x, t)
        loss.backward()
        before = perf_counter()
        self.opt.step()
        after = perf_counter()
        self.schedule.step()
        self.updates.append(after - before)
        self.steps.append(perf_counter() - start)
        return loss.item()

    @torch.no_grad()
    def held_out(self):
        """Return the loss of text that was not trained on."""
        generator = torch.Generator().manual_seed(self.options.seed)
        return self.model.loss(*self.text.batch(self.text.held_out, generator, 16 * BATCH)).item()

    @torch.no_grad()
    def sample(self, length, start="The "):
        """Return text that the model writes, a character after the other."""
        generator = torch.Generator().manual_seed(self.options.seed)
        written = [self.text.number[c] for c in start if c in self.text.number] or [0]
        for _ in range(length):
            scores = self.model(torch.tensor([written[-CONTEXT:]]))[0, -1]
            chances = (scores / 0.7).softmax(0)
            written.append(int(torch.multinomial(chances, 1, generator=generator)))
        return "".join(self.text.characters[k] for k in written)


# ---------------------------------------------------------------- what is shown


def table(runs):
    """The losses of all runs along the way, and their times."""
    names = "".join(f"{run.name:>12}" for run in runs)
    lines = [f"{'step':>14}{names}"]
    steps = len(runs[0].losses)
    for k in sorted({1, *(steps * part // 5 for part in range(1, 6))} - {0}):
        lines.append(f"{k:>14,}" + "".join(f"{run.losses[k - 1]:12.6f}" for run in runs))
    lines.append(f"{'held out':>14}" + "".join(f"{run.held_out():12.6f}" for run in runs))
    for what, times in (("optimizer", [run.updates for run in runs]),
                        ("whole step", [run.steps for run in runs])):
        row = "".join(f"{median(one) * 1e3:9.3f} ms" for one in times)
        lines.append(f"{what:>14}{row}   (median)")
    lines.append(f"{'all steps':>14}" + "".join(f"{sum(run.steps):10.1f} s" for run in runs))
    return "\n".join(lines)


def draw(runs, path):
    """Write a picture of the losses, means of 10 steps."""
    from fastoptim import plot

    means = {
        run.name: [sum(run.losses[k:k + 10]) / 10 for k in range(0, len(run.losses) - 9, 10)]
        for run in runs
    }
    plot.losses(means, first=10, per=10).figure.savefig(path)


def check_picture(path, parser):
    """Refuse a picture that could not be written, before the training begins."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        parser.error("--picture needs matplotlib: pip install matplotlib")
    kinds = Figure().canvas.get_supported_filetypes()
    if path.suffix.lower()[1:] not in kinds:
        parser.error(f"--picture must end in one of .{', .'.join(kinds)}, got {path}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        parser.error(f"--picture: {path} cannot be written")


def parsed(arguments):
    parser = argparse.ArgumentParser(description="A language model of characters, in PyTorch.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--optimizer", choices=OPTIMIZERS, default="fastoptim")
    which.add_argument("--compare", action="store_true", help="all of them, in turn")
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: Python's own text")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=64, help="of the model; a multiple of 4")
    parser.add_argument("--depth", type=int, default=2, help="blocks of the model")
    parser.add_argument("--float64", action="store_true", help="losses that agree to more digits")
    parser.add_argument("--sample", type=int, default=400, help="characters to write at the end")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="of the losses")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.steps <= 10 or options.sample < 0 or options.depth < 1:
        parser.error("--steps must be more than 10, --depth at least 1, --sample at least 0")
    if options.width < 4 or options.width % 4:
        parser.error(f"--width must be a multiple of 4, got {options.width}")
    if not 0 < options.lr < float("inf"):
        parser.error(f"--lr must be a positive number, got {options.lr}")
    if not 0 <= options.seed < 2**63:
        parser.error(f"--seed must be in [0, 2⁶³), got {options.seed}")
    if options.picture:
        check_picture(options.picture, parser)
    try:
        options.read = options.text.read_text("utf-8") if options.text else of_python()
    except (OSError, UnicodeDecodeError) as problem:
        parser.error(f"--text: {problem}")
    if len(options.read) < 20 * CONTEXT:
        parser.error(f"--text has {len(options.read)} characters; {20 * CONTEXT} are the least")
    return options


def main(arguments=None):
    options = parsed(arguments)
    text = Text(options.read)
    names = list(OPTIMIZERS) if options.compare else [options.optimizer]
    try:
        runs = [Run(name, text, options).train() for name in names]
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    count = sum(p.numel() for p in runs[0].model.parameters())
    tensors = len(list(runs[0].model.parameters()))
    print(f"{len(options.read):,} characters, {len(text.characters)} different ones; "
          f"{count:,} parameters in {tensors} tensors")
    print(table(runs))
    if options.sample:
        print(f"\n{runs[-1].name} writes:\n{runs[-1].sample(options.sample)}")
    if options.picture:
        draw(runs, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
