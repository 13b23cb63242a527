"""Atoms come back exactly where the sites are, sampled as they should be."""

import subprocess
import sys
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg import backmap
from remcg.backmap import checks, sampling
from remcg.backmap.linear import Projector
from remcg.backmap.placement import make_whole, place
from remcg.errors import InputError
from remcg.io import read_h5
from remcg.units import KB

MASSES = np.array([15.99943, 1.007947, 1.007947])
WATER = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333314, 0.0942816, 0.0]])
N_SIDE, EDGE = 4, 1.25
SOURCE = Path(__file__).parents[1] / "resources" / "spce" / "topology.pdb"


def lattice(n_side, edge):
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), axis=-1)
    return (grid.reshape(-1, 3) + 0.5) * edge / n_side


def molecules_of(n_molecules, n_atoms):
    return list(np.arange(n_molecules * n_atoms).reshape(n_molecules, n_atoms))


def mapping(n_molecules, weights):
    weights = np.asarray(weights) / np.sum(weights)
    n_atoms = n_molecules * len(weights)
    rows = np.repeat(np.arange(n_molecules), len(weights))
    return csr_matrix((np.tile(weights, n_molecules), (rows, np.arange(n_atoms))))


@pytest.fixture(scope="module")
def water(tmp_path_factory):
    """64 waters: a topology file and the arguments of backmap that belong to it."""
    n = N_SIDE**3
    atoms = mdtraj.load(str(SOURCE)).atom_slice(np.arange(3 * n))
    atoms.xyz = (lattice(N_SIDE, EDGE)[:, None] + WATER).reshape(1, -1, 3)
    atoms.unitcell_lengths = np.full((1, 3), EDGE)
    path = tmp_path_factory.mktemp("water") / "topology.pdb"
    atoms.save_pdb(str(path))
    rng = np.random.default_rng(3)
    sites = lattice(N_SIDE, EDGE) + 0.01 * rng.normal(size=(n, 3))
    return {
        "sites": np.array([sites, sites + 5 * EDGE * rng.integers(-1, 2, size=(n, 3))]),
        "boxes": np.full((2, 3), EDGE),
        "topology": path,
        "operator": mapping(n, MASSES),
        "molecules": molecules_of(n, 3),
        "templates": np.tile(WATER, (n, 1))[None],
        "force_field": ["spce.xml"],
        "temperature": 300.0,
        "seed": 7,
        "steps": 60,
    }


@pytest.fixture(scope="module")
def backmapped(water):
    return backmap.backmap(**water)


