import numpy as np
import pytest

import naive
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.model import PairTerm
from remcg.pairs import onset, pair_sums, rdf, rdf_edges

NAMES = ("A", "B")
TERMS = [
    PairTerm(("A", "A"), SplineBasis(0.2, 0.6, 9), 1),
    PairTerm(("A", "B"), SplineBasis(0.25, 0.5, 5), 1),
]
BOX = np.array([1.2, 1.4, 1.3])


@pytest.fixture
def frames():
    random = np.random.default_rng(1)
    return random.uniform(-3.0, 5.0, (3, 40, 3)), np.tile(BOX, (3, 1)), np.arange(40) % 2


def test_basis_sums_are_those_of_a_plain_loop_wherever_the_images_are(frames):
    positions, boxes, types = frames
    sums = pair_sums(positions, boxes, types, NAMES, TERMS)
    expected = [naive.pair_sums(x, BOX, types, NAMES, TERMS) for x in positions]
    np.testing.assert_allclose(sums, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("r", [0.0, 0.01, 0.19999, 0.2, 0.3, 0.45, 0.5999999, 0.6, 0.61])
def test_one_pair_gives_the_basis_functions_at_its_distance(r):
    positions = np.array([[[0.1, 0.0, 0.0], [0.1 + r, 0.0, 0.0]]])
    sums = pair_sums(positions, 2 * BOX[None], [0, 0], NAMES, TERMS[:1])
    np.testing.assert_allclose(sums[0], TERMS[0].basis.values(r), atol=1e-12)


def test_sites_on_the_boundary_meet_their_images():
    positions = np.array([[[0.0, 0.0, 0.0], [BOX[0], BOX[1] - 0.3, -2 * BOX[2]]]])
    sums = pair_sums(positions, BOX[None], [0, 0], NAMES, TERMS[:1])
    np.testing.assert_allclose(sums[0], TERMS[0].basis.values(0.3), atol=1e-12)


def test_the_cell_grid_finds_the_same_pairs_as_all_against_all():
    random = np.random.default_rng(2)
    box = np.array([2.5, 3.1, 2.9])
    positions = random.uniform(-4.0, 4.0, (1, 400, 3))
    sums = pair_sums(positions, box[None], np.zeros(400), ("A",), TERMS[:1])[0]
    step = positions[0][:, None] - positions[0]
    step -= box * np.round(step / box)
    r = np.sqrt((step**2).sum(axis=-1))[np.triu_indices(400, 1)]
    np.testing.assert_allclose(sums, TERMS[0].basis.values(r).sum(axis=0), rtol=1e-10, atol=1e-9)


def test_rdf_is_that_of_a_plain_loop_averaged_over_blocks(frames):
    positions, boxes, types = frames
    edges = rdf_edges(0.6, 0.05)
    pairs = [(0, 0), (0, 1), (1, 1)]
    g = rdf(positions, boxes, types, pairs, edges, 2)
    each = np.array([[naive.rdf(x, BOX, types, p, edges) for p in pairs] for x in positions])
    np.testing.assert_allclose(g, [each[:2].mean(axis=0), each[2]], rtol=1e-10)


def test_rdf_of_random_sites_is_one():
    random = np.random.default_rng(3)
    positions = random.uniform(0.0, 2.0, (60, 100, 3))
    g = rdf(positions, np.full((60, 3), 2.0), np.zeros(100, int), [(0, 0)], rdf_edges(1.0, 0.1), 60)
    far = g[:, 0, 4:]
    error = far.std(axis=0, ddof=1) / np.sqrt(60)
    assert np.all(np.abs(far.mean(axis=0) - 1.0) < 4.5 * error)


def test_rdf_edges_end_at_the_cut_off():
    assert len(rdf_edges(0.9)) == 91
    assert rdf_edges(0.9)[-1] == pytest.approx(0.9)
    assert rdf_edges(0.905)[-1] == pytest.approx(0.9)


def test_onset_is_the_tenth_smallest_distance_of_all_frames(frames):
    positions, boxes, types = frames
    lengths = [
        r for x in positions for i, j, _, r in naive.pairs(x, BOX) if types[i] == types[j] == 0
    ]
    assert onset(positions, boxes, types, [(0, 0)]) == pytest.approx(np.sort(lengths)[9])


def test_onset_of_too_few_pairs_is_infinite():
    positions = np.zeros((3, 2, 3)) + np.array([0.0, 0.3])[:, None]
    assert np.isinf(onset(positions, np.tile(BOX, (3, 1)), [0, 1], [(0, 1)]))[0]


def test_a_box_smaller_than_twice_the_range_is_refused(frames):
    positions, boxes, types = frames
    boxes = boxes.copy()
    boxes[1, 2] = 1.1
    with pytest.raises(
        InputError, match=r"frame 1: the box is 1.1 nm high along c, less than twice"
    ):
        pair_sums(positions, boxes, types, NAMES, TERMS)


def test_positions_that_are_not_finite_are_refused(frames):
    positions, boxes, types = frames
    positions[2, 5, 0] = np.nan
    with pytest.raises(InputError, match=r"frame 2 has positions or box edges"):
        pair_sums(positions, boxes, types, NAMES, TERMS)


def test_arrays_that_do_not_fit_are_refused(frames):
    positions, boxes, types = frames
    with pytest.raises(InputError, match=r"do not fit 39 sites"):
        pair_sums(positions, boxes, types[1:], NAMES, TERMS)
    with pytest.raises(InputError, match=r"for 3 frames; give one each"):
        pair_sums(positions, boxes[1:], types, NAMES, TERMS)


def test_bins_of_different_width_are_refused(frames):
    positions, boxes, types = frames
    with pytest.raises(InputError, match=r"not equally spaced"):
        rdf(positions, boxes, types, [(0, 0)], np.array([0.0, 0.1, 0.3]), 1)
    with pytest.raises(InputError, match=r"4 blocks of 3 frames"):
        rdf(positions, boxes, types, [(0, 0)], rdf_edges(0.5), 4)
