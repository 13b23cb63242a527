"""The atomistic system: energies and forces against gradients, formulas and GROMACS."""

import shutil
import subprocess

import mdtraj
import numpy as np
import openmm
import pytest
from openmm import app, unit
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap.atoms import Atoms, build_system
from remcg.backmap.constraints import Constraints
from remcg.backmap.dynamics import Dynamics
from remcg.backmap.minimise import find_minimum
from remcg.config import ROOT
from remcg.errors import InputError
from remcg.reference import gromacs

RESOURCES = ROOT / "resources"
COULOMB = 138.93545764
SKEW = np.array([[2.2, 0, 0], [0.8, 2.1, 0], [-0.6, 0.7, 2.0]])


def part(name, n_residues):
    """Topology and positions, nm, of the first residues of a shipped system."""
    whole = mdtraj.load(str(RESOURCES / name / "topology.pdb"))
    kept = [atom.index for atom in whole.topology.atoms if atom.residue.index < n_residues]
    chosen = whole.atom_slice(kept)
    return chosen.topology, chosen.xyz[0].astype(float)


def on_a_grid(topology, x, spacing):
    """The same molecules, their first atoms on a grid in random orientations; box edges."""
    rng, n = np.random.default_rng(1), topology.n_residues
    side = int(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x = x.reshape(n, -1, 3)
    x = np.einsum("nij,naj->nai", Rotation.random(n, rng).as_matrix(), x - x[:, :1])
    return (x + spacing * (grid[:n, None] + 0.5)).reshape(-1, 3), np.full(3, side * spacing)


def waters(n=27, spacing=0.35):
    topology, x = part("spce", n)
    return topology, *on_a_grid(topology, x, spacing)


def hexanes(n=8, spacing=1.1):
    topology, x = part("hexane", n)
    return topology, *on_a_grid(topology, x, spacing)


HEXANE = [RESOURCES / "hexane" / "oplsaa-hexane.xml"]
PEPTIDE = ["amber14-all.xml", "implicit/obc2.xml"]


def tip4p(n=4):
    """Water with a virtual site, one corner of each molecule at random."""
    topology = app.Topology()
    chain = topology.addChain()
    kinds = [("O", "O"), ("H1", "H"), ("H2", "H")]
    for _ in range(n):
        residue = topology.addResidue("HOH", chain)
        found = [topology.addAtom(a, app.Element.getBySymbol(e), residue) for a, e in kinds]
        topology.addAtom("M", None, residue)
        topology.addBond(found[0], found[1])
        topology.addBond(found[0], found[2])
    shape = np.array([[0, 0, 0], [0.09572, 0, 0], [-0.024, 0.09266, 0], [0, 0, 0]])
    rng = np.random.default_rng(2)
    return topology, (0.35 * np.arange(n)[:, None, None] * rng.normal(size=3) + shape).reshape(
        -1, 3
    )


def systems():
    topology, x, box = waters()
    yield "water", topology, ["spce.xml"], x, box[None], 0.5
    topology, x, box = hexanes()
    yield "hexane", topology, HEXANE, x, box[None], 0.8
    yield "hexane in a skew box", topology, HEXANE, x, SKEW[None], 0.9
    yield "hexane in vacuum", topology, HEXANE, x, None, 0.9
    yield "peptide", *_with(part("pentaalanine", 99), PEPTIDE), None, 0.9
    yield "virtual sites", *_with(tip4p(), ["tip4pew.xml"]), None, 0.9


def _with(case, force_field):
    return case[0], force_field, case[1]


@pytest.mark.parametrize("case", list(systems()), ids=lambda case: case[0])
def test_forces_are_minus_the_gradient_of_the_energy(case):
    """Along random directions, in double precision."""
    _, topology, force_field, x, boxes, cutoff = case
    atoms = Atoms(topology, force_field, boxes, cutoff, platform="Reference")
    rng = np.random.default_rng(3)
    x = x + 0.002 * rng.normal(size=x.shape)
    energy, forces = atoms.energy_and_forces(x)
    assert energy == pytest.approx(atoms.energy(x))
    np.testing.assert_array_equal(forces, atoms.forces(x))
    assert np.abs(forces[atoms.virtual]).max(initial=0.0) == 0.0
    for _ in range(3):
        step = 1e-6 * rng.normal(size=x.shape)
        step[atoms.virtual] = 0.0
        difference = atoms.energy(x + step) - atoms.energy(x - step)
        size = np.linalg.norm(forces * step)  # the mesh of Ewald sums costs some digits
        assert (
            abs(2 * (forces * step).sum() + difference)
            < (2e-3 if boxes is not None else 1e-5) * size
        )


@pytest.mark.parametrize("case", list(systems()), ids=lambda case: case[0])
def test_single_precision_is_as_good_as_the_ewald_sum(case):
    _, topology, force_field, x, boxes, cutoff = case
    fast, exact = (
        Atoms(topology, force_field, boxes, cutoff, platform=name) for name in ("CPU", "Reference")
    )
    energy, forces = exact.energy_and_forces(x)
    found, found_forces = fast.energy_and_forces(x)
    scale = np.abs(forces).max()
    assert found == pytest.approx(energy, abs=0.003 * len(x))
    np.testing.assert_allclose(found_forces, forces, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize(
    ("system", "geometric"), [(waters(8), False), (hexanes(2, 0.5), True)], ids=["water", "hexane"]
)
def test_the_parameters_of_pairs_give_the_nonbonded_energy(system, geometric):
    """A plain loop over pairs in vacuum, with the exceptions of bonded neighbours."""
    topology, x, _ = system
    force_field = HEXANE if geometric else ["spce.xml"]
    atoms = Atoms(topology, force_field, platform="Reference")
    found = atoms.nonbonded()
    assert found.geometric is geometric and found.cutoff is None
    special = {
        tuple(sorted(pair)): values for pair, *values in zip(found.exceptions.tolist(), *found[4:7])
    }
    expected = 0.0
    for i in range(atoms.n_atoms):
        for j in range(i):
            size = [found.sigma[i], found.sigma[j]]
            values = (
                found.charges[i] * found.charges[j],
                np.sqrt(np.prod(size)) if geometric else np.mean(size),
                np.sqrt(found.epsilon[i] * found.epsilon[j]),
            )
            charge, sigma, epsilon = special.get((j, i), values)
            r = np.linalg.norm(x[i] - x[j])
            expected += COULOMB * charge / r + 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)
    nonbonded = atoms.energy(x) - atoms.bonded_energy_and_forces(x)[0]
    assert nonbonded == pytest.approx(expected, rel=1e-6)


def test_geometric_pairs_in_two_plain_forces_have_the_energy_of_the_custom_force():
    topology, x, box = hexanes()
    ours = Atoms(topology, HEXANE, box[None], 0.8, platform="Reference")
    openmm_topology = topology.to_openmm()
    openmm_topology.setUnitCellDimensions(box)
    system = build_system(openmm_topology, HEXANE, 0.8)
    assert any(isinstance(f, openmm.CustomNonbondedForce) for f in system.getForces())
    assert not any(isinstance(f, openmm.CustomNonbondedForce) for f in ours.system.getForces())
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(x)
    state = context.getState(energy=True, forces=True)
    energy, forces = ours.energy_and_forces(x)
    assert energy == pytest.approx(state.getPotentialEnergy()._value, rel=1e-6)
    expected = state.getForces(asNumpy=True)._value
    np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(expected).max())