def water_distances(positions):
    frame = positions.reshape(-1, 3, 3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    return np.array([np.linalg.norm(frame[:, a] - frame[:, b], axis=-1) for a, b in pairs])


def test_the_sites_of_the_result_are_the_given_sites(water, backmapped):
    for positions, sites in zip(backmapped["positions"], water["sites"]):
        difference = water["operator"] @ positions - sites
        difference -= EDGE * np.round(difference / EDGE)
        assert np.abs(difference).max() < 1e-9
    assert backmapped["residual"].max() < 1e-9
    assert backmapped["positions"].dtype == np.float64


def test_the_molecules_of_the_result_keep_their_rigid_shape(backmapped):
    for positions in backmapped["positions"]:
        expected = water_distances(WATER)
        assert np.abs(water_distances(positions) - expected).max() < 1e-5


def test_sampling_lowers_the_energy_of_a_random_placement(water, backmapped):
    """Random orientations are near 0 kJ/mol per molecule, liquid water is near -45."""
    assert (backmapped["energy"] / len(water["molecules"]) < -30).all()


def test_a_seed_fixes_the_result_and_another_gives_another(water, backmapped):
    first = {**water, "sites": water["sites"][:1], "boxes": water["boxes"][:1], "steps": 10}
    same = [backmap.backmap(**first)["positions"] for _ in range(2)]
    other = backmap.backmap(**{**first, "seed": 8})["positions"]
    assert np.array_equal(*same)
    assert np.abs(other - same[0]).max() > 0.01


def test_geometric_weights_are_met_exactly_without_breaking_rigid_water(water):
    case = {**water, "operator": mapping(len(water["molecules"]), [1, 1, 1]), "steps": 20}
    arrays = backmap.backmap(**case)
    assert arrays["residual"].max() < 1e-9
    expected = water_distances(WATER)
    assert np.abs(water_distances(arrays["positions"][0]) - expected).max() < 1e-5


def test_the_written_file_and_its_view_can_be_read_again(water, backmapped, tmp_path):
    backmap.write_backmapped(tmp_path / "T300.h5", backmapped, water["topology"], "T300")
    arrays, attributes = read_h5(tmp_path / "T300.h5")
    assert np.array_equal(arrays["positions"], backmapped["positions"])
    assert attributes["state"] == "T300"
    view = mdtraj.load(str(tmp_path / "T300.pdb"))
    difference = view.xyz[0] - backmapped["positions"][0]
    assert np.abs(difference).max() < 1e-3
    assert view.unitcell_lengths[0] == pytest.approx(EDGE)


DIMER = """<ForceField>
 <AtomTypes>
  <Type name="D" class="D" element="C" mass="2.0"/>
 </AtomTypes>
 <Residues>
  <Residue name="DIM">
   <Atom name="C1" type="D"/><Atom name="C2" type="D"/><Bond from="0" to="1"/>
  </Residue>
 </Residues>
 <HarmonicBondForce><Bond class1="D" class2="D" length="1.0" k="{k}"/></HarmonicBondForce>
 <NonbondedForce coulomb14scale="1" lj14scale="1">
  <Atom type="D" charge="0" sigma="0.1" epsilon="0"/>
 </NonbondedForce>
</ForceField>"""


def test_a_harmonic_dimer_at_a_fixed_centre_has_its_closed_form_distance(tmp_path):
    """p(r) ~ r^2 exp(-25 (r - 1)^2): mean 53/51 and variance 0.01924644, within 4 SE."""
    n_side, edge = 5, 3.3
    n = n_side**3
    (tmp_path / "dimer.xml").write_text(DIMER.format(k=50.0 * KB * 300.0))
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(n):
        residue = topology.add_residue("DIM", chain)
        pair = [topology.add_atom(f"C{i}", mdtraj.element.carbon, residue) for i in (1, 2)]
        topology.add_bond(*pair)
    shape = np.array([[-0.5, 0, 0], [0.5, 0, 0]])
    centres = lattice(n_side, edge)
    start = (centres[:, None] + shape).reshape(1, -1, 3)
    angles, lengths = np.full((1, 3), 90.0), np.full((1, 3), edge)
    mdtraj.Trajectory(start, topology, unitcell_lengths=lengths, unitcell_angles=angles).save_pdb(
        str(tmp_path / "dimer.pdb")
    )
    n_frames = 4
    arrays = backmap.backmap(
        np.tile(centres, (n_frames, 1, 1)),
        np.tile(lengths, (n_frames, 1)),
        tmp_path / "dimer.pdb",
        mapping(n, [1.0, 1.0]),
        molecules_of(n, 2),
        np.tile(shape, (n, 1))[None],
        [tmp_path / "dimer.xml"],
        300.0,
        seed=5,
        steps=800,
    )
    pairs = arrays["positions"].reshape(-1, 2, 3)
    r = np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=-1)
    assert arrays["residual"].max() < 1e-9
    assert abs(r.mean() - 53 / 51) < 4 * np.sqrt(0.01924644 / len(r))
    assert abs(r.var() / 0.01924644 - 1) < 4 * np.sqrt(2 / len(r))


def test_the_projection_is_the_mass_metric_right_inverse():
    rng = np.random.default_rng(1)
    masses = rng.uniform(1, 16, 9)
    operator = csr_matrix(rng.random((3, 9)) * (rng.random((3, 9)) < 0.7))
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(3, 3))
    dense, inverse = operator.toarray(), np.diag(1 / masses)
    right = inverse @ dense.T @ np.linalg.inv(dense @ inverse @ dense.T)
    moved = Projector(operator, masses).project(x, y)
    assert np.abs(moved - (x + right @ (y - dense @ x))).max() < 1e-12
    assert np.abs(dense @ moved - y).max() < 1e-12


