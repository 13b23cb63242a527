"""The kernels of the engine against plain loops, finite differences and analytic cases."""

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import mdtraj
import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import BSpline

import naive
from conftest import lattice_start
from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.boxes import heights, vectors, volume
from remcg.engine import replica as replica_module
from remcg.engine.dynamics import molecular_pressure, scale_molecules
from remcg.engine.kernels import (
    BENT,
    BLOCK,
    OBSERVED,
    all_forces,
    basis_sums,
    build_sites,
    build_system,
    no_sums,
    type_pairs,
)
from remcg.engine.neighbors import build_list, close_pairs, is_skew, is_valid, sort_into_cells
from remcg.engine.replica import Start
from remcg.errors import SamplingError
from remcg.model import AngleTerm, BondTerm, DihedralTerm, Model, PairTerm, VolumeTerm
from remcg.sample import sample
from remcg.topology import Topology
from remcg.units import BAR, KB

T = 300.0
R_CUT, SKIN = 0.5, 0.1
REACH = R_CUT + SKIN
SHAPES = {
    "cube": np.eye(3),
    "brick": np.diag([1.0, 1.2, 1.35]),
    "long in x": np.diag([5.0, 1.0, 1.05]),
    "long in z": np.diag([1.05, 1.0, 5.0]),
    "tilted": np.array([[1.0, 0.0, 0.0], [0.4, 1.0, 0.0], [0.3, 0.45, 1.1]]),
    "tilted back": np.array([[1.1, 0.0, 0.0], [-0.5, 1.0, 0.0], [-0.35, -0.4, 1.0]]),
    "both ways": np.array([[1.0, 0.0, 0.0], [0.5, 1.1, 0.0], [-0.4, 0.5, 1.2]]),
    "dodecahedron": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.5**0.5]]),
    "beyond half": np.array([[1.0, 0.0, 0.0], [0.9, 1.0, 0.0], [-0.8, 1.3, 1.0]]),
    "long and tilted": np.array([[1.0, 0.0, 0.0], [0.4, 1.0, 0.0], [-0.3, 0.4, 5.0]]),
}
LEAST_HEIGHTS = {  # nm
    "tiny": 2.0 * R_CUT * (1.0 + 1e-6),
    "2 reaches": 2.0 * REACH,
    "2.5 reaches": 2.5 * REACH,
    "3 reaches": 3.0 * REACH,
    "5 reaches": 5.0 * REACH,
    "8 reaches": 8.0 * REACH,
}
OTHER_CUBE = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])  # the cube's lattice
TILTED = 1.9 * SHAPES["both ways"]
every_shape = pytest.mark.parametrize("shape", SHAPES)
every_height = pytest.mark.parametrize("least", LEAST_HEIGHTS)


class Evaluation(NamedTuple):
    energy: float
    forces: np.ndarray
    virial: np.ndarray
    sums: np.ndarray
    counts: np.ndarray


def arrays(model, start, skin=SKIN, rdf_range=0.0):
    """(positions (n, 4), box, neighbour list, sites, system) as the kernels take them."""
    system, sites = build_system(model, T, rdf_range), build_sites(model, start.topology)
    box = vectors(start.box).copy()
    x = np.zeros((start.topology.n_sites, 4))
    x[:, :3] = start.topology.make_whole(start.positions, start.box)
    reach = np.where(system.reach > 0.0, system.reach + skin, 0.0)
    return x, box, build_list(x, box, sites, system.channel_of, reach), sites, system


def evaluate(model, start, skin=SKIN, n_bins=0, rdf_range=0.0):
    """All that the kernels find in a configuration; counts (n_channels, n_bins)."""
    x, box, neighbors, sites, system = arrays(model, start, skin, rdf_range)
    forces, observed = np.empty_like(x), no_sums(system, n_bins, rdf_range)
    energy = all_forces(x, box, neighbors, sites, system, OBSERVED, observed, forces)
    sums = np.zeros(system.n_columns)
    basis_sums(observed, system, sums)
    counts = observed.counts.sum(axis=1)[:, :n_bins]
    return Evaluation(energy, forces[:, :3], observed.virial[:, :3], sums, counts)


def one_site_molecules(positions, box, n_types=1, mass=18.0):
    n_sites = len(positions)
    topology = Topology(np.arange(n_sites) % n_types, np.full(n_sites, mass))
    return Start(np.asarray(positions, float), box, None, topology)


def box_of(shape, least):
    """Box vectors of a shape with a least height, nm."""
    return SHAPES[shape] * least / heights(SHAPES[shape]).min()


def spread(box, density, most, seed):
    """Random positions, at most as many as ``most``; density in sites per cubed reach."""
    random = np.random.default_rng(seed)
    n_sites = min(most, max(2, int(density * volume(box) / REACH**3)))
    return random.random((n_sites, 3)) @ box


def three_types():
    """A model with three types and terms between some: A-A, A-B and C-B."""
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.2, R_CUT, 9), 1),
        PairTerm(("A", "B"), SplineBasis(0.25, 0.42, 7), 1),
        PairTerm(("C", "B"), SplineBasis(0.12, 0.48, 12), 1),
    )
    random = np.random.default_rng(1)
    thetas = tuple(random.normal(0.0, 5.0, (1, term.n_basis)) for term in terms)
    return Model(("A", "B", "C"), terms, T, 1.0, thetas)


def one_type(r_cut=R_CUT, n_basis=9):
    term = PairTerm(("A", "A"), SplineBasis(0.2, r_cut, n_basis), 1)
    theta = np.random.default_rng(2).normal(0.0, 5.0, (1, n_basis))
    return Model(("A",), (term,), T, 1.0, (theta,))


def assert_is_that_of_a_plain_loop(model, start, rtol=1e-11):
    """Energy, forces, virial and sums to ``rtol`` of the sum of the absolute values in them."""
    found = evaluate(model, start)
    expected = naive.pair_evaluation(start.positions, start.box, start.topology, model, T)
    weight = np.concatenate([[0.0], *[np.abs(t) for t in model.term_theta(T)]])[1:]
    scale = np.abs(expected[3]) @ weight + 1.0
    assert abs(found.energy - expected[0]) < rtol * scale
    for name, theirs in zip(("forces", "virial"), expected[1:]):
        ours = getattr(found, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * (np.abs(theirs).max() + scale))
    np.testing.assert_allclose(found.sums, expected[3], rtol=1e-9, atol=1e-9 * scale)


# -- pair terms against a plain loop


def test_the_reference_of_close_pairs_is_the_shortest_of_125_images():
    for shape in SHAPES:
        box = box_of(shape, 1.0)
        positions = np.random.default_rng(0).uniform(-3.0, 3.0, (12, 3))
        i, j, steps, r = naive.short_steps(positions, box)
        for k in np.flatnonzero(r < 0.5):
            exact = naive.distance(positions[i[k]], positions[j[k]], box)
            np.testing.assert_allclose(steps[k], exact[0], atol=1e-12)
        exact = [naive.distance(positions[a], positions[b], box)[1] for a, b in zip(i, j)]
        assert np.count_nonzero(r < 0.5) == np.count_nonzero(np.array(exact) < 0.5) > 0


