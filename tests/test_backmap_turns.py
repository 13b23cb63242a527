"""Molecules that turn about fixed sites sample their orientations as they should."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.special import erfc

from remcg import boxes
from remcg.backmap import turns
from remcg.backmap.turns import Turns
from remcg.errors import InputError
from remcg.statistics import standard_error
from remcg.units import COULOMB, KB
from turning import CUBE, SKEW, WEIGHTS, atoms_of, waters

TEMPERATURE = 300.0


def naive_energy(x, box, parameters, molecules, cutoff, damping, geometric):
    """All pairs of atoms of different molecules and images, but for pairs of ions."""
    cell = np.diag(box) if np.ndim(box) == 1 else box
    shifts = np.array(list(product((-2, -1, 0, 1, 2), repeat=3))) @ cell
    owner = np.zeros(len(x), int)
    for k, atoms in enumerate(molecules):
        owner[atoms] = k
    charges, sigma, epsilon = parameters
    edge, slope = erfc(damping * cutoff) / cutoff, 0.0
    slope = edge / cutoff + 2 * damping / np.sqrt(np.pi) / cutoff * np.exp(
        -((damping * cutoff) ** 2)
    )
    turns_too = np.array([len(molecules[k]) > 1 for k in owner])
    total = 0.0
    for i, j in product(range(len(x)), repeat=2):
        if owner[i] >= owner[j] or not (turns_too[i] or turns_too[j]):
            continue
        r = np.linalg.norm(x[j] + shifts - x[i], axis=1)
        r = r[r < cutoff]
        v = erfc(damping * r) / r - edge + slope * (r - cutoff)
        s = np.sqrt(sigma[i] * sigma[j]) if geometric else (sigma[i] + sigma[j]) / 2
        lj = 4 * np.sqrt(epsilon[i] * epsilon[j]) * ((s / r) ** 12 - (s / r) ** 6)
        total += (COULOMB * charges[i] * charges[j] * v + lj).sum()
    return total


@pytest.mark.parametrize("box", [CUBE, SKEW], ids=["right angles", "skew"])
@pytest.mark.parametrize("geometric", [False, True])
def test_the_energy_is_that_of_all_pairs_and_images_within_the_cutoff(box, geometric):
    chain, x, parameters, molecules = waters(9, box, 1, geometric=geometric)
    y = waters(9, box, 2, geometric=geometric)[1]
    cutoff = min(0.9, 0.5 * boxes.heights(box).min())
    for frame in (x, y):
        expected = naive_energy(frame, box, parameters, molecules, cutoff, chain.damping, geometric)
        assert chain.energy(frame, box) == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_energies_along_a_run_are_those_of_its_positions():
    chain, x, _, _ = waters(20, SKEW, 3)
    run = chain.run(x, SKEW, TEMPERATURE, 40, np.random.default_rng(1))
    assert run.energies[-1] == pytest.approx(chain.energy(run.positions, SKEW), abs=0.01)
    assert (run.acceptance > 0).all()
    again = chain.run(run.positions, SKEW, TEMPERATURE, 40, np.random.default_rng(1))
    assert again.energies[-1] == pytest.approx(chain.energy(again.positions, SKEW), abs=0.01)


def test_sites_shapes_and_what_stands_still_are_kept():
    chain, x, _, _ = waters(20, CUBE, 4)
    y = x
    for _ in range(3):
        y = chain.run(y, CUBE, 600.0, 100, np.random.default_rng(2)).positions
    assert np.abs(y[:60] - x[:60]).max() > 0.05
    assert np.array_equal(y[60:], x[60:])
    before, after = (z[:60].reshape(-1, 3, 3) for z in (x, y))
    assert np.abs(WEIGHTS @ after - WEIGHTS @ before).max() < 1e-12
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        lengths = [np.linalg.norm(z[:, a] - z[:, b], axis=1) for z in (before, after)]
        np.testing.assert_allclose(*lengths, atol=1e-12)


def test_a_mirror_image_is_never_made():
    shape = np.array([[0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1], [0, 0, 0]])
    chain = Turns(
        atoms_of([0.1, -0.1, 0.2, -0.2], [0.1] * 4, [0.1] * 4),
        csr_matrix(np.full((1, 4), 0.25)),
        [np.arange(4)],
    )
    y = chain.run(shape, None, TEMPERATURE, 50, np.random.default_rng(0)).positions
    arms = y[:3] - y[3]
    assert np.linalg.det(arms) == pytest.approx(np.linalg.det(shape[:3] - shape[3]))
    assert np.abs(y - shape).max() > 0.01


def dipole_and_charges(charges, places, q=0.4, half=0.05):
    """A dipole at the origin, charges that stand still; Turns and positions."""
    n = len(charges)
    x = np.concatenate([[[0, 0, -half], [0, 0, half]], places])
    molecules = [np.arange(2), *(2 + np.arange(n))[:, None]]
    operator = csr_matrix(block_diag([[[0.5, 0.5]]] + [[[1.0]]] * n))
    atoms = atoms_of([-q, q, *charges], [0.1] * (n + 2), [0.0] * (n + 2))
    return Turns(atoms, operator, molecules), x


def test_a_dipole_among_charges_has_the_average_of_the_quadrature(monkeypatch):
    """One charge decides first, the other afterwards: both steps keep detailed balance (4 SE)."""
    monkeypatch.setattr(turns, "NEAR_ATOMS", 1)
    places = np.array([[0, 0, 0.45], [0.6, 0, 0.0]])
    chain, x = dipole_and_charges([0.5, -0.6], places)
    cosine = np.linspace(-1, 1, 401)
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    c, a = np.meshgrid(cosine, angle, indexing="ij")
    axis = np.stack([np.sqrt(1 - c**2) * np.cos(a), np.sqrt(1 - c**2) * np.sin(a), c], axis=-1)
    energy = sum(
        COULOMB * sign * 0.4 * charge / np.linalg.norm(sign * 0.05 * axis - place, axis=-1)
        for charge, place in zip([0.5, -0.6], places)
        for sign in (-1, 1)
    )
    weight = np.exp(-energy / (KB * TEMPERATURE))
    weight[[0, -1]] *= 0.5  # trapezoid
    rng, found = np.random.default_rng(5), []
    for _ in range(900):
        x = chain.run(x, None, TEMPERATURE, 1, rng).positions
        found.append((x[1] - x[0]) / 0.1)
    for k in (0, 2):
        mean, se = standard_error(np.array(found)[None, :, k])
        assert abs(mean - (weight * axis[..., k]).sum() / weight.sum()) < 4 * se
        assert se < 0.05


def test_an_axis_far_from_a_charge_follows_the_langevin_function():
    """<cos> = coth(x) - 1/x, x = p E / kT, for a charge so far away that its field is uniform."""
    q, half, distance = 2.0, 0.05, 5.0
    charge = 40.0
    chain, x = dipole_and_charges([charge], np.array([[0, 0, -distance]]), q, half)
    strength = COULOMB * charge * 2 * half * q / distance**2 / (KB * TEMPERATURE)
    expected = 1 / np.tanh(strength) - 1 / strength
    rng, found = np.random.default_rng(6), []
    for _ in range(600):
        x = chain.run(x, None, TEMPERATURE, 1, rng).positions
        found.append((x[1, 2] - x[0, 2]) / (2 * half))
    mean, se = standard_error(np.array(found)[None])
    assert 1.0 < strength < 40.0
    assert abs(mean - expected) < 4 * se + 1e-3


def test_two_dipoles_have_the_mean_energy_of_the_quadrature():
    """Both turn; energy against integration over the three relative angles, within 4 SE."""
    q, half, apart = 0.5, 0.05, 0.4
    x = np.array([[0, 0, -half], [0, 0, half], [0, 0, apart - half], [0, 0, apart + half]])
    operator = csr_matrix(block_diag([[[0.5, 0.5]]] * 2))
    atoms = atoms_of([-q, q, -q, q], [0.1] * 4, [0.0] * 4)
    chain = Turns(atoms, operator, [np.arange(2), np.arange(2, 4)])
    nodes, weights = np.polynomial.legendre.leggauss(60)
    angle = np.linspace(0, np.pi, 90, endpoint=False) + np.pi / 180
    a, b, p = np.meshgrid(nodes, nodes, angle, indexing="ij")
    zero = np.zeros_like(a)
    first = np.stack([np.sqrt(1 - a**2), zero, a], axis=-1) * half
    second = np.stack(
        [np.sqrt(1 - b**2) * np.cos(p), np.sqrt(1 - b**2) * np.sin(p), b], axis=-1
    )  # fmt: skip
    energy = sum(
        COULOMB * s * t * q * q
        / np.linalg.norm(t * half * second + [0, 0, apart] - s * first, axis=-1)
        for s, t in product((-1, 1), repeat=2)
    )  # fmt: skip
    boltzmann = (
        np.exp(-energy / (KB * TEMPERATURE)) * np.multiply.outer(weights, weights)[..., None]
    )
    expected = (energy * boltzmann).sum() / boltzmann.sum()
    run = chain.run(x, None, TEMPERATURE, 30000, np.random.default_rng(7))
    mean, se = standard_error(run.energies[None])
    assert abs(mean - expected) < 4 * se
    assert se < 0.01 * abs(expected)


def test_free_molecules_turn_uniformly():
    """Elements of a uniform rotation have mean 0 and variance 1/3: 4.5 SE over 9 elements."""
    n = 400
    shape = np.array([[0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    x = (np.arange(n)[:, None, None] * [5.0, 0, 0] + shape).reshape(-1, 3)
    operator = csr_matrix(block_diag([np.full((1, 3), 1 / 3)] * n))
    atoms = atoms_of(np.zeros(3 * n), np.ones(3 * n), np.zeros(3 * n))
    chain = Turns(atoms, operator, list(np.arange(3 * n).reshape(n, 3)))
    box = np.array([5.0 * n, 5.0, 5.0])
    rng, arms = np.random.default_rng(8), []
    for _ in range(10):
        x = chain.run(x, box, TEMPERATURE, 2, rng).positions
        y = x.reshape(n, 3, 3)
        e = y - y.mean(axis=1, keepdims=True)
        arms.append((e[:, 0] - e[:, 1]) / np.sqrt(0.02))
    assert np.abs(np.mean(arms, axis=(0, 1))).max() < 4.5 * np.sqrt(1 / 3 / n / 5)


@pytest.mark.parametrize("cool", ["anneal", "quench"])
def test_cooling_finds_the_lowest_orientation_of_a_dipole(cool):
    chain, x = dipole_and_charges([1.0], np.array([[0, 0, 0.3]]), q=0.8)
    x[:2] = x[[1, 0]]  # against the field
    y = getattr(chain, cool)(x, None, 20.0, 200, np.random.default_rng(9)).positions
    assert (y[1] - y[0]) @ [0, 0, 1] < -0.098


def test_the_step_of_small_turns_adapts_only_while_annealing():
    chain, x, _, _ = waters(20, CUBE, 10)
    first = chain.step
    chain.run(x, CUBE, TEMPERATURE, 20, np.random.default_rng(1))
    assert chain.step == first
    chain.anneal(x, CUBE, TEMPERATURE, 20, np.random.default_rng(1))
    assert chain.step != first


@pytest.mark.parametrize("cool", ["anneal", "quench"])
def test_cooling_does_not_depend_on_what_was_cooled_before(cool):
    chain, x, _, _ = waters(10, CUBE, 12)
    arguments = x, CUBE, TEMPERATURE, 5
    a, b = (getattr(chain, cool)(*arguments, np.random.default_rng(1)).positions for _ in range(2))
    assert np.array_equal(a, b)


def test_a_seed_fixes_the_run():
    chain, x, _, _ = waters(10, CUBE, 11)
    a, b, c = (
        chain.run(x, CUBE, TEMPERATURE, 5, np.random.default_rng(seed)).positions
        for seed in (1, 1, 2)
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_only_whole_molecules_of_one_site_turn():
    """An ion, a molecule of two sites and one of a weight above one stand still."""
    rows = [[1.0, 0, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0, 0]]
    rows += [[0, 0, 0, 1.0, 0, 0, 0], [0, 0, 0, 0, 1.0, 0, 0], [0, 0, 0, 0, 0, 1.0, 1.0]]
    molecules = [np.arange(1), np.arange(1, 3), np.arange(3, 5), np.arange(5, 7)]
    chain = Turns(atoms_of([0.0] * 7, [0.1] * 7, [0.0] * 7), csr_matrix(rows), molecules)
    assert chain.turning.tolist() == [1]


def test_where_nothing_turns_nothing_changes():
    chain = Turns(atoms_of([0.0], [0.1], [0.0]), csr_matrix([[1.0]]), [np.arange(1)])
    x = np.ones((1, 3))
    for turned in (
        chain.run(x, CUBE, TEMPERATURE, 3, np.random.default_rng(1)),
        chain.anneal(x, CUBE, TEMPERATURE, 3, np.random.default_rng(1)),
    ):
        assert np.array_equal(turned.positions, x)
        assert turned.energies.tolist() == [0.0] * 3
    assert chain.energy(x, CUBE) == 0.0


def test_a_force_field_of_other_forms_is_refused():
    with pytest.raises(InputError, match="no plain Lennard-Jones and Coulomb"):
        Turns(SimpleNamespace(nonbonded=lambda: None), csr_matrix([[1.0]]), [np.arange(1)])
