"""What the benchmark of backmapping hands to mstool and CG2AT2, and how it reads their atoms."""

import sys

import numpy as np
import openmm
import pytest
from openmm import app

from test_bench import BENCH

sys.path.insert(0, str(BENCH))

from benchtools import cg2at_peer
from benchtools import mstool_peer as peer

import backmap as bench
from remcg.backmap.atoms import Atoms

MOLECULES = {"pentaalanine": ("T400", 1), "hexane": ("T300", 2), "spce-water": ("T280", 3)}


class Few:
    """The first molecules of a shipped reference, with a frame of it."""

    def __init__(self, name):
        state, n = MOLECULES[name]
        frames = np.arange(1)
        topology, mapped, fields, *_, own, _ = bench._campaign(name, state, frames, frames)
        self.whole, self.mapped, self.positions = topology, mapped, own.positions[0]
        self.box, self.n, self.molecules = own.box(0), n, mapped.atoms[:n]
        self.topology = topology.subset(np.concatenate(self.molecules))
        self.fields = [field for field in fields if "obc" not in str(field)]
        self.x = self.positions[: self.topology.n_atoms]
        self.residues, self.names = peer.names_of(self.topology, self.molecules)

    def renamed(self):
        """Topology of OpenMM in which each molecule is one residue, atoms in the same order."""
        result, made = app.Topology(), []
        chain = result.addChain()
        for atoms, name in zip(self.molecules, self.residues):
            residue = result.addResidue(name, chain)
            for i, of_atom in zip(atoms, self.names[name]):
                symbol = self.topology.atom(int(i)).element.symbol
                made.append(result.addAtom(of_atom, app.Element.getBySymbol(symbol), residue))
        for a, b in self.topology.bonds:
            result.addBond(made[a.index], made[b.index])
        return result


def energy(topology, fields, x):
    """kJ/mol, of all pairs, nothing rigid, in double precision."""
    topology.setPeriodicBoxVectors(None)
    system = app.ForceField(*map(str, fields)).createSystem(
        topology, constraints=None, rigidWater=False
    )
    reference = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), reference)
    context.setPositions(x)
    return context.getState(energy=True).getPotentialEnergy()._value


@pytest.mark.parametrize(
    "name, tolerance", [("pentaalanine", 1e-8), ("hexane", 1e-8), ("spce-water", 0.01)]
)
def test_mstool_is_given_the_force_field_of_the_reference(name, tolerance, tmp_path):
    few, path = Few(name), tmp_path / "force-field.xml"
    nonbonded = Atoms(few.topology, few.fields, None).nonbonded()
    peer.force_field(few.topology, few.fields, few.molecules, nonbonded).write(path)
    theirs = energy(few.renamed(), [path], few.x)
    ours = energy(few.topology.to_openmm(), few.fields, few.x)
    assert theirs == pytest.approx(ours, abs=tolerance)  # water: its hydrogens get some epsilon


def sections(text):
    """{heading: rows of words} of a mapping of one residue."""
    found = {}
    for line in text.splitlines()[1:]:
        if line.startswith("["):
            rows = found.setdefault(line.strip("[ ]"), [])
        else:
            rows.append(line.split())
    return found


def test_mstool_is_given_beads_chirality_and_amides_of_the_reference():
    few = Few("pentaalanine")
    found = sections(peer.mapping_file(few.whole, few.mapped, few.positions))
    place = dict(zip(few.names["M0"], few.positions))
    beads = [[place[name] for name in found[f"S{k}"][0]] for k in range(7)]
    masses = [few.whole.atom(int(i)).element.mass for i in few.molecules[0]]
    weight = dict(zip(few.names["M0"], masses))
    for k, atoms in enumerate(beads):
        middle = np.average(atoms, axis=0, weights=[weight[name] for name in found[f"S{k}"][0]])
        assert middle == pytest.approx((few.mapped.matrix @ few.positions)[k], abs=1e-4)
    assert len(found["chiral"]) == 5
    for row in found["chiral"]:
        target, centre, c, d, e = (place[name] for name in row)
        assert (target - centre) @ np.cross(d - c, e - d) > 0.0
    assert len(found["trans"]) == len(found["cis"]) == 12
    for name, sign in (("trans", -1.0), ("cis", 1.0)):
        for row in found[name]:
            a, b, c, d = (place[atom] for atom in row)
            assert sign * np.cross(b - a, c - b) @ np.cross(c - b, d - c) > 0.0


