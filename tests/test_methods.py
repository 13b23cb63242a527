"""The comparison methods: each against its textbook, and the relations between them."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pytest

import naive
import tiny
from remcg import entropy, forces, methods, optimize, target
from remcg.basis import SplineBasis
from remcg.engine.replica import Start
from remcg.errors import InputError
from remcg.guess import StateTarget, guess
from remcg.io import write_h5
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.pairs import pair_sums, rdf, rdf_edges
from remcg.sample import sample
from remcg.topology import Topology
from remcg.units import BAR, KB, beta
from remcg.validate import RdfPair

TEMPERATURE = 300.0
KT = KB * TEMPERATURE
PRESSURE = 50.0  # bar
TERM = PairTerm(("AR", "AR"), tiny.BASIS, 1)
EDGES, FINE = rdf_edges(0.6), rdf_edges(0.6, 0.002)
TYPES = np.zeros(tiny.N_SITES, np.int64)
VOLUME = tiny.N_SITES * tiny.V0


def truth():
    """The pair potential of the tiny campaign at one temperature; no volume term's pressure."""
    pair = tiny.true_model().coefficients[0][:1]
    return Model(("AR",), (TERM, VolumeTerm(1, 1)), TEMPERATURE, tiny.V0, (pair, np.zeros((1, 1))))


def run(model, seed, n_steps, keep=0):
    """One NVT run at the density of the truth."""
    positions, box = tiny.lattice(VOLUME)
    topology = Topology(np.zeros(tiny.N_SITES), np.full(tiny.N_SITES, tiny.MASS))
    return sample(
        model,
        Start(positions=positions, box=box, velocities=None, topology=topology),
        TEMPERATURE,
        None,
        n_steps=n_steps,
        n_equilibration=2000,
        timestep=0.004,
        sample_interval=20,
        rdf_edges=EDGES,
        seed_key=("methods", seed),
        keep=keep,
    )


@lru_cache
def reference():
    """Samples of the truth, with configurations and the forces of the truth on them."""
    result = run(truth(), 0, 20000, keep=100)
    topology = Topology(np.zeros(tiny.N_SITES), np.full(tiny.N_SITES, tiny.MASS))
    frames, boxes = result["trajectory"], result["trajectory_box"]
    true = [
        naive.pair_evaluation(x, b, topology, truth(), TEMPERATURE)[1]
        for x, b in zip(frames, boxes)
    ]
    return result, frames, boxes, np.array(true)


@lru_cache
def state_target():
    _, frames, boxes, _ = reference()
    g = rdf(frames, boxes, TYPES, [(0, 0)], FINE, 1)[0]
    return StateTarget(
        TEMPERATURE,
        PRESSURE * BAR,
        VOLUME,
        len(frames),
        tiny.N_SITES,
        {"AR": tiny.N_SITES},
        FINE,
        {"AR-AR": g[0]},
    )


def boltzmann():
    return guess(("AR",), truth().terms, TEMPERATURE, tiny.V0, [state_target()])


def state_data(model, reference_sums, result):
    """StateData and Rdfs of one run against reference samples."""
    volume = np.full((1, len(reference_sums)), VOLUME)
    data = optimize.StateData(
        name="s",
        temperature=TEMPERATURE,
        pressure=PRESSURE * BAR,
        weight=1.0,
        n_molecules=tiny.N_SITES,
        reference_phi=model.basis_sums(reference_sums, volume[0], tiny.N_SITES)[None],
        reference_volume=volume,
        phi=model.basis_sums(result["site_sums"], result["volume"], tiny.N_SITES)[None],
        volume=result["volume"][None],
        pressure_samples=result["pressure"][None],
        pressure_slopes=np.zeros(model.n_phi),
    )
    pair = RdfPair(EDGES, reference()[0]["rdf_blocks"][:, 0], result["rdf_blocks"][:, 0])
    rdfs = methods.Rdfs(
        {"AR-AR": pair},
        len(reference_sums),
        len(result["volume"]),
        VOLUME,
        {"AR": tiny.N_SITES},
    )
    return data, rdfs


@lru_cache
def course(method, n_iterations=5):
    """Models of a few iterations from the Boltzmann guess, and the diagnostics of each."""
    models, plans = [boltzmann()], []
    for k in range(n_iterations):
        data, rdfs = state_data(models[-1], reference()[0]["site_sums"], run(models[-1], k, 20000))
        following, _, plan = methods.update(method, models[-1], [data], [rdfs], 1.0)
        models.append(following)
        plans.append(plan)
    return models, plans


