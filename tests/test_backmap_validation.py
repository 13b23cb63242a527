"""Each estimate of the validation is right where the answer is known, and sees a wrong sampler."""

from pathlib import Path

import mdtraj
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap import validation
from remcg.distributions import Distribution

ROOT = Path(__file__).parents[1]
HEXANE = ROOT / "resources" / "hexane" / "topology.pdb"
PEPTIDE = ROOT / "resources" / "pentaalanine" / "topology.pdb"
WATER = ROOT / "resources" / "spce"


def draws_of(mean, spread, shape, seed):
    return np.random.default_rng(seed).normal(mean, spread, shape)


def test_ranks_of_exact_draws_are_uniform():
    x, draws = draws_of(0, 1, 4000, 1), draws_of(0, 1, (7, 4000), 2)
    found = validation.ranks(x, draws, np.random.default_rng(3))
    assert validation.uniformity(found) > 1e-4
    counts = np.bincount((8 * found).astype(int), minlength=8)
    assert abs(counts - 500).max() < 4.5 * np.sqrt(500)


@pytest.mark.parametrize(("mean", "spread"), [(0.15, 1.0), (0.0, 0.8), (0.0, 1.3)])
def test_ranks_of_a_biased_sampler_are_not_uniform(mean, spread):
    x, draws = draws_of(0, 1, 4000, 1), draws_of(mean, spread, (7, 4000), 2)
    assert validation.uniformity(validation.ranks(x, draws, np.random.default_rng(3))) < 1e-6


def test_ties_are_broken_evenly():
    """Values that cannot differ have uniform ranks too."""
    found = validation.ranks(np.zeros(3000), np.zeros((4, 3000)), np.random.default_rng(4))
    assert validation.uniformity(found) > 1e-4


def test_ranks_need_draws_of_the_same_frame():
    """With a common part y that draws share, ranks are uniform; against another frame's not."""
    y = draws_of(0, 2, (1, 3000), 5)
    x, draws = y[0] + draws_of(0, 1, 3000, 6), y + draws_of(0, 1, (5, 3000), 7)
    rng = np.random.default_rng(8)
    assert validation.uniformity(validation.ranks(x, draws, rng)) > 1e-4
    shuffled = validation.ranks(x, np.roll(draws, 1500, axis=1), rng)
    assert np.histogram(shuffled, 6, (0, 1))[0][[0, -1]].min() > 700  # of 500 each


def test_coordinates_of_one_molecule_are_one_rank():
    """Three hydrogens that move together: all of them would make uniform ranks look wrong."""
    rng, owner = np.random.default_rng(11), np.repeat(np.arange(200), 3)[::-1]
    taken = np.array([validation.one_of_each(owner, rng) for _ in range(300)])
    assert (owner[taken] == np.arange(200)).all()
    share = (taken % 3 == 0).mean()
    assert abs(share - 1 / 3) < 4 * np.sqrt(2 / 9 / taken.size)
    too_low = {"all": 0, "one": 0}
    for _ in range(200):
        x, draws = np.repeat(rng.normal(size=(200, 1)), 3, 1), rng.normal(size=(2, 200, 1))
        found = validation.ranks(x.ravel(), np.repeat(draws, 3, 2).reshape(2, -1), rng)
        too_low["all"] += validation.uniformity(found) < 0.01
        too_low["one"] += validation.uniformity(found[taken[0]]) < 0.01
    assert too_low["one"] <= 8 < too_low["all"]


def molecules_of(topology):
    return [np.array(sorted(a.index for a in part)) for part in topology.find_molecules()]


def mapping_of(molecules, n_atoms, parts, masses):
    rows, columns, weights = [], [], []
    for molecule in molecules:
        for part in parts:
            atoms = molecule[part]
            rows += [rows[-1] + 1 if rows else 0] * len(atoms)
            columns += atoms.tolist()
            weights += (masses[atoms] / masses[atoms].sum()).tolist()
    return csr_matrix((weights, (rows, columns)), shape=(max(rows) + 1, n_atoms))


def shaken(positions, seed=1):
    return positions + 0.003 * np.random.default_rng(seed).normal(size=positions.shape)


