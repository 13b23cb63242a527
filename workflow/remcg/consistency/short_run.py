"""Centres of the molecules in short atomistic runs with frames close in time."""

import numpy as np

from remcg.backmap.validation import is_rounded
from remcg.boxes import many
from remcg.consistency.dynamics import centres
from remcg.errors import InputError
from remcg.io import read_h5, write_h5
from remcg.mapping import Mapper, sites_of
from remcg.trajectory import has_forces, read_forces, read_frames

MOST_VALUES = 50_000_000  # centres times frames that are kept
FORCES_EVERY = 10  # frames


def map_short_run(campaign, state, paths, output, log=print):
    """Map a state's short runs and write ``map/dynamics/<state>.h5``.

    Datasets: centres (n_frames, n_molecules, 3), nm; box, nm; time, ps; where the files hold forces
    also forces (n, n_molecules, 3), kJ/mol/nm, on the molecules in every tenth frame.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : str
        Id.
    paths : list of path
    output : path
    log : callable
    """
    source = campaign.topology(state)
    topology, sites = sites_of(source, campaign.system.mapping)
    to_sites, found, n_frames = Mapper(topology, sites), [], 0
    for chunk in read_frames(paths, topology, state, source):
        if not found and is_rounded(chunk.positions):
            raise InputError(
                f"{state}: dynamics: the coordinates of {paths[0]} are rounded to 0.001 nm, which "
                "is as far as atoms move between its frames; write a format of full precision, "
                "such as TRR (GROMACS: nstxout), NetCDF or HDF5"
            )
        own = centres(to_sites(chunk, state), sites.topology, chunk.boxes)
        found.append((own.copy(), many(chunk.boxes), np.array(chunk.time)))
        n_frames += len(own)
        if n_frames * own.shape[1] > MOST_VALUES:
            log(f"{state}: dynamics: {n_frames} frames are enough, those that follow are not read")
            break
    arrays = dict(zip(("centres", "box", "time"), map(np.concatenate, zip(*found))))
    if all(has_forces(path) for path in paths):
        arrays["forces"] = _on_molecules(read_forces(paths, topology, state), sites.atoms, n_frames)
    write_h5(output, arrays)


def _on_molecules(chunks, molecules, n_frames):
    """Sums of the forces over the atoms of each molecule."""
    rows, start = [], 0
    for forces in chunks:
        chosen = forces[-start % FORCES_EVERY :: FORCES_EVERY]
        rows.append(np.stack([chosen[:, atoms].sum(axis=1) for atoms in molecules], axis=1))
        start += len(forces)
        if start >= n_frames:
            break
    return np.concatenate(rows)


def read_short_run(path):
    """The datasets of :func:`map_short_run` by name."""
    return read_h5(path)[0]
