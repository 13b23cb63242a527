import itertools
import shutil

import mdtraj
import numpy as np
import openmm
import pandas as pd
import pytest
from openmm import app, unit

from remcg.config import ROOT
from remcg.errors import InputError
from remcg.reference import boxes, gromacs

RESOURCES = ROOT / "resources"
MIXTURE = RESOURCES / "methanol-water"
HEXANE = RESOURCES / "hexane"
OPLS = "oplsaa.ff/forcefield.itp"

needs_gromacs = pytest.mark.skipif(
    shutil.which(gromacs.PROGRAM) is None,
    reason="GROMACS (the program gmx) is not installed",
)


def mixture(folder, n=20, density=300.0):
    """A dilute box of methanol and water: path of the PDB."""
    templates = {name: MIXTURE / f"{name}.pdb" for name in ("MOH", "HOH")}
    path = folder / "box.pdb"
    box = boxes.fill(templates, {"MOH": n, "HOH": 2 * n}, density, 5)
    path.write_text(boxes.pdb_text(*box))
    return path


def single_point(folder, path, include, cutoff, **options):
    """Potential energy of a configuration, kJ/mol."""
    gromacs.write_input(folder, path, include, cutoff)
    options = gromacs.forces(cutoff) | {"integrator": "md", "nsteps": 0, "nstenergy": 1} | options
    gromacs.run_stage(folder, "point", options | {"continuation": "yes"}, "start")
    return gromacs.energies(folder, "point")[0, 1]


def test_the_topology_counts_the_molecules_in_the_order_of_the_box(tmp_path):
    gromacs.write_input(tmp_path, mixture(tmp_path), ["a.itp", "b.itp"], 0.5)
    lines = (tmp_path / "topology.top").read_text().splitlines()
    assert lines[:2] == ['#include "a.itp"', '#include "b.itp"']
    assert lines[-3:] == ["[ molecules ]", "MOH 20", "HOH 40"]


def test_the_coordinates_for_gromacs_are_those_of_the_box(tmp_path):
    path = mixture(tmp_path)
    gromacs.write_input(tmp_path, path, ["a.itp"], 0.5)
    ours, theirs = mdtraj.load(str(path)), mdtraj.load(str(tmp_path / "start.gro"))
    np.testing.assert_allclose(theirs.xyz, ours.xyz, atol=6e-4)  # GRO rounds to 1e-3 nm
    np.testing.assert_allclose(theirs.unitcell_lengths, ours.unitcell_lengths, atol=1e-5)
    names = [[atom.name for atom in t.topology.atoms] for t in (ours, theirs)]
    assert names[0] == names[1]


def test_a_molecule_of_several_residues_is_left_to_openmm(tmp_path):
    path = RESOURCES / "pentaalanine" / "topology.pdb"
    with pytest.raises(InputError, match=r"binds residue ACE 1 to ALA 2; use engine: openmm"):
        gromacs.write_input(tmp_path, path, ["a.itp"], 0.9)


def test_a_box_that_is_too_small_for_the_cut_off_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"reference\.cutoff = 3 nm needs a box of at least 6 nm"):
        gromacs.write_input(tmp_path, mixture(tmp_path), ["a.itp"], 3.0)


def test_without_gromacs_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(gromacs, "PROGRAM", "no-such-program")
    with pytest.raises(InputError, match=r"needs the program no-such-program.*hexane-trappe\.yaml"):
        gromacs.gmx(tmp_path, "grompp")


