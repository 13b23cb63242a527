"""Structure factors, angles between neighbours, and divergences with their bias."""

import numpy as np
import pytest

import naive
from remcg.consistency import divergence, structure
from remcg.distributions import jensen_shannon
from remcg.errors import InputError
from remcg.pairs import rdf, rdf_edges


def gas(n_frames, n_sites, edge=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n_frames, n_sites, 3)) * edge, np.full((n_frames, 3), edge)


def simple_cubic(n_side, spacing):
    cells = np.stack(np.meshgrid(*[np.arange(n_side)] * 3), axis=-1).reshape(-1, 3)
    return cells * spacing + 0.37, np.full(3, n_side * spacing)


def test_an_ideal_gas_has_a_structure_factor_of_one():
    positions, boxes = gas(400, 100)
    vectors = structure.wave_vectors(boxes[0], 15.0)
    blocks = structure.structure_factors(positions, boxes, np.zeros(100, int), 1, vectors)[:, 0]
    error = blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    assert np.abs((blocks.mean(axis=0) - 1.0) / error).max() < 7.0  # t with 9 degrees of freedom
    chi2 = (((blocks.mean(axis=0) - 1.0) / error) ** 2).mean()
    assert 0.4 < chi2 < 2.5
    assert error.max() < 0.05


def test_unlike_types_of_an_ideal_gas_are_uncorrelated():
    positions, boxes = gas(300, 90, seed=3)
    types = np.repeat([0, 1], [30, 60])
    vectors = structure.wave_vectors(boxes[0], 10.0)
    blocks = structure.structure_factors(positions, boxes, types, 2, vectors)
    error = blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
    expected = np.array([1.0, 0.0, 1.0])[:, None]
    assert np.abs((blocks.mean(axis=0) - expected) / error).max() < 7.0


def test_a_simple_cubic_lattice_has_bragg_peaks_of_its_number_of_sites_and_nothing_else():
    positions, box = simple_cubic(4, 0.5)
    vectors = structure.wave_vectors(box, 26.0, most=10**6)
    found = structure.structure_factors(positions[None], box[None], np.zeros(64, int), 1, vectors)
    bragg = (vectors.indices % 4 == 0).all(axis=1)
    peaks = np.bincount(vectors.bins, bragg) / np.bincount(vectors.bins)
    assert bragg.sum() == 3 + 6 + 4 + 3  # of the shells 100, 110, 111, 200, opposite ones once
    np.testing.assert_allclose(found[0, 0], 64.0 * peaks, atol=1e-9)


def test_the_structure_factor_is_that_of_the_plain_sum_in_a_skew_box():
    rng = np.random.default_rng(1)
    box = np.array([[2.0, 0.0, 0.0], [0.4, 1.8, 0.0], [-0.3, 0.5, 2.2]])
    positions = rng.normal(size=(20, 3))
    vectors = structure.wave_vectors(box, 9.0, most=10**6)
    found = structure.structure_factors(positions[None], box[None], np.zeros(20, int), 1, vectors)
    k = 2.0 * np.pi * vectors.indices @ np.linalg.inv(box).T
    assert np.allclose(k @ box.T / (2 * np.pi), vectors.indices)
    plain = np.abs(np.exp(-1j * positions @ k.T).sum(axis=0)) ** 2 / 20
    mean = np.bincount(vectors.bins, plain) / np.bincount(vectors.bins)
    np.testing.assert_allclose(found[0, 0], mean, rtol=1e-10, atol=1e-12)
    lengths = np.bincount(vectors.bins, np.linalg.norm(k, axis=1)) / np.bincount(vectors.bins)
    np.testing.assert_allclose(vectors.k, lengths)


def test_every_wave_vector_is_met_once_and_its_opposite_never():
    vectors = structure.wave_vectors(np.array([2.0, 2.0, 2.0]), 20.0, most=10**6)
    met = {tuple(n) for n in vectors.indices}
    assert len(met) == len(vectors.indices)
    assert not met & {tuple(-n) for n in vectors.indices}
    n = np.arange(-7, 8)
    everything = np.stack(np.meshgrid(n, n, n), axis=-1).reshape(-1, 3)
    inside = np.linalg.norm(everything, axis=1) * np.pi <= 20.0
    assert 2 * len(met) == inside.sum() - 1


