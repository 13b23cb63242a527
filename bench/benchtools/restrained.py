"""What one would do with OpenMM alone: minimisation and dynamics under stiff springs on sites."""

import numpy as np
import openmm
from openmm import unit

from remcg.backmap.atoms import BONDED, NONBONDED_FORCES, build_system

STIFFNESS = 5e5  # kJ/mol/nm^2
LADDER = np.geomspace(1e3, STIFFNESS, 3)
ITERATIONS, TOLERANCE = 10, 200.0  # of the minimiser before dynamics, kJ/mol/nm
TIMESTEP, FRICTION = 0.002, 20.0  # ps, 1/ps
HOT, STAGES = 450.0, 10  # K
ENERGY = "0.5*site_stiffness*((x1-x0)^2+(y1-y0)^2+(z1-z0)^2)"
RESTRAINED = 2  # force group
SPREAD = 0.05  # nm, of atoms about their site before they are minimised
MOST_ITERATIONS, FINE = 2000, 10.0  # of a minimisation alone; OpenMM's own tolerance, kJ/mol/nm


class Restrained:
    """Atoms under sites that are held by springs.

    ``topology`` is one of OpenMM, with the box of the frame.
    """

    def __init__(self, topology, force_field, operator, sites, temperature, cutoff, seed):
        system = build_system(topology, force_field, cutoff)
        self.force = _restraint(operator, sites)
        system.addForce(self.force)
        self.integrator = openmm.LangevinMiddleIntegrator(
            temperature * unit.kelvin, FRICTION / unit.picosecond, TIMESTEP * unit.picosecond
        )
        self.integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(system, self.integrator, platform, {"Threads": "1"})
        self.temperature, self.seed = temperature, seed

    def start(self, positions):
        """Minimise with springs that stiffen."""
        self.context.setPositions(positions)
        self.context.applyConstraints(1e-6)
        for stiffness in LADDER:
            self.context.setParameter("site_stiffness", stiffness)
            openmm.LocalEnergyMinimizer.minimize(self.context, TOLERANCE, ITERATIONS)
        self.context.setVelocitiesToTemperature(max(HOT, self.temperature), self.seed)

    def run(self, steps, temperature):
        self.integrator.setTemperature(temperature * unit.kelvin)
        self.integrator.step(steps)

    def positions(self):
        return self.context.getState(positions=True).getPositions(asNumpy=True)._value


def minimised(topology, force_field, operator, sites, cutoff, seed):
    """Atoms (n_atoms, 3), nm, from random places about their sites, minimised under springs.

    Bonds, angles and dihedrals alone come first, as atoms lie on top of one another; then
    everything, with springs that stiffen.
    """
    owner = operator.tocsc().indices  # atoms of these mappings are in one site each
    rng = np.random.default_rng(seed)
    start = sites[owner] + SPREAD * rng.standard_normal((len(owner), 3))
    stages = {BONDED, RESTRAINED}, {0, BONDED, RESTRAINED}
    return _minimised(topology, force_field, operator, sites, cutoff, start, stages)


def pulled(topology, force_field, operator, sites, cutoff, start):
    """Atoms (n_atoms, 3), nm, from whole molecules, minimised under springs that stiffen."""
    stages = ({0, BONDED, RESTRAINED},)
    return _minimised(topology, force_field, operator, sites, cutoff, start, stages)


def _minimised(topology, force_field, operator, sites, cutoff, start, stages):
    system = build_system(topology, force_field, cutoff)
    for force in system.getForces():
        force.setForceGroup(0 if isinstance(force, NONBONDED_FORCES) else BONDED)
    system.addForce(_restraint(operator, sites))
    integrator = openmm.VerletIntegrator(0.001)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1"})
    context.setPositions(start)
    for groups in stages:
        integrator.setIntegrationForceGroups(groups)
        for stiffness in LADDER:
            context.setParameter("site_stiffness", stiffness)
            openmm.LocalEnergyMinimizer.minimize(context, FINE, MOST_ITERATIONS)
    return context.getState(positions=True).getPositions(asNumpy=True)._value


def _restraint(operator, sites):
    force = openmm.CustomCentroidBondForce(1, ENERGY)
    force.addGlobalParameter("site_stiffness", STIFFNESS)
    for name in ("x0", "y0", "z0"):
        force.addPerBondParameter(name)
    rows = operator.tocsr()
    for site, target in enumerate(sites):
        part = slice(rows.indptr[site], rows.indptr[site + 1])
        force.addGroup(rows.indices[part].tolist(), rows.data[part].tolist())
        force.addBond([site], target.tolist())
    force.setForceGroup(RESTRAINED)
    return force
