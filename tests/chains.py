"""Chains whose bonds, angles and dihedrals are drawn from known potentials, for tests.

A chain without pair terms has independent internal coordinates: p(r) ~ r^2 exp(-U/kT) of a bond,
sin(x) exp(-U/kT) of an angle, exp(-U/kT) of a dihedral.
"""

import json

import numpy as np

from remcg.io import write_h5
from remcg.sample import topology_arrays
from remcg.topology import Topology
from remcg.units import KB

RANGES = {"bond": (0.05, 0.8), "angle": (0.0, np.pi), "dihedral": (-np.pi, np.pi)}


def jacobian(kind, x):
    return {"bond": x**2, "angle": np.sin(x), "dihedral": np.ones_like(x)}[kind]


def drawn(kind, potential, temperature, shape, rng):
    """Independent values of a bonded coordinate, by inversion of the cumulated density."""
    x = np.linspace(*RANGES[kind], 40_001)
    energy = potential(x)
    density = jacobian(kind, x) * np.exp(-(energy - energy.min()) / (KB * temperature))
    middle = 0.5 * (density[1:] + density[:-1])
    cumulated = np.concatenate([[0.0], np.cumsum(middle)])
    return np.interp(rng.random(shape) * cumulated[-1], cumulated, x)


def built(bonds, angles, dihedrals):
    """Positions (..., n, 3) of chains from their lengths (..., n-1), angles and dihedrals.

    The usual recursion of natural extension reference frames, with cis at 0.
    """
    shape = bonds.shape[:-1]
    points = [np.zeros((*shape, 3)), np.concatenate([bonds[..., :1], np.zeros((*shape, 2))], -1)]
    for k in range(1, bonds.shape[-1]):
        u = points[-1] - points[-2]
        u /= np.linalg.norm(u, axis=-1, keepdims=True)
        if k == 1:
            v = np.broadcast_to([0.0, 1.0, 0.0], u.shape)
            phi = np.zeros(shape)
        else:
            v = points[-3] - points[-2]
            phi = dihedrals[..., k - 2]
        normal = np.cross(v, u)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        side = np.cross(u, normal)  # towards the side of v
        theta, length = angles[..., k - 1, None], bonds[..., k, None]
        step = -np.cos(theta) * u
        step += np.sin(theta) * (np.cos(phi)[..., None] * side - np.sin(phi)[..., None] * normal)
        points.append(points[-1] + length * step)
    return np.stack(points, axis=-2)


def topology(n_molecules, types=(0, 1, 0), mass=14.0):
    """Linear chains of given site types."""
    n = len(types)
    bonds = [(m * n + k, m * n + k + 1) for m in range(n_molecules) for k in range(n - 1)]
    return Topology.from_bonds(np.tile(types, n_molecules), np.full(n * n_molecules, mass), bonds)


def frames(potentials, temperature, n_frames, n_molecules, n, edge=6.0, seed=0):
    """Independent chains of n sites at random places: positions, boxes."""
    rng, shape = np.random.default_rng(seed), (n_frames, n_molecules)
    parts = [
        drawn(kind, potentials[kind], temperature, (*shape, n - k), rng)
        if n - k > 0
        else np.zeros((*shape, 0))
        for k, kind in enumerate(("bond", "angle", "dihedral"), start=1)
    ]
    positions = built(*parts) + edge * rng.random((*shape, 1, 3))
    return positions.reshape(n_frames, -1, 3), np.full((n_frames, 3), edge)


def write_map(path, positions, boxes, found, names, state="hot", **attributes):
    """A map file of whole molecules."""
    arrays = {"positions": positions, "box": boxes, **topology_arrays(found)}
    more = {"site_names": json.dumps(list(names)), "n_molecules": found.n_molecules, "state": state}
    write_h5(path, arrays, {**more, **attributes})
    return path