@every_shape
@every_height
def test_pair_energy_forces_virial_and_sums_are_those_of_a_plain_loop(shape, least):
    box = box_of(shape, LEAST_HEIGHTS[least])
    for density, n_types in ((1.5, 1), (30.0, 3)):
        positions = spread(box, density, 400, seed=len(shape + least))
        start = one_site_molecules(positions, box, n_types)
        assert_is_that_of_a_plain_loop(one_type() if n_types == 1 else three_types(), start)


@every_shape
def test_sites_on_faces_edges_and_corners_of_the_box_interact_like_any_other(shape):
    box = box_of(shape, 2.5 * REACH)
    places = (0.0, -1e-17, 0.25, 0.5, 1.0 - 1e-16, 1.25)
    fractions = np.stack(np.meshgrid(places[1:4], places[2:], places[:4]), axis=-1).reshape(-1, 3)
    fractions = fractions[
        np.unique(np.round(fractions % 1.0, 6) % 1.0, axis=0, return_index=True)[1]
    ]
    assert_is_that_of_a_plain_loop(three_types(), one_site_molecules(fractions @ box, box, 3))


@pytest.mark.parametrize("edge", [2.0, 2.5, 3.0, 5.0])
def test_another_description_of_the_same_lattice_changes_nothing(edge):
    """In boxes of few sites, of one cell and of many."""
    positions = spread(edge * np.eye(3), 6.0, 400, seed=2)
    for model, n_types in ((one_type(), 1), (three_types(), 3)):
        straight = evaluate(model, one_site_molecules(positions, np.full(3, edge), n_types))
        tilted = evaluate(model, one_site_molecules(positions, edge * OTHER_CUBE, n_types))
        scale = np.abs(straight.forces).max()
        for ours, theirs in zip(tilted, straight):
            np.testing.assert_allclose(ours, theirs, atol=1e-10 * scale)


@every_shape
def test_images_up_to_fifty_boxes_away_change_nothing_but_rounding(shape):
    box, random = box_of(shape, 2.5 * REACH), np.random.default_rng(3)
    positions = spread(box, 8.0, 200, seed=3)
    far = positions + random.integers(-50, 51, positions.shape) @ box
    model, n_types = three_types(), 3
    found = evaluate(model, one_site_molecules(far, box, n_types))
    expected = evaluate(model, one_site_molecules(positions, box, n_types))
    scale = np.abs(expected.forces).max()
    assert found.energy == pytest.approx(expected.energy, abs=1e-9 * scale)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-9 * scale)
    np.testing.assert_allclose(found.virial, expected.virial, atol=1e-9 * scale)


@pytest.mark.parametrize("least", [2.0 * R_CUT * (1.0 + 1e-6), 8.0 * REACH])
@pytest.mark.parametrize("shape", ["brick", "both ways"])
def test_sites_crowded_in_a_corner_interact_like_any_other(shape, least):
    """More neighbours of one site than pass together through the loops."""
    box = box_of(shape, least)
    positions = 0.35 * np.random.default_rng(4).random((BLOCK + 150, 3)) - 0.1
    start = one_site_molecules(positions, box)
    assert arrays(one_type(), start)[2].longest > BLOCK
    assert_is_that_of_a_plain_loop(one_type(), start)


