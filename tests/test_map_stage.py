"""The stage map with molecules of several sites: boxes of all shapes, facts, selections, axes."""

import json

import gsd.hoomd
import h5py
import numpy as np
import pytest
import yaml

import molecules
import naive
import waters
from remcg import config, mapping, target, trajectory
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.io import read_h5, read_json
from remcg.mapping.orient import TURNS, Orientations, nearest_axes
from remcg.mapping.run import _append
from remcg.model import PairTerm
from remcg.sample import read_topology

CUBE = np.diag([2.4, 2.6, 2.5])
SKEW = np.array([[2.6, 0.0, 0.0], [-0.9, 2.5, 0.0], [0.8, 1.1, 2.4]])
N_ATOMS, N_FRAMES, N_COPIES = 8, 12, 15
MAPPING = """
CHN:
  sites:
    A1: {atoms: [C1, C2]}
    B1: {atoms: [C3, C4]}
    B2: {atoms: [C5, C6]}
    A2: {atoms: [C7, C8]}
  types: {A1: A, A2: A, B1: B, B2: B}
"""
TERMS = [
    {"kind": "pair", "sites": ["A", "A"], "r_cut": 0.8, "n_basis": 8},
    {"kind": "pair", "sites": ["A", "B"], "r_cut": 0.8, "n_basis": 8},
    {"kind": "pair", "sites": ["B", "B"], "r_cut": 0.8, "n_basis": 8},
    {"kind": "bond", "sites": ["A", "B"], "n_basis": 6},
    {"kind": "bond", "sites": ["B", "B"], "n_basis": 6},
    {"kind": "angle", "sites": ["A", "B", "B"], "n_basis": 6},
]


def written(folder, vectors=CUBE, terms=TERMS, state=(), system=(), mapping_text=MAPPING, **model):
    """A campaign of random walks in boxes; returns it and the whole molecules of state cold."""
    top = molecules.carbons(N_ATOMS, N_COPIES)
    for seed, name in enumerate(("cold", "hot", "warm"), start=1):
        whole = molecules.walks(N_ATOMS, N_FRAMES, N_COPIES, seed)
        frames = molecules.stored(whole, top, vectors)
        frames.save_xtc(str(folder / f"{name}.xtc"))
    frames[0].save_pdb(str(folder / "topology.pdb"))
    content = waters.content()
    for each in content["states"]:
        del each["pressure"]
    content["states"][0] |= dict(state)
    content["system"] |= dict(system)
    content["model"] = {"terms": list(terms), "temperature": "constant", **model}
    (folder / "water.yaml").write_text(mapping_text)
    (folder / "campaign.yaml").write_text(yaml.safe_dump(content))
    loaded = config.load(folder / "campaign.yaml")
    return loaded, molecules.walks(N_ATOMS, N_FRAMES, N_COPIES, 1)


def mapped(folder, *arguments, **options):
    campaign, whole = written(folder, *arguments, **options)
    facts = mapping.map_trajectory(campaign, "cold", folder / "m.h5", folder / "m.json")
    return facts, *read_h5(folder / "m.h5"), whole