@lru_cache
def force_matched(noise=20.0, ridge=1e-6, n_frames=100):
    """Force matching on forces of the truth with noise as from atoms that are integrated out."""
    _, frames, boxes, true = reference()
    pushes = true[:n_frames] + np.random.default_rng(4).normal(0.0, noise, true[:n_frames].shape)
    frames, boxes = frames[:n_frames], boxes[:n_frames]
    normal, right, square = forces.normal_equations(frames, boxes, pushes, TYPES, ("AR",), [TERM])
    counts = pair_sums(frames, boxes, TYPES, ("AR",), [TERM]).sum(axis=0)
    sums = methods.ForceSums(
        TEMPERATURE,
        1.0,
        tiny.N_SITES,
        normal / n_frames,
        right / n_frames,
        square / n_frames,
        counts,
    )
    return methods.force_matched(boltzmann(), [state_target()], [sums], ridge), sums


def distance(model, other):
    """Root of the mean square of U - U', each bin by its number of pairs, where g > 0.1; kJ/mol."""
    r = 0.5 * (EDGES[1:] + EDGES[:-1])
    g = reference()[0]["rdf_blocks"][:, 0].mean(axis=0)
    weight = np.where(g > 0.1, g * r**2, 0.0)
    difference = TERM.basis.values(r) @ (model.coefficients[0][0] - other.coefficients[0][0])
    return np.sqrt(weight @ difference**2 / weight.sum())


# T21: p(x) ~ exp(-x^6) at kT = 1; Rudzinski and Noid, J. Chem. Phys. 135, 214101 (2011)
X = np.linspace(-6.0, 6.0, 200001)


def average(values, potential):
    density = np.exp(-potential)
    return values @ density / density.sum()


def fit_forces(power):
    """Force matching of c x^power, by the production's solution of its normal equations."""
    slope, force = power * X ** (power - 1), 6.0 * X**5
    normal, right = average(slope**2, X**6), average(slope * force, X**6)
    return methods.solve_ridge(np.array([[normal]]), np.array([right]), 0.0)[0]


def fit_entropy(power, c):
    """Relative entropy of c x^power, by Newton steps of inverse Monte Carlo."""
    factors = [entropy.StateFactors(1.0, 1.0, np.eye(1))]
    phi = np.abs(X) ** power
    for _ in range(12):
        mean, square = (average(phi**n, c * phi) for n in (1, 2))
        gradient = entropy.gradient(factors, [np.array([average(phi, X**6)])], [np.array([mean])])
        metric = entropy.fisher(factors, [np.array([[square - mean**2]])])
        c += methods.newton_step(gradient, metric, np.array([True]))[0]
    return c


def test_relative_entropy_and_force_matching_agree_in_a_harmonic_basis():
    assert 2.0 * fit_forces(2) == pytest.approx(3.1404575, abs=1e-6)
    assert 2.0 * fit_entropy(2, 1.2) == pytest.approx(3.1404575, abs=1e-6)


def test_relative_entropy_and_force_matching_differ_in_a_quartic_basis():
    assert fit_forces(4) == pytest.approx(1.4329122, abs=1e-6)
    assert fit_entropy(4, 1.0) == pytest.approx(1.2328092, abs=1e-6)


@dataclass
class State:
    """What the config says of a state."""

    temperature: float = TEMPERATURE
    weight: float = 1.0


@dataclass(frozen=True)
class HistogramTerm:
    """U(r) constant in each bin."""

    n_basis: int
    n_orders: int = 1
    kind = "histogram"
    name = "histogram"


