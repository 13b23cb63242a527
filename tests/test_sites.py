"""Several sites per residue and molecules of several residues: operator, bonds, masses, errors."""

import tempfile
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import yaml

import molecules
from remcg import mapping
from remcg.errors import InputError

CARBON, HYDROGEN = mdtraj.element.carbon.mass, mdtraj.element.hydrogen.mass
OXYGEN, NITROGEN = mdtraj.element.oxygen.mass, mdtraj.element.nitrogen.mass


def built(topology, text):
    """Sites of a mapping in YAML."""
    return mapping.build_sites(topology, read(text))


def read(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mapping.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return mapping.read_mapping(path)


HEXANE = """
CHN:
  sites:
    A1: {atoms: [C1, C2]}
    B: {atoms: [C3, C4], weights: geometric}
    A2: {atoms: [C5, C6], weights: [3, 1]}
  types: {A1: A, A2: A}
"""


def test_a_chain_of_three_sites_has_two_bonds_and_an_angle_per_molecule():
    sites = built(molecules.carbons(6, 2), HEXANE)
    expected = [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.75, 0.25]]
    np.testing.assert_allclose(sites.matrix.toarray(), np.kron(np.eye(2), expected))
    assert sites.names == ["A", "B"] and sites.site_types.tolist() == [0, 1, 0] * 2
    assert sites.molecule.tolist() == [0, 0, 0, 1, 1, 1]
    assert sites.bonds.tolist() == [[0, 1], [1, 2], [3, 4], [4, 5]]
    assert sites.angles.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sites.dihedrals.shape == (0, 4)
    assert [atoms.tolist() for atoms in sites.atoms] == [list(range(6)), list(range(6, 12))]


def test_a_selection_means_the_same_as_names():
    by_names = built(molecules.carbons(6, 2), HEXANE)
    text = HEXANE.replace("atoms: [C1, C2]", "select: name C1 or name C2")
    text = text.replace("atoms: [C3, C4]", "select: index 2 to 3")
    selected = built(molecules.carbons(6, 2), text)
    np.testing.assert_array_equal(selected.matrix.toarray(), by_names.matrix.toarray())


def test_repeat_units_are_bonded_across_residues():
    """Two sites per residue, one of which is a side chain: a comb."""
    text = """
ALA:
  sites:
    BB: {select: backbone or name HA}
    SC: {atoms: [CB]}
"""
    sites = built(molecules.peptide(4), text)
    assert sites.molecule.tolist() == [0] * 8
    expected = [[0, 1], [0, 2], [2, 3], [2, 4], [4, 5], [4, 6], [6, 7]]
    assert sites.bonds.tolist() == expected
    assert len(sites.angles) == 8 and len(sites.dihedrals) == 8
    assert sites.topology.n_molecules == 1


def test_sites_on_one_atom_per_residue_are_bonded_through_atoms_in_no_site():
    sites = built(molecules.peptide(5), "ALA: {sites: {CA: {select: name CA}}}")
    assert sites.bonds.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert len(sites.angles) == 3 and len(sites.dihedrals) == 2
    whole = 3 * CARBON + HYDROGEN + NITROGEN + OXYGEN
    np.testing.assert_allclose(sites.masses, whole)


def test_sites_that_share_an_atom_are_bonded_and_share_its_mass():
    text = """
CHN:
  sites:
    A: {atoms: [C1, C2, C3]}
    B: {atoms: [C3, C4]}
    C: {atoms: [C4, C5, C6]}
"""
    sites = built(molecules.carbons(6), text)
    assert sites.bonds.tolist() == [[0, 1], [1, 2]]  # C3-C4 is within B, and bonds no others
    np.testing.assert_allclose(sites.masses, [2.5 * CARBON, CARBON, 2.5 * CARBON])


def test_an_atom_in_no_site_gives_its_mass_to_the_nearest_sites():
    text = "CHN: {sites: {A: {atoms: [C1]}, B: {atoms: [C5]}}}"
    sites = built(molecules.carbons(6), text)
    np.testing.assert_allclose(sites.masses, [2.5 * CARBON, 3.5 * CARBON])
    assert sites.bonds.tolist() == [[0, 1]]  # C3 is as near to one as to the other


@pytest.mark.parametrize(
    "text",
    [
        "CHN: {sites: {A: {atoms: [C1, C2]}, B: {atoms: [C2, C5, C6], weights: [1, 0, 1]}}}",
        "CHN: {sites: {A: {atoms: [C4], weights: geometric}}}",
        "CHN: {sites: {A: {atoms: [C1]}, B: {atoms: [C3]}, C: {atoms: [C6]}}}",
    ],
)
def test_the_mass_of_a_molecule_is_kept_whatever_is_in_its_sites(text):
    sites = built(molecules.carbons(6, 3), text)
    of_molecule = np.bincount(sites.molecule, sites.masses)
    np.testing.assert_allclose(of_molecule, 6 * CARBON)