def test_any_number_of_neighbours_of_a_site_is_summed_completely():
    """Clusters of 1 to 14 sites, in all, and each alone: the loops go by four."""
    box, random = np.full(3, 9.0), np.random.default_rng(5)
    clusters = [
        np.array([0.5 + 1.5 * (k % 5), 1.0 + 2.0 * (k // 5), 1.0]) + 0.25 * random.random((k, 3))
        for k in range(1, 15)
    ]
    for positions in [*clusters, np.concatenate(clusters)]:
        for n_types in (1, 3):
            model = one_type() if n_types == 1 else three_types()
            assert_is_that_of_a_plain_loop(model, one_site_molecules(positions, box, n_types))


@pytest.mark.parametrize("shape", ["cube", "tilted"])
def test_one_site_alone_has_no_energy(shape):
    found = evaluate(one_type(), one_site_molecules([[0.1, 0.2, 3.0]], box_of(shape, 1.0)))
    assert found.energy == 0.0 and not found.forces.any() and not found.sums.any()


@pytest.mark.parametrize("box", [np.full(3, 2.0), TILTED], ids=["straight", "tilted"])
def test_two_sites_at_one_place_are_not_finite_and_the_others_are_right(box):
    positions = spread(vectors(box), 10.0, 60, seed=6)
    positions[41] = positions[7]
    start = one_site_molecules(positions, box)
    found = evaluate(one_type(), start)
    energy, forces, *_ = naive.pair_evaluation(positions, box, start.topology, one_type(), T)
    is_same = np.isin(np.arange(60), (7, 41))
    assert not np.isfinite(found.forces[is_same]).all(axis=1).any()
    np.testing.assert_allclose(found.forces[~is_same], forces[~is_same], atol=1e-9)
    assert found.energy == pytest.approx(energy, rel=1e-11)


@pytest.mark.parametrize("box", [np.full(3, 2.0), TILTED], ids=["straight", "tilted"])
def test_two_excluded_sites_at_one_place_are_no_harm(box):
    positions = spread(vectors(box), 10.0, 60, seed=6)
    positions[41] = positions[7]
    topology = Topology(np.zeros(60), np.ones(60), bonds=[(7, 41)])
    start = Start(positions, box, None, topology)
    model = replace(one_type(), exclude=("1-2",))
    assert np.isfinite(evaluate(model, start).forces).all()
    assert_is_that_of_a_plain_loop(model, start)


def test_a_model_without_pair_terms_has_no_energy_but_a_radial_distribution():
    model = Model(("A", "B"), (VolumeTerm(1, 1),), T, 1.0, (np.ones((1, 1)),))
    for shape in ("brick", "both ways"):
        box = box_of(shape, 2.5 * REACH)
        start = one_site_molecules(spread(box, 5.0, 100, 7), box, 2)
        found = evaluate(model, start, n_bins=20, rdf_range=0.5)
        assert found.energy == 0.0 and not found.forces.any() and not found.virial.any()
        np.testing.assert_array_equal(found.counts, plain_counts(start, model, 20, 0.5))


def plain_counts(start, model, n_bins, rdf_range, excluded=()):
    """Pairs by channel and bin of distance."""
    i, j, _, r = naive.short_steps(start.positions, start.box)
    kept = np.array([pair not in excluded for pair in zip(i.tolist(), j.tolist())], bool)
    types = start.topology.site_types
    low, high = np.minimum(types[i], types[j]), np.maximum(types[i], types[j])
    edges = np.linspace(0.0, rdf_range, n_bins + 1)
    return [
        np.histogram(r[kept & (low == a) & (high == b)], edges)[0]
        for a, b in type_pairs(len(model.site_types))
    ]


@pytest.mark.parametrize("rdf_range", [0.3, 0.55])
@every_shape
def test_pairs_are_counted_by_distance_whether_or_not_a_term_acts(shape, rdf_range):
    box = box_of(shape, 2.0 * REACH)
    start = one_site_molecules(spread(box, 20.0, 300, 8), box, 3)
    found = evaluate(three_types(), start, n_bins=30, rdf_range=rdf_range)
    expected = plain_counts(start, three_types(), 30, rdf_range)
    np.testing.assert_array_equal(found.counts, expected)
    assert found.energy == pytest.approx(evaluate(three_types(), start).energy, rel=1e-11)


# -- which pairs are found


def found_by_close_pairs(positions, box, r_max):
    size = len(positions) ** 2
    first, second, distance = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    count = close_pairs(positions, box, r_max, first, second, distance)
    order = np.lexsort((second[:count], first[:count]))
    return first[order], second[order], distance[order]


def assert_close_pairs_are_those_of_a_plain_search(positions, box, r_max):
    first, second, distance = found_by_close_pairs(positions, box, r_max)
    i, j, _, r = naive.short_steps(positions, box)
    assert np.abs(r - r_max).min() > 1e-12
    close = r < r_max
    np.testing.assert_array_equal(np.stack([first, second]), np.stack([i[close], j[close]]))
    np.testing.assert_allclose(distance, r[close], atol=1e-12)


def assert_the_list_is_that_of_a_plain_search(model, start):
    """Each pair once, in its channel; all closer than the greatest reach, few others."""
    x, box, neighbors, _, system = arrays(model, start)
    types, excluded = start.topology.site_types, naive.excluded_pairs(start.topology, model.exclude)
    i, j, _, r = naive.short_steps(start.positions, start.box)
    reach = system.reach.max() + SKIN
    lists_all = is_skew(box) and len(sort_into_cells(x, box, reach).start) == 2
    n_listed = 0
    for c in range(len(system.reach)):
        firsts = np.repeat(np.arange(len(types)), np.diff(neighbors.start[c]))
        seconds = neighbors.sites[neighbors.start[c, 0] : neighbors.start[c, -1]]
        n_listed += len(firsts)
        pairs = np.sort(np.stack([firsts, seconds]), axis=0).T.tolist()
        found = set(map(tuple, pairs))
        assert len(found) == len(pairs)
        assert not found & excluded
        mine = system.channel_of[types[i], types[j]] == c
        certain = mine & (r < reach - 1e-12) & (system.reach[c] > 0.0)
        possible = mine & (r < reach + 1e-12) | mine & lists_all
        assert set(zip(i[certain].tolist(), j[certain].tolist())) - excluded <= found
        assert found <= set(zip(i[possible].tolist(), j[possible].tolist()))
    assert n_listed == len(neighbors.sites)


@every_shape
@every_height
@pytest.mark.parametrize("density", [0.1, 1.3, 2.6, 12.0])
def test_close_pairs_and_lists_are_those_of_a_plain_search(shape, least, density):
    box = box_of(shape, LEAST_HEIGHTS[least])
    positions = spread(box, density, 700, seed=9)
    r_max = min(REACH, 0.5 * LEAST_HEIGHTS[least])
    assert_close_pairs_are_those_of_a_plain_search(positions, box, r_max)
    assert_the_list_is_that_of_a_plain_search(one_type(), one_site_molecules(positions, box))
    assert_the_list_is_that_of_a_plain_search(three_types(), one_site_molecules(positions, box, 3))


@pytest.mark.parametrize("shape", ["dodecahedron", "tilted back", "beyond half", "brick"])
def test_no_close_pair_of_sparse_sites_is_missed_in_cells_wider_than_half_the_range(shape):
    """Distances along two normals of a skew cell do not add up like those of a right angle."""
    for width in (0.71, 0.72, 0.74, 0.76, 0.8):
        box = box_of(shape, 5.02 * width)
        n_sites = int(volume(box) / width**3)
        positions = np.random.default_rng(10).random((n_sites, 3)) @ box
        assert_close_pairs_are_those_of_a_plain_search(positions, box, 1.0)


@pytest.mark.parametrize("n_sites", [1, 2, 3, 8, 9, 27, 64, 200])
@pytest.mark.parametrize("shape", ["cube", "both ways", "dodecahedron", "long in z"])
def test_the_few_close_pairs_of_a_gas_in_a_huge_box_are_found(shape, n_sites):
    box, random = box_of(shape, 60.0), np.random.default_rng(11)
    positions = random.random((n_sites, 3)) @ box
    partners = positions + random.normal(0.0, 0.3, positions.shape)
    both = np.concatenate([positions, partners])
    assert_close_pairs_are_those_of_a_plain_search(both, box, REACH)
    assert_the_list_is_that_of_a_plain_search(one_type(), one_site_molecules(both, box))


def test_the_list_of_sites_on_a_grid_with_ties_is_that_of_a_plain_search():
    for shape in ("cube", "tilted", "dodecahedron"):
        box = box_of(shape, 4.0 * REACH)
        fractions = np.stack(np.meshgrid(*[np.arange(8) / 8.0] * 3), axis=-1).reshape(-1, 3)
        start = one_site_molecules(fractions @ box, box)
        assert_the_list_is_that_of_a_plain_search(one_type(), start)


@pytest.mark.parametrize("shape", ["both ways", "dodecahedron"])
def test_a_list_of_a_tilted_box_is_valid_only_while_it_holds_every_close_pair(shape):
    """After displacements and different growth along x, y and z, as of an anisotropic barostat."""
    random, box = np.random.default_rng(12), box_of(shape, 3.0 * REACH)
    start = one_site_molecules(spread(box, 15.0, 300, 12), box, 3)
    model, n_valid = three_types(), 0
    _, _, neighbors, sites, system = arrays(model, start)
    for amount in np.linspace(0.0, 0.04, 30):
        scale = 1.0 + random.uniform(-0.03, 0.03, 3)
        moved = (start.positions + random.uniform(-amount, amount, (300, 3))) * scale
        now = replace(start, positions=moved, box=box * scale)
        x = np.zeros((300, 4))
        x[:, :3] = moved
        if is_valid(neighbors, x, now.box, SKIN, R_CUT):
            n_valid += 1
            forces, observed = np.empty_like(x), no_sums(system, 0, 0.0)
            energy = all_forces(x, now.box, neighbors, sites, system, OBSERVED, observed, forces)
            exact = evaluate(model, now)
            assert energy == pytest.approx(exact.energy, rel=1e-10)
            np.testing.assert_allclose(forces[:, :3], exact.forces, atol=1e-9)
    assert 5 < n_valid < 30


@pytest.mark.parametrize("shrunk", [(1.0, 1.0, 1.0), (0.93, 1.0, 1.0), (0.9, 0.9, 0.9)])
def test_a_list_is_no_longer_valid_when_a_pair_that_it_left_out_may_be_close(shrunk):
    """A pair from just beyond the reach, in a box that shrinks, moves together until it is."""
    box, scale = box_of("dodecahedron", 4.0 * REACH), np.array(shrunk)
    spots = np.random.default_rng(0).random((30, 3)) @ box
    positions = np.concatenate([[[0.5, 0.5, 0.5], [0.5 + REACH + 1e-9, 0.5, 0.5]], spots])
    neighbors = arrays(one_type(), one_site_molecules(positions, box))[2]
    x, was_valid = np.zeros((32, 4)), []
    for moved in np.linspace(0.0, 0.06, 61):
        x[:, :3] = positions * scale
        x[0, 0] += moved
        x[1, 0] -= moved
        was_valid.append(is_valid(neighbors, x, box * scale, SKIN, R_CUT))
        assert not (was_valid[-1] and x[1, 0] - x[0, 0] < R_CUT)
    slack = SKIN * scale.min() - (1.0 - scale.min()) * R_CUT
    assert np.count_nonzero(was_valid) == pytest.approx(500.0 * slack, abs=2.0)


# -- tables


def test_the_force_of_a_pair_is_that_of_its_spline_to_rounding():
    """Measured: 5e-15 of the greatest force, 1e-15 of the sum of the sizes of all energies."""
    term = PairTerm(("A", "A"), SplineBasis(0.24, 0.9, 34), 1)
    theta = np.random.default_rng(13).normal(0.0, 5.0, 34)
    model = Model(("A",), (term,), T, 1.0, (theta[None],))
    spline = BSpline(term.basis.knots, np.append(theta, [0.0, 0.0]), 3)
    grid = 2.5 * np.stack(np.meshgrid(*[np.arange(12)] * 3), axis=-1).reshape(-1, 3)
    other = grid + np.linspace(0.2401, 0.95, len(grid))[:, None] * [0.0, 0.6, 0.8]
    r = np.linalg.norm(other - grid, axis=1)
    is_inside = r < 0.9
    found = evaluate(model, one_site_molecules(np.concatenate([grid, other]), np.full(3, 30.0)))
    forces = np.linalg.norm(found.forces[: len(grid)], axis=1)
    slopes = np.where(is_inside, np.abs(spline.derivative()(r)), 0.0)
    energies = np.where(is_inside, spline(r), 0.0)
    assert np.abs(forces - slopes).max() < 1e-13 * slopes.max()
    assert abs(found.energy - energies.sum()) < 1e-13 * np.abs(energies).sum()
    assert not found.forces[: len(grid)][~is_inside].any()


def test_potentials_of_bonded_terms_are_their_splines_to_rounding():
    """Of single bonds, angles and dihedrals; basis sums with them."""
    random = np.random.default_rng(14)
    for kind, span in (("bond", (0.05, 0.6)), ("angle", (0.05, 3.14)), ("dihedral", (-3.14, 3.14))):
        model = one_group(kind)
        theta, basis = model.term_theta(T)[0], model.terms[0].basis
        for x in random.uniform(*span, 40):
            found = evaluate(model, group(kind, x))
            assert found.energy == pytest.approx(basis.values(x) @ theta, abs=1e-12)
            np.testing.assert_allclose(found.sums, basis.values(x), atol=1e-12)


# -- bonded terms

BASES = {"bond": BondBasis(0.1, 0.4, 8), "angle": AngleBasis(0.6, 9), "dihedral": PeriodicBasis(8)}
TERMS = {"bond": BondTerm, "angle": AngleTerm, "dihedral": DihedralTerm}
SITES = {"bond": 2, "angle": 3, "dihedral": 4}


def one_group(kind, basis=None):
    """A model of one bonded term with random coefficients."""
    basis = basis or BASES[kind]
    theta = np.random.default_rng(15).normal(0.0, 3.0, (1, basis.n_basis))
    return Model(("A",), (TERMS[kind](("A",) * SITES[kind], basis, 1),), T, 1.0, (theta,))


def chain_topology(n_sites, kind):
    """A chain with groups of one kind only."""
    size = SITES[kind]
    groups = [tuple(range(k, k + size)) for k in range(n_sites - size + 1)]
    molecule = np.zeros(n_sites, int)
    return Topology(np.zeros(n_sites), np.full(n_sites, 12.0), molecule, **{kind + "s": groups})


def group(kind, x, turn=True):
    """A start of one bond, angle or dihedral with a given coordinate, in any direction."""
    points = {
        "bond": lambda: [(0, 0, 0), (0, 0, x)],
        "angle": lambda: [(0, 0, 0.3), (0, 0, 0), (0.25 * np.sin(x), 0, 0.25 * np.cos(x))],
        "dihedral": lambda: [
            (0.2, 0, -0.1), (0, 0, 0), (0, 0, 0.3), (0.3 * np.cos(x), 0.3 * np.sin(x), 0.35),
        ],
    }[kind]()  # fmt: skip
    rotation = np.linalg.qr(np.random.default_rng(16).normal(size=(3, 3)))[0] if turn else np.eye(3)
    rotation *= np.sign(np.linalg.det(rotation))  # a reflection would change a dihedral's sign
    positions = np.array(points, float) @ rotation.T + 1.0
    return Start(positions, np.full(3, 5.0), None, chain_topology(len(points), kind))


def assert_forces_are_slopes(model, start, atol, h=1e-6, sites=None):
    """Minus the central differences of the energy, to a share of the greatest force."""
    forces = evaluate(model, start).forces
    for i in range(start.topology.n_sites) if sites is None else sites:
        for d in range(3):
            energies = []
            for step in (h, -h):
                positions = start.positions.copy()
                positions[i, d] += step
                energies.append(evaluate(model, replace(start, positions=positions)).energy)
            slope = (energies[0] - energies[1]) / (2.0 * h)
            assert forces[i, d] == pytest.approx(-slope, abs=atol * (1.0 + np.abs(forces).max()))


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("seed", range(4))
def test_bonded_forces_are_minus_the_slope_of_the_energy(kind, seed):
    positions = np.cumsum(np.random.default_rng(seed).normal(0.0, 0.15, (5, 3)), axis=0)
    start = Start(positions, TILTED, None, chain_topology(5, kind))
    assert_forces_are_slopes(one_group(kind), start, 1e-7)


@pytest.mark.parametrize("kind", TERMS)
def test_a_bonded_term_neither_pushes_nor_turns_its_group(kind):
    for seed in range(5):
        positions = np.cumsum(np.random.default_rng(seed).normal(0.0, 0.15, (6, 3)), axis=0)
        found = evaluate(one_group(kind), Start(positions, TILTED, None, chain_topology(6, kind)))
        scale = np.abs(found.forces).max()
        np.testing.assert_allclose(found.forces.sum(axis=0), 0.0, atol=1e-12 * scale)
        torque = np.cross(positions, found.forces).sum(axis=0)
        np.testing.assert_allclose(torque, 0.0, atol=1e-12 * scale)
        np.testing.assert_allclose(found.virial, positions.T @ found.forces, atol=1e-11 * scale)
        np.testing.assert_allclose(found.virial, found.virial.T, atol=1e-11 * scale)


@pytest.mark.parametrize("kind", TERMS)
def test_bonded_energies_and_sums_are_those_of_a_plain_loop_across_the_box(kind):
    random = np.random.default_rng(17)
    positions = np.cumsum(random.normal(0.0, 0.15, (8, 3)), axis=0)
    positions += random.integers(-9, 10, positions.shape) @ TILTED
    bonds = [(k, k + 1) for k in range(7)]
    topology = Topology.from_bonds(np.zeros(8), np.ones(8), bonds)
    model = one_group(kind)
    found = evaluate(model, Start(positions, TILTED, None, topology))
    expected = naive.site_sums(positions, TILTED, topology, model)
    np.testing.assert_allclose(found.sums, expected, atol=1e-9)
    assert found.energy == pytest.approx(naive.energy(positions, TILTED, topology, model, T))


@pytest.mark.parametrize("low", [0.0, 0.6])
@pytest.mark.parametrize("bend", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 0.0])
def test_the_force_of_a_straight_angle_is_regular_and_goes_to_zero(bend, low):
    """F = -U'(theta)/|a| on an end, and U' vanishes linearly at 180 degrees."""
    model = one_group("angle", AngleBasis(low, 9))
    basis, theta = model.terms[0].basis, model.term_theta(T)[0]
    curvature = -basis.values(np.pi - 1e-4, 1) @ theta / 1e-4
    assert abs(curvature) > 1.0
    found = evaluate(model, group("angle", np.pi - bend, turn=False))
    slope = basis.values(np.pi - bend, 1) @ theta
    assert found.energy == pytest.approx(basis.values(np.pi - bend) @ theta, rel=1e-12)
    expected = np.array([[1.0 / 0.3, 0, 0], [0, 0, 0], [np.cos(bend) / 0.25, 0, 0]]) * slope
    expected[2, 2] = slope * np.sin(bend) / 0.25
    expected[1] = -expected.sum(axis=0)
    np.testing.assert_allclose(found.forces, expected, atol=1e-6 * abs(curvature), rtol=1e-6)
    if bend >= 1e-5:
        assert found.forces[0, 0] == pytest.approx(slope / 0.3, rel=1e-6)
        assert_forces_are_slopes(model, group("angle", np.pi - bend), 1e-6, h=1e-6)
    if bend <= 1e-5:
        assert np.abs(found.forces).max() <= 30.0 * bend * abs(curvature)


@pytest.mark.parametrize("angle", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("low", [0.0, 0.6])
def test_the_force_of_a_folded_angle_is_its_slope_over_the_length(angle, low):
    model = one_group("angle", AngleBasis(low, 9))
    slope = model.terms[0].basis.values(angle, 1) @ model.term_theta(T)[0]
    found = evaluate(model, group("angle", angle, turn=False))
    assert found.forces[0, 0] == pytest.approx(slope / 0.3, rel=1e-6, abs=1e-9)
    assert np.linalg.norm(found.forces[2]) == pytest.approx(abs(slope) / 0.25, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("low", [0.0, 0.6])
def test_a_completely_folded_angle_is_finite(low):
    found = evaluate(one_group("angle", AngleBasis(low, 9)), group("angle", 0.0))
    assert np.isfinite(found.forces).all() and np.isfinite(found.energy)


@pytest.mark.parametrize("phi", [-3.0, -2.0, -0.7, 0.0, 0.4, 1.5, 2.9, np.pi])
def test_the_sign_of_a_dihedral_is_that_of_iupac_and_of_mdtraj(phi):
    """Positive: looking from the second site to the third, the fourth is clockwise of the first."""
    model, start = one_group("dihedral"), group("dihedral", phi)
    basis = model.terms[0].basis
    np.testing.assert_allclose(evaluate(model, start).sums, basis.values(phi), atol=1e-12)
    trajectory = mdtraj.Trajectory(start.positions[None], None)
    theirs = mdtraj.compute_dihedrals(trajectory, [[0, 1, 2, 3]], periodic=False)[0, 0]
    np.testing.assert_allclose(basis.values(theirs), basis.values(phi), atol=1e-4)


@pytest.mark.parametrize("offset", [1e-2, 1e-4, 1e-6, 1e-9, 0.0])
@pytest.mark.parametrize("end", [0, 3])
def test_forces_of_a_dihedral_stay_bounded_where_three_sites_come_into_line(offset, end):
    """They grow like one over the distance from the line, and fall within a degree of it."""
    model, start = one_group("dihedral"), group("dihedral", 0.9, turn=False)
    middle, along = start.positions[1 if end == 0 else 2], 0.2 * (end - 1.5)
    start.positions[end] = middle + np.array([offset, 0.0, along])
    found = evaluate(model, start)
    assert np.isfinite(found.forces).all() and np.isfinite(found.energy)
    np.testing.assert_allclose(found.forces.sum(axis=0), 0.0, atol=1e-9)
    torque = np.cross(start.positions - middle, found.forces).sum(axis=0)
    np.testing.assert_allclose(torque, 0.0, atol=1e-9)
    if offset > BENT * abs(along):
        assert_forces_are_slopes(model, start, 1e-5, h=1e-4 * offset)
    start.positions[end] = middle + np.array([1.01 * BENT * abs(along), 0.0, along])
    assert np.abs(found.forces).max() <= np.abs(evaluate(model, start).forces).max()


def test_a_dihedral_goes_on_smoothly_at_trans():
    model, eps = one_group("dihedral"), 1e-7
    below, above = (evaluate(model, group("dihedral", x)) for x in (np.pi - eps, eps - np.pi))
    assert below.energy == pytest.approx(above.energy, abs=1e-5)
    np.testing.assert_allclose(below.forces, above.forces, atol=1e-4)


@pytest.mark.parametrize(
    "kind, inner, outer",
    [("bond", 0.1, (0.001, 0.05, 0.09)), ("bond", 0.4, (0.41, 0.7, 3.0)),
     ("angle", 0.6, (0.05, 0.3, 0.59))],
)  # fmt: skip
def test_beyond_its_range_a_bonded_energy_goes_on_linearly(kind, inner, outer):
    model = one_group(kind)
    basis, theta = model.terms[0].basis, model.term_theta(T)[0]
    slope = basis.values(inner, 1) @ theta
    for x in outer:
        found = evaluate(model, group(kind, x))
        expected = basis.values(inner) @ theta + slope * (x - inner)
        assert found.energy == pytest.approx(expected, rel=1e-10)
        lengths = 1.0 if kind == "bond" else 0.3
        assert np.linalg.norm(found.forces[0]) == pytest.approx(abs(slope) / lengths, rel=1e-8)


@pytest.mark.parametrize(
    "kind, pair", [("bond", (0, 1)), ("angle", (0, 1)), ("angle", (1, 2)), ("dihedral", (1, 2))]
)
def test_bonded_sites_at_one_place_are_a_blow_up_not_a_division_by_zero(kind, pair):
    start = group(kind, 0.3)
    start.positions[pair[1]] = start.positions[pair[0]]
    settings = {"n_steps": 2, "n_equilibration": 0, "timestep": 1e-3, "sample_interval": 1}
    with pytest.raises(SamplingError, match=r"step [12]: .* its force is not finite"):
        sample(one_group(kind), start, T, **settings)


# -- everything together

MOLECULE = [(0, 1), (1, 2), (2, 3), (2, 4)]  # branched


def molecules(n_molecules, box, seed, exclude=("1-2", "1-3"), step=0.12):
    """A model with all terms and a start of branched molecules of five sites, in any images."""
    random, rows = np.random.default_rng(seed), vectors(box)
    bonds = [(5 * m + i, 5 * m + j) for m in range(n_molecules) for i, j in MOLECULE]
    types, masses = np.tile([0, 1, 1, 0, 0], n_molecules), [10.0, 20.0, 30.0, 15.0, 12.0]
    topology = Topology.from_bonds(types, np.tile(masses, n_molecules), bonds)
    walks = np.cumsum(random.normal(0.0, step, (n_molecules, 5, 3)), axis=1)
    positions = (random.random((n_molecules, 1, 3)) @ rows + walks).reshape(-1, 3)
    positions += random.integers(-3, 4, positions.shape) @ rows
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.2, 0.5, 8), 1),
        VolumeTerm(2, 1),
        BondTerm(("A", "B"), BondBasis(0.1, 0.4, 6), 1),
        PairTerm(("A", "B"), SplineBasis(0.15, 0.45, 7), 1),
        BondTerm(("B", "B"), BondBasis(0.1, 0.3, 6), 1),
        AngleTerm(("A", "B", "B"), AngleBasis(0.5, 6), 1),
        AngleTerm(("A", "B", "A"), AngleBasis(1.0, 7), 1),
        DihedralTerm(("A", "B", "B", "A"), PeriodicBasis(7), 1),
    )
    thetas = tuple(random.normal(0.0, 2.0, (1, term.n_basis)) for term in terms)
    model = Model(("A", "B"), terms, T, 0.1, thetas, exclude=exclude)
    return model, Start(positions, box, None, topology)


BOXES = {
    "tiny": np.array([1.02, 1.1, 1.2]),
    "straight": np.array([2.4, 2.0, 2.2]),
    "tiny and tilted": box_of("both ways", 1.02),
    "tilted": box_of("both ways", 2.1),
    "tilted back": box_of("tilted back", 1.6),
}
every_box = pytest.mark.parametrize("name", BOXES)


def plain_sums(model, start):
    """Basis sums of all pair and bonded terms, in the order of the model."""
    frame, sums = (start.positions, start.box, start.topology), []
    for term, block in zip(model.terms, model.coefficients):
        if term.kind == "pair":
            alone = replace(model, terms=(term,), coefficients=(block,))
            sums.append(naive.pair_evaluation(*frame, alone, T)[3])
        elif term.kind != "volume":
            sums.append(naive.bonded_sums(*frame, model.site_types, term))
    return np.concatenate(sums)


@every_box
def test_sums_and_energy_of_all_terms_together_are_those_of_a_plain_loop(name):
    model, start = molecules(4, BOXES[name], seed=20)
    found = evaluate(model, start)
    expected = plain_sums(model, start)
    np.testing.assert_allclose(found.sums, expected, atol=1e-10)
    thetas = [x for term, x in zip(model.terms, model.term_theta(T)) if term.kind != "volume"]
    assert found.energy == pytest.approx(expected @ np.concatenate(thetas), rel=1e-10)


@every_box
def test_forces_of_all_terms_together_are_minus_the_slope_of_the_energy(name):
    model, start = molecules(12, BOXES[name], seed=21)
    start.positions = start.topology.make_whole(start.positions, start.box)
    assert_forces_are_slopes(model, start, 1e-7, sites=[0, 6, 12, 18, 24, 59])


@every_box
def test_the_virial_is_symmetric_and_the_slope_of_the_energy_under_strain(name):
    model, start = molecules(20, BOXES[name], seed=22)
    rows, h = vectors(start.box), 1e-6
    whole = start.topology.make_whole(start.positions, start.box)
    virial = evaluate(model, start).virial
    scale = np.abs(virial).max()
    np.testing.assert_allclose(virial, virial.T, atol=1e-12 * scale)
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1)):
        energies = []
        for step in (h, -h):
            strain = np.eye(3)
            strain[a, b] += step
            strained = replace(start, positions=whole @ strain, box=rows @ strain)
            energies.append(evaluate(model, strained).energy)
        slope = (energies[0] - energies[1]) / (2.0 * h)
        assert virial[a, b] == pytest.approx(-slope, abs=1e-6 * scale)


