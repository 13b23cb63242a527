"""Conformers of the reference are put under the sites that they fit."""

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap import placement
from remcg.backmap.linear import Projector
from remcg.backmap.placement import place, turned_onto

WATER = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333314, 0.0942816, 0.0]])
MASSES = np.array([15.99943, 1.007947, 1.007947])


def molecules_of(n_molecules, n_atoms):
    return list(np.arange(n_molecules * n_atoms).reshape(n_molecules, n_atoms))


def mapping(n, weights):
    return csr_matrix(block_diag([np.atleast_2d(weights)] * n))


def chain(n_atoms, torsions):
    """A chain of unit bonds at right angles with given torsions, (n_atoms, 3)."""
    x = [np.zeros(3), np.array([1.0, 0, 0]), np.array([1.0, 1.0, 0])]
    for torsion in torsions[: n_atoms - 3]:
        u, v = x[-2] - x[-3], x[-1] - x[-2]
        normal = np.cross(u, v)
        x.append(x[-1] + np.cos(torsion) * -u + np.sin(torsion) * normal)
    return np.array(x) * 0.15


THIRDS = np.kron(np.eye(3), np.full((1, 2), 0.5))  # three sites of two atoms


def pools(n_templates, n, seed):
    """Conformers (n_templates, 6 n, 3) of chains of six atoms with random torsions."""
    rng = np.random.default_rng(seed)
    torsions = rng.uniform(-np.pi, np.pi, (n_templates, n, 3))
    return np.array([[chain(6, t) for t in frame] for frame in torsions]).reshape(
        n_templates, -1, 3
    )


def test_orientations_over_one_site_are_uniform_and_proper():
    """Elements of a uniform rotation have mean 0 and variance 1/3: within 4 SE over 9 elements."""
    n = 3000
    shape = np.eye(4, 3) - np.eye(4, 3).mean(axis=0)
    projector = Projector(mapping(n, np.full(4, 0.25)), np.ones(4 * n))
    rng, template = np.random.default_rng(4), np.tile(shape, (n, 1))[None]
    x = place(template, ["X"] * n, molecules_of(n, 4), np.zeros((n, 3)), projector, rng)
    arms = x.reshape(n, 4, 3)[:, :3] - x.reshape(n, 4, 3)[:, 3:]
    assert np.linalg.det(arms) == pytest.approx(1.0)
    assert np.abs(arms.mean(axis=0)).max() < 4.5 * np.sqrt(1 / 3 / n)
    assert np.abs((arms**2).mean(axis=0) - 1 / 3).max() < 4.5 * np.sqrt(4 / 45 / n)


def test_two_sites_leave_the_angle_about_their_axis_uniform():
    """cos and sin of it have mean 0 and variance 1/2: within 4 SE."""
    n = 4000
    shape = np.array([[0, 0, -1.0], [0, 0, 1.0], [1.0, 0, 0.5]])
    weights = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    sites = np.tile([[0, 0, -1.0], [0, 0, 1.0]], (n, 1))
    projector = Projector(mapping(n, weights), np.ones(3 * n))
    arguments = np.tile(shape, (n, 1))[None], ["X"] * n, molecules_of(n, 3), sites, projector
    third = place(*arguments, np.random.default_rng(2)).reshape(n, 3, 3)[:, 2]
    assert third[:, 2] == pytest.approx(0.5)
    assert np.hypot(third[:, 0], third[:, 1]) == pytest.approx(1.0)
    assert np.abs(third[:, :2].mean(axis=0)).max() < 4 * np.sqrt(0.5 / n)


def test_a_molecule_of_several_sites_finds_its_own_shape_without_being_mirrored():
    """Among many conformers, those that the sites come from, wherever and however they lie."""
    n, rng = 40, np.random.default_rng(12)
    templates = pools(30, n, seed=1)
    frame = rng.integers(30, size=n)
    own = templates.reshape(30, n, 6, 3)[frame, np.arange(n)]
    turns = Rotation.random(n, rng).as_matrix()
    there = np.einsum("mij,maj->mai", turns, own) + rng.uniform(0, 5, (n, 1, 3))
    projector = Projector(mapping(n, THIRDS), np.ones(6 * n))
    sites = projector.map(there.reshape(-1, 3))
    weighted = {"SOFTNESS": 1e-9}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in weighted.items():
            patch.setattr(placement, name, value)
        x = place(templates, ["X"] * n, molecules_of(n, 6), sites, projector, rng)
    assert np.abs(projector.map(x) - sites).max() < 1e-12
    np.testing.assert_allclose(x.reshape(n, 6, 3), there, atol=1e-7)


