"""From atoms to sites: the operator, whole molecules, mapped trajectories, and bad mappings."""

import json
from dataclasses import replace

import mdtraj
import numpy as np
import pytest
import yaml

import molecules
import waters
from remcg import config, mapping, trajectory
from remcg.errors import InputError
from remcg.io import read_h5, read_json

MASSES = np.array([15.99943, 1.007947, 1.007947])


def sites(rules, n_molecules=3):
    return mapping.build_sites(waters.topology(n_molecules), rules)


def read(tmp_path, content):
    path = tmp_path / "water.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return mapping.read_mapping(path)


def one_site(name, atom):
    return mapping.ResidueMap((mapping.SiteMap(name, name, [atom]),))


def with_site(**site):
    return {"HOH": {"sites": {"W": site}}}


def test_the_default_site_is_the_centre_of_mass(tmp_path):
    matrix = sites(read(tmp_path, waters.MAPPING)).matrix.toarray()
    expected = np.kron(np.eye(3), MASSES / MASSES.sum())
    np.testing.assert_allclose(matrix, expected, atol=1e-12)


@pytest.mark.parametrize(
    "weights, expected", [("geometric", [1 / 3] * 3), ([2, 1, 1], [0.5, 0.25, 0.25])]
)
def test_other_weights_sum_to_one(tmp_path, weights, expected):
    rules = read(tmp_path, with_site(atoms=["O", "H1", "H2"], weights=weights))
    np.testing.assert_allclose(sites(rules).matrix.toarray()[1, 3:6], expected)


def test_a_site_of_some_atoms_carries_the_mass_of_the_molecule(tmp_path):
    result = sites(read(tmp_path, with_site(atoms=["O"])))
    np.testing.assert_allclose(result.masses, MASSES.sum())
    np.testing.assert_allclose(result.matrix.toarray()[0, :3], [1, 0, 0])


def test_types_are_sorted_and_pairs_follow_them():
    topology = waters.topology(2)
    residue = topology.add_residue("AR", topology.chain(0))
    topology.add_atom("AR", mdtraj.element.argon, residue)
    rules = {
        "HOH": one_site("W", "O"),
        "AR": one_site("A", "AR"),
    }
    result = mapping.build_sites(topology, rules)
    assert result.names == ["A", "W"]
    assert result.site_types.tolist() == [1, 1, 0]
    assert result.pair_names == ["A-A", "A-W", "W-W"]
    left_out = mapping.build_sites(topology, {**rules, "AR": None})
    assert left_out.matrix.shape == (2, 7)


REFUSED = {
    "no atoms": (with_site(atoms=[]), r"HOH.sites.W: has no atoms; list their names"),
    "no sites": ({"HOH": {"sites": {}}}, "HOH: has no sites"),
    "bonds": (
        {"HOH": {"sites": {"W": {"atoms": ["O"]}}, "bonds": [["W", "W"]]}},
        r"HOH.bonds: \[W, W\] names a site twice; give 2 different",
    ),
    "misspelt": ({"HOH": {"site": {}}}, "HOH: unknown key 'site'; did you mean 'sites'"),
    "atom twice": (with_site(atoms=["O", "O"]), "lists the atom O twice"),
    "weights": (with_site(atoms=["O"], weights="masses"), "found 'masses'; allowed are mass"),
    "empty type": (
        {"HOH": {"sites": {"W": {"atoms": ["O"]}}, "types": {"W": None}}},
        "HOH.types.W: found nothing; give the name of its type",
    ),
    "too few weights": (with_site(atoms=["O", "H1"], weights=[1]), r"found \[1\] for 2 atoms"),
    "weights of zero": (with_site(atoms=["O"], weights=[0]), "their sum must be positive"),
    "empty": ("", "is empty; give HOH: {sites"),
    "list": (["HOH"], "does not begin with a residue name; give HOH"),
    "nothing for a site": (
        {"HOH": {"sites": {"W": None}}},
        "HOH.sites.W: found nothing where keys are expected; give some of atoms, select, weights",
    ),
    "key twice": ("HOH: {ignore: true}\nHOH: {ignore: true}\n", "'HOH' stands twice"),
}