def pressure_of(model, start, thermal=0.0):
    """Molecular pressure tensor of the kernel, kJ/mol/nm^3."""
    x, box, neighbors, sites, system = arrays(model, start)
    forces, observed = np.empty_like(x), no_sums(system, 0, 0.0)
    all_forces(x, box, neighbors, sites, system, OBSERVED, observed, forces)
    pressure = np.empty((3, 3))
    molecular_pressure(x, box, sites, forces, observed.virial, thermal, pressure)
    return pressure


def scaled(model, start, scale):
    """The start after the barostat's scaling, molecules whole."""
    x, box, _, sites, _ = arrays(model, start)
    scale_molecules(
        x, box, sites, np.asarray(scale, float), np.empty((sites.molecule.max() + 1, 3))
    )
    return replace(start, positions=x[:, :3].copy(), box=box)


@every_box
def test_the_molecular_pressure_is_the_slope_of_the_energy_when_molecules_move_as_a_whole(name):
    model, start = molecules(20, BOXES[name], seed=23)
    start = replace(start, box=1.05 * start.box)
    pressure, h = pressure_of(model, start), 1e-6
    for axis in range(3):
        factors = 1.0 + h * np.eye(3)[axis]
        up, down = (evaluate(model, scaled(model, start, f)).energy for f in (factors, 1 / factors))
        slope = (up - down) / (2.0 * h) / start.volume
        assert pressure[axis, axis] == pytest.approx(-slope, rel=1e-6, abs=1e-4)
    kinetic = pressure_of(model, start, thermal=2.5) - pressure
    np.testing.assert_allclose(kinetic, 20 * 2.5 / start.volume * np.eye(3), atol=1e-9)


