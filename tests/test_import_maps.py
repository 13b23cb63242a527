"""Mapping files of VOTCA, OpenMSCG and AceCG become ours, or an error says what cannot."""

import numpy as np
import pytest
import yaml

import molecules
import waters
from remcg import cli, mapping
from remcg.errors import InputError
from remcg.import_maps import import_maps

PROPANE = """<cg_molecule>
  <name>ppn</name> <ident>propane</ident>
  <topology>
    <cg_beads>
      <cg_bead><name>A1</name><type>A</type><mapping>end</mapping>
        <beads>1:PPN:C1 1:PPN:H11</beads></cg_bead>
      <cg_bead><name>B</name><type>B</type><symmetry>1</symmetry><mapping>mid</mapping>
        <beads>1:PPN:C2</beads></cg_bead>
      <cg_bead><name>A2</name><type>A</type><mapping>end</mapping>
        <beads> 1:PPN:C3
                1:PPN:H31 </beads></cg_bead>
    </cg_beads>
    <cg_bonded>
      <bond><name>bond</name><beads>A1 B
        B A2</beads></bond>
      <angle><name>angle</name><beads>A1 B A2</beads></angle>
    </cg_bonded>
  </topology>
  <maps>
    <map><name>end</name><weights>12 1</weights></map>
    <map><name>mid</name><weights>14</weights></map>
  </maps>
</cg_molecule>
"""
BONDS = [(0, 1), (0, 2), (2, 3), (3, 4)]
TOPOLOGY = molecules.topology([("PPN", ["C1", "H11", "C2", "C3", "H31"])], BONDS, 2)
WATER = {
    "site-types": {
        "WAT": {"index": [0, 1, 2], "x-weight": [16.0, 1.0, 1.0], "f-weight": [1, 1, 1]}
    },
    "system": [{"anchor": 0, "repeat": 4, "offset": 3, "sites": [["WAT", 0]]}],
}


def imported(folder, text, topology=None, name="map.xml"):
    (folder / name).write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    if topology is not None:
        import mdtraj

        places = np.zeros((1, topology.n_atoms, 3))
        mdtraj.Trajectory(places, topology).save_pdb(str(folder / "topology.pdb"))
    given = folder / "topology.pdb" if topology is not None else None
    result = import_maps([folder / name], given)
    (folder / "result.yaml").write_text(result)
    return result, mapping.read_mapping(folder / "result.yaml")


def test_beads_maps_and_bonded_groups_of_votca_are_kept(tmp_path):
    text, rules = imported(tmp_path, PROPANE)
    assert "A1: {atoms: [C1, H11], weights: [12, 1]}" in text
    assert rules["PPN"].bonds == (("A1", "B"), ("B", "A2"))
    assert rules["PPN"].angles == (("A1", "B", "A2"),) and rules["PPN"].dihedrals == ()
    sites = mapping.build_sites(TOPOLOGY, rules)
    expected = [[12 / 13, 1 / 13, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 12 / 13, 1 / 13]]
    np.testing.assert_allclose(sites.matrix.toarray(), np.kron(np.eye(2), expected))
    assert sites.names == ["A", "B"] and len(sites.angles) == 2


def test_without_bonded_groups_they_are_inferred(tmp_path):
    a, b = PROPANE.index("<cg_bonded>"), PROPANE.index("</cg_bonded>")
    _, rules = imported(tmp_path, PROPANE[:a] + PROPANE[b + len("</cg_bonded>") :])
    assert rules["PPN"].bonds is None
    assert len(mapping.build_sites(TOPOLOGY, rules).bonds) == 4


def test_bonds_are_inferred_where_only_angles_are_listed(tmp_path):
    a, b = PROPANE.index("<bond>"), PROPANE.index("</bond>") + len("</bond>")
    _, rules = imported(tmp_path, PROPANE[:a] + PROPANE[b:])
    assert rules["PPN"].bonds is None and rules["PPN"].angles == (("A1", "B", "A2"),)
    assert len(mapping.build_sites(TOPOLOGY, rules).bonds) == 4


