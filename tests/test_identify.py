"""Spectrum, penalties and choices of size on problems whose answer is known."""

import numpy as np
import pytest

from remcg import basis_size, entropy, identify, plot_learning
from remcg.basis import AngleBasis, BondBasis, SplineBasis
from remcg.errors import InputError
from remcg.model import AngleTerm, BondTerm, Model, PairTerm, VolumeTerm
from remcg.spectrum import amplitudes, spectrum
from remcg.units import KB, beta

UNIT = 1.0 / KB  # K: temperature of kT = 1 kJ/mol


def random_metric(rng, n):
    root = rng.normal(size=(3 * n, n)) * np.geomspace(1.0, 100.0, n)
    return root.T @ root / (3 * n)


def pair_model(n_orders=2, n_basis=10):
    terms = (PairTerm(("W", "W"), SplineBasis(0.25, 0.9, n_basis), n_orders), VolumeTerm(2, 1))
    blocks = (np.zeros((n_orders, n_basis)), np.zeros((1, 2)))
    return Model(("W",), terms, 300.0, 0.03, blocks)


def density_model(n_basis, potential):
    """exp(-U) on [0, 1] in splines: places, functions, density, and U's coefficients."""
    x = np.linspace(0.0, 1.0, 2001)
    values = BondBasis(0.0, 1.0, n_basis).values(x)
    theta = np.linalg.lstsq(values, potential(x), rcond=None)[0]
    p = np.exp(-values @ theta)
    return x, values, p / p.sum(), theta


def moments(values, p):
    mean = p @ values
    return mean, (values - mean).T @ ((values - mean) * p[:, None])


def test_two_correlated_features_have_the_eigenvalues_one_plus_and_minus_their_correlation():
    metric = np.array([[4.0, 0.6 * 2 * 30], [0.6 * 2 * 30, 900.0]])
    found = spectrum(metric, np.ones(2, bool))
    np.testing.assert_allclose(found.values, [1.6, 0.4])
    assert found.rank == 2 and found.condition == pytest.approx(4.0)
    np.testing.assert_allclose(
        found.directions @ metric @ found.directions.T, np.eye(2), atol=1e-12
    )


def test_the_spectrum_does_not_depend_on_the_units_of_the_parameters():
    rng = np.random.default_rng(1)
    metric, units = random_metric(rng, 6), np.geomspace(1e-4, 1e4, 6)
    free = np.array([True] * 5 + [False])
    a = spectrum(metric, free)
    b = spectrum(metric * np.outer(units, units), free)
    np.testing.assert_allclose(a.values, b.values, rtol=1e-9)
    np.testing.assert_allclose(np.abs(a.directions), np.abs(b.directions * units), atol=1e-9)
    assert (a.directions[:, 5] == 0.0).all()


def test_a_singular_metric_has_a_lower_rank_and_no_direction_along_its_null_space():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(40, 4)) @ np.array([[1, 0, 0, 0, 1], [0, 1, 0, 0, 1], *np.eye(5)[2:4]])
    found = spectrum(root.T @ root, np.ones(5, bool))
    assert found.rank == 4 and len(found.values) == 5
    null = np.array([1.0, 1.0, 0.0, 0.0, -1.0])
    inverse = found.directions.T @ found.directions
    np.testing.assert_allclose(inverse @ root.T @ root @ null, 0.0, atol=1e-8)


def test_functions_that_do_not_vary_are_left_out_and_counted():
    found = spectrum(np.diag([2.0, 0.0, 1e-24, 5.0]), np.array([True, True, True, True]))
    assert found.rank == 2 and found.n_constant == 2
    np.testing.assert_allclose(found.directions[:, 1:3], 0.0)
    nothing = spectrum(np.zeros((3, 3)), np.ones(3, bool))
    assert nothing.rank == 0 and nothing.directions.shape == (0, 3)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (np.diag([1.0, -2.0]), "variance -2 at parameter 1.*give one of samples"),
        ([[1.0, 2.0], [2.0, 1.0]], "eigenvalue -1 beside 3.*covariance of samples"),
        ([[1.0, np.nan], [np.nan, 1.0]], "2 entries that are not finite.*square matrix"),
        (np.ones((2, 3)), r"shape \(2, 3\).*square matrix"),
    ],
)
def test_what_is_no_covariance_is_refused(metric, message):
    with pytest.raises(InputError, match=message):
        spectrum(metric, np.ones(2, bool))


