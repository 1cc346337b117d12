"""A multilayer perceptron by hand: forward, loss and backward in NumPy, no framework.

Copy this file to start a network of your own. Parameters live in one dict, gradients come in
another with the same keys, and ``optimizer.update(params, grads)`` is all there is to training.
One line before it, ``fastoptim.share_threads()``, lets the products below run on the same threads
as the updates, so that the two do not wait for each other.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastoptim

Array = NDArray[np.float32]


def init(sizes: list[int], seed: int) -> dict[str, Array]:
    """Return weights W1, b1, W2, b2, … for layers of these sizes (He's initialisation)."""
    rng = np.random.default_rng(seed)
    params = {}
    for k, (rows, columns) in enumerate(pairwise(sizes), start=1):
        W = rng.standard_normal((rows, columns), dtype=np.float32)  # noqa: N806 the usual letter
        params[f"W{k}"] = W * np.float32((2 / rows) ** 0.5)
        params[f"b{k}"] = np.zeros(columns, np.float32)
    return params


def forward(params: dict[str, Array], x: Array) -> list[Array]:
    """Return the activations of every layer: the input, hidden layers (ReLU), class scores."""
    layers = [x]
    depth = len(params) // 2
    for k in range(1, depth + 1):
        a = layers[-1] @ params[f"W{k}"] + params[f"b{k}"]
        layers.append(np.maximum(a, 0) if k < depth else a)
    return layers


def softmax(scores: Array) -> Array:
    """Return class probabilities, row by row."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def loss(params: dict[str, Array], x: Array, t: NDArray[np.intp]) -> float:
    """Return the mean cross-entropy of inputs x with class labels t."""
    y = softmax(forward(params, x)[-1])
    return float(-np.log(y[np.arange(len(t)), t] + 1e-7).mean())


def accuracy(params: dict[str, Array], x: Array, t: NDArray[np.intp]) -> float:
    """Return the share of inputs whose highest score is that of their label."""
    return float((forward(params, x)[-1].argmax(axis=1) == t).mean())


def gradients(
    params: dict[str, Array], x: Array, t: NDArray[np.intp], *, products: bool = False
) -> dict[str, Any]:
    """Return the gradient of the mean cross-entropy with respect to every parameter.

    With `products` those of the weights are `fastoptim.Product`, and the update multiplies.
    """
    layers = forward(params, x)
    d = softmax(layers[-1])  # d: the gradient with respect to the scores of a layer
    d[np.arange(len(t)), t] -= 1
    d /= len(t)
    grads: dict[str, Any] = {}
    for k in range(len(params) // 2, 0, -1):
        a = layers[k - 1]
        grads[f"W{k}"] = fastoptim.Product(a, d) if products else a.T @ d
        grads[f"b{k}"] = d.sum(axis=0)
        if k > 1:
            d = (d @ params[f"W{k}"].T) * (layers[k - 1] > 0)
    return grads