def test_sites_and_types_may_be_numbers(tmp_path):
    text = "HOH: {sites: {1: {atoms: [O]}, 2: {atoms: [H1]}}, types: {1: 7, 2: 8}, bonds: [[1, 2]]}"
    found = read(tmp_path, text)["HOH"]
    assert [(site.name, site.type) for site in found.sites] == [("1", "7"), ("2", "8")]
    assert found.bonds == (("1", "2"),)


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_mapping_file_is_refused(tmp_path, case):
    content, message = REFUSED[case]
    with pytest.raises(InputError, match=rf"water\.yaml: .*{message}"):
        read(tmp_path, content)


def test_an_atom_that_is_not_there_is_named_with_those_that_are(tmp_path):
    rules = read(tmp_path, with_site(atoms=["O", "HH1"]))
    message = "the atom HH1 is not in residue HOH1, which has O, H1, H2; did you mean 'H1'"
    with pytest.raises(InputError, match=message):
        sites(rules)


def test_a_residue_without_mapping_is_refused_until_it_is_ignored():
    with pytest.raises(
        InputError, match=r"topology has residues HOH but the mapping has only HO .*; add"
    ):
        sites({"HO": None})
    with pytest.raises(InputError, match="the mapping ignores every residue"):
        sites({"HOH": None})


def test_molecules_across_the_boundary_are_made_whole():
    frames, whole = waters.trajectory(n_frames=5)
    chunk = trajectory.Chunk(
        frames.xyz.astype(float), frames.unitcell_lengths.astype(float), frames.time, 0
    )
    molecules = np.arange(frames.n_atoms).reshape(-1, 3)
    found = mapping.Unwrapper(frames.topology, molecules)(chunk, "cold")
    for part in (1, 2):
        np.testing.assert_allclose(
            found[:, part::3] - found[:, ::3], whole[:, part::3] - whole[:, ::3], atol=1e-5
        )


def test_a_chain_longer_than_half_the_box_is_followed_along_its_bonds():
    topology = mdtraj.Topology()
    residue = topology.add_residue("CHN", topology.add_chain())
    atoms = [topology.add_atom(f"C{i}", mdtraj.element.carbon, residue) for i in range(12)]
    for order in ((5, 4), (5, 6), *((i, i + 1) for i in (0, 1, 2, 3, 6, 7, 8, 9, 10))):
        topology.add_bond(atoms[order[0]], atoms[order[1]])
    straight = np.zeros((1, 12, 3))
    straight[0, :, 0] = 0.15 * np.arange(12)
    box = np.full((1, 3), 2.0)
    chunk = trajectory.Chunk(np.mod(straight + 1.3, 2.0), box, np.zeros(1), 0)
    found = mapping.Unwrapper(topology, [np.arange(12)])(chunk, "cold")
    np.testing.assert_allclose(np.diff(found[0, :, 0]), 0.15, atol=1e-12)


def test_atoms_without_bonds_go_next_to_the_first_of_their_molecule():
    topology = waters.topology(1)
    topology._bonds = []
    chunk = trajectory.Chunk(
        np.array([[[0.01, 1, 1], [1.95, 1, 1], [0.05, 1.75, 1]]]),
        np.full((1, 3), 2.0),
        np.zeros(1),
        0,
    )
    found = mapping.Unwrapper(topology, [np.arange(3)])(chunk, "cold")
    np.testing.assert_allclose(found[0, :, 0], [0.01, -0.05, 0.05])
    np.testing.assert_allclose(found[0, 2, 1], 1.75)


