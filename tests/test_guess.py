"""The guess is exact for a dilute gas, where g(r) = exp(-U/kT)."""

from dataclasses import replace

import numpy as np
import pytest

from remcg.basis import SplineBasis
from remcg.guess import StateTarget, guess, virial_pressure
from remcg.model import PairTerm, VolumeTerm
from remcg.units import KB

BASIS = SplineBasis(0.3, 0.9, 20)
TERMS = (PairTerm(("A", "A"), BASIS, 2), VolumeTerm(2, 1))
EDGES = np.arange(0.0, 0.902, 0.002)
R = 0.5 * (EDGES[1:] + EDGES[:-1])


def potential(r, temperature):
    well = 2.0 * (np.exp(-((r - 0.45) ** 2) / 0.01) * -1.0 + np.exp(-(r - 0.3) / 0.04))
    return (well - 0.5 * (temperature / 300.0 - 1.0)) * np.clip((0.9 - r) / 0.3, 0.0, 1.0) ** 3


def dilute(temperature, volume=8.0e4, onset=0.0):
    g = np.exp(-potential(R, temperature) / (KB * temperature))
    g[R < onset] = 0.0
    return StateTarget(temperature, 0.05, volume, 10**7, 1000, {"A": 1000}, EDGES, {"A-A": g})


def test_the_potential_of_a_dilute_gas_is_found_at_every_temperature():
    model = guess(("A",), TERMS, 300.0, 80.0, [dilute(270.0), dilute(330.0)])
    r = np.linspace(0.33, 0.88, 100)
    for temperature in (270.0, 300.0, 330.0):
        found = BASIS.values(r) @ model.term_theta(temperature)[0]
        np.testing.assert_allclose(found, potential(r, temperature), atol=0.02)


def test_the_core_that_was_never_sampled_is_repulsive():
    model = guess(("A",), TERMS, 300.0, 80.0, [dilute(270.0, onset=0.4), dilute(330.0, onset=0.4)])
    energy = BASIS.values(np.array([0.1, 0.2, 0.3, 0.35])) @ model.term_theta(300.0)[0]
    assert np.all(np.diff(energy) < -2.0 * KB * 300.0)


def test_the_virial_pressure_of_a_dilute_gas_has_the_second_virial_coefficient():
    state = dilute(300.0, volume=1000 / 0.05)
    model = guess(("A",), TERMS, 300.0, 20.0, [dilute(270.0, 2e4), dilute(330.0, 2e4)])
    u = BASIS.values(R) @ model.term_theta(300.0)[0]
    shells = 4.0 / 3.0 * np.pi * np.diff(EDGES**3)
    density = 0.05
    b2 = -0.5 * np.sum((np.exp(-u / (KB * 300.0)) - 1.0) * shells)
    expected = density * KB * 300.0 * (1.0 + density * b2)
    excess = virial_pressure(model, state) - density * KB * 300.0
    assert excess == pytest.approx(expected - density * KB * 300.0, rel=0.03)


def test_the_volume_term_makes_up_for_the_missing_pressure():
    states = [dilute(270.0), dilute(330.0)]
    model = guess(("A",), (TERMS[0], VolumeTerm(2, 2)), 300.0, 80.0, states)
    for state in states:
        total = virial_pressure(model, state) + model.volume_pressure(
            state.volume, 1000, state.temperature
        )
        assert total == pytest.approx(state.pressure, rel=1e-9)


def test_a_state_without_a_pair_says_nothing_about_it():
    states = [dilute(270.0), dilute(330.0)]
    without = replace(states[0], temperature=300.0, rdf={"A-A": np.zeros_like(R)})
    found = [guess(("A",), TERMS[:1], 300.0, 80.0, s) for s in (states, [*states, without])]
    assert np.array_equal(found[0].parameters, found[1].parameters)


@pytest.mark.parametrize(("n_frames", "factor"), [(10**4, 1e4), (1, 50.0)])
def test_pairs_of_one_molecule_alone_begin_with_their_core(n_frames, factor):
    """Its g(r) is high by far as its sites are bonded, or sparse as there are few of them."""
    states = [replace(dilute(T, onset=0.4), n_molecules=1) for T in (270.0, 330.0)]
    states = [replace(s, n_frames=n_frames, rdf={"A-A": factor * s.rdf["A-A"]}) for s in states]
    model = guess(("A",), TERMS[:1], 300.0, 80.0, states)
    theta = model.term_theta(300.0)[0]
    beyond = BASIS.values(np.linspace(0.45, 0.9, 50)) @ theta
    assert np.abs(beyond).max() < 0.1 * KB * 300.0
    core = BASIS.values(np.array([0.1, 0.2, 0.3, 0.35])) @ theta
    assert np.all(np.diff(core) < -2.0 * KB * 300.0)
