"""The most probable atoms over given sites: minimisation on the manifold, overlaps first."""

from typing import NamedTuple

import numpy as np
import openmm
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

from remcg.backmap.constraints import Constraints, UnreachableError
from remcg.errors import SamplingError

MASS = 12.0  # amu, of all atoms: stiff directions are then less different
FIRST_STEP, LONGEST_TIME = 0.001, 0.006  # ps
LONGEST_MOVE = 0.01  # nm, of an atom in a step
SOFT_TOLERANCE = 500.0  # kJ/mol/nm
SOFT_STEPS = 200
PATIENCE, FASTER, SLOWER, LESS_MIXED, MIXED = 5, 1.1, 0.5, 0.99, 0.1
MARGIN = 1.15  # sites may be farther apart by this factor than bonds and angles at rest allow
STRETCHED = 1.13  # of the length at rest, of a bond after minimisation


class Minimum(NamedTuple):
    """Where a minimisation ended.

    positions (n_atoms, 3) nm; energy kJ/mol; force: largest force on an atom along the manifold,
    kJ/mol/nm; n_steps: evaluations of the true forces; is_converged.
    """

    positions: np.ndarray
    energy: float
    force: float
    n_steps: int
    is_converged: bool


def minimise(atoms, constraints, positions, sites, tolerance=50.0, steps=500, soft=True):
    """Positions of low energy over the sites; see :func:`find_minimum`.

    Returns
    -------
    ndarray, shape (n_atoms, 3), nm
    """
    return find_minimum(atoms, constraints, positions, sites, tolerance, steps, soft).positions


def find_minimum(atoms, constraints, positions, sites, tolerance=50.0, steps=500, soft=True):
    """Minimise U(x) on {M x = y, rigid bonds}: overlaps first, then the true potential.

    Never leaves the manifold. First bonds, angles and dihedrals with a soft repulsion of atoms that
    are too close, which cannot fail on atoms on top of one another; then the potential itself. An
    atom moves at most 0.01 nm in a step.

    Parameters
    ----------
    atoms : remcg.backmap.atoms.Atoms
        Or anything with ``masses`` and ``energy_and_forces``.
    constraints : remcg.backmap.constraints.Constraints
    positions : ndarray, shape (n_atoms, 3)
        nm, of whole molecules.
    sites : ndarray, shape (n_sites, 3)
        nm, those of a molecule next to one another.
    tolerance : float
        Largest force on an atom along the manifold at which it ends, kJ/mol/nm.
    steps : int
        At most, of the true potential.
    soft : bool
        Whether to begin with the soft repulsion.

    Returns
    -------
    Minimum

    Raises
    ------
    UnreachableError
        Where sites are farther apart than their molecule can reach; before minimisation by bond
        lengths and angles at rest, after it by bonds that are stretched by more than 13 %.

    References
    ----------
    Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), FIRE.
    """
    reach = _reach_of(atoms, constraints)
    if reach is not None:
        reach.check(sites)
    even = _even(constraints)
    x = even.project(positions, sites)
    if soft and hasattr(atoms, "softened"):
        x, _, _, _ = _descend(atoms.softened(), even, x, sites, SOFT_TOLERANCE, SOFT_STEPS)
    x, energy, force, n_steps = _descend(atoms, even, x, sites, tolerance, steps)
    if reach is not None:
        reach.check_bonds(x)
    return Minimum(x, energy, float(force), n_steps, bool(force <= tolerance))


def relaxed(atoms, constraints, positions, sites, tolerance, steps):
    """Positions (n_atoms, 3), nm, after some steps downhill; no stretched bond is an error.

    Parameters as of :func:`find_minimum`.
    """
    even = _even(constraints)
    x = even.project(positions, sites)
    return _descend(atoms, even, x, sites, tolerance, steps)[0]


def _descend(atoms, constraints, x, sites, tolerance, steps):
    """FIRE along the manifold; the lowest energy seen, its force, and the number of steps."""
    v, dt, mixed, downhill = np.zeros_like(x), FIRST_STEP, MIXED, 0
    best = None
    for step in range(steps + 1):
        energy, forces = atoms.energy_and_forces(x)
        forces = constraints.project_forces(forces, x)
        largest = np.sqrt((forces**2).sum(axis=1).max(initial=0.0))
        if not np.isfinite(largest):
            raise SamplingError(
                f"minimisation, step {step}: forces are not finite; atoms lie on top of one another"
            )
        if best is None or energy < best[1]:
            best = x, energy, largest, step
        if largest <= tolerance or step == steps:
            break
        if (forces * v).sum() > 0:
            downhill += 1
            v = (1 - mixed) * v + mixed * forces * np.sqrt((v**2).sum() / (forces**2).sum())
            if downhill > PATIENCE:
                dt, mixed = min(FASTER * dt, LONGEST_TIME), LESS_MIXED * mixed
        else:
            v[:], downhill, mixed = 0.0, 0, MIXED
            dt *= SLOWER if step else 1.0
        v = v + dt / MASS * forces
        move = dt * v
        length = np.sqrt((move**2).sum(axis=1, keepdims=True))
        x, move = _moved(constraints, x, move / np.maximum(length / LONGEST_MOVE, 1.0), sites)
        v = constraints.project_velocities(move / dt, x)
    return (*best[:3], step)


def _moved(constraints, x, move, sites):
    """The projected end of a move and the move that it came to; shorter ones if it cannot be."""
    for _ in range(8):
        try:
            y = constraints.project(x + move, sites, x)
            return y, y - x
        except UnreachableError:
            move = 0.25 * move
    raise SamplingError(
        "minimisation: rigid bonds cannot be kept in the smallest move; their atoms are at places"
        " from which they cannot move over the sites"
    )


