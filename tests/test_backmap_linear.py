"""Right inverses of mappings, and sites and rigid bonds that are held exactly."""

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap.constraints import Constraints, UnreachableError
from remcg.backmap.linear import (
    Projector,
    mass_metric_inverse,
    null_space_dimension,
    pseudoinverse,
)
from remcg.errors import InputError

MASSES = np.array([15.9994, 1.008, 1.008])
WATER = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333314, 0.0942816, 0.0]])
PAIRS = np.array([[0, 1], [0, 2], [1, 2]])
LENGTHS = np.linalg.norm(WATER[PAIRS[:, 0]] - WATER[PAIRS[:, 1]], axis=1)


def waters(n, weights=MASSES):
    """Mapping of n waters with one site each."""
    return csr_matrix(block_diag([[np.asarray(weights) / np.sum(weights)]] * n))


def overlapping(n_sites, n_atoms, size, seed):
    """A random mapping whose sites share atoms, in blocks of all kinds; some atoms are in none."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((n_sites, n_atoms))
    for row in matrix:
        first = rng.integers(n_atoms - size)
        row[first : first + rng.integers(2, size)] = 1.0
        row *= rng.random(n_atoms)
        row /= row.sum()
    return csr_matrix(matrix)


def test_the_pseudoinverse_of_water_pushes_oxygen_beyond_the_site():
    inverse = pseudoinverse(waters(4)).toarray()
    np.testing.assert_allclose(inverse[:3, 0], [1.117136, 0.070382, 0.070382], atol=1e-6)
    assert np.count_nonzero(inverse) == 12


def test_the_mass_metric_inverse_of_water_puts_all_atoms_on_the_site():
    inverse = mass_metric_inverse(waters(4), np.tile(MASSES, 4))
    np.testing.assert_allclose(inverse.data, 1.0, rtol=0, atol=1e-12)
    assert inverse.nnz == 12


def test_two_beads_of_three_atoms():
    """The example of the theory: the atoms of an averaged pair are put at the same place."""
    matrix = csr_matrix([[0.5, 0.5, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(pseudoinverse(matrix).toarray(), [[1, 0], [1, 0], [0, 1]])
    assert null_space_dimension(matrix) == 3


def test_the_pseudoinverse_fulfils_the_conditions_of_penrose_for_overlapping_sites():
    matrix = overlapping(40, 200, 8, seed=1)
    inverse = pseudoinverse(matrix)
    dense, b = matrix.toarray(), inverse.toarray()
    np.testing.assert_allclose(b, np.linalg.pinv(dense), atol=1e-9)
    for product in (dense @ b, b @ dense):
        np.testing.assert_allclose(product, product.T, atol=1e-9)
    rank = np.linalg.matrix_rank(dense)
    assert null_space_dimension(matrix) == 3 * (200 - rank) > 0
    assert inverse.nnz < 0.2 * dense.size


@pytest.mark.parametrize("metric", ["norm", "mass"])
def test_mapping_after_the_inverse_is_one_and_the_inverse_after_mapping_a_projection(metric):
    matrix = overlapping(25, 120, 7, seed=2)
    masses = np.random.default_rng(3).uniform(1, 30, 120)
    inverse = pseudoinverse(matrix) if metric == "norm" else mass_metric_inverse(matrix, masses)
    sites = np.random.default_rng(4).normal(size=(25, 3))
    assert np.abs(matrix @ (inverse @ sites) - sites).max() < 1e-11
    projection = (inverse @ matrix).toarray()
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-9)
    assert np.trace(projection) == pytest.approx(25)


def test_sites_that_depend_on_one_another_are_met_by_least_squares():
    matrix = csr_matrix([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1.0]])
    for inverse in (pseudoinverse(matrix), mass_metric_inverse(matrix, [1.0, 3.0, 2.0])):
        np.testing.assert_allclose(matrix @ (inverse @ [1.0, 3.0, 5.0]), [2.0, 2.0, 5.0])
    with pytest.raises(InputError, match="the sites of the mapping depend on one another"):
        Projector(matrix, np.ones(3))


@pytest.mark.parametrize("masses", [[1.0, 1, 1, 1], [12.01, 1.008, 1.008, 15.999]])
def test_a_site_that_is_a_combination_of_others_cannot_be_set(masses):
    """Also where rounding leaves a pivot to the factorisation."""
    m = np.array(masses)
    rows = [np.where(np.isin(np.arange(4), part), m, 0) for part in ([0, 1], [2, 3], range(4))]
    operator = csr_matrix([row / row.sum() for row in rows])
    with pytest.raises(InputError, match="depend on one another"):
        Projector(operator, m)
    assert Projector(operator[:2], m).residual(np.zeros((4, 3)), np.zeros((2, 3))) == 0.0


def test_the_mass_metric_follows_rotations_and_translations_and_least_norm_does_not():
    rng = np.random.default_rng(5)
    matrix, masses = waters(6), np.tile(MASSES, 6)
    sites, shift = rng.normal(size=(6, 3)), np.array([3.0, -2.0, 7.0])
    turn = Rotation.random(None, rng).as_matrix()
    inverse = mass_metric_inverse(matrix, masses)
    moved = inverse @ (sites @ turn.T + shift)
    np.testing.assert_allclose(moved, (inverse @ sites) @ turn.T + shift, rtol=0, atol=1e-10)
    least = pseudoinverse(matrix)
    assert np.abs(least @ (sites + shift) - least @ sites - shift).max() > 0.1


def test_the_projector_is_the_mass_metric_inverse():
    matrix = overlapping(25, 120, 7, seed=6)
    rng = np.random.default_rng(7)
    masses, x, y = rng.uniform(1, 30, 120), rng.normal(size=(120, 3)), rng.normal(size=(25, 3))
    expected = x + mass_metric_inverse(matrix, masses) @ (y - matrix @ x)
    np.testing.assert_allclose(Projector(matrix, masses).project(x, y), expected, atol=1e-9)


@pytest.mark.parametrize(
    "box", [np.array([2.0, 2.1, 2.2]), np.array([[2.0, 0, 0], [0.7, 1.9, 0], [-0.5, 0.6, 1.8]])]
)
def test_whole_molecules_meet_wrapped_sites_up_to_a_lattice_vector(box):
    rng = np.random.default_rng(8)
    matrix, masses = waters(9), np.tile(MASSES, 9)
    projector = Projector(matrix, masses)
    x = (rng.normal(size=(9, 1, 3)) + WATER).reshape(-1, 3)
    sites = rng.uniform(0, 2, (9, 3))
    cell = box if box.ndim == 2 else np.diag(box)
    wrapped = sites + rng.integers(-1, 2, (9, 3)) @ cell
    x = projector.project(x, sites)
    assert projector.residual(x, wrapped, box) < 1e-12
    assert projector.residual(x, sites) < 1e-12
    assert projector.residual(x, wrapped + np.eye(3)[0] / 10, box) == pytest.approx(0.1)


def test_a_site_without_mass_is_refused():
    matrix = csr_matrix([[0.5, 0.5, 0], [0, 0, 1.0]])
    for call in (mass_metric_inverse, Projector):
        with pytest.raises(InputError, match=r"site 1 of the mapping .* no atom with a mass"):
            call(matrix, [1.0, 1.0, 0.0])
    with pytest.raises(InputError, match=r"site 1 of the mapping .* no atom with a mass"):
        Constraints(matrix, [1.0, 1.0, 0.0], [], [])


def test_the_most_probable_configuration_of_a_gaussian_is_not_a_typical_one():
    """Draws from exp(-|x|^2/2) at fixed sites lie on a shell of radius sqrt(dim) around the MAP."""
    n = 400
    matrix = overlapping(40, n, 8, seed=9)
    rng = np.random.default_rng(10)
    y = rng.normal(size=(40, 3))
    inverse = pseudoinverse(matrix)
    best = inverse @ y  # least norm: largest density
    free = rng.normal(size=(200, n, 3))
    draws = np.array([x + inverse @ (y - matrix @ x) for x in free])
    radius = np.linalg.norm(draws - best, axis=(1, 2))
    dimension = null_space_dimension(matrix)
    assert dimension == 1080
    assert np.mean(radius**2) == pytest.approx(dimension, abs=4 * np.sqrt(2 * dimension / 200))
    assert radius.min() > 0.9 * np.sqrt(dimension)  # and none is near the MAP


def a_chain(n, seed):
    """n waters as one rigid-bonded system: positions, masses, rigid pairs and lengths."""
    rng = np.random.default_rng(seed)
    x = (rng.uniform(0, 2, (n, 1, 3)) + WATER).reshape(-1, 3)
    pairs = (3 * np.arange(n)[:, None, None] + PAIRS).reshape(-1, 2)
    return x, np.tile(MASSES, n), pairs, np.tile(LENGTHS, n)


def rattle(x, sites, matrix, masses, pairs, lengths, reference):
    """Independent and dense: Newton on all multipliers of x + W^-1 C^T lambda at once."""
    n_sites, n_atoms = matrix.shape
    gradient = np.zeros((3 * n_sites + len(pairs), n_atoms, 3))
    for k in range(3):
        gradient[k * n_sites : (k + 1) * n_sites, :, k] = matrix.toarray()
    for row, (i, j) in enumerate(pairs, 3 * n_sites):
        gradient[row, i] = reference[i] - reference[j]
        gradient[row, j] = -gradient[row, i]
    spread = gradient / masses[:, None]
    multipliers = np.zeros(len(gradient))
    for _ in range(20):
        now = x + np.tensordot(multipliers, spread, 1)
        bonds = now[pairs[:, 0]] - now[pairs[:, 1]]
        error = np.concatenate(
            [(matrix @ now - sites).T.ravel(), ((bonds**2).sum(axis=1) - lengths**2) / 2]
        )
        jacobian = gradient.copy()
        for row, (i, j) in enumerate(pairs, 3 * n_sites):
            jacobian[row] = 0.0
            jacobian[row, i], jacobian[row, j] = bonds[row - 3 * n_sites], -bonds[row - 3 * n_sites]
        jacobian = np.einsum("aij,bij->ab", jacobian, spread)
        multipliers -= np.linalg.lstsq(jacobian, error, rcond=1e-12)[0]
    return now


def hexane(seed):
    """Six carbons with hydrogens, three sites that share carbons, rigid C-H bonds."""
    rng = np.random.default_rng(seed)
    carbons = np.c_[0.13 * np.arange(6), 0.08 * (np.arange(6) % 2), np.zeros(6)]
    x, pairs, masses = [], [], []
    for k, carbon in enumerate(carbons):
        first = len(x)
        x.append(carbon)
        masses.append(12.011)
        for _ in range(3 if k in (0, 5) else 2):
            arm = rng.normal(size=3)
            pairs.append([first, len(x)])
            x.append(carbon + 0.109 * arm / np.linalg.norm(arm))
            masses.append(1.008)
    matrix = np.zeros((3, len(x)))
    for site, atoms in enumerate((range(0, 8), range(6, 14), range(12, 20))):
        matrix[site, list(atoms)] = np.array(masses)[list(atoms)]
    matrix = csr_matrix(matrix / matrix.sum(axis=1, keepdims=True))
    return np.array(x), np.array(masses), np.array(pairs), np.full(len(pairs), 0.109), matrix


def test_projected_positions_are_those_of_an_independent_rattle():
    rng = np.random.default_rng(11)
    x, masses, pairs, lengths = a_chain(3, 12)
    *other, matrix = hexane(13)
    for case in ((x, masses, pairs, lengths, waters(3, [1, 1, 1])), (*other, matrix)):
        x, masses, pairs, lengths, matrix = case
        sites = matrix @ x + 0.002 * rng.normal(size=(3, 3))
        strayed = x + 0.005 * rng.normal(size=x.shape)
        constraints = Constraints(matrix, masses, pairs, lengths)
        found = constraints.project(strayed, sites, x)
        expected = rattle(strayed, sites, matrix, masses, pairs, lengths, x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
        assert max(constraints.residual(found, sites)) < 1e-11
        assert np.abs(found - strayed).max() > 1e-3


def test_projected_velocities_leave_sites_and_bonds_as_they_are_and_lose_least_energy():
    rng = np.random.default_rng(14)
    x, masses, pairs, lengths, matrix = hexane(15)
    constraints = Constraints(matrix, masses, pairs, lengths)
    v = rng.normal(size=x.shape)
    w = constraints.project_velocities(v, x)
    rates = ((x[pairs[:, 0]] - x[pairs[:, 1]]) * (w[pairs[:, 0]] - w[pairs[:, 1]])).sum(axis=1)
    assert np.abs(rates).max() < 1e-14
    assert np.abs(matrix @ w).max() < 1e-14
    np.testing.assert_allclose(constraints.project_velocities(w, x), w, atol=1e-14)
    other = constraints.project_velocities(rng.normal(size=x.shape), x)
    assert abs((masses[:, None] * (v - w) * other).sum()) < 1e-12  # orthogonal in the metric
    forces = rng.normal(size=x.shape)
    along = constraints.project_forces(forces, x)
    assert ((forces - along) * other).sum() == pytest.approx(0, abs=1e-12)


def test_projected_noise_has_the_energy_of_the_free_directions():
    rng = np.random.default_rng(16)
    x, masses, pairs, lengths, matrix = hexane(17)
    constraints = Constraints(matrix, masses, pairs, lengths)
    assert constraints.degrees_of_freedom == 60 - 9 - 14
    noise = rng.normal(size=(2000, 20, 3)) / np.sqrt(masses)[:, None]
    kept = [constraints.project_velocities(v, x) for v in noise]
    twice = (masses[:, None] * np.square(kept)).sum(axis=(1, 2))
    assert twice.mean() == pytest.approx(37, abs=4 * np.sqrt(2 * 37 / 2000))


@pytest.mark.parametrize(
    ("matrix", "free"),
    [
        (np.eye(3), 0),  # every atom is a site: the rigid bonds follow
        ([[1.0, 0, 0]], 3),  # a site is one atom
        ([[1.0, 0, 0], [0, 1.0, 0]], 1),  # one rigid bond follows
        ([[0.5, 0.5, 0]], 3),  # a site is a rigid pair
        ([MASSES / MASSES.sum()], 3),
        (np.zeros((0, 3)), 6),
    ],
)
def test_bonds_that_sites_already_fix_do_not_break_the_solution(matrix, free):
    rng = np.random.default_rng(18)
    matrix = csr_matrix(np.asarray(matrix, float))
    turned = WATER @ Rotation.random(None, rng).as_matrix().T
    constraints = Constraints(matrix, MASSES, PAIRS, LENGTHS)
    assert constraints.degrees_of_freedom == free
    sites = matrix @ turned
    for reference in (turned, None):
        x = constraints.project(turned + 0.003 * rng.normal(size=(3, 3)), sites, reference)
        assert max(constraints.residual(x, sites)) < 1e-9
    v = constraints.project_velocities(rng.normal(size=(3, 3)), x)
    assert np.abs(matrix @ v).max(initial=0) < 1e-9
    assert np.abs(v).max() < 10


def test_sites_that_rigid_molecules_cannot_reach_are_reported_with_the_atoms():
    n = 3
    x, masses, pairs, lengths = a_chain(n, 19)
    matrix = csr_matrix(block_diag([[[1.0, 0, 0], [0, 0.5, 0.5]]] * n))
    constraints = Constraints(matrix, masses, pairs, lengths)
    sites = matrix @ x
    constraints.project(x, sites)
    sites[3] += 1.0
    with pytest.raises(
        UnreachableError, match=r"atoms 3 to 5 cannot meet .*sites \[2, 3\]"
    ) as info:
        constraints.project(x, sites)
    assert info.value.atoms.tolist() == [3, 4, 5]


def test_a_molecule_with_hundreds_of_rigid_bonds_in_one_block_can_be_solved():
    """Overlapping sites tie a long chain together."""
    rng, n = np.random.default_rng(20), 150
    x = np.cumsum(0.15 * rng.normal(size=(n, 3)) / np.sqrt(3), axis=0)
    pairs = np.c_[np.arange(0, n - 1), np.arange(1, n)]
    lengths = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    matrix = np.zeros((24, n))
    for site in range(24):
        matrix[site, 6 * site : 6 * site + 9] = 1 / 9
    matrix = csr_matrix(matrix)
    constraints = Constraints(matrix, np.full(n, 12.0), pairs, lengths)
    assert constraints.degrees_of_freedom == 3 * n - 72 - 149
    sites = matrix @ x
    found = constraints.project(x + 0.001 * rng.normal(size=x.shape), sites, x)
    assert max(constraints.residual(found, sites)) < 1e-10