def test_the_pressure_of_one_site_molecules_is_their_virial_over_the_volume():
    for box in BOXES.values():
        start = one_site_molecules(spread(vectors(box), 20.0, 200, 24), box, 3)
        expected = evaluate(three_types(), start).virial / start.volume
        np.testing.assert_allclose(pressure_of(three_types(), start), expected, rtol=1e-13)


@every_box
def test_scaling_moves_centres_and_keeps_molecules_as_they_are(name):
    model, start = molecules(10, BOXES[name], seed=25)
    factors, topology = np.array([1.05, 0.9, 1.2]), start.topology
    before = topology.make_whole(start.positions, start.box)
    after = scaled(model, start, factors)
    middle, moved = topology.centres(before), topology.centres(after.positions)
    np.testing.assert_allclose(moved, factors * middle, atol=1e-12)
    inner, outer = (
        x - c[topology.molecule] for x, c in ((before, middle), (after.positions, moved))
    )
    np.testing.assert_allclose(outer, inner, atol=1e-12)
    np.testing.assert_allclose(after.box, vectors(start.box) * factors, rtol=1e-15)
    assert after.volume == pytest.approx(start.volume * factors.prod(), rel=1e-14)


# -- exclusions

KINDS = ("1-2", "1-3", "1-4")
SUBSETS = [kinds for n in range(4) for kinds in combinations(KINDS, n)]


