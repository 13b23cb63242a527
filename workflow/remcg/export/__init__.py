"""The model as input files of other programs."""

from pathlib import Path

from remcg.export.bonded import has_molecules
from remcg.export.gromacs import write_gromacs
from remcg.export.hoomd import write_hoomd
from remcg.export.lammps import write_lammps
from remcg.export.tables import Start, write_tables

__all__ = [
    "Start",
    "write_all",
    "write_gromacs",
    "write_hoomd",
    "write_lammps",
    "write_openmm",
    "write_tables",
]


def write_openmm(folder, model, states, start, **options):
    """See :func:`remcg.export.openmm.write_openmm`; loads OpenMM only when called."""
    from remcg.export import openmm

    openmm.write_openmm(folder, model, states, start, **options)


def write_all(folder, model, states, start, timestep=0.004, friction=1.0):
    """Write ``lammps/``, ``openmm/``, ``hoomd/``, ``tables/`` and, where the model has bonded
    terms, ``gromacs/`` below ``folder``.

    The time step (ps) goes into all inputs that run, the friction (1/ps) into OpenMM's alone.
    """
    folder = Path(folder)
    write_lammps(folder / "lammps", model, states, start, timestep)
    write_openmm(folder / "openmm", model, states, start, timestep=timestep, friction=friction)
    write_hoomd(folder / "hoomd", model, states, start, timestep)
    write_tables(folder / "tables", model, states)
    if model.bonded_terms and has_molecules(start):
        write_gromacs(folder / "gromacs", model, states, start)
