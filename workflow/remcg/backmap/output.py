"""Backmapped configurations as files: HDF5 with all digits, views for other programs, a start."""

import numpy as np

from remcg.boxes import many, reduced
from remcg.io import replacing, write_h5, write_text

MOST_PDB_ATOMS = 99_999  # five columns
ANGSTROM = 10.0  # per nm


def write_backmapped(path, arrays, topology, state, start=None, views=True):
    """Write ``<state>.h5`` and, as views of it, ``.xtc``, ``.pdb`` and ``.openmm.xml`` beside it.

    HDF5 holds double precision; XTC is rounded to 0.001 nm and has all structures, in the order of
    ``frame`` and ``draw``; PDB has the first. Its columns are too narrow for the numbers of more
    than 99999 atoms, so there is a ``.cif`` (mmCIF) too where there are as many.

    Parameters
    ----------
    path : path
        Of the HDF5 file.
    arrays : dict
        From :func:`remcg.backmap.backmap`.
    topology : mdtraj.Topology
    state : str
    start : openmm.State, optional
        To go on from with OpenMM.
    views : bool
        Whether to write more than HDF5.
    """
    write_h5(path, arrays, {"state": state, "temperature": arrays["temperature"]})
    if not views:
        return
    base, boxes = str(path).removesuffix(".h5"), arrays.get("box")
    first = topology, arrays["positions"][0], None if boxes is None else boxes[0]
    write_pdb(f"{base}.pdb", *first)
    if topology.n_atoms > MOST_PDB_ATOMS:
        write_mmcif(f"{base}.cif", *first)
    write_xtc(f"{base}.xtc", arrays["positions"], boxes)
    if start is not None:
        write_state(f"{base}.openmm.xml", start)


def write_nothing(path, n_atoms, state, views=True):
    """The files of :func:`write_backmapped` for a state without any structure: they say so."""
    arrays = {"positions": np.zeros((0, n_atoms, 3)), "frame": np.zeros(0, int)}
    write_h5(path, arrays, {"state": state})
    if not views:
        return
    base, text = str(path).removesuffix(".h5"), f"no frame of {state} could be backmapped"
    write_text(f"{base}.pdb", f"REMARK   1 {text}\nEND\n")
    write_text(f"{base}.xtc", "")
    write_text(f"{base}.openmm.xml", f"<!-- {text} -->\n")


def write_pdb(path, topology, positions, box=None):
    """One structure as PDB, with bonds; positions (n_atoms, 3) nm."""
    from mdtraj.formats import PDBTrajectoryFile  # mdtraj is slow to import

    lengths, angles = _cell(box)
    with replacing(path) as temporary:
        with PDBTrajectoryFile(str(temporary), "w") as view:
            view.write(
                ANGSTROM * positions,
                topology,
                unitcell_lengths=None if lengths is None else tuple(ANGSTROM * lengths),
                unitcell_angles=None if angles is None else tuple(angles),
            )


def write_mmcif(path, topology, positions, box=None):
    """One structure as mmCIF (PDBx), with bonds; positions (n_atoms, 3) nm."""
    from openmm import app, unit

    system = topology.to_openmm()
    if box is not None:
        system.setPeriodicBoxVectors(reduced(box) * unit.nanometer)
    with replacing(path) as temporary, open(temporary, "w") as file:
        app.PDBxFile.writeFile(system, positions * unit.nanometer, file, keepIds=True)


def write_xtc(path, positions, boxes=None):
    """Structures (n, n_atoms, 3), nm, one per ps, with boxes (n, 3) or (n, 3, 3) or without."""
    from mdtraj.formats import XTCTrajectoryFile

    vectors = np.zeros((len(positions), 3, 3)) if boxes is None else many(boxes)
    with replacing(path) as temporary:
        with XTCTrajectoryFile(str(temporary), "w") as file:
            file.write(
                np.asarray(positions, np.float32),
                time=np.arange(len(positions), dtype=np.float32),
                step=np.arange(len(positions), dtype=np.int32),
                box=vectors.astype(np.float32),
            )


def write_state(path, state):
    """An OpenMM State as XML: ``simulation.loadState(path)`` goes on from it."""
    import openmm

    write_text(path, openmm.XmlSerializer.serialize(state))


def _cell(box):
    """Lengths (nm) and angles (degrees) of a box; (None, None) without one."""
    if box is None:
        return None, None
    a, b, c = many(np.asarray(box)[None])[0]
    lengths = np.array([np.linalg.norm(each) for each in (a, b, c)])

    def angle(u, v):
        return np.degrees(np.arccos(u @ v / np.sqrt((u @ u) * (v @ v))))

    return lengths, np.array([angle(b, c), angle(a, c), angle(a, b)])
