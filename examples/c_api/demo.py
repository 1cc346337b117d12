"""Factorise 100,000 synthetic ratings with three rules, on one thread and on two."""

import numpy as np
import scipy.sparse as sp
from factors import factorise

import fastoptim as fo

rng = np.random.default_rng(0)
tastes, kinds = rng.normal(size=(2000, 5)), rng.normal(size=(1000, 5))
user, item = np.divmod(rng.choice(2000 * 1000, 100_000, replace=False), 1000)
rating = (tastes[user] * kinds[item]).sum(axis=1) + rng.normal(scale=0.1, size=user.size)
ratings = sp.csr_matrix((rating, (user, item)), shape=(2000, 1000))

for opt in (fo.SGD(lr=0.01), fo.AdaGrad(lr=0.5), fo.Adam(lr=0.1)):
    U, V = factorise(ratings, rank=5, opt=opt, epochs=100)
    error = np.sqrt(np.mean(((U[user] * V[item]).sum(axis=1) - rating) ** 2))
    on_two = factorise(ratings, rank=5, opt=opt, epochs=100, threads=2)
    same = np.array_equal(U, on_two[0]) and np.array_equal(V, on_two[1])
    print(f"{opt!r}: root mean square error {error:.3f}; the same on two threads: {same}")