def test_a_unit_displacement_along_any_direction_costs_half_a_nat():
    _, values, p, _ = density_model(8, lambda x: 6.0 * (x - 0.4) ** 2)
    mean, metric = moments(values, p)
    found = spectrum(metric, np.ones(8, bool))
    for v in 0.05 * found.directions:
        free_energy = np.log(p @ np.exp(-values @ v))
        assert v @ mean + free_energy == pytest.approx(0.5 * 0.05**2, rel=0.05)


def test_errors_of_a_true_model_are_the_same_along_stiff_and_sloppy_directions():
    metric = random_metric(np.random.default_rng(3), 5)
    found = spectrum(metric, np.ones(5, bool))
    errors = amplitudes(found, metric, np.linalg.inv(metric) / 400)
    np.testing.assert_allclose(errors, 1 / 20)


def test_a_direction_is_drawn_as_the_change_of_each_potential():
    model = pair_model()
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(3, model.n_params))
    curves = identify.directions(model, 330.0, vectors, 50)
    for i, vector in enumerate(vectors):
        pair, volume = model.with_parameters(vector).term_theta(330.0)
        expected = model.terms[0].basis.values(curves["W-W"]["x"]) @ pair
        np.testing.assert_allclose(curves["W-W"]["dU"][i], expected, atol=1e-12)
        x = curves["volume"]["x"] - 1.0
        np.testing.assert_allclose(curves["volume"]["dU"][i], x * volume[0] + x**2 * volume[1])


def test_terms_of_one_name_are_told_apart():
    terms = (
        PairTerm(("A", "A"), SplineBasis(0.2, 0.6, 6), 1),
        BondTerm(("A", "A"), BondBasis(0.1, 0.2, 5), 1),
    )
    model = Model(("A",), terms, 300.0, 1.0, (np.zeros((1, 6)), np.zeros((1, 5))))
    assert list(identify.directions(model, 300.0, np.zeros(11))) == ["pair A-A", "bond A-A"]


def test_frozen_functions_are_named_with_the_range_where_they_live():
    model = pair_model()
    free = np.ones(model.n_params, bool)
    free[[0, 10, 3, 20]] = False  # function 0 in both orders, 3 in one, the volume's first
    found = identify.unsampled(model, free)
    assert [(f.term, f.function) for f in found] == [("W-W", 0), ("volume", 0)]
    x = np.linspace(0.25, 0.9, 4001)
    alive = x[model.terms[0].basis.values(x)[:, 0] > 0]
    assert found[0].low == pytest.approx(alive[0], abs=1e-3)
    assert found[0].high == pytest.approx(alive[-1], abs=1e-3)
    assert found[0].unit == "nm" and np.isnan(found[1].low)


def test_a_reference_shorter_than_the_parameters_is_reported():
    assert identify.shortage(300, 74) is None
    assert "60 decorrelated frames for 74 measured parameters" in identify.shortage(60, 74)


def test_a_straight_potential_has_no_roughness_and_a_parabola_the_known_one():
    basis = BondBasis(0.1, 0.3, 9)
    terms = (BondTerm(("A", "A"), basis, 2), VolumeTerm(1, 1))
    model = Model(("A",), terms, 300.0, 1.0, (np.zeros((2, 9)), np.ones((1, 1))))
    penalty = identify.curvature_penalty(model)
    x = np.linspace(0.1, 0.3, 100)
    line, parabola = (
        np.linalg.lstsq(basis.values(x), u, rcond=None)[0] for u in (2.0 - 3.0 * x, 50.0 * x**2)
    )
    zeros, volume = np.zeros(9), [5.0]
    straight = np.concatenate([line, line, volume])
    assert straight @ penalty @ straight == pytest.approx(0.0, abs=1e-9)
    expected = beta(300.0) ** 2 * 0.2**4 * 100.0**2
    for vector in ([parabola, zeros, volume], [zeros, parabola, volume]):
        vector = np.concatenate(vector)
        assert vector @ penalty @ vector == pytest.approx(expected, rel=1e-9)
    assert np.linalg.eigvalsh(penalty).min() > -1e-9 * penalty.max()


