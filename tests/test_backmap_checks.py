"""Defects of backmapped structures are found where they were put, and nowhere else."""

from pathlib import Path

import mdtraj
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from remcg.backmap import checks
from remcg.errors import InputError

ROOT = Path(__file__).parents[1]
PEPTIDE = ROOT / "resources" / "pentaalanine" / "topology.pdb"
WATER = ROOT / "resources" / "spce"
SKEW = np.array([[1.3, 0, 0], [0.4, 1.2, 0], [-0.3, 0.5, 1.4]])
RING = 0.139  # nm, edge of a benzene ring


@pytest.fixture(scope="module")
def peptide():
    """(topology, 60 frames of dynamics in vacuum) of Ace-Ala5-Nme."""
    import openmm
    from openmm import app, unit

    loaded = mdtraj.load(str(PEPTIDE))
    field = app.ForceField("amber14/protein.ff14SB.xml")
    topology = loaded.topology.to_openmm()
    system = field.createSystem(topology, constraints=app.HBonds)
    integrator = openmm.LangevinMiddleIntegrator(400 * unit.kelvin, 5.0, 0.002)
    integrator.setRandomNumberSeed(3)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1"})
    context.setPositions(loaded.xyz[0].astype(float))
    frames = []
    for _ in range(60):
        integrator.step(60)
        state = context.getState(getPositions=True)
        frames.append(state.getPositions(asNumpy=True)._value)
    return loaded.topology, np.array(frames)


@pytest.fixture(scope="module")
def checker(peptide):
    topology, frames = peptide
    return checks.Checker(topology, [np.arange(topology.n_atoms)], frames[:40])


def hexagon(n=6):
    angle = 2 * np.pi * np.arange(n) / n
    return 0.5 * RING / np.sin(np.pi / n) * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)


def toluene():
    """Atoms of a planar toluene: elements, bonds, positions."""
    ring = hexagon()
    out = ring * (1 + 0.109 / RING)
    methyl = ring[0] * (1 + 0.15 / RING)
    arms = methyl + 0.109 * np.array([[0.33, 0.94, 0], [0.33, -0.47, 0.82], [0.33, -0.47, -0.82]])
    positions = np.concatenate([ring, methyl[None], out[1:], arms])
    bonds = [(k, (k + 1) % 6) for k in range(6)] + [(0, 6)]
    bonds += [(k, 6 + k) for k in range(1, 6)] + [(6, 12 + k) for k in range(3)]
    return list("CCCCCCC") + ["H"] * 8, np.array(bonds), positions


def two_toluenes(offset):
    """A second toluene whose bond to the methyl group lies along z through ``offset``."""
    elements, bonds, first = toluene()
    axis = first[6] - first[0]
    turn, _ = Rotation.align_vectors([[0, 0, 1.0]], [axis])
    second = turn.apply(first - 0.5 * (first[0] + first[6])) + offset
    return elements * 2, np.concatenate([bonds, bonds + 15]), np.concatenate([first, second])


def test_a_ring_that_a_bond_of_another_molecule_threads_is_found():
    elements, bonds, x = two_toluenes([0.0, 0.0, 0.0])
    rings = checks.rings(elements, bonds)
    assert [len(ring) for ring in rings] == [6, 6]
    assert checks.count_piercings(x, None, bonds, rings) == 1


def test_a_ring_is_not_threaded_by_a_bond_beside_it():
    for offset in ([0.7, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.7]):
        elements, bonds, x = two_toluenes(offset)
        assert checks.count_piercings(x, None, bonds, checks.rings(elements, bonds)) == 0


