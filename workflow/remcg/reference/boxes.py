"""Start boxes: copies of molecules on a lattice, turned at random, without overlap. Units: nm, amu.

As a program it writes a box as PDB with its bonds:
``python -m remcg.reference.boxes box.pdb --molecules HEX.pdb:150 --density 450 --seed 1``
"""

import argparse
import io
from pathlib import Path

import numpy as np
from openmm import app, unit
from scipy.spatial.transform import Rotation

from remcg.errors import InputError
from remcg.io import write_text
from remcg.units import KG_M3

CLOSEST = 0.15  # nm between atoms of different molecules; minimisation does the rest
ORIENTATIONS = 300  # tried per molecule before the box grows
GROWTH = 1.05  # of the edge, where molecules overlap in every orientation
LARGEST_GROWTH = 3.0


def fill(templates, molecules, density, seed, fixed=False):
    """A cubic box with copies of molecules in a random order.

    Parameters
    ----------
    templates : dict
        Name to PDB file of one molecule, with CONECT records where it is no standard residue.
    molecules : dict
        Name to number of copies; their order is that of the atoms.
    density : float
        kg/m^3, from the masses of the elements; the box grows where the molecules do not fit.
    seed : int
    fixed : bool
        Whether a box that would have to grow is an error.

    Returns
    -------
    openmm.app.Topology
        With the box.
    ndarray, shape (n_atoms, 3)
        nm.
    """
    copies = {name: _read_molecule(templates[name]) for name in molecules}
    names = [name for name, count in molecules.items() for _ in range(count)]
    mass = sum(copies[name][2] for name in names)
    edge = first_edge = (mass * KG_M3 / density) ** (1 / 3)
    rng = np.random.default_rng(seed)
    while (positions := _place([copies[n][1] for n in names], edge, rng)) is None:
        edge *= GROWTH
        if fixed or edge > LARGEST_GROWTH * first_edge:
            raise InputError(
                f"reference.density: {len(names)} molecules do not fit without overlap into a box "
                f"of {first_edge:.3g} nm, the edge at {density:g} kg/m³; lower reference.density, "
                "or give a start box as the topology and leave reference.molecules out"
            )
    topology = _joined([copies[name][0] for name in names], edge)
    return topology, np.concatenate(positions)


def _read_molecule(path):
    """(topology, centred positions, mass) of a template."""
    try:
        pdb = app.PDBFile(str(path))
    except Exception as error:  # OpenMM's reader raises almost anything
        raise InputError(
            f"reference.templates: OpenMM cannot read {path} ({error}); give a PDB of one molecule"
        ) from error
    positions = np.array(pdb.positions.value_in_unit(unit.nanometer))
    masses = [atom.element.mass._value if atom.element else 0.0 for atom in pdb.topology.atoms()]
    if not sum(masses) > 0:
        raise InputError(f"reference.templates: the atoms of {path} have no elements; add them")
    return pdb.topology, positions - positions.mean(axis=0), sum(masses)


def _place(molecules, edge, rng):
    """Positions of each molecule in its cell of a simple cubic lattice, or None."""
    longest = max(np.linalg.norm(x, axis=1).max() for x in molecules)
    if edge < 2 * longest + CLOSEST:  # it could touch its own image
        return None
    n_side = int(np.ceil(len(molecules) ** (1 / 3) - 1e-9))
    cells = rng.permutation(n_side**3)[: len(molecules)]
    centres = (np.stack(np.unravel_index(cells, (n_side,) * 3), axis=1) + 0.5) * edge / n_side
    placed = np.empty((0, 3))
    found = []
    for positions, centre in zip(molecules, centres):
        for _ in range(ORIENTATIONS):
            trial = Rotation.random(random_state=rng).apply(positions) + centre
            if not _overlaps(trial, placed, edge):
                break
        else:
            return None
        found.append(trial)
        placed = np.concatenate([placed, trial])
    return found


def _overlaps(positions, others, edge):
    span = np.linalg.norm(positions - positions.mean(axis=0), axis=1).max() + CLOSEST
    near = others - positions.mean(axis=0)
    near -= edge * np.round(near / edge)
    near = near[(near**2).sum(axis=1) < span**2]
    step = near[:, None] - (positions - positions.mean(axis=0))
    step -= edge * np.round(step / edge)
    return bool(((step**2).sum(axis=2) < CLOSEST**2).any())


def _joined(topologies, edge):
    """One topology with a chain, its residues numbered from 1."""
    joined = app.Topology()
    chain = joined.addChain()
    number = 0
    for topology in topologies:
        copy = {}
        for residue in topology.residues():
            number += 1
            new = joined.addResidue(residue.name, chain, str(number))
            for atom in residue.atoms():
                copy[atom] = joined.addAtom(atom.name, atom.element, new)
        for bond in topology.bonds():
            joined.addBond(copy[bond[0]], copy[bond[1]])
    joined.setUnitCellDimensions((edge, edge, edge) * unit.nanometer)
    return joined


def pdb_text(topology, positions):
    """PDB with CRYST1 and, for residues that are no standard ones, CONECT records."""
    stream = io.StringIO()
    app.PDBFile.writeFile(topology, positions * unit.nanometer, stream, keepIds=True)
    lines = stream.getvalue().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("REMARK"))  # has the date


def main(arguments=None):
    """Write a new box of molecules as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--molecules", nargs="+", required=True, metavar="FILE.pdb:NUMBER")
    parser.add_argument("--density", type=float, default=500.0, help="kg/m^3, at most")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    pairs = [item.rsplit(":", 1) for item in chosen.molecules]
    templates = {Path(path).stem: path for path, _ in pairs}
    molecules = {Path(path).stem: int(count) for path, count in pairs}
    try:
        box = fill(templates, molecules, chosen.density, chosen.seed)
    except InputError as error:
        parser.exit(1, f"error: {error}\n")
    write_text(chosen.output, pdb_text(*box))


if __name__ == "__main__":
    main()
