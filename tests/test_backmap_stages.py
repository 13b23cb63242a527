"""Backmapping of a state of a campaign: prediction and mapped reference, compared and drawn."""

from dataclasses import replace
from types import SimpleNamespace

import mdtraj
import numpy as np
import pytest

import waters
from remcg import backmap, config, front_table, mapping, plot_backmap, report, viewer
from remcg.backmap import stages, validation
from remcg.errors import InputError
from remcg.io import read_h5, read_json, write_h5

N_SIDE, EDGE, N_FRAMES = 4, 1.25, 24


def simulated():
    """A short trajectory of 64 SPC/E waters, molecules torn at the faces of the box."""
    import openmm
    from openmm import app, unit

    topology = waters.topology(N_SIDE**3)
    grid = np.stack(np.meshgrid(*[np.arange(N_SIDE)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x = ((grid + 0.5) * EDGE / N_SIDE)[:, None] + waters.GEOMETRY
    atoms = topology.to_openmm()
    atoms.setPeriodicBoxVectors(np.eye(3) * EDGE * unit.nanometer)
    system = app.ForceField("spce.xml").createSystem(
        atoms, nonbondedMethod=app.PME, nonbondedCutoff=0.6, constraints=app.HBonds
    )
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 5.0, 0.002)
    integrator.setRandomNumberSeed(4)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1"})
    context.setPositions(x.reshape(-1, 3))
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 50)
    integrator.step(500)
    frames = []
    for _ in range(N_FRAMES):
        integrator.step(20)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    boxes, angles = np.full((N_FRAMES, 3), EDGE), np.full((N_FRAMES, 3), 90.0)
    time = np.arange(1.0, N_FRAMES + 1.0)
    return mdtraj.Trajectory(np.mod(frames, EDGE), topology, time, boxes, angles)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A campaign of one simulated state, mapped, with a prediction that is its own reference."""
    where = tmp_path_factory.mktemp("campaign")
    frames = simulated()
    system = {"topology": "topology.pdb", "mapping": "water.yaml", "force_field": ["spce.xml"]}
    settings = {"frames": 2, "validate": 6, "draws": 2, "sweeps": 20, "steps": 20, "cutoff": 0.6}
    waters.write_campaign(where, waters.content(system=system, backmap=settings))
    for name in ("cold", "warm", "hot"):
        frames.save_xtc(str(where / f"{name}.xtc"))
    frames[0].save_pdb(str(where / "topology.pdb"))
    campaign = config.load(where / "campaign.yaml")
    topology, sites = mapping.sites_of(campaign.topology("warm"), campaign.system.mapping)
    x = mapping.Unwrapper(topology, sites.atoms)(
        SimpleNamespace(positions=frames.xyz, boxes=frames.unitcell_lengths.astype(float)), "warm"
    )
    mapped = np.array([sites.matrix @ each for each in x])
    boxes = frames.unitcell_lengths
    write_h5(where / "map.h5", {"positions": mapped, "box": boxes})
    write_h5(where / "predict.h5", {"trajectory": mapped[::-1] % EDGE, "trajectory_box": boxes})
    return where


@pytest.fixture(scope="module")
def state(folder):
    campaign = config.load(folder / "campaign.yaml")
    return stages.State(campaign, "warm", "cold", folder / "map.h5", folder / "map.h5")


@pytest.fixture(scope="module")
def done(state, folder):
    """Results of both sources, written as the rules write them."""
    found = {
        "mapped": stages.mapped(state, folder / "m", print),
        "predicted": stages.predicted(state, folder / "predict.h5", folder / "p", print),
    }
    for source, (result, comparison) in found.items():
        names = [folder / f"{source}{end}" for end in (".h5", "-comparison.h5", ".json")]
        stages.write(result, comparison, state, *names, views=source == "predicted")
    return found


def test_templates_are_spread_over_the_trajectory_of_another_state(state):
    assert len(state.templates) == N_FRAMES
    assert state.templates.is_rounded and state.templates.boxes.shape == (N_FRAMES, 3)


def test_conformers_of_validated_frames_come_from_the_other_half_of_the_trajectory(folder, state):
    campaign, maps = config.load(folder / "campaign.yaml"), [folder / "map.h5"] * 2
    own, frames = stages.State(campaign, "warm", "warm", *maps), [N_FRAMES // 2]
    kept = own.templates_far_from(frames).positions
    used = [k for k, x in enumerate(own.templates.positions) if (x == kept).all((1, 2)).any()]
    assert used == [k for k in range(N_FRAMES) if abs(k - frames[0]) > N_FRAMES / 4]
    assert len(state.templates_far_from(frames)) == N_FRAMES  # those of another state


def test_structures_of_both_sources_are_exact(done):
    for source, n_structures in (("mapped", 12), ("predicted", 4)):
        result, _ = done[source]
        assert result.arrays["positions"].shape == (n_structures, 192, 3)
        assert result.arrays["residual"].max() < 1e-9
        assert result.failures == []


def test_a_sampler_that_is_too_short_has_a_gap_and_says_so(done):
    """Twenty sweeps from random orientations leave the energy above, by more than the noise."""
    numbers = done["mapped"][1].numbers
    assert numbers["energy_gap_kJ_mol"] > 3 * numbers["energy_gap_se"] > 0
    assert numbers["js_bits"] == {} and numbers["max_rigid_error_nm"] < 1e-6
    assert numbers["reference_rigid_error_nm"] < 1e-3
    assert validation.flexible(numbers) is None
    assert set(numbers["rdf_peaks"]) == {"H-H", "H-O", "O-O"}
    assert set(numbers["rank_p"]) == {"axis to neighbour"}
    assert "rank_p" not in done["predicted"][1].numbers


def test_the_reference_against_itself_has_no_gap(state):
    """Frames that come from the same run as their reference pass every check."""
    reference = state.reference(np.arange(0, N_FRAMES, 2))
    other = state.reference(np.arange(1, N_FRAMES, 4))
    sites = np.array([state.mapped.matrix @ x for x in other.positions])
    run = {"positions": other.positions, "box": other.boxes, "sites": sites}
    run["frame"] = np.arange(len(other))
    first = state.compare(SimpleNamespace(arrays={**run, "energy": np.zeros(6)}), reference, other)
    energies = first.energies["own"] * len(state.mapped.atoms)
    found = state.compare(SimpleNamespace(arrays={**run, "energy": energies}), reference, other)
    assert abs(found.numbers["energy_gap_kJ_mol"]) < 1e-9
    peaks = found.numbers["rdf_peaks"].values()
    assert max(abs(peak["deviation"]) for peak in peaks) < 1e-9
    alone = state.compare(SimpleNamespace(arrays={**run, "energy": energies}), reference)
    assert abs(alone.numbers["energy_gap_kJ_mol"]) < 5 * alone.numbers["energy_gap_se"]


def test_a_reference_with_flexible_bonds_is_told(state):
    """O-H bonds that vary by 0.003 nm, as those of a flexible model do at 300 K."""
    reference = state.reference(np.arange(4))
    x = reference.positions.reshape(4, -1, 3, 3).copy()
    arms = x[:, :, 1:] - x[:, :, :1]
    x[:, :, 1:] += arms / 0.1 * np.random.default_rng(1).normal(0, 0.003, arms.shape[:3])[..., None]
    moved = replace(reference, positions=x.reshape(reference.positions.shape))
    sites = np.array([state.mapped.matrix @ each for each in reference.positions])
    run = {"positions": reference.positions, "box": reference.boxes, "sites": sites}
    run |= {"frame": np.arange(4), "energy": np.zeros(4)}
    numbers = state.compare(SimpleNamespace(arrays=run), moved).numbers
    assert numbers["reference_rigid_error_nm"] == pytest.approx(0.0025, rel=0.2)
    assert "was run with flexible bonds" in validation.flexible(numbers)


def test_finished_frames_are_kept_for_a_restart(done, folder):
    names = sorted(path.name for path in (folder / "p").iterdir())
    assert names == ["frame-0000.checkpoint.h5", "frame-0001.checkpoint.h5"]
    assert stages.frames_folder(folder / "T300.h5") == folder / ".T300.frames"


def test_a_comparison_comes_back_from_its_file(done, folder):
    for source, (_, comparison) in done.items():
        found = validation.read_comparison(folder / f"{source}-comparison.h5")
        assert found.numbers == comparison.numbers
        assert found.energies.keys() == comparison.energies.keys()
        for key, sides in comparison.rdfs.items():
            assert all(np.array_equal(a, b) for a, b in zip(sides, found.rdfs[key]))


@pytest.mark.parametrize("method", ["pseudoinverse", "map"])
def test_other_methods_have_structures_and_no_comparison(folder, state, method, tmp_path):
    chosen = replace(state.campaign.backmap, method=method, frames=1)
    campaign = replace(state.campaign, backmap=chosen)
    outputs = [tmp_path / name for name in ("warm.h5", "comparison.h5", "warm.json")]
    given = campaign, ("warm", "cold"), (folder / "map.h5",) * 2, outputs
    stages.carry_out("predicted", *given, prediction=folder / "predict.h5")
    numbers = read_json(tmp_path / "warm.json")
    assert numbers["max_residual_nm"] < 1e-9 and numbers["n_structures"] == 1
    assert ("clashes" in numbers) == (method == "map") == (tmp_path / "warm.openmm.xml").exists()
    comparison = validation.read_comparison(tmp_path / "comparison.h5")
    assert comparison.numbers == {} == comparison.distributions
    assert not stages.frames_folder(outputs[0]).exists()


@pytest.mark.parametrize(
    ("types", "message"),
    [([0] * 64, None), ([0] * 63 + [1], "site 63 of type X, where .* type W"), ([0] * 60, "60 s")],
)
def test_a_prediction_of_other_sites_is_refused(state, types, message):
    arguments = {"site_types": np.array(types)}, {"site_names": '["W", "X"]'}, state
    if message is None:
        stages._check_sites(*arguments)
    else:
        with pytest.raises(InputError, match=message):
            stages._check_sites(*arguments)


def test_a_state_without_any_structure_has_files_that_say_so(folder, state, tmp_path, monkeypatch):
    """The job succeeds, the check of defects fails, and page and picture are made."""
    failures = [{"frame": k, "reason": "sites are too far apart"} for k in range(2)]

    def fails(*_):
        raise backmap.NoStructureError("none of the 2 frames", failures)

    monkeypatch.setattr(stages, "predicted", fails)
    outputs = [tmp_path / name for name in ("warm.h5", "comparison.h5", "warm.json")]
    given = state.campaign, ("warm", "cold"), (folder / "map.h5",) * 2, outputs
    stages.carry_out("predicted", *given, prediction=folder / "predict.h5")
    assert {path.suffix for path in tmp_path.iterdir()} == {".h5", ".json", ".pdb", ".xtc", ".xml"}
    assert validation.read_comparison(outputs[1]).numbers == {}
    entry = report.read_backmap([outputs[2]])
    summary = {"states": [{"id": "warm"}], "backmap": entry}
    checks = report._backmap_checks("warm", entry["warm"], report.LIMITS)
    assert [(check.quantity, check.value, check.status) for check in checks] == [
        ("backmap defects", 2, "fails")
    ]
    assert "<td>0, 0</td>" in front_table.backmap_table(summary, checks)
    arrays, _ = read_h5(outputs[0])
    plot_backmap.picture(tmp_path / "picture.png", state.topology, state.mapped, arrays)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert "No frame of warm" in viewer.read(outputs[0], state.campaign)


def test_the_table_has_all_numbers(done, folder):
    numbers = report.read_backmap([folder / "predicted.json"])
    numbers["predicted"]["mapped"] = read_json(folder / "mapped.json")
    numbers["predicted"]["offending_frames"] = [3, 7]
    numbers["predicted"]["failures"] = [{"frame": 7, "reason": "too far apart"}]
    validation.write_table(folder / "backmap.tsv", numbers)
    rows = [line.split("\t") for line in (folder / "backmap.tsv").read_text().splitlines()]
    assert {len(row) for row in rows} == {6}
    assert ["predicted", "predicted", "failures", "frame 7", "too far apart", ""] in rows
    assert ["predicted", "predicted", "offending_frames", "", "3, 7", ""] in rows
    assert {row[3] for row in rows if row[2] == "first peak deviation"} == {"H-H", "H-O", "O-O"}


def test_figures_are_drawn(done, state, folder):
    found = {source: comparison for source, (_, comparison) in done.items()}
    plot_backmap.state_figure(folder / "both.png", "warm, test", found)
    plot_backmap.state_figure(folder / "none.png", "warm, test", {"predicted": validation.EMPTY})
    arrays, _ = read_h5(folder / "predicted.h5")
    plot_backmap.picture(folder / "picture.png", state.topology, state.mapped, arrays)
    for name in ("both", "none", "picture"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
