"""Rigid waters and ions as :class:`remcg.backmap.turns.Turns` takes them."""

from itertools import product
from types import SimpleNamespace

import numpy as np
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap.turns import Turns

WATER = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333314, 0.0942816, 0.0]])
WEIGHTS = np.array([15.99943, 1.007947, 1.007947]) / 18.015324
CUBE = np.array([1.9, 2.0, 2.1])
SKEW = np.array([[1.9, 0, 0], [0.5, 2.0, 0], [-0.4, 0.7, 2.1]])


def atoms_of(charges, sigma, epsilon, geometric=False):
    """What turns ask of an atomistic system."""
    arrays = dict(charges=np.array(charges), sigma=np.array(sigma), epsilon=np.array(epsilon))
    return SimpleNamespace(nonbonded=lambda: SimpleNamespace(**arrays, geometric=geometric))


def waters(n, box, seed, n_ions=2, geometric=False):
    """Waters at random, then ions that stand still: Turns, positions and their pieces."""
    rng = np.random.default_rng(seed)
    cell = np.diag(box) if np.ndim(box) == 1 else box
    grid = np.array(list(product(range(4), repeat=3)))[: n + n_ions]
    places = (rng.permutation(grid) / 4 + 0.1 * rng.random((n + n_ions, 3))) @ cell
    places += rng.integers(-1, 1, (n + n_ions, 3)) @ cell
    shapes = Rotation.random(n, rng).as_matrix() @ (WATER - WEIGHTS @ WATER).T
    x = np.concatenate([(places[:n, :, None] + shapes).swapaxes(1, 2).reshape(-1, 3), places[n:]])
    parameters = [
        [*[-0.8476, 0.4238, 0.4238] * n, *[1.0, -1.0] * (n_ions // 2)],
        [*[0.3166, 0.1, 0.1] * n, *[0.25, 0.4] * (n_ions // 2)],
        [*[0.65, 0.0, 0.0] * n, *[0.3, 0.5] * (n_ions // 2)],
    ]
    molecules = [*np.arange(3 * n).reshape(n, 3), *(3 * n + np.arange(n_ions))[:, None]]
    operator = csr_matrix(block_diag([WEIGHTS[None]] * n + [[[1.0]]] * n_ions))
    chain = Turns(atoms_of(*parameters, geometric), operator, molecules)
    return chain, x, np.array(parameters), molecules
