"""examples/word2vec, built outside the source tree as a user would, and run."""

import dataclasses
import importlib
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import skipgram_oracle
from helpers import PATIENCE, ROW_BY_ROW, assert_same_array, environment_with, run_python

import fastoptim as fo

EXAMPLE = Path(__file__).parents[1] / "examples" / "word2vec"
RULES = sorted({case.cls.__name__.lower() for case in ROW_BY_ROW})
every_rule = pytest.mark.parametrize("rule", RULES)
LIBRARY = Path(fo.__file__).parents[1]  # the fastoptim that is tested


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder with the package in it, compiled against the fastoptim that is tested here."""
    folder = tmp_path_factory.mktemp("word2vec")
    source, target = folder / "source", folder / "installed"
    shutil.copytree(
        EXAMPLE, source, ignore=shutil.ignore_patterns("*.so", "*.c", "build", "*.egg-info")
    )
    pip = ["-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check"]
    done = run_python(
        *pip, "--no-build-isolation", "--no-deps", "--target", target, source,
        folders=[LIBRARY], cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="session")
def skipgram(installed):
    sys.path.insert(0, str(installed))
    module = importlib.import_module("skipgram")
    assert Path(module.__file__).is_relative_to(installed)
    for name in ("__main__", "heldout", "_loop"):
        importlib.import_module(f"skipgram.{name}")
    yield module
    sys.path.remove(str(installed))


@pytest.fixture
def main(skipgram):
    return lambda *arguments: skipgram.__main__.main([str(a) for a in arguments])


def zipf_text(n=3000, words=60, seed=0, longest=12):
    """Sentences in which a word is likely to be followed by its neighbours in the alphabet."""
    rng = np.random.default_rng(seed)
    sentences = []
    while n > 0:
        length = min(n, int(rng.integers(1, longest + 1)))
        centre = int(rng.zipf(1.3)) % words
        near = (centre + rng.integers(-2, 3, length)) % words
        sentences.append([f"w{k:02d}" for k in near])
        n -= length
    for k in range(words):  # and each word at least five times
        sentences.append([f"w{j % words:02d}" for j in range(k, k + 5)])
    return sentences


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(" ".join(words) + "\n" for words in zipf_text()), "utf-8")
    return path


# --- what is computed


def sentences_by_job(corpus):
    """The numbers of the sentences of each job: those that begin within the same 10,000 words."""
    jobs = {}
    for k, start in enumerate(corpus.starts[:-1].tolist()):
        jobs.setdefault(start // 10_000, []).append(k)
    return list(jobs.values())


def by_hand(skipgram, corpus, options):
    """The oracle's run, with the jobs and their scalars that the docstring of `train` says."""
    training = skipgram.training
    tables, state = training.start(len(corpus.words), options)
    dim, n, starts = options.dim, len(corpus.ids), corpus.starts
    high, low = options.rates
    slots = []
    for side in (0, 1):
        slots.append([pair[side][:, :dim].copy() for pair in state.values()])
    trainer = skipgram_oracle.Trainer(
        [table[:, :dim].copy() for table in tables], slots,
        options.optimizer(high).kernel, options.window, options.negative,
        *skipgram._loop.alias_table(training.noise(corpus.counts)),
        training.keep(corpus.counts, options.sample),
    )
    sentences = [ids.tolist() for ids in np.split(corpus.ids, starts[1:-1])]
    for epoch in range(options.epochs):
        for job in sentences_by_job(corpus):
            before = epoch * n + int(starts[job[0]])
            opt = options.optimizer(high - (high - low) * before / (n * options.epochs))
            seed = np.random.SeedSequence([options.seed, epoch, job[0]])
            rng = skipgram_oracle.SplitMix64(int(seed.generate_state(1, np.uint64)[0]))
            shrink = 1 - opt.lr * opt.weight_decay if opt.decoupled else 1.0
            for k in job:
                trainer.sentence(sentences[k], opt.coefficients(before + 1), shrink, rng)
    return trainer


