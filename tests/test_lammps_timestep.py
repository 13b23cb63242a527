"""What the time step does to stiff bonds in velocity Verlet, and when remcg says so."""

import numpy as np
import pytest

from remcg.forms import HarmonicBasis
from remcg.lammps import timestep
from remcg.model import BondTerm, Model
from remcg.topology import Topology

MASSES = np.array([10.0, 30.0] * 2)
BONDS = np.array([[0, 1], [2, 3]])


def dumb_bells(frequency, length=0.3):
    """A model of harmonic bonds of a frequency (1/ps), and molecules of two sites."""
    basis = HarmonicBasis(0.1, 0.5)
    k = frequency**2 / (1.0 / MASSES[:2]).sum()
    r = np.linspace(0.2, 0.4, 50)
    columns = np.column_stack([basis.values(r), np.ones(50)])  # a constant acts on nothing
    theta = np.linalg.lstsq(columns, 0.5 * k * (r - length) ** 2, rcond=None)[0][:-1]
    model = Model(("A", "B"), (BondTerm(("A", "B"), basis, 1),), 300.0, 0.05, (theta[None],))
    return model, Topology(np.array([0, 1, 0, 1]), MASSES, np.array([0, 0, 1, 1]), BONDS)


def test_the_frequency_of_a_stiff_harmonic_bond_is_found():
    """Up to 2 kT / (k r^2), of the growth of phase space with r."""
    name, found = timestep.fastest_bond(*dumb_bells(90.0), 300.0)
    assert name == "A-B" and found == pytest.approx(90.0, rel=0.01)


@pytest.mark.parametrize("x", [0.05, 0.2, 0.6])
def test_the_error_is_that_of_a_harmonic_oscillator_in_velocity_verlet(x):
    """<x^2> at <v^2> = omega = 1 over whole steps, all phases, of an integrated trajectory."""
    dt = 2.0 * x
    position, velocity, squares = 0.3, 1.0, np.zeros((200_000, 2))
    for row in squares:
        velocity -= 0.5 * dt * position
        position += dt * velocity
        velocity -= 0.5 * dt * position
        row[:] = position**2, velocity**2
    ratio = np.divide(*squares.mean(axis=0))
    assert timestep.error_of(1.0, dt) == pytest.approx(ratio - 1.0, rel=1e-3, abs=1e-4)


def test_a_time_step_that_is_too_long_is_said_with_a_better_one():
    arguments = *dumb_bells(100.0), 300.0
    said = timestep.advice(*arguments, 0.004)
    assert "bonds A-B (100/ps) 4.2% too high at a time step of 0.004 ps" in said
    assert "sample.timestep: 0.002 would make it 1.0%" in said
    assert timestep.advice(*arguments, 0.0015) is None
    assert timestep.error_of(100.0, 0.03) == np.inf
