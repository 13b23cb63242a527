"""The peer of the posterior: plain Langevin dynamics with stiff restraints on the sites, OpenMM."""

import numpy as np
import openmm
from openmm import unit

from remcg.backmap.atoms import build_system

STIFFNESS = 5e5  # kJ/mol/nm^2
LADDER = np.geomspace(1e3, STIFFNESS, 3)
ITERATIONS, TOLERANCE = 10, 200.0  # of the minimiser, kJ/mol/nm
TIMESTEP, FRICTION = 0.002, 20.0  # ps, 1/ps
HOT, STAGES = 450.0, 10  # K
ENERGY = "0.5*site_stiffness*((x1-x0)^2+(y1-y0)^2+(z1-z0)^2)"
RESTRAINED = 2  # force group


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