def assert_as_by_hand(skipgram, corpus, options, rtol=1e-5, atol=1e-6):
    """Every element of both tables and of all state; rows not drawn, to the bit."""
    model = skipgram.train(corpus, options)
    oracle = by_hand(skipgram, corpus, options)
    fresh, _ = skipgram.training.start(len(corpus.words), options)
    for side, ours in enumerate((model.inputs, model.outputs)):
        np.testing.assert_allclose(ours, oracle.tables[side], rtol=rtol, atol=atol)
        for (slot, arrays), theirs in zip(model.state.items(), oracle.slots[side], strict=True):
            np.testing.assert_allclose(arrays[side], theirs, rtol=rtol, atol=atol, err_msg=slot)
        rest = sorted({*range(len(corpus.words))} - oracle.touched[side])
        np.testing.assert_array_equal(ours[rest], fresh[side][rest, : options.dim])
        for row in oracle.touched[side]:
            assert (ours[row] != fresh[side][row, : options.dim]).any()
    return oracle


@every_rule
def test_every_rule_trains_as_by_hand(skipgram, rule):
    # Short: a float32 of these rules soon drifts from another, Rprop's by a factor at each turn.
    # Measured: at most 0.27 of the tolerance, compiled for SSE2 without FMA, AVX2 and AVX-512.
    corpus = skipgram.encode(zipf_text(50, words=20), min_count=1)
    options = skipgram.Options(
        rule=rule, dim=10, window=3, negative=4, sample=0.05, epochs=2, seed=3
    )
    assert_as_by_hand(skipgram, corpus, options)


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 100])
@pytest.mark.parametrize(("window", "negative"), [(1, 1), (2, 5), (5, 6), (7, 13)])
def test_every_size_of_the_products(skipgram, dim, window, negative):
    corpus = skipgram.encode(zipf_text(50, words=30), min_count=1)
    options = skipgram.Options(
        dim=dim, window=window, negative=negative, sample=0, epochs=1, lr=0.1, seed=5
    )
    oracle = assert_as_by_hand(skipgram, corpus, options)
    assert {*oracle.windows} == {*range(1, window + 1)}


def test_several_jobs_epochs_and_the_decay(skipgram):
    corpus = skipgram.encode(zipf_text(21_000, longest=5), min_count=1)
    options = skipgram.Options(dim=4, window=2, negative=2, epochs=2, rule="adam", min_lr=1e-5)
    assert_as_by_hand(skipgram, corpus, options, rtol=1e-3, atol=1e-4)  # 40,000 steps in float32


STARTS = {
    ("ftrl", "h"): np.float32(0.1), ("rprop", "delta"): np.float32(0.01),
    ("yogi", "m"): np.float32(1e-6), ("yogi", "v"): np.float32(1e-6),
}


@every_rule
def test_state_starts_at_the_values_of_its_rule(skipgram, rule):
    """FTRL's h at its `initial`, Rprop's step sizes at lr, all other state at zero."""
    (inputs, outputs), state = skipgram.training.start(7, skipgram.Options(rule=rule, dim=20))
    tables = [inputs, outputs]
    for slot, pair in state.items():
        tables += pair
        for array in pair:
            assert (array[:, :20] == STARTS.get((rule, slot), 0)).all(), slot
    for array in tables:
        assert array.shape == (7, 32)
        assert array.ctypes.data % 64 == 0
        assert not array[:, 20:].any()
    assert not outputs.any()
    assert 0.9 / 40 < np.abs(inputs).max() <= 1 / 40


@pytest.mark.parametrize("size", [0.5, 2.0, 4.0, 10.0])
def test_scores_of_any_size_take_their_step(skipgram, size):
    """word2vec.c leaves pairs with |x·y| > 6 out."""
    rng = np.random.default_rng(0)
    tables = [skipgram.training.table(9, 16, 0.0) for _ in range(2)]
    for table in tables:
        table[:] = size * rng.standard_normal(table.shape)
    copies = [table.copy() for table in tables]
    largest = np.abs((copies[0][:, None] * copies[1]).sum(axis=2)).max()
    ids, starts = np.arange(9, dtype=np.int32), np.array([0, 9])
    table = skipgram._loop.alias_table(np.full(9, 1 / 9))
    rest = ([], []), "sgd", 3, 4, *table, np.empty(0)
    loop = skipgram._loop.Loop(tables, rest[0], 16, *rest[1:])
    loop.train(ids, starts, 0, 1, (0.01,), 1.0, 11)
    oracle = skipgram_oracle.Trainer(copies, *rest)
    oracle.sentence(ids.tolist(), (0.01,), 1.0, skipgram_oracle.SplitMix64(11))
    for ours, theirs in zip(tables, copies, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * size)
    assert (largest > 30) == (size >= 2)


