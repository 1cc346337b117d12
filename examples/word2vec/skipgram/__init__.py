"""Word vectors by skip-gram with negative sampling, updated by the rules of fastoptim.

>>> from skipgram import Options, encode, train
>>> sentences = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 100
>>> model = train(encode(sentences, min_count=1), Options(dim=8, epochs=2, seed=1))
>>> model.words, model.inputs.shape
(['the', 'sat', 'cat', 'dog'], (4, 8))
"""

from skipgram.corpus import Corpus, InputError, encode
from skipgram.options import RULES, Options
from skipgram.training import Model, train
from skipgram.vectors import most_similar

__all__ = ["RULES", "Corpus", "InputError", "Model", "Options", "encode", "most_similar", "train"]