def test_equivalent_atoms_share_a_class_and_rigid_bonds_have_no_distribution():
    frame = mdtraj.load(str(HEXANE))
    molecules = molecules_of(frame.topology)[:4]
    frame = frame.atom_slice(np.concatenate(molecules))
    topology, x = frame.topology, shaken(frame.xyz[0].astype(float))
    masses = np.array([a.element.mass for a in topology.atoms])
    names = [a.name for a in topology.atoms][:20]
    sites = "C1 H11 H12 H13 C2 H21 H22", "C3 H31 H32 C4 H41 H42", "C5 H51 H52 C6 H61 H62 H63"
    parts = [[names.index(name) for name in site.split()] for site in sites]
    operator = mapping_of(molecules, topology.n_atoms, parts, masses)
    bonds = [(a.index, b.index) for a, b in topology.bonds]
    rigid = [pair for pair in bonds if "H" in {topology.atom(k).element.symbol for k in pair}]
    found = validation.coordinates_of(topology, molecules, operator, rigid, x)
    assert [g.name for g in found.rigid] == ["C1-H11", "C2-H21", "C3-H31"]
    assert found.mapped == []
    bonds = {g.name: len(g.atoms) for g in found.free if g.kind == "bond"}
    assert bonds == {"C1-C2": 8, "C2-C3": 8, "C3-C3": 4}
    dihedrals = {g.name: len(g.atoms) for g in found.free if g.kind == "dihedral"}
    assert dihedrals == {"C1-C2-C3-C3": 8, "C2-C3-C3-C2": 4, "C3-C2-C1-H11": 24}
    assert sum(len(g.atoms) for g in found.free if g.kind == "angle") == 4 * 36


def test_what_sites_and_rigid_bonds_fix_is_told_apart():
    """Rigid water has no free coordinate; a bond between two sites of one atom is mapped."""
    frame = mdtraj.load(str(WATER / "topology.pdb")).atom_slice(np.arange(9))
    molecules = list(np.arange(9).reshape(3, 3))
    x = frame.xyz[0].astype(float)
    masses = np.array([a.element.mass for a in frame.topology.atoms])
    operator = mapping_of(molecules, 9, [[0, 1, 2]], masses)
    rigid = [(a[i], a[j]) for a in molecules for i, j in ((0, 1), (0, 2), (1, 2))]
    found = validation.coordinates_of(frame.topology, molecules, operator, rigid, x)
    assert [g.key for g in found.rigid] == ["bond H1-O", "angle H1-O-H1"]
    assert found.free == found.mapped == []
    single = mapping_of(molecules, 9, [[0], [1]], masses)
    found = validation.coordinates_of(frame.topology, molecules, single, [], x)
    keys = {verdict: {g.key for g in getattr(found, verdict)} for verdict in ("free", "mapped")}
    assert keys["free"] == {"bond H1-O", "angle H1-O-H1"}  # O-H2 is free, and of the same class
    everything = mapping_of(molecules, 9, [[0], [1], [2]], masses)
    found = validation.coordinates_of(frame.topology, molecules, everything, [], x)
    assert {g.key for g in found.mapped} == {"bond H1-O", "angle H1-O-H1"}
    assert found.free == []


def test_residues_of_one_name_share_their_classes():
    frame = mdtraj.load(str(PEPTIDE))
    molecules = [np.arange(frame.n_atoms)]
    masses = np.array([a.element.mass for a in frame.topology.atoms])
    parts = [[a.index for a in r.atoms] for r in frame.topology.residues]
    operator = mapping_of(molecules, frame.n_atoms, parts, masses)
    x = shaken(frame.xyz[0].astype(float))
    found = validation.coordinates_of(frame.topology, molecules, operator, [], x)
    counts = {g.name: len(g.atoms) for g in found.free}
    assert counts["ALA:C-ALA:CA"] == 5
    assert counts["ALA:C-ALA:N"] == 4
    assert counts["ALA:C-ALA:CA-ALA:N-ALA:C"] == 4  # phi
    assert len(found.free) < 70


def test_the_divergence_of_exact_draws_is_below_two_floors_and_a_bias_is_not():
    group = validation.Group("bond", "A-B", np.zeros((1, 2), int))
    reference = np.array_split(draws_of(0.15, 0.003, 4000, 1), 10)
    ratios = []
    for mean, spread in ((0.15, 0.003), (0.151, 0.003), (0.15, 0.0038)):
        model = np.array_split(draws_of(mean, spread, 2000, 2), 10)
        found = {"x": validation.distribution(group, reference, model)}
        js, floor = validation.divergences(found)["x"]
        ratios.append(js / floor)
    assert ratios[0] < 1.6
    assert min(ratios[1:]) > 2.0


