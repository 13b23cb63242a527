"""Small made-up water trajectories: fixtures of the tests of config, mapping and target."""

import csv

import mdtraj
import numpy as np
import yaml

GEOMETRY = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.033, 0.094, 0.0]])  # SPC/E, nm
MAPPING = {"HOH": {"sites": {"W": {"atoms": ["O", "H1", "H2"]}}}}


def topology(n_molecules):
    """Waters with bonds, as mdtraj reads them from a PDB."""
    result = mdtraj.Topology()
    chain = result.add_chain()
    oxygen, hydrogen = (mdtraj.element.get_by_symbol(symbol) for symbol in "OH")
    for number in range(1, n_molecules + 1):
        residue = result.add_residue("HOH", chain, resSeq=number)
        o = result.add_atom("O", oxygen, residue)
        for name in ("H1", "H2"):
            result.add_bond(o, result.add_atom(name, hydrogen, residue))
    return result


def trajectory(n_molecules=27, n_frames=30, edge=2.0, seed=1, spread=0.005):
    """Rigid waters at random places, atoms wrapped one by one into a box of varying volume."""
    rng = np.random.default_rng(seed)
    boxes = np.repeat(edge * (1.0 + spread * rng.standard_normal((n_frames, 1))), 3, axis=1)
    centres = rng.random((n_frames, n_molecules, 3)) * boxes[:, None]
    turns = _rotations(rng, n_frames * n_molecules).reshape(n_frames, n_molecules, 3, 3)
    atoms = centres[:, :, None] + np.einsum("fmij,aj->fmai", turns, GEOMETRY)
    whole = atoms.reshape(n_frames, -1, 3)
    result = mdtraj.Trajectory(
        np.mod(whole, boxes[:, None]),
        topology(n_molecules),
        time=np.arange(1.0, n_frames + 1.0),
        unitcell_lengths=boxes,
        unitcell_angles=np.full((n_frames, 3), 90.0),
    )
    return result, whole


def _rotations(rng, n):
    q, r = np.linalg.qr(rng.standard_normal((n, 3, 3)))
    return q * np.sign(np.einsum("nii->ni", r))[:, None, :]


def write_log(path, frames, temperature, seed=2):
    rng = np.random.default_rng(seed)
    n = frames.n_frames
    energy = -1000.0 + 5.0 * rng.standard_normal(n)
    kelvin = temperature + 2.0 * rng.standard_normal(n)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["time_ps", "potential_energy_kJ_mol", "volume_nm3", "temperature_K"])
        writer.writerows(zip(frames.time, energy, frames.unitcell_volumes, kelvin))


def content(**changes):
    """A legal config of two training states and one test state."""
    states = [
        {"id": name, "temperature": t, "pressure": 1.0, "trajectory": f"{name}.xtc", "use": use}
        for name, t, use in (("cold", 280, "train"), ("hot", 320, "train"), ("warm", 300, "test"))
    ]
    result = {
        "campaign": "waters",
        "system": {"topology": "topology.pdb", "mapping": "water.yaml"},
        "states": states,
        "model": {
            "terms": [
                {"kind": "pair", "sites": ["W", "W"], "r_cut": 0.8, "n_basis": 8},
                {"kind": "volume", "order": 2},
            ]
        },
    }
    return {**result, **changes}


def write_campaign(folder, config=None, mapping=None, **options):
    """Write topology, mapping, trajectories and config to a folder; return the config's path."""
    for seed, name in enumerate(("cold", "hot", "warm"), start=1):
        frames, _ = trajectory(seed=seed, **options)
        frames.save_xtc(str(folder / f"{name}.xtc"))
    frames[0].save_pdb(str(folder / "topology.pdb"))
    (folder / "water.yaml").write_text(yaml.safe_dump(mapping or MAPPING))
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(config or content()))
    return path