@pytest.mark.parametrize("box", [np.array([1.1, 1.2, 1.3]), SKEW])
def test_a_periodic_image_can_thread_a_ring_too(box):
    elements, bonds, x = two_toluenes([0.0, 0.0, 0.0])
    rings = checks.rings(elements, bonds)
    lattice = np.diag(box) if box.ndim == 1 else box
    rng = np.random.default_rng(1)
    for _ in range(5):
        moved = x + rng.uniform(-3, 3, 3)
        moved[15:] += rng.integers(-3, 4, 3) @ lattice
        assert checks.count_piercings(moved, box, bonds, rings) == 1
        assert checks.count_piercings(moved, None, bonds, rings) in (0, 1)


def crosses_naively(segment, ring):
    """Whether a segment meets the plane of a flat regular ring within it."""
    centre = ring.mean(axis=0)
    normal = np.cross(ring[0] - centre, ring[1] - centre)
    a, b = ((end - centre) @ normal for end in segment)
    if a * b > 0:
        return False
    at = segment[0] + a / (a - b) * (segment[1] - segment[0])
    edges = np.roll(ring, -1, axis=0) - ring
    return all(np.cross(edge, at - corner) @ normal > 0 for edge, corner in zip(edges, ring))


@pytest.mark.parametrize("n", [3, 5, 6, 8])
def test_random_segments_cross_a_ring_as_a_naive_test_says(n):
    rng = np.random.default_rng(n)
    ring = Rotation.random(rng=rng).apply(hexagon(n)) + np.array([0.3, -0.2, 5.0])
    segments = ring.mean(axis=0) + rng.normal(scale=0.15, size=(2000, 2, 3))
    found = checks._crosses(segments, np.tile(ring, (2000, 1, 1)), np.tile(ring.mean(0), (2000, 1)))
    expected = [crosses_naively(segment, ring) for segment in segments]
    assert 20 < sum(expected) < 1980
    assert found.tolist() == expected


def test_rings_are_the_shortest_ones_of_at_most_eight_atoms():
    naphthalene = [(k, (k + 1) % 10) for k in range(10)] + [(0, 5)]
    sizes = [len(ring) for ring in checks.rings(["C"] * 10, naphthalene)]
    assert sizes == [6, 6]
    nine = [(k, (k + 1) % 9) for k in range(9)]
    assert checks.rings(["C"] * 9, nine) == []
    water_with_a_bond_between_its_hydrogens = [(0, 1), (0, 2), (1, 2)]
    assert checks.rings(["O", "H", "H"], water_with_a_bond_between_its_hydrogens) == []


def test_frames_of_a_peptide_have_no_defect(peptide, checker):
    """All its amides and centres are watched, in frames that are not among the templates."""
    assert len(checker.turns) == 6
    assert len(checker.centres) == 5
    assert all(checker(x) == checks.Found(0, 0, 0, 0) for x in peptide[1][40:])


def test_an_inverted_centre_is_found(peptide, checker):
    x = peptide[1][50].copy()
    centre, a, b, c, d = checker.centres[2]
    symbols = [checker.elements[k] for k in (a, b, c, d)]
    hydrogen = (a, b, c, d)[symbols.index("H")]
    others = [k for k in (a, b, c, d) if k != hydrogen]
    normal = np.cross(x[others[1]] - x[others[0]], x[others[2]] - x[others[0]])
    normal /= np.linalg.norm(normal)
    x[hydrogen] -= 2 * ((x[hydrogen] - x[centre]) @ normal) * normal
    assert checker(x).inversions == 1
    assert checker(peptide[1][50] * [1, 1, -1]).inversions == 5


def haloform(n_molecules):
    """CHFClBr: a topology and one molecule, (5, 3) nm."""
    topology, symbols = mdtraj.Topology(), ["C", "H", "F", "Cl", "Br"]
    for _ in range(n_molecules):
        residue = topology.add_residue("HAL", topology.add_chain())
        atoms = [
            topology.add_atom(s.upper(), mdtraj.element.Element.getBySymbol(s), residue)
            for s in symbols
        ]
        for atom in atoms[1:]:
            topology.add_bond(atoms[0], atom)
    arms = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) / np.sqrt(3)
    return topology, np.concatenate([[[0, 0, 0]], arms * [[0.109], [0.136], [0.176], [0.194]]])