RERUN = """
cutoff-scheme = Verlet
coulombtype = PME
rcoulomb = 1.0
rvdw = 1.0
vdw-modifier = None
coulomb-modifier = None
DispCorr = Ener
nsteps = 0
nstcalcenergy = 1
nstenergy = 1
ewald-rtol = 1e-6
fourierspacing = 0.08
pme-order = 6
"""


@pytest.mark.skipif(shutil.which("gmx") is None, reason="GROMACS (gmx) is not installed")
def test_every_kind_of_term_of_hexane_is_that_of_gromacs(tmp_path):
    """One frame; our terms in double precision, those of GROMACS in mixed."""
    n = 27
    topology, x, box = hexanes(n, 0.8)
    x = np.round(x, 3)  # as in the file
    frame = mdtraj.Trajectory(
        x[None], topology, unitcell_lengths=box[None], unitcell_angles=[[90.0] * 3]
    )
    frame.save_gro(str(tmp_path / "frame.gro"))
    include = RESOURCES / "hexane" / "hexane.itp"
    (tmp_path / "topology.top").write_text(
        f'#include "oplsaa.ff/forcefield.itp"\n#include "{include}"\n'
        f"[ system ]\nhexane\n[ molecules ]\nHEX {n}\n"
    )
    (tmp_path / "rerun.mdp").write_text(RERUN)
    gromacs.gmx(tmp_path, *"grompp -f rerun.mdp -c frame.gro -p topology.top -o rerun.tpr".split())
    run = "mdrun -s rerun.tpr -rerun frame.gro -deffnm rerun -ntmpi 1 -ntomp 1 -nb cpu"
    gromacs.gmx(tmp_path, *run.split())
    names = ["Bond", "Angle", "Ryckaert-Bell.", "LJ-14", "Coulomb-14", "LJ-(SR)", "Disper.-corr.",
             "Coulomb-(SR)", "Coul.-recip."]  # fmt: skip
    output = subprocess.run(
        ["gmx", "energy", "-f", "rerun.edr", "-o", "rerun.xvg", "-dp"],
        input="\n".join(names), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert output.returncode == 0
    lines = [row for row in (tmp_path / "rerun.xvg").read_text().splitlines() if row[0] not in "#@"]
    theirs = dict(zip(names, map(float, lines[0].split()[1:])))
    ours = hexane_terms(topology, x, box, 1.0)
    for name in ("Bond", "Angle", "Ryckaert-Bell.", "LJ-14", "Coulomb-14"):
        assert ours[name] == pytest.approx(theirs[name], rel=2e-5)
    assert ours["LJ-(SR)"] == pytest.approx(theirs["LJ-(SR)"], rel=1e-4)
    coulomb = theirs["Coulomb-(SR)"] + theirs["Coul.-recip."]
    assert ours["Coulomb"] == pytest.approx(coulomb, rel=1e-4)
    # GROMACS leaves out r^-12 and bonded neighbours
    assert ours["Disper.-corr."] == pytest.approx(theirs["Disper.-corr."], rel=0.01)


def hexane_terms(topology, x, box, cutoff):
    """Energies of the force field file by kind, kJ/mol, nothing rigid."""
    openmm_topology = topology.to_openmm()
    openmm_topology.setUnitCellDimensions(box)
    system = app.ForceField(*map(str, HEXANE)).createSystem(
        openmm_topology, nonbondedMethod=app.PME, nonbondedCutoff=cutoff * unit.nanometer,
        constraints=None, ewaldErrorTolerance=1e-6,
    )  # fmt: skip
    forces = system.getForces()
    for group, force in enumerate(forces):
        force.setForceGroup(group)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(x)

    def energies():
        return {
            force.getName(): context.getState(energy=True, groups={group})
            .getPotentialEnergy()
            ._value
            for group, force in enumerate(forces)
        }

    first = energies()
    custom = next(f for f in forces if isinstance(f, openmm.CustomNonbondedForce))
    custom.setUseLongRangeCorrection(False)
    context.reinitialize(preserveState=True)
    short = energies()["LennardJonesForce"]
    plain = next(f for f in forces if isinstance(f, openmm.NonbondedForce))
    near = [0.0, 0.0]
    for k in range(plain.getNumExceptions()):
        i, j, *values = plain.getExceptionParameters(k)
        charge, sigma, epsilon = (value._value for value in values)
        r = np.linalg.norm(x[i] - x[j])
        near[0] += 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)
        near[1] += COULOMB * charge / r
    return {
        "Bond": first["HarmonicBondForce"],
        "Angle": first["HarmonicAngleForce"],
        "Ryckaert-Bell.": first["RBTorsionForce"],
        "LJ-14": near[0],
        "Coulomb-14": near[1],
        "LJ-(SR)": short,
        "Disper.-corr.": first["LennardJonesForce"] - short,
        "Coulomb": first["NonbondedForce"] - sum(near),
    }