def chain_of_votca(n_residues, last="CA"):
    """One bead per residue ALA, bonded in a row."""
    beads = "".join(
        f"<cg_bead><name>S{k}</name><type>S</type><mapping>m</mapping><beads>"
        f"{k}:ALA:N {k}:ALA:{last if k == n_residues else 'CA'}</beads></cg_bead>"
        for k in range(1, n_residues + 1)
    )
    bonds = " ".join(f"S{k} S{k + 1}" for k in range(1, n_residues))
    return (
        f"<cg_molecule><topology><cg_beads>{beads}</cg_beads><cg_bonded><bond><beads>{bonds}"
        "</beads></bond></cg_bonded></topology><maps><map><name>m</name><weights>1 1</weights>"
        "<d>1 0</d></map></maps></cg_molecule>"
    )


def test_residues_that_repeat_become_one_entry(tmp_path):
    text, rules = imported(tmp_path, chain_of_votca(4))
    assert list(rules) == ["ALA"] and len(rules["ALA"].sites) == 1
    assert rules["ALA"].sites[0].weights == "geometric"
    assert "# force weights <d> of the map m are left out" in text
    assert "# groups across residues are left out" in text
    sites = mapping.build_sites(molecules.peptide(4), rules)
    assert sites.bonds.tolist() == [[0, 1], [1, 2], [2, 3]]