def test_the_opls_topology_of_hexane_has_all_its_bonds_angles_torsions_and_no_charge():
    section, found, charge = None, {}, 0.0
    for line in (HEXANE / "hexane.itp").read_text().splitlines():
        line = line.partition(";")[0].strip()
        if line.startswith("["):
            section = line.strip("[] ")
        elif line and section is not None:
            found.setdefault(section, []).append(line.split())
    charge = sum(float(words[6]) for words in found["atoms"])
    assert charge == pytest.approx(0.0, abs=1e-12)
    pdb = mdtraj.load_topology(str(HEXANE / "HEX.pdb"))
    assert [words[4] for words in found["atoms"]] == [atom.name for atom in pdb.atoms]
    bonds = {frozenset((a.index + 1, b.index + 1)) for a, b in pdb.bonds}
    assert {frozenset(map(int, words[:2])) for words in found["bonds"]} == bonds
    degree = {i: sum(i in bond for bond in bonds) for i in range(1, 21)}
    assert len(found["angles"]) == sum(d * (d - 1) // 2 for d in degree.values()) == 36
    torsions = sum((degree[i] - 1) * (degree[j] - 1) for i, j in bonds)
    assert len(found["dihedrals"]) == len(found["pairs"]) == torsions == 45
    for section, width in (("angles", 3), ("dihedrals", 4)):
        for words in found[section]:
            atoms = list(map(int, words[:width]))
            assert all(frozenset(pair) in bonds for pair in itertools.pairwise(atoms))


PAIR = """
[ moleculetype ]
{name} 1
[ atoms ]
1 {kind} 1 {name} {name} 1 0.0 {mass}
"""


@needs_gromacs
@pytest.mark.parametrize("distance", [0.27, 0.3, 0.5])
def test_a_mixed_pair_of_opls_has_the_geometric_mean_of_sigma(tmp_path, distance):
    molecules = tmp_path / "pair.itp"
    molecules.write_text(
        PAIR.format(name="C", kind="opls_135", mass=12.011)
        + PAIR.format(name="H", kind="opls_140", mass=1.008)
    )
    topology = app.Topology()
    for name in "CH":
        residue = topology.addResidue(name, topology.addChain())
        topology.addAtom(name, app.Element.getBySymbol(name), residue)
    topology.setUnitCellDimensions((3, 3, 3) * unit.nanometer)
    path = tmp_path / "pair.pdb"
    path.write_text(boxes.pdb_text(topology, np.array([[1, 1, 1], [1 + distance, 1, 1]])))
    plain = {"DispCorr": "no", "coulombtype": "cut-off", "vdw-modifier": "none"}
    energy = single_point(tmp_path, path, [OPLS, molecules], 1.0, **plain)
    epsilon = np.sqrt(0.276144 * 0.12552)

    def pair(sigma):
        return 4 * epsilon * ((sigma / distance) ** 12 - (sigma / distance) ** 6)

    assert energy == pytest.approx(pair(np.sqrt(0.35 * 0.25)), rel=1e-4)
    assert energy != pytest.approx(pair(0.5 * (0.35 + 0.25)), rel=0.02)


@needs_gromacs
def test_gromacs_and_openmm_give_the_mixture_the_same_energy(tmp_path):
    path = mixture(tmp_path)
    include = [MIXTURE / "methanol-water.itp"]
    plain = {"DispCorr": "no", "vdw-modifier": "none", "coulomb-modifier": "none"}
    plain |= {"fourierspacing": 0.05, "ewald-rtol": 1e-6, "pme-order": 6}
    ours = single_point(tmp_path, path, include, 0.9, **plain)
    rounded = mdtraj.load(str(tmp_path / "start.gro"))
    pdb = app.PDBFile(str(path))
    field = app.ForceField("spce.xml", str(MIXTURE / "trappe-methanol.xml"))
    system = field.createSystem(
        pdb.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9,
        constraints=None,
        rigidWater=True,
        ewaldErrorTolerance=1e-6,
    )
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):  # the programs average over other pairs
            force.setUseDispersionCorrection(False)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(rounded.xyz[0].astype(float))
    theirs = context.getState(getEnergy=True).getPotentialEnergy()._value
    assert ours == pytest.approx(theirs, abs=0.01)  # of some -156


@needs_gromacs
def test_a_short_run_writes_frames_with_the_volumes_of_the_log(tmp_path):
    path = mixture(tmp_path, n=30, density=700.0)
    files = tmp_path / "run.xtc", tmp_path / "run.csv"
    gromacs.simulate(
        path,
        [MIXTURE / "methanol-water.itp"],
        300.0,
        1.0,
        *files,
        seed=3,
        work=tmp_path / "work",
        equilibration=2.0,
        production=2.0,
        interval=0.4,
        log_interval=0.2,
        cutoff=0.6,
    )
    frames, lines = mdtraj.load(str(files[0]), top=str(path)), pd.read_csv(files[1])
    np.testing.assert_allclose(frames.time, [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
    np.testing.assert_allclose(lines["time_ps"], np.arange(1, 11) * 0.2)
    np.testing.assert_allclose(frames.unitcell_volumes, lines["volume_nm3"][1::2], rtol=1e-4)
    assert np.ptp(lines["volume_nm3"]) > 0
    assert lines["temperature_K"].between(200, 420).all()


@needs_gromacs
def test_a_killed_run_goes_on_with_the_stage_that_was_not_done(tmp_path, monkeypatch):
    path, work = mixture(tmp_path, n=30, density=700.0), tmp_path / "work"
    arguments = path, [MIXTURE / "methanol-water.itp"], 300.0, None
    files = tmp_path / "run.xtc", tmp_path / "run.csv"
    times = {"equilibration": 0.4, "production": 0.4, "interval": 0.2, "cutoff": 0.6}

    class KilledError(Exception):
        pass

    run, seen = gromacs.gmx, []

    def watch(folder, *words, **options):
        seen.append(words[:1] + words[1:3] * (words[0] == "mdrun"))
        if words[:3] == ("mdrun", "-deffnm", "production") and len(seen) < 10:
            raise KilledError
        run(folder, *words, **options)

    monkeypatch.setattr(gromacs, "gmx", watch)
    with pytest.raises(KilledError):
        gromacs.simulate(*arguments, *files, seed=3, work=work, **times)
    seen += [()] * 10
    gromacs.simulate(*arguments, *files, seed=3, work=work, **times)
    assert [words[0] for words in seen if words] == ["grompp", "mdrun"] * 4 + ["mdrun", "energy"]
    lines = pd.read_csv(files[1])
    assert len(lines) == mdtraj.load(str(files[0]), top=str(path)).n_frames == 2
    volume = mdtraj.load(str(path)).unitcell_volumes[0]
    np.testing.assert_allclose(lines["volume_nm3"], volume, rtol=1e-5)


@needs_gromacs
def test_the_reason_of_gromacs_is_passed_on(tmp_path):
    path = mixture(tmp_path)
    with pytest.raises(InputError, match=r"gmx grompp failed: .*(HEX|MOH|moleculetype)"):
        single_point(tmp_path, path, [OPLS, HEXANE / "hexane.itp"], 0.9)