def test_masses_of_united_atoms_are_those_of_the_mapping():
    text = """
CHN:
  masses: {C1: 15.035, C2: 14.027}
  sites: {A: {atoms: [C1, C2]}}
"""
    sites = built(molecules.carbons(2), text)
    assert sites.masses[0] == pytest.approx(29.062)
    np.testing.assert_allclose(sites.matrix.toarray()[0], np.array([15.035, 14.027]) / 29.062)


def test_listed_bonds_replace_the_inferred_ones_within_the_residue_only():
    text = """
ALA:
  sites:
    N: {atoms: [N, CA]}
    C: {atoms: [C, O]}
    S: {atoms: [CB]}
  bonds: [[N, C], [C, S]]
"""
    sites = built(molecules.peptide(2), text)
    assert sites.bonds.tolist() == [[0, 1], [1, 2], [1, 3], [3, 4], [4, 5]]


def test_listed_angles_and_dihedrals_replace_the_inferred_ones():
    chain = molecules.carbons(4)
    one = ", ".join(f"S{i}: {{atoms: [C{i}]}}" for i in range(1, 5))
    inferred = built(chain, f"CHN: {{sites: {{{one}}}}}")
    assert inferred.angles.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert inferred.dihedrals.tolist() == [[0, 1, 2, 3]]
    listed = built(chain, f"CHN: {{sites: {{{one}}}, angles: [[S3, S2, S1]], dihedrals: []}}")
    assert listed.angles.tolist() == [[2, 1, 0]]
    assert listed.dihedrals.shape == (0, 4)
    np.testing.assert_array_equal(listed.bonds, inferred.bonds)


def test_ends_of_a_chain_may_be_other_residues_with_the_same_site_type():
    residues = [("END", ["C1", "C2"]), ("MID", ["C1", "C2"]), ("END", ["C1", "C2"])]
    top = molecules.topology(residues, [(i, i + 1) for i in range(5)])
    site = "{sites: {A: {select: all}}}"
    sites = built(top, f"END: {site}\nMID: {site}")
    assert sites.names == ["A"] and sites.bonds.tolist() == [[0, 1], [1, 2]]


def test_an_ignored_residue_of_a_molecule_leaves_its_mass_to_it():
    residues = [("CAP", ["C1"]), ("MID", ["C1", "C2"]), ("MID", ["C1", "C2"])]
    top = molecules.topology(residues, [(i, i + 1) for i in range(4)])
    sites = built(top, "CAP: {ignore: true}\nMID: {sites: {A: {select: all}}}")
    np.testing.assert_allclose(sites.masses, [3 * CARBON, 2 * CARBON])
    assert [len(atoms) for atoms in sites.atoms] == [5]


def test_the_operator_tells_its_rank_and_null_space():
    sites = built(molecules.carbons(6, 4), HEXANE)
    assert sites.rank == 12
    dense = np.kron(sites.matrix.toarray(), np.eye(3))
    assert sites.null_dimension == dense.shape[1] - np.linalg.matrix_rank(dense) == 36


def test_mapped_masses_are_those_with_which_sites_move():
    sites = built(molecules.carbons(6), HEXANE)
    inverse = (sites.matrix.toarray() ** 2 / sites.atom_masses).sum(axis=1)
    np.testing.assert_allclose(sites.mapped_masses, 1 / inverse)
    np.testing.assert_allclose(sites.mapped_masses[0], 2 * CARBON)  # a centre of mass


def with_residues(**residues):
    return {name: {"sites": {k: {"atoms": v} for k, v in sites.items()}}
            for name, sites in residues.items()}  # fmt: skip


