"""Symmetries that a potential of distances and angles must have, at sampled configurations."""

from typing import NamedTuple

import numpy as np

from remcg.boxes import many
from remcg.engine.kernels import OBSERVED, all_forces, build_sites, build_system, no_sums
from remcg.engine.neighbors import build_list
from remcg.units import KB

VACUUM = 3.0  # extents of a cluster between its periodic images


class Symmetry(NamedTuple):
    """Largest violations, relative to the root mean square force, or to 1 kT for energies.

    net_force, torque: of all sites; rotation, translation: of forces and energy, the larger.
    """

    net_force: float
    torque: float
    rotation: float
    translation: float


def energy_and_forces(model, temperature, topology, positions, box):
    """Energy (kJ/mol) and forces (n_sites, 3) of one configuration, without the volume term."""
    system, sites = build_system(model, temperature), build_sites(model, topology)
    x = np.zeros((len(positions), 4))
    x[:, :3] = positions
    box = np.ascontiguousarray(many(np.asarray(box)[None])[0])
    reach = np.where(system.has_term, system.r_cut, 0.0)
    neighbors = build_list(x, box, sites, system.channel_of, reach)
    forces = np.zeros_like(x)
    observed = no_sums(system, 0, 0.0)
    energy = all_forces(x, box, neighbors, sites, system, OBSERVED, observed, forces)
    return float(energy), forces[:, :3].copy()


def check(model, temperature, topology, positions, box, rng):
    """Violations of the symmetries of a model at one configuration.

    Net force and translation in the periodic box; torque and rotation, which a periodic box does
    not have, for the same sites as a cluster in empty space.

    Parameters
    ----------
    model : Model
    temperature : float
        K.
    topology : remcg.topology.Topology
    positions : ndarray, shape (n_sites, 3), nm
    box : ndarray, shape (3,) or (3, 3)
    rng : numpy.random.Generator

    Returns
    -------
    Symmetry
    """
    whole = topology.make_whole(np.asarray(positions, float), box)
    energy, forces = energy_and_forces(model, temperature, topology, whole, box)
    scale, kt = _rms(forces), KB * temperature
    shift = rng.uniform(-1.0, 1.0, 3) @ many(np.asarray(box)[None])[0]
    moved = energy_and_forces(model, temperature, topology, whole + shift, box)
    cluster = whole - whole.mean(axis=0)
    radius = np.linalg.norm(cluster, axis=1).max()
    empty = np.full(3, (2.0 + VACUUM) * radius)
    own, free = energy_and_forces(model, temperature, topology, cluster, empty)
    rotation = _rotation(rng)
    turned = energy_and_forces(model, temperature, topology, cluster @ rotation.T, empty)
    torque = np.cross(cluster, free).sum(axis=0)
    strength = max(_rms(free), 1e-12)
    return Symmetry(
        net_force=float(np.abs(forces.sum(axis=0)).max() / max(scale, 1e-12)),
        torque=float(np.abs(torque).max() / (strength * radius)),
        rotation=_worst(turned, (own, free @ rotation.T), strength, kt),
        translation=_worst(moved, (energy, forces), max(scale, 1e-12), kt),
    )


def _worst(found, expected, strength, kt):
    force = np.abs(found[1] - expected[1]).max() / strength
    return float(max(force, abs(found[0] - expected[0]) / kt))


def _rotation(rng):
    """Uniform rotation matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x))))