def test_a_word_that_is_alone_in_its_sentences_keeps_its_input_row(skipgram):
    corpus = skipgram.encode([["alone"], ["a", "b"]] * 50, min_count=1)
    options = skipgram.Options(dim=5, sample=0)
    (fresh, _), _ = skipgram.training.start(len(corpus.words), options)
    model = skipgram.train(corpus, options)
    same = (model.inputs == fresh[:, :5]).all(axis=1)
    assert [word for word, kept in zip(corpus.words, same, strict=True) if kept] == ["alone"]


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 50_000])
@pytest.mark.parametrize("kind", ["zipf", "even", "one", "random"])
def test_sampling_table_has_the_probabilities(skipgram, size, kind):
    k = np.arange(1, size + 1)
    p = {
        "zipf": 1.0 / k, "even": np.ones(size), "one": np.where(k == size, 1.0, 0.0),
        "random": np.random.default_rng(size).random(size) ** 4,
    }[kind]
    p = p / p.sum()
    thresholds, aliases = skipgram._loop.alias_table(p)
    assert thresholds.min() >= 0
    assert thresholds.max() <= 1 + 1e-9
    implied = thresholds + np.bincount(aliases, 1 - thresholds, size)
    np.testing.assert_allclose(implied / size, p, rtol=0, atol=1e-12)


def test_noise_and_subsampling_are_the_published_formulas(skipgram):
    counts = np.array([90, 9, 1])
    np.testing.assert_allclose(
        skipgram.training.noise(counts), counts**0.75 / sum(c**0.75 for c in (90, 9, 1))
    )
    keep = skipgram.training.keep(counts, 0.01)
    expected = [(np.sqrt(f / 0.01) + 1) * 0.01 / f for f in (0.9, 0.09, 0.01)]
    np.testing.assert_allclose(keep, expected, rtol=1e-14)
    assert keep[2] > 1  # always kept
    assert skipgram.training.keep(counts, 0).size == 0


def test_held_out_loss_is_the_formula(skipgram):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 3)).astype(np.float32)
    ids, starts = np.array([0, 1, 2, 3, 4]), np.array([0, 3, 5])
    pairs = skipgram.heldout.samples(ids, starts, np.ones(5), window=2, negative=2, seed=0)
    found = Counter(zip(pairs.contexts.tolist(), pairs.centres.tolist(), strict=True))
    assert found == Counter([(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0), (3, 4), (4, 3)])
    wide_x, wide_y = x.astype(float), y.astype(float)
    terms = []
    for c, w, negatives in zip(pairs.contexts, pairs.centres, pairs.negatives, strict=True):
        term = np.log1p(np.exp(-(wide_x[c] * wide_y[w]).sum()))
        for n in negatives:
            term += np.log1p(np.exp((wide_x[c] * wide_y[n]).sum()))
        terms.append(term)
    assert skipgram.heldout.loss(x, y, pairs) == pytest.approx(np.mean(terms), rel=1e-6)


# --- the corpus


def test_vocabulary_and_sentences(skipgram):
    text = [["b", "a"], [], ["rare"], ["a", "rare2", "c"], ["b", "a"]]
    corpus = skipgram.encode(text, min_count=2)
    assert corpus.words == ["a", "b"]
    assert corpus.counts.tolist() == [3, 2]
    assert corpus.ids.tolist() == [1, 0, 0, 1, 0]
    assert corpus.starts.tolist() == [0, 2, 3, 5]


