"""Atoms with forces in closed form, which stand in for those of a force field."""

import numpy as np
from scipy.sparse import block_diag, csr_matrix

from remcg.backmap.constraints import Constraints


class Toy:
    """Atoms with potential(x), which gives the energy and the forces; none is a virtual site."""

    def __init__(self, masses, potential, nonbonded=None):
        self.masses, self.potential = np.asarray(masses, float), potential
        self.parameters = nonbonded

    def set_box(self, box):
        self.box = box

    def nonbonded(self):
        return self.parameters

    def with_virtual_sites(self, x):
        return np.array(x)

    def energy(self, x):
        return self.potential(x)[0]

    def forces(self, x):
        return self.potential(x)[1]

    def energy_and_forces(self, x):
        return self.potential(x)


def dimers(n, curve):
    """n molecules of two atoms of 2 amu over their centres, and these constraints.

    curve(r): energies and derivatives of their distances.
    """

    def potential(x):
        arms = x[1::2] - x[::2]
        r = np.linalg.norm(arms, axis=1)
        energies, slopes = curve(r)
        forces = np.empty_like(x)
        forces[::2] = (slopes / r)[:, None] * arms
        forces[1::2] = -forces[::2]
        return energies.sum(), forces

    atoms = Toy(np.full(2 * n, 2.0), potential)
    centres = csr_matrix(block_diag([[[0.5, 0.5]]] * n))
    return atoms, Constraints(centres, atoms.masses, [], [])
