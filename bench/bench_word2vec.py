"""Skip-gram training against gensim, 5 M words. Run with `make bench`.

examples/word2vec and gensim must be importable. The corpus is Python's own documentation; every
twentieth sentence is held out, the others are repeated to 5 M words. Each round trains everyone
once, from that round's seed, on one thread and on two. gensim takes part in both its forms, with
sentences in memory and with corpus_file=, and its faster one counts. The loss is the same
function of both models' input and output vectors, over the same pairs and negatives.
"""

from itertools import chain
from statistics import mean, median
from time import perf_counter

import numpy as np
import pytest

pytest.importorskip("skipgram", reason="needs examples/word2vec installed")
word2vec = pytest.importorskip("gensim.models.word2vec")

from skipgram import Options, encode, heldout, train  # noqa: E402
from skipgram.corpus import from_python  # noqa: E402

WORDS = 5_000_000
ROUNDS = 3
SETTINGS = {"window": 5, "negative": 5, "sample": 0, "epochs": 1}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The training sentences, the same in a file, and as numbers; the pairs of the loss."""
    sentences = list(from_python())
    seen = [words for k, words in enumerate(sentences) if k % 20]
    seen *= -(-WORDS // len(encode(seen, min_count=5).ids))
    path = tmp_path_factory.mktemp("corpus") / "sentences.txt"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(" ".join(words) + "\n" for words in seen)
    corpus = encode(seen, min_count=5)
    number = {word: k for k, word in enumerate(corpus.words)}
    unseen = [[number[w] for w in words if w in number] for words in sentences[::20]]
    starts = np.cumsum([0, *map(len, unseen)])
    pairs = heldout.samples(
        np.array([*chain(*unseen)]), starts, corpus.counts, window=5, negative=5, seed=0
    )
    return seen, path, corpus, pairs


def of_fastoptim(text, threads, seed):
    _, _, corpus, pairs = text
    start = perf_counter()
    model = train(corpus, Options(threads=threads, seed=seed, **SETTINGS))
    seconds = perf_counter() - start
    return len(corpus.ids) / seconds, heldout.loss(model.inputs, model.outputs, pairs)


def of_gensim(text, threads, seed, in_memory):
    sentences, path, corpus, pairs = text
    source = {"corpus_iterable": sentences} if in_memory else {"corpus_file": str(path)}
    model = word2vec.Word2Vec(
        sg=1, hs=0, vector_size=100, min_count=5, alpha=0.025, min_alpha=1e-4, workers=threads,
        seed=seed, **SETTINGS,
    )
    model.build_vocab(**source)
    assert model.wv.index_to_key[:10] == corpus.words[:10]
    assert set(model.wv.index_to_key) == set(corpus.words)
    start = perf_counter()
    model.train(
        **source, total_words=model.corpus_total_words, total_examples=model.corpus_count, epochs=1
    )
    seconds = perf_counter() - start
    order = [model.wv.key_to_index[word] for word in corpus.words]
    loss = heldout.loss(model.wv.vectors[order], model.syn1neg[order], pairs)
    return len(corpus.ids) / seconds, loss


@pytest.mark.parametrize("threads", [1, 2])
def test_skipgram(threads, text, benchmark, sections):
    everyone = {
        "skipgram": lambda seed: of_fastoptim(text, threads, seed),
        "gensim, in memory": lambda seed: of_gensim(text, threads, seed, True),
        "gensim, corpus_file": lambda seed: of_gensim(text, threads, seed, False),
    }
    seen = {name: [] for name in everyone}

    def one_round():
        seed = 1 + len(seen["skipgram"])
        for name, contestant in everyone.items():
            seen[name].append(contestant(seed))

    benchmark.pedantic(one_round, rounds=ROUNDS)
    speed = {name: median(speed for speed, _ in runs) for name, runs in seen.items()}
    loss = {name: mean(loss for _, loss in runs) for name, runs in seen.items()}
    benchmark.extra_info["words/s and loss"] = seen
    best = max((name for name in everyone if name != "skipgram"), key=speed.get)
    rows = sections.setdefault(
        f"skip-gram, {len(text[2].ids):,} words, {len(text[2].words):,} different; median "
        f"speed and mean loss of {ROUNDS} rounds",
        [
            "| threads | skipgram, words/s | gensim, words/s | its form | ratio | skipgram, loss | "
            "gensim, loss |",
            "|---|---|---|---|---|---|---|",
        ],
    )
    rows.append(
        f"| {threads} | {speed['skipgram']:,.0f} | {speed[best]:,.0f} | "
        f"{best.removeprefix('gensim, ')} | {speed['skipgram'] / speed[best]:.2f}× | "
        f"{loss['skipgram']:.4f} | {loss[best]:.4f} |"
    )
