"""LAMMPS and OpenMM sample the ensembles of the own engine: ``make verify``, verification.md."""

import time
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from remcg import export, sample
from remcg.config import ROOT
from remcg.engine.replica import Replica
from remcg.lammps.observe import observe
from remcg.lammps.program import Program
from remcg.lammps.replica import AGREEMENT, LammpsReplica
from remcg.model import Model
from remcg.statistics import inefficiency, standard_error
from remcg.units import BAR, KB
from test_export import openmm_script

pytestmark = pytest.mark.verify
CASES = {
    "water NVT": ("spce-water", "T295", None, dict(friction=30.0, sample_interval=10)),
    "water NPT": ("spce-water", "T295", 1.0, dict(friction=30.0, sample_interval=10)),
    "hexane NPT": (
        "hexane",
        "T300",
        1.0,
        # stiff bonds: the error of LAMMPS' dynamics at 4 fs is 3 % of their thermal energy
        dict(friction=5.0, sample_interval=40, timestep=0.002, n_steps=80_000),
    ),
}
STEPS = {"n_steps": 40_000, "n_equilibration": 5_000, "timestep": 0.004}


class OpenMMReplica(Replica):
    """A replica whose steps OpenMM does, as the exported ``run_openmm.py`` runs it."""

    def __init__(self, model, start, temperature, pressure_bar=None, *, folder, **settings):
        super().__init__(model, start, temperature, pressure_bar, **settings)
        state = SimpleNamespace(id="state", temperature=temperature, pressure=pressure_bar)
        topology, names = start.topology, model.site_types
        sites = topology.site_types, names, topology.masses, topology.n_molecules, topology
        dynamics = {name: settings[name] for name in ("timestep", "friction")}
        export.write_openmm(
            folder, model, [state], export.Start(start.positions, start.box, *sites), **dynamics
        )
        self.simulation = openmm_script(folder).simulation_of("state", "CPU")
        self.allowed = AGREEMENT * KB * temperature * topology.n_sites

    def run_chunk(self):
        """The steps to the next sample, whose energy is that of OpenMM."""
        equilibration, interval = self.n_equilibration, self.conditions.sample_interval
        n_steps = interval if self.step >= equilibration else equilibration
        begin = time.perf_counter()
        self.simulation.step(n_steps)
        self.seconds += time.perf_counter() - begin
        self.step += n_steps
        if self.step == equilibration:
            return
        found = self.simulation.context.getState(positions=True, velocities=True, energy=True)
        box = found.getPeriodicBoxVectors(asNumpy=True)._value
        positions = self.topology.make_whole(found.getPositions(asNumpy=True)._value, box)
        velocities = found.getVelocities(asNumpy=True)._value
        k = (self.step - equilibration) // interval - 1
        observe(self, np.ascontiguousarray(positions), velocities, box, k)
        energy = found.getPotentialEnergy()._value
        assert energy == pytest.approx(self.samples.energy[k], abs=self.allowed)
        self.samples.energy[k] = energy


def lammps_replica(*arguments, **settings):
    return LammpsReplica(*arguments, program=Program.of("lmp"), barostat_time=1.0, **settings)


PROGRAMS = {"LAMMPS": lammps_replica, "OpenMM": OpenMMReplica}


def result(case, number, replica, **more):
    """Result of a replica at a state of a finished campaign, from one of two frames."""
    campaign, state, pressure, settings = CASES[case]
    results = ROOT / "results" / campaign
    if not (results / "model/model.json").exists():
        pytest.skip(
            f"{campaign} has no results here; call `make run CONFIG=config/{campaign}.yaml`"
        )
    model, temperature = Model.read(results / "model/model.json"), float(state[1:])
    source = sample.read_source(results / "map" / f"{state}.h5", 2)
    start = source.starts[number]
    if pressure is None:
        start = start.with_volume(source.mean_volume)
    settings = STEPS | settings | {"rdf_edges": sample._edges(model)} | more
    seed_key = ("verify", case, number)
    made = replica(model, start, temperature, pressure, seed_key=seed_key, **settings)
    sample.run(made)
    found = made.result()
    volume = model.volume_pressure(found["volume"], source.n_molecules, temperature)
    return found | {"pressure_bar": (found["pressure"] + volume) / BAR}


@cache
def our_result(case):
    """That of the own engine, which every program is compared with."""
    return result(case, 0, Replica)


def compared(first, second):
    """Means, their standard errors, z, and the KS p-value of decorrelated samples."""
    means, errors = zip(*(standard_error(series[None]) for series in (first, second)))
    z = (means[1] - means[0]) / np.hypot(*errors)
    apart = [
        series[:: int(np.ceil(inefficiency(series[None, :, None])))] for series in (first, second)
    ]
    return means, errors, z, stats.ks_2samp(*apart).pvalue, [len(series) for series in apart]


def rdf_deviation(first, second):
    """Per pair, rms over bins of the difference of g(r), and of its standard error by blocks."""
    difference = second.mean(axis=0) - first.mean(axis=0)
    squares = [blocks.var(axis=0, ddof=1) / len(blocks) for blocks in (first, second)]
    return np.sqrt((difference**2).mean(axis=1)), np.sqrt(sum(squares).mean(axis=1))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("case", CASES)
def test_the_program_samples_the_ensemble_of_the_own_engine(case, program, tmp_path):
    ours, theirs = our_result(case), result(case, 1, PROGRAMS[program], folder=tmp_path)
    names = ["energy", "pressure_bar"] + (["volume"] if CASES[case][2] is not None else [])
    for name in names:
        means, errors, z, p, counts = compared(ours[name], theirs[name])
        print(
            f"| {case} | {name} | {means[0]:.4f} ± {errors[0]:.4f} |"
            f" {program} {means[1]:.4f} ± {errors[1]:.4f} | {z:+.2f} | {p:.2f} |"
            f" {counts[0]}, {counts[1]} |"
        )
        assert abs(z) < 4.0, name
        assert p > 1e-4, name
    difference, noise = rdf_deviation(ours["rdf_blocks"], theirs["rdf_blocks"])
    print(f"| {case} | rdf | {program} rms difference {difference} | noise {noise} |")
    assert (difference < 2.0 * noise).all()