def test_a_long_sentence_is_cut(skipgram):
    corpus = skipgram.encode([["a", "b"] * 12_500], min_count=1)
    assert corpus.starts.tolist() == [0, 10_000, 20_000, 25_000]


@pytest.mark.parametrize(
    ("ids", "starts"),
    [
        ([0, 2], [0, 2]), ([0, -1], [0, 2]), ([0, 1], [0, 1]), ([0, 1], [1, 2]),
        ([0, 1], [0, 2, 1, 2]),
    ],
)
def test_numbers_that_are_no_words_are_refused(skipgram, ids, starts):
    with pytest.raises(ValueError, match="ids must be numbers of words"):
        skipgram.Corpus(["a", "b"], np.array([1, 1]), np.array(ids), np.array(starts))


def test_text_of_python(skipgram, tmp_path, monkeypatch):
    """Topics, then docstrings of modules, classes and functions; nothing is run."""
    (tmp_path / "pydoc_data").mkdir()
    topics = 'topics = {"x": "The topic. It\'s short"}'
    (tmp_path / "pydoc_data" / "topics.py").write_text(topics, "utf-8")
    (tmp_path / "b.py").write_text(
        '"""Module b"""\nclass A:\n    "Class A"\n    def f(x): "Ünder f."\n', "utf-8"
    )
    (tmp_path / "a.py").write_text('raise SystemExit\n"no docstring"\n', "utf-8")
    (tmp_path / "broken.py").write_text("'", "utf-8")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "t.py").write_text('"""Not read"""', "utf-8")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    assert list(skipgram.corpus.from_python()) == [
        ["the", "topic"], ["it's", "short"], ["module", "b"], ["class", "a"], ["nder", "f"],
    ]


# --- the command


def test_one_thread_and_a_seed_give_the_same_file(installed, corpus_file, tmp_path):
    def vectors(name, *more):
        done = run_python(
            "-m", "skipgram", corpus_file, "-o", tmp_path / name, *more,
            folders=[installed, LIBRARY], cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert "60 vectors of 100; 16,500 words in" in done.stderr
        return (tmp_path / name).read_bytes()

    first = vectors("a.txt", "--seed", "7")
    assert vectors("b.txt", "--seed", "7") == first
    assert vectors("c.txt", "--seed", "8") != first


@every_rule
def test_every_rule_by_name(skipgram, main, corpus_file, tmp_path, rule):
    out = tmp_path / "vectors.bin"
    assert main(corpus_file, "-o", out, "--rule", rule, "--dim", 12, "--threads", 2) == 0
    words, rows = skipgram.vectors.read(out, binary=True)
    assert sorted(words) == [f"w{k:02d}" for k in range(60)]
    assert rows.shape == (60, 12)
    assert np.isfinite(rows).all()


def test_three_threads_do_the_jobs_of_one(skipgram, monkeypatch):
    """Held to the order of one thread they give its bits: a job's numbers are its own."""
    corpus = skipgram.encode(zipf_text(50_000, longest=5), min_count=1)
    options = skipgram.Options(dim=4, window=2, negative=2, epochs=2, rule="adam", min_lr=1e-5)
    done, workers = [], set()
    turn, start = threading.Condition(), threading.Barrier(3)

    class Noting(skipgram.training.Loop):
        def train(self, ids, starts, *job):
            super().train(ids, starts, *job)
            done.append(job)

    class InOrder(Noting):
        def train(self, ids, starts, *job):
            if threading.get_ident() not in workers:
                workers.add(threading.get_ident())
                start.wait(PATIENCE)  # every thread has a job before the first is done
            with turn:
                assert turn.wait_for(lambda: job == order[len(done)], PATIENCE)
                super().train(ids, starts, *job)
                turn.notify_all()

    monkeypatch.setattr(skipgram.training, "Loop", Noting)
    expected, order = skipgram.train(corpus, options), done[:]
    done.clear()
    monkeypatch.setattr(skipgram.training, "Loop", InOrder)
    model = skipgram.train(corpus, dataclasses.replace(options, threads=3))
    assert done == order
    assert len(order) == len({job[-1] for job in order}) == 12  # seeds
    assert len(workers) == 3
    assert_same_array(model.inputs, expected.inputs, "In")
    assert_same_array(model.outputs, expected.outputs, "Out")
    for slot, pair in expected.state.items():
        for ours, theirs in zip(model.state[slot], pair, strict=True):
            assert_same_array(ours, theirs, slot)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_held_out_loss_falls(skipgram, threads):
    """By far more than the parts of steps that two threads can lose."""
    text = zipf_text(60_000, words=200)
    corpus = skipgram.encode(text, min_count=1)
    seen = skipgram.encode(text[:300], min_count=1)
    number = {word: k for k, word in enumerate(corpus.words)}
    ids = np.array([number[seen.words[k]] for k in seen.ids])
    pairs = skipgram.heldout.samples(
        ids, seen.starts, corpus.counts, window=5, negative=5, seed=0
    )
    model = skipgram.train(corpus, skipgram.Options(dim=20, sample=0, threads=threads))
    loss = skipgram.heldout.loss(model.inputs, model.outputs, pairs)
    assert loss < 0.8 * 6 * np.log(2)  # what vectors of zeros have


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin"])
def test_formats(skipgram, tmp_path, name):
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-30, 30, (4, 100))
    rows = (rng.standard_normal((4, 100)) * scale).astype(np.float32)
    words, binary = ["the", "ünder", "a,b", "\u4e2d"], name.endswith("bin")
    with skipgram.vectors.replacing(tmp_path / name) as file:
        skipgram.vectors.write(file, words, rows, binary)
    again, same = skipgram.vectors.read(tmp_path / name, binary)
    assert again == words
    np.testing.assert_array_equal(same, rows)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin"])
