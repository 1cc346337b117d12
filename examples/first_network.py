"""A first network: handwritten digits, two layers, gradients by hand, Adam."""

import numpy as np
from sklearn.datasets import load_digits

import fastoptim as fo

# Data: 1,797 images of 8 × 8 pixels in random order; 297 are kept for testing.
rng = np.random.default_rng(0)
images, labels = load_digits(return_X_y=True)
order = rng.permutation(len(images))
x, t = (images[order] / 16).astype(np.float32), labels[order]
x_train, t_train, x_test, t_test = x[:1500], t[:1500], x[1500:], t[1500:]

# The network: 64 inputs, 100 hidden units (ReLU), 10 classes.
params = {
    "W1": rng.standard_normal((64, 100), dtype=np.float32) * np.float32((2 / 64) ** 0.5),
    "b1": np.zeros(100, np.float32),
    "W2": rng.standard_normal((100, 10), dtype=np.float32) * np.float32((2 / 100) ** 0.5),
    "b2": np.zeros(10, np.float32),
}


def forward(x):
    """Return the hidden units and the probabilities of the classes."""
    h = np.maximum(x @ params["W1"] + params["b1"], 0)
    scores = h @ params["W2"] + params["b2"]
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return h, e / e.sum(axis=1, keepdims=True)


def gradients(x, t):
    """Return the gradient of the mean cross-entropy, with the keys of params."""
    h, d = forward(x)
    d[np.arange(len(t)), t] -= 1
    d /= len(t)
    dh = (d @ params["W2"].T) * (h > 0)
    return {"W1": x.T @ dh, "b1": dh.sum(axis=0), "W2": h.T @ d, "b2": d.sum(axis=0)}


def loss(x, t):
    """Return the mean cross-entropy."""
    return float(-np.log(forward(x)[1][np.arange(len(t)), t] + 1e-7).mean())


def accuracy(x, t):
    """Return the share of images that are recognised."""
    return float((forward(x)[1].argmax(axis=1) == t).mean())


opt = fo.Adam(lr=0.001)
for epoch in range(1, 31):
    order = rng.permutation(len(x_train))
    for start in range(0, len(order), 50):
        batch = order[start : start + 50]
        opt.update(params, gradients(x_train[batch], t_train[batch]))
    if epoch % 5 == 0:
        print(
            f"epoch {epoch:2}  training {loss(x_train, t_train):.4f}  "
            f"test {loss(x_test, t_test):.4f}  accuracy {accuracy(x_test, t_test):.1%}"
        )
