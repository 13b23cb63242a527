"""``engine: lammps``: input, restart, dump and samples; both engines have the same ensembles."""

import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import yaml

from conftest import lattice_start
from remcg import config, pairs, sample
from remcg.checkpoint import StopError
from remcg.engine.replica import Start
from remcg.ensembles import _state_data
from remcg.errors import InputError, SamplingError
from remcg.export.lammps import KCAL
from remcg.io import read_h5
from remcg.lammps import attempt
from remcg.lammps.dump import SPEED, frames
from remcg.lammps.program import Program
from remcg.lammps.replica import LammpsReplica
from test_export_bonded import BOXES, a_model, configuration, of_engine
from test_parallel import MPIEXEC, command, write_campaign

EDGES = pairs.rdf_edges(0.6)
ONE, TWO = None, f"{MPIEXEC} -n 2"
SHORT = dict(n_steps=60, n_equilibration=20, timestep=0.002, friction=5.0, sample_interval=10)

ENDLESS = """\
units lj
lattice fcc 0.8
region all block 0 3 0 3 0 3
create_box 1 all
create_atoms 1 box
mass 1 1
pair_style lj/cut 2.5
pair_coeff * * 1 1
fix move all nve
run 1000000000
"""


def replica(folder, model, start, temperature=300.0, pressure=None, launcher=ONE, **changes):
    settings = SHORT | dict(rdf_edges=EDGES, keep=6, seed_key=("test",)) | changes
    program = Program.of("lmp", launcher)
    return LammpsReplica(
        model, start, temperature, pressure, program=program, folder=folder, **settings
    )


@pytest.mark.parametrize("box", BOXES)
def test_its_files_give_the_energy_and_forces_of_the_model(tmp_path, box):
    _, start = configuration(BOXES[box])
    model = a_model(("1-2", "1-3"))
    run = replica(tmp_path, model, start, 280.0, friction=0.0)
    run._write_tables()
    run._write_input(0)
    script = (tmp_path / "in.segment").read_text().replace("id x y z vx vy vz", "id x y z fx fy fz")
    (tmp_path / "in.segment").write_text(script)
    assert run.program.run(tmp_path, "in.segment", "log", 1, lambda: None) == 0
    found = re.findall(r"\nREMCG pe (\S+)", (tmp_path / "log").read_text())
    renamed = (tmp_path / "final.bin").read_bytes().replace(b"fx fy fz", b"vx vy vz")
    (tmp_path / "final.bin").write_bytes(renamed)
    (frame,) = frames(tmp_path / "final.bin", start.topology.n_sites)
    energy, forces = of_engine(model, 280.0, start)
    assert KCAL * float(found[0]) == pytest.approx(energy, rel=1e-6)
    deviation = np.abs(frame.velocities / SPEED * KCAL * 10.0 - forces).max()
    assert deviation < 1e-5 * np.sqrt((forces**2).mean())
    np.testing.assert_allclose(frame.box, run.state.box, rtol=1e-12)


@pytest.mark.parametrize(("pressure", "launcher"), [(None, ONE), (300.0, TWO)])
def test_samples_are_those_of_the_configurations_in_the_dump(
    tmp_path, soft_model, launcher, pressure
):
    run = replica(tmp_path, soft_model, lattice_start(5, 0.05), 300.0, pressure, launcher)
    sample.run(run)
    found, types = run.result(), np.zeros(125, np.int64)
    positions, boxes = found["trajectory"], found["trajectory_box"]
    term = soft_model.pair_terms[0]
    sums = pairs.pair_sums(positions, boxes, types, ("W",), [term])
    np.testing.assert_allclose(found["site_sums"], sums, rtol=1e-9, atol=1e-9)
    phi = soft_model.basis_sums(found["site_sums"], found["volume"], 125)
    np.testing.assert_allclose(found["energy"], phi @ soft_model.theta(300.0), rtol=1e-9)
    g = pairs.rdf(positions, boxes, types, [(0, 0)], EDGES, 6)
    np.testing.assert_allclose(found["rdf_blocks"], g, rtol=1e-9)
    assert (np.diff(found["volume"]) == 0.0).all() == (pressure is None)
    assert np.abs(np.diff(positions, axis=0)).max() > 1e-3
    assert 150.0 < found["temperature"].mean() < 600.0
    np.testing.assert_array_equal(found["positions"], positions[-1])


def test_a_run_that_was_stopped_goes_on_from_its_restart_file(tmp_path, soft_model):
    start = lattice_start(5, 0.05)
    whole = replica(tmp_path / "whole", soft_model, start, 300.0, 300.0)
    sample.run(whole)
    first = replica(tmp_path / "first", soft_model, start, 300.0, 300.0)
    for _ in range(3):
        first.run_chunk()
    first.stop = True
    with pytest.raises(StopError, match=f"stopped at step {first.step}"):
        sample.run(first, tmp_path / "checkpoint.h5")
    second = replica(tmp_path / "second", soft_model, start, 300.0, 300.0)
    sample.run(second, tmp_path / "checkpoint.h5")
    for name, array in whole.result().items():
        np.testing.assert_array_equal(second.result()[name], array, err_msg=name)


