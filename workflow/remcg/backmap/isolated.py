"""Conformers of many molecules over given sites, chosen by their energies among one another."""

import copy

import numpy as np
import openmm

from remcg.backmap.atoms import NONBONDED_FORCES, bonded_only
from remcg.backmap.checks import dihedrals
from remcg.backmap.constraints import UnreachableError
from remcg.backmap.minimise import relaxed
from remcg.backmap.packing import packed
from remcg.errors import SamplingError, attempted
from remcg.units import COULOMB

PAIR = f"{COULOMB}*qq/r + 4*epsilon*((sigma/r)^12 - (sigma/r)^6)"
MOST_PAIRS = 2_000_000  # of atoms inside molecules
TRIES = 16
STEPS, TOLERANCE = 100, 100.0  # of each relaxation; kJ/mol/nm
SILENT = openmm.CMMotionRemover, openmm.MonteCarloBarostat


class Isolated:
    """The molecules of a system without what acts between them, and the energy of each.

    Parameters
    ----------
    atoms : remcg.backmap.atoms.Atoms
        With :meth:`~remcg.backmap.atoms.Atoms.nonbonded`, and harmonic bonds and angles, periodic
        and Ryckaert-Bellemans dihedrals; see :func:`describable`.
    molecules : sequence of ndarray
        Atom indices.
    """

    def __init__(self, atoms, molecules):
        self.n_molecules = len(molecules)
        self.owner = np.zeros(atoms.n_atoms, int)
        for k, members in enumerate(molecules):
            self.owner[members] = k
        self.nonbonded, self.molecules = atoms.nonbonded(), molecules
        self.pairs, self.parameters = _pairs(self.nonbonded, molecules)
        self.terms = _terms(atoms.system)
        self.atoms = copy.copy(atoms)
        self.atoms.system = _system(atoms.system, self.pairs, self.parameters)
        self.atoms.context = self.atoms._open()

    def energies(self, positions):
        """Potential energy of each molecule, (n_molecules,) kJ/mol, of positions (n_atoms, 3)."""
        found = [(self.pairs, _pair_energies(positions, self.pairs, *self.parameters))]
        for evaluate, rows, values in self.terms:
            found.append((rows, evaluate(positions, rows, *values)))
        total = np.zeros(self.n_molecules)
        for rows, values in found:
            total += np.bincount(self.owner[rows[:, 0]], values, self.n_molecules)
        return total

    def choose(self, place, constraints, sites, box, temperature, rng, tries=TRIES):
        """Of several placements of all molecules one of each, by heat bath while they cool.

        Each placement is relaxed over its sites by itself. Mirror images and turns about sites on a
        line have one energy there: only the molecules around tell them apart, in their present
        choice. Pairs of molecules have Lennard-Jones with a soft core and Coulomb, truncated.

        Parameters
        ----------
        place : callable
            Positions (n_atoms, 3) over sites, from ``(sites, rng, is_varied)``.
        constraints : remcg.backmap.constraints.Constraints
        sites : ndarray, shape (n_sites, 3)
            nm.
        box : ndarray, shape (3,) or (3, 3), or None
            nm.
        temperature : float
            K, at the end.
        rng : numpy.random.Generator
        tries : int

        Returns
        -------
        ndarray, shape (n_atoms, 3), nm

        Raises
        ------
        UnreachableError, SamplingError
            If all tries fail: what the first one met.
        """

        def relaxed_one(k):
            arguments = self.atoms, constraints, place(sites, rng, k > 0), sites
            return relaxed(*arguments, tolerance=TOLERANCE, steps=STEPS)

        found, _ = attempted(relaxed_one, range(tries), (UnreachableError, SamplingError))
        found = np.array(found)
        energies = np.array([self.energies(x) for x in found])
        arguments = self.molecules, self.nonbonded, box, temperature, rng
        chosen = packed(found, energies, *arguments)
        return found[chosen[self.owner], np.arange(len(self.owner))]