@pytest.fixture(scope="module", params=[CUBE, SKEW], ids=["right angles", "skew"])
def chains(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    return *mapped(folder, request.param), request.param, folder


def test_molecules_of_several_sites_are_whole_in_boxes_of_all_shapes(chains):
    _, arrays, _, whole, vectors, _ = chains
    expected = whole.reshape(N_FRAMES, -1, 2, 3).mean(axis=2).reshape(N_FRAMES, N_COPIES, 4, 3)
    found = arrays["positions"].reshape(expected.shape)
    inside = [each - each[:, :, :1] for each in (found, expected)]
    np.testing.assert_allclose(*inside, atol=4e-3)  # XTC rounds to 1e-3 nm
    images = (found - expected)[:, :, 0] @ np.linalg.inv(vectors)
    np.testing.assert_allclose(images, np.round(images), atol=3e-3)


def test_boxes_are_edges_where_all_are_orthorhombic_else_vectors(chains):
    _, arrays, _, _, vectors, _ = chains
    expected = vectors if np.any(vectors != np.diag(np.diag(vectors))) else np.diag(vectors)
    assert arrays["box"].shape == (N_FRAMES, *expected.shape)
    np.testing.assert_allclose(arrays["box"], np.tile(expected, (N_FRAMES,) + (1,) * expected.ndim),
                               atol=1e-5)  # fmt: skip


def test_a_map_file_tells_the_engine_how_the_sites_are_bonded(chains):
    facts, _, attributes, _, _, folder = chains
    with h5py.File(folder / "m.h5", "r") as file:
        topology = read_topology(file)
    assert topology.n_molecules == N_COPIES and len(topology.bonds) == 3 * N_COPIES
    assert len(topology.angles) == 2 * N_COPIES and len(topology.dihedrals) == N_COPIES
    mass = 8 * 12.01078
    assert attributes["mass_per_molecule"] == pytest.approx(mass)
    assert facts["mass_per_molecule"] == pytest.approx(mass)
    np.testing.assert_allclose(topology.masses, mass / 4)


def test_facts_tell_the_range_of_every_bonded_coordinate(chains):
    facts, arrays, _, _, vectors, _ = chains
    names = ["A", "B"]
    groups = {
        "bond A-B": [(0, 1), (3, 2)],
        "bond B-B": [(1, 2)],
        "angle A-B-B": [(0, 1, 2), (3, 2, 1)],
        "dihedral A-B-B-A": [(0, 1, 2, 3)],
    }
    assert set(facts["bonded"]) == set(groups) and names == facts["site_names"]
    huge = 100.0 * vectors
    for name, members in groups.items():
        values = [
            naive.coordinate([frame[4 * m + i] for i in group], huge)
            for frame in arrays["positions"] for m in range(N_COPIES) for group in members
        ]  # fmt: skip
        found = facts["bonded"][name]
        assert found["n"] == len(members) * N_COPIES
        assert [found["low"], found["high"]] == pytest.approx([min(values), max(values)])


def test_the_onset_counts_only_pairs_that_are_not_excluded(chains):
    facts, arrays, _, _, vectors, folder = chains
    campaign = config.load(folder / "campaign.yaml")
    assert campaign.exclude == ("1-2", "1-3")
    with h5py.File(folder / "m.h5", "r") as file:
        excluded = naive.excluded_pairs(read_topology(file), campaign.exclude)
    kinds, close = arrays["site_types"], {}
    for frame in arrays["positions"]:
        i, j, _, r = naive.short_steps(frame, vectors)
        for a, b, length in zip(i, j, r):
            if (a, b) not in excluded:
                close.setdefault(tuple(sorted((kinds[a], kinds[b]))), []).append(length)
    for name, pair in (("A-A", (0, 0)), ("A-B", (0, 1)), ("B-B", (1, 1))):
        tenth = np.sort(close[pair])[9]
        assert tenth <= facts["onset"][name] <= tenth + 1.0001e-4


def test_density_is_that_of_the_volume_of_each_box(chains):
    facts, _, _, _, vectors, _ = chains
    volume = np.linalg.det(vectors)
    assert facts["volume_per_molecule"] == pytest.approx(volume / N_COPIES, rel=1e-5)
    expected = 8 * 12.01078 * N_COPIES * 1.66053906892 / volume
    assert facts["density_kg_m3"] == pytest.approx(expected, rel=1e-5)


def test_a_molecule_longer_than_the_box_is_followed_along_its_bonds():
    top = molecules.carbons(40)
    straight = np.arange(40)[None, :, None] * np.array([0.1, 0.05, -0.08])
    frames = molecules.stored(straight, top, SKEW)
    chunk = trajectory.Chunk(frames.xyz.astype(float), SKEW[None], np.zeros(1), 0)
    found = mapping.Unwrapper(top, [np.arange(40)])(chunk, "cold")
    np.testing.assert_allclose(np.diff(found[0], axis=0), np.diff(straight[0], axis=0), atol=1e-5)


def test_a_frame_of_another_shape_turns_the_boxes_before_it_into_vectors(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        edges = np.array([[2.0, 2.1, 2.2]] * 3)
        _append(file, {"box": edges})
        _append(file, {"box": np.array([SKEW, CUBE])})
        _append(file, {"box": edges[:1]})
        expected = [np.diag(edges[0])] * 3 + [SKEW, CUBE, np.diag(edges[0])]
        np.testing.assert_array_equal(file["box"][()], expected)


def test_a_cutoff_beyond_half_the_height_of_a_skew_box_is_refused(tmp_path):
    terms = [{**term, "r_cut": 1.15} if term["kind"] == "pair" else term for term in TERMS]
    campaign, _ = written(tmp_path, SKEW, terms)
    message = "cold: r_cut is 1.15 nm but half the least height of the box is 1.1"
    with pytest.raises(InputError, match=message):
        mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")


def test_start_end_and_stride_choose_frames_and_lines_of_the_log(tmp_path):
    lines = "\n".join(f"{k + 1},{100 + k}" for k in range(N_FRAMES))
    (tmp_path / "cold.csv").write_text("time_ps,potential_energy_kJ_mol\n" + lines + "\n")
    state = {"start": 3, "end": 10.5, "stride": 3, "log": "cold.csv"}
    facts, arrays, _, _ = mapped(tmp_path, state=state)
    np.testing.assert_array_equal(arrays["time"], [3, 6, 9])
    np.testing.assert_array_equal(arrays["frame"], [2, 5, 8])
    assert facts["n_frames"] == 3
    assert not any("lines" in warning for warning in facts["warnings"])
    term = PairTerm(("A", "A"), SplineBasis(0.2, 0.8, 8), 1)
    found, _ = target.compute(tmp_path / "m.h5", [term], tmp_path / "cold.csv")
    np.testing.assert_array_equal(found["energy"], [102, 105, 108])


def test_times_beyond_the_trajectory_are_refused(tmp_path):
    campaign, _ = written(tmp_path, state={"start": 100})
    with pytest.raises(InputError, match=r"no frame between start and end, .* from 1 to 12 ps"):
        mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")


def test_a_bond_without_a_term_is_refused(tmp_path):
    campaign, _ = written(tmp_path, terms=[*TERMS[:4], TERMS[5]])
    with pytest.raises(InputError, match=r"no bond term describes the bonds B-B of the mapping"):
        mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")


def test_a_bonded_term_without_such_a_group_is_refused(tmp_path):
    terms = [*TERMS, {"kind": "angle", "sites": ["A", "B", "A"], "n_basis": 6}]
    campaign, _ = written(tmp_path, terms=terms)
    with pytest.raises(InputError, match=r"has no angle A-B-A, but only A-B-B; correct the sites"):
        mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")


def test_a_residue_that_is_in_no_topology_is_refused(tmp_path):
    campaign, _ = written(tmp_path, mapping_text=MAPPING + "NA: {ignore: true}")
    with pytest.raises(InputError, match=r"has the residue NA but the topologies .* only CHN; rem"):
        mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")


def test_a_state_may_lack_molecules_of_other_states(tmp_path):
    """A pure liquid beside a mixture: sums of terms of absent sites are zero, types stay."""
    parts = [molecules.carbons(N_ATOMS, N_COPIES), molecules.carbons(1, 4, "XYZ")]
    whole = [molecules.walks(N_ATOMS, N_FRAMES, N_COPIES, 1), molecules.walks(1, N_FRAMES, 4, 4)]
    both = molecules.stored(np.concatenate(whole, axis=1), parts[0].join(parts[1]), CUBE)
    both[0].save_pdb(str(tmp_path / "mixture.pdb"))
    campaign, _ = written(
        tmp_path,
        terms=[*TERMS, {"kind": "pair", "sites": ["A", "Z"], "r_cut": 0.8, "n_basis": 8}],
        mapping_text=MAPPING + "XYZ:\n  sites:\n    Z: {atoms: [C1]}\n",
        state={"topology": "mixture.pdb"},
    )
    both.save_xtc(str(tmp_path / "cold.xtc"))
    term, sums = PairTerm(("A", "Z"), SplineBasis(0.1, 0.8, 8), 1), {}
    for state in ("cold", "hot"):
        facts = mapping.map_trajectory(campaign, state, tmp_path / "m.h5", tmp_path / "m.json")
        assert facts["site_names"] == ["A", "B", "Z"]
        assert not any("says nothing about" in warning for warning in facts["warnings"])
        arrays, attributes = target.compute(tmp_path / "m.h5", [term])
        sums[state] = arrays["site_sums"]
        assert np.isfinite(arrays["rdf_blocks"]).all()
        assert json.loads(attributes["type_counts"])["Z"] == (4 if state == "cold" else 0)
    assert sums["cold"].any() and not sums["hot"].any()


def test_pairs_that_are_all_excluded_are_a_warning(tmp_path):
    """The two A of a molecule are the only ones of their kind, three bonds apart."""
    top = molecules.carbons(8)
    frames = molecules.stored(molecules.walks(8, 4, 1), top, CUBE)
    campaign, _ = written(tmp_path, exclude=["1-2", "1-3", "1-4"])
    for name in ("cold", "hot", "warm"):
        frames.save_xtc(str(tmp_path / f"{name}.xtc"))
    frames[0].save_pdb(str(tmp_path / "topology.pdb"))
    facts = mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")
    assert facts["onset"] == {}
    (warning,) = [each for each in facts["warnings"] if "hardly a pair" in each]
    assert "cold: hardly a pair of A-A, A-B, B-B comes within r_cut" in warning


def test_sites_in_line_within_a_dihedral_are_a_warning(tmp_path):
    campaign, _ = written(tmp_path)
    top = molecules.carbons(8, 2)
    straight = np.zeros((4, 16, 3))
    straight[:, :, 0] = np.tile(0.13 * np.arange(8), 2)
    straight[:, 8:, 1] = 1.0
    frames = molecules.stored(straight, top, CUBE)
    frames.save_xtc(str(tmp_path / "cold.xtc"))
    frames[0].save_pdb(str(tmp_path / "topology.pdb"))
    facts = mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")
    assert any("come into one line, where the dihedrals" in each for each in facts["warnings"])


def turned(n_frames, seed=1):
    """Smooth rotations (n_frames, 3, 3)."""
    random = np.random.default_rng(seed)
    axis = random.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angles = np.linspace(0.0, 4.0 * np.pi, n_frames)[:, None, None]
    return np.eye(3) + np.sin(angles) * cross + (1.0 - np.cos(angles)) * cross @ cross


def body(shape):
    """A site of four atoms, and one of a single atom; frames of rotations of the former."""
    top = molecules.topology(
        [("MOL", ["C1", "N2", "O3", "C4", "C5"])], [(i, i + 1) for i in range(4)]
    )
    rules = (
        mapping.SiteMap("A", "A", ["C1", "N2", "O3", "C4"]),
        mapping.SiteMap("B", "B", ["C5"]),
    )
    sites = mapping.build_sites(top, {"MOL": mapping.ResidueMap(rules)})
    turns = turned(200)
    positions = np.concatenate([shape, shape[-1:] + 0.1])
    return sites, turns, np.einsum("fij,aj->fai", turns, positions) + 3.0


def test_axes_turn_with_a_rigid_body():
    shape = np.random.default_rng(2).normal(size=(4, 3))
    sites, turns, positions = body(shape)
    axes = Orientations(sites)(positions)
    np.testing.assert_allclose(np.linalg.det(axes[:, 0]), 1.0)
    expected = np.einsum("kj,fij->fki", axes[0, 0], turns)
    np.testing.assert_allclose(axes[:, 0], expected, atol=1e-9)
    np.testing.assert_array_equal(axes[:, 1], np.tile(np.eye(3), (200, 1, 1)))


def test_axes_are_eigenvectors_of_the_inertia_tensor():
    sites, _, positions = body(np.random.default_rng(3).normal(size=(4, 3)))
    axes = Orientations(sites)(positions)[7, 0]
    masses, points = sites.atom_masses[:4], positions[7, :4]
    arms = points - masses @ points / masses.sum()
    tensor = sum(m * (r @ r * np.eye(3) - np.outer(r, r)) for m, r in zip(masses, arms))
    moments = axes @ tensor @ axes.T
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-9)
    assert (np.diff(np.diag(moments)) > 0).all()


def test_axes_go_on_when_their_moments_change_places():
    """A body that is stretched along another axis, without turning."""
    sites, _, _ = body(np.eye(4, 3))
    below = -0.5 * sites.atom_masses[1] / sites.atom_masses[2]
    shape = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, below, 0.0], [-1.0, 0.0, 0.0]])
    growth = np.linspace(1.0, 3.0, 200)[:, None, None]
    positions = np.repeat(np.concatenate([shape, shape[:1]])[None], 200, axis=0)
    positions[:, :, 1:2] *= growth
    axes = Orientations(sites)(positions)[:, 0]
    np.testing.assert_allclose(axes, np.repeat(axes[:1], 200, axis=0), atol=1e-9)


