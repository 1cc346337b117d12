"""A linear text classifier: which library does a sentence of documentation come from?

The texts are the docstrings of NumPy, SciPy and scikit-learn as they are installed, a paragraph
each. A paragraph is a row of a sparse matrix X, its words' weights are W, and the gradient of
softmax regression is the fixed formula Xᵀ(softmax(XW) − Y) / n: sparse as well, since only the
words of a batch have one. It goes to the optimizer as it is, a CSR array; rows of W that it does
not touch cost nothing.

    python examples/text_classifier.py                  # FTRL, which also makes W sparse
    python examples/text_classifier.py --rule adagrad
"""

import argparse
import ast
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

import fastoptim as fo

LIBRARIES = ("numpy", "scipy", "sklearn")
BATCH = 64


def paragraphs(library):
    """The paragraphs of a library's docstrings, read from its source, nothing imported."""
    folder = Path(find_spec(library).origin).parent
    found = {}
    for path in sorted(folder.rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                parts = (ast.get_docstring(node) or "").split("\n\n")
                found.update((p, None) for p in parts if len(p) > 80 and ">>>" not in p)
    return list(found)


def read(per_library, seed):
    """As many texts of each library, shuffled, and which library each is from."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for label, library in enumerate(tqdm(LIBRARIES, desc="reading", unit="library")):
        all_of_it = paragraphs(library)
        for k in rng.permutation(len(all_of_it))[:per_library]:
            text = all_of_it[k].lower()
            for name in (*LIBRARIES, "scikit-learn"):       # that would be too easy
                text = text.replace(name, "")
            texts.append(text)
            labels.append(label)
    order = rng.permutation(len(texts))
    return [texts[k] for k in order], np.array(labels)[order]


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def gradient(x, y, w):
    """Of the mean cross-entropy of a batch: a CSR array of W's shape."""
    residual = softmax(x @ w)
    residual[np.arange(len(y)), y] -= 1
    return (x.T @ sp.csr_array(residual / len(y))).tocsr()


def train(x, y, opt, epochs, seed):
    """Return W after so many passes over the texts."""
    rng = np.random.default_rng(seed)
    params = {"W": np.zeros((x.shape[1], len(LIBRARIES)))}
    with tqdm(total=epochs * x.shape[0], desc=type(opt).__name__, unit="text") as bar:
        for _ in range(epochs):
            order = rng.permutation(x.shape[0])
            for start in range(0, len(order), BATCH):
                batch = order[start:start + BATCH]
                opt.update(params, {"W": gradient(x[batch], y[batch], params["W"])})
                bar.update(len(batch))
    return params["W"]


def options(arguments):
    parser = argparse.ArgumentParser(description="Which library is a text from?")
    parser.add_argument("--rule", choices=("ftrl", "adagrad"), default="ftrl")
    parser.add_argument("--lr", type=float, default=None, help="default: 8 (ftrl), 0.5 (adagrad)")
    parser.add_argument("--l1", type=float, default=0.05, help="of ftrl: more makes W sparser")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--texts", type=int, default=4000, help="of each library, at most")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    if chosen.epochs < 1 or chosen.texts < 10:
        parser.error("--epochs must be at least 1, --texts at least 10")
    try:
        if chosen.rule == "ftrl":
            opt = fo.FTRL(lr=8.0 if chosen.lr is None else chosen.lr, l1=chosen.l1)
        else:
            opt = fo.AdaGrad(lr=0.5 if chosen.lr is None else chosen.lr)
    except ValueError as problem:
        parser.error(str(problem))
    return chosen, opt


def main(arguments=None):
    chosen, opt = options(arguments)
    texts, y = read(chosen.texts, chosen.seed)
    n = len(texts) * 4 // 5
    words = TfidfVectorizer(min_df=2, token_pattern=r"[a-z]{2,}").fit(texts[:n])
    x = sp.csr_array(words.transform(texts))
    w = train(x[:n], y[:n], opt, chosen.epochs, chosen.seed)

    right = (np.argmax(x[n:] @ w, axis=1) == y[n:]).mean()
    guess = np.bincount(y[n:]).max() / len(y[n:])
    used = np.count_nonzero(w.any(axis=1))
    print(f"{opt!r}")
    print(f"held-out texts: {right:.1%} right (the commonest library for all: {guess:.1%})")
    print(f"words with a weight: {used:,} of {len(w):,}")
    names = words.get_feature_names_out()
    for label, library in enumerate(LIBRARIES):
        print(f"{library:>8}: {', '.join(names[np.argsort(-w[:, label])[:8]])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