def test_a_centre_of_mass_site_moves_its_molecule_as_a_rigid_body():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(6, 3))
    moved = Projector(mapping(2, MASSES), np.tile(MASSES, 2)).project(x, rng.normal(size=(2, 3)))
    shift = (moved - x).reshape(2, 3, 3)
    assert np.abs(shift - shift[:, :1]).max() < 1e-12


def test_orientations_are_uniform_and_proper():
    """Elements of a uniform rotation have mean 0 and variance 1/3: within 4 SE over 9 elements."""
    n = 3000
    shape = np.eye(4, 3) - np.eye(4, 3).mean(axis=0)
    projector = Projector(mapping(n, np.ones(4)), np.ones(4 * n))
    species, molecules = ["X"] * n, molecules_of(n, 4)
    rng = np.random.default_rng(4)
    x = place(np.tile(shape, (n, 1))[None], species, molecules, np.zeros((n, 3)), projector, rng)
    arms = x.reshape(n, 4, 3)[:, :3] - x.reshape(n, 4, 3)[:, 3:]
    assert np.linalg.det(arms) == pytest.approx(1.0)
    assert np.abs(arms.mean(axis=0)).max() < 4.5 * np.sqrt(1 / 3 / n)
    assert np.abs((arms**2).mean(axis=0) - 1 / 3).max() < 4.5 * np.sqrt(4 / 45 / n)


def test_a_molecule_of_several_sites_is_turned_onto_them_without_being_mirrored():
    """Its own shape, wherever it is and however it lies, comes back exactly."""
    rng, n = np.random.default_rng(12), 20
    shape = rng.normal(size=(5, 3))
    weights = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 1.0, 0, 0], [0, 0, 0, 0.3, 0.7]])
    projector = Projector(block_diag([weights] * n), np.ones(5 * n))
    turns = Rotation.random(n, rng).as_matrix()
    there = np.einsum("mij,aj->mai", turns, shape) + rng.uniform(0, 5, (n, 1, 3))
    sites = projector.map(there.reshape(-1, 3))
    template = np.tile(shape, (n, 1))[None]
    x = place(template, ["X"] * n, molecules_of(n, 5), sites, projector, rng)
    np.testing.assert_allclose(x.reshape(n, 5, 3), there, atol=1e-10)


def test_broken_molecules_are_made_whole():
    rng = np.random.default_rng(5)
    whole = (rng.random((2, 5, 1, 3)) * 2 + 0.2 * rng.normal(size=(2, 5, 3, 3))).reshape(2, 15, 3)
    boxes = np.array([[2.0, 2.1, 2.2], [2.3, 2.2, 2.1]])
    mended = make_whole(np.mod(whole, boxes[:, None]), boxes, molecules_of(5, 3))
    offset = (mended - whole) / boxes[:, None]
    assert np.abs(offset - np.round(offset)).max() < 1e-12
    assert np.abs(offset.reshape(2, 5, 3, 3) - offset.reshape(2, 5, 3, 3)[:, :, :1]).max() < 1e-12


def test_templates_come_whole_from_a_trajectory(water, tmp_path):
    frames = mdtraj.load(str(water["topology"]))
    frames.xyz = np.mod(frames.xyz, EDGE)
    frames.save_xtc(str(tmp_path / "frames.xtc"))
    found = backmap.read_templates(tmp_path / "frames.xtc", water["topology"], water["molecules"])
    assert np.abs(water_distances(found[0]) - water_distances(WATER)).max() < 3e-3


