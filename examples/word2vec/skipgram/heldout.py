"""The loss on text that was not trained on: one function for any model's two tables."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Samples:
    """A fixed set of pairs, (n,), with the negatives of each, (n, negative): word numbers."""

    contexts: np.ndarray
    centres: np.ndarray
    negatives: np.ndarray


def samples(
    ids: np.ndarray, starts: np.ndarray, counts: np.ndarray, *,
    window: int, negative: int, seed: int,
) -> Samples:
    """Draw what the loss is taken over, from sentences as numbers.

    Parameters
    ----------
    ids, starts : array of int
        Sentences as in `Corpus`.
    counts : array of int
        How often each word was in the training text; negatives are drawn by count^0.75.
    window : int
        All words up to that far from a centre are its contexts.
    negative : int
        Negatives per pair.
    seed : int

    Returns
    -------
    Samples
    """
    sentence = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    pairs = []
    for distance in range(1, window + 1):
        left = np.flatnonzero(sentence[distance:] == sentence[:-distance])
        pairs += [(left, left + distance), (left + distance, left)]
    context, centre = (ids[np.concatenate(side)] for side in zip(*pairs, strict=True))
    p = counts**0.75
    drawn = np.random.default_rng(seed).choice(len(p), (len(centre), negative), p=p / p.sum())
    return Samples(context, centre, drawn)


def loss(inputs: np.ndarray, outputs: np.ndarray, of: Samples) -> float:
    """Return the mean over pairs of −log σ(x·y) − Σ log σ(−x·n), in float64.

    Parameters
    ----------
    inputs, outputs : array of shape (vocabulary, dim)
        The input vectors x of contexts and the output vectors y, n of centres and negatives.
    of : Samples
    """
    total = 0.0
    for part in np.array_split(np.arange(len(of.centres)), 1 + len(of.centres) // 10_000):
        x = inputs[of.contexts[part]].astype(np.float64)
        y = outputs[of.centres[part]].astype(np.float64)
        n = outputs[of.negatives[part]].astype(np.float64)
        total += np.logaddexp(0, -np.einsum("ij,ij->i", x, y)).sum()
        total += np.logaddexp(0, np.einsum("ij,ikj->ik", x, n)).sum()
    return float(total / len(of.centres))
