"""CG2AT2 as a peer, in an environment of its own, with GROMACS.

It knows a molecule by a file of fragments, which are made here of one of our templates, and by a
GROMACS topology of its residue in a force field that comes with it.
"""

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import mdtraj
import numpy as np

from benchtools.mstool_peer import ANGSTROM, asked, next_to_sites, write_sites
from benchtools.timing import SINGLE_THREAD
from remcg.backmap import checks

VARIABLE = "REMCG_BENCH_CG2AT"
INSTALL = (
    "python -m venv ~/cg2at; ~/cg2at/bin/pip install cg2at2; apt-get install gromacs; "
    f"export {VARIABLE}=~/cg2at/bin/python"
)
LIBRARY, FIELD = "remcg", "oplsaa"


def python():
    """A Python that has CG2AT2, or None where that or GROMACS is missing."""
    named = os.environ.get(VARIABLE)
    return named if named and shutil.which("gmx") and asked(named, VERSION) else None


VERSION = "from importlib.metadata import version; print(version('cg2at2'))"
HOME = "import cg2at; print(cg2at.__path__[0])"


def version():
    """Of CG2AT2 and GROMACS."""
    said = subprocess.run(["gmx", "--version"], capture_output=True, text=True).stdout
    gromacs = re.search(r"GROMACS version:\s*([\d.]+)", said)[1]
    return f"{asked(python(), VERSION)} with GROMACS {gromacs}"


def fragments(topology, mapped, template):
    """Its fragments of the first molecule: atoms by bead, numbers where two beads are bonded."""
    atoms, rows = mapped.atoms[0].tolist(), mapped.matrix.tocsr()
    beads = [rows[k].indices.tolist() for k in np.flatnonzero(mapped.molecule == 0)]
    of_atom = {i: bead for bead, members in enumerate(beads) for i in members}
    joints, n_joints = dict.fromkeys(atoms, 0), 0
    for a, b in checks.bonds_of(topology).tolist():
        if a in joints and of_atom[a] != of_atom[b]:
            n_joints += 1
            joints[a] = joints[b] = n_joints
    lines = []
    for bead, members in enumerate(beads):
        lines.append(f"[ S{bead} ]")
        for i in members:
            atom = topology.atom(i)
            place = "".join(f"{x:8.3f}" for x in template[i] / ANGSTROM)
            head = f"ATOM  {atoms.index(i) + 1:5d} {atom.name:>4s} {atom.residue.name:<4s}"
            lines.append(f"{head} {1:4d}    {place}{joints[i]:6.2f}  0.00")
    return "\n".join(lines) + "\n"


def prepare(folder, topology, mapped, template, itp):
    """A copy of the program whose only library is ours: it looks beside itself."""
    home, residue = Path(asked(python(), HOME)), topology.atom(0).residue.name
    shutil.copytree(home / "bin", folder / "cg2at" / "bin")
    (folder / "cg2at" / "forcefields").symlink_to(home / "forcefields")
    library = folder / "cg2at" / "fragments" / LIBRARY / "non_protein" / residue
    library.mkdir(parents=True)
    (library / f"{residue}.pdb").write_text(fragments(topology, mapped, template))
    shutil.copy(itp, library / f"{residue}.itp")


def run(folder, workshop, itp, frames, boxes):
    """Backmap frames of one kind of molecule with CG2AT2, without its dynamics.

    Parameters
    ----------
    folder : path
        Empty, for its files.
    workshop : remcg.backmap.Workshop
    itp : path
        GROMACS topology of the molecule, with types of ``oplsaa.ff``.
    frames : ndarray, shape (n_frames, n_sites, 3)
        nm, those of a molecule next to one another.
    boxes : list of ndarray
        Edges, nm.

    Returns
    -------
    list of tuple
        As of :func:`benchtools.mstool_peer.run`.
    """
    folder, topology, mapped = Path(folder), workshop.topology, workshop.mapped
    prepare(folder, topology, mapped, workshop.templates.positions[0], itp)
    residues = [topology.atom(int(atoms[0])).residue.name for atoms in mapped.atoms]
    command = [python(), folder / "cg2at" / "bin" / "cg2at.py", "-fg", LIBRARY, "-ff", FIELD]
    command += ["-gmx", shutil.which("gmx"), "-w", "spce", "-silent", "-o", "none"]
    found = []
    for k, (sites, box) in enumerate(zip(frames, boxes)):
        write_sites(folder / f"frame-{k}.pdb", residues, mapped, sites, box)
        before = _seconds()
        done = subprocess.run(
            [*command, "-c", f"frame-{k}.pdb", "-loc", f"frame-{k}"],
            cwd=folder, env=os.environ | SINGLE_THREAD, capture_output=True, text=True,
        )  # fmt: skip
        seconds, made = _seconds() - before, folder / f"frame-{k}/FINAL/final_cg2at_de_novo.pdb"
        if done.returncode or not made.is_file():
            found.append(((done.stdout + done.stderr)[-500:], 0.0))
        else:
            found.append((read(made, mapped, sites, box), seconds))
    return found


def _seconds():
    """CPU seconds of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read(path, mapped, sites, box):
    """Atoms (n_atoms, 3), nm, of its PDB file: molecules whole and next to their sites."""
    x = mdtraj.load_pdb(str(path)).xyz[0].astype(float)
    for atoms in mapped.atoms:
        x[atoms] -= box * np.round((x[atoms] - x[atoms[0]]) / box)
    return next_to_sites(x, mapped, sites, box)