def test_inverse_monte_carlo_on_a_histogram_solves_the_textbook_equations():
    edges = np.linspace(0.33, 0.6, 12)
    _, frames, boxes, _ = reference()
    counts = np.array(
        [
            np.histogram(naive.short_steps(x, b)[3], edges)[0].astype(float)
            for x, b in zip(frames, boxes)
        ]
    )
    wanted = counts[:50].mean(axis=0)
    # Lyubartsev and Laaksonen: <S_a> - S_a* = sum_c beta (<S_a S_c> - <S_a><S_c>) dU_c
    n, size = len(counts), len(edges) - 1
    matrix = np.zeros((size, size))
    for a in range(size):
        for c in range(size):
            together = sum(counts[f, a] * counts[f, c] for f in range(n)) / n
            apart = counts[:, a].mean() * counts[:, c].mean()
            matrix[a, c] = (together - apart) * n / (n - 1) / KT
    expected = np.linalg.solve(matrix, counts.mean(axis=0) - wanted)
    model = Model(("AR",), (HistogramTerm(size),), TEMPERATURE, 1.0, (np.zeros((1, size)),))
    data, _ = state_data(truth(), reference()[0]["site_sums"], reference()[0])
    data = replace(data, reference_phi=counts[None, :50], phi=counts[None])
    found = methods.inverse_monte_carlo(model, [data])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_iterative_inversion_is_the_newton_step_of_uncorrelated_pairs():
    """With counts that differ little, and the covariance that a Poisson process would have."""
    data, rdfs = state_data(truth(), reference()[0]["site_sums"], reference()[0])
    g = rdfs.pairs["AR-AR"].model.mean(axis=0, keepdims=True)
    wave = 1.0 + 1e-4 * np.sin(20.0 * rdfs.pairs["AR-AR"].centers)
    rdfs = replace(
        rdfs, pairs={"AR-AR": RdfPair(EDGES, g * wave, g)}, n_reference=10**9, n_model=10**9
    )
    r, wanted, counts = rdfs.counts(TERM)
    values = TERM.basis.values(r)
    metric = beta(TEMPERATURE) ** 2 * values.T @ (counts[:, None] * values)
    gradient = beta(TEMPERATURE) * values.T @ (wanted - counts)
    newton = methods.newton_step(gradient, metric, np.ones(TERM.n_basis, bool))
    step = methods.iterative_boltzmann(truth(), [data], [rdfs])[: TERM.n_basis]
    np.testing.assert_allclose(step, newton, atol=2e-3 * np.abs(newton).max())


def test_inversion_is_exact_for_two_sites_alone():
    rng, edge, n = np.random.default_rng(5), 3.0, 4_000_000
    steps = rng.uniform(-0.5 * edge, 0.5 * edge, (n, 3))
    r = np.sqrt((steps**2).sum(axis=1))
    energy = np.zeros(n)
    inside = r < 0.6
    energy[inside] = TERM.basis.values(r[inside]) @ truth().coefficients[0][0]
    accepted = rng.uniform(size=n) < np.exp(-np.maximum(energy, -2.0) / KT - 2.0 / KT)
    shells = 4.0 / 3.0 * np.pi * np.diff(FINE**3)
    g = np.histogram(r[accepted], FINE)[0] * edge**3 / (accepted.sum() * shells)
    alone = replace(
        state_target(),
        volume=edge**3,
        n_frames=int(accepted.sum()),
        n_molecules=2,
        type_counts={"AR": 2},
        rdf={"AR-AR": g},
        pressure=None,
    )
    found = guess(("AR",), truth().terms, TEMPERATURE, tiny.V0, [alone])
    assert distance(found, truth()) < 0.05 * KT


def test_inversion_is_not_exact_at_the_density_of_a_liquid():
    assert distance(boltzmann(), truth()) > 0.1 * KT


@pytest.mark.parametrize("method", ["ibi", "imc"])
def test_a_few_iterations_bring_the_rdf_of_the_inverted_potential_to_that_of_the_reference(method):
    errors = [plan["states"]["s"]["rdf_rmse"] for plan in course(method)[1]]
    noise = course(method)[1][-1]["states"]["s"]["rdf_noise"]
    assert errors[0] > 8.0 * noise
    assert errors[-1] < 4.0 * noise


def test_where_both_rdfs_agree_only_the_method_that_knows_correlations_has_the_pressure():
    """A direction of the potential hardly changes g(r), and iterative inversion hardly moves it."""
    (inverted, slow), (newton, fast) = course("ibi"), course("imc")
    assert distance(newton[-1], truth()) < 0.08 * KT < 0.12 * KT < distance(inverted[-1], truth())
    true_pressure = reference()[0]["pressure"].mean() / BAR
    errors = [
        plans[-1]["states"]["s"]["virial_pressure_bar"] - true_pressure for plans in (slow, fast)
    ]
    assert errors[0] < -500.0
    assert abs(errors[1]) < 400.0
    assert slow[-1]["verdict"] == "continue"
    assert slow[-1]["full_step_kl"] > 4.0 * slow[-1]["noise_kl"]


def test_noiseless_forces_of_a_pair_potential_give_back_that_potential():
    sums = replace(force_matched(noise=0.0)[1], counts=np.full(TERM.n_basis, 100.0))
    model, facts = methods.force_matched(boltzmann(), [state_target()], [sums], 0.0)
    np.testing.assert_allclose(model.coefficients[0], truth().coefficients[0], atol=1e-6)
    assert facts["force_residual"] < 1e-4 * facts["force_rms"]