def test_clashes_agree_with_a_naive_count():
    rng = np.random.default_rng(6)
    n, box = 60, np.array([1.2, 1.3, 1.4])
    positions = rng.random((n, 3)) * 3
    elements, molecule = ["O", "H", "C"] * (n // 3), np.repeat(np.arange(n // 3), 3)
    radius = {"O": 0.152, "C": 0.17}
    count = 0
    for i in range(n):
        for j in range(i):
            d = positions[i] - positions[j]
            r = np.linalg.norm(d - box * np.round(d / box))
            heavy = "H" not in (elements[i], elements[j])
            close = heavy and r < 0.8 * (radius[elements[i]] + radius[elements[j]])
            count += molecule[i] != molecule[j] and (close or r < 0.12)
    assert count > 10
    assert checks.count_clashes(positions, box, elements, molecule) == count


def test_a_mirrored_molecule_is_an_inversion():
    elements = ["C", "H", "F", "Cl", "Br"]
    centres = checks.stereocentres(elements, [(0, i) for i in range(1, 5)])
    assert centres[:, 0].tolist() == [0]
    shape = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    assert checks.count_inversions(shape, shape[None], centres, ["X"]) == 0
    assert checks.count_inversions(-shape, shape[None], centres, ["X"]) == 1


def test_four_equal_substituents_are_no_stereocentre():
    assert len(checks.stereocentres(list("CHHHH"), [(0, i) for i in range(1, 5)])) == 0
    propane = [(0, 1), (1, 2), (1, 3), (1, 4)]
    assert len(checks.stereocentres(list("CCCHF"), propane)) == 0


def test_the_summary_has_only_quantities_that_exist(backmapped):
    n = N_SIDE**3
    numbers = backmap.summarise(backmapped, n)
    assert set(numbers) == {"max_residual_nm", "clashes", "n_eff_draws"}
    assert numbers["n_eff_draws"] == 2
    reference = backmapped["energy"].mean() - 2.0 * n + np.tile([-n, n], 50)
    numbers = backmap.summarise(backmapped, n, reference)
    assert numbers["energy_gap_kJ_mol"] == pytest.approx(2.0)
    assert numbers["energy_gap_se"] > 0


def test_chosen_frames_are_spread_over_the_trajectory():
    assert backmap.evenly_spaced(100, 4).tolist() == [12, 37, 62, 87]
    assert backmap.evenly_spaced(2, 4).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"force_field": ["no-such.xml"]}, r"cannot read the force field \['no-such.xml'\]"),
        ({"force_field": []}, "system.force_field is empty"),
        ({"force_field": ["amber14/protein.ff14SB.xml"]}, "does not fit the topology"),
        ({"operator": mapping(10, MASSES)}, "has 192 atoms, but the mapping was built for 30"),
        ({"templates": np.zeros((1, 9, 3))}, "the template frames have 9"),
        ({"sites": np.zeros((2, 3, 3))}, "have 3 sites and 2 boxes"),
        ({"boxes": np.full((1, 3), EDGE)}, "1 boxes for 2 frames"),
        ({"boxes": np.full((2, 3), np.nan)}, "not finite"),
        ({"topology": "missing.pdb"}, "missing.pdb cannot be read"),
    ],
)
def test_input_that_does_not_belong_together_is_refused(water, change, message):
    with pytest.raises(InputError, match=message):
        backmap.backmap(**{**water, **change})


def test_templates_that_cannot_be_read_are_refused(water, tmp_path):
    (tmp_path / "broken.xtc").write_bytes(b"no trajectory")
    with pytest.raises(InputError, match=r"no template molecules can be read from .*broken.xtc"):
        backmap.read_templates(tmp_path / "broken.xtc", water["topology"], water["molecules"])


def test_importing_the_package_and_its_exports_does_not_load_openmm():
    code = "import sys, remcg, remcg.export; sys.exit('openmm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_restraint_is_not_part_of_the_energy(water):
    atoms = backmap.load_topology(water["topology"]).to_openmm()
    sampler = sampling.Sampler(
        atoms, ["spce.xml"], water["operator"], water["boxes"], 300.0, 5e5, 1, 0.9
    )
    positions = (lattice(N_SIDE, EDGE)[:, None] + WATER).reshape(-1, 3)
    energies = []
    for shift in (0.0, 0.1):
        sampler.start(positions, water["operator"] @ positions + shift, water["boxes"][0])
        energies.append(sampler.energy(positions))
    assert energies[0] == pytest.approx(energies[1], rel=1e-6)