def test_a_range_below_the_smallest_wave_vector_is_refused():
    with pytest.raises(InputError, match="smallest wave vector"):
        structure.wave_vectors(np.full(3, 2.0), 3.0)


def test_the_structure_factor_of_a_gaussian_hole_follows_from_its_rdf():
    edges, width, density = np.linspace(0.0, 4.0, 2001), 0.2, 10.0
    r = 0.5 * (edges[1:] + edges[:-1])
    k = np.linspace(1.0, 25.0, 40)
    found = structure.structure_factor_from_rdf(edges, 1.0 - np.exp(-0.5 * (r / width) ** 2),
                                                density, k)  # fmt: skip
    hole = density * (2.0 * np.pi * width**2) ** 1.5
    exact = 1.0 - hole * np.exp(-0.5 * (k * width) ** 2)
    assert np.abs(found - exact).max() < 0.013 * hole  # what the window takes away


def test_a_closed_box_of_an_ideal_gas_has_no_finite_size_effect_left():
    edges = np.linspace(0.0, 1.5, 151)
    k = np.linspace(3.0, 20.0, 9)
    n, volume = 50, 27.0
    found = structure.structure_factor_from_rdf(edges, np.ones(150), n / volume, k, (n, volume))
    np.testing.assert_allclose(found, 1.0, atol=1e-4)


def test_the_finite_size_correction_gives_pairs_of_sites_their_structure_factor():
    """Independent pairs, 2s^2 apart in the mean square of each axis: S = 1 + exp(-(ks)^2)."""
    n, volume, s = 20, 8.0, 0.1
    edges, k = np.linspace(0.0, 0.99, 991), np.linspace(4.0, 12.0, 9)
    r = 0.5 * (edges[1:] + edges[:-1])
    partner = np.exp(-(r**2) / (4.0 * s * s)) / (4.0 * np.pi * s * s) ** 1.5
    g, exact = (n - 2 + volume * partner) / (n - 1), 1.0 + np.exp(-((s * k) ** 2))
    arguments = edges, g, n / volume, k
    corrected = structure.structure_factor_from_rdf(*arguments, (n, volume))
    assert np.abs(corrected - exact).max() < 0.03
    assert np.abs(structure.structure_factor_from_rdf(*arguments) - exact).max() > 0.06


def test_both_ways_to_the_structure_factor_agree_for_correlated_sites():
    rng = np.random.default_rng(5)
    centres, boxes = gas(200, 100, seed=4)
    pairs = np.repeat(centres, 2, axis=1) + 0.15 * rng.normal(size=(200, 200, 3))
    edges = rdf_edges(1.45)
    g = rdf(pairs, boxes, np.zeros(200, int), [(0, 0)], edges, 1)[0, 0]
    vectors = structure.wave_vectors(boxes[0], 20.0)
    direct = structure.structure_factors(pairs, boxes, np.zeros(200, int), 1, vectors)[:, 0]
    shown = vectors.k > np.pi / 1.45
    k = vectors.k[shown]
    found = structure.structure_factor_from_rdf(edges, g, 200 / 27.0, k, (200, 27.0))
    exact = 1.0 + np.exp(-((0.15 * k) ** 2))
    error = direct.std(axis=0, ddof=1)[shown] / np.sqrt(len(direct))
    assert np.abs((direct.mean(axis=0)[shown] - exact) / error).max() < 7.0
    assert np.abs(found - exact)[k > 4.0].max() < 0.06  # below, the window smooths


