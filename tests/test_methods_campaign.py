"""Campaigns with another method than relative entropy, end to end."""

import mdtraj
import numpy as np
import pytest
import yaml
from mdtraj.formats import TRRTrajectoryFile

import tiny
from remcg.forces import basis_forces
from remcg.io import read_json
from remcg.model import Model
from remcg.units import KB

pytestmark = pytest.mark.campaigns

SHORT = {
    "sample": {"steps": 4000, "equilibration": 500, "replicas": 2, "ranks": 1},
    "predict": {"steps": 4000, "equilibration": 500},
}


def finished(config):
    process = tiny.launch(config)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return tiny.results(config)


def with_forces(config):
    """The same campaign with its trajectories as TRR, which hold the forces of the true pairs."""
    truth = tiny.true_model()
    for name, temperature in tiny.TEMPERATURES.items():
        frames = mdtraj.load(config.parent / f"{name}.xtc", top=config.parent / "topology.pdb")
        types, boxes = np.zeros(tiny.N_SITES, int), frames.unitcell_lengths.astype(float)
        arguments = frames.xyz.astype(float), boxes, types, ("AR",), truth.pair_terms
        theta = truth.term_theta(temperature)[0]
        pushes = np.array([f @ theta for f in basis_forces(*arguments)], "f4")
        n = frames.n_frames
        with TRRTrajectoryFile(str(config.parent / f"{name}.trr"), "w") as file:
            time, steps = frames.time.astype("f4"), np.arange(n, dtype="i4")
            vectors = np.ascontiguousarray(frames.unitcell_vectors, "f4")
            given = np.zeros_like(pushes), pushes
            file._write(frames.xyz, time, steps, vectors, np.zeros(n, "f4"), *given)
    config.write_text(config.read_text().replace(".xtc", ".trr"))
    return config


def pair_deviation(folder):
    """rms of the difference to the true pair potential at 300 K where there are pairs, kT."""
    found, truth = Model.read(folder / "model/model.json"), tiny.true_model()
    r = np.linspace(0.34, 0.58, 13)
    potentials = [
        model.pair_terms[0].basis.values(r) @ model.term_theta(300.0)[0] for model in (found, truth)
    ]
    return np.sqrt(np.mean((potentials[0] - potentials[1]) ** 2)) / (KB * 300.0)


def test_forces_of_the_atoms_give_back_the_potential_that_made_them(tmp_path):
    config = tiny.write_campaign(tmp_path, rem={"method": "force_matching"}, **SHORT)
    folder = finished(with_forces(config))
    assert pair_deviation(folder) < 0.02
    model = Model.read(folder / "model/model.json")
    assert "covariance" not in model.extra and model.extra["status"] == "direct"
    assert len(list((folder / "rem").glob("iter-*/sample"))) == 1


@pytest.mark.parametrize("method", ["boltzmann", "ibi"])
def test_a_method_on_structure_alone_chooses_its_basis_and_ends(tmp_path, method):
    config = tiny.write_campaign(tmp_path, rem={"method": method, "max_iterations": 3}, **SHORT)
    content = yaml.safe_load(config.read_text())
    content["model"]["terms"][0]["n_basis"] = "auto"
    config.write_text(yaml.safe_dump(content))
    folder = finished(config)
    chosen = read_json(folder / "basis/terms.json")["terms"][0]["n_basis"]
    assert 6 <= chosen <= 20  # the truth has ten
    assert Model.read(folder / "model/model.json").terms[0].n_basis == chosen
    assert pair_deviation(folder) < (0.5 if method == "boltzmann" else 0.2)
    assert "NaN" not in (folder / "summary.json").read_text()