def test_chosen_conformers_fit_better_than_random_ones_and_differ_between_draws():
    n, rng = 60, np.random.default_rng(5)
    templates, others = pools(20, n, seed=2), pools(1, n, seed=3)[0]
    projector = Projector(mapping(n, THIRDS), np.ones(6 * n))
    sites = projector.map(others)
    arguments = ["X"] * n, molecules_of(n, 6), sites, projector

    def bond_error(x):
        x = x.reshape(n, 6, 3)
        return np.abs(np.linalg.norm(np.diff(x, axis=1), axis=2) - 0.15).mean()

    best = [place(templates, *arguments, rng) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "POOL", 1)
        one = place(templates, *arguments, rng)
    assert bond_error(best[0]) < 0.3 * bond_error(one)
    assert np.abs(best[0] - best[1]).max() > 0.01
    assert np.abs(projector.map(best[0]) - sites).max() < 1e-12


def test_probabilities_of_conformers_follow_how_well_they_fit():
    """Two conformers, 0 and d off in the distance of their sites: weights 1 and exp(-r^2/2s^2)."""
    n, off = 4000, 0.024
    shapes = np.array([[[0, 0, 0], [1.0, 0, 0]], [[0, 0, 0], [1.0 + off, 0, 0]]])
    found = placement._agreeing(
        placement._centred(shapes),
        np.repeat(placement._centred(shapes[:1]), n, axis=0),
        np.random.default_rng(1),
        placement.CANDIDATES,
        placement.SOFTNESS,
    )
    odds = np.exp(-((off / 2) ** 2) / 2 / placement.SOFTNESS**2)
    p = odds / (1 + odds)
    assert abs(found.mean() - p) < 4 * np.sqrt(p * (1 - p) / n)


def test_varied_placements_take_conformers_that_fit_less():
    """Of conformers that are 0, 0.05 and 0.1 nm longer than wanted, the first one, or any."""
    lengths = [0.5, 0.55, 0.6]
    templates = np.array([[[0, 0, 0], [r, 0, 0], [0, 0.1, 0]] for r in lengths])
    projector = Projector(mapping(1, np.eye(3)[:2]), np.ones(3))
    sites, rng = np.array([[0, 0, 0], [0.5, 0, 0]]), np.random.default_rng(3)
    taken = []
    for is_varied in (False, True):
        arguments = templates, ["X"], molecules_of(1, 3), sites, projector, rng, is_varied
        x = np.array([place(*arguments) for _ in range(200)])
        assert np.abs(x[:, :2] - sites).max() < 1e-12
        third = 0.25 - x[:, 2, 0]  # half a length before the middle of the sites
        taken.append([(np.abs(third - 0.5 * r) < 1e-9).mean() for r in lengths])
    assert taken[0][0] > 0.9 and min(taken[1]) > 0.1


def test_handedness_survives_sites_that_ask_for_a_mirror_image():
    shape = np.array([[0, 0, 0], [0.2, 0, 0], [0, 0.15, 0], [0, 0, 0.1]])
    n = 5
    projector = Projector(mapping(n, np.eye(4)[1:]), np.ones(4 * n))
    sites = np.tile(-shape[1:], (n, 1)) + np.repeat(np.arange(n), 3)[:, None]
    turned = turned_onto(np.tile(shape, (n, 1, 1)), np.eye(4)[1:], sites.reshape(n, 3, 3))
    assert np.linalg.det(turned[:, 1:] - turned[:, :1]) == pytest.approx(np.linalg.det(shape[1:]))
    x = place(np.tile(shape, (n, 1))[None], ["X"] * n, molecules_of(n, 4), sites, projector,
              np.random.default_rng(0))  # fmt: skip
    assert np.abs(projector.map(x) - sites).max() < 1e-12


def test_species_and_sizes_are_kept_apart():
    """Water with one site beside chains with three, in mixed order."""
    rng = np.random.default_rng(7)
    species, molecules, weights, atoms, first = [], [], [], [], 0
    for k in range(12):
        shape = WATER if k % 3 else chain(6, [1.0, 2.0, 3.0])
        species.append("water" if k % 3 else "chain")
        molecules.append(np.arange(first, first + len(shape)))
        weights.append((MASSES / MASSES.sum())[None] if k % 3 else THIRDS)
        atoms.append(shape + rng.uniform(0, 3, 3))
        first += len(shape)
    projector = Projector(csr_matrix(block_diag(weights)), np.ones(first))
    reference = np.concatenate(atoms)
    sites = projector.map(reference)
    x = place(reference[None], species, molecules, sites, projector, rng)
    for own in molecules:
        distances = [np.linalg.norm(y[own[1:]] - y[own[0]], axis=1) for y in (x, reference)]
        np.testing.assert_allclose(*distances, atol=1e-9)
    assert np.abs(projector.map(x) - sites).max() < 1e-12


def test_a_seed_fixes_the_placement():
    n = 10
    projector = Projector(mapping(n, THIRDS), np.ones(6 * n))
    templates, sites = pools(3, n, seed=8), projector.map(pools(1, n, seed=9)[0])
    runs = [
        place(templates, ["X"] * n, molecules_of(n, 6), sites, projector, np.random.default_rng(s))
        for s in (1, 1, 2)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