TOP = """
#include "rules.itp"
#include "kinds.itp"
[ moleculetype ]
PAR 3
[ atoms ]
1 A 1 PAR A1 1 0.0 40.0
2 B 1 PAR B1 1 0.0 20.0
[ system ]
pairs
[ molecules ]
PAR 1
"""


@pytest.mark.parametrize(
    ("rule", "mean"), [(2, lambda a, b: (a + b) / 2), (3, lambda a, b: (a * b) ** 0.5)]
)
def test_a_gromacs_topology_has_its_own_combination_rule(tmp_path, rule, mean):
    """Its include files lie in several folders."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "rules.itp").write_text(f"[ defaults ]\n1 {rule} no 1.0 1.0\n")
    (tmp_path / "two" / "kinds.itp").write_text(
        "[ atomtypes ]\nA 18 40.0 0.0 A 0.40 1.0\nB 10 20.0 0.0 A 0.20 0.5\n"
    )
    (tmp_path / "pair.top").write_text(TOP)
    topology = app.Topology()
    residue = topology.addResidue("PAR", topology.addChain())
    for name, symbol in (("A1", "Ar"), ("B1", "Ne")):
        topology.addAtom(name, app.Element.getBySymbol(symbol), residue)
    files = [tmp_path / "pair.top", tmp_path / "one", tmp_path / "two"]
    atoms = Atoms(topology, files, platform="Reference")
    r, sigma, epsilon = 0.31, mean(0.4, 0.2), 0.5**0.5
    expected = 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)
    assert atoms.energy(np.array([[0, 0, 0], [0, r, 0]])) == pytest.approx(expected, rel=1e-6)
    assert atoms.nonbonded().geometric is (rule == 3)
    np.testing.assert_allclose(atoms.nonbonded().sigma, [0.4, 0.2], rtol=1e-9)
    np.testing.assert_allclose(atoms.nonbonded().epsilon, [1.0, 0.5], rtol=1e-9)
    np.testing.assert_array_equal(atoms.masses, [40.0, 20.0])
    assert atoms.elements == ["Ar", "Ne"]
    with pytest.raises(InputError, match=r"system.topology has 192 atoms, but .*pair.top has 2"):
        Atoms(waters(64)[0], files)
    with pytest.raises(InputError, match=r"OpenMM cannot read the force field .*pair.top"):
        Atoms(topology, files[:2])


def prmtop(path):
    """Two argon atoms and a neon atom, as Amber writes them: each a residue, no bonds."""
    size = {("AR", "AR"): (0.34, 1.0), ("AR", "NE"): (0.31, 0.7), ("NE", "NE"): (0.28, 0.3)}
    coefficients = [
        (4 * e / 4.184 * (10 * s) ** 12, 4 * e / 4.184 * (10 * s) ** 6) for s, e in size.values()
    ]
    pointers = [3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 2] + [0] * 13
    sections = [
        ("TITLE", "20a4", ["argon"]),
        ("POINTERS", "10I8", pointers),
        ("ATOM_NAME", "20a4", ["AR", "AR", "NE"]),
        ("CHARGE", "5E16.8", [0.0] * 3),
        ("ATOMIC_NUMBER", "10I8", [18, 18, 10]),
        ("MASS", "5E16.8", [39.948, 39.948, 20.18]),
        ("ATOM_TYPE_INDEX", "10I8", [1, 1, 2]),
        ("NUMBER_EXCLUDED_ATOMS", "10I8", [1, 1, 1]),
        ("NONBONDED_PARM_INDEX", "10I8", [1, 2, 2, 3]),
        ("RESIDUE_LABEL", "20a4", ["AR", "AR", "NE"]),
        ("RESIDUE_POINTER", "10I8", [1, 2, 3]),
        ("LENNARD_JONES_ACOEF", "5E16.8", [a for a, _ in coefficients]),
        ("LENNARD_JONES_BCOEF", "5E16.8", [b for _, b in coefficients]),
        ("EXCLUDED_ATOMS_LIST", "10I8", [0, 0, 0]),
        ("AMBER_ATOM_TYPE", "20a4", ["AR", "AR", "NE"]),
    ]
    empty = ["BOND_FORCE_CONSTANT", "BOND_EQUIL_VALUE", "ANGLE_FORCE_CONSTANT", "ANGLE_EQUIL_VALUE"]
    empty += ["DIHEDRAL_FORCE_CONSTANT", "DIHEDRAL_PERIODICITY", "DIHEDRAL_PHASE"]
    empty += ["HBOND_ACOEF", "HBOND_BCOEF"]
    sections += [(name, "5E16.8", []) for name in empty]
    empty = ["BONDS_INC_HYDROGEN", "BONDS_WITHOUT_HYDROGEN", "ANGLES_INC_HYDROGEN"]
    empty += ["ANGLES_WITHOUT_HYDROGEN", "DIHEDRALS_INC_HYDROGEN", "DIHEDRALS_WITHOUT_HYDROGEN"]
    sections += [(name, "10I8", []) for name in empty]
    lines = ["%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/00  00:00:00"]
    for name, form, values in sections:
        lines += [f"%FLAG {name}", f"%FORMAT({form})"]
        per_line = int(form.split("I")[0].split("E")[0].split("a")[0])
        shown = {"I": "{:8d}", "E": "{:16.8E}", "a": "{:<4}"}[form.strip("0123456789.")[0]]
        texts = [shown.format(value) for value in values]
        lines += ["".join(texts[k : k + per_line]) for k in range(0, max(len(texts), 1), per_line)]
    path.write_text("\n".join(lines) + "\n")


def test_an_amber_topology_has_its_own_pairs(tmp_path):
    """Mixed pairs that follow no rule."""
    prmtop(tmp_path / "argon.prmtop")
    topology = app.Topology()
    chain = topology.addChain()
    for symbol in ("Ar", "Ar", "Ne"):
        residue = topology.addResidue(symbol.upper(), chain)
        topology.addAtom(symbol.upper(), app.Element.getBySymbol(symbol), residue)
    atoms = Atoms(topology, [tmp_path / "argon.prmtop"], platform="Reference")
    x = np.array([[0, 0, 0], [0.4, 0, 0], [0, 0.35, 0]])
    pairs = [((0, 1), 0.34, 1.0), ((0, 2), 0.31, 0.7), ((1, 2), 0.31, 0.7)]
    expected = 0.0
    for (i, j), sigma, epsilon in pairs:
        x6 = (sigma / np.linalg.norm(x[i] - x[j])) ** 6
        expected += 4 * epsilon * (x6**2 - x6)
    assert atoms.energy(x) == pytest.approx(expected, rel=1e-6)
    assert atoms.nonbonded() is None  # its pairs follow no rule
    np.testing.assert_allclose(atoms.masses, [39.948, 39.948, 20.18])


def test_a_box_and_any_other_choice_of_its_vectors_have_one_energy():
    topology, x, _ = hexanes()
    other = SKEW.copy()
    other[2] += SKEW[1] - SKEW[0]  # the same lattice
    atoms = Atoms(topology, HEXANE, [SKEW, other], 0.9, platform="Reference")
    energies = []
    for box in (SKEW, other):
        atoms.set_box(box)
        energies.append(atoms.energy(x))
    assert energies[0] == pytest.approx(energies[1], rel=1e-9)
    atoms.set_box(1.2 * SKEW)
    assert abs(atoms.energy(x) - energies[0]) > 0.1
    edges = Atoms(topology, HEXANE, [[2.0, 2.1, 2.2]], 0.9, platform="Reference")
    vectors = Atoms(topology, HEXANE, [np.diag([2.0, 2.1, 2.2])], 0.9, platform="Reference")
    assert edges.energy(x) == pytest.approx(vectors.energy(x))


def test_rigid_bonds_and_virtual_sites_are_those_of_the_force_field():
    atoms = Atoms(*_with(tip4p(), ["tip4pew.xml"])[:2])
    assert atoms.n_atoms == 16 and atoms.virtual.tolist() == [3, 7, 11, 15]
    np.testing.assert_array_equal(atoms.masses[3::4], 0.0)
    assert len(atoms.rigid) == 12
    x = atoms.with_virtual_sites(tip4p()[1])
    assert 0.01 < np.linalg.norm(x[3] - x[0]) < 0.02
    np.testing.assert_array_equal(
        np.delete(x, atoms.virtual, 0), np.delete(tip4p()[1], atoms.virtual, 0)
    )
    everything = csr_matrix(np.kron(np.eye(4), np.full(4, 0.25)))  # also on virtual sites
    folded = atoms.fold(everything)
    np.testing.assert_allclose(folded @ x, everything @ x, atol=1e-7)
    assert np.abs(folded[:, atoms.virtual]).sum() == 0
    masses = csr_matrix(np.kron(np.eye(4), [0.8, 0.1, 0.1, 0.0]))
    assert abs(atoms.fold(masses) - masses).sum() == 0


def test_waters_with_virtual_sites_move_with_their_sites_fixed():
    topology, x = tip4p()
    atoms = Atoms(topology, ["tip4pew.xml"])
    operator = atoms.fold(csr_matrix(np.kron(np.eye(4), np.full(4, 0.25))))
    constraints = Constraints(operator, atoms.masses, atoms.rigid, atoms.rigid_lengths)
    assert constraints.degrees_of_freedom == 4 * 3
    sites = operator @ atoms.with_virtual_sites(x)
    dynamics = Dynamics(atoms, constraints)
    dynamics.start(x, sites, 300.0, np.random.default_rng(4))
    dynamics.run(50)
    whole = atoms.with_virtual_sites(dynamics.positions)
    assert np.abs(csr_matrix(np.kron(np.eye(4), np.full(4, 0.25))) @ whole - sites).max() < 1e-7


def test_overlapping_molecules_are_minimised_over_their_sites():
    """Each molecule turned at random, and some on top of one another."""
    topology, x, box = waters(27, 0.31)
    atoms = Atoms(topology, ["spce.xml"], box[None], 0.45)
    atoms.set_box(box)
    weights = atoms.masses[:3] / atoms.masses[:3].sum()
    operator = csr_matrix(block_diag([weights[None]] * 27))
    constraints = Constraints(operator, atoms.masses, atoms.rigid, atoms.rigid_lengths)
    sites = operator @ x
    sites[0] += 0.12 * (sites[1] - sites[0]) / np.linalg.norm(sites[1] - sites[0])
    x = constraints.project(x, sites)
    best = find_minimum(atoms, constraints, x, sites, tolerance=100.0, steps=800)
    assert best.is_converged
    assert best.energy == pytest.approx(atoms.energy(best.positions), abs=0.05)
    assert best.energy / 27 < -25
    assert max(constraints.residual(best.positions, sites)) < 1e-10
    assert np.isfinite(
        atoms.softened().energy_and_forces(np.tile(sites[:1], (81, 1)) + 1e-4 * x)[1]
    ).all()


@pytest.mark.parametrize(
    ("force_field", "message"),
    [
        ([], "system.force_field is empty"),
        (["no-such.xml"], r"cannot read the force field \['no-such.xml'\]"),
        (["no-such.prmtop"], r"cannot read the force field \['no-such.prmtop'\]"),
        (["no-such.top"], r"cannot read the force field \['no-such.top'\]"),
        (["amber14/protein.ff14SB.xml"], r"does not fit the topology: .*HOH"),
    ],
)
def test_a_force_field_that_is_missing_or_lacks_a_residue_is_refused(force_field, message):
    with pytest.raises(InputError, match=message):
        Atoms(waters(8)[0], force_field)


def test_boxes_too_small_for_the_cutoff_are_refused_with_the_largest_one():
    topology, _, box = waters(27, 0.35)
    message = (
        "cut-off of 0.9 nm needs boxes at least 1.8 nm wide, but the narrowest frame has 1.05 nm;"
        " set backmap.cutoff to 0.525 nm"
    )
    with pytest.raises(InputError, match=message):
        Atoms(topology, ["spce.xml"], [2 * box, box])
    atoms = Atoms(topology, ["spce.xml"], [2 * box])
    with pytest.raises(InputError, match=message):
        atoms.set_box(box)
    with pytest.raises(InputError, match="was given a box, or one built for boxes none"):
        atoms.set_box(None)
    with pytest.raises(InputError, match=r"missing.pdb cannot be read"):
        Atoms("missing.pdb", ["spce.xml"])


def test_a_state_to_go_on_from_has_positions_velocities_and_the_box():
    topology, x, box = waters(27, 0.4)
    atoms = Atoms(topology, ["spce.xml"], [box, 1.1 * box], 0.5)
    atoms.set_box(1.1 * box)
    velocities = np.random.default_rng(5).normal(size=x.shape)
    text = openmm.XmlSerializer.serialize(atoms.state(x, velocities))
    state = openmm.XmlSerializer.deserialize(text)
    np.testing.assert_allclose(state.getPositions(asNumpy=True)._value, x, atol=1e-12)
    np.testing.assert_allclose(state.getVelocities(asNumpy=True)._value, velocities, atol=1e-12)
    vectors = state.getPeriodicBoxVectors(asNumpy=True)._value
    np.testing.assert_allclose(vectors, np.diag(1.1 * box))