def compared(n_groups, sides, n_frames, n_values):
    """Ratios of divergences to floors and to what chance allows, of n_groups distributions."""
    found = {}
    for k in range(n_groups):
        group = validation.Group("bond", f"{k}", np.zeros((1, 2), int))
        reference, model = sides()
        blocks = [np.array_split(x, min(10, len(x))) for x in (reference, model)]
        found[f"bond {k}"] = validation.distribution(group, *blocks)
    n_values = dict.fromkeys(found, n_values)
    chance = validation.exceeded_by_chance(found, *n_frames, n_values)
    pairs = validation.divergences(found, n_values)
    return np.array([[js / floor, js / chance[key]] for key, (js, floor) in pairs.items()]).T


@pytest.mark.parametrize(("n", "n_groups"), [(60, 20), (3000, 5)])
def test_exact_draws_hardly_ever_exceed_what_chance_allows(n, n_groups):
    """With few values and bins the limit of two floors is exceeded by chance, this is not."""
    rng = np.random.default_rng(3)

    def sides():
        return rng.normal(size=2 * n), rng.normal(size=n)

    found = [compared(n_groups, sides, (2 * n, n), 2 * n) for _ in range(10)]
    floors, chances = np.concatenate(found, axis=1)
    assert (chances > 1).sum() <= 1
    assert (floors > 2).any() == (n == 60)


def test_structures_over_one_frame_may_be_alike_and_a_floor_of_few_values_may_be_too_small():
    """A dihedral of two states, 80 reference frames, 20 frames of two structures that are equal."""
    rng = np.random.default_rng(8)

    def sides():
        reference, frames = rng.random((2, 80)) < 0.5
        return reference + 0.01 * rng.random(80), np.repeat(frames[:20], 2) + 0.01 * rng.random(40)

    floors, chances = np.concatenate([compared(59, sides, (80, 20), 80) for _ in range(5)], axis=1)
    assert (chances > 1).sum() <= 1
    assert (floors > 2).any()


def test_a_wrong_distribution_exceeds_what_chance_allows():
    rng = np.random.default_rng(9)
    floors, chances = compared(20, lambda: rng.normal([[0], [0.5]], 1, (2, 2000)), (40, 40), 2000)
    assert floors.min() > 2
    assert chances.min() > 1


def test_a_value_that_no_reference_frame_has_is_seen():
    """All values of the reference are in one bin: its halves cannot differ, the model does."""
    edges, one = np.linspace(0, 4, 5), np.array([[1.0, 0, 0, 0]] * 4)
    item = Distribution("bond", "A-B", edges, one, one[:, ::-1])
    key = {"bond A-B": 400}
    js, floor = validation.divergences({"bond A-B": item}, key)["bond A-B"]
    assert js == 1.0 and 0 < floor < 0.01
    assert validation.exceeded_by_chance({"bond A-B": item}, 4, 4, key)["bond A-B"] < 0.1
    assert validation.independent_floor(
        Distribution("bond", "A-B", edges, one, one), 400
    ) == 0.0  # fmt: skip


def test_the_floor_is_what_two_halves_differ_by():
    """(K - 1)/(4 n ln 2) for n values in each half of K bins that are all alike."""
    group = validation.Group("dihedral", "A-B-C-D", np.zeros((1, 4), int))
    values = np.random.default_rng(3).uniform(-np.pi, np.pi, 20000)
    found = validation.distribution(group, np.array_split(values, 10), [values[:5000]])
    n_bins = len(found.edges) - 1
    assert n_bins == 60
    floor = validation.divergences({"x": found})["x"][1]
    expected = (n_bins - 1) / (4 * 10000 * np.log(2))
    assert floor == pytest.approx(expected, rel=0.25)
    assert validation.independent_floor(found, 20000) == pytest.approx(expected)


def test_bins_are_wide_where_values_are_few():
    group = validation.Group("dihedral", "A-B-C-D", np.zeros((1, 4), int))
    values = np.random.default_rng(3).uniform(-np.pi, np.pi, 100)
    assert len(validation.distribution(group, [values], [values[:50]]).edges) - 1 == 5


def water_frames(n):
    frames = mdtraj.load(str(WATER / "T310.xtc"), top=str(WATER / "topology.pdb"), stride=30)[:n]
    return frames.topology, frames.xyz.astype(float), frames.unitcell_lengths.astype(float)