@pytest.mark.parametrize("n_basis", [12, 40])
def test_roughness_depends_neither_on_the_number_of_functions_nor_on_the_unit_of_length(n_basis):
    def roughness(term, shape):
        model = Model(("A",), (term,), 300.0, 1.0, (np.zeros((1, term.n_basis)),))
        x = np.linspace(term.basis.low, term.basis.high, 400)
        u = (x - term.basis.low) / (term.basis.high - term.basis.low)
        theta = np.linalg.lstsq(term.basis.values(x), shape(u), rcond=None)[0]
        return theta @ identify.curvature_penalty(model) @ theta

    def shape(u):
        return np.cos(np.pi * u)

    expected = beta(300.0) ** 2 * np.pi**4 / 2
    bond = BondTerm(("A", "A"), BondBasis(0.1, 0.3, n_basis), 1)
    angle = AngleTerm(("A", "A", "A"), AngleBasis(1.0, n_basis), 1)
    assert roughness(bond, shape) == pytest.approx(expected, rel=2e-2)
    assert roughness(angle, shape) == pytest.approx(expected, rel=2e-2)


def test_the_effective_number_of_parameters_falls_from_the_rank_to_the_unpenalised_ones():
    metric, penalty = np.diag([4.0, 9.0, 1.0, 0.0]), np.diag([4.0, 3.0, 0.0, 1.0])
    free = np.ones(4, bool)
    strengths = [0.0, 1e-3, 0.1, 1.0, 10.0, 1e9]
    found = [identify.effective_parameters(metric, penalty, free, s) for s in strengths]
    assert found[0] == pytest.approx(3.0) and found[-1] == pytest.approx(1.0)
    assert found[3] == pytest.approx(0.5 + 0.75 + 1.0)
    assert (np.diff(found) < 0).all()
    rng = np.random.default_rng(5)
    metric, root = random_metric(rng, 7), rng.normal(size=(4, 7))
    trace = np.trace(np.linalg.solve(metric + 0.3 * root.T @ root, metric))
    found = identify.effective_parameters(metric, root.T @ root, np.ones(7, bool), 0.3)
    assert found == pytest.approx(trace)


def test_a_penalty_that_rewards_roughness_is_refused():
    with pytest.raises(InputError, match=r"penalty has the eigenvalue -1.*never negative"):
        identify.effective_parameters(np.eye(2), np.diag([1.0, -1.0]), np.ones(2, bool))


def inverse(metric):
    """Without the constant, to which a density is blind."""
    return np.linalg.pinv(metric, 1e-11, hermitian=True)


class Smooth:
    """A smooth density fitted in 24 splines (rank 23) to n frames in ten blocks."""

    def __init__(self, n_frames):
        _, self.values, p, self.truth = density_model(24, lambda x: 2.0 * np.sin(3.0 * x))
        self.mean, self.metric = moments(self.values, p)
        self.root = np.sqrt(p)
        self.penalty = BondBasis(0.0, 1.0, 24).curvature()
        self.free, self.n_frames = np.ones(24, bool), n_frames

    def fit(self, rng, strengths=None):
        """Choice at the minimum of one sample, and the true divergence of each candidate."""
        root = self.values.T * self.root  # root @ root.T is the metric, apart from the mean
        noise = rng.normal(size=(10, len(self.root))) @ (root.T - self.root[:, None] * self.mean)
        at_truth = noise / np.sqrt(self.n_frames / 10)
        fitted = self.truth - inverse(self.metric) @ at_truth.mean(axis=0)
        blocks = at_truth + self.metric @ (fitted - self.truth)
        arguments = (self.metric, self.penalty, blocks, self.free, fitted, strengths)
        choice = identify.choose_strength(*arguments)
        divergences = [self.divergence(at_truth.mean(axis=0), s) for s in choice.strengths]
        return choice, np.array(divergences)

    def divergence(self, gradient, strength):
        penalty = strength * self.penalty
        step = -inverse(self.metric + penalty) @ (gradient + penalty @ self.truth)
        return 0.5 * step @ self.metric @ step


def test_a_smooth_truth_is_found_better_with_the_chosen_penalty_than_without():
    rng, problem = np.random.default_rng(6), Smooth(300)
    chosen, without, best = [], [], []
    for _ in range(40):
        choice, divergences = problem.fit(rng)
        at = np.flatnonzero(choice.strengths == choice.strength)[0]
        chosen.append(divergences[at]), without.append(divergences[0])
        best.append(divergences.min())
        assert choice.scores[0] == 0.0 and choice.scores[at] <= 0.0
        assert (np.diff(choice.n_effective) < 0).all()
        assert 1.0 <= choice.n_effective[-1] < 1.1 and choice.n_effective[0] == pytest.approx(23)
    assert np.mean(without) == pytest.approx(23 / 600, rel=0.3)
    assert np.mean(chosen) < 0.5 * np.mean(without)
    assert np.mean(chosen) < 3.0 * np.mean(best)