def test_angles_and_coordination_are_those_of_a_plain_count():
    rng = np.random.default_rng(2)
    box, types = np.array([1.5, 1.7, 1.6]), np.array([0, 1] * 10)
    positions = rng.random((20, 3)) * box
    cuts = np.array([[0.6, 0.5], [0.5, 0.7]])
    found = structure.local_structure(positions[None], box[None], types, cuts, n_blocks=1)
    angles = np.zeros((2, 2, structure.ANGLE_BINS))
    coordination = np.zeros((2, 2, structure.MOST_NEIGHBORS + 1))
    for i in range(20):
        for b in (0, 1):
            steps = [naive.distance(positions[i], positions[j], box) for j in range(20)
                     if j != i and types[j] == b]  # fmt: skip
            near = [d / r for d, r in steps if r < cuts[types[i], b]]
            coordination[types[i], b, len(near)] += 1
            for p in range(len(near)):
                for q in range(p):
                    angle = np.arccos(near[p] @ near[q])
                    angles[types[i], b, int(angle / np.pi * structure.ANGLE_BINS)] += 1
    np.testing.assert_array_equal(found.angles[0], angles)
    np.testing.assert_array_equal(found.coordination[0], coordination)


def test_neighbours_of_an_ideal_gas_are_poisson_and_their_angles_have_no_preference():
    positions, boxes = gas(300, 200, seed=6)
    found = structure.local_structure(positions, boxes, np.zeros(200, int), [[0.5]])
    counts = found.coordination.sum(axis=0)[0, 0]
    mean = counts @ np.arange(len(counts)) / counts.sum()
    assert mean == pytest.approx(199 / 27.0 * 4 / 3 * np.pi * 0.125, rel=0.02)
    angles = found.angles.sum(axis=0)[0, 0]
    edges = np.linspace(0.0, np.pi, structure.ANGLE_BINS + 1)
    expected = angles.sum() * 0.5 * -np.diff(np.cos(edges))
    assert (((angles - expected) ** 2 / expected).mean()) < 2.5


R_EDGES = np.linspace(0.0, 1.2, 121)
R = 0.5 * (R_EDGES[1:] + R_EDGES[:-1])


def liquid(stretch=1.0, depth=2.0, r=R):
    """A g(r) of shells 0.3 nm apart, steeper before its peaks than behind them."""
    x = (r / stretch - 0.45) / 0.3
    wave = np.cos(2.0 * np.pi * (x - 0.05 * np.sin(2.0 * np.pi * x)))
    return np.where(x > -0.5, 1.0 + wave * np.exp(-depth * r / stretch), 0.0)


def exact_minimum(stretch=1.0, depth=2.0):
    r = np.linspace(0.5 * stretch, 0.75 * stretch, 200001)
    return r[liquid(stretch, depth, r).argmin()]


def noisy(g, rng, deviation=0.025):
    """Ten blocks, of which the mean has noise like that of a reference of some 1000 frames."""
    return g + deviation * rng.normal(size=(10, len(g)))


@pytest.mark.parametrize(("depth", "bias"), [(2.0, 1e-3), (3.5, 2e-3), (4.5, 2e-3)])
def test_the_first_minimum_is_found_between_bins_and_through_noise(depth, bias):
    rng, g, exact = np.random.default_rng(5), liquid(depth=depth), exact_minimum(depth=depth)
    assert structure.first_minimum(R_EDGES, g[None]) == pytest.approx(exact, abs=bias)
    drawn = [noisy(g, rng) for _ in range(60)]
    found = np.array([structure.first_minimum(R_EDGES, blocks) for blocks in drawn])
    lowest = np.array([R[45 + blocks.mean(axis=0)[45:80].argmin()] for blocks in drawn])
    assert abs(found.mean() - exact) < bias + 4.0 * found.std() / np.sqrt(60)
    assert found.std() < 0.004 and found.std() < 0.4 * lowest.std()
    # numbers of neighbours of two such states differ by less than two in a hundred
    count = (
        4.0
        * np.pi
        * found**2
        * np.interp(exact, R, g)
        / np.sum(4.0 * np.pi * R**2 * g * (exact > R) * 0.01)
    )
    assert np.sqrt(2.0) * np.mean(count) * found.std() < 0.02


