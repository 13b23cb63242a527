"""Force maps: which sums of atomistic forces are forces on sites, and which cannot be."""

import mdtraj
import numpy as np
import pytest
from mdtraj.formats import TRRTrajectoryFile

import molecules
import waters
from remcg import config, mapped_forces, mapping
from remcg.errors import InputError
from remcg.io import read_h5


def chain(elements, bonds, name="MOL", n_molecules=1):
    """Molecules of one residue with atoms A1, A2, ..."""
    topology = mdtraj.Topology()
    for _ in range(n_molecules):
        residue = topology.add_residue(name, topology.add_chain())
        atoms = [
            topology.add_atom(f"A{i}", mdtraj.element.get_by_symbol(element), residue)
            for i, element in enumerate(elements, start=1)
        ]
        for i, j in bonds:
            topology.add_bond(atoms[i - 1], atoms[j - 1])
    return topology


CARBONS = chain("CCCC", [(1, 2), (2, 3), (3, 4)], n_molecules=2)


def sites_of(topology, **sites):
    """Sites NAME=(atoms, weights) of the residue MOL."""
    rules = tuple(mapping.SiteMap(name, name, *each) for name, each in sites.items())
    return mapping.build_sites(topology, {"MOL": mapping.ResidueMap(rules)})


def assert_valid(operator, sites):
    """sum_i b_Ii c_Ji is 1 for I = J and 0 for others."""
    np.testing.assert_allclose(
        (operator @ sites.matrix.T).toarray(), np.eye(sites.n_sites), atol=1e-9
    )


@pytest.mark.parametrize("weights", ["mass", "geometric", [1, 3]])
def test_atoms_of_one_site_only_have_their_forces_added_up(weights):
    sites = sites_of(CARBONS, A=(["A1", "A2"], weights), B=(["A3", "A4"], weights))
    operator = mapped_forces.force_operator(CARBONS, sites)
    np.testing.assert_array_equal(operator.toarray()[0], [1, 1, 0, 0, 0, 0, 0, 0])
    assert_valid(operator, sites)


def test_the_only_site_of_a_molecule_has_the_forces_on_all_of_its_atoms():
    sites = sites_of(CARBONS, A=(["A2"], "mass"))
    operator = mapped_forces.force_operator(CARBONS, sites)
    np.testing.assert_array_equal(operator.toarray()[1], [0, 0, 0, 0, 1, 1, 1, 1])
    assert_valid(operator, sites)


def test_sites_that_share_an_atom_have_a_force_map_too():
    sites = sites_of(CARBONS, A=(["A1", "A2"], "geometric"), B=(["A2", "A3"], "geometric"))
    operator = mapped_forces.force_operator(CARBONS, sites)
    assert_valid(operator, sites)
    weights = sites.matrix.toarray()
    np.testing.assert_allclose(operator.toarray(), np.linalg.pinv(weights).T, atol=1e-9)


def test_left_out_hydrogens_count_with_the_atom_that_holds_them():
    topology = chain("CHHCHH", [(1, 2), (1, 3), (1, 4), (4, 5), (4, 6)])
    sites = sites_of(topology, A=(["A1"], "mass"), B=(["A4"], "mass"))
    operator = mapped_forces.force_operator(topology, sites)
    np.testing.assert_allclose(operator.toarray(), [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])


def test_known_rigid_bonds_replace_the_assumed_ones():
    topology = chain("CHCH", [(1, 2), (1, 3), (3, 4)])
    sites = sites_of(topology, A=(["A1"], "mass"), B=(["A3"], "mass"))
    operator = mapped_forces.force_operator(topology, sites, rigid=())
    np.testing.assert_allclose(operator.toarray(), [[1, 0, 0, 0], [0, 0, 1, 0]])


def test_forces_of_rigid_bonds_cancel():
    random = np.random.default_rng(1)
    sites = sites_of(CARBONS, A=(["A1", "A2", "A3"], "geometric"), B=(["A3", "A4"], [1, 2]))
    operator = mapped_forces.force_operator(CARBONS, sites, rigid=[(0, 1), (4, 5)])
    assert_valid(operator, sites)
    push = random.normal(size=3)
    forces = np.zeros((8, 3))
    forces[0], forces[1] = push, -push
    np.testing.assert_allclose(operator @ forces, 0.0, atol=1e-12)