def test_the_chosen_penalty_vanishes_against_plenty_of_data():
    strengths = []
    for n_frames in (200, 20_000, 2_000_000):
        rng, problem = np.random.default_rng(7), Smooth(n_frames)
        # n gamma is the strength against the likelihood of all frames; gamma that of one
        strengths.append(np.median([problem.fit(rng)[0].strength for _ in range(20)]))
    assert strengths[0] > strengths[1] > strengths[2]
    assert strengths[2] < 1e-2 * strengths[0]


def test_held_out_scores_are_unbiased_for_a_fit_to_the_other_folds():
    problem, rng = Smooth(200), np.random.default_rng(8)
    strengths = [1e-6, 1e-4, 1e-2]
    scores = np.array([problem.fit(rng, strengths)[0].scores for _ in range(400)])
    expected = []
    for strength in [0.0, *strengths]:  # bias and noise of nine tenths of the frames, exactly
        slope = inverse(problem.metric + strength * problem.penalty)
        pull = slope @ (strength * problem.penalty @ problem.truth)
        noise = np.trace(slope @ problem.metric @ slope @ problem.metric) / (0.9 * 200)
        expected.append(0.5 * (pull @ problem.metric @ pull + noise))
    difference = scores.mean(axis=0) - (np.array(expected) - expected[0])
    error = scores.std(axis=0) / np.sqrt(len(scores))
    assert (np.abs(difference[1:]) < 4.0 * error[1:]).all()
    assert (error[1:] < 0.1 * np.abs(expected[0])).all()


def test_the_gradient_is_the_mean_of_those_of_its_blocks():
    rng = np.random.default_rng(9)
    factors = [entropy.StateFactors(0.5, b, rng.normal(size=(3, 4))) for b in (0.4, 0.5)]
    reference = [rng.normal(size=(1, 60, 3)), rng.normal(size=(1, 40, 3))]
    model = [rng.normal(size=3), rng.normal(size=3)]
    blocks = identify.gradients_of_blocks(factors, reference, model, 5)
    whole = entropy.gradient(factors, [phi.mean(axis=(0, 1)) for phi in reference], model)
    np.testing.assert_allclose(blocks.mean(axis=0), whole)
    for n_blocks in (1, 41):
        with pytest.raises(InputError, match=f"{n_blocks} blocks.*shortest reference has 40"):
            identify.gradients_of_blocks(factors, reference, model, n_blocks)


def test_one_block_or_a_negative_strength_is_refused():
    ones = np.ones(2, bool)
    with pytest.raises(InputError, match="one block of reference frames cannot be held out"):
        identify.choose_strength(np.eye(2), np.eye(2), np.ones((1, 2)), ones, np.ones(2))
    with pytest.raises(InputError, match=r"strengths .*-1.* above zero"):
        identify.choose_strength(np.eye(2), np.eye(2), np.ones((3, 2)), ones, np.ones(2), [-1.0])