def test_the_first_minimum_moves_with_g_and_not_from_bin_to_bin():
    stretches = 1.0 + 0.002 * np.arange(12)
    found = [structure.first_minimum(R_EDGES, liquid(x)[None]) for x in stretches]
    np.testing.assert_allclose(np.array(found) / stretches, found[0], rtol=1e-3)
    assert (np.diff(found) > 0.0).all()
    small = 1e-4 * np.random.default_rng(6).normal(size=len(R))
    once, twice = (
        structure.first_minimum(R_EDGES, (liquid() + k * small)[None]) - found[0] for k in (1, 2)
    )
    assert twice == pytest.approx(2.0 * once, rel=0.05)  # in proportion to a small noise
    assert abs(once) < 1e-4


def test_where_no_shell_ends_all_of_the_table_counts():
    step = np.where(R > 0.3, 1.0, 0.0)
    assert structure.first_minimum(R_EDGES, step[None]) == R_EDGES[-1]
    rng = np.random.default_rng(7)
    for _ in range(20):
        assert structure.first_minimum(R_EDGES, noisy(step, rng)) == R_EDGES[-1]
    assert structure.first_minimum(R_EDGES, 0.5 * step[None]) == R_EDGES[-1]
    falling = np.where(R > 0.3, 30.0 * np.exp(-R / 0.2), 0.0)  # of one molecule in empty space
    assert structure.first_minimum(R_EDGES, noisy(falling, rng, 1.0)) == R_EDGES[-1]