def describable(atoms, molecules):
    """Whether :class:`Isolated` knows all that acts inside the molecules, and they are not huge."""
    known = (*(kind for kind, _, _ in TERMS), *NONBONDED_FORCES, *SILENT)
    n_pairs = sum(len(members) * (len(members) - 1) // 2 for members in molecules)
    forces = atoms.system.getForces()
    is_known = all(isinstance(force, known) for force in forces)
    return is_known and n_pairs <= MOST_PAIRS and atoms.nonbonded() is not None


def _pairs(nonbonded, molecules):
    """Pairs inside molecules (n, 2), and their q_i q_j, sigma and epsilon."""
    inside = [np.stack(np.triu_indices(len(m), 1), axis=1) for m in molecules]
    pairs = np.concatenate([np.sort(np.asarray(m)[rows]) for m, rows in zip(molecules, inside)])
    n = len(nonbonded.charges)
    special = np.sort(nonbonded.exceptions, axis=1) @ [n, 1]
    pairs = pairs[~np.isin(pairs @ [n, 1], special)]
    (i, j), (q, s, e) = pairs.T, (nonbonded.charges, nonbonded.sigma, nonbonded.epsilon)
    sigma = np.sqrt(s[i] * s[j]) if nonbonded.geometric else 0.5 * (s[i] + s[j])
    plain = q[i] * q[j], sigma, np.sqrt(e[i] * e[j])
    scaled = (
        nonbonded.exception_charges,
        nonbonded.exception_sigma,
        nonbonded.exception_epsilon,
    )
    everything = np.concatenate([pairs, nonbonded.exceptions])
    values = [np.concatenate(both) for both in zip(plain, scaled)]
    acts = (values[0] != 0.0) | (values[2] != 0.0)
    return everything[acts], [value[acts] for value in values]


def _system(system, pairs, parameters):
    """A copy whose pairs act inside molecules only."""
    isolated = bonded_only(system)
    force = openmm.CustomBondForce(PAIR)
    for name in ("qq", "sigma", "epsilon"):
        force.addPerBondParameter(name)
    for (i, j), *values in zip(pairs.tolist(), *(p.tolist() for p in parameters)):
        force.addBond(i, j, values)
    isolated.addForce(force)
    return isolated


def _pair_energies(positions, pairs, charge, sigma, epsilon):
    r = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    t = (sigma / r) ** 6
    return COULOMB * charge / r + 4.0 * epsilon * (t * t - t)


def _bond_energies(positions, rows, length, stiffness):
    r = np.linalg.norm(positions[rows[:, 0]] - positions[rows[:, 1]], axis=1)
    return 0.5 * stiffness * (r - length) ** 2


def _angle_energies(positions, rows, angle, stiffness):
    u, v = (positions[rows[:, k]] - positions[rows[:, 1]] for k in (0, 2))
    cosine = (u * v).sum(axis=1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    return 0.5 * stiffness * (np.arccos(np.clip(cosine, -1.0, 1.0)) - angle) ** 2


def _torsion_energies(positions, rows, periodicity, phase, barrier):
    return barrier * (1.0 + np.cos(periodicity * dihedrals(positions, rows) - phase))


def _ryckaert_bellemans(positions, rows, *coefficients):
    cosine = -np.cos(dihedrals(positions, rows))
    return sum(c * cosine**n for n, c in enumerate(coefficients))


TERMS = (  # force of OpenMM, how its terms are read, number of atoms and energies of them
    (openmm.HarmonicBondForce, ("getNumBonds", "getBondParameters", 2), _bond_energies),
    (openmm.HarmonicAngleForce, ("getNumAngles", "getAngleParameters", 3), _angle_energies),
    (openmm.PeriodicTorsionForce, ("getNumTorsions", "getTorsionParameters", 4), _torsion_energies),
    (openmm.RBTorsionForce, ("getNumTorsions", "getTorsionParameters", 4), _ryckaert_bellemans),
)


def _terms(system):
    """(energies, atoms (n, 2 to 4), parameters (n,) each) of every bonded force."""
    found = []
    for force in system.getForces():
        for kind, (count, get, n_atoms), evaluate in TERMS:
            if isinstance(force, kind) and getattr(force, count)():
                every = [getattr(force, get)(k) for k in range(getattr(force, count)())]
                rows = np.array([each[:n_atoms] for each in every], int)
                values = [
                    [float(getattr(v, "_value", v)) for v in each[n_atoms:]] for each in every
                ]
                found.append((evaluate, rows, np.array(values).T))
    return found
