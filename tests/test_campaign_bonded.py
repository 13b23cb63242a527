"""Every stage of a campaign of molecules with three sites, on a short reference."""

import json

import mdtraj
import numpy as np
import pytest
import yaml

import lennard_jones as lj
import tiny
from recovery import quiet
from remcg.io import read_json
from remcg.model import Model, VolumeTerm
from remcg.units import BAR
from test_recovery_bonded import FRICTION, STEP, melt, true_model

KIND, N_SIDE, N_FRAMES = "ABA", 6, 120
STATES = {"cold": 1.0, "warm": 1.2, "hot": 1.4}  # reduced temperatures


def at_one_bar(truth, starts):
    """The truth with a volume term that makes its pressure about 1 bar at these volumes."""
    kelvin = [t * lj.KELVIN for t in STATES.values()]
    terms = tuple(type(term)(term.sites, term.basis, 2) for term in truth.terms)
    blocks = tuple(np.concatenate([block, 0.0 * block]) for block in truth.coefficients)
    v0 = starts[0].volume / starts[0].topology.n_molecules
    volume = np.array([[0.0, 40.0], [0.0, 0.0]])
    model = Model(
        truth.site_types,
        (*terms, VolumeTerm(2, 2)),
        kelvin[1],
        v0,
        (*blocks, volume),
        exclude=truth.exclude,
    )
    settings = {"n_steps": 4000, "n_equilibration": 500, "sample_interval": 20}
    settings |= {"timestep": STEP, "friction": FRICTION}
    pressures = [
        quiet(model, start, T, **settings)["pressure"].mean() for T, start in zip(kelvin, starts)
    ]
    return model.with_added_pressure(kelvin, [BAR - p for p in pressures])


def topology(n_molecules):
    top = mdtraj.Topology()
    chain = top.add_chain()
    for _ in range(n_molecules):
        residue = top.add_residue("TRI", chain)
        a, b, c = (top.add_atom(name, mdtraj.element.argon, residue) for name in ("A1", "B", "A2"))
        top.add_bond(a, b), top.add_bond(b, c)
    return top


def write_campaign(folder):
    truth = true_model(KIND)
    starts = [melt(truth, KIND, N_SIDE, t, density=0.7) for t in STATES.values()]
    model, states = at_one_bar(truth, starts), []
    top = topology(starts[0].topology.n_molecules)
    for (name, reduced), start in zip(STATES.items(), starts):
        found = quiet(
            model,
            start,
            reduced * lj.KELVIN,
            1.0,
            n_steps=N_FRAMES * 60,
            n_equilibration=3000,
            timestep=STEP,
            friction=FRICTION,
            sample_interval=60,
            keep=N_FRAMES,
        )
        boxes = found["trajectory_box"]
        frames = np.mod(found["trajectory"], boxes[:, None])
        angles, time = np.full((N_FRAMES, 3), 90.0), np.arange(N_FRAMES)
        trajectory = mdtraj.Trajectory(frames, top, time, boxes, angles)
        trajectory.save_xtc(str(folder / f"{name}.xtc"))
        states.append(
            {
                "id": name,
                "temperature": float(reduced * lj.KELVIN),
                "pressure": 1.0,
                "trajectory": f"{name}.xtc",
                "use": "test" if name == "warm" else "train",
            }
        )
    trajectory[0].save_pdb(str(folder / "topology.pdb"))
    sites = {name: {"atoms": [name]} for name in ("A1", "B", "A2")}
    mapping = {"TRI": {"sites": sites, "types": {"A1": "A", "A2": "A"}}}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    pairs = [
        {"kind": "pair", "sites": list(sites), "r_cut": 0.8, "n_basis": 16}
        for sites in ("AA", "AB", "BB")
    ]
    bonded = [
        {"kind": "bond", "sites": ["A", "B"], "n_basis": 8, "temperature": "constant"},
        {"kind": "angle", "sites": ["A", "B", "A"], "form": "cosine", "temperature": "constant"},
    ]
    config = {
        "campaign": "tiny",
        "seed": 7,
        "system": {"topology": "topology.pdb", "mapping": "mapping.yaml"},
        "states": states,
        "model": {"terms": [*pairs, *bonded, {"kind": "volume", "order": 2}]},
        "sample": {
            "timestep": float(STEP),
            "friction": float(FRICTION),
            "steps": 2000,
            "equilibration": 500,
        },
        "rem": {"max_iterations": 1},
        "predict": {"steps": 2000, "equilibration": 500},
        "backmap": {"frames": 0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.verify
def test_a_campaign_of_molecules_runs_through_every_stage(tmp_path):
    config = write_campaign(tmp_path)
    process = tiny.launch(config, cores=1)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    folder = tiny.results(config)
    facts = read_json(folder / "map" / "cold.json")
    assert set(facts["bonded"]) == {"bond A-B", "angle A-B-A"}
    terms = json.loads((folder / "basis" / "terms.json").read_text())["terms"]
    assert [term["kind"] for term in terms] == ["pair"] * 3 + ["bond", "angle", "volume"]
    assert Model.read(folder / "model" / "model.json").exclude == ("1-2", "1-3")
    for state in read_json(folder / "summary.json")["states"]:
        assert set(state["rdf"]) == {"A-A", "A-B", "B-B"}
        assert set(state["bonded"]) == {"A-B", "A-B-A"}
        assert state["bonded"]["A-B"]["js_bits"] < 0.02
        assert set(state["chains"]["A-B-A"]) == {"rg_nm", "end_nm"}
    for name in ("bonded_warm.tsv", "bonded_potentials.tsv", "distributions.png"):
        assert (folder / "validate" / name).stat().st_size > 1000
    for name in ("lammps/cold.bond", "openmm/cold.xml", "gromacs/molecules.itp", "hoomd/cold.npz"):
        assert (folder / "export" / name).exists()
    for state in read_json(folder / "export/openmm/states.json").values():
        assert state["timestep_ps"] == float(STEP)
        assert state["friction_per_ps"] == float(FRICTION)
