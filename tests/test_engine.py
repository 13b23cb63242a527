import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from conftest import lattice_start
from naive import forces as naive_forces
from remcg.boxes import vectors, volume
from remcg.engine import replica as replica_module
from remcg.engine.kernels import (
    FORCES,
    OBSERVED,
    all_forces,
    basis_sums,
    build_sites,
    build_system,
    no_sums,
)
from remcg.engine.neighbors import build_list, is_valid
from remcg.engine.replica import Replica, Start, random_stream
from remcg.engine.threads import threaded_forces
from remcg.errors import InputError, SamplingError
from remcg.io import read_h5
from remcg.model import Model, VolumeTerm
from remcg.pairs import pair_sums, rdf, rdf_edges
from remcg.sample import sample
from remcg.topology import Topology
from remcg.units import BAR, KB

RUN = {"n_steps": 2000, "n_equilibration": 500, "timestep": 0.004, "sample_interval": 10}


def arrays(model, start, skin=0.1, positions=None, box=None):
    """(positions (n, 4), box, neighbour list, sites, system) as the kernels take them."""
    system, sites = build_system(model, 300.0), build_sites(model, start.topology)
    box = vectors(start.box if box is None else box)
    x = np.zeros((start.topology.n_sites, 4))
    positions = start.positions if positions is None else positions
    x[:, :3] = start.topology.make_whole(positions, box)
    reach = np.where(system.reach > 0.0, system.reach + skin, 0.0)
    return x, box, build_list(x, box, sites, system.channel_of, reach), sites, system


def evaluate(model, start, positions=None, box=None, skin=0.1):
    """Energy, virial tensor, forces and basis sums, with a fresh neighbour list."""
    x, box, neighbors, sites, system = arrays(model, start, skin, positions, box)
    forces, observed, sums = np.empty_like(x), no_sums(system, 0, 0.0), np.zeros(system.n_columns)
    energy = all_forces(x, box, neighbors, sites, system, OBSERVED, observed, forces)
    basis_sums(observed, system, sums)
    return energy, observed.virial[:, :3], forces[:, :3], sums


def ideal_gas(psi=0.0, n_sites=100):
    """A model without pair terms, and a start at the mean volume of 1 bar and 300 K."""
    model = Model(("W",), (VolumeTerm(1, 1),), 300.0, 1.0, (np.array([[psi]]),))
    volume = (n_sites + 1) * KB * 300.0 / BAR
    random = np.random.default_rng(0)
    edge = volume ** (1.0 / 3.0)
    topology = Topology(np.zeros(n_sites), np.full(n_sites, 18.0))
    positions = random.uniform(0.0, edge, (n_sites, 3))
    return model, Start(positions, np.full(3, edge), None, topology)


def test_the_force_is_minus_the_gradient_of_the_energy(mixture_model, mixture_start):
    forces = evaluate(mixture_model, mixture_start)[2]
    h = 1e-5
    for i, d in [(0, 0), (5, 1), (33, 2), (63, 0)]:
        energies = []
        for sign in (1, -1):
            moved = mixture_start.positions.copy()
            moved[i, d] += sign * h
            energies.append(evaluate(mixture_model, mixture_start, moved)[0])
        assert forces[i, d] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), rel=1e-6)


def test_energy_forces_and_virial_are_those_of_a_plain_loop(mixture_model, mixture_start):
    energy, virial, forces, _ = evaluate(mixture_model, mixture_start)
    expected = naive_forces(
        mixture_start.positions,
        mixture_start.box,
        mixture_start.topology.site_types,
        mixture_model.site_types,
        mixture_model.pair_terms,
        mixture_model.term_theta(300.0),
    )
    assert energy == pytest.approx(expected[0], rel=1e-12)
    assert np.trace(virial) == pytest.approx(expected[2], rel=1e-12)
    np.testing.assert_allclose(forces, expected[1], atol=1e-10)


