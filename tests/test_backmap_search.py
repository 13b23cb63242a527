"""A walk among minima that are placed and varied."""

from types import SimpleNamespace

import numpy as np
import pytest

from remcg.backmap.search import PLACED, search
from remcg.errors import SamplingError


def minimum(x):
    return SimpleNamespace(positions=x, energy=float(x[0]))


def found_by(place, tries, is_sound=lambda each: True, vary=None):
    rng = np.random.default_rng(1)
    return search(place, minimum, tries, 600.0, rng, (SamplingError,), is_sound, vary)


def failing(*bad):
    """Places n at energy n, but for those that fail."""

    def place(n):
        if n in bad:
            raise SamplingError(f"place {n}")
        return np.array([float(n)])

    return place


def test_a_placement_that_fails_is_followed_by_another_one():
    present, found = found_by(failing(0), 4, vary=lambda x: x - 1.0)
    assert [each.energy for each in found] == [1.0, 0.0, -1.0]
    assert present.energy == -1.0
    with pytest.raises(SamplingError, match="place 0"):
        found_by(failing(*range(4)), 4, vary=lambda x: x)


def test_a_quarter_of_the_tries_are_placements_where_conformers_can_be_varied():
    calls = []

    def vary(x):
        calls.append(x)
        return x

    assert len(found_by(failing(), 16, vary=vary)[1]) == 16
    assert len(calls) == 16 - 16 // PLACED
    assert len(found_by(failing(), 16)[1]) == 16


def test_the_first_sound_minimum_is_taken_however_high_and_kept_from_those_that_are_not():
    """Placed at 0, not sound; varied to 1000 kJ/mol, sound, then back to 0 again."""
    ways = iter([1000.0, 0.0, 2000.0])
    present, found = found_by(
        failing(), 4, lambda each: each.energy > 500.0, lambda x: np.array([next(ways)])
    )
    assert [each.energy for each in found] == [0.0, 1000.0, 0.0, 2000.0]
    assert present.energy == 1000.0