def rings_and_chains(box, seed=30):
    """Rings of six with a tail, chains of six, and single sites."""
    ring = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (2, 6)]
    chain = [(7, 8), (8, 9), (9, 10), (10, 11), (11, 12)]
    bonds = [(15 * m + i, 15 * m + j) for m in range(4) for i, j in ring + chain]
    topology = Topology.from_bonds(np.arange(60) % 2, np.ones(60), bonds)
    random, n = np.random.default_rng(seed), topology.n_molecules
    centres = (random.random((n, 3)) @ vectors(box))[topology.molecule]
    return Start(centres + random.normal(0.0, 0.12, (60, 3)), box, None, topology)


def two_types(exclude):
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.2, 0.5, 8), 1),
        PairTerm(("A", "B"), SplineBasis(0.15, 0.45, 7), 1),
    )
    random = np.random.default_rng(31)
    thetas = tuple(random.normal(0.0, 2.0, (1, term.n_basis)) for term in terms)
    return Model(("A", "B"), terms, T, 0.1, thetas, exclude=exclude)


@pytest.mark.parametrize("exclude", SUBSETS, ids=lambda kinds: " ".join(kinds) or "none")
@pytest.mark.parametrize("box", [np.full(3, 1.5), 1.3 * TILTED], ids=["straight", "tilted"])
def test_excluded_pairs_are_in_no_list_energy_basis_sum_or_count(exclude, box):
    start, model = rings_and_chains(box), two_types(exclude)
    excluded = naive.excluded_pairs(start.topology, exclude)
    assert_is_that_of_a_plain_loop(model, start)
    assert_the_list_is_that_of_a_plain_search(model, start)
    found = evaluate(model, start, n_bins=25, rdf_range=0.5)
    np.testing.assert_array_equal(found.counts, plain_counts(start, model, 25, 0.5, excluded))