def test_the_virial_is_the_derivative_of_the_energy_with_volume(soft_model, soft_start):
    virial = np.trace(evaluate(soft_model, soft_start)[1])
    volume, h = soft_start.volume, 1e-5
    energies = []
    for sign in (1, -1):
        scaled = soft_start.with_volume(volume * (1 + sign * h))
        energies.append(evaluate(soft_model, scaled)[0])
    slope = (energies[0] - energies[1]) / (2 * h * volume)
    assert virial / (3 * volume) == pytest.approx(-slope, rel=1e-7)


def test_basis_sums_are_the_derivative_of_the_energy_with_its_parameters(soft_model, soft_start):
    sums = pair_sums(
        soft_start.positions[None],
        soft_start.box[None],
        soft_start.topology.site_types,
        ("W",),
        soft_model.pair_terms,
    )[0]
    for k in (1, 4, 9):
        energies = []
        for h in (0.5, -0.5):
            parameters = soft_model.parameters
            parameters[k] += h
            energies.append(evaluate(soft_model.with_parameters(parameters), soft_start)[0])
        assert energies[0] - energies[1] == pytest.approx(sums[k], rel=1e-9)


def test_images_far_outside_and_on_the_boundary_change_nothing(soft_model, soft_start):
    positions = soft_start.positions.copy()
    positions[0] = 0.0
    energy, virial, forces, _ = evaluate(soft_model, soft_start, positions)
    images = np.random.default_rng(0).integers(-50, 50, positions.shape)
    images[0] = [1, 0, -1]
    moved = evaluate(soft_model, soft_start, positions + images * soft_start.box)
    assert moved[0] == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(moved[1], virial, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(moved[2], forces, atol=1e-8)


def test_two_sites_below_the_smallest_distance_feel_a_constant_force(soft_model):
    box, topology = np.full(3, 1.3), Topology(np.zeros(2), np.ones(2))
    found = []
    for r in (0.19, 0.1, 0.01):
        positions = np.array([[1.25, 0.5, 0.5], [1.25 + r, 0.5, 0.5]])
        start = Start(positions, box, None, topology)
        found.append(evaluate(soft_model, start)[2][1, 0])
    np.testing.assert_allclose(found, found[0], rtol=1e-9)


def test_a_list_is_valid_only_while_it_holds_every_close_pair(soft_model, soft_start):
    random, skin, r_cut = np.random.default_rng(4), 0.1, 0.6
    _, _, neighbors, sites, system = arrays(soft_model, soft_start, skin)
    n_valid = 0
    for amount in np.linspace(0.0, 0.04, 30):
        scale = 1.0 + random.uniform(-0.02, 0.02, 3)
        moved = soft_start.positions + random.uniform(-amount, amount, (125, 3))
        x, box = np.zeros((125, 4)), vectors(soft_start.box * scale)
        x[:, :3] = moved * scale
        if is_valid(neighbors, x, box, skin, r_cut):
            n_valid += 1
            forces, observed = np.empty_like(x), no_sums(system, 0, 0.0)
            energy = all_forces(x, box, neighbors, sites, system, FORCES, observed, forces)
            exact = evaluate(soft_model, soft_start, x[:, :3], box, skin=0.0)[0]
            assert energy == pytest.approx(exact, rel=1e-11)
    assert 5 < n_valid < 30
    x, box = np.zeros((125, 4)), vectors(soft_start.box)
    x[:, :3] = soft_start.positions
    x[7, :3] += 0.06
    assert not is_valid(neighbors, x, box, skin, r_cut)
    assert not is_valid(neighbors, 0.8 * x, 0.8 * box, skin, r_cut)


def test_sampled_sums_energies_pressures_and_rdf_are_those_of_the_configurations(
    mixture_model, mixture_start
):
    edges = rdf_edges(0.6)
    model, start = mixture_model, mixture_start
    result = sample(model, start, 300.0, None, rdf_edges=edges, keep=20, **RUN | {"n_steps": 200})
    frames, boxes = result["trajectory"], result["trajectory_box"]
    types, names = start.topology.site_types, model.site_types
    sums = pair_sums(frames, boxes, types, names, model.pair_terms)
    np.testing.assert_allclose(result["site_sums"], sums, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result["energy"], sums @ model.theta(300.0), rtol=1e-9)
    g = rdf(frames, boxes, types, [(0, 0), (0, 1), (1, 1)], edges, 10)
    np.testing.assert_allclose(result["rdf_blocks"], g, rtol=1e-9, atol=1e-12)
    virial = np.array([evaluate(model, start, x, box)[1] for x, box in zip(frames, boxes)])
    pressure = (len(types) * KB * 300.0 * np.eye(3) + virial) / volume(boxes)[:, None, None]
    np.testing.assert_allclose(result["pressure_tensor"], pressure, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(result["pressure"], np.trace(pressure, axis1=1, axis2=2) / 3)


def test_without_friction_the_energy_does_not_drift(soft_model, soft_start):
    settings = RUN | {"n_steps": 10000, "timestep": 0.001, "friction": 0.0}
    result = sample(soft_model, soft_start, 300.0, None, **settings)
    total = result["energy"] + 1.5 * 125 * KB * result["temperature"]
    time = np.arange(len(total)) * 0.01
    drift = np.polyfit(time, total, 1)[0] / (125 * KB * 300.0)
    assert abs(drift) < 1e-5


def test_kinetic_and_configurational_temperature_are_the_set_one(soft_model, soft_start):
    settings = RUN | {"n_steps": 20000, "friction": 5.0}
    result = sample(soft_model, soft_start, 320.0, None, keep=200, **settings)
    blocks = result["temperature"].reshape(20, -1).mean(axis=1)
    assert abs(blocks.mean() - 320.0) < 4 * blocks.std(ddof=1) / np.sqrt(20) + 0.002 * 320.0
    force2, laplacian = np.transpose(
        [_force_and_laplacian(soft_model, x, soft_start.box) for x in result["trajectory"]]
    )
    ratio = force2 / (KB * laplacian.mean())
    blocks = ratio.reshape(20, -1).mean(axis=1)
    assert abs(blocks.mean() - 320.0) < 4 * blocks.std(ddof=1) / np.sqrt(20) + 0.002 * 320.0


def _force_and_laplacian(model, positions, box):
    """|grad U|^2 and the Laplacian of U: their ratio of means is kT."""
    basis, theta = model.pair_terms[0].basis, model.term_theta(300.0)[0]
    step = positions[:, None] - positions
    step -= box * np.round(step / box)
    r = np.sqrt((step**2).sum(axis=-1)) + 10.0 * np.eye(len(positions))
    slope = basis.values(r, 1) @ theta
    h = 1e-5
    curvature = (basis.values(r + h, 1) - basis.values(r - h, 1)) @ theta / (2 * h)
    force = -np.einsum("ij,ijd->id", slope / r, step)
    return (force**2).sum(), (curvature + 2 * slope / r).sum()


def test_volumes_of_an_ideal_gas_follow_their_gamma_distribution():
    model, start = ideal_gas()
    settings = RUN | {"n_steps": 80000, "barostat_interval": 1, "sample_interval": 40}
    volume = sample(model, start, 300.0, 1.0, seed_key=("gas", 1), **settings)["volume"]
    law = stats.gamma(101, scale=KB * 300.0 / BAR)
    assert law.mean() == pytest.approx(4183.0, rel=1e-3)
    z = (volume.mean() - law.mean()) / (law.std() / np.sqrt(len(volume) / 2))
    assert abs(z) < 4
    assert volume.std() / law.std() == pytest.approx(1.0, abs=4 * np.sqrt(1 / len(volume)))
    assert stats.kstest(volume[::4], law.cdf).pvalue > 1e-4


def test_a_linear_volume_term_is_an_external_pressure():
    model, start = ideal_gas(psi=0.5 * BAR)
    bare, _ = ideal_gas()
    settings = RUN | {"barostat_interval": 1}
    term = sample(model, start, 300.0, 1.0, **settings)
    pressure = sample(bare, start, 300.0, 1.5, **settings)
    np.testing.assert_allclose(term["volume"], pressure["volume"], rtol=1e-9)
    reduced = term["energy"] + 1.0 * BAR * term["volume"]
    np.testing.assert_allclose(reduced, 1.5 * BAR * pressure["volume"], rtol=1e-9)


def test_the_volume_term_does_not_touch_a_run_at_constant_volume(soft_model, soft_start):
    bare = Model(("W",), soft_model.terms[:1], 300.0, 0.05, soft_model.coefficients[:1])
    ours = sample(soft_model, soft_start, 300.0, None, **RUN)
    theirs = sample(bare, soft_start, 300.0, None, **RUN)
    assert np.array_equal(ours["positions"], theirs["positions"])
    assert np.array_equal(ours["pressure"], theirs["pressure"])
    assert np.all(ours["volume"] == ours["volume"][0])


def test_the_mean_pressure_in_npt_is_the_set_one(soft_model, soft_start):
    settings = RUN | {"n_steps": 60000, "friction": 5.0, "barostat_interval": 5}
    result = sample(soft_model, soft_start, 300.0, 500.0, seed_key=("npt", 1), **settings)
    added = soft_model.volume_pressure(result["volume"], 125, 300.0)
    blocks = (result["pressure"] + added).reshape(20, -1).mean(axis=1) / BAR
    error = blocks.std(ddof=1) / np.sqrt(20)
    assert abs(blocks.mean() - 500.0) < 4.5 * error
    assert error < 40.0
    assert result["volume"].std() > 0.0


def test_equal_keys_give_equal_runs_and_replicas_are_independent(soft_model, soft_start):
    runs = [sample(soft_model, soft_start, 300.0, None, seed_key=(1, "a", i), **RUN) for i in "001"]
    assert np.array_equal(runs[0]["positions"], runs[1]["positions"])
    noise = [random_stream((1, "a", "T", 0, i)).standard_normal(20000) for i in range(4)]
    correlations = np.corrcoef(noise)[np.triu_indices(4, 1)]
    assert np.all(np.abs(correlations) < 4.5 / np.sqrt(20000))
    assert abs(np.corrcoef(runs[0]["energy"], runs[2]["energy"])[0, 1]) < 0.9


@pytest.mark.parametrize("pressure", [None, 500.0])
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same(
    soft_model, soft_start, pressure, tmp_path, monkeypatch
):
    monkeypatch.setattr(replica_module, "CHUNK", 125 * 300)
    whole = sample(soft_model, soft_start, 300.0, pressure, keep=3, **RUN)
    path = tmp_path / ".state.replica-0.checkpoint.h5"
    stops = iter([False, False, False, True])

    class Once:
        def __bool__(self):
            return next(stops)

    from remcg.checkpoint import StopError

    again = {"keep": 3, "checkpoint_path": path, **RUN}
    with pytest.raises(StopError, match=r"stopped at step 1200"):
        sample(soft_model, soft_start, 300.0, pressure, stop=Once(), **again)
    resumed = sample(soft_model, soft_start, 300.0, pressure, **again)
    for name, array in whole.items():
        assert np.array_equal(array, resumed[name]), name


def test_a_blow_up_is_reported_with_who_when_and_where(soft_model, tmp_path):
    start = lattice_start(5, 0.05, mass=1e-4)
    path = tmp_path / ".T300.replica-1.checkpoint.h5"
    with pytest.raises(
        SamplingError, match=r"state T300, replica 1, step \d+: site \d+ \(W\), now .* nm from site"
    ) as error:
        sample(
            soft_model,
            start,
            300.0,
            label="state T300, replica 1",
            checkpoint_path=path,
            **RUN | {"timestep": 0.01},
        )
    failed = tmp_path / ".T300.replica-1.failed.h5"
    assert str(failed) in str(error.value) and not path.exists()
    arrays, _ = read_h5(failed)
    assert "samples.site_sums" in arrays and np.isfinite(arrays["samples.energy"]).all()


def test_a_start_with_forces_that_are_not_finite_is_a_blow_up(soft_model, soft_start):
    soft_start.positions[1] = soft_start.positions[0]
    with pytest.raises(SamplingError, match=r"step [12]: .* its force is not finite"):
        sample(soft_model, soft_start, 300.0, **RUN)


def test_a_box_that_shrinks_below_twice_the_range_is_reported(soft_model):
    start = lattice_start(4, 0.05)
    with pytest.raises(SamplingError, match=r"the box shrank to .* twice the range 0.600 nm"):
        sample(soft_model, start, 300.0, 50000.0, barostat_interval=2, **RUN)


def test_what_cannot_be_run_is_refused(soft_model, soft_start):
    with pytest.raises(InputError, match=r"height of the box of 1 nm is less than twice the range"):
        sample(soft_model, soft_start.with_volume(1.0), 300.0, **RUN)
    with pytest.raises(InputError, match=r"5 steps hold no sample at a sample_interval of 10"):
        sample(soft_model, soft_start, 300.0, **RUN | {"n_steps": 5})


def test_the_volume_step_stays_fixed_once_sampling_has_begun(soft_model, soft_start):
    run = Replica(
        soft_model,
        soft_start,
        300.0,
        500.0,
        n_steps=3000,
        n_equilibration=1000,
        timestep=0.004,
        barostat_interval=5,
        seed_key=("v",),
    )
    replica_length, replica_module.CHUNK = replica_module.CHUNK, 125 * 1000
    try:
        run.run_chunk()
        tuned = run.state.volume_step.copy()
        while not run.is_done:
            run.run_chunk()
    finally:
        replica_module.CHUNK = replica_length
    assert tuned != replica_module.FIRST_VOLUME_STEP
    assert np.array_equal(run.state.volume_step, tuned)


def test_threads_change_forces_and_sums_by_rounding_only(mixture_model, mixture_start):
    x, box, neighbors, sites, system = arrays(mixture_model, mixture_start)
    found = []
    for n_parts in (1, 2, 3, 7):
        forces, observed = np.zeros_like(x), no_sums(system, 30, 0.6)
        argument = x, box, neighbors, sites, system, OBSERVED, observed, forces
        energy = threaded_forces(*argument, n_parts) if n_parts > 1 else all_forces(*argument)
        sums = np.zeros(system.n_columns)
        basis_sums(observed, system, sums)
        found.append((energy, forces, sums, observed.virial, observed.counts.sum(axis=1)))
    for other in found[1:]:
        for ours, theirs in zip(found[0], other):
            np.testing.assert_allclose(theirs, ours, rtol=1e-11, atol=1e-10)


def test_a_run_with_threads_is_the_same_each_time(soft_model, soft_start):
    settings = RUN | {"n_steps": 200, "n_equilibration": 0, "threads": 2}
    runs = [sample(soft_model, soft_start, 300.0, 500.0, **settings) for _ in range(2)]
    for name, array in runs[0].items():
        assert np.array_equal(array, runs[1][name]), name
    with pytest.raises(InputError, match=r"9999 threads for a process that may start \d+"):
        sample(soft_model, soft_start, 300.0, **settings | {"threads": 9999})


def test_an_unknown_barostat_is_refused_by_name(soft_model, soft_start):
    with pytest.raises(InputError, match=r"no barostat 'box'; choose one of isotropic, semi-"):
        sample(soft_model, soft_start, 300.0, 1.0, barostat="box", **RUN)


def test_what_parallel_kernels_need_is_there_before_a_kernel_is_loaded():
    """Compiled by a process that had a parallel callee from the cache, a kernel does not ask."""
    code = (
        "from remcg.engine.threads import launch_at_most, use_threads; launch_at_most(1);"
        "use_threads(1); from numba.np.ufunc import parallel; print(parallel.threading_layer())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() in ("omp", "tbb", "workqueue"), done.stderr
