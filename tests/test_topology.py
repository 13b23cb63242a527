import numpy as np
import pytest

import naive
from remcg.basis import BondBasis, PeriodicBasis
from remcg.errors import InputError
from remcg.model import BondTerm, DihedralTerm
from remcg.topology import Topology

CHAIN = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
RING = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
BRANCHED = [(0, 1), (1, 2), (1, 3), (3, 4)]
ORTHORHOMBIC = np.array([2.0, 2.4, 2.2])
TRICLINIC = np.array([[2.0, 0.0, 0.0], [0.7, 2.2, 0.0], [-0.9, 0.8, 2.1]])


def sites(bonds, n_sites, **more):
    return Topology.from_bonds(np.zeros(n_sites), np.ones(n_sites), bonds, **more)


def test_a_branched_molecule_has_each_angle_and_dihedral_once():
    topology = sites(BRANCHED, 5)
    angles = {(0, 1, 2), (0, 1, 3), (2, 1, 3), (1, 3, 4)}
    assert {tuple(row) for row in topology.angles} == angles and len(topology.angles) == 4
    dihedrals = {(0, 1, 3, 4), (2, 1, 3, 4)}
    assert {tuple(row) for row in topology.dihedrals} == dihedrals and len(topology.dihedrals) == 2


def test_a_ring_has_as_many_angles_and_dihedrals_as_sites():
    topology = sites(RING, 5)
    assert len(topology.angles) == 5 and len(topology.dihedrals) == 5
    expected = [(4, 0, 1, 2), (1, 0, 4, 3), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 0)]
    np.testing.assert_array_equal(topology.dihedrals, expected)


def test_a_ring_of_three_has_no_dihedral():
    assert len(sites([(0, 1), (1, 2), (0, 2)], 3).dihedrals) == 0


def test_the_order_of_the_bonds_does_not_matter():
    turned = [(b, a) for a, b in BRANCHED[::-1]] + [BRANCHED[0]]
    for name in ("bonds", "angles", "dihedrals"):
        np.testing.assert_array_equal(
            getattr(sites(turned, 5), name), getattr(sites(BRANCHED, 5), name)
        )


def test_bonds_make_molecules_in_the_order_of_their_first_sites():
    topology = sites([(4, 0), (2, 5)], 6)
    assert topology.molecule.tolist() == [0, 1, 2, 3, 0, 2]
    assert topology.n_molecules == 4


def test_without_bonds_every_site_is_a_molecule():
    topology = Topology([0, 0, 1], [1.0, 1.0, 2.0])
    assert topology.molecule.tolist() == [0, 1, 2]
    assert topology.bonds.shape == (0, 2) and topology.dihedrals.shape == (0, 4)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), []),
        (("1-2",), CHAIN),
        (("1-3",), [(0, 2), (1, 3), (2, 4), (3, 5)]),
        (("1-4", "1-2"), sorted([*CHAIN, (0, 3), (1, 4), (2, 5)])),
    ],
)
def test_exclusions_of_a_chain_are_its_pairs_one_two_or_three_bonds_apart(kinds, expected):
    pairs = sites(CHAIN, 6).excluded(kinds)
    assert pairs.dtype == np.int64 and pairs.shape == (len(expected), 2)
    assert [tuple(pair) for pair in pairs] == expected


@pytest.mark.parametrize("n_sites", [3, 4, 5, 6, 7])
def test_exclusions_of_rings_go_by_the_shortest_way(n_sites):
    ring = sites([(i, (i + 1) % n_sites) for i in range(n_sites)], n_sites)
    for kinds in (("1-2",), ("1-3",), ("1-4",), ("1-2", "1-3", "1-4")):
        expected = sorted(naive.excluded_pairs(ring, kinds))
        assert [tuple(pair) for pair in ring.excluded(kinds)] == expected
    assert len(ring.excluded(("1-4",))) == {3: 0, 4: 0, 5: 0, 6: 3, 7: 7}[n_sites]


def test_a_bonded_term_acts_on_groups_that_read_forwards_or_backwards_as_its_sites():
    topology = Topology.from_bonds([0, 1, 1, 0, 0, 1], np.ones(6), CHAIN)
    bond = BondTerm(("A", "B"), BondBasis(0.2, 0.3, 6), 1)
    assert topology.groups(bond, ("A", "B")).tolist() == [[0, 1], [2, 3], [4, 5]]
    dihedral = DihedralTerm(("B", "A", "A", "B"), PeriodicBasis(6), 1)
    assert topology.groups(dihedral, ("A", "B")).tolist() == [[2, 3, 4, 5]]
    dihedral = DihedralTerm(("B", "B", "A", "A"), PeriodicBasis(6), 1)
    assert topology.groups(dihedral, ("A", "B")).tolist() == [[1, 2, 3, 4]]
    assert topology.groups(dihedral, ("A", "C")).shape == (0, 4)