def test_gensim_loads_both_formats(skipgram, main, corpus_file, tmp_path, name):
    keyed = pytest.importorskip("gensim.models.keyedvectors").KeyedVectors
    assert main(corpus_file, "-o", tmp_path / name) == 0
    binary = name.endswith("bin")
    theirs = keyed.load_word2vec_format(str(tmp_path / name), binary=binary)
    words, rows = skipgram.vectors.read(tmp_path / name, binary)
    assert theirs.index_to_key == words
    np.testing.assert_array_equal(theirs.vectors, rows)
    theirs.save_word2vec_format(str(tmp_path / "theirs"), binary=binary)
    again, same = skipgram.vectors.read(tmp_path / "theirs", binary)
    assert again == words
    np.testing.assert_array_equal(same, rows)
    ours = skipgram.most_similar(words, rows, words[0])
    assert [w for w, _ in ours] == [w for w, _ in theirs.most_similar(words[0])]


def test_printing_where_not_all_can_be_printed(skipgram, installed, tmp_path):
    """Into a pipe that nobody reads any more, and letters that the terminal does not have."""
    file = tmp_path / "vectors.txt"
    file.write_text("2 1\nµ 1\nλ 2\n", "utf-8")
    command = [sys.executable, "-m", "skipgram", "--vectors", file, "--most-similar", "µ".encode()]
    environment = environment_with(installed, LIBRARY, PYTHONUTF8="1", PYTHONIOENCODING="ascii")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["\\xb5", "1.0000", "\\u03bb"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_most_similar(skipgram, main, corpus_file, tmp_path, capsys):
    out = tmp_path / "v.txt"
    assert main(corpus_file, "-o", out, "--most-similar", "w03", "--epochs", 20) == 0
    trained = capsys.readouterr().out
    assert main("--vectors", out, "--most-similar", "w03") == 0
    words, rows = skipgram.vectors.read(out, binary=False)
    unit = rows.astype(float) / np.sqrt((rows.astype(float) ** 2).sum(axis=1, keepdims=True))
    cosines = dict(zip(words, (unit * unit[words.index("w03")]).sum(axis=1), strict=True))
    for printed in (trained, capsys.readouterr().out):
        first, *lines = printed.splitlines()
        assert first == "w03"
        assert len(lines) == 10
        best = {word: float(cosine) for cosine, word in map(str.split, lines)}
        assert list(best.values()) == sorted(best.values(), reverse=True)
        assert best == pytest.approx({word: cosines[word] for word in best}, abs=1e-4)
        rest = {*words} - {"w03", *best}
        assert len(rest) == len(words) - 11
        assert max(cosines[word] for word in rest) < min(best.values()) + 1e-4


# --- errors: exit status 2, a message that names the thing, and no file


@pytest.fixture
def refused(main, capsys, tmp_path):
    def refused(*arguments):
        before = sorted(tmp_path.rglob("*"))
        try:
            status = main(*arguments)
        except SystemExit as stop:  # argparse's own
            status = stop.code
        printed = capsys.readouterr()
        assert status == 2
        assert printed.out == ""
        assert printed.err.count("skipgram: error: ") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return printed.err.partition("skipgram: error: ")[2].strip()

    return refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: it has no words"),
        (b"\n \n", "is empty: it has no words"),
        (b"a b\ncaf\xe9 x\n", "is not UTF-8: line 2 has byte 0xe9 at column 4; convert it, for "
         "instance with iconv"),
        (b"a a a a a b\n", "has 1 of the 2 words that a vocabulary needs: of its 2 different words "
         "only these occur at least 5 times; lower --min-count or give more text"),
    ],
)
def test_a_corpus_that_cannot_be_used(refused, tmp_path, content, message):
    path = tmp_path / "c.txt"
    path.write_bytes(content)
    assert refused(path, "-o", tmp_path / "v.txt") == f"{path} {message}"


