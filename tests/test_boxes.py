import mdtraj
import numpy as np
import pytest

from remcg.config import ROOT
from remcg.errors import InputError
from remcg.reference import boxes

RESOURCES = ROOT / "resources"
TEMPLATES = {
    "HEX": RESOURCES / "hexane" / "HEX.pdb",
    "MOH": RESOURCES / "methanol-water" / "MOH.pdb",
    "HOH": RESOURCES / "methanol-water" / "HOH.pdb",
}


def read(folder, molecules, **settings):
    settings = {"density": 300.0, "seed": 3} | settings
    path = folder / "box.pdb"
    path.write_text(boxes.pdb_text(*boxes.fill(TEMPLATES, molecules, **settings)))
    return mdtraj.load(str(path))


def test_molecules_of_a_new_box_do_not_overlap_across_its_faces_either(tmp_path):
    box = read(tmp_path, {"HEX": 12})
    positions, edge = box.xyz[0].astype(float), float(box.unitcell_lengths[0, 0])
    step = positions[:, None] - positions[None]
    step -= edge * np.round(step / edge)
    residue = np.array([atom.residue.index for atom in box.topology.atoms])
    distance = np.linalg.norm(step, axis=2)[residue[:, None] != residue[None]]
    assert distance.min() > boxes.CLOSEST - 0.001  # PDB rounds to 1e-4 nm


def test_a_new_box_has_the_molecules_in_the_order_that_was_asked_for_with_their_bonds(tmp_path):
    box = read(tmp_path, {"MOH": 5, "HOH": 7})
    assert [r.name for r in box.topology.residues] == ["MOH"] * 5 + ["HOH"] * 7
    assert box.topology.n_bonds == 2 * 12


def test_molecules_are_turned_and_moved_but_keep_their_shape_and_hand(tmp_path):
    box = read(tmp_path, {"HEX": 8})
    template = mdtraj.load(str(TEMPLATES["HEX"])).xyz[0].astype(float)
    molecules = box.xyz[0].reshape(8, 20, 3).astype(float)

    def shape(x):
        return np.linalg.norm(x[:, None] - x[None], axis=2)

    def hand(x):  # of a methyl group's hydrogens, seen along its bond
        return np.linalg.det(x[1:4] - x[4])

    for positions in molecules:
        np.testing.assert_allclose(shape(positions), shape(template), atol=5e-4)
        assert hand(positions) == pytest.approx(hand(template), abs=1e-4)
    directions = molecules[:, 16] - molecules[:, 0]
    assert np.linalg.matrix_rank(directions / np.linalg.norm(directions), tol=0.05) == 3


def test_the_density_of_a_new_box_is_that_which_was_asked_for_where_the_molecules_fit(tmp_path):
    box = read(tmp_path, {"HOH": 50}, density=600.0)
    mass = 50 * 18.01528 * 1.66053906892
    assert mass / box.unitcell_volumes[0] == pytest.approx(600.0, rel=2e-4)


def test_a_box_that_is_too_dense_grows_unless_its_density_is_fixed(tmp_path):
    crowded = read(tmp_path, {"HEX": 8}, density=900.0)
    mass = 8 * 86.178 * 1.66053906892
    assert mass / crowded.unitcell_volumes[0] < 899.0
    with pytest.raises(InputError, match=r"8 molecules do not fit without overlap .* lower"):
        read(tmp_path, {"HEX": 8}, density=900.0, fixed=True)


def test_the_same_seed_makes_the_same_box_and_another_seed_another():
    first, again, other = (
        boxes.pdb_text(*boxes.fill(TEMPLATES, {"HOH": 9}, 300.0, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_template_that_is_no_pdb_file_is_refused(tmp_path):
    path = tmp_path / "HEX.pdb"
    path.write_text("this is no molecule\n")
    with pytest.raises(InputError, match=r"reference\.templates"):
        boxes.fill({"HEX": path}, {"HEX": 2}, 300.0, 1)


def test_the_program_writes_a_box(tmp_path):
    path = tmp_path / "box.pdb"
    boxes.main([str(path), "--molecules", f"{TEMPLATES['HOH']}:4", "--density", "300"])
    assert mdtraj.load(str(path)).n_atoms == 12


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("hexane/topology.pdb", {"HEX": 150}),
        ("hexane-trappe/topology.pdb", {"HXU": 150}),
        ("methanol-water/x25.pdb", {"MOH": 128, "HOH": 384}),
        ("methanol-water/x50.pdb", {"MOH": 216, "HOH": 216}),
        ("methanol-water/x75.pdb", {"MOH": 288, "HOH": 96}),
        ("pentaalanine/topology.pdb", {"ACE": 1, "ALA": 5, "NME": 1}),
    ],
)
def test_the_start_boxes_that_come_with_the_campaigns_hold_their_molecules(name, counts):
    topology = mdtraj.load_topology(str(RESOURCES / name))
    names = [residue.name for residue in topology.residues]
    assert {key: names.count(key) for key in names} == counts
    n_molecules = 1 if "ALA" in counts else sum(counts.values())
    assert topology.n_bonds == topology.n_atoms - n_molecules  # trees: no rings


def test_all_residues_of_pentaalanine_are_of_the_l_form():
    trajectory = mdtraj.load(str(RESOURCES / "pentaalanine" / "topology.pdb"))
    for residue in trajectory.topology.residues:
        if residue.name == "ALA":
            n, ca, c, cb = (
                trajectory.xyz[0, next(residue.atoms_by_name(name)).index]
                for name in ("N", "CA", "C", "CB")
            )
            assert np.dot(np.cross(n - ca, c - ca), cb - ca) > 0  # seen from H: CO, R, N clockwise