class Pairs:
    """Frames of independent pairs at distances of density r^2 exp(-U(r)/kT), U = 0 beyond 0.9."""

    finest = SplineBasis(0.25, 0.9, 60)
    r = np.linspace(0.25, 1.4, 4601)
    edges = np.arange(0.25, 1.4001, 0.0025)

    def __init__(self, wiggles, n_frames=400, n_pairs=800):
        taper = np.clip((0.9 - self.r) / 0.3, 0.0, 1.0) ** 2
        core = 4.0 * ((0.3 / self.r) ** 12 - (0.3 / self.r) ** 6)
        waves = wiggles * np.cos(2.0 * np.pi * self.r / 0.14) * np.exp(-self.r / 0.4)
        self.potential = np.minimum((core + waves) * taper, 8.0)
        self.density = self.r**2 * np.exp(-self.potential)
        self.density /= self.density.sum()
        self.n_frames, self.n_pairs = n_frames, n_pairs

    def reference(self, rng):
        values, cumulative = self.finest.values(self.r), np.cumsum(self.density)
        draws = rng.uniform(size=(self.n_frames, self.n_pairs))
        places = np.minimum(np.searchsorted(cumulative, draws), len(self.r) - 1)
        phi = np.array([values[frame].sum(axis=0) for frame in places])
        counts = np.array(
            [np.histogram(self.r[b], self.edges)[0] for b in np.array_split(places, 10)]
        )
        shell, far = np.diff(self.edges**3), self.edges[:-1] >= 0.9
        density = counts[:, far].sum(axis=1) / shell[far].sum()
        rdf = counts / shell / density[:, None]
        inverted = basis_size.inverted(self.finest, self.edges, rdf, shell * density.mean(), UNIT)
        covariance = np.cov(phi.T)
        return basis_size.ReferenceState(1.0, UNIT, covariance, covariance / len(phi), *inverted)

    def model(self):
        term = PairTerm(("A", "A"), self.finest, 1)
        return Model(("A",), (term,), UNIT, 1.0, (np.zeros((1, 60)),))

    def divergence(self, n_basis):
        """Expected divergence of a fit in n_basis functions: exact bias, and n/(2 n_frames)."""
        values = SplineBasis(0.25, 0.9, n_basis).values(self.r)
        root = np.sqrt(self.density)
        theta = np.linalg.lstsq(values * root[:, None], self.potential * root, rcond=1e-9)[0]
        target = self.density @ values
        for _ in range(30):
            p = self.r**2 * np.exp(-values @ theta)
            p /= p.sum()
            mean, metric = moments(values, p)
            theta = theta + np.linalg.lstsq(metric, mean - target, rcond=1e-10)[0]
        bias = self.n_pairs * np.sum(self.density * np.log(self.density / p))
        return bias + n_basis / (2 * self.n_frames)


def test_an_inverted_potential_lies_within_its_error_of_the_true_one():
    pairs = Pairs(0.5)
    state = pairs.reference(np.random.default_rng(10))
    r = np.linspace(0.3, 0.7, 41)  # sampled, and not faded out
    values = pairs.finest.values(r)
    difference = values @ state.potential - np.interp(r, pairs.r, pairs.potential)
    error = np.sqrt(np.einsum("ik,kl,il->i", values, state.potential_noise, values))
    assert np.sqrt(np.mean((difference / error) ** 2)) < 1.8
    assert error.max() < 0.1


@pytest.mark.parametrize(("wiggles", "least", "most"), [(0.0, 7, 14), (0.8, 12, 26)])
def test_the_chosen_number_of_functions_has_nearly_the_least_expected_divergence(
    wiggles, least, most
):
    pairs, candidates = Pairs(wiggles), [6, 8, 10, 12, 15, 18, 22, 26, 30, 40, 50]
    expected = {n: pairs.divergence(n) for n in candidates}
    rng, cost = np.random.default_rng(11), []
    for _ in range(4):
        size = basis_size.choose_n_basis(pairs.model(), 0, candidates, [pairs.reference(rng)])
        cost.append(expected[size.n_basis])
        assert least <= size.n_basis <= most
        np.testing.assert_allclose(size.variance, size.candidates / (2 * pairs.n_frames), rtol=0.01)
    best = min(expected.values())
    assert np.mean(cost) < 1.4 * best
    assert max(cost) < 0.5 * expected[6] and max(cost) < 0.5 * expected[50]


def test_states_share_one_basis_and_a_volume_term_keeps_its_own():
    pairs, rng = Pairs(0.5), np.random.default_rng(12)
    term = PairTerm(("A", "A"), pairs.finest, 2)
    blocks = (np.zeros((2, 60)), np.zeros((1, 1)))
    model = Model(("A",), (term, VolumeTerm(1, 1)), UNIT, 1.0, blocks)
    states = []
    for temperature in (0.9 * UNIT, 1.1 * UNIT):
        single = pairs.reference(rng)
        covariance = np.pad(single.covariance, (0, 1))
        covariance[60, 60] = 1.0
        scale = temperature / UNIT  # the same density at another temperature
        states.append(
            basis_size.ReferenceState(
                0.5,
                temperature,
                covariance,
                covariance / pairs.n_frames,
                scale * np.append(single.potential, 0.0),
                scale**2 * np.pad(single.potential_noise, (0, 1)),
            )
        )
    size = basis_size.choose_n_basis(model, 0, [6, 12, 15, 18, 40], states)
    assert size.n_basis in (12, 15, 18)
    parameters = 2 * size.candidates + 1  # two states of n frames each
    np.testing.assert_allclose(size.variance, parameters / (4 * pairs.n_frames), rtol=0.02)