CHAIN = {"A": ["C1", "C2"], "B": ["C3", "C4"]}
REFUSED_FILES = {
    "unknown site in a bond": (
        {"CHN": {**with_residues(CHN=CHAIN)["CHN"], "bonds": [["A", "BB"]]}},
        r"CHN.bonds: \[A, BB\] names the site BB, but the residue has A, B; did you mean 'B'",
    ),
    "angle of two sites": (
        {"CHN": {**with_residues(CHN=CHAIN)["CHN"], "angles": [["A", "B", "A"]]}},
        r"CHN.angles: \[A, B, A\] names a site twice; give 3 different",
    ),
    "bond of three": (
        {"CHN": {**with_residues(CHN=CHAIN)["CHN"], "bonds": [["A", "B", "A"]]}},
        r"CHN.bonds: \[A, B, A\] has 3 sites; give 2",
    ),
    "bond twice": (
        {"CHN": {**with_residues(CHN=CHAIN)["CHN"], "bonds": [["A", "B"], ["B", "A"]]}},
        r"\[A, B\] stands twice",
    ),
    "no list": (
        {"CHN": {**with_residues(CHN=CHAIN)["CHN"], "bonds": "A-B"}},
        "found 'A-B'; give a list of groups of 2 site names",
    ),
    "atoms and select": (
        {"CHN": {"sites": {"A": {"atoms": ["C1"], "select": "all"}}}},
        "CHN.sites.A: has atoms and select; keep one",
    ),
    "select nothing": ({"CHN": {"sites": {"A": {"select": ""}}}}, "found ''; give a selection"),
    "types of unknown site": (
        {"CHN": {"sites": {"A": {"atoms": ["C1"]}}, "types": {"B": "A"}}},
        "CHN.types: unknown key 'B'",
    ),
    "types alike": (
        {"CHN": {"sites": {"A": {"atoms": ["C1"]}, "a": {"atoms": ["C2"]}}}},
        "the types A and a differ only in case",
    ),
    "ignored with sites": (
        {"CHN": {"ignore": True, "sites": {"A": {"atoms": ["C1"]}}}},
        "CHN: has sites and ignore: true; keep one of the two",
    ),
    "negative mass": (
        {"CHN": {"sites": {"A": {"atoms": ["C1"]}}, "masses": {"C1": -1}}},
        "CHN.masses.C1: found -1; give a mass in amu",
    ),
    "two mappings": (
        "CHN: {ignore: true}\nCHN: {ignore: true}\n",
        "'CHN' stands twice, in lines 1",
    ),
    "two sites of one name": (
        "CHN: {sites: {A: {atoms: [C1]}, A: {atoms: [C2]}}}",
        "'A' stands twice",
    ),
}


@pytest.mark.parametrize("case", REFUSED_FILES)
def test_a_mapping_that_contradicts_itself_is_refused(case):
    content, message = REFUSED_FILES[case]
    with pytest.raises(InputError, match=message):
        read(content)


def test_a_molecule_of_several_sites_without_bonds_is_refused():
    top = molecules.topology([("CHN", ["C1", "C2", "C3", "C4"])], [(0, 1), (2, 3)])
    message = "residue CHN0: its molecule has several sites, but no bonds of the topology connect"
    with pytest.raises(InputError, match=message + r" its atoms CHN0-C1 and CHN0-C3.*CONECT"):
        built(top, with_residues(CHN=CHAIN))


def test_a_molecule_of_one_site_needs_no_bonds():
    top = molecules.topology([("CHN", ["C1", "C2"])], [], 2)
    assert built(top, "CHN: {sites: {A: {select: all}}}").molecule.tolist() == [0, 1]


def test_a_residue_with_two_atoms_of_one_name_is_refused():
    top = molecules.topology([("CHN", ["C1", "C1", "C2"])], [(0, 1), (1, 2)])
    with pytest.raises(InputError, match="residue CHN0 has two atoms C1; give each its own name"):
        built(top, with_residues(CHN={"A": ["C1", "C2"]}))


def test_sites_that_listed_bonds_leave_alone_are_refused():
    content = {"CHN": {**with_residues(CHN=CHAIN)["CHN"], "bonds": []}}
    message = r"its site B is not bonded to the rest of the molecule, .* bonds: \[\[A, B\]\]"
    with pytest.raises(InputError, match=message):
        built(molecules.carbons(4), content)


def test_sites_at_the_same_place_are_refused():
    same = {"A": ["C1", "C2"], "B": ["C2", "C1"]}
    apart = molecules.carbons(1, 2, name="ONE").join(molecules.carbons(2))
    with pytest.raises(InputError, match=r"positions of its sites \(A, B\) depend on each other"):
        built(apart, with_residues(ONE={"X": ["C1"]}, CHN=same))


def test_a_ring_of_shared_atoms_has_the_rank_of_its_matrix():
    """No atom is in one site alone: rank cannot be read off."""
    for n, rank in ((4, 3), (5, 5)):
        atoms = [f"C{i}" for i in range(n)]
        top = molecules.topology([("RNG", atoms)], [(i, (i + 1) % n) for i in range(n)])
        sites = {f"S{i}": [atoms[i], atoms[(i + 1) % n]] for i in range(n)}
        if rank == n:
            assert built(top, with_residues(RNG=sites)).rank == n
        else:
            with pytest.raises(InputError, match="depend on each other"):
                built(top, with_residues(RNG=sites))


def test_sites_of_different_molecules_share_a_type_only_on_purpose():
    top = molecules.carbons(2).join(molecules.carbons(1, name="ONE"))
    content = with_residues(CHN={"A": ["C1", "C2"]}, ONE={"A": ["C1"]})
    message = r"the sites A of CHN and A of ONE, .* different molecules, .* types: \{A: A\} in both"
    with pytest.raises(InputError, match=message):
        built(top, content)
    for each in content.values():
        each["types"] = {"A": "A"}
    assert built(top, content).names == ["A"]


