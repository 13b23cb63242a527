"""LAMMPS and the own engine sample the same ensembles: ``make verify``, docs/verification.md."""

import numpy as np
import pytest
from scipy import stats

from remcg import sample
from remcg.config import ROOT
from remcg.engine.replica import Replica
from remcg.lammps.program import Program
from remcg.lammps.replica import LammpsReplica
from remcg.model import Model
from remcg.statistics import inefficiency, standard_error
from remcg.units import BAR

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


def both(case, folder):
    """Results of our engine and of LAMMPS at a state of a finished campaign, and its model."""
    campaign, state, pressure, more = CASES[case]
    results = ROOT / "results" / campaign
    if not (results / "model/model.json").exists():
        pytest.skip(
            f"{campaign} has no results here; call `make run CONFIG=config/{campaign}.yaml`"
        )
    model, temperature = Model.read(results / "model/model.json"), float(state[1:])
    source = sample.read_source(results / "map" / f"{state}.h5", 2)
    settings = STEPS | more | {"rdf_edges": sample._edges(model)}
    found = []
    for number, start in enumerate(source.starts):
        arguments = model, start, temperature, pressure
        if number:
            settings |= {"program": Program.of("lmp"), "folder": folder, "barostat_time": 1.0}
        if pressure is None:
            arguments = model, start.with_volume(source.mean_volume), temperature, None
        replica = (LammpsReplica if number else Replica)(
            *arguments, seed_key=("verify", case, number), **settings
        )
        sample.run(replica)
        found.append(replica.result())
    for result in found:
        volume = model.volume_pressure(result["volume"], source.n_molecules, temperature)
        result["pressure_bar"] = (result["pressure"] + volume) / BAR
    return found


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


@pytest.mark.parametrize("case", CASES)
def test_both_engines_sample_the_same_ensemble(case, tmp_path):
    ours, theirs = both(case, tmp_path)
    names = ["energy", "pressure_bar"] + (["volume"] if CASES[case][2] is not None else [])
    for name in names:
        means, errors, z, p, counts = compared(ours[name], theirs[name])
        print(
            f"| {case} | {name} | {means[0]:.4f} ± {errors[0]:.4f} |"
            f" {means[1]:.4f} ± {errors[1]:.4f} | {z:+.2f} | {p:.2f} | {counts[0]}, {counts[1]} |"
        )
        assert abs(z) < 4.0, name
        assert p > 1e-4, name
    difference, noise = rdf_deviation(ours["rdf_blocks"], theirs["rdf_blocks"])
    print(f"| {case} | rdf | rms difference {difference} | noise {noise} |")
    assert (difference < 2.0 * noise).all()