REFUSED = {
    "two residues": (
        ("1:PPN:C1 1:PPN:H11", "1:PPN:C1 2:PPN:H11"),
        "the bead A1 has atoms of the residues 1:PPN and 2:PPN, but a site here is within one",
    ),
    "symmetry": (("<symmetry>1", "<symmetry>3"), "the bead B has <symmetry> 3, but sites here are"),
    "weights": (("12 1<", "12 1 1<"), "the bead A1 has 2 atoms but its map end has 3 weights"),
    "no weight": (
        ("12 1<", "0 0<"),
        "<weights> of the map end sum to 0; their sum must be positive",
    ),
    "not finite": (
        ("12 1<", "12 nan<"),
        r"<weights> of the map end are \[12.0, nan\]; give finite",
    ),
    "name": (("<type>B<", "<type>B+<"), r"as a mapping, PPN.sites.B: 'B\+' cannot name a site"),
    "numbers": (("12 1<", "12 x<"), "<weights> of a map are '12 x'; give numbers"),
    "no map": (("<name>mid", "<name>midd"), "B has the map mid, which is not among end, midd"),
    "atoms": (("1:PPN:C2", "PPN:C2"), "has the atom PPN:C2; write atoms as residue number"),
    "unknown bead": (("A1 B A2", "A1 C A2"), "a <angle> names the bead C, but there are A1, B, A2"),
    "angle of two": (("A1 B A2", "A1 B"), "a <angle> lists 2 beads, which is not a multiple of 3"),
    "another group": (("angle>", "improper>"), "has a <improper> in <cg_bonded>"),
    "bead twice": (("<name>A2", "<name>A1"), "two beads have the name A1"),
    "no xml": (("<maps>", "<map"), "cannot be read as XML"),
    "another file": (("cg_molecule", "topology_"), "begins with <topology_>; give VOTCA's"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_votca_says_without_counterpart_is_refused(tmp_path, case):
    (old, new), message = REFUSED[case]
    with pytest.raises(InputError, match=rf"map\.xml: .*{message}"):
        imported(tmp_path, PROPANE.replace(old, new))


def test_residues_of_one_name_that_are_mapped_differently_are_refused(tmp_path):
    with pytest.raises(InputError, match="residues ALA are mapped in different ways"):
        imported(tmp_path, chain_of_votca(4, last="CB"))


def test_sites_of_openmscg_are_found_by_their_indices(tmp_path):
    text, rules = imported(tmp_path, WATER, waters.topology(4), "map.yaml")
    assert "WAT: {atoms: [O, H1, H2], weights: [16, 1, 1]}" in text
    assert "f-weight is left out" in text
    sites = mapping.build_sites(waters.topology(4), rules)
    np.testing.assert_allclose(sites.matrix.toarray()[1, 3:6], np.array([16, 1, 1]) / 18)


def test_nested_groups_of_openmscg_are_unfolded(tmp_path):
    """Two chains of two residues, two sites each; residues without sites are left out."""
    top = molecules.peptide(2).join(molecules.peptide(2)).join(waters.topology(2))
    content = {
        "site-types": {"B": {"index": [0, 2, 4]}, "S": {"index": [3], "x-weight": [1]}},
        "system": [
            {
                "anchor": 0,
                "repeat": 2,
                "offset": 12,
                "groups": [
                    {"anchor": 0, "repeat": 2, "offset": 6, "sites": [["B", 0], ["S", 0]]},
                ],
            }
        ],
    }
    text, rules = imported(tmp_path, content, top, "map.yaml")
    assert "B: {atoms: [N, CA, C]}" in text and rules["HOH"] is None
    sites = mapping.build_sites(top, rules)
    assert sites.n_sites == 8 and sites.bonds.tolist()[:3] == [[0, 1], [0, 2], [2, 3]]


def test_several_sites_of_a_type_are_numbered(tmp_path):
    content = {
        "site-types": {"A": {"index": [0, 1]}},
        "system": [{"repeat": 2, "offset": 4, "sites": [["A", 0], ["A", 2]]}],
    }
    _, rules = imported(tmp_path, content, molecules.carbons(4, 2), "map.yaml")
    found = [(site.name, site.type, site.atoms) for site in rules["CHN"].sites]
    assert found == [("A1", "A", ["C1", "C2"]), ("A2", "A", ["C3", "C4"])]


REFUSED_YAML = {
    "beyond": ({"system": [{"repeat": 5, "offset": 3, "sites": [["WAT", 0]]}]}, "has the atom 14"),
    "unknown": (
        {"system": [{"sites": [["XXX", 0]]}]},
        "names the site type XXX, but there are WAT",
    ),
    "two residues": ({"system": [{"sites": [["WAT", 1]]}]}, "has atoms of the residues HOH1 and"),
    "differ": ({"system": [{"sites": [["WAT", 0]]}]}, "residues HOH are mapped in different ways"),
    "misspelt": ({"sytem": []}, "unknown key 'sytem'; did you mean 'system'"),
    "text": ({"system": [{"repeat": "4", "sites": []}]}, "give whole numbers"),
    "weights": (
        {"site-types": {"WAT": {"index": [0], "x-weight": [1, 2]}}},
        "for 1 atoms; give as",
    ),
    "no weight": (
        {"site-types": {"WAT": {"index": [0, 1], "x-weight": [0, 0]}}},
        "site-types.WAT.x-weight sum to 0; their sum must be positive",
    ),
    "index": ({"site-types": {"WAT": {"index": ["O"]}}}, "give a list of whole numbers"),
    "empty": ({"system": []}, "has no site-types or no system"),
}


@pytest.mark.parametrize("case", REFUSED_YAML)
def test_a_yaml_map_that_does_not_fit_is_refused(tmp_path, case):
    changes, message = REFUSED_YAML[case]
    with pytest.raises(InputError, match=rf"map\.yaml: .*{message}"):
        imported(tmp_path, WATER | changes, waters.topology(4), "map.yaml")


def test_indices_without_a_topology_are_refused(tmp_path):
    with pytest.raises(InputError, match="give the topology with --topology"):
        imported(tmp_path, WATER, None, "map.yaml")


def test_the_command_prints_or_writes_the_mapping(tmp_path, capsys):
    (tmp_path / "propane.xml").write_text(PROPANE)
    assert cli.main(["import", str(tmp_path / "propane.xml")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Imported from propane.xml.\nPPN:\n")
    output = tmp_path / "mapping.yaml"
    assert cli.main(["import", str(tmp_path / "propane.xml"), "--output", str(output)]) == 0
    assert output.read_text() == printed
    assert cli.main(["import", str(tmp_path / "none.xml")]) == 2
    assert "none.xml: cannot be read as XML" in capsys.readouterr().err
