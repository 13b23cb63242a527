"""Backmapping with mstool; runs in a Python that has it, not in remcg's.

Reads ``inputs.json`` and leaves in ``frame-<k>.npz`` the atoms of each frame with the CPU seconds
that they took, or in ``frame-<k>.txt`` what went wrong.
"""

import json
import time
from pathlib import Path

import numpy
from mstool import Backmap, Universe


def backmap(k, keywords):
    """One frame: seconds, residue numbers, atom names and positions in Angstrom."""
    numpy.random.seed(k)  # noqa: NPY002, the generator that it uses
    begin, work = time.process_time(), f"frame-{k}"
    Backmap(f"{work}.pdb", workdir=work, mapping="mapping.dat", ff="force-field.xml", **keywords)
    seconds = time.process_time() - begin
    atoms = Universe(f"{work}/step4_final.dms").atoms
    names = atoms["name"].to_numpy(str)
    return seconds, atoms["resid"].to_numpy(int), names, atoms[["x", "y", "z"]].to_numpy(float)


def main():
    given = json.loads(Path("inputs.json").read_text())
    for k in range(given["n_frames"]):
        try:
            seconds, residues, names, positions = backmap(k, given["keywords"])
        except Exception as error:
            Path(f"frame-{k}.txt").write_text(f"{type(error).__name__}: {error}")
            continue
        numpy.savez(
            f"frame-{k}.npz", seconds=seconds, residues=residues, names=names, positions=positions
        )


if __name__ == "__main__":
    main()