def test_atomic_rdfs_leave_out_the_own_molecule():
    """The first peaks of SPC/E water at 310 K, against mdtraj's g(r) of the same pairs."""
    topology, x, boxes = water_frames(4)
    molecules = molecules_of(topology)
    kinds = validation.atom_pairs(topology, molecules)
    assert kinds.names == ["H-H", "H-O", "O-O"]
    edges = validation.rdf_range(boxes)
    g = validation.atomic_rdfs(kinds, x, boxes, edges)
    assert g.shape == (4, 3, len(edges) - 1)
    peaks = validation.peak_deviations(g, g, kinds.names, edges, np.arange(4))
    assert peaks["H-O"]["r_nm"] == pytest.approx(0.18, abs=0.011)
    assert peaks["O-O"]["r_nm"] == pytest.approx(0.275, abs=0.011)
    assert peaks["H-H"]["r_nm"] == pytest.approx(0.245, abs=0.016)
    trajectory = mdtraj.Trajectory(x, topology, None, boxes, np.full((4, 3), 90.0))
    oxygens = topology.select("name O")
    pairs = topology.select_pairs(oxygens, oxygens)
    _, expected = mdtraj.compute_rdf(trajectory, pairs, (0, edges[-1]), bin_width=0.01)
    assert np.abs(g[:, 2].mean(axis=0) - expected).max() < 0.02


def test_a_wrong_peak_is_seen_against_its_error():
    edges = np.arange(41) * 0.01
    r = 0.5 * (edges[1:] + edges[:-1])
    mean = np.exp(-(((r - 0.2) / 0.03) ** 2)) * 2
    noise = 0.02 * np.random.default_rng(1).normal(size=(2, 8, 1, 40))
    own = 0.2 * np.random.default_rng(2).normal(size=(8, 1, 1))  # of each frame, on both sides
    reference, model = mean + own + noise[0], 1.05 * mean + own + noise[1]
    frame = np.arange(8)
    paired = validation.peak_deviations(reference, model, ["X"], edges, frame)["X"]
    apart = validation.peak_deviations(reference, model, ["X"], edges)["X"]
    assert paired["deviation"] == pytest.approx(0.05, abs=4 * paired["se"])
    assert paired["se"] < 0.01 < apart["se"]
    assert validation.peak_deviations(0 * reference, model, ["X"], edges, frame) == {}


def test_an_energy_gap_has_the_error_of_independent_frames():
    rng = np.random.default_rng(3)
    frames = rng.normal(-40, 2, 50)
    own = frames + rng.normal(0, 0.4, 50)
    frame = np.repeat(np.arange(50), 3)
    draws = frames[frame] + 0.5 + rng.normal(0, 0.4, 150)
    gap, error = validation.mean_difference(own, draws, frame)
    assert gap == pytest.approx(0.5, abs=4 * error)
    assert error == pytest.approx(0.4 * np.sqrt((1 + 1 / 3) / 50), rel=0.25)
    gap, error = validation.mean_difference(own, draws)
    assert gap == pytest.approx(0.5, abs=4 * error)
    assert error > 0.25


def test_a_single_structure_has_the_error_of_its_spread():
    assert validation.mean_difference([1.0], [1.5], [0], spread=0.2) == pytest.approx(
        (0.5, 0.2 * np.sqrt(2))
    )
    reference = np.random.default_rng(3).normal(size=400)
    assert validation.mean_difference(reference, [0.3])[1] == pytest.approx(1.0, rel=0.15)


def test_the_error_of_independent_sides_knows_that_frames_are_correlated():
    """A series of correlation time 20: its mean is known as from a fortieth of its values."""
    rng, n, keep = np.random.default_rng(4), 4000, np.exp(-1 / 20)
    errors, squares = [], []
    for _ in range(60):
        noise, x = rng.normal(size=n) * np.sqrt(1 - keep**2), np.empty(n)
        x[0] = rng.normal()
        for k in range(1, n):
            x[k] = keep * x[k - 1] + noise[k]
        difference, error = validation.mean_difference(x, np.zeros(2))
        errors.append(error**2), squares.append(difference**2)
    assert np.mean(errors) == pytest.approx(40 / n, rel=0.2)
    assert np.mean(squares) == pytest.approx(np.mean(errors), rel=0.75)


