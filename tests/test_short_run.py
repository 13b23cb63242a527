"""Short atomistic runs with frames close in time: made, mapped, and asked for in a config."""

import mdtraj
import numpy as np
import pytest
import yaml

import tiny
from remcg import config
from remcg.config import ROOT
from remcg.consistency import dynamics, memory
from remcg.consistency.short_run import map_short_run, read_short_run
from remcg.errors import InputError
from remcg.io import write_h5
from remcg.reference import make_dynamics
from remcg.reference import openmm as reference_openmm
from remcg.trajectory import read_forces

PEPTIDE = ROOT / "resources" / "pentaalanine"
SHORT = {"dynamics": 0.12, "dynamics_interval": 0.001, "dynamics_runs": 2}


def a_campaign(folder, **changes):
    """Pentaalanine in one file each, as far as a config is read."""
    content = yaml.safe_load((ROOT / "config" / "pentaalanine.yaml").read_text())
    for name, section in changes.items():
        content[name] = {**content.get(name, {}), **section}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return config.load(folder / "config.yaml", check_files=False)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """What a peptide's two short runs write, their frames, and the frames they may start from."""
    folder = tmp_path_factory.mktemp("runs")
    campaign = a_campaign(folder, reference=SHORT)
    name = campaign.training[0].id
    write_h5(folder / "map.h5", {"box": np.full((4, 3), 6.0)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_openmm, "SETTLING", 0.002)
        for trajectory in ("run.trr", "again.trr"):
            make_dynamics(campaign, name, folder / "map.h5", folder / trajectory)
    topology = mdtraj.load_topology(str(PEPTIDE / "topology.pdb"))
    frames = mdtraj.load(str(folder / "run.trr"), top=topology)
    forces = np.concatenate(list(read_forces([folder / "run.trr"], topology, name)))
    given = mdtraj.load(campaign.training[0].trajectory, top=topology, frame=None)[:4]
    return folder, frames, forces, given


def test_forces_and_positions_of_short_runs_obey_newton_without_a_thermostat(two_runs):
    """m x'' = F for carbonyl carbons, which no constraint holds, in kJ/mol, nm, ps and amu."""
    _, frames, forces, _ = two_runs
    assert frames.n_frames == len(forces) == 240
    between = np.diff(frames.time)
    np.testing.assert_allclose(np.delete(between, 119), 0.001, atol=1e-6)
    assert between[119] == pytest.approx(0.003, abs=1e-6)  # where the second run begins
    chosen = frames.topology.select("name C and not resname NME")
    for own in (slice(0, 120), slice(120, 240)):
        x = frames.xyz[own, chosen].astype(float)
        found = 12.011 * np.diff(x, 2, axis=0) / 0.001**2
        expected = forces[own][1:-1, chosen]
        # a friction of 1/ps would add sqrt(2 m kT/(1 ps 1 fs)) = 260 kJ/mol/nm
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.01 * expected.std()


def test_short_runs_start_from_frames_spread_over_the_reference_with_velocities_of_their_own(
    two_runs,
):
    _, frames, _, given = two_runs
    for own, start in ((0, 1), (120, 3)):  # the middles of two halves of four frames
        rmsd = mdtraj.rmsd(given, frames[own])  # a copy: it is moved to its centre
        assert rmsd.argmin() == start and rmsd[start] < 0.01
    steps = [np.diff(frames.xyz[k : k + 2], axis=0).ravel() for k in (0, 120)]
    assert abs(np.corrcoef(*steps)[0, 1]) < 0.4


def test_short_runs_are_the_same_bytes_each_time(two_runs):
    folder, *_ = two_runs
    assert (folder / "run.trr").read_bytes() == (folder / "again.trr").read_bytes()


def test_more_short_runs_than_frames_are_refused(tmp_path):
    campaign = a_campaign(tmp_path, reference=SHORT | {"dynamics_runs": 7})
    write_h5(tmp_path / "map.h5", {"box": np.full((3, 3), 6.0)})
    with pytest.raises(InputError, match=r"dynamics_runs: 7 runs .* has 3; give at most 3"):
        make_dynamics(campaign, campaign.training[0].id, tmp_path / "map.h5", tmp_path / "no.trr")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("short")
    path = tiny.write_campaign(folder, n_frames=4, short_runs=["cold"])
    campaign = config.load(path)
    map_short_run(campaign, "cold", campaign.state("cold").dynamics, folder / "cold.h5")
    return folder, campaign, read_short_run(folder / "cold.h5")


def test_a_mapped_short_run_has_the_temperature_and_the_times_of_its_frames(run):
    _, _, arrays = run
    assert arrays["centres"].shape == (1500, tiny.N_SITES, 3) and "forces" not in arrays
    expected = (10.0 * np.arange(5)[:, None] + 0.01 * np.arange(300)).ravel()
    np.testing.assert_allclose(arrays["time"], expected, atol=1e-5)
    parts, interval = dynamics.pieces(*(arrays[name] for name in ("centres", "box", "time")))
    assert [len(part) for part in parts] == [300] * 5 and interval == pytest.approx(0.01, rel=1e-4)
    masses = np.full(tiny.N_SITES, tiny.MASS)
    entry, _ = memory.kernel_of_trajectories(parts, interval, masses, 1.0)
    assert entry["kinetic_temperature_K"] == pytest.approx(280.0, rel=0.1)
    assert 10.0 < entry["kernel_zero_1_ps2"] < 1000.0


def of_oscillators(interval, n=40):
    """C(t) from positions of oscillators of all phases, with velocities -sin(10 t + phase)."""
    t, phases = interval * np.arange(n + 2), 2.0 * np.pi * np.arange(64) / 64
    x = np.cos(10.0 * t[:, None] + phases)[..., None] / 10.0 * np.ones(3)
    return dynamics.velocity_autocorrelation_from_positions(x, interval)


def test_positions_tell_velocities_to_fourth_order():
    t = 0.02 * np.arange(40)
    found = of_oscillators(0.02)
    np.testing.assert_allclose(found, 0.5 * np.cos(10.0 * t), atol=0.6 * 0.2**4 / 90.0)
    errors = abs(found[0] - 0.5), abs(of_oscillators(0.04)[0] - 0.5)
    assert np.log2(errors[1] / errors[0]) == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("phase", [0.0, 0.7, 1.4, 2.1])
def test_the_curvature_of_a_correlation_does_not_know_where_its_windows_end(phase):
    """One oscillator for 6.3 periods: its square differs from window to window by 1/400."""
    x = np.cos(20.0 * 0.005 * np.arange(400) + phase)[:, None, None] * np.ones(3)
    c = dynamics.velocity_autocorrelation_from_positions(x, 0.005)
    assert memory.memory_kernel(c[:50], 0.005)[0] == pytest.approx(400.0, rel=0.05)


def test_rounded_coordinates_are_refused(run):
    folder, campaign, _ = run
    short = mdtraj.load(str(folder / "cold_short.trr"), top=str(folder / "topology.pdb"))
    short.save_xtc(str(folder / "rounded.xtc"))
    with pytest.raises(
        InputError, match=r"cold: dynamics: .*rounded\.xtc are rounded to 0\.001 nm"
    ):
        map_short_run(campaign, "cold", [folder / "rounded.xtc"], folder / "no.h5")
    assert not (folder / "no.h5").exists()


def test_a_short_run_that_nothing_can_make_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"reference\.dynamics: 4 ps .*system\.force_field"):
        a_campaign(tmp_path, reference={"dynamics": 4.0}, system={"force_field": []})
    with pytest.raises(InputError, match=r"reference\.dynamics: .*hundred frames"):
        a_campaign(tmp_path, reference={"dynamics": 0.1})


def test_short_runs_shape_no_model(tmp_path):
    from remcg.provenance import input_hashes

    path = tiny.write_campaign(tmp_path, n_frames=2)
    before = input_hashes(config.load(path))
    content = yaml.safe_load(path.read_text())
    content["states"][0]["dynamics"] = "cold.xtc"
    path.write_text(yaml.safe_dump(content))
    assert input_hashes(config.load(path)) == before
    content["states"][0]["dynamics"] = "nowhere.trr"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"dynamics: the file nowhere\.trr is missing"):
        config.load(path)