class Limited(Program):
    """LAMMPS where a job ends after so many steps of a segment: it says how far it came."""

    limit = 15

    def run(self, folder, script, log, threads, check):
        text = (folder / script).read_text()
        first, steps = (
            int(re.search(rf"^{word} +(\d+)", text, re.M)[1]) for word in ("reset_timestep", "run")
        )
        if steps <= self.limit:
            return super().run(folder, script, log, threads, check)
        check()  # some time has passed
        last = first + self.limit
        (folder / log).write_text(f"   Step  Temp\n {first} 300 1 2 3\n {last} 300 1 2 3\n")
        raise StopError("the time is over")


def jobs(folder, path, model, most=10, **settings):
    """A replica that one job after the other goes on with, and the number of jobs."""
    for count in range(1, most):
        run = replica(folder, model, lattice_start(5, 0.05), **settings)
        run.program = Limited.of("lmp")
        try:
            sample.run(run, path)
        except StopError:
            continue
        return run, count
    pytest.fail("no progress")


def test_segments_that_do_not_end_in_time_become_shorter(tmp_path, soft_model, monkeypatch):
    """Segments of 20 steps, and the first one of 40; jobs have no time for that."""
    monkeypatch.setattr(attempt, "PATIENCE", 0.0)
    monkeypatch.setattr(attempt, "HEARTBEAT", 0.0)
    settings = dict(n_steps=200, n_equilibration=40, pressure=300.0, sample_interval=20)
    run, n_jobs = jobs(tmp_path / "a", tmp_path / "a.h5", soft_model, keep=10, **settings)
    assert run.is_done and n_jobs == 3 and run.most_steps == 7
    found, types = run.result(), np.zeros(125, np.int64)
    positions, boxes = found["trajectory"], found["trajectory_box"]
    assert (found["volume"] > 0.0).all() and len(set(found["volume"])) == 10
    sums = pairs.pair_sums(positions, boxes, types, ("W",), soft_model.pair_terms)
    np.testing.assert_allclose(found["site_sums"], sums, rtol=1e-9, atol=1e-9)


def test_a_segment_that_was_stopped_once_is_run_again_as_it_was(tmp_path, soft_model, monkeypatch):
    monkeypatch.setattr(attempt, "PATIENCE", 0.0)
    monkeypatch.setattr(attempt, "HEARTBEAT", 0.0)
    start = lattice_start(5, 0.05)
    whole = replica(tmp_path / "whole", soft_model, start)
    sample.run(whole)
    first = replica(tmp_path / "again", soft_model, start)
    first.stop = True
    with pytest.raises(StopError):
        sample.run(first, tmp_path / "checkpoint.h5")
    second = replica(tmp_path / "again", soft_model, start)
    sample.run(second, tmp_path / "checkpoint.h5")
    assert second.most_steps is None
    for name, array in whole.result().items():
        np.testing.assert_array_equal(second.result()[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("n_sites", "ranks", "length"),
    [(125, 1, 1000), (10**6, 1, 500), (10**6, 8, 950), (10**7, 1, 50), (10**8, 64, 50)],
)
def test_a_segment_takes_a_quarter_of_an_hour_at_most(tmp_path, soft_model, n_sites, ranks, length):
    """A tenth of the run of 10,000 steps, 1 GiB of frames, or 5e8 site steps per rank."""
    start = lattice_start(5, 0.05)
    run = replica(
        tmp_path, soft_model, start, n_steps=10_000, n_equilibration=0, sample_interval=50,
        ranks=ranks,
    )  # fmt: skip
    run.topology = SimpleNamespace(n_sites=n_sites)
    assert run._segment() == length


def test_the_sampler_writes_a_file_that_the_update_takes(tmp_path, soft_model):
    write_campaign(tmp_path, soft_model, engine="lammps", replicas=1, steps=500)
    assert sample.main(command(tmp_path, "T300", "T300.h5", "--ensemble", "NPT")) == 0
    write_campaign(tmp_path, soft_model, replicas=1, steps=500)
    assert sample.main(command(tmp_path, "T300", "own.h5", "--ensemble", "NPT")) == 0
    theirs, own = (read_h5(tmp_path / f"{name}.h5") for name in ("T300", "own"))
    assert theirs[1].keys() == own[1].keys() and theirs[0].keys() == own[0].keys()
    for name in own[0]:
        assert theirs[0][name].dtype == own[0][name].dtype, name
        assert theirs[0][name].ndim == own[0][name].ndim, name
    np.testing.assert_allclose(
        theirs[0]["term_energy"].sum(axis=-1), theirs[0]["energy"], rtol=1e-9
    )
    reference = {"site_sums": own[0]["site_sums"][0], "volume": own[0]["volume"][0]}
    target = reference, {"n_molecules": 125, "type_counts": '{"W": 125}'}
    state = SimpleNamespace(id="T300", temperature=300.0, pressure=500.0)
    data = [_state_data(soft_model, state, 1.0, target, each) for each in (theirs, own)]
    for each in data:
        assert each.phi.shape == (*each.volume.shape, 14) == (*each.pressure_samples.shape, 14)
        assert np.isfinite(each.pressure_slopes).all()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("no-such-lmp", "there is no program 'no-such-lmp' for engine: lammps; install"),
        ("lmp -nosuchoption", "LAMMPS ended with code .* its last lines"),
    ],
)
def test_what_lammps_complains_about_is_said(tmp_path, soft_model, words, match):
    run = replica(tmp_path, soft_model, lattice_start(5, 0.05))
    run.program = Program.of(words)
    with pytest.raises((InputError, SamplingError), match=re.compile(match, re.S)):
        run.run_chunk()
    assert run.step == 0