def test_a_peak_is_where_many_frames_have_it():
    """One paired frame is noisy and high elsewhere; 20 others say where the first peak is."""
    edges = np.arange(41) * 0.01
    r = 0.5 * (edges[1:] + edges[:-1])
    others = np.tile(1.5 * np.exp(-(((r - 0.3) / 0.03) ** 2)), (20, 1, 1))
    own = others[:1].copy()
    own[0, 0, 8:13] = 3.0
    found = validation.peak_deviations(own, own, ["X"], edges, np.zeros(1, int), others)["X"]
    assert found["r_nm"] == pytest.approx(0.3, abs=0.011) and found["deviation"] == 0.0
    nothing = np.zeros_like(own)
    assert validation.peak_deviations(nothing, own, ["X"], edges, np.zeros(1, int), others) == {}


@pytest.mark.parametrize(("n", "n_draws"), [(2, 2), (3, 1), (2, 5)])
def test_the_error_of_few_frames_is_right_on_average(n, n_draws):
    """Squared errors of 2000 small experiments have the mean of the squared standard errors."""
    rng, frame = np.random.default_rng(9), np.repeat(np.arange(n), n_draws)
    found = np.array([
        validation.mean_difference(
            common + rng.normal(size=n), common[frame] + rng.normal(size=n * n_draws), frame
        )
        for common in 5 * rng.normal(size=(2000, n))
    ])  # fmt: skip
    assert (found[:, 0] ** 2).mean() == pytest.approx((found[:, 1] ** 2).mean(), rel=0.2)


def test_the_energy_that_rounding_adds_is_taken_off():
    """U = k/2 x^2 per coordinate: rounding to a grid of width w adds k w^2/24 on average."""
    rng = np.random.default_rng(5)
    exact = rng.normal(0, 0.02, (40, 3000, 3))
    rounded = np.round(exact, 3)
    assert validation.is_rounded(rounded.astype(np.float32))
    assert not validation.is_rounded(exact)

    def energy(x, box):
        return 0.5 * 1e6 * (x**2).sum()

    before = np.array([energy(x, None) for x in exact])
    plain = np.array([energy(x, None) for x in rounded]) - before
    found = validation.unrounded_energies(energy, rounded, [None] * 40, rng) - before
    added = 0.5 * 1e6 * 9000 * 1e-6 / 12
    assert plain.mean() == pytest.approx(added, rel=0.35)
    error = found.std() / np.sqrt(40)
    assert abs(found.mean()) < 4 * error
    assert error < 0.25 * added


def test_axes_of_molecules_that_point_anywhere_have_a_flat_cosine():
    rng = np.random.default_rng(6)
    n, box = 3000, np.full(3, 6.0)
    sites = rng.uniform(0, 6, (n, 3))
    shape = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    turns = Rotation.random(n, rng).as_matrix()
    x = (sites[:, None] + np.einsum("mij,aj->mai", turns, shape)).reshape(-1, 3)
    atoms = np.arange(3 * n).reshape(n, 3)
    found = validation.neighbour_axes(x, sites, box, atoms[:, 0], atoms[:, 1:], np.arange(n))
    assert validation.uniformity(0.5 * (found + 1)) > 1e-4


def test_the_nearest_site_is_the_nearest_image():
    sites = np.array([[0.1, 0.5, 0.5], [1.9, 0.5, 0.5], [1.0, 0.5, 0.5]])
    found = validation._to_nearest(sites, np.array([2.0, 5.0, 5.0]))
    np.testing.assert_allclose(found, [[-0.2, 0, 0], [0.2, 0, 0], [0.9, 0, 0]], atol=1e-12)
    lonely = validation._to_nearest(sites * 30, None)
    np.testing.assert_allclose(lonely[2], [27.0, 0, 0], atol=1e-9)


def test_only_molecules_of_one_site_have_an_axis():
    topology = water_frames(1)[0]
    molecules = molecules_of(topology)
    masses = np.array([a.element.mass for a in topology.atoms])
    operator = mapping_of(molecules, topology.n_atoms, [[0, 1, 2]], masses)
    ((first, others, site_of),) = validation.axes_of(topology, molecules, operator)
    assert [topology.atom(int(k)).name for k in (first[3], *others[3])] == ["O", "H1", "H2"]
    assert site_of.tolist() == list(range(512))
    two = mapping_of(molecules, topology.n_atoms, [[0], [1, 2]], masses)
    assert validation.axes_of(topology, molecules, two) == []
