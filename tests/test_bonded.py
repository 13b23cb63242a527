"""Bonded coordinates, their sums and distributions; the inversion of known potentials."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import chains
import naive
from remcg import bonded, terms
from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.config import (
    AngleTermConfig,
    BondTermConfig,
    DihedralTermConfig,
    ModelConfig,
    PairTermConfig,
)
from remcg.core import END_RISE, held_by_walls, with_repulsive_core, without_shift
from remcg.ensembles import read_bonded
from remcg.errors import InputError
from remcg.forms import AngleCosines, DihedralCosines, HarmonicBasis
from remcg.guess import BondedTarget, StateTarget, bin_jacobians, guess, virial_pressure
from remcg.model import AngleTerm, BondTerm, DihedralTerm, Model, PairTerm
from remcg.spectrum import spectrum
from remcg.target import compute
from remcg.topology import Topology
from remcg.units import KB

NAMES = ("A", "B")
POTENTIALS = {
    "bond": lambda x: 0.5 * 12000.0 * (x - 0.3) ** 2,
    "angle": lambda x: 0.5 * 40.0 * (x - 2.0) ** 2,
    "dihedral": lambda x: 3.0 * (1.0 + np.cos(3.0 * x)) + 2.0 * np.sin(x),
}
TERMS = (
    PairTerm(("A", "A"), SplineBasis(0.2, 1.0, 6), 1),
    BondTerm(("A", "A"), BondBasis(0.2, 0.4, 12), 1),
    AngleTerm(("A",) * 3, AngleBasis(1.2, 12), 1),
    DihedralTerm(("A",) * 4, PeriodicBasis(16), 1),
)


def random_chain(n_sites=7, n_frames=3, seed=1):
    rng = np.random.default_rng(seed)
    positions = np.cumsum(rng.normal(0.0, 0.15, (n_frames, n_sites, 3)), axis=1) + 5.0
    types = np.arange(n_sites) % 2
    bonds = [(k, k + 1) for k in range(n_sites - 1)]
    return positions, Topology.from_bonds(types, np.full(n_sites, 12.0), bonds)


def test_coordinates_are_those_of_a_plain_loop():
    positions, topology = random_chain()
    for sites in (topology.bonds, topology.angles, topology.dihedrals):
        found = bonded.coordinates(positions, sites)
        expected = [
            [naive.coordinate(frame[group], np.full(3, 1e3)) for group in sites]
            for frame in positions
        ]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_chains_are_built_with_the_coordinates_that_were_drawn():
    rng = np.random.default_rng(5)
    b, a, d = rng.uniform(0.2, 0.4, 4), rng.uniform(1.0, 3.0, 3), rng.uniform(-3.1, 3.1, 2)
    positions = chains.built(b, a, d)[None]
    for expected, n in ((b, 2), (a, 3), (d, 4)):
        sites = np.arange(6 - n)[:, None] + np.arange(n)
        np.testing.assert_allclose(bonded.coordinates(positions, sites)[0], expected, atol=1e-10)


@pytest.mark.parametrize("exclude", [(), ("1-2", "1-3")])
@pytest.mark.parametrize("skew", [False, True])
def test_sums_are_those_of_a_plain_loop_in_the_order_of_the_terms(exclude, skew):
    positions, topology = random_chain()
    positions = positions[:, :, :] * 0.6
    box = (
        np.array([[2.5, 0.0, 0.0], [0.9, 2.4, 0.0], [-0.7, 0.8, 2.3]]) if skew else np.full(3, 2.4)
    )
    found_terms = (
        BondTerm(("A", "B"), HarmonicBasis(0.1, 0.4), 1),
        PairTerm(("A", "B"), SplineBasis(0.1, 0.9, 7), 1),
        DihedralTerm(("A", "B", "A", "B"), PeriodicBasis(5), 1),
        AngleTerm(("B", "A", "B"), AngleBasis(0.4, 6), 1),
        PairTerm(("A", "A"), SplineBasis(0.1, 1.0, 5), 1),
    )
    blocks = tuple(np.zeros((1, term.n_basis)) for term in found_terms)
    model = Model(NAMES, found_terms, 300.0, 1.0, blocks, exclude=exclude)
    boxes = np.repeat(box[None], len(positions), axis=0)
    excluded = topology.excluded(exclude)
    found = bonded.site_sums(positions, boxes, topology, NAMES, found_terms, excluded)
    expected = [naive.site_sums(frame, box, topology, model) for frame in positions]
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_groups_are_sorted_by_the_smaller_of_their_two_readings():
    _, topology = random_chain(6)
    found = {group.key: len(group.sites) for group in bonded.groups_of(topology, NAMES)}
    assert found == {
        "bond A-B": 5,
        "angle A-B-A": 2,
        "angle B-A-B": 2,
        "dihedral A-B-A-B": 3,
    }


def test_molecules_are_named_by_their_runs_of_sites():
    topology = chains.topology(3, (0, 1, 1, 0))
    (kind,) = bonded.chains_of(topology, NAMES)
    assert kind.name == "A-B2-A" and kind.sites.shape == (3, 4) and kind.ends == (0, 3)
    assert bonded.chains_of(chains.topology(2, (0, 1)), NAMES) == []


def test_a_linear_molecule_is_named_along_its_bonds_whatever_the_order_of_its_sites():
    topology = Topology.from_bonds([0, 0, 1], np.ones(3), [(0, 2), (2, 1)])
    (kind,) = bonded.chains_of(topology, NAMES)
    assert kind.name == "A-B-A" and kind.ends == (0, 1)


def test_a_molecule_that_no_bonds_connect_has_no_ends():
    topology = Topology([0, 0, 1], np.ones(3), np.zeros(3, int), bonds=[(0, 1)])
    (kind,) = bonded.chains_of(topology, NAMES)
    assert kind.name == "A2-B" and kind.ends is None


def test_the_ends_of_a_branched_molecule_are_most_bonds_apart():
    topology = Topology.from_bonds(np.zeros(5), np.ones(5), [(0, 1), (0, 2), (2, 3), (2, 4)])
    (kind,) = bonded.chains_of(topology, NAMES)
    assert kind.ends == (1, 3)


def test_radius_of_gyration_and_end_to_end_distance_of_a_rod():
    topology = Topology.from_bonds([0, 0, 0], [1.0, 2.0, 1.0], [(0, 1), (1, 2)])
    positions = np.array([[[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.6, 0.0, 0.0]]])
    (kind,) = bonded.chains_of(topology, NAMES)
    found = bonded.shapes(positions, kind, topology.masses)
    assert found["end"][0, 0] == pytest.approx(0.6)
    assert found["rg"][0, 0] == pytest.approx(np.sqrt(2 * 0.3**2 / 4))


@pytest.fixture(scope="module")
def tetramers(tmp_path_factory):
    """Target of tetramers without pair terms, 400 frames of 60 molecules."""
    positions, boxes = chains.frames(POTENTIALS, 300.0, 400, 60, 4)
    folder = tmp_path_factory.mktemp("tetramers")
    topology = chains.topology(60, (0,) * 4)
    path = chains.write_map(folder / "map.h5", positions, boxes, topology, ("A",))
    return positions, topology, compute(path, TERMS, exclude=("1-2", "1-3", "1-4"))


def test_histograms_of_a_target_are_normalised_plain_ones(tetramers):
    positions, topology, (arrays, attributes) = tetramers
    assert attributes["bonded"] == '{"bond A-A": 180, "angle A-A-A": 120, "dihedral A-A-A-A": 60}'
    assert attributes["chains"] == '{"A4": 60}'
    groups = {
        "bond_A-A": topology.bonds,
        "angle_A-A-A": topology.angles,
        "dihedral_A-A-A-A": topology.dihedrals,
    }
    for name, sites in groups.items():
        edges, blocks = (arrays[f"bonded_{name}_{what}"] for what in ("edges", "blocks"))
        assert blocks.shape == (10, len(edges) - 1)
        first = bonded.coordinates(positions[:40], sites)
        expected = np.histogram(first, edges, density=True)[0]
        np.testing.assert_allclose(blocks[0], expected, atol=0.02 * expected.max())
        np.testing.assert_allclose(blocks @ np.diff(edges), 1.0)
        assert bonded.histogram(first, edges) @ np.diff(edges) == pytest.approx(1.0)
    rg = bonded.shapes(positions, bonded.chains_of(topology, ("A",))[0], topology.masses)["rg"]
    edges, blocks = arrays["chain_A4_rg_edges"], arrays["chain_A4_rg_blocks"]
    centers = 0.5 * (edges[1:] + edges[:-1])
    mean = blocks.mean(axis=0) @ centers * (edges[1] - edges[0])
    assert mean == pytest.approx(rg.mean(), abs=0.001)


def test_bonded_sums_of_a_target_count_every_group_once(tetramers):
    arrays, _ = tetramers[2]
    for columns, n_groups in ((slice(6, 18), 180), (slice(18, 30), 120), (slice(30, 46), 60)):
        np.testing.assert_allclose(arrays["site_sums"][:, columns].sum(axis=1), n_groups)


def test_values_beyond_the_bins_count_in_the_nearest():
    found = bonded.histogram(np.array([-1.0, 0.05, 0.95, 7.0]), np.linspace(0.0, 1.0, 11))
    np.testing.assert_allclose(found[[0, -1]], 5.0)


def exact(kind, temperature, n_frames=10**5, n_groups=100, potential=None):
    """Target of one bonded coordinate, without noise."""
    low, high = {"bond": (0.1, 0.6)}.get(kind, chains.RANGES[kind])
    n_bins = round((high - low) / bonded.WIDTHS[kind])
    edges = np.linspace(low, high, n_bins + 1)
    x = 0.5 * (edges[1:] + edges[:-1])
    energy = (potential or POTENTIALS[kind])(x)
    density = bin_jacobians(kind, edges) * np.exp(-(energy - energy.min()) / (KB * temperature))
    density /= density @ np.diff(edges)
    density[density * np.diff(edges) * n_groups * n_frames < 0.5] = 0.0
    return BondedTarget(edges, density, n_groups)


@pytest.mark.parametrize("kind", chains.RANGES)
def test_the_jacobian_of_a_bin_is_the_mean_over_it(kind):
    edges = np.linspace(*chains.RANGES[kind], 8)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    x = 0.5 * (edges[1:] + edges[:-1])[:, None] + 0.5 * np.diff(edges)[:, None] * nodes
    expected = chains.jacobian(kind, x) @ weights / 2.0
    np.testing.assert_allclose(bin_jacobians(kind, edges), expected, rtol=1e-10)


def state_of(kind, temperature, **options):
    sites = {"bond": "A-A", "angle": "A-A-A", "dihedral": "A-A-A-A"}[kind]
    target = exact(kind, temperature, **options)
    edges = np.linspace(0.0, 1.0, 501)
    return StateTarget(
        temperature, None, 1e3, 10**5, 50, {"A": 100}, edges, {}, {f"{kind} {sites}": target}
    )


BASES = {
    "spline bond": BondTerm(("A",) * 2, BondBasis(0.22, 0.38, 14), 1),
    "harmonic bond": BondTerm(("A",) * 2, HarmonicBasis(0.22, 0.38), 1),
    "spline angle": AngleTerm(("A",) * 3, AngleBasis(1.0, 24), 1),
    "spline dihedral": DihedralTerm(("A",) * 4, PeriodicBasis(24), 1),
    "cosine dihedral": DihedralTerm(("A",) * 4, DihedralCosines(6), 1),
}


@pytest.mark.parametrize("name", BASES)
def test_the_inversion_of_exact_distributions_at_two_temperatures_is_the_potential(name):
    """One potential for both: their distributions differ, and their constants must not matter."""
    term = BASES[name]
    states = [state_of(term.kind, temperature) for temperature in (250.0, 400.0)]
    model = guess(("A",), (term,), 320.0, 20.0, states)
    # splines of an angle have no slope at pi, which the harmonic truth has
    x = {"bond": np.linspace(0.26, 0.34, 50), "angle": np.linspace(1.4, 2.6, 50)}
    x = x.get(term.kind, np.linspace(-3.1, 3.1, 100))
    found = term.basis.values(x) @ model.term_theta(300.0)[0]
    expected = POTENTIALS[term.kind](x)
    step = found - expected
    assert np.ptp(step) < 0.05 * KB * 300.0
    if term.form == "spline":
        grid = np.linspace(term.basis.low, term.basis.high, 2001)
        assert (term.basis.values(grid) @ model.parameters).min() == pytest.approx(0.0, abs=1e-3)


def test_a_cosine_angle_is_inverted():
    term = AngleTerm(("A",) * 3, AngleCosines(3), 1)

    def potential(x):
        return 8.0 * np.cos(x) ** 2 + 6.0 * np.cos(x)

    states = [state_of("angle", T, potential=potential) for T in (250.0, 400.0)]
    model = guess(("A",), (term,), 320.0, 20.0, states)
    x = np.linspace(0.5, np.pi, 100)
    step = term.basis.values(x) @ model.parameters - potential(x)
    assert np.ptp(step) < 0.02 * KB * 300.0


def test_each_order_in_temperature_is_inverted_and_zero_where_the_potential_is_lowest():
    term = BondTerm(("A",) * 2, BondBasis(0.22, 0.38, 14), 2)
    stiff = {250.0: 14000.0, 350.0: 10000.0}
    states = [
        state_of("bond", T, potential=lambda x, k=k: 0.5 * k * (x - 0.3) ** 2 + k)
        for T, k in stiff.items()
    ]
    model = guess(("A",), (term,), 300.0, 20.0, states)
    x = np.linspace(0.27, 0.33, 31)
    for T, k in {**stiff, 300.0: 12000.0}.items():
        found = term.basis.values(x) @ model.term_theta(T)[0]
        np.testing.assert_allclose(found, 0.5 * k * (x - 0.3) ** 2, atol=0.1)


def test_walls_keep_bonds_and_small_angles_within_what_was_sampled():
    """Sampled to about 12 kT; beyond, the energy rises all the way, and past the splines too."""
    for kind, term in (
        ("bond", BondTerm(("A",) * 2, BondBasis(0.15, 0.45, 14), 1)),
        ("angle", AngleTerm(("A",) * 3, AngleBasis(0.6, 14), 1)),
    ):
        model = guess(("A",), (term,), 300.0, 20.0, [state_of(kind, 300.0, n_frames=1000)])
        width = term.basis.high - term.basis.low
        below = np.linspace(max(term.basis.low - 0.5 * width, 0.0), term.basis.low, 50)
        energy = term.basis.values(below) @ model.parameters / (KB * 300.0)
        assert (np.diff(energy) < 0.0).all() and energy[-1] > 12.0
        assert (energy[0] - energy[-1]) / (below[-1] - below[0]) > END_RISE / width
        if kind == "bond":
            above = np.linspace(term.basis.high, term.basis.high + width, 50)
            energy = term.basis.values(above) @ model.parameters / (KB * 300.0)
            assert (np.diff(energy) > 0.0).all() and energy[0] > 12.0


@pytest.mark.parametrize("seed", range(4))
def test_walls_rise_at_every_temperature_although_few_counts_differ_between_them(seed):
    low, high, rng, states = 0.255, 0.345, np.random.default_rng(seed), []
    term = BondTerm(("A",) * 2, BondBasis(low, high, 16), 2)
    for temperature in (280.0, 320.0):
        state = state_of("bond", temperature, n_frames=10)
        ((key, target),) = state.bonded.items()
        counts = rng.poisson(target.density * np.diff(target.edges) * 3000)
        density = counts / (counts @ np.diff(target.edges))
        noisy = target._replace(density=density)
        states.append(replace(state, bonded={key: noisy}, n_frames=30))
    model = guess(("A",), (term,), 300.0, 20.0, states)
    least = 0.99 * END_RISE * KB * 320.0 / (high - low)
    for temperature in (280.0, 320.0):
        ends = term.basis.values([0.1, low, high, 0.5]) @ model.term_theta(temperature)[0]
        assert ends[0] - ends[1] >= least * (low - 0.1)
        assert ends[3] - ends[2] >= least * (0.5 - high)


def test_a_barrier_that_was_never_sampled_is_filled():
    """Two wells 40 kT deep: between them lies no count, and no hole in the inverted potential."""

    def potential(x):
        return 50.0 * (1.0 - np.cos(x) ** 2)

    term = DihedralTerm(("A",) * 4, PeriodicBasis(20), 1)
    model = guess(("A",), (term,), 300.0, 20.0, [state_of("dihedral", 300.0, potential=potential)])
    x = np.linspace(-np.pi, np.pi, 200)
    energy = term.basis.values(x) @ model.parameters / (KB * 300.0)
    on_top = np.abs(np.abs(x) - np.pi / 2) < 0.4
    assert energy[on_top].min() > 12.0 and energy[on_top].max() < 40.0
    assert energy[~on_top].min() > -0.5


def test_a_state_without_the_molecule_says_nothing_about_its_bonds():
    term = BASES["spline bond"]
    full = state_of("bond", 300.0)
    empty = StateTarget(350.0, None, 1e3, 10**5, 50, {"A": 0}, full.edges, {}, {})
    models = [guess(("A",), (term,), 300.0, 20.0, found) for found in ([full], [full, empty])]
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)


def test_an_ideal_gas_of_chains_has_the_pressure_of_its_molecules():
    """50 dimers: 100 sites less 50 bonds, each of which takes away kT/V."""
    state = state_of("bond", 300.0)
    state = StateTarget(**{**vars(state), "bonded": {k: t._replace(n_groups=50) for k, t in
                                                     state.bonded.items()}})  # fmt: skip
    model = guess(("A",), (BASES["spline bond"],), 300.0, 20.0, [state])
    assert virial_pressure(model, state) == pytest.approx(50 * KB * 300.0 / 1e3)


def test_an_inverted_bond_has_a_virial_of_three_kt():
    target, term = exact("bond", 300.0), BASES["spline bond"]
    model = guess(("A",), (term,), 300.0, 20.0, [state_of("bond", 300.0)])
    x = 0.5 * (target.edges[1:] + target.edges[:-1])
    slope = term.basis.values(x, 1) @ model.parameters
    virial = (target.density * x * slope) @ np.diff(target.edges)
    assert virial == pytest.approx(3.0 * KB * 300.0, rel=0.02)


def test_the_fisher_matrix_has_a_null_direction_along_the_constant(tetramers):
    """Natural steps and errors have no part along it."""
    sums = tetramers[2][0]["site_sums"][:, 6:]
    found = spectrum(np.cov(sums.T), np.ones(40, bool))
    assert found.rank <= 37
    for columns in (slice(0, 12), slice(12, 24), slice(24, 40)):
        constant = np.zeros(40)
        constant[columns] = 1.0
        met = np.abs(found.directions[:, columns]).max(axis=0) > 0.0
        along = np.cov(sums[:, columns][:, met].T).sum()
        assert along < 1e-3 * np.trace(np.cov(sums[:, columns].T))


def core_model(term, a):
    return Model(("A",), (term,), 300.0, 1.0, (np.array([a], float),))


def test_bonds_rise_at_both_ends_where_data_are_scarce():
    term = BondTerm(("A",) * 2, BondBasis(0.2, 0.4, 9), 1)
    counts = np.array([0.0, 5.0, 90.0, 5000.0, 9000.0, 5000.0, 90.0, 5.0, 0.0])
    before = core_model(term, [-9.0, 8.0, 3.0, 1.0, 0.0, 1.0, 4.0, -20.0, 2.0])
    found = with_repulsive_core(before, (280.0, 320.0), counts)
    least = END_RISE * KB * 320.0 / 0.2
    for x in (np.linspace(0.1, 0.21, 20), np.linspace(0.5, 0.39, 20)):
        energy = term.basis.values(x) @ found.parameters
        assert (np.diff(energy) < 1e-9).all()
        assert (energy[0] - energy[1]) / abs(x[1] - x[0]) >= 0.999 * least
    np.testing.assert_array_equal(found.parameters[2:7], before.parameters[2:7])


def test_walls_hold_what_was_met_too_rarely_at_an_end():
    """A gradient that a wall keeps from vanishing is no sign of a model that has not converged."""
    counts = np.array([0.0, 5.0, 90.0, 5000.0, 9000.0, 50.0, 5000.0, 90.0, 2.0])
    bond = BondTerm(("A",) * 2, BondBasis(0.2, 0.4, 9), 2)
    ends = np.array([1, 1, 1, 0, 0, 0, 0, 1, 1], bool)
    model = Model(("A",), (bond,), 300.0, 1.0, (np.zeros((2, 9)),))
    np.testing.assert_array_equal(held_by_walls(model, counts), np.tile(ends, 2))
    angle = AngleTerm(("A",) * 3, AngleBasis(1.0, 9), 1)
    low = ends & (np.arange(9) < 4)
    np.testing.assert_array_equal(held_by_walls(core_model(angle, np.zeros(9)), counts), low)
    dihedral = DihedralTerm(("A",) * 4, PeriodicBasis(9), 1)
    assert not held_by_walls(core_model(dihedral, np.zeros(9)), counts).any()


def test_only_the_lower_end_of_an_angle_rises():
    term = AngleTerm(("A",) * 3, AngleBasis(1.0, 8), 1)
    counts = np.array([1.0, 50.0, 5000.0, 9000.0, 5000.0, 500.0, 50.0, 1.0])
    before = core_model(term, [-3.0, 4.0, 1.0, 0.0, 1.0, 3.0, 2.0, -5.0])
    found = with_repulsive_core(before, (300.0,), counts)
    assert (term.basis.values(0.9, 1) @ found.parameters) <= -END_RISE * KB * 300.0 / (np.pi - 1.0)
    np.testing.assert_array_equal(found.parameters[1:], before.parameters[1:])


def test_dihedrals_and_open_angles_have_no_ends():
    for term in (TERMS[3], AngleTerm(("A",) * 3, AngleBasis(0.0, 8), 1)):
        before = core_model(term, -np.arange(term.n_basis))
        found = with_repulsive_core(before, (300.0,), np.zeros(term.n_basis))
        np.testing.assert_array_equal(found.parameters, before.parameters)


def test_a_harmonic_bond_does_not_turn_over():
    term = BASES["harmonic bond"]
    found = with_repulsive_core(core_model(term, [1.0, -3.0]), (300.0,), np.full(2, 1e4))
    assert found.parameters[1] == pytest.approx(END_RISE * KB * 300.0)


def config_of(*found):
    pair = PairTermConfig(kind="pair", sites=["A", "A"], r_cut=0.9, n_basis=8, r_min=0.3)
    return ModelConfig(terms=[pair, *found], temperature="constant")


def bond(**options):
    return BondTermConfig(kind="bond", **{"sites": ["A", "B"], **options})


def ranges(bond_range, angle_range):
    keys = {"bond A-B": bond_range, "angle A-B-A": angle_range}
    return {key: {"low": low, "high": high, "n": 10} for key, (low, high) in keys.items()}


RANGES = [ranges((0.251, 0.332), (1.234, 3.1)), ranges((0.245, 0.345), (1.3, 3.1))]


def test_splines_span_what_all_training_states_sample_and_a_margin():
    angle = AngleTermConfig(kind="angle", sites=["A", "B", "A"])
    _, *found = terms.model_terms(config_of(bond(), angle, bond(form="harmonic")), [{}], RANGES)
    assert found[0].basis == BondBasis(0.24, 0.35, 16)
    assert found[1].basis == AngleBasis(1.14, 16)
    assert found[2].basis == HarmonicBasis(0.24, 0.35)


def test_the_config_may_set_the_range_of_bonds_and_angles():
    angle = AngleTermConfig(kind="angle", sites=["A", "B", "A"], low=0.0)
    _, *found = terms.model_terms(config_of(bond(low=0.2, high=0.4), angle), [{}], RANGES)
    assert [found[0].basis.low, found[0].basis.high, found[1].basis.low] == [0.2, 0.4, 0.0]


def test_a_bonded_term_that_occurs_nowhere_is_refused_with_what_there_is():
    message = r"the bond term B-B acts on nothing: the bonds of the mapped .* are A-B; correct its"
    with pytest.raises(InputError, match=message):
        terms.model_terms(config_of(bond(sites=["B", "B"])), [{}], RANGES)
    dihedral = DihedralTermConfig(kind="dihedral", sites=["A", "B", "B", "A"])
    with pytest.raises(InputError, match="the dihedrals of the mapped training states are none"):
        terms.model_terms(config_of(dihedral), [{}], RANGES)


def test_a_constrained_bond_is_refused():
    facts = [{"bond A-B": {"low": 0.3, "high": 0.3005, "n": 10}}]
    with pytest.raises(InputError, match=r"the bond A-B has the same value, 0.3, in all frames"):
        terms.model_terms(config_of(bond()), [{}], facts)


def test_a_range_outside_of_what_is_sampled_is_refused():
    with pytest.raises(InputError, match=r"is sampled from 0.245 to 0.345, outside of its range"):
        terms.model_terms(config_of(bond(low=0.4)), [{}], RANGES)


def test_a_dihedral_over_an_angle_that_becomes_straight_is_a_warning():
    dihedral = DihedralTermConfig(kind="dihedral", sites=["A", "B", "B", "A"])
    campaign = SimpleNamespace(bonded_terms=[dihedral])
    ranges = {"angle A-B-B": {"low": 1.5, "high": 3.13}}
    (warning,) = terms.straightened(campaign, [ranges, ranges])
    assert "the angle A-B-B reaches 179 degrees, where the dihedral A-B-B-A is not" in warning
    ranges["angle A-B-B"]["high"] = 2.9
    assert terms.straightened(campaign, [ranges, ranges]) == []


def test_a_step_leaves_a_bonded_potential_at_its_height_over_ends_that_were_not_met():
    """A constant is not in the data: a step with one is the step without it."""
    term = BondTerm(("A", "A"), BondBasis(0.2, 0.3, 8), 2)
    before = Model(("A",), (term,), 300.0, 1.0, (np.zeros((2, 8)),))
    counts = np.array([0.0, 20.0, 400.0, 900.0, 500.0, 100.0, 12.0, 0.0])
    free = np.tile(counts > 0, 2)
    step = np.where(free, np.random.default_rng(1).normal(size=16), 0.0)
    moves = without_shift(before, free, counts)
    found = moves @ step
    np.testing.assert_allclose(found.reshape(2, 8) @ counts, 0.0, atol=1e-9)
    assert not found[~free].any()
    lifted = moves @ (step + np.where(free, np.repeat([70.0, -3.0], 8), 0.0))
    np.testing.assert_allclose(lifted, found, atol=1e-9)
    differences = np.diff(found[free].reshape(2, -1)), np.diff(step[free].reshape(2, -1))
    np.testing.assert_allclose(*differences, atol=1e-9)
    np.testing.assert_allclose(moves @ moves, moves, atol=1e-12)


def test_distributions_of_a_target_file_are_read_for_the_guess(tetramers):
    arrays, attributes = tetramers[2]
    found = read_bonded(arrays, attributes)
    assert found["angle A-A-A"].n_groups == 120
    assert found["angle A-A-A"].density @ np.diff(found["angle A-A-A"].edges) == pytest.approx(1.0)


def test_the_guess_of_sampled_chains_is_their_potential_within_its_noise(tetramers):
    arrays, attributes = tetramers[2]
    state = StateTarget(
        300.0, None, 216.0, 400, 60, {"A": 240}, arrays["rdf_fine_edges"], {},
        read_bonded(arrays, attributes),
    )  # fmt: skip
    model = guess(("A",), TERMS[1:], 300.0, 3.6, [state])
    ranges = {"bond": (0.27, 0.33), "angle": (1.6, 2.4), "dihedral": (-3.1, 3.1)}
    for term, theta in zip(model.terms, model.term_theta(300.0)):
        x = np.linspace(*ranges[term.kind], 100)
        step = term.basis.values(x) @ theta - POTENTIALS[term.kind](x)
        assert np.std(step) < 0.06 * KB * 300.0


def test_the_basis_of_a_pair_is_chosen_beside_bonded_terms_and_without_excluded_pairs(tmp_path):
    """Chains that do not interact: few functions, whatever the intramolecular distances are."""
    found, names = chains.topology(40), ("A", "B")
    states = [SimpleNamespace(id=f"T{T:g}", temperature=T, weight=1.0) for T in (280.0, 320.0)]
    files, facts = [], []
    for k, state in enumerate(states):
        positions, boxes = chains.frames(POTENTIALS, state.temperature, 300, 40, 3, 4.0, seed=k)
        files.append(chains.write_map(tmp_path / f"{k}.h5", positions, boxes, found, names))
        bonded_facts = {}
        for group in bonded.groups_of(found, names):
            x = bonded.coordinates(positions, group.sites)
            bonded_facts[group.key] = {"low": x.min(), "high": x.max(), "n": len(group.sites)}
        facts.append(
            {
                "site_names": list(names),
                "n_frames": 300,
                "n_molecules": 40,
                "volume_per_molecule": 64.0 / 40,
                "onset": {"A-A": 0.02, "A-B": 0.02},
                "bonded": bonded_facts,
            }
        )
    pair = PairTermConfig(kind="pair", sites=["A", "B"], r_cut=1.0, n_basis="auto", r_min=0.02)
    angle = AngleTermConfig(kind="angle", sites=["A", "B", "A"])
    model = ModelConfig(terms=[pair, bond(), angle], temperature="constant")
    campaign = SimpleNamespace(
        n_orders=lambda term: 1,
        model=model,
        training=states,
        bonded_terms=model.terms[1:],
        exclude=model.excluded,
        reference_temperature=300.0,
    )
    chosen, sizes = terms.resolve(campaign, files, facts)
    assert model.excluded == ("1-2", "1-3") and list(sizes) == ["A-B"]
    assert chosen[0].n_basis <= 8 and [t.n_basis for t in chosen[1:]] == [16, 16]
    terms.write(tmp_path / "terms.json", list(names), chosen)
    assert terms.read(tmp_path / "terms.json") == (list(names), chosen)