def test_the_mapped_force_is_the_gradient_of_what_the_sites_feel():
    """A quadratic potential of all atoms: its mean force at fixed sites is known exactly."""
    random = np.random.default_rng(2)
    sites = sites_of(
        chain("CCCC", [(1, 2), (2, 3), (3, 4)]),
        A=(["A1", "A2"], "geometric"),
        B=(["A2", "A3", "A4"], [1, 2, 2]),
    )
    root = random.normal(size=(4, 4))
    stiffness = root @ root.T + np.eye(4)
    weights = sites.matrix.toarray()
    expected = np.linalg.inv(weights @ np.linalg.inv(stiffness) @ weights.T)
    # the mean of atoms at fixed sites R is K^-1 M^T (M K^-1 M^T)^-1 R
    mean = np.linalg.inv(stiffness) @ weights.T @ expected
    operator = mapped_forces.force_operator(chain("CCCC", [(1, 2), (2, 3), (3, 4)]), sites)
    np.testing.assert_allclose(operator @ (-stiffness @ mean), -expected, atol=1e-9)


@pytest.mark.parametrize(
    "sites",
    [
        dict(A=(["A1", "A2"], "geometric"), B=(["A2", "A3"], "geometric")),
        dict(A=(["A1", "A2"], "mass"), B=(["A3"], "mass")),
    ],
    ids=["a shared atom", "a bond between sites"],
)
def test_sites_that_rigid_bonds_tie_together_have_no_force_map(sites):
    topology = chain("OHH", [(1, 2), (1, 3)])
    built = sites_of(topology, **sites)
    with pytest.raises(
        InputError, match=r"bonds to hydrogen, .* MOL0-A1, .* tie the sites A and B"
    ):
        mapped_forces.force_operator(topology, built)
    with pytest.raises(InputError, match=r"the rigid bonds of .* put atoms that are bound rigidly"):
        mapped_forces.force_operator(topology, built, rigid=[(0, 1), (0, 2)])


def test_rigid_water_split_into_sites_is_refused_where_openmm_computes_forces():
    rules = (mapping.SiteMap("O", "O", ["O"]), mapping.SiteMap("H", "H", ["H1", "H2"]))
    topology = waters.topology(27)
    sites = mapping.build_sites(topology, {"HOH": mapping.ResidueMap(rules)})
    source = mapped_forces.open_forces(["s.xtc"], "s", ["spce.xml"], 0.9, topology, sites)
    frames, _ = waters.trajectory(n_frames=1)
    with pytest.raises(InputError, match="the rigid bonds of HOH1-O, HOH1-H1, HOH1-H2 tie"):
        source(frames.xyz.astype(float), frames.unitcell_lengths)


def test_forces_in_a_skew_box_are_minus_the_slope_of_the_energy():
    import openmm
    from openmm import app, unit

    box = np.array([[2.0, 0.0, 0.0], [-0.6, 2.1, 0.0], [1.2, 0.9, 1.9]])
    topology, random = waters.topology(8), np.random.default_rng(6)
    lattice = np.stack(np.meshgrid(*[[0.1, 0.6]] * 3), axis=-1).reshape(-1, 1, 3) @ box
    start = (lattice + waters.GEOMETRY + random.normal(0.0, 0.02, (8, 1, 3))).reshape(-1, 3)
    rules = mapping.ResidueMap((mapping.SiteMap("W", "W", ["O", "H1", "H2"]),))
    sites = mapping.build_sites(topology, {"HOH": rules})
    source = mapped_forces.open_forces(["s.xtc"], "s", ["spce.xml"], 0.9, topology, sites)
    found = source(start[None], box[None])[0]
    atoms = topology.to_openmm()
    reduced = np.array([box[0], box[1], box[2] - box[0]])  # the same lattice as OpenMM wants it
    atoms.setPeriodicBoxVectors(reduced * unit.nanometer)
    system = app.ForceField("spce.xml").createSystem(
        atoms, nonbondedMethod=app.PME, nonbondedCutoff=0.9, rigidWater=True
    )
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPeriodicBoxVectors(*reduced)
    energies = []
    for step in (1e-4, -1e-4):
        moved = start.copy()
        moved[6:9, 2] += step
        context.setPositions(moved)
        energy = context.getState(getEnergy=True).getPotentialEnergy()
        energies.append(energy.value_in_unit(unit.kilojoule_per_mole))
    slope = (energies[0] - energies[1]) / 2e-4
    assert found[2, 2] == pytest.approx(-slope, rel=5e-3, abs=0.5)