def test_force_matching_and_relative_entropy_agree_for_a_pair_additive_truth():
    """Inverse Monte Carlo is Newton's method on the relative entropy."""
    (matched, facts), _ = force_matched()
    minimum = course("imc")[0][-1]
    assert distance(matched, truth()) < 0.06 * KT
    assert distance(matched, minimum) < 0.1 * KT
    assert facts["force_residual"] == pytest.approx(20.0, rel=0.02)


def test_functions_that_no_force_was_seen_of_are_left_out_and_continue_the_core():
    wide = PairTerm(("AR", "AR"), SplineBasis(0.15, 0.6, 14), 1)
    _, frames, boxes, true = reference()
    normal, right, square = forces.normal_equations(frames, boxes, true, TYPES, ("AR",), [wide])
    counts = pair_sums(frames, boxes, TYPES, ("AR",), [wide]).sum(axis=0)
    sums = methods.ForceSums(
        TEMPERATURE, 1.0, tiny.N_SITES, normal / 100, right / 100, square / 100, counts
    )
    start = Model(("AR",), (wide,), TEMPERATURE, tiny.V0, (np.zeros((1, 14)),))
    model, facts = methods.force_matched(start, [], [sums], 1e-6)
    assert facts["dropped"]["AR-AR"] > 1
    r = np.linspace(0.1, 0.33, 40)
    energy = wide.basis.values(r) @ model.coefficients[0][0]
    assert np.all(np.diff(energy) < 0.0) and np.all(np.isfinite(energy))
    r = np.linspace(0.36, 0.58, 40)
    found = wide.basis.values(r) @ model.coefficients[0][0]
    np.testing.assert_allclose(found, TERM.basis.values(r) @ truth().coefficients[0][0], atol=0.1)


def test_a_function_between_others_that_no_force_was_seen_of_is_zero():
    _, sums = force_matched()
    normal, counts = sums.normal.copy(), sums.counts.copy()
    normal[8], normal[:, 8], counts[8] = 0.0, 0.0, 0.0
    thin = replace(sums, normal=normal, counts=counts)
    model, facts = methods.force_matched(boltzmann(), [state_target()], [thin], 1e-6)
    assert model.coefficients[0][0][8] == 0.0
    assert facts["dropped"]["AR-AR"] >= 1
    assert np.isfinite(model.parameters).all()


def test_a_pair_that_never_met_is_refused_by_force_matching():
    _, sums = force_matched()
    empty = replace(sums, counts=np.zeros_like(sums.counts))
    with pytest.raises(
        InputError, match=r"the pair AR-AR was met too rarely within r_cut = 0.6 nm"
    ):
        methods.force_matched(boltzmann(), [state_target()], [empty], 1e-6)


def test_forces_at_two_temperatures_give_a_potential_linear_in_temperature():
    """Exact normal equations of two states: N arbitrary, f from theta(T) = A - tau B."""
    rng = np.random.default_rng(6)
    term = PairTerm(("AR", "AR"), tiny.BASIS, 2)
    model = Model(("AR",), (term,), 300.0, 1.0, (rng.normal(size=(2, 10)),))
    sums = []
    for temperature in (280.0, 330.0):
        rows = rng.normal(size=(200, 10))
        push = rows @ model.theta(temperature)
        square = float(push @ push)
        sums.append(
            methods.ForceSums(
                temperature, 0.5, 67, rows.T @ rows, rows.T @ push, square, np.full(10, 100.0)
            )
        )
    found, _ = methods.force_matched(model, [], sums, 0.0)
    np.testing.assert_allclose(found.parameters, model.parameters, rtol=1e-8)


def test_forces_in_a_mapped_trajectory_become_a_model_by_way_of_the_target_file(tmp_path):
    _, frames, boxes, true = reference()
    arrays = {
        "positions": frames,
        "box": boxes,
        "forces": true,
        "site_types": TYPES,
        "masses": np.full(tiny.N_SITES, tiny.MASS),
    }
    about = {"site_names": '["AR"]', "state": "s", "n_molecules": tiny.N_SITES}
    write_h5(tmp_path / "map.h5", arrays, about)
    write_h5(tmp_path / "target.h5", *target.compute(tmp_path / "map.h5", [TERM], forces=True))
    sums = methods.read_force_sums([tmp_path / "target.h5"], [State()])
    assert sums[0].square == pytest.approx(np.sum(true**2) / len(frames))
    model, facts = methods.force_matched(boltzmann(), [state_target()], sums, 1e-6)
    assert distance(model, truth()) < 0.04 * KT
    assert facts["force_residual"] < 0.1 * facts["force_rms"]


def test_a_large_ridge_shrinks_what_the_forces_say():
    free, damped = (force_matched(ridge=ridge)[0][0] for ridge in (1e-6, 1.0))
    assert np.abs(damped.coefficients[0][0][3:]).sum() < np.abs(free.coefficients[0][0][3:]).sum()