def unbonded(n_atoms, spacing, direction, shift, vectors):
    """Centre of a molecule of one site without bonds, of atoms in a row, wrapped one by one."""
    topology = molecules.topology([("ROD", [f"C{i}" for i in range(n_atoms)])], [])
    rules = {
        "ROD": mapping.ResidueMap((mapping.SiteMap("R", "R", [f"C{i}" for i in range(n_atoms)]),))
    }
    built = mapping.build_sites(topology, rules)
    atoms = shift + spacing * np.arange(n_atoms)[:, None] * np.asarray(direction, float)
    stored = molecules.stored(atoms[None], topology, np.asarray(vectors, float))
    chunk = trajectory.Chunk(stored.xyz.astype(float), np.asarray([vectors], float), np.zeros(1), 0)
    return mapping.Mapper(topology, built)(chunk, "cold")[0, 0]


SKEW = np.array([[2.0, 0.0, 0.0], [0.7, 2.0, 0.0], [-0.6, 0.8, 2.0]])


@pytest.mark.parametrize("vectors", [2.0 * np.eye(3), SKEW], ids=["edges", "skew"])
@pytest.mark.parametrize("shift", [0.0, 1.3])
def test_a_long_molecule_without_bonds_is_refused_rather_than_folded(vectors, shift):
    for direction in np.eye(3):
        with pytest.raises(InputError, match=r"cold: in frame 0 no bonds connect ROD.*-C0 and ROD"):
            unbonded(12, 0.15, direction, shift, vectors)


@pytest.mark.parametrize("vectors", [2.0 * np.eye(3), SKEW], ids=["edges", "skew"])
@pytest.mark.parametrize("shift", [0.0, 1.3])
def test_a_short_molecule_without_bonds_needs_none(vectors, shift):
    for direction in np.eye(3):
        found = unbonded(6, 0.15, direction, shift, vectors)  # 0.75 nm of a box of 2 nm
        steps = (found - shift - 0.375 * direction) @ np.linalg.inv(vectors)
        np.testing.assert_allclose(steps - np.round(steps), 0.0, atol=1e-6)


def test_a_bond_of_impossible_length_is_refused():
    frames, _ = waters.trajectory(n_frames=5)
    positions = frames.xyz.astype(float)
    positions[3, 4] += 0.9
    chunk = trajectory.Chunk(positions, frames.unitcell_lengths.astype(float), frames.time, 20)
    unwrap = mapping.Unwrapper(frames.topology, np.arange(frames.n_atoms).reshape(-1, 3))
    with pytest.raises(InputError, match="in frame 23 the bonded atoms HOH2-O and HOH2-H1 are"):
        unwrap(chunk, "cold")


@pytest.fixture
def campaign(tmp_path):
    return config.load(waters.write_campaign(tmp_path))


def run(campaign, folder, state="cold"):
    facts = mapping.map_trajectory(campaign, state, folder / "m.h5", folder / "m.json")
    assert facts == read_json(folder / "m.json")
    return facts


def test_a_mapped_trajectory_holds_the_centres_of_mass(campaign, tmp_path):
    facts = run(campaign, tmp_path)
    arrays, attributes = read_h5(tmp_path / "m.h5")
    frames, whole = waters.trajectory(seed=1)
    centres = np.einsum("fmax,a->fmx", whole.reshape(30, -1, 3, 3), MASSES / MASSES.sum())
    boxes = frames.unitcell_lengths[:, None]
    difference = arrays["positions"] - centres
    difference -= boxes * np.round(difference / boxes)
    assert np.abs(difference).max() < 1e-3  # XTC rounds to 1e-3 nm
    np.testing.assert_allclose(arrays["box"], frames.unitcell_lengths, atol=1e-6)
    np.testing.assert_array_equal(arrays["time"], frames.time)
    assert json.loads(attributes["site_names"]) == ["W"]
    assert attributes["n_molecules"] == facts["n_molecules"] == 27
    assert arrays["masses"].sum() == pytest.approx(27 * MASSES.sum())


def test_density_and_onset_are_those_of_a_plain_count(campaign, tmp_path):
    facts = run(campaign, tmp_path)
    arrays, _ = read_h5(tmp_path / "m.h5")
    volume = arrays["box"].prod(axis=1).mean()
    assert facts["density_kg_m3"] == pytest.approx(27 * MASSES.sum() * 1.66053906892 / volume)
    first, second = np.triu_indices(27, 1)
    step = arrays["positions"][:, first] - arrays["positions"][:, second]
    step -= arrays["box"][:, None] * np.round(step / arrays["box"][:, None])
    tenth = np.sort(np.linalg.norm(step, axis=2).ravel())[9]
    assert tenth <= facts["onset"]["W-W"] <= tenth + 2 * mapping.run.ONSET_WIDTH