def test_forces_follow_the_selection_of_frames(tmp_path):
    content = waters.content(rem={"method": "force_matching"})
    for state in content["states"]:
        state["trajectory"] = state["trajectory"].replace("xtc", "trr")
    content["states"][0] |= {"start": 5, "end": 25, "stride": 3}
    path = waters.write_campaign(tmp_path, content)
    pushes = np.random.default_rng(3).normal(size=(30, 81, 3)).astype("f4")
    frames, _ = waters.trajectory()
    for name in ("cold", "hot", "warm"):
        with TRRTrajectoryFile(str(tmp_path / f"{name}.trr"), "w") as file:
            boxes = np.ascontiguousarray(frames.unitcell_vectors, "f4")
            arguments = frames.time.astype("f4"), np.arange(30, dtype="i4"), boxes
            file._write(frames.xyz, *arguments, np.zeros(30, "f4"), np.zeros_like(pushes), pushes)
    campaign = config.load(path)
    mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")
    arrays, _ = read_h5(tmp_path / "m.h5")
    chosen = np.arange(4, 25, 3)
    np.testing.assert_array_equal(arrays["frame"], chosen)
    expected = pushes[chosen].reshape(-1, 27, 3, 3).sum(axis=2)
    np.testing.assert_allclose(arrays["forces"], expected, atol=1e-5)


def write_trr(path, frames, pushes):
    n = len(frames.xyz)
    with TRRTrajectoryFile(str(path), "w") as file:
        boxes = np.ascontiguousarray(frames.unitcell_vectors, "f4")
        arguments = frames.time.astype("f4"), np.arange(n, dtype="i4"), boxes
        zeros = np.zeros(n, "f4"), np.zeros_like(pushes)
        file._write(frames.xyz.astype("f4"), *arguments, *zeros, pushes)


def test_a_campaign_of_chains_maps_their_forces_when_told_to(tmp_path):
    top, box = molecules.carbons(4, 5), 3.0 * np.eye(3)
    frames = molecules.stored(molecules.walks(4, 6, 5), top, box)
    pushes = np.random.default_rng(4).normal(size=(6, 20, 3)).astype("f4")
    sites = {"A": {"atoms": ["C1", "C2"]}, "B": {"atoms": ["C3", "C4"]}}
    content = waters.content()
    for state in content["states"]:
        state["trajectory"] = state["trajectory"].replace("xtc", "trr")
    content["system"]["forces"] = True
    pair, volume = content["model"]["terms"]
    pairs = [{**pair, "sites": list(names)} for names in ("AA", "AB", "BB")]
    bond = {"kind": "bond", "sites": ["A", "B"], "form": "harmonic"}
    content["model"]["terms"] = [*pairs, bond, volume]
    path = waters.write_campaign(tmp_path, content, {"CHN": {"sites": sites}}, n_frames=2)
    frames[0].save_pdb(str(tmp_path / "topology.pdb"))
    for name in ("cold", "hot", "warm"):
        write_trr(tmp_path / f"{name}.trr", frames, pushes)
    campaign = config.load(path)
    assert campaign.needs_forces("warm") and not campaign.matches_forces("cold")
    mapping.map_trajectory(campaign, "warm", tmp_path / "m.h5", tmp_path / "m.json")
    expected = pushes.reshape(6, 10, 2, 3).sum(axis=2)
    np.testing.assert_allclose(read_h5(tmp_path / "m.h5")[0]["forces"], expected, atol=1e-5)


def test_forces_on_sites_are_refused_where_nothing_tells_those_on_atoms(tmp_path):
    content = waters.content()
    content["system"]["forces"] = True
    with pytest.raises(
        InputError, match=r"system\.forces: true needs .* cold\.xtc of cold has none"
    ):
        config.load(waters.write_campaign(tmp_path, content, n_frames=2))