@pytest.mark.parametrize("method", ["boltzmann", "force_matching"])
def test_methods_without_iterations_only_take_the_pressure_from_their_samples(method):
    model = truth()
    data, rdfs = state_data(model, reference()[0]["site_sums"], reference()[0])
    following, _, plan = methods.update(method, model, [data], [rdfs])
    assert plan["verdict"] == "converged"
    np.testing.assert_array_equal(following.coefficients[0], model.coefficients[0])
    added = following.volume_pressure(VOLUME, tiny.N_SITES, TEMPERATURE)
    assert data.pressure_samples.mean() + added == pytest.approx(PRESSURE * BAR)


@pytest.mark.parametrize("method", ["ibi", "imc"])
def test_a_part_of_the_step_is_taken_where_it_is_asked_for(method):
    model = boltzmann()
    data, rdfs = state_data(model, reference()[0]["site_sums"], reference()[0])
    shifted = replace(data, reference_phi=0.99 * data.reference_phi)
    pair = rdfs.pairs["AR-AR"]
    rdfs = replace(rdfs, pairs={"AR-AR": replace(pair, reference=0.99 * pair.reference)})
    full, half = (
        methods.update(method, model, [shifted], [rdfs], scale)[0].coefficients[0]
        for scale in (1.0, 0.5)
    )
    start = model.coefficients[0]
    np.testing.assert_allclose(half - start, 0.5 * (full - start), atol=1e-9)
    assert np.abs(full - start).max() > 1e-3


def test_the_distance_of_a_true_model_from_the_minimum_is_its_noise():
    long = run(truth(), 12, 100000)["site_sums"]  # hardly any noise of its own
    data, rdfs = state_data(truth(), long, run(truth(), 11, 20000))
    plan = methods.update("imc", truth(), [data], [rdfs])[2]
    assert 0.0 < plan["full_step_kl"] < 10.0 * plan["noise_kl"]
    assert plan["states"]["s"]["rdf_rmse"] < 2.0 * plan["states"]["s"]["rdf_noise"]


@pytest.mark.parametrize("method", ["ibi", "imc"])
def test_a_model_with_the_mean_basis_sums_of_its_reference_is_converged(method):
    data, rdfs = state_data(truth(), reference()[0]["site_sums"], reference()[0])
    assert methods.update(method, truth(), [data], [rdfs])[2]["verdict"] == "converged"
    assert course(method)[1][0]["verdict"] == "continue"


def test_a_core_that_only_the_model_enters_becomes_more_repulsive():
    data, rdfs = state_data(truth(), reference()[0]["site_sums"], reference()[0])
    pair = rdfs.pairs["AR-AR"]
    g = pair.model.copy()
    first = int(np.argmax(g.mean(axis=0) > 0))
    g[:, first - 2 : first] = 0.05
    rdfs = replace(rdfs, pairs={"AR-AR": replace(pair, model=g)})
    step = methods.iterative_boltzmann(truth(), [data], [rdfs])
    r = 0.5 * (EDGES[first - 1] + EDGES[first - 2])
    assert np.isfinite(step).all()
    assert TERM.basis.values(np.array([r]))[0] @ step[:10] > KT


def write_rdfs(folder, n_bins, name):
    arrays = {
        "rdf_edges": rdf_edges(0.01 * n_bins),
        "rdf_blocks": np.ones((2, 1, n_bins) if name == "target" else (1, 2, 1, n_bins)),
        "volume": np.ones(4),
    }
    attributes = {"pair_names": '["A-A"]', "type_counts": '{"A": 5}', "n_molecules": 5}
    write_h5(folder / f"{name}.h5", arrays, attributes)
    return folder / f"{name}.h5"


def test_rdfs_on_other_bins_are_refused(tmp_path):
    files = write_rdfs(tmp_path, 60, "target"), write_rdfs(tmp_path, 90, "sample")
    with pytest.raises(InputError, match=r"60 bins up to 0\.6 nm and 90 up to 0\.9 nm"):
        methods.read_rdfs(*([file] for file in files))


def test_targets_without_sums_over_forces_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no sums over forces; make it again with rem.method"):
        methods.read_force_sums([write_rdfs(tmp_path, 60, "target")], [State()])


def test_only_what_was_iterated_has_a_covariance_and_a_verdict():
    model = truth().with_parameters(truth().parameters, covariance=np.eye(11), status="converged")
    assert methods.finish("ibi", model).extra == model.extra
    assert methods.finish("force_matching", model).extra == {"status": "direct"}