def _even(constraints):
    """The same constraints for atoms of one mass, kept with the first."""
    if not hasattr(constraints, "even"):
        masses = np.where(constraints.masses > 0, MASS, 0.0)
        constraints.even = Constraints(
            constraints.operator, masses, constraints.rigid, constraints.rigid_lengths
        )
    return constraints.even


def _reach_of(atoms, constraints):
    """:class:`Reach` of a system, kept with its constraints; None without a force field."""
    if not hasattr(constraints, "reach"):
        system = getattr(atoms, "system", None)
        constraints.reach = None if system is None else Reach(system, constraints.operator)
    return constraints.reach


class Reach:
    """How far the sites of a molecule can be apart.

    The distance of two sites is at most the mean, over atoms of both with their weights, of the
    length of the shortest way between these along bonds, and across angles, at rest.

    Parameters
    ----------
    system : openmm.System
    operator : sparse matrix, shape (n_sites, n_atoms)
        Only pairs of sites with weights of one sign and a bond or angle between them are known.

    Attributes
    ----------
    pairs : ndarray, shape (n_pairs, 2)
        Sites.
    limits : ndarray, shape (n_pairs,)
        nm, bonds and angles at rest.
    """

    def __init__(self, system, operator):
        self.operator = csr_matrix(operator)
        self.bonds, self.lengths = _bonds_at_rest(system)
        edges, across = _ways(system, self.bonds, self.lengths)
        n = self.operator.shape[1]
        graph = csr_matrix((across, edges.T), (n, n))
        self.graph = graph.maximum(graph.T)
        positive = np.asarray((self.operator.minimum(0) != 0).sum(axis=1)).ravel() == 0
        touched = abs(self.operator) @ (self.graph != 0).astype(float) @ abs(self.operator).T
        first, second = touched.nonzero()
        kept = (first < second) & positive[first] & positive[second]
        self.pairs = np.c_[first[kept], second[kept]]
        known = {}
        self.limits = np.array([self._limit(*pair, known) for pair in self.pairs.tolist()])
        known = np.isfinite(self.limits)
        self.pairs, self.limits = self.pairs[known], self.limits[known]

    def check(self, sites):
        """Raise UnreachableError where sites (n_sites, 3) are too far apart."""
        first, second = self.pairs.T
        distances = np.linalg.norm(sites[first] - sites[second], axis=1)
        bad = np.flatnonzero(distances > MARGIN * self.limits)
        if len(bad):
            k = bad[np.argmax(distances[bad] / self.limits[bad])]
            pair = self.pairs[k]
            raise UnreachableError(
                f"sites {pair[0]} and {pair[1]} are {distances[k]:.3f} nm apart, but their"
                f" molecule reaches {self.limits[k]:.3f} nm ({len(bad)} such pairs); compare the"
                " bond lengths of the coarse-grained model with the reference, and give the sites"
                " of a molecule next to one another, not wrapped",
                self.operator[pair].indices,
            )

    def check_bonds(self, positions):
        """Raise UnreachableError where minimised atoms (n_atoms, 3) have bonds too long."""
        i, j = self.bonds.T
        stretch = np.linalg.norm(positions[i] - positions[j], axis=1) / self.lengths
        bad = np.flatnonzero(stretch > STRETCHED)
        if len(bad):
            k = bad[np.argmax(stretch[bad])]
            raise UnreachableError(
                f"the bond of atoms {i[k]} and {j[k]} is stretched to {stretch[k]:.2f} of its"
                f" length after minimisation ({len(bad)} such bonds): the sites are farther apart"
                " than the molecule can reach; compare the bonds and angles of the coarse-grained"
                " model with the reference",
                self.bonds[k],
            )

    def _limit(self, first, second, known):
        """Of one pair of sites, nm; equal neighbourhoods are computed once."""
        rows = self.operator[[first, second]]
        inside = np.unique(rows.indices)
        local = self.graph[inside][:, inside].toarray()
        weights = rows[:, inside].toarray()
        key = local.tobytes(), weights.tobytes()
        if key not in known:
            ways = shortest_path(local, directed=False)
            a, b = weights / weights.sum(axis=1, keepdims=True)
            used = np.outer(a, b)
            known[key] = float((used[used > 0] * ways[used > 0]).sum())
        return known[key]


def _bonds_at_rest(system):
    """Bonds and rigid pairs (n, 2), and their lengths (n,), nm."""
    found = {}
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for k in range(force.getNumBonds()):
                i, j, length, _ = force.getBondParameters(k)
                found[min(i, j), max(i, j)] = length._value
    for k in range(system.getNumConstraints()):
        i, j, length = system.getConstraintParameters(k)
        found[min(i, j), max(i, j)] = length._value
    pairs = np.array(list(found), int).reshape(-1, 2)
    return pairs, np.array(list(found.values()), float)


def _ways(system, bonds, lengths):
    """Bonds and the outer atoms of angles: pairs (n, 2) and distances (n,), nm."""
    length = dict(zip(map(tuple, bonds.tolist()), lengths.tolist()))
    found = dict(length)
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicAngleForce):
            for n in range(force.getNumAngles()):
                i, j, k, angle, _ = force.getAngleParameters(n)
                arms = length.get((min(i, j), max(i, j))), length.get((min(j, k), max(j, k)))
                if None not in arms:
                    a, b = arms
                    square = a * a + b * b - 2 * a * b * np.cos(angle._value)
                    found.setdefault((min(i, k), max(i, k)), square**0.5)
    return np.array(list(found), int).reshape(-1, 2), np.array(list(found.values()), float)
