"""Scientific checks at full length: ``make verify``. Their figures are in docs/verification.md."""

import json

import numpy as np
import openmm
import pytest
from scipy import stats

from remcg.config import ROOT
from remcg.engine.replica import Start
from remcg.io import read_h5, read_json
from remcg.model import Model
from remcg.optimize import finish
from remcg.sample import sample
from remcg.topology import Topology
from remcg.units import BAR, KB
from test_engine import RUN, evaluate, ideal_gas
from test_export import lammps_forces, openmm_forces
from test_optimize import HarmonicTerm, harmonic_data, run, well_samples

RESULTS = ROOT / "results" / "spce-water"
pytestmark = pytest.mark.verify


@pytest.fixture
def default_campaign():
    if not (RESULTS / "summary.json").exists():
        pytest.skip("the default campaign has no results here; call `make run` first")
    return RESULTS


def configurations(path, n):
    arrays, attributes = read_h5(path)
    chosen = np.linspace(0, len(arrays["trajectory"]) - 1, n).astype(int)
    topology = Topology(arrays["site_types"], arrays["masses"])
    starts = [
        Start(arrays["trajectory"][k], arrays["trajectory_box"][k], None, topology) for k in chosen
    ]
    return starts, attributes


def test_both_exports_of_the_default_campaign_reproduce_the_engine(default_campaign, tmp_path):
    model = Model.read(default_campaign / "model/model.json")
    folder = default_campaign / "export"
    for entry in read_json(default_campaign / "summary.json")["states"]:
        starts, attributes = configurations(default_campaign / f"predict/{entry['id']}.h5", 10)
        n_molecules = int(attributes["n_molecules"])
        for file in (folder / "lammps").iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        exported = [lammps_start(start, model, n_molecules) for start in starts]
        state = type("State", (), {"id": entry["id"]})
        found = lammps_forces(tmp_path, exported, [state] * len(exported))
        system = openmm.XmlSerializer.deserialize(
            (folder / "openmm" / f"{entry['id']}.xml").read_text()
        )
        worst = np.zeros(4)
        for start, (energy, forces) in zip(starts, found):
            pair_energy, _, expected = at_temperature(model, start, entry["temperature_K"])
            volume_energy = model.volume_term.basis_sums(start.volume, n_molecules, model.v0)
            total = pair_energy + volume_energy @ model.psi(entry["temperature_K"])
            rms = np.sqrt(np.mean(np.sum(expected**2, axis=1)))
            other_energy, other_forces = openmm_forces(system, start)
            errors = (
                np.abs(forces - expected).max() / rms,
                abs(energy / pair_energy - 1.0),
                np.abs(other_forces - expected).max() / rms,
                abs(other_energy / total - 1.0),
            )
            worst = np.maximum(worst, errors)
        print(f"\n{entry['id']}: LAMMPS forces {worst[0]:.1e} energy {worst[1]:.1e}; ", end="")
        print(f"OpenMM forces {worst[2]:.1e} energy {worst[3]:.1e}")
        assert worst[0] <= 1e-5 and worst[2] <= 1e-5
        assert worst[1] <= 1e-6 and worst[3] <= 1e-6


def at_temperature(model, start, temperature):
    """Energy, virial and forces of the engine at a temperature."""
    fixed = [np.atleast_2d(theta) for theta in model.term_theta(temperature)]
    terms = tuple(type(t)(*constant(t)) for t in model.terms)
    frozen = Model(model.site_types, terms, model.reference_temperature, model.v0, tuple(fixed))
    return evaluate(frozen, start)


def constant(term):
    return (term.sites, term.basis, 1) if term.kind == "pair" else (term.n_basis, 1)


def lammps_start(start, model, n_molecules):
    from remcg.export import Start as ExportStart

    return ExportStart(
        start.positions, start.box, start.site_types, model.site_types, start.masses, n_molecules
    )


def test_a_long_ideal_gas_follows_its_gamma_distribution():
    model, start = ideal_gas()
    settings = RUN | {"n_steps": 2_000_000, "barostat_interval": 1, "sample_interval": 40}
    volume = sample(model, start, 300.0, 1.0, seed_key=("gas", 2), **settings)["volume"]
    law = stats.gamma(101, scale=KB * 300.0 / BAR)
    apart = volume[::4]
    z = (volume.mean() - law.mean()) / (law.std() / np.sqrt(len(volume) / 2))
    print(f"\nmean {volume.mean():.1f} nm^3 (exact {law.mean():.1f}, z = {z:.2f}), ", end="")
    print(f"deviation {volume.std():.1f} (exact {law.std():.1f}), ", end="")
    print(f"KS p = {stats.kstest(apart, law.cdf).pvalue:.3f} with {len(apart)} samples")
    assert abs(z) < 4
    assert volume.std() / law.std() == pytest.approx(1.0, abs=4 * np.sqrt(1 / len(volume)))
    assert stats.kstest(apart, law.cdf).pvalue > 1e-4


def test_error_bars_of_the_parameters_cover_the_truth():
    """A double well fitted by a spring: the model is wrong, the sandwich covariance must hold."""
    temperatures = np.array([1.0, 1.25, 1.5]) / KB
    many = [well_samples(np.random.default_rng(0), 1.0 / (KB * t), 10**7) for t in temperatures]
    truth = np.array([KB * t / np.mean(x**2) for t, x in zip(temperatures, many)])
    z = []
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        reference = [well_samples(rng, 1.0 / (KB * t), 2000) for t in temperatures]
        start = np.array([[1.9], [-1.5]])
        model = Model(("X",), (HarmonicTerm(2),), temperatures[1], 1.0, (start,))
        model, history, verdicts = run(
            model, lambda m, r=reference, g=rng: harmonic_data(g, m, temperatures, r), 15
        )
        covariance = finish(model, history, verdicts[-1], {}).extra["covariance"]
        rows = np.array([model.design(t)[0] for t in temperatures])
        errors = np.sqrt(np.einsum("sp,pq,sq->s", rows, covariance, rows))
        z.append((rows @ model.parameters - truth) / errors)
    coverage = np.mean(np.abs(z) < 1.96, axis=0)
    print(f"\ncoverage of 95 % intervals at three temperatures: {coverage}, std {np.std(z):.2f}")
    assert np.all(coverage > 0.88)


def test_the_figures_of_the_default_campaign_are_finite(default_campaign):
    text = (default_campaign / "summary.json").read_text()
    assert "NaN" not in text and json.loads(text)["rem"]["converged"]