@pytest.mark.parametrize("box", [ORTHORHOMBIC, TRICLINIC], ids=["orthorhombic", "triclinic"])
@pytest.mark.parametrize(
    "bonds", [CHAIN, RING, BRANCHED, []], ids=["chain", "ring", "tree", "none"]
)
def test_broken_molecules_are_made_whole(box, bonds):
    random = np.random.default_rng(5)
    n_molecules, size = 4, 6 if bonds == CHAIN else 5
    bonds = [(m * size + i, m * size + j) for m in range(n_molecules) for i, j in bonds]
    molecule = np.repeat(np.arange(n_molecules), size)
    topology = sites(bonds, len(molecule), molecule=molecule)
    # every site within 0.42 nm of its molecule's centre: no step of a walk exceeds 0.84 nm
    centres = random.uniform(-3.0, 3.0, (n_molecules, 3))
    steps = random.normal(size=(len(molecule), 3))
    steps *= (
        0.42
        * random.uniform(size=(len(molecule), 1))
        / np.linalg.norm(steps, axis=1, keepdims=True)
    )
    whole = centres[molecule] + steps
    edges = np.diag(box) if box.ndim == 1 else box
    broken = whole + random.integers(-3, 4, (len(molecule), 3)) @ edges
    firsts = np.searchsorted(molecule, molecule)
    found = topology.make_whole(broken, box)
    np.testing.assert_allclose(found - found[firsts], whole - whole[firsts], atol=1e-12)
    np.testing.assert_array_equal(found[firsts], broken[firsts])


def test_a_long_chain_is_made_whole_along_its_bonds():
    n_sites = 37
    order = np.random.default_rng(6).permutation(n_sites)
    topology = sites(np.stack([order[:-1], order[1:]], axis=1), n_sites)
    straight = np.zeros((n_sites, 3))
    straight[order] = np.arange(n_sites)[:, None] * np.array([0.3, 0.25, -0.2])
    found = topology.make_whole(straight % ORTHORHOMBIC, ORTHORHOMBIC)
    np.testing.assert_allclose(found - found[0], straight - straight[0], atol=1e-12)


def test_parts_that_no_bond_connects_come_whole_to_the_first_site():
    topology = sites([(0, 1), (2, 3)], 4, molecule=[0, 0, 0, 0])
    positions = np.array([[0.1, 0.1, 0.1], [1.9, 0.1, 0.1], [1.7, 0.1, 0.1], [0.9, 0.1, 0.1]])
    found = topology.make_whole(positions, ORTHORHOMBIC)[:, 0]
    np.testing.assert_allclose(found, [0.1, -0.1, -0.3, -1.1], atol=1e-12)


@pytest.mark.parametrize(
    ("bonds", "more", "message"),
    [
        ([(0, 9)], {}, "bonds name the sites 0 to 9, but there are 3; count sites from 0"),
        ([(1, 1)], {}, r"bonds: \[1, 1\] names a site twice; give different sites"),
        ([(0, 2)], {"molecule": [0, 0, 1]}, r"bonds: the sites \[0, 2\] are of the molecules \[0"),
        ([], {"molecule": [0, 2, 2]}, "2 molecules are numbered 0 to 2; count .* without a gap"),
        ([], {"molecule": [0, 1]}, r"molecule of shape \(2,\) for 3 sites; give one each"),
    ],
)
def test_a_topology_that_contradicts_itself_is_refused(bonds, more, message):
    with pytest.raises(InputError, match=message):
        sites(bonds, 3, **more)


def test_an_unknown_exclusion_is_refused():
    with pytest.raises(InputError, match="exclude names '1-5'; allowed are 1-2, 1-3, 1-4"):
        sites(CHAIN, 6).excluded(("1-2", "1-5"))


def test_the_naive_dihedral_has_the_sign_of_iupac():
    box = np.full(3, 9.0)
    points = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    assert naive.coordinate(points, box) == pytest.approx(0.0)
    # seen along the middle bond, the far end turned clockwise by 60 degrees
    points[3] = [np.cos(np.pi / 3), np.sin(np.pi / 3), 1.0]
    assert naive.coordinate(points, box) == pytest.approx(np.pi / 3)
    assert naive.coordinate(points[::-1], box) == pytest.approx(np.pi / 3)
    assert naive.coordinate(points[:3], box) == pytest.approx(np.pi / 2)


def test_the_naive_minimum_image_of_a_box_written_as_edges_is_that_of_its_matrix():
    random = np.random.default_rng(7)
    for a, b in random.uniform(-5.0, 5.0, (20, 2, 3)):
        expected = naive.distance(a, b, ORTHORHOMBIC)[1]
        assert naive.distance(a, b, np.diag(ORTHORHOMBIC))[1] == pytest.approx(expected)
