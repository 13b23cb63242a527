"""Restrained sampling of atoms under fixed sites, with OpenMM."""

import numpy as np
import openmm
from openmm import unit

from remcg.backmap.atoms import build_system

TIMESTEP = 0.002  # ps
FRICTION = 20.0  # 1/ps: random orientations release much heat, which has to go quickly
FIRST_STIFFNESS = 1e3  # kJ/mol/nm^2
HOT = 450.0  # K
STAGES = 10
MINIMISER_ITERATIONS = 10  # per restraint; more only leads deeper into a random minimum
MINIMISER_TOLERANCE = 200.0  # kJ/mol/nm
RESTRAINED = 1  # force group

RESTRAINT = "0.5*site_stiffness*((x1-x0)^2+(y1-y0)^2+(z1-z0)^2)"


class Sampler:
    """One OpenMM context for all frames of a state: atoms under restrained sites.

    Parameters
    ----------
    topology : openmm.app.Topology
    force_field : sequence of str
        XML files that OpenMM's ``ForceField`` reads.
    operator : sparse matrix, shape (n_sites, n_atoms)
    boxes : ndarray, shape (n_frames, 3)
        Edge lengths of all frames to come, nm.
    temperature : float
        K.
    stiffness : float
        Of the restraint on each site, kJ/mol/nm^2.
    seed : int
    cutoff : float
        nm; the largest legal one where half the smallest box is less.
    """

    def __init__(
        self, topology, force_field, operator, boxes, temperature, stiffness, seed, cutoff
    ):
        self.temperature = temperature
        self.stiffness = stiffness
        topology.setPeriodicBoxVectors(np.diag(boxes.mean(axis=0)) * unit.nanometer)
        self.cutoff = min(cutoff, 0.499 * boxes.min())
        system = build_system(topology, force_field, self.cutoff)
        self.restraint = _restraint(operator, stiffness)
        system.addForce(self.restraint)
        self.masses = np.array(
            [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
        )
        self.integrator = openmm.LangevinMiddleIntegrator(
            temperature * unit.kelvin, FRICTION / unit.picosecond, TIMESTEP * unit.picosecond
        )
        self.integrator.setRandomNumberSeed(seed)
        self.context = openmm.Context(
            system,
            self.integrator,
            openmm.Platform.getPlatformByName("CPU"),
            {"Threads": "1", "DeterministicForces": "true"},
        )

    def start(self, positions, sites, box):
        """Take a configuration and hold its sites where they are; all in nm."""
        self.context.setPeriodicBoxVectors(*np.diag(box))
        for site, target in enumerate(sites):
            self.restraint.setBondParameters(site, [site], target.tolist())
        self.restraint.updateParametersInContext(self.context)
        self.context.setPositions(positions)
        self.context.applyConstraints(1e-6)

    def minimise(self):
        """Remove overlaps, with restraints that grow up to the full stiffness."""
        ladder = np.geomspace(min(FIRST_STIFFNESS, self.stiffness), self.stiffness, 3)
        for stiffness in ladder:
            self.context.setParameter("site_stiffness", stiffness)
            openmm.LocalEnergyMinimizer.minimize(
                self.context, MINIMISER_TOLERANCE, MINIMISER_ITERATIONS
            )

    def sample(self, steps, seed):
        """Anneal over the first half of the steps, then sample at the temperature."""
        self.context.setVelocitiesToTemperature(self.temperature, seed)
        hot = max(HOT, self.temperature)
        annealing = steps // 2
        edges = np.linspace(0, annealing, STAGES + 1).astype(int)
        for stage, count in enumerate(np.diff(edges)):
            cooled = hot * (self.temperature / hot) ** ((stage + 1) / STAGES)
            self.integrator.setTemperature(cooled * unit.kelvin)
            self.integrator.step(int(count))
        self.integrator.setTemperature(self.temperature * unit.kelvin)
        self.integrator.step(steps - annealing)

    def positions(self):
        """nm, shape (n_atoms, 3)."""
        return self.context.getState(getPositions=True).getPositions(asNumpy=True)._value

    def constrained(self, positions):
        """The nearest positions that fulfil rigid bonds and virtual sites, nm."""
        self.context.setPositions(positions)
        self.context.applyConstraints(1e-7)
        self.context.computeVirtualSites()
        return self.positions()

    def energy(self, positions):
        """Potential energy without the restraints, kJ/mol."""
        self.context.setPositions(positions)
        state = self.context.getState(getEnergy=True, groups=~(1 << RESTRAINED))
        return state.getPotentialEnergy()._value


def _restraint(operator, stiffness):
    """Harmonic restraint of every site, a weighted centroid of its atoms."""
    force = openmm.CustomCentroidBondForce(1, RESTRAINT)
    force.addGlobalParameter("site_stiffness", stiffness)
    for name in ("x0", "y0", "z0"):
        force.addPerBondParameter(name)
    rows = operator.tocsr()
    for site in range(rows.shape[0]):
        part = slice(rows.indptr[site], rows.indptr[site + 1])
        force.addGroup(rows.indices[part].tolist(), rows.data[part].tolist())
        force.addBond([site], [0.0, 0.0, 0.0])
    force.setForceGroup(RESTRAINED)
    return force