def test_excluded_neighbours_still_feel_their_bonded_terms():
    for exclude in SUBSETS:
        model, start = molecules(2, BOXES["straight"], seed=32, exclude=exclude)
        found = evaluate(model, start)
        np.testing.assert_allclose(found.sums, plain_sums(model, start), atol=1e-10)


# -- runs


def z_score(values, expected, n_blocks=20):
    """Deviation of the mean of a series in standard errors from blocks."""
    values = np.asarray(values)[: len(values) // n_blocks * n_blocks]
    blocks = values.reshape(n_blocks, -1).mean(axis=1)
    return (blocks.mean() - expected) / (blocks.std(ddof=1) / np.sqrt(n_blocks))


def difference_score(a, b, n_blocks=20):
    """Difference of two means in standard errors."""
    means = [np.reshape(x, (n_blocks, -1)).mean(axis=1) for x in (a, b)]
    error = np.sqrt(sum(m.var(ddof=1) for m in means) / n_blocks)
    return (means[0].mean() - means[1].mean()) / error


def trimers(n_molecules, box, with_pairs, seed=40):
    """Bent molecules B-A-B with stiff bonds and angles, and soft repulsion between them."""
    bonds = [(3 * m + i, 3 * m + j) for m in range(n_molecules) for i, j in ((0, 1), (1, 2))]
    types = np.tile([1, 0, 1], n_molecules)
    masses = np.tile([14.0, 30.0, 14.0], n_molecules)
    topology = Topology.from_bonds(types, masses, bonds)
    random, rows = np.random.default_rng(seed), vectors(box)
    n_side = int(np.ceil(n_molecules ** (1.0 / 3.0)))
    cells = np.stack(np.meshgrid(*[np.arange(n_side) + 0.5] * 3), axis=-1).reshape(-1, 3) / n_side
    turns = np.linalg.qr(random.normal(size=(n_molecules, 3, 3)))[0]
    shape = np.array([[0.16, 0.0, 0.0], [0.0, 0.0, 0.0], [-0.1, 0.12, 0.0]])
    positions = (cells[:n_molecules] @ rows)[:, None] + np.einsum("mab,sb->msa", turns, shape)
    bond, angle = BondBasis(0.1, 0.22, 8), AngleBasis(0.8, 10)
    x, y = np.linspace(0.1, 0.22, 60), np.linspace(0.8, 3.1, 90)
    stretch = np.linalg.lstsq(bond.values(x), 4000.0 * (x - 0.16) ** 2, rcond=None)[0]
    bend = np.linalg.lstsq(angle.values(y), 40.0 * (y - 2.2) ** 2, rcond=None)[0]
    terms = [BondTerm(("A", "B"), bond, 1), AngleTerm(("B", "A", "B"), angle, 1)]
    thetas = [stretch[None], bend[None]]
    if with_pairs:
        for sites, r_cut in ((("A", "A"), 0.5), (("A", "B"), 0.45), (("B", "B"), 0.4)):
            terms.append(PairTerm(sites, SplineBasis(0.15, r_cut, 10), 1))
            thetas.append(15.0 * np.exp(-np.arange(10) / 2.0)[None])
    exclude = ("1-2", "1-3") if with_pairs else ()
    model = Model(("A", "B"), tuple(terms), T, 0.1, tuple(thetas), exclude=exclude)
    return model, Start(positions.reshape(-1, 3), box, None, topology)


@pytest.mark.parametrize("barostat", ["isotropic", "semi-isotropic", "anisotropic"])
@pytest.mark.parametrize("shape", ["cube", "both ways"])
def test_volumes_of_trimers_without_pair_terms_count_molecules(barostat, shape):
    """p(V) ~ V^N exp(-P V/kT) with N molecules, each of three sites: a Gamma(N + 1) law."""
    n_molecules, pressure = 8, 20.0
    law = stats.gamma(n_molecules + 1, scale=KB * T / (pressure * BAR))
    box = SHAPES[shape] * (law.mean() / volume(SHAPES[shape])) ** (1.0 / 3.0)
    model, start = trimers(n_molecules, box, with_pairs=False)
    settings = {"n_steps": 60000, "n_equilibration": 2000, "timestep": 0.002}
    settings |= {"barostat": barostat, "barostat_interval": 1, "sample_interval": 20}
    result = sample(model, start, T, pressure, seed_key=("trimers", barostat, shape), **settings)
    found = result["volume"]
    assert abs(z_score(found, law.mean())) < 4.0
    assert abs(z_score((found - law.mean()) ** 2, law.var())) < 4.0
    assert stats.kstest(found[::10], law.cdf).pvalue > 1e-4
    ideal = n_molecules * KB * T / found
    np.testing.assert_allclose(result["pressure"], ideal, rtol=1e-8)


@pytest.mark.parametrize("barostat", ["semi-isotropic", "anisotropic"])
def test_along_each_axis_the_mean_pressure_is_the_set_one(barostat, soft_model):
    start = lattice_start(7, 0.05)
    term = replace(soft_model.terms[0], basis=SplineBasis(0.1, 0.4, 12))
    model = Model(("W",), (term, VolumeTerm(2, 1)), T, 0.05, soft_model.coefficients)
    settings = {"n_steps": 16000, "n_equilibration": 2000, "timestep": 0.004, "friction": 5.0}
    settings |= {"barostat": barostat, "barostat_interval": 25, "sample_interval": 10}
    result = sample(model, start, T, 500.0, seed_key=("axes", barostat), **settings)
    diagonal = np.diagonal(result["pressure_tensor"], axis1=1, axis2=2)
    diagonal = diagonal + model.volume_pressure(result["volume"], 343, T)[:, None]
    if barostat == "semi-isotropic":
        diagonal = np.stack([diagonal[:, :2].mean(axis=1), diagonal[:, 2]], axis=1)
    scores = [z_score(column / BAR, 500.0) for column in diagonal.T]
    assert np.abs(scores).max() < 4.5
    edges = result["box"]
    assert abs(edges[0] / edges[2] - 1.0) > 1e-3
    assert (abs(edges[0] / edges[1] - 1.0) < 1e-12) == (barostat == "semi-isotropic")


def test_the_mean_pressure_of_molecules_in_a_tilted_box_is_the_set_one():
    model, start = trimers(64, 2.2 * SHAPES["both ways"], with_pairs=True)
    settings = {"n_steps": 30000, "n_equilibration": 6000, "timestep": 0.002, "friction": 5.0}
    settings |= {"barostat_interval": 10, "sample_interval": 10}
    result = sample(model, start, T, 800.0, seed_key=("tilted", 1), **settings)
    assert abs(z_score(result["pressure"] / BAR, 800.0)) < 4.5
    shape = result["box"] / result["box"][0, 0]
    np.testing.assert_allclose(shape, SHAPES["both ways"], atol=1e-12)


def test_energy_pressure_and_rdf_are_the_same_in_a_tilted_and_in_a_straight_box(soft_model):
    """Of one fluid at one density; the third box is the first in another description."""
    straight = lattice_start(6, 0.05)
    edge = straight.box[0]
    tilted = edge * np.array([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [-0.4, 0.3, 1.0]])
    same = edge * OTHER_CUBE
    settings = {"n_steps": 12000, "n_equilibration": 2000, "timestep": 0.004, "friction": 5.0}
    results = []
    for k, box in enumerate((straight.box, tilted, same)):
        fractions = straight.positions / edge
        start = replace(straight, positions=fractions @ vectors(box), box=box)
        run = sample(
            soft_model, start, T, seed_key=("shape", k), rdf_edges=0.02 * np.arange(31), **settings
        )
        results.append(run)
    for other in results[1:]:
        assert other["volume"][0] == pytest.approx(results[0]["volume"][0], rel=1e-12)
        for name in ("energy", "pressure"):
            assert abs(difference_score(results[0][name], other[name])) < 4.0
        scores = [
            difference_score(a, b, n_blocks=10)
            for a, b in zip(results[0]["rdf_blocks"][:, 0].T, other["rdf_blocks"][:, 0].T)
            if a.std() > 0.0 and b.std() > 0.0
        ]
        assert len(scores) > 10 and np.abs(scores).max() < 6.0  # of ten blocks: Student's t


def test_positions_and_velocities_keep_the_order_of_the_sites(monkeypatch):
    """Sites are sorted by place anew at each chunk: nobody notices. Without friction the way is
    the same, and velocities are the slope of positions."""
    model, start = trimers(27, 1.8 * SHAPES["both ways"], with_pairs=True)
    settings = {"n_steps": 400, "n_equilibration": 0, "timestep": 0.001, "friction": 0.0}
    settings |= {"sample_interval": 1, "keep": 400}
    whole = sample(model, start, T, **settings)
    monkeypatch.setattr(replica_module, "CHUNK", 27 * 3 * 7)
    pieces = sample(model, start, T, **settings)
    rows = vectors(start.box)

    def modulo_box(steps):
        fractions = steps @ np.linalg.inv(rows)
        return (fractions - np.round(fractions)) @ rows

    way = modulo_box(pieces["trajectory"] - whole["trajectory"])
    assert np.abs(way[:200]).max() < 1e-9
    steps = modulo_box(np.diff(pieces["trajectory"], axis=0))
    assert np.abs(steps).max() < 0.001 * 6.0 * np.sqrt(KB * T / 14.0)
    np.testing.assert_array_equal(pieces["positions"], pieces["trajectory"][-1])
    slope = (1.5 * steps[-1] - 0.5 * steps[-2]) / 0.001
    np.testing.assert_allclose(pieces["velocities"], slope, atol=0.02)
    bonds = start.topology.bonds
    for frame in (pieces["positions"], pieces["trajectory"][5], pieces["trajectory"][300]):
        lengths = np.linalg.norm(frame[bonds[:, 0]] - frame[bonds[:, 1]], axis=1)
        assert 0.1 < lengths.min() and lengths.max() < 0.24


def test_a_run_of_molecules_in_a_tilted_box_conserves_energy_and_momentum(monkeypatch):
    monkeypatch.setattr(replica_module, "CHUNK", 64 * 3 * 500)
    model, start = trimers(64, 2.2 * SHAPES["both ways"], with_pairs=True)
    masses = start.topology.masses
    warm = {"n_steps": 2000, "n_equilibration": 0, "timestep": 0.002, "friction": 5.0}
    warmed = sample(model, start, T, **warm)
    start = replace(start, positions=warmed["positions"], velocities=warmed["velocities"])
    settings = {"n_steps": 20000, "n_equilibration": 0, "timestep": 0.0005, "friction": 0.0}
    result = sample(model, start, T, sample_interval=20, **settings)
    total = result["energy"] + 1.5 * 192 * KB * result["temperature"]
    time = 0.01 * np.arange(len(total))
    drift = np.polyfit(time, total, 1)[0] / (192 * KB * T)
    assert abs(drift) < 1e-5
    assert total.std() < 2e-3 * 192 * KB * T
    momenta = [masses @ velocities for velocities in (start.velocities, result["velocities"])]
    np.testing.assert_allclose(momenta[1], momenta[0], atol=1e-8)
    assert result["energy"].std() > 100 * total.std()


@pytest.mark.parametrize(
    "box", [np.full(3, 1.0), 1.2 * SHAPES["both ways"]], ids=["straight", "tilted"]
)
@pytest.mark.parametrize("n_sites", [1, 2, 3])
def test_a_few_sites_can_be_run(n_sites, box):
    positions = 0.3 * np.eye(3)[:n_sites]
    settings = {"n_steps": 200, "n_equilibration": 0, "timestep": 0.002, "keep": 20}
    start = one_site_molecules(positions, box)
    result = sample(one_type(0.45), start, T, rdf_edges=np.linspace(0.0, 0.45, 10), **settings)
    frames = [replace(start, positions=x) for x in result["trajectory"]]
    energies = [
        naive.pair_evaluation(frame.positions, box, frame.topology, one_type(0.45), T)[0]
        for frame in frames
    ]
    np.testing.assert_allclose(result["energy"], energies, atol=1e-9)


@pytest.mark.parametrize("box", [np.full(3, 2.0), TILTED], ids=["straight", "tilted"])
def test_two_sites_at_one_place_are_a_blow_up(box):
    positions = spread(vectors(box), 3.0, 40, seed=41)
    positions[11] = positions[5]
    settings = {"n_steps": 10, "n_equilibration": 0, "timestep": 0.001}
    with pytest.raises(SamplingError, match=r"step [12]: .* its force is not finite"):
        sample(one_type(), one_site_molecules(positions, box), T, **settings)


def test_sites_that_do_not_interact_are_in_no_list():
    """Else a gas in a large tilted box would list all its pairs, half of the squared number."""
    model = Model(("A",), (VolumeTerm(1, 1),), T, 1.0, (np.ones((1, 1)),))
    for shape in ("cube", "both ways"):
        box = box_of(shape, 10.0)
        start = one_site_molecules(np.random.default_rng(42).random((300, 3)) @ box, box)
        assert len(arrays(model, start)[2].sites) == 0
