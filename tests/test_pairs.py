import numpy as np
import pytest

import naive
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.model import PairTerm
from remcg.pairs import Closest, onset, pair_sums, rdf, rdf_edges

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


SKEW = np.array([[1.5, 0.0, 0.0], [-0.4, 1.6, 0.0], [0.5, 0.6, 1.55]])
BONDED = [(0, 1), (2, 0), (4, 9), (38, 39), (20, 39), (5, 30)]


@pytest.mark.parametrize("box", [BOX, SKEW], ids=["right angles", "skew"])
def test_excluded_pairs_have_no_basis_sums_in_boxes_of_all_shapes(frames, box):
    positions, _, types = frames
    boxes = np.tile(box, (3,) + (1,) * box.ndim)
    for excluded in ((), BONDED):
        sums = pair_sums(positions, boxes, types, NAMES, TERMS, excluded)
        left_out = {tuple(sorted(pair)) for pair in excluded}
        expected = [naive.pair_sums(x, box, types, NAMES, TERMS, left_out) for x in positions]
        np.testing.assert_allclose(sums, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("box", [BOX, SKEW], ids=["right angles", "skew"])
def test_excluded_pairs_are_not_in_the_rdf_but_in_its_norm(frames, box):
    positions, _, types = frames
    edges, kinds = rdf_edges(0.6, 0.05), [(0, 0), (0, 1), (1, 1)]
    boxes = np.tile(box, (3,) + (1,) * box.ndim)
    found = rdf(positions, boxes, types, kinds, edges, 3, BONDED)
    without = rdf(positions, boxes, types, kinds, edges, 3)
    left_out = {tuple(sorted(pair)) for pair in BONDED}
    for frame, x in enumerate(positions):
        for c, kind in enumerate(kinds):
            r = [
                length for i, j, _, length in naive.pairs(x, box)
                if (i, j) in left_out and tuple(sorted((types[i], types[j]))) == kind
            ]  # fmt: skip
            volume = np.prod(np.diag(box)) if box.ndim == 2 else box.prod()
            number = 190 if kind[0] == kind[1] else 400
            shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
            expected = np.histogram(r, edges)[0] * volume / (number * shells)
            np.testing.assert_allclose((without - found)[frame, c], expected, atol=1e-9)


def test_no_exclusions_change_nothing_at_all(frames):
    positions, boxes, types = frames
    empty = np.zeros((0, 2), int)
    for call in (
        lambda *more: pair_sums(positions, boxes, types, NAMES, TERMS, *more),
        lambda *more: rdf(positions, boxes, types, [(0, 1)], rdf_edges(0.6), 1, *more),
        lambda *more: onset(positions, boxes, types, [(0, 1)], 10, *more),
    ):
        np.testing.assert_array_equal(call(), call(empty))


def test_excluded_pairs_of_other_sites_are_refused(frames):
    positions, boxes, types = frames
    with pytest.raises(InputError, match="excluded pairs name the sites 0 to 40, but there are 40"):
        pair_sums(positions, boxes, types, NAMES, TERMS, [(0, 40)])


def test_the_closest_pairs_do_not_depend_on_how_frames_are_parted(frames):
    positions, boxes, types = frames
    kinds = [(0, 0), (0, 1), (1, 1)]
    whole = Closest(types, kinds, 0.6, 7, BONDED)
    whole.add(positions, boxes)
    parts = Closest(types, kinds, 0.6, 7, BONDED)
    for frame in (2, 0, 1):
        parts.add(positions[frame : frame + 1], boxes[frame : frame + 1])
    np.testing.assert_array_equal(np.sort(whole.smallest), np.sort(parts.smallest))
    left_out = {tuple(sorted(pair)) for pair in BONDED}
    lengths = [
        r for x in positions for i, j, _, r in naive.pairs(x, BOX)
        if types[i] == types[j] == 1 and (i, j) not in left_out
    ]  # fmt: skip
    np.testing.assert_allclose(np.sort(whole.smallest[2]), np.sort(lengths)[:7])


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
