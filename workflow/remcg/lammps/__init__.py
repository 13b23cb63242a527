"""The engine lammps: input, run and dump of LAMMPS in place of the own dynamics."""