def test_axes_do_not_depend_on_the_chunks():
    sites, _, positions = body(np.random.default_rng(4).normal(size=(4, 3)))
    whole = Orientations(sites)(positions)
    follow = Orientations(sites)
    parts = [follow(positions[k : k + 17]) for k in range(0, 200, 17)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_nearest_axes_are_found_among_all_24():
    random = np.random.default_rng(5)
    axes = np.linalg.qr(random.normal(size=(30, 3, 3)))[0]
    axes *= np.linalg.det(axes)[:, None, None]
    mixed = TURNS[random.integers(0, 24, 30)] @ axes
    mixed[::2] *= -1.0  # left-handed
    np.testing.assert_allclose(nearest_axes(axes, mixed), axes, atol=1e-12)


def test_a_campaign_writes_axes_only_if_asked(tmp_path):
    facts, arrays, _, _ = mapped(tmp_path, system={"orientations": True})
    assert arrays["frames"].shape == (N_FRAMES, 4 * N_COPIES, 3, 3)
    (warning,) = [each for each in facts["warnings"] if "orientation" in each]
    assert "the sites A, B have fewer than three atoms off a line" in warning


def test_a_state_may_have_its_own_topology(tmp_path):
    top = molecules.carbons(N_ATOMS, 9)
    frames = molecules.stored(molecules.walks(N_ATOMS, 5, 9), top, CUBE)
    frames[0].save_pdb(str(tmp_path / "nine.pdb"))
    campaign, _ = written(tmp_path, state={"topology": "nine.pdb"})
    frames.save_xtc(str(tmp_path / "cold.xtc"))
    facts = mapping.map_trajectory(campaign, "cold", tmp_path / "m.h5", tmp_path / "m.json")
    assert facts["n_molecules"] == 9
    lines = []
    assert mapping.check_campaign(campaign, lines.append) == 3
    text = "\n".join(lines)
    assert "nine.pdb: 72 atoms" in text and "topology.pdb: 120 atoms" in text


def test_hdf5_is_read_without_further_packages(tmp_path):
    top = molecules.carbons(4, 2)
    frames = molecules.stored(molecules.walks(4, 7, 2), top, SKEW)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["coordinates"], file["time"] = frames.xyz, frames.time
        file["cell_lengths"], file["cell_angles"] = frames.unitcell_lengths, frames.unitcell_angles
        file["coordinates"].attrs["units"] = "nanometers"
    chunks = list(trajectory.read_frames([tmp_path / "a.h5"], top, "cold", chunk=3))
    assert [chunk.start for chunk in chunks] == [0, 3, 6]
    np.testing.assert_array_equal(np.concatenate([c.positions for c in chunks]), frames.xyz)
    np.testing.assert_allclose(chunks[2].boxes, SKEW[None], atol=1e-5)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["coordinates"].attrs["units"] = "angstroms"
    with pytest.raises(
        InputError, match="coordinates are in angstroms; they must be in nanometers"
    ):
        list(trajectory.read_frames([tmp_path / "a.h5"], top, "cold"))


def test_gsd_is_streamed_with_its_tilt_factors(tmp_path):
    top = molecules.carbons(4, 2)
    positions = molecules.walks(4, 7, 2)
    (x, _, _), (bx, y, _), (cx, cy, z) = SKEW
    path = tmp_path / "a.gsd"
    with gsd.hoomd.open(path, "w") as file:
        for each in positions:
            frame = gsd.hoomd.Frame()
            frame.particles.N, frame.particles.position = len(each), each
            frame.configuration.box = [x, y, z, bx / y, cx / z, cy / z]
            file.append(frame)
    chunks = list(trajectory.read_frames([path], top, "cold", chunk=3))
    found = np.concatenate([chunk.positions for chunk in chunks])
    np.testing.assert_allclose(found, positions, rtol=1e-6)
    boxes = np.concatenate([chunk.boxes for chunk in chunks])
    np.testing.assert_allclose(boxes, np.tile(SKEW, (7, 1, 1)), atol=1e-6)
    select = trajectory.Selection(start=3)
    with pytest.raises(InputError, match=r"a\.gsd is of a format without times"):
        list(trajectory.read_frames([path], top, "cold", selection=select))


def test_a_pdb_of_several_models_is_a_trajectory(tmp_path):
    top = molecules.carbons(4, 2)
    frames = molecules.stored(molecules.walks(4, 7, 2), top, SKEW)
    frames.save_pdb(str(tmp_path / "a.pdb"))
    chunks = list(trajectory.read_frames([tmp_path / "a.pdb"], top, "cold", chunk=3))
    found = np.concatenate([chunk.positions for chunk in chunks])
    np.testing.assert_allclose(found, frames.xyz, atol=1e-4)


def test_facts_are_json(tmp_path):
    facts, _, attributes, _ = mapped(tmp_path)
    assert read_json(tmp_path / "m.json") == facts
    assert json.loads(attributes["site_names"]) == ["A", "B"]