def gaussian_bins(n, mean, rng):
    """Blocks of histograms of n values."""
    edges = np.linspace(-4.0, 4.5, 35)
    values = rng.normal(mean, 1.0, (10, n // 10))
    return np.array([np.histogram(np.clip(row, -3.9, 4.4), edges)[0] for row in values], float)


def exact_contents(mean):
    from scipy.special import ndtr

    edges = np.linspace(-4.0, 4.5, 35)
    edges[0], edges[-1] = -np.inf, np.inf
    return np.diff(ndtr(edges - mean))


def test_divergences_of_two_known_gaussians_are_found_less_their_bias():
    rng, shift = np.random.default_rng(0), 0.25
    exact = {
        name: measure(exact_contents(0.0), exact_contents(shift))
        for name, measure in (("js", jensen_shannon), ("kl", divergence.kullback_leibler))
    }
    assert exact["kl"] == pytest.approx(0.5 * shift**2 / np.log(2.0), rel=0.02)
    found = {"js": [], "kl": []}
    for _ in range(60):
        p, q = gaussian_bins(1500, 0.0, rng), gaussian_bins(1000, shift, rng)
        numbers = divergence.compare_distributions(p, q, np.random.default_rng(1))
        for name, rows in found.items():
            rows.append([numbers[f"{name}_bits"], numbers[f"{name}_bits_bias"],
                         numbers[f"{name}_bits_se"]])  # fmt: skip
    for name, rows in found.items():
        value, excess, error = np.mean(rows, axis=0)
        spread = np.std(rows, axis=0, ddof=1)[0]
        # joining rare bins hides a few per cent; without the correction it is far off
        assert abs(value - exact[name]) < 4.0 * spread / np.sqrt(60) + 0.06 * exact[name]
        assert excess > 2.5 * spread / np.sqrt(60) and excess > 0.08 * exact[name]
        assert 0.6 < error / spread < 1.7


def test_the_bias_of_equal_distributions_is_that_of_the_closed_form():
    rng = np.random.default_rng(3)
    p = rng.multinomial(400, np.full(20, 0.05), size=200).astype(float)
    q = rng.multinomial(200, np.full(20, 0.05), size=200).astype(float)
    total = 1.0 / (400 * 200) + 1.0 / (200 * 200)
    js, kl = (
        divergence.bias(m, p, q) * np.log(2.0)
        for m in (jensen_shannon, divergence.kullback_leibler)
    )
    assert js == pytest.approx(19 * total / 8, rel=0.1)
    assert kl == pytest.approx(19 * total / 2, rel=0.1)


def test_equal_curves_differ_by_their_noise_floor_and_shifted_ones_by_the_shift():
    rng = np.random.default_rng(4)
    reference, model = rng.normal(size=(20, 400)), rng.normal(size=(10, 400))
    equal = divergence.compare_curves(reference, model, rng)
    assert equal["rmse"] == pytest.approx(equal["noise_floor_rmse"], rel=0.15)
    assert equal["noise_floor_rmse"] == pytest.approx(np.sqrt(1 / 20 + 1 / 10), rel=0.05)
    shifted = divergence.compare_curves(reference, model + 1.0, rng)
    assert shifted["excess_rmse"] == pytest.approx(1.0, abs=0.1)
    assert shifted["max"] > 1.5


def test_a_shuffled_reference_and_a_wrong_density_are_flagged():
    rng = np.random.default_rng(7)
    cubic, box = simple_cubic(5, 0.5)
    frames = cubic + 0.06 * rng.normal(size=(40, 125, 3))
    boxes = np.tile(box, (40, 1))
    vectors = structure.wave_vectors(box, 25.0)

    def blocks(positions, edges):
        types = np.zeros(positions.shape[1], int)
        found = structure.structure_factors(positions, edges, types, 1, vectors)[:, 0]
        near = structure.local_structure(positions, edges, types, [[0.6]])
        return found, near.angles[:, 0, 0], near.coordination[:, 0, 0]

    first, second = blocks(frames[::2], boxes[::2]), blocks(frames[1::2], boxes[1::2])
    shuffled = blocks(rng.random((20, 125, 3)) * box, boxes[::2])
    dilute = blocks(frames[1::2] * 1.02 ** (1 / 3), boxes[1::2] * 1.02 ** (1 / 3))
    for other, is_flagged in ((second, False), (shuffled, True)):
        curve = divergence.compare_curves(first[0], other[0], rng)
        assert (curve["rmse"] > 2.0 * curve["noise_floor_rmse"]) == is_flagged
        angles = divergence.compare_distributions(first[1], other[1], rng)
        assert (angles["js_bits"] > 5.0 * angles["js_bits_se"]) == is_flagged
    numbers = [divergence.compare_distributions(first[2], x[2], rng) for x in (second, dilute)]
    assert numbers[0]["js_bits"] < 4.0 * numbers[0]["js_bits_se"]
    assert numbers[1]["js_bits"] > numbers[0]["js_bits"]


def test_structure_factors_and_angles_respond_as_their_covariance_with_the_basis_sums():
    from remcg.basis import SplineBasis
    from remcg.model import PairTerm
    from remcg.pairs import pair_sums
    from remcg.uncertainty import response
    from remcg.units import beta

    positions, boxes = gas(200, 20, edge=1.6, seed=9)
    types, temperature = np.zeros(20, int), 300.0
    term = PairTerm(("A", "A"), SplineBasis(0.1, 0.7, 5), 1)
    phi = pair_sums(positions, boxes, types, ["A"], [term])
    vectors = structure.wave_vectors(boxes[0], 12.0)
    factors = structure.structure_factors(positions, boxes, types, 1, vectors, n_blocks=200)[:, 0]
    near = structure.local_structure(positions, boxes, types, [[0.6]], n_blocks=200)
    observed = np.concatenate([factors, near.angles[:, 0, 0, 10:50:8]], axis=1)
    found = response(observed[None], phi[None], temperature)

    def mean(theta):
        exponents = -beta(temperature) * (phi - phi.mean(axis=0)) @ theta
        weights = np.exp(exponents - exponents.max())
        return weights @ observed / weights.sum()

    for k in range(phi.shape[1]):
        step = 1e-3 * np.eye(phi.shape[1])[k]
        change = (mean(step) - mean(-step)) / 2e-3
        scale = np.abs(found[:, k]).max()
        np.testing.assert_allclose(change, found[:, k], rtol=1e-4, atol=1e-6 * scale)
