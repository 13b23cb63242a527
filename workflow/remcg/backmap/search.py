"""Minima over the same sites, of conformers that are placed and then varied."""

import contextlib

import numpy as np

from remcg.errors import attempted
from remcg.units import KB

PLACED = 4  # of so many tries one is a placement, where conformers can be varied
HOT = 600.0  # K, of energies of minima among conformers


def search(place, minimum, tries, temperature, rng, expected, is_sound=None, vary=None):
    """Try conformers; where they can be varied three quarters of the tries vary the present one.

    The present one is a placement, chosen with probability exp(-E/kT), then goes by Metropolis from
    minimum to minimum (Li and Scheraga, PNAS 84, 6611 (1987)). Minima that are not sound only count
    where there is no other.

    Parameters
    ----------
    place : callable
        Positions (n_atoms, 3), nm, of the n-th placement.
    minimum : callable
        Of positions, with ``positions`` and ``energy`` (kJ/mol).
    tries : int
    temperature : float
        K, of energies of minima.
    rng : numpy.random.Generator
    expected : tuple of exceptions
        With which a try may fail; the first of them is raised if all placements do.
    is_sound : callable, optional
        Of what ``minimum`` gives; without it all are.
    vary : callable, optional
        Other positions, of positions.

    Returns
    -------
    (minimum, list of minima)
        The present one at the end, and all that were found.
    """

    def soundness(each):
        return is_sound is None or is_sound(each)

    n_placed = tries if vary is None else -(-tries // PLACED)
    found, _ = attempted(lambda n: minimum(place(n)), range(n_placed), expected)
    chosen = [each for each in found if soundness(each)]
    was_sound = bool(chosen)
    chosen = chosen or found
    energies = np.array([each.energy for each in chosen])
    weights = np.exp(-(energies - energies.min()) / (KB * temperature))
    present = chosen[rng.choice(len(weights), p=weights / weights.sum())]
    for _ in range(tries - n_placed):
        with contextlib.suppress(*expected):
            trial = minimum(vary(present.positions))
            found.append(trial)
            rise = (trial.energy - present.energy) / (KB * temperature)
            if rng.random() >= np.exp(-max(rise, 0.0)):
                continue
            if (sound_now := soundness(trial)) or not was_sound:
                present, was_sound = trial, sound_now
    return present, found