def test_a_corpus_that_cannot_be_read(refused, tmp_path):
    missing = tmp_path / "missing.txt"
    expected = f"cannot read {missing}: No such file or directory"
    assert refused(missing, "-o", tmp_path / "v.txt") == expected
    assert refused(tmp_path, "-o", tmp_path / "v.txt") == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dim", 0], "--dim must be a whole number in [1, 65536], got 0"),
        (["--window", -1], "--window must be a whole number in [1, 1000], got -1"),
        (["--negative", 0], "--negative must be a whole number in [1, 1000], got 0"),
        (["--epochs", 0], "--epochs must be a whole number in [1, 2147483647], got 0"),
        (["--threads", 0], "--threads must be a whole number in [1, 1024], got 0"),
        (["--seed", -1], "--seed must be a whole number in [0, 9223372036854775807], got -1"),
        (["--min-count", 0], "--min-count must be a whole number of at least 1, got 0"),
        (["--sample", "nan"], "--sample must be in [0, inf), got nan"),
        (["--lr", "nan"], "--rule sgd: lr must be in [0, inf), got nan"),
        (["--rule", "adam", "--lr", -1], "--rule adam: lr must be in [0, inf), got -1.0"),
        (["--lr", 0.1, "--min-lr", 1], "--min-lr must be at most the learning rate 0.1, got 1.0"),
        (["--rule", "rprop", "--min-lr", 0.001],
         "--min-lr has no effect: rprop reads its lr only at the start"),
        (["--rule", "adma"], f"--rule must be one of {', '.join(RULES)}, got adma"),
        (["--dim", "x"], "argument --dim: invalid int value: 'x'"),
        (["--most-similar", "w6"],
         "'w6' is not in the vocabulary of 60 words; close to it: w56, w46, w36"),
        (["--vectors", "v"], "--vectors trains nothing; leave out CORPUS, --output"),
    ],
)
def test_options_that_cannot_be(refused, corpus_file, tmp_path, arguments, message):
    assert refused(corpus_file, "-o", tmp_path / "v.txt", *arguments) == message


def test_what_would_be_ignored_is_refused(refused, corpus_file, tmp_path):
    assert refused(corpus_file) == (
        "the vectors would be lost: give -o FILE, --most-similar WORD, or both"
    )
    assert refused("--vectors", "v", "--epochs", 3, "--most-similar", "a") == (
        "--vectors trains nothing; leave out --epochs"
    )
    assert refused("--vectors", "v") == "--vectors needs a --most-similar WORD"
    assert refused(corpus_file, "--binary", "--most-similar", "w01") == "--binary needs -o FILE"
    assert refused(corpus_file, "-o", corpus_file) == (
        f"{corpus_file} is the corpus itself; give another file to -o"
    )


