"""The training run: tables, jobs, threads, progress. The loop itself is _loop.pyx."""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from tqdm import tqdm

from skipgram._loop import Loop, alias_table
from skipgram.corpus import Corpus, InputError
from skipgram.options import Options

JOB = 10_000  # words, more or less: what a thread does with one learning rate and one step count


@dataclass
class Model:
    """What training gives.

    Attributes
    ----------
    words : list of str
    inputs, outputs : array of float32, (vocabulary, dim)
        In, the word vectors, and Out, the vectors that words have as targets; they are views of
        tables with longer rows.
    state : dict of str to pair of arrays
        The rule's state for In and for Out, by slot.
    """

    words: list[str]
    inputs: np.ndarray
    outputs: np.ndarray
    state: dict[str, tuple[np.ndarray, np.ndarray]]


def table(rows: int, dim: int, value: float) -> np.ndarray:
    """Return an array whose rows begin at multiples of 64 bytes, zero from `dim` on."""
    stride = (dim + 15) // 16 * 16
    memory = np.zeros(rows * stride + 16, np.float32)
    begin = -memory.ctypes.data % 64 // 4
    array = memory[begin : begin + rows * stride].reshape(rows, stride)
    if value:
        array[:, :dim] = value
    return array


def noise(counts: np.ndarray) -> np.ndarray:
    """Return the probability of each word to be drawn as a negative: count^0.75, normalised."""
    p = counts**0.75
    return p / p.sum()


def keep(counts: np.ndarray, sample: float) -> np.ndarray:
    """Return with which probability an occurrence of each word is kept; empty for all.

    (√(f/s) + 1)·s/f for a word of share f, as in word2vec.c; where that is above 1, always.
    """
    if not sample:
        return np.empty(0)
    f = counts / counts.sum()
    return (np.sqrt(f / sample) + 1) * (sample / f)


def start(words: int, options: Options) -> tuple[tuple, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return both tables, In uniform in ±1/(2·dim) and Out zero, and the rule's fresh state."""
    optimizer, dim = options.optimizer(options.rates[0]), options.dim
    try:
        inputs, outputs = table(words, dim, 0), table(words, dim, 0)
        draw = np.random.default_rng(options.seed).random((words, dim), np.float32)
        inputs[:, :dim] = (draw - 0.5) / dim
        state = {}
        for slot in optimizer.kernels[optimizer.kernel]:
            begin = getattr(type(optimizer), slot).start
            value = 0.0 if begin is None else getattr(optimizer, begin)
            state[slot] = table(words, dim, value), table(words, dim, value)
    except MemoryError:
        raise InputError(
            f"there is no memory for {words} words of --dim {dim} with --rule {options.rule}; "
            f"lower --dim or raise --min-count"
        ) from None
    return (inputs, outputs), state


def train(corpus: Corpus, options: Options) -> Model:
    """Train vectors on a corpus, with a progress bar where stderr is a terminal.

    Parameters
    ----------
    corpus : Corpus
    options : Options

    Returns
    -------
    Model

    Raises
    ------
    InputError
        Training diverged: the vectors are not finite.

    Notes
    -----
    The corpus is cut into jobs of some 10,000 words. The scalars of a job are the rule's
    `coefficients(t)` at its first word: t is 1 + the number of words before it, over all epochs.
    That is one count for the whole table, as rows are touched (a rule's state decays only when its
    row is touched); and the learning rate goes by the same count. A job's random numbers depend on
    the seed, the epoch and the job. Threads take jobs in turn and write without locks (Hogwild, F.
    Niu et al., 2011): where two meet in one row, a part of one step can be lost.
    """
    tables, state = start(len(corpus.words), options)
    loop = Loop(
        tables, [[arrays[side] for arrays in state.values()] for side in (0, 1)], options.dim,
        options.optimizer(options.rates[0]).kernel, options.window, options.negative,
        *alias_table(noise(corpus.counts)), keep(corpus.counts, options.sample),
    )
    n, last = len(corpus.ids), len(corpus.starts) - 1
    cuts = np.unique([*np.searchsorted(corpus.starts[:-1], np.arange(0, n, JOB)), last])
    jobs = product(range(options.epochs), pairwise(cuts.tolist()))
    lock, stop = threading.Lock(), threading.Event()
    bar = tqdm(
        total=n * options.epochs, desc="training", unit="word", unit_scale=True, disable=None
    )

    def work() -> None:
        while not stop.is_set():
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            epoch, (first, end) = job
            before = epoch * n + int(corpus.starts[first])
            high, low = options.rates
            optimizer = options.optimizer(high - (high - low) * before / (n * options.epochs))
            seeds = np.random.SeedSequence([options.seed, epoch, first])
            loop.train(
                corpus.ids, corpus.starts, first, end, optimizer.coefficients(before + 1),
                1.0 - optimizer.lr * optimizer.weight_decay if optimizer.decoupled else 1.0,
                int(seeds.generate_state(1, np.uint64)[0]),
            )
            with lock:
                bar.set_postfix(lr=f"{optimizer.lr:.2g}", refresh=False)
                bar.update(int(corpus.starts[end] - corpus.starts[first]))

    with bar, ThreadPoolExecutor(options.threads) as pool:
        try:
            for done in as_completed([pool.submit(work) for _ in range(options.threads)]):
                done.result()
        finally:
            stop.set()  # after an error or Ctrl-C the others end with the job that they are at
    inputs, outputs = (each[:, : options.dim] for each in tables)
    if not (np.isfinite(inputs).all() and np.isfinite(outputs).all()):
        raise InputError(
            f"training diverged: --rule {options.rule} with --lr {options.rates[0]} gave vectors "
            f"that are not finite; lower --lr"
        )
    state = {slot: (a[:, : options.dim], b[:, : options.dim]) for slot, (a, b) in state.items()}
    return Model(corpus.words, inputs, outputs, state)
