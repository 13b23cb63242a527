"""OpenMM as a peer: the CPU platform with one thread and tabulated functions."""

import numpy as np
import openmm

from benchtools.timing import Stopwatch

N_TABLE = 2000
GAP = 0.1  # nm of zeros between two tables, where a spline through both may ring


class OpenMM:
    """A simulation that runs on from one measurement to the next."""

    def __init__(self, system):
        integrator = openmm.LangevinMiddleIntegrator(
            system.temperature, system.friction, system.timestep
        )
        integrator.setRandomNumberSeed(1)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(_system(system), integrator, platform, {"Threads": "1"})
        self.context.setPositions(system.start.positions)
        self.context.setVelocities(system.start.velocities)
        self._integrator = integrator
        self._rate = 5e5 / system.n_sites

    def energy(self):
        """kJ/mol."""
        return self.context.getState(getEnergy=True).getPotentialEnergy()._value

    def measure(self, seconds, least_steps=0):
        steps = max(least_steps, int(seconds * self._rate), 1)
        watch = Stopwatch()
        self._integrator.step(steps)
        timing = watch.timing(steps)
        self._rate = timing.rate
        return timing


def _system(system):
    result = openmm.System()
    result.setDefaultPeriodicBoxVectors(*np.diag(system.start.box))
    for mass in system.start.topology.masses.tolist():
        result.addParticle(mass)
    result.addForce(_pair_force(system))
    for term, theta in system.terms("bond"):
        table = _table(term, theta, 0.0, 2.0 * term.basis.high)
        result.addForce(_bonded_force("u(distance(p1,p2))", table, system.groups(term)))
    for term, theta in system.terms("angle"):
        table = _table(term, theta, 0.0, np.pi)
        result.addForce(_bonded_force("u(angle(p1,p2,p3))", table, system.groups(term)))
    return result


def _bonded_force(energy, table, groups):
    """Of OpenMM's bonded forces only the compound one takes tables."""
    force = openmm.CustomCompoundBondForce(groups.shape[1], energy)
    force.addTabulatedFunction("u", table)
    for group in groups.tolist():
        force.addBond(group, [])
    force.setUsesPeriodicBoundaryConditions(True)
    return force


def _table(term, theta, low, high):
    x = np.linspace(low, high, N_TABLE)
    return openmm.Continuous1DFunction(term.basis.values(x) @ theta, low, high)


def _pair_force(system):
    """One table for all pairs: that of types a, b in {0, 1} begins at (a + b) shifts."""
    names, topology = system.model.site_types, system.start.topology
    assert len(names) <= 2 and len(system.terms("pair")) == 2 * len(names) - 1
    shift = system.r_cut + GAP
    x = np.arange(N_TABLE) * shift / N_TABLE
    columns = {
        sum(names.index(site) for site in term.sites): term.basis.values(
            np.maximum(x, 0.5 * term.basis.r_min)
        )
        @ theta
        for term, theta in system.terms("pair")
    }
    values = np.concatenate([*(columns[place] for place in sorted(columns)), [0.0]])
    table = openmm.Continuous1DFunction(values, 0.0, shift * len(columns))
    has_types = len(names) > 1
    force = openmm.CustomNonbondedForce(f"u(r+{shift!r}*(type1+type2))" if has_types else "u(r)")
    force.addTabulatedFunction("u", table)
    if has_types:
        force.addPerParticleParameter("type")
    for kind in topology.site_types.tolist():
        force.addParticle([float(kind)] if has_types else [])
    for i, j in topology.excluded(system.model.exclude).tolist():
        force.addExclusion(i, j)
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(system.r_cut)
    return force
