"""Small systems for the tests of kernels and dynamics."""

import numpy as np
import pytest

from remcg.basis import SplineBasis
from remcg.engine.replica import Start
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.topology import Topology


@pytest.fixture
def soft_model():
    """One site type that repels softly up to 0.6 nm, with a volume term that compresses."""
    terms = (PairTerm(("W", "W"), SplineBasis(0.2, 0.6, 12), 1), VolumeTerm(2, 1))
    theta = 20.0 * np.exp(-np.arange(12) / 2.0)
    return Model(("W",), terms, 300.0, 0.05, (theta[None], np.array([[4.0, 0.5]])))


@pytest.fixture
def mixture_model():
    """Two site types with terms of different range and no term between B and B."""
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.2, 0.6, 12), 1),
        PairTerm(("A", "B"), SplineBasis(0.25, 0.5, 7), 1),
    )
    thetas = (20.0 * np.exp(-np.arange(12) / 2.0)[None], 15.0 * np.exp(-np.arange(7.0))[None])
    return Model(("A", "B"), terms, 300.0, 0.05, thetas)


def lattice_start(n_side, volume_per_site, seed=0, jitter=0.02, n_types=1, mass=18.0):
    """Sites on a cubic lattice with a little noise."""
    random = np.random.default_rng(seed)
    n_sites = n_side**3
    edge = (n_sites * volume_per_site) ** (1.0 / 3.0)
    cells = np.stack(np.meshgrid(*[np.arange(n_side) + 0.5] * 3), axis=-1).reshape(-1, 3) / n_side
    return Start(
        positions=cells * edge + random.normal(0.0, jitter, (n_sites, 3)),
        box=np.full(3, edge),
        velocities=None,
        topology=Topology(np.arange(n_sites) % n_types, np.full(n_sites, mass)),
    )


@pytest.fixture
def soft_start():
    return lattice_start(5, 0.05)


@pytest.fixture
def mixture_start():
    return lattice_start(4, 0.05, n_types=2, jitter=0.05)
