"""Parts of chains that turn about two atoms, found by the bond graph alone."""

import numpy as np

from remcg.backmap import cranks

# CA1 C1 O1 N2 H2 CA2 C2 N3, and a hydrogen on each end
PEPTIDE = [(0, 1), (1, 2), (1, 3), (3, 4), (3, 5), (5, 6), (6, 7), (0, 8), (7, 9)]


def neighbours(bonds):
    n = 1 + max(max(pair) for pair in bonds)
    return [[b if a == i else a for a, b in bonds if i in (a, b)] for i in range(n)]


def test_the_plane_of_a_peptide_bond_is_a_crank():
    found = {(c.first, c.last): c.atoms.tolist() for c in cranks.find_cranks(neighbours(PEPTIDE))}
    assert found[0, 5] == [1, 2, 3, 4]
    assert found == {(0, 5): [1, 2, 3, 4], (1, 6): [3, 4, 5], (3, 7): [5, 6]}


def test_rings_and_large_parts_are_no_cranks():
    ring = [(k, (k + 1) % 6) for k in range(6)]
    assert cranks.find_cranks(neighbours(ring)) == []
    branch = [(1, 10), *((k, k + 1) for k in range(10, 17))]
    large = [pair for pair in PEPTIDE if pair != (1, 2)] + [(2, 1), *branch]
    found = {(c.first, c.last) for c in cranks.find_cranks(neighbours(large))}
    assert (0, 5) not in found and (3, 7) in found


def test_a_turned_part_keeps_its_shape_and_its_distances_to_both_ends():
    x = np.random.default_rng(1).normal(size=(10, 3))
    crank = cranks.Crank(0, 5, np.array([1, 2, 3, 4]))
    y = cranks.turned(x, crank, 2.0)
    kept = [0, 5, 1, 2, 3, 4]
    apart = [np.linalg.norm(z[kept][:, None] - z[kept], axis=2) for z in (x, y)]
    np.testing.assert_allclose(*apart, atol=1e-12)
    np.testing.assert_array_equal(np.delete(x, crank.atoms, 0), np.delete(y, crank.atoms, 0))
    np.testing.assert_allclose(cranks.turned(y, crank, -2.0), x, atol=1e-12)
    quarter = cranks.turned(
        np.eye(3) * [1.0, 1.0, 0.0], cranks.Crank(2, 0, np.array([1])), np.pi / 2
    )
    np.testing.assert_allclose(quarter[1], [0.0, 0.0, 1.0], atol=1e-12)  # y about x
