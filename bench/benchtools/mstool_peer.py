"""mstool as a peer, in an environment of its own: ``mstool_script.py`` runs there.

Each molecule is one residue of its input, with beads, chirality and cis/trans from our mapping and
templates and a force field in the only form that it takes: Lennard-Jones as ``LennardJonesForce``,
a charge at each atom of a residue.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from openmm import app

from benchtools.timing import SINGLE_THREAD
from remcg.backmap import checks
from remcg.io import write_json

VARIABLE = "REMCG_BENCH_MSTOOL"
INSTALL = (
    "python -m venv ~/mstool; ~/mstool/bin/pip install mstool openmm; "
    f"export {VARIABLE}=~/mstool/bin/python"
)
SCRIPT = Path(__file__).with_name("mstool_script.py")
SIZELESS = 0.04, 1e-6  # nm, kJ/mol: it divides by epsilon, where hydrogens of SPC/E have none
CUTOFF = 1.2  # nm, its default, of molecules in vacuum
STEPS = 10_000  # of dynamics after its minimisation, its default
ANGSTROM = 0.1  # nm


def python():
    """A Python that has mstool, or None."""
    named = os.environ.get(VARIABLE)
    if not named and find_spec("mstool"):
        named = sys.executable
    return named if named and version(named) else None


def version(python):
    """Of mstool in some Python, or None."""
    code = "from importlib.metadata import version; import mstool, openmm; print(version('mstool'))"
    said = asked(python, code)
    return said.split()[-1] if said else None


def asked(python, code):
    """What some Python prints for a piece of code; None where it fails."""
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def names_of(topology, molecules):
    """Residue name of each molecule, and the names of the atoms of each kind of residue."""
    kinds, residues, names = {}, [], {}
    for atoms in molecules:
        residue = kinds.setdefault(checks.species(topology, atoms), f"M{len(kinds)}")
        symbols = [topology.atom(int(i)).element.symbol for i in atoms]
        names[residue] = [f"{symbol}{k}" for k, symbol in enumerate(symbols)]
        residues.append(residue)
    return residues, names


def mapping_file(topology, mapped, template):
    """Its mapping: beads, chirality and cis/trans of each kind of molecule, as text.

    Parameters
    ----------
    topology : mdtraj.Topology
    mapped : remcg.mapping.Sites
    template : ndarray, shape (n_atoms, 3)
        Whose chirality and cis/trans are right, nm.
    """
    residues, names = names_of(topology, mapped.atoms)
    elements = [atom.element.symbol for atom in topology.atoms]
    bonds = checks.bonds_of(topology)
    near = checks.neighbours_of(elements, bonds)
    centres = checks.stereocentres(elements, bonds)
    turns = _about(checks.double_bonds(elements, bonds), near)
    lines, rows = [], mapped.matrix.tocsr()
    for residue, molecule in _firsts(residues).items():
        local = dict(zip(mapped.atoms[molecule].tolist(), names[residue]))
        lines.append(f"RESI {residue}")
        for bead, site in enumerate(np.flatnonzero(mapped.molecule == molecule)):
            lines += [f"[ S{bead} ]", " ".join(local[i] for i in rows[site].indices.tolist())]
        lines.append("[ chiral ]")
        for centre, *ends in (row for row in centres.tolist() if row[0] in local):
            if checks.handedness(template, np.array([[centre, *ends[1:], centre]]))[0] > 0.0:
                ends[2:] = ends[:1:-1]  # seen from the first the others turn one way
            lines.append(" ".join(local[i] for i in (ends[0], centre, *ends[1:])))
        for name, is_cis in (("trans", False), ("cis", True)):
            lines.append(f"[ {name} ]")
            for row in (row for row in turns if row[1] in local):
                if checks.is_cis(template, np.array([row]))[0] == is_cis:
                    lines.append(" ".join(local[i] for i in row))
    return "\n".join(lines) + "\n"


def _firsts(residues):
    """First molecule of each residue name."""
    return {name: residues.index(name) for name in dict.fromkeys(residues)}


def _about(turns, near):
    """All dihedrals about the bonds of some dihedrals."""
    pairs = [row[1:3] for row in turns.tolist()]
    return [
        [a, b, c, d] for b, c in pairs for a in near[b] if a != c for d in near[c] if d != b
    ]  # fmt: skip


def force_field(topology, fields, molecules, nonbonded):
    """The same force field in its form, as an XML tree; every atom of a residue has its own type.

    Parameters
    ----------
    topology : mdtraj.Topology
    fields : sequence of str
        XML files with harmonic bonds and angles, periodic or Ryckaert-Bellemans dihedrals.
    molecules : sequence of ndarray
    nonbonded : remcg.backmap.atoms.Nonbonded
    """
    residues, names = names_of(topology, molecules)
    system = app.ForceField(*map(str, fields)).createSystem(
        topology.to_openmm(), constraints=None, rigidWater=False
    )
    root = ElementTree.Element("ForceField")
    types, templates = (ElementTree.SubElement(root, name) for name in ("AtomTypes", "Residues"))
    of_atom = {}
    for residue, molecule in _firsts(residues).items():
        atoms = molecules[molecule].tolist()
        template = ElementTree.SubElement(templates, "Residue", name=residue)
        for i, name in zip(atoms, names[residue]):
            element, of_atom[i] = topology.atom(i).element.symbol, f"{residue}-{name}"
            mass, charge = str(system.getParticleMass(i)._value), str(nonbonded.charges[i])
            known = dict(name=of_atom[i], element=element, mass=mass)
            ElementTree.SubElement(types, "Type", known | {"class": of_atom[i]})
            known = dict(name=name, type=of_atom[i], charge=charge)
            ElementTree.SubElement(template, "Atom", known)
        local = dict(zip(atoms, names[residue]))
        for a, b in checks.bonds_of(topology).tolist():
            if a in local:
                ElementTree.SubElement(
                    template, "Bond", atomName1=local[a], atomName2=local[b]
                )  # fmt: skip
    bonds = {frozenset(pair) for pair in checks.bonds_of(topology).tolist()}
    for force in system.getForces():
        if type(force).__name__ in BONDED:
            section = ElementTree.SubElement(root, type(force).__name__)
            BONDED[type(force).__name__](section, force, of_atom, bonds)
    _add_nonbonded(root, of_atom, nonbonded, bonds)
    return ElementTree.ElementTree(root)


def _types(of_atom, *atoms):
    return {f"type{k}": of_atom[i] for k, i in enumerate(atoms, 1)}


def _bonds(section, force, of_atom, bonds):
    for k in range(force.getNumBonds()):
        a, b, length, stiffness = force.getBondParameters(k)
        if a in of_atom:
            known = dict(length=str(length._value), k=str(stiffness._value))
            ElementTree.SubElement(section, "Bond", _types(of_atom, a, b) | known)


def _angles(section, force, of_atom, bonds):
    for k in range(force.getNumAngles()):
        a, b, c, angle, stiffness = force.getAngleParameters(k)
        if a in of_atom:
            known = dict(angle=str(angle._value), k=str(stiffness._value))
            ElementTree.SubElement(section, "Angle", _types(of_atom, a, b, c) | known)


def _periodic(section, force, of_atom, bonds):
    found = {}
    for k in range(force.getNumTorsions()):
        *atoms, periodicity, phase, stiffness = force.getTorsionParameters(k)
        if atoms[0] in of_atom:
            terms = found.setdefault(tuple(atoms), [])
            terms.append((periodicity, phase._value, stiffness._value))
    for (a, b, c, d), terms in found.items():
        is_proper = {frozenset((a, b)), frozenset((b, c)), frozenset((c, d))} <= bonds
        known = _types(of_atom, *((a, b, c, d) if is_proper else (c, a, b, d)))
        for n, values in enumerate(terms, 1):
            known |= {f"{key}{n}": str(v) for key, v in zip(("periodicity", "phase", "k"), values)}
        ElementTree.SubElement(section, "Proper" if is_proper else "Improper", known)


def _ryckaert_bellemans(section, force, of_atom, bonds):
    for k in range(force.getNumTorsions()):
        *atoms, c0, c1, c2, c3, c4, c5 = force.getTorsionParameters(k)
        if atoms[0] in of_atom:
            known = {f"c{n}": str(c._value) for n, c in enumerate((c0, c1, c2, c3, c4, c5))}
            ElementTree.SubElement(section, "Proper", _types(of_atom, *atoms) | known)


BONDED = {
    "HarmonicBondForce": _bonds,
    "HarmonicAngleForce": _angles,
    "PeriodicTorsionForce": _periodic,
    "RBTorsionForce": _ryckaert_bellemans,
}


def _add_nonbonded(root, of_atom, nonbonded, bonds):
    scales = _scales(nonbonded)
    coulomb, lennard_jones = (f"{scale:.12g}" for scale in scales)
    section = ElementTree.SubElement(
        root, "NonbondedForce", coulomb14scale=coulomb, lj14scale=lennard_jones
    )
    ElementTree.SubElement(section, "UseAttributeFromResidue", name="charge")
    pairs = ElementTree.SubElement(
        root, "LennardJonesForce", lj14scale=lennard_jones, useDispersionCorrection="False"
    )
    sizes = {
        i: (nonbonded.sigma[i], nonbonded.epsilon[i]) if nonbonded.epsilon[i] else SIZELESS
        for i in of_atom
    }
    for i, (sigma, epsilon) in sizes.items():
        ElementTree.SubElement(section, "Atom", type=of_atom[i], sigma="1", epsilon="0")
        known = dict(type=of_atom[i], sigma=str(sigma), epsilon=str(epsilon))
        ElementTree.SubElement(pairs, "Atom", known)
    if nonbonded.geometric:
        atoms = list(sizes)
        for k, i in enumerate(atoms):
            for j in atoms[k:]:
                sigma, epsilon = np.sqrt(np.multiply(sizes[i], sizes[j]))
                known = dict(sigma=str(sigma), epsilon=str(epsilon))
                ElementTree.SubElement(pairs, "NBFixPair", _types(of_atom, i, j) | known)


def _scales(nonbonded):
    """Factors of Coulomb and Lennard-Jones three bonds apart, 1 where there is no such pair."""
    i, j = nonbonded.exceptions.reshape(-1, 2).T
    epsilon = np.sqrt(nonbonded.epsilon[i] * nonbonded.epsilon[j])
    charge = nonbonded.charges[i] * nonbonded.charges[j]
    found = []
    for values, full in (
        (nonbonded.exception_charges, charge),
        (nonbonded.exception_epsilon, epsilon),
    ):
        counted = (np.abs(values) > 0.0) & (np.abs(full) > 0.0)
        found.append(
            float(np.median((values / np.where(counted, full, 1.0))[counted]))
            if counted.any()
            else 1.0
        )
    return found


def write_sites(path, residues, mapped, sites, box):
    """Sites of a frame as a PDB file; molecules are residues."""
    edges = np.full(3, 10.0) if box is None else np.asarray(box)
    numbers = "".join(f"{edge / ANGSTROM:9.3f}" for edge in edges)
    lines, seen = [f"CRYST1{numbers}  90.00  90.00  90.00 P 1           1"], {}
    for k, (molecule, site) in enumerate(zip(mapped.molecule.tolist(), sites / ANGSTROM), 1):
        bead = seen[molecule] = seen.get(molecule, -1) + 1
        place = "".join(f"{x:8.3f}" for x in site)
        head = f"ATOM  {k:5d}  S{bead:<2d} {residues[molecule]:<4s}A{molecule + 1:4d}    "
        lines.append(f"{head}{place}  1.00  0.00")
    path.write_text("\n".join([*lines, "END"]) + "\n")


def run(folder, workshop, fields, frames, boxes, temperature, steps=0):
    """Backmap frames with mstool.

    Parameters
    ----------
    folder : path
        Empty, for its files.
    workshop : remcg.backmap.Workshop
    fields : sequence of str
        XML files of the force field.
    frames : ndarray, shape (n_frames, n_sites, 3)
        nm, those of a molecule next to one another.
    boxes : list of ndarray or None
        Edges, nm.
    temperature : float
        K.
    steps : int
        Of dynamics after its minimisation.

    Returns
    -------
    list of tuple
        Positions (n_atoms, 3) nm, in the image of the sites, and CPU seconds; or what went wrong,
        as text, and 0.
    """
    folder, mapped, topology = Path(folder), workshop.mapped, workshop.topology
    template = workshop.templates.positions[0]
    (folder / "mapping.dat").write_text(mapping_file(topology, mapped, template))
    given = topology, fields, mapped.atoms, workshop.atoms.nonbonded()
    force_field(*given).write(folder / "force-field.xml")
    residues, names = names_of(topology, mapped.atoms)
    for k, sites in enumerate(frames):
        write_sites(folder / f"frame-{k}.pdb", residues, mapped, sites, boxes[k])
    keywords = dict(
        backbone=False, use_AA_structure=False, sanitizeMartini=False, pdbsave=False,
        pbc=boxes[0] is not None, rcut=workshop.atoms.cutoff or CUTOFF, nsteps=steps,
        T=temperature,
    )  # fmt: skip
    write_json(folder / "inputs.json", {"n_frames": len(frames), "keywords": keywords})
    environment = os.environ | SINGLE_THREAD | {"OPENMM_CPU_THREADS": "1"}
    command = [python(), "-P", str(SCRIPT)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mstool failed: {(done.stdout + done.stderr)[-1500:]}")
    return [
        _read(folder, k, mapped, residues, names, *frame)
        for k, frame in enumerate(zip(frames, boxes))
    ]


def _read(folder, k, mapped, residues, names, sites, box):
    """Atoms of a frame in our order, molecules next to their sites."""
    failed = folder / f"frame-{k}.txt"
    if failed.is_file():
        return failed.read_text(), 0.0
    with np.load(folder / f"frame-{k}.npz") as read:
        found = {name: read[name] for name in read}
    order = {
        key: row for row, key in enumerate(zip(found["residues"].tolist(), found["names"].tolist()))
    }
    x = np.empty((len(order), 3))
    for molecule, atoms in enumerate(mapped.atoms):
        rows = [order[molecule + 1, name] for name in names[residues[molecule]]]
        x[atoms] = ANGSTROM * found["positions"][rows]
    return next_to_sites(x, mapped, sites, box), float(found["seconds"])


def next_to_sites(x, mapped, sites, box):
    """The same whole molecules in the images next to their sites; edges nm, None in vacuum."""
    if box is None:
        return x
    away = mapped.matrix @ x - sites
    for molecule, atoms in enumerate(mapped.atoms):
        x[atoms] -= box * np.round(away[mapped.molecule == molecule].mean(axis=0) / box)
    return x