def test_atoms_of_mstool_come_back_in_order_and_next_to_their_sites(tmp_path):
    few = Few("hexane")
    residues, names = peer.names_of(few.whole, few.mapped.atoms)
    sites, rng = few.mapped.matrix @ few.positions, np.random.default_rng(1)
    moved = few.positions.copy()
    for atoms in few.mapped.atoms:
        moved[atoms] += rng.integers(-2, 3, 3) * few.box
    numbers = np.repeat(np.arange(1, len(residues) + 1), 20)
    mixed = rng.permutation(len(moved))
    np.savez(
        tmp_path / "frame-0.npz", seconds=2.5, residues=numbers[mixed],
        names=np.array(names["M0"] * len(residues))[mixed], positions=10.0 * moved[mixed],
    )  # fmt: skip
    read, seconds = peer._read(tmp_path, 0, few.mapped, residues, names, sites, few.box)
    assert read == pytest.approx(few.positions, abs=1e-9) and seconds == 2.5
    (tmp_path / "frame-0.txt").write_text("ValueError: no")
    assert (
        peer._read(tmp_path, 0, few.mapped, residues, names, sites, few.box)[0] == "ValueError: no"
    )


def test_sites_are_written_in_columns_of_pdb(tmp_path):
    few = Few("hexane")
    residues, _ = peer.names_of(few.whole, few.mapped.atoms)
    sites = few.mapped.matrix @ few.positions
    peer.write_sites(tmp_path / "frame-0.pdb", residues, few.mapped, sites, few.box)
    read = app.PDBFile(str(tmp_path / "frame-0.pdb"))
    assert read.getPositions(asNumpy=True)._value == pytest.approx(sites, abs=6e-5)
    assert [residue.name for residue in read.topology.residues()] == residues
    edges = np.diag(read.topology.getPeriodicBoxVectors()._value)
    assert edges == pytest.approx(few.box, abs=6e-5)


def test_missing_programs_are_told_with_the_way_to_install_them(monkeypatch, tmp_path, capsys):
    for variable in (peer.VARIABLE, cg2at_peer.VARIABLE):
        monkeypatch.setenv(variable, str(tmp_path / "python"))
    assert bench.main(["--markdown"]) == 0
    said = capsys.readouterr().out
    assert f"{peer.VARIABLE}=" in said and f"{cg2at_peer.VARIABLE}=" in said


def test_fragments_are_whole_molecules_joined_along_bonds_between_beads():
    few = Few("hexane")
    found = sections("\n" + cg2at_peer.fragments(few.whole, few.mapped, few.positions))
    names, joints = [], {}
    for k in range(3):
        for words in found[f"S{k}"]:
            place = np.array(words[5:8], float)
            atom = few.whole.atom(int(words[1]) - 1)
            assert words[2] == atom.name
            assert place == pytest.approx(10.0 * few.positions[atom.index], abs=6e-4)
            names.append(words[2])
            if float(words[8]):
                joints.setdefault(float(words[8]), []).append(words[2])
    assert sorted(names) == sorted(atom.name for atom in few.whole.residue(0).atoms)
    assert sorted(joints.values()) == [["C2", "C3"], ["C4", "C5"]]


def test_structures_that_mstool_could_not_make_are_no_rows():
    settings = bench.backmap.Settings(method="map", draws=1, cutoff=None)
    *given, own, others = bench._campaign("pentaalanine", "T400", np.arange(1), np.arange(40))
    topology, mapped, fields, _, temperature = given
    workshop = bench.backmap.Workshop(topology, mapped, others, fields, None, temperature, settings)
    ours, theirs = (bench._Structures(workshop) for _ in range(2))
    sites = mapped.matrix @ own.positions[0]
    ours.keep(None, sites, 1.0, own.positions[0])
    theirs.keep(None, sites, 0.0, None)
    rows = bench._Compared("case, ", np.zeros(1)).rows(ours, theirs, "mstool", bench.PULLED_ROWS)
    assert [(row["case"], row["ours"], row["peer"]) for row in rows] == [
        (f"case, {bench.CLEAN}", 1, 0)
    ]