def test_memory_does_not_grow_because_chunks_do_not_matter(campaign, tmp_path, monkeypatch):
    whole = run(campaign, tmp_path)
    first = read_h5(tmp_path / "m.h5")[0]
    monkeypatch.setattr(
        mapping.run, "read_frames", lambda *a, **o: trajectory.read_frames(*a, **o, chunk=7)
    )
    assert run(campaign, tmp_path) == whole
    second = read_h5(tmp_path / "m.h5")[0]
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_failed_map_leaves_no_file(campaign, tmp_path):
    content = campaign.states[0].trajectory[0].read_bytes()
    campaign.states[0].trajectory[0].write_bytes(content[:-100])
    with pytest.raises(InputError, match="truncated in frame 29"):
        run(campaign, tmp_path)
    assert not (tmp_path / "m.h5").exists()
    assert not list(tmp_path.glob(".*tmp"))


def test_a_cutoff_beyond_half_the_box_is_refused_with_state_and_frame(tmp_path):
    content = waters.content()
    content["model"]["terms"][0]["r_cut"] = 0.99
    campaign = config.load(waters.write_campaign(tmp_path, content, edge=2.0, spread=0.005))
    message = r"cold: r_cut is 0.99 nm but half the shortest box edge is 0.98\d* nm in frame \d+"
    with pytest.raises(InputError, match=message):
        run(campaign, tmp_path)


def test_a_term_for_an_unknown_site_is_refused(tmp_path):
    content = waters.content()
    content["model"]["terms"][0]["sites"] = ["W", "X"]
    campaign = config.load(waters.write_campaign(tmp_path, content))
    with pytest.raises(
        InputError, match="the pair term W-X names the site type X, but the mapping"
    ):
        run(campaign, tmp_path)


def mixture(n_argon):
    """Sites of some waters and argons."""
    topology = waters.topology(2)
    for _ in range(n_argon):
        residue = topology.add_residue("AR", topology.chain(0))
        topology.add_atom("AR", mdtraj.element.argon, residue)
    rules = {
        "HOH": one_site("W", "O"),
        "AR": one_site("A", "AR"),
    }
    return mapping.build_sites(topology, rules)


def with_pairs(tmp_path, *pairs):
    content = waters.content()
    pair, volume = content["model"]["terms"]
    content["model"]["terms"] = [*({**pair, "sites": list(sites)} for sites in pairs), volume]
    return config.load(waters.write_campaign(tmp_path, content))


def test_a_site_type_without_any_term_is_refused(tmp_path):
    with pytest.raises(InputError, match="no pair term names the site type A of the mapping"):
        mapping.check_terms(with_pairs(tmp_path, "WW"), mixture(1))


def test_a_pair_without_a_term_is_a_warning_if_there_is_such_a_pair(tmp_path):
    campaign = with_pairs(tmp_path, "WW", "AW")
    mapping.check_terms(campaign, mixture(2))
    (warning,) = mapping.pairs_without_term(campaign, mixture(2))
    assert "no pair term for A-A, so these sites pass through each other" in warning
    assert mapping.pairs_without_term(campaign, mixture(1)) == []


def test_a_single_frame_is_refused(tmp_path):
    campaign = config.load(waters.write_campaign(tmp_path, n_frames=1))
    with pytest.raises(InputError, match="cold: the trajectory has 1 frame; at least two"):
        run(campaign, tmp_path)


def warnings_of(campaign, state="cold", volumes=None, time=None, log=None):
    n = 400
    rng = np.random.default_rng(3)
    volumes = 8.0 + 0.05 * rng.standard_normal(n) if volumes is None else volumes
    time = np.arange(float(len(volumes))) if time is None else time
    return mapping.find_warnings(campaign, campaign.state(state), volumes, time, log or {})