def test_candidates_with_more_parameters_than_decorrelated_frames_are_left_out():
    pairs = Pairs(0.5, n_frames=100)
    state = pairs.reference(np.random.default_rng(13))
    correlated = state._replace(mean_noise=5.0 * state.mean_noise)  # 20 independent frames
    size = basis_size.choose_n_basis(pairs.model(), 0, [8, 15, 30, 50], [correlated])
    assert list(size.candidates) == [8, 15]
    with pytest.raises(InputError, match=r"30 basis functions of A-A are more than.*decorrelated"):
        basis_size.choose_n_basis(pairs.model(), 0, [30, 50], [correlated])


def test_an_inversion_needs_narrow_bins_and_two_blocks():
    basis, wide = SplineBasis(0.25, 0.9, 60), np.arange(0.0, 1.0, 0.01)
    with pytest.raises(InputError, match=r"bins of 0.01 nm.*a third"):
        basis_size.inverted(basis, wide, np.ones((4, 99)), np.ones(99), 300.0)
    narrow = np.arange(0.0, 1.0, 0.002)
    with pytest.raises(InputError, match=r"1 blocks of RDFs.*need 2 blocks"):
        basis_size.inverted(basis, narrow, np.ones((1, 499)), np.ones(499), 300.0)


def test_every_figure_and_table_of_learning_is_written(tmp_path):
    rng, model = np.random.default_rng(14), pair_model(2, 6)
    free = np.ones(14, bool)
    free[[0, 6]] = False
    metric = random_metric(rng, 14)
    found = spectrum(metric, free)
    errors = amplitudes(found, metric, np.linalg.inv(metric) / 100)
    chosen = [0, 1, 2, -3, -2, -1]
    vectors = found.directions[chosen] * errors[chosen, None]
    curves = identify.directions(model, 300.0, vectors)
    steps = range(4)
    size = basis_size.BasisSize(8, np.array([6, 8]), np.array([0.3, -0.01]), np.array([0.1, 0.2]))
    noise = ([0.1, 0.1, 0.2, 0.2], [0.3, 0.2, 0.1, 0.0])
    keys = ("iteration", "stage", "nats_per_molecule", "se", "integrated", "overlap")
    course = [
        dict(zip(keys, row))
        for row in (
            (0, "global", 0.2, 0.01, 0.21, 0.5),
            (1, "global", 0.0, 0.0, 0.0, 1.0),
            (2, "local", 0.01, 0.001, 0.012, 0.4),
            (3, "local", 0.0, 0.0, 0.0, 1.0),
        )
    ]
    bands = {
        T: {
            name: {"kind": c["kind"], "x": c["x"], "U": c["dU"][0], "se": 0.1 + 0 * c["x"]}
            for name, c in curves.items()
        }
        for T in (280.0, 320.0)
    }
    plot = plot_learning
    plot.spectrum_figure(tmp_path / "spectrum.png", found, 1)
    numbers = [1, 2, 3, 10, 11, 12]
    plot.directions_figure(tmp_path / "directions.png", curves, numbers, errors[chosen])
    plot.bands_figure(tmp_path / "bands.png", bands)
    plot.entropy_figure(tmp_path / "entropy.png", course)
    plot.noise_figure(tmp_path / "noise.png", steps, *noise)
    plot.basis_figure(tmp_path / "basis.png", size)
    plot.write_spectrum_table(tmp_path / "spectrum.tsv", found, errors)
    plot.write_unsampled_table(tmp_path / "unsampled.tsv", identify.unsampled(model, free))
    plot.write_directions_table(tmp_path / "directions.tsv", curves, list("abcdef"))
    plot.write_bands_table(tmp_path / "bands.tsv", bands)
    plot.write_entropy_table(tmp_path / "entropy.tsv", course)
    plot.write_noise_table(tmp_path / "noise.tsv", steps, *noise)
    plot.write_basis_table(tmp_path / "basis.tsv", size)
    assert len(list(tmp_path.glob("*.png"))) == 6
    rows = {p.stem: p.read_text().splitlines() for p in tmp_path.glob("*.tsv")}
    assert {len({line.count("\t") for line in lines}) for lines in rows.values()} == {1}
    assert rows["unsampled"][1].split("\t") == ["W-W", "0", "0.25", "0.38", "nm"]
    assert len(rows["spectrum"]) == 1 + 12 and len(rows["bands"]) == 1 + 2 * 201
    assert rows["noise"][4].split("\t")[-1] == "1"