def test_mirror_images_in_a_racemic_mixture_are_told_apart():
    """Each molecule keeps its own handedness, though the other occurs in the templates too."""
    topology, shape = haloform(6)
    hands = [1, -1, 1, 1, -1, -1]
    x = np.concatenate([shape * [1, 1, hand] + [2 * k, 0, 0] for k, hand in enumerate(hands)])
    molecules = list(np.arange(30).reshape(6, 5))
    checker = checks.Checker(topology, molecules, np.tile(x, (3, 1, 1)))
    assert len(checker.centres) == 6 and checker(x).inversions == 0
    assert [checker.isomers[k] == checker.isomers[0] for k in range(6)] == [h == 1 for h in hands]
    x[5:10, 2] *= -1
    assert checker(x).inversions == 1


def test_a_centre_whose_hydrogen_is_united_with_it_is_watched_too(peptide):
    """(R)-2-butanol of united atoms: CH3, CH, OH, CH2-CH3; a planar carbon is no centre."""
    elements, bonds = ["C", "C", "O", "C", "C"], [(0, 1), (1, 2), (1, 3), (3, 4)]
    arms = 0.15 * np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1]]) / np.sqrt(3)
    x = np.array([arms[0], [0, 0, 0], arms[1], arms[2], arms[2] + [-0.1, 0.1, 0]])
    templates = x + 0.005 * np.random.default_rng(1).normal(size=(40, 5, 3))
    (centre,) = checks.united_centres(elements, bonds, templates)
    assert centre[0] == centre[4] == 1 and set(centre[1:4].tolist()) == {0, 2, 3}
    mirrored = templates[:1] * [1, 1, -1]
    assert checks.handedness(mirrored, centre[None]) == -checks.handedness(x, centre[None])
    assert len(checks.united_centres(elements, bonds, templates[:29])) == 0
    flat = templates * [1, 1, 0.02]
    assert len(checks.united_centres(elements, bonds, flat)) == 0
    topology, frames = peptide
    graph = [a.element.symbol for a in topology.atoms], checks.bonds_of(topology)
    assert len(checks.united_centres(*graph, frames)) == 0  # its carbonyl carbons are planar


def test_a_flipped_amide_is_found(peptide, checker):
    _, carbon, nitrogen, end = checker.turns[3]
    x = peptide[1][50].copy()
    x[end] = x[nitrogen] + Rotation.from_rotvec(
        np.pi * (x[nitrogen] - x[carbon]) / np.linalg.norm(x[nitrogen] - x[carbon])
    ).apply(x[end] - x[nitrogen])
    assert checker(x).cis_trans == 1


def test_a_double_bond_needs_ends_that_differ_and_enough_templates():
    ethene = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)]
    assert len(checks.double_bonds(list("CCHHHH"), ethene)) == 0
    assert len(checks.double_bonds(["C", "C", "H", "F", "H", "F"], ethene)) == 1
    ring = [(k, (k + 1) % 6) for k in range(6)]
    assert len(checks.double_bonds(["C"] * 6, ring)) == 0
    row = np.array([[2, 0, 1, 4]])
    flat = np.array(
        [[0.0, 0, 0], [0.13, 0, 0], [0, 0.1, 0], [0, -0.1, 0], [0.13, 0.1, 0], [0.13, -0.1, 0]]
    )
    assert len(checks.planar(row, ["X"], np.tile(flat, (29, 1, 1)))) == 0
    many = np.tile(flat, (30, 1, 1))
    assert len(checks.planar(row, ["X"], many)) == 1
    many[7, 4] = [0.13, 0.06, 0.08]  # 53 degrees
    assert len(checks.planar(row, ["X"], many)) == 0


