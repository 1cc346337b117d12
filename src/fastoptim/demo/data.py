"""What the demonstration trains: a network on scikit-learn's handwritten digits."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fastoptim.demo import mlp

LAYERS = [64, 512, 256, 10]  # 166,922 parameters, enough for several threads
BATCH = 120
EPOCH = 12  # batches, all of one size; whole steps of every method below
SEED = 20
NETWORK = f"{'-'.join(map(str, LAYERS))} perceptron, handwritten digits, batches of {BATCH}"


class Data(NamedTuple):
    """Images of 8×8 pixels with their labels, to train on and to validate on."""

    x: Any
    t: Any
    x_validation: Any
    t_validation: Any

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Any, Any]]:
        """Yield the mini-batches of one epoch in random order."""
        order = rng.permutation(len(self.x))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            yield self.x[batch], self.t[batch]


def digits() -> Data:
    """Return scikit-learn's handwritten digits: 1,440 to train on, 357 to validate on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, x_validation, t, t_validation = train_test_split(
        (images / 16).astype(np.float32), labels, test_size=357, stratify=labels, random_state=SEED
    )
    return Data(x, t, x_validation, t_validation)


def new_network() -> dict[Any, Any]:
    """Return the parameters that every run starts from."""
    return dict(mlp.init(LAYERS, SEED))


@dataclass
class Curve:
    """Losses on the way."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    def add(self, params: dict[Any, Any], data: Data) -> None:
        """Take both losses of a network."""
        self.training.append(mlp.loss(params, data.x, data.t))
        self.validation.append(mlp.loss(params, data.x_validation, data.t_validation))


def label(name: str, settings: Mapping[str, float]) -> str:
    """Return the name in a picture's legend: with all that is not the default."""
    return ", ".join([name, *(f"{key} = {value:g}" for key, value in settings.items())])


def say(*lines: str) -> None:
    """Print lines; a terminal without µ, – and ¹ gets u, - and 1."""
    text, encoding = "\n".join(lines), sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate({ord("µ"): "u", ord("–"): "-", ord("¹"): "1"})
        text = plain.encode(encoding, "backslashreplace").decode(encoding)
    print(text)


class Report:
    """What a run has to say: lines for a reader as they come, or one JSON object at the end."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.found: dict[str, Any] = {}

    def say(self, *lines: str) -> None:
        """Print lines for a reader."""
        if not self.as_json:
            say(*lines)

    def add(self, name: str, value: object) -> None:
        """Note something for the JSON object."""
        self.found[name] = value

    def end(self) -> None:
        """Print the JSON object."""
        if self.as_json:
            print(json.dumps(self.found, indent=2))