def test_an_output_that_cannot_be_written_is_found_before_training(
    skipgram, refused, corpus_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(skipgram.__main__, "train", None)
    nowhere = tmp_path / "no" / "v.txt"
    assert refused(corpus_file, "-o", nowhere) == (
        f"cannot write to {nowhere}: No such file or directory"
    )
    assert refused(corpus_file, "-o", tmp_path) == f"cannot write to {tmp_path}: it is not a file"


def test_vectors_that_diverge(refused, corpus_file, tmp_path):
    assert refused(corpus_file, "-o", tmp_path / "v.txt", "--lr", 1e30) == (
        "training diverged: --rule sgd with --lr 1e+30 gave vectors that are not finite; lower --lr"
    )


@pytest.mark.parametrize("binary", [False, True])
def test_a_damaged_file_of_vectors(skipgram, refused, main, corpus_file, tmp_path, capsys, binary):
    path = tmp_path / ("v.bin" if binary else "v.txt")
    assert main(corpus_file, "-o", path) == 0
    capsys.readouterr()
    whole = path.read_bytes()
    for damaged in (b"", b"x", whole[:-50], whole.replace(b"60 100", b"61 100", 1), b"60 x\n"):
        path.write_bytes(damaged)
        message = refused("--vectors", path, "--most-similar", "w01")
        assert message.startswith(f"{path} is not a whole file of vectors in word2vec's")
    assert refused("--vectors", tmp_path / "none", "--most-similar", "w01") == (
        f"cannot read {tmp_path / 'none'}: No such file or directory"
    )


def test_a_failure_leaves_the_old_file(skipgram, main, corpus_file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "v.txt"
    out.write_text("old", "utf-8")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(skipgram.vectors, "write", full)
    assert main(corpus_file, "-o", out) == 1
    expected = f"skipgram: error: cannot write to {out}: No space left on device\n"
    assert capsys.readouterr().err.endswith(expected)
    assert out.read_text("utf-8") == "old"
    assert sorted(tmp_path.iterdir()) == [corpus_file, out]


INTERRUPTED = """
    import os, signal, sys
    from skipgram import __main__, training

    class Loop(training.Loop):
        jobs = 0

        def train(self, *job):
            super().train(*job)
            Loop.jobs += 1
            if Loop.jobs == 3:
                os.kill(os.getpid(), signal.SIGINT)

    training.Loop = Loop
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
    sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupt(installed, corpus_file, tmp_path, threads):
    """Ctrl-C in the midst of training: after the third of a million jobs."""
    done = run_python(
        "-c", textwrap.dedent(INTERRUPTED), corpus_file, "-o", tmp_path / "v.txt",
        "--epochs", 1_000_000, "--threads", threads, folders=[installed, LIBRARY],
    )
    assert done.returncode == 130
    assert done.stderr == "skipgram: stopped; nothing was written\n"
    assert sorted(tmp_path.iterdir()) == [corpus_file]


def test_the_default_corpus(main, tmp_path, monkeypatch):
    """Python's own text; here, of a library with one docstring."""
    (tmp_path / "library").mkdir()
    text = "A few words that go on and on. " * 5 + "Rare."
    (tmp_path / "library" / "a.py").write_text(f'"""{text}"""', "utf-8")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path / "library")})
    assert main("-o", tmp_path / "v.txt", "--epochs", 1, "--dim", 8) == 0
    header, *vectors = (tmp_path / "v.txt").read_text("utf-8").splitlines()
    assert header == "7 8"
    words = {line.split()[0] for line in vectors}
    assert words == {"a", "few", "words", "that", "go", "on", "and"}


def test_readme_lists_every_option(skipgram):
    readme = (EXAMPLE / "README.md").read_text("utf-8")
    for action in skipgram.__main__.parser()._actions:
        for option in action.option_strings:
            if option not in ("-h", "--help"):
                assert f"`{option}" in readme, option