def test_sites_that_come_too_close_are_named_as_the_reason(tmp_path, soft_model):
    start = lattice_start(5, 0.05)
    positions = start.positions.copy()
    positions[1] = positions[0] + 1e-4
    run = replica(tmp_path, soft_model, Start(positions, start.box, None, start.topology))
    with pytest.raises(
        SamplingError, match=r"closer than the table goes; shorten sample\.timestep"
    ):
        run.run_chunk()


def test_files_of_another_model_are_noticed_by_the_energy(tmp_path, soft_model):
    run = replica(tmp_path, soft_model, lattice_start(5, 0.05))
    run.run_chunk()
    table = tmp_path / "model.table"
    text = re.sub(r"^(\d+ \S+) (\S+) ", r"\1 1.0 ", table.read_text(), flags=re.M)
    table.write_text(text)
    before = run.samples.rdf.copy()
    with pytest.raises(SamplingError, match=r"the energy of LAMMPS is .* that of the model"):
        run.run_chunk()
    np.testing.assert_array_equal(run.samples.rdf, before)


def test_a_cut_dump_is_recognised(tmp_path, soft_model):
    run = replica(tmp_path, soft_model, lattice_start(5, 0.05), n_equilibration=0)
    run.run_chunk()
    content = (tmp_path / "final.bin").read_bytes()
    for size in (5, 60, len(content) - 8):
        (tmp_path / "cut.bin").write_bytes(content[:size])
        with pytest.raises(SamplingError, match=r"cut\.bin (ends within a frame|is not)"):
            list(frames(tmp_path / "cut.bin", 125))
    with pytest.raises(SamplingError, match="has 125 sites with the columns"):
        list(frames(tmp_path / "final.bin", 124))


def test_lammps_is_not_started_by_one_of_several_ranks():
    campaign = SimpleNamespace(sample=SimpleNamespace(engine="lammps"))
    arguments = SimpleNamespace(predict=False)
    with pytest.raises(InputError, match=r"one of 2 ranks; start python -m remcg\.sample without"):
        sample._check_launch(arguments, campaign, SimpleNamespace(size=2))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"barostat": "anisotropic"}, "anisotropic needs engine: numba, but sample has"),
        ({"exchange_interval": 100}, "replica exchange needs sample.engine: numba"),
        ({"lammps": {"command": "lmp '"}}, "is not a command .*mend its quotes"),
    ],
)
def test_what_lammps_cannot_do_is_refused(tmp_path, soft_model, changes, match):
    write_campaign(tmp_path, soft_model, engine="lammps", **changes)
    if "exchange_interval" in changes:
        path = tmp_path / "config.yaml"
        content = yaml.safe_load(path.read_text())
        content["states"] = [
            {**content["states"][0], "id": f"T{t}", "temperature": t} for t in (300, 310)
        ]
        content["model"]["temperature"] = "linear"
        path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=match):
        config.load(tmp_path / "config.yaml")


@pytest.mark.drill
@pytest.mark.parametrize("launcher", ["", TWO])
def test_lammps_dies_with_a_killed_sampler(tmp_path, launcher):
    (tmp_path / "in.endless").write_text(ENDLESS)
    code = (
        "import sys, pathlib; from remcg.lammps.program import Program;"
        "Program.of('lmp', sys.argv[1]).run(pathlib.Path(sys.argv[2]), 'in.endless', 'log', 1, int)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, launcher, str(tmp_path)])
    log, deadline = tmp_path / "log", time.monotonic() + 60.0
    while not (log.exists() and "Step" in log.read_text()):
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.1)
    started = psutil.Process(parent.pid).children(recursive=True)
    assert started
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs(started, timeout=20.0)[1]
