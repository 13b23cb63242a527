import numpy as np
import pytest

from remcg.basis import SplineBasis
from remcg.core import CORE_SLOPE, places, with_repulsive_core
from remcg.model import Model, PairTerm
from remcg.units import KB

BASIS = SplineBasis(0.3, 0.9, 13)
TEMPERATURES = (280.0, 320.0)
SCARCE = np.array([3.0, 20.0, 90.0, *np.full(10, 5000.0)])


def model(first, slope=0.0):
    """One pair term whose first coefficients are given, and B alike."""
    a = np.array([*first, *np.linspace(3.0, 0.0, 10)])
    b = slope * np.arange(13.0)
    return Model(("A",), (PairTerm(("A", "A"), BASIS, 2),), 300.0, 1.0, (np.array([a, b]),))


def potential(found, temperature, r):
    return BASIS.values(r) @ found.term_theta(temperature)[0]


@pytest.mark.parametrize("slope", [0.0, 1.0, -1.0])
def test_a_hole_in_the_wall_is_filled_at_every_temperature(slope):
    before = model([-5.0, 6.0, 1.0], slope)
    found = with_repulsive_core(before, TEMPERATURES, SCARCE)
    inner = np.linspace(0.0, places(BASIS)[2], 200)
    for temperature in TEMPERATURES:
        energy = potential(found, temperature, inner)
        assert (np.diff(energy) < 1e-9).all()
        least = CORE_SLOPE * KB * max(TEMPERATURES)
        assert (energy[0] - energy[1]) / (inner[1] - inner[0]) >= 0.999 * least
    outer = np.linspace(0.5, 0.9, 50)  # beyond the functions of the core
    np.testing.assert_allclose(potential(found, 300.0, outer), potential(before, 300.0, outer))


def test_a_wall_without_holes_stays_as_it_is():
    before = model([60.0, 30.0, 10.0])
    found = with_repulsive_core(before, TEMPERATURES, SCARCE)
    assert np.array_equal(found.parameters, before.parameters)


def test_sites_that_overlap_in_the_reference_have_no_core():
    before = model([-5.0, 6.0, 1.0])
    counts = np.full(13, 5000.0)
    found = with_repulsive_core(before, TEMPERATURES, counts)
    assert np.array_equal(found.parameters, before.parameters)