def test_dihedrals_are_those_of_mdtraj(peptide):
    topology, frames = peptide
    rows = np.array([[0, 1, 4, 5], [4, 6, 8, 10], [1, 4, 6, 8]])
    expected = mdtraj.compute_dihedrals(mdtraj.Trajectory(frames, topology), rows, periodic=False)
    difference = checks.dihedrals(frames, rows) - expected
    assert np.abs(np.angle(np.exp(1j * difference))).max() < 1e-4


def test_clashes_agree_with_a_naive_count_in_any_box():
    rng = np.random.default_rng(6)
    n, radius = 60, {"O": 0.152, "C": 0.17}
    positions = rng.random((n, 3)) * 3
    elements, molecules = ["O", "H", "C"] * (n // 3), list(np.arange(n).reshape(-1, 3))
    bonds = np.array([(a, b) for a, b, _ in molecules] + [(b, c) for _, b, c in molecules])
    near = checks.near_by_bonds(checks.bond_graph(bonds, n), molecules)
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for box in (np.array([1.2, 1.3, 1.4]), SKEW, None):
        lattice = np.zeros((3, 3)) if box is None else np.diag(box) if box.ndim == 1 else box
        images = shifts @ lattice if box is not None else np.zeros((1, 3))
        count = 0
        for i in range(n):
            for j in range(i):
                r = np.linalg.norm(positions[i] - positions[j] + images, axis=1)
                heavy = "H" not in (elements[i], elements[j])
                limit = 0.8 * (radius[elements[i]] + radius[elements[j]]) if heavy else 0.12
                close = r < limit
                if i // 3 == j // 3:
                    close &= np.abs(images).sum(axis=1) > 0
                count += close.sum()
        assert count > (10 if box is not None else 0)
        assert checks.count_clashes(positions, box, elements, near) == count


def test_atoms_of_one_molecule_clash_only_beyond_three_bonds():
    chain = np.array([(k, k + 1) for k in range(5)])
    near = checks.near_by_bonds(checks.bond_graph(chain, 6), [np.arange(6)])
    x = np.zeros((6, 3))
    assert checks.count_clashes(x, None, ["C"] * 6, near) == 3  # 0-4, 0-5, 1-5
    unbound = checks.near_by_bonds(checks.bond_graph(chain[:0], 6), [np.arange(6)])
    assert checks.count_clashes(x, None, ["C"] * 6, unbound) == 0


def test_the_allowed_number_of_clashes_is_that_of_the_references():
    assert checks.allowed_clashes([0] * 20) == 0
    assert checks.allowed_clashes([]) == 0
    counts = np.random.default_rng(2).poisson(6.0, size=2000)
    assert (counts[1000:] > checks.allowed_clashes(counts[:20])).mean() < 0.01
    assert checks.allowed_clashes([1, 2, 30]) == 30


def test_frames_of_water_have_no_more_clashes_than_is_usual():
    frames = mdtraj.load(str(WATER / "T310.xtc"), top=str(WATER / "topology.pdb"), stride=25)
    molecules = [np.array([a.index for a in r.atoms]) for r in frames.topology.residues]
    x, boxes = frames.xyz.astype(float), frames.unitcell_lengths.astype(float)
    checker = checks.Checker(frames.topology, molecules, x[:10], boxes[:10])
    assert len(checker.rings) == 0 and len(checker.centres) == 0 and len(checker.turns) == 0
    found = [checker(*frame) for frame in zip(x[10:20], boxes[10:20])]
    assert all(item.clashes <= checker.most_clashes for item in found)
    on_top = x[12].copy()
    on_top[molecules[5]] = on_top[molecules[6]] + 0.05
    assert checker(on_top, boxes[12]).clashes > checker.most_clashes


def test_a_collapsed_box_is_refused():
    with pytest.raises(InputError, match="is too small to look for atoms"):
        checks.close_pairs(np.zeros((5000, 3)), np.zeros((5000, 3)), 0.3, np.full(3, 1e-3))