@pytest.mark.parametrize(
    "select, message",
    [
        ("name C9", "'name C9' selects no atom of residue CHN0, which has C1, C2"),
        ("nmae C1", "mdtraj does not understand the selection 'nmae C1'"),
    ],
)
def test_a_selection_without_meaning_is_refused(select, message):
    with pytest.raises(InputError, match=message):
        built(molecules.carbons(2), {"CHN": {"sites": {"A": {"select": select}}}})


def test_weights_for_another_number_of_selected_atoms_are_refused():
    with pytest.raises(
        InputError, match="has 2 weights, but 'all' selects 3 atoms of residue CHN0"
    ):
        built(molecules.carbons(3), {"CHN": {"sites": {"A": {"select": "all", "weights": [1, 2]}}}})


def test_a_mass_for_an_atom_that_is_not_there_is_refused():
    content = {"CHN": {"sites": {"A": {"atoms": ["C1"]}}, "masses": {"C3": 15.0}}}
    with pytest.raises(InputError, match="masses: the atom C3 is not in residue CHN0"):
        built(molecules.carbons(2), content)


def test_the_table_tells_what_maps_to_what():
    rules = read(HEXANE)
    top = molecules.carbons(6, 2)
    text = "\n".join(mapping.describe(top, rules, mapping.build_sites(top, rules)))
    assert "CHN      A2    A     2       24.0216   given      C5 C6" in text
    assert "bond     A-B                       4" in text
    assert "angle    A-B-A                     2" in text
    assert "2 molecules (2 of 3 sites), 6 sites of 12 atoms; 18 of 36 dimensions" in text


def test_the_table_tells_atoms_in_no_site_and_groups_without_a_term():
    top = molecules.carbons(6, 2).join(molecules.carbons(3, name="ONE"))
    chain = {"sites": {"A": {"atoms": ["C1", "C2"]}, "B": {"atoms": ["C3", "C5"]}}}
    rules = read({"CHN": chain, "ONE": {"sites": {"C": {"atoms": ["C2"]}}}})
    lines = mapping.describe(top, rules, mapping.build_sites(top, rules), {("bond", "A-A")})
    assert "CHN: in no site, their masses go to the nearest ones: C4 C6" in lines
    assert "ONE: in no site, their masses go to the only one: C1 C3" in lines
    (bond,) = (line for line in lines if line.startswith("bond"))
    assert bond.startswith("bond     A-B ") and bond.endswith("2  no term")
    lines = mapping.describe(top, rules, mapping.build_sites(top, rules), {("bond", "A-B")})
    assert not any("no term" in line for line in lines)


def test_the_mapping_in_the_documentation_is_legal():
    text = (Path(__file__).parents[1] / "config" / "README.md").read_text()
    block = text[text.index("```yaml\nHEX:") :]
    rules = read(block[len("```yaml\n") : block.index("```", 3)])
    assert list(rules) == ["HEX", "HXU", "NA"] and rules["NA"] is None
    names = ["C3", "H31", "H32", "C4", "H41", "H42", "C5"]
    top = molecules.topology([("HEX", names)], [(i, i + 1) for i in range(6)])
    found = [top.atom(k).name for k in top.select(rules["HEX"].sites[1].select)]
    assert found == names[:-1]


SHIPPED = {  # topology, mapping: numbers of molecules, sites, bonds, angles, dihedrals
    ("hexane/topology", "hexane-3site"): (150, 450, 300, 150, 0),
    ("hexane-trappe/topology", "hexane-trappe-3site"): (150, 450, 300, 150, 0),
    ("methanol-water/x25", "methanol-water-1site"): (512, 512, 0, 0, 0),
    ("pentaalanine/topology", "pentaalanine-1site"): (1, 7, 6, 5, 4),
    ("spce/topology", "water-1site"): (512, 512, 0, 0, 0),
}


@pytest.mark.parametrize(("topology", "rules"), SHIPPED)
def test_the_shipped_mappings_fit_their_topologies(topology, rules):
    root = Path(__file__).parents[1]
    path = root / "resources" / f"{topology}.pdb"
    read, sites = mapping.sites_of(path, root / "config" / "mappings" / f"{rules}.yaml")
    groups = (len(each) for each in (sites.bonds, sites.angles, sites.dihedrals))
    assert (len(sites.atoms), sites.n_sites, *groups) == SHIPPED[topology, rules]
    assert sites.masses.sum() == pytest.approx(sites.atom_masses.sum())
    assert sites.rank == sites.n_sites and sites.n_atoms == read.n_atoms
