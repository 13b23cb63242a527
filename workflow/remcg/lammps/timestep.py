"""The error of the time step in the dynamics that LAMMPS has at constant pressure."""

import numpy as np

from remcg.units import KB

ALLOWED = 0.01  # of the thermal energy of a bond
N_GRID = 1000


def fastest_bond(model, topology, temperature):
    """(name, angular frequency in 1/ps) of the stiffest bond, or None without a bond term.

    That of the mean curvature <U''> = <U'^2>/kT in p(r) ~ r^2 exp(-U(r)/kT) between the limits of
    the term: omega^2 = <U'^2> / (mu kT).

    Parameters
    ----------
    model : remcg.model.Model
    topology : remcg.topology.Topology
    temperature : float
        K.
    """
    found, thermal = [], KB * temperature
    for term, theta in zip(model.terms, model.term_theta(temperature)):
        groups = topology.groups(term, model.site_types) if term.kind == "bond" else []
        if len(groups):
            r = np.linspace(term.basis.low, term.basis.high, N_GRID)
            energy = term.basis.values(r) @ theta
            p = r**2 * np.exp((energy.min() - energy) / thermal)
            curvature = (p @ np.gradient(energy, r) ** 2) / p.sum() / thermal
            inverse_mass = (1.0 / topology.masses[groups]).sum(axis=1).max()
            found.append((float(np.sqrt(curvature * inverse_mass)), term.name))
    if not found:
        return None
    frequency, name = max(found)
    return name, frequency


def error_of(frequency, timestep):
    """Relative error of <x^2> of a harmonic mode in velocity Verlet at the right <v^2>.

    With x = omega dt / 2 it is 1/(1 - x^2) - 1, infinite where the mode is unstable.
    """
    square = (0.5 * frequency * timestep) ** 2
    return square / (1.0 - square) if square < 1.0 else np.inf


def advice(model, topology, temperature, timestep):
    """A sentence if bonds have too large an error at this time step (ps), else None."""
    found = fastest_bond(model, topology, temperature)
    if not found or error_of(found[1], timestep) <= ALLOWED:
        return None
    name, frequency = found
    shorter = 0.5 * timestep
    return (
        f"at constant pressure LAMMPS has the thermal energy of bonds {name} ({frequency:.0f}/ps)"
        f" {error_of(frequency, timestep):.1%} too high at a time step of {timestep:g} ps;"
        f" sample.timestep: {shorter:g} would make it {error_of(frequency, shorter):.1%}"
    )