def test_a_stationary_trajectory_gives_no_warning(campaign):
    rng = np.random.default_rng(4)
    log = {
        "temperature_K": 280.0 + 5.0 * rng.standard_normal(400),
        "potential_energy_kJ_mol": rng.standard_normal(400),
    }
    assert warnings_of(campaign, log=log) == []


def test_drift_is_a_warning(campaign):
    rng = np.random.default_rng(5)
    volumes = 8.0 + 0.05 * rng.standard_normal(400)
    volumes[200:] += 0.1
    assert "cold: the volume (nm³) drifts" in warnings_of(campaign, volumes=volumes)[0]


def test_another_temperature_in_the_log_is_a_warning(campaign):
    rng = np.random.default_rng(6)
    (warning,) = warnings_of(campaign, log={"temperature_K": 300 + rng.standard_normal(400)})
    assert "K but the config says 280 K" in warning


def test_a_temperature_far_from_that_of_the_log_is_refused(campaign):
    with pytest.raises(InputError, match=r"cold: the mean temperature of the log is 333.00 K but"):
        warnings_of(campaign, log={"temperature_K": np.full(400, 333.0)})


def test_a_constant_volume_at_constant_pressure_is_a_warning(campaign):
    (warning,) = warnings_of(campaign, "warm", volumes=np.full(400, 8.0))
    assert "warm: has a pressure (1 bar) but its volume is constant" in warning


def test_a_varying_volume_without_pressure_is_a_warning(tmp_path):
    content = waters.content()
    content["states"][2]["pressure"] = None
    campaign = config.load(waters.write_campaign(tmp_path, content))
    (warning,) = warnings_of(campaign, "warm")
    assert "warm: has no pressure (constant volume) but its volume varies" in warning


def test_time_that_does_not_increase_is_a_warning(campaign):
    time = np.arange(400.0)
    time[100:] -= 1.0
    (warning,) = warnings_of(campaign, time=time)
    assert "1 of 400 time stamps do not increase, the first in frame 100" in warning


def test_fewer_decorrelated_frames_than_parameters_is_a_warning(campaign):
    rng = np.random.default_rng(7)
    (warning,) = warnings_of(campaign, volumes=8.0 + 0.05 * rng.standard_normal(9))
    assert "fewer than the 20 parameters of the model; run longer" in warning


def test_the_size_of_an_open_model_is_spoken_of_as_provisional(campaign):
    (pair, volume) = campaign.model.terms
    model = replace(campaign.model, terms=[replace(pair, n_basis="auto"), volume])
    volumes = 8.0 + 0.05 * np.random.default_rng(7).standard_normal(9)
    (warning,) = warnings_of(replace(campaign, model=model), volumes=volumes)
    assert "fewer than the about 60 parameters (n_basis: auto as one per 0.02 nm)" in warning


def test_checking_a_campaign_tells_what_it_found(campaign):
    lines = []
    assert mapping.check_campaign(campaign, lines.append) == 3
    text = "\n".join(lines)
    assert "81 atoms" in text
    assert "27 molecules" in text
    assert "20 parameters, T0 300 K" in text
    assert text.count("cold.xtc") == 1


def test_checking_a_campaign_tells_of_pairs_without_a_term(tmp_path):
    split = {"O": {"atoms": ["O"]}, "H": {"atoms": ["H1", "H2"]}}
    content = waters.content()
    pair, volume = content["model"]["terms"]
    pairs = [{**pair, "sites": [name, name]} for name in split]
    bond = {"kind": "bond", "sites": ["O", "H"], "form": "harmonic"}
    content["model"]["terms"] = [*pairs, bond, volume]
    path = waters.write_campaign(tmp_path, content, {"HOH": {"sites": split}}, n_frames=2)
    lines = []
    mapping.check_campaign(config.load(path), lines.append)
    assert "warning: the model has no pair term for H-O, so these sites pass through each" in (
        "\n".join(lines)
    )
    assert not any("no term" in line for line in lines if line.strip().startswith("bond"))
