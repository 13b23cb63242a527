"""Minima over the same sites, of conformers that are placed and then varied."""

import contextlib

import numpy as np

from remcg.units import KB

PLACED = 4  # of so many tries one is a placement, where conformers can be varied
HOT = 600.0  # K, where conformers are chosen among minima and dynamics begins to cool


def search(place, minimum, tries, temperature, rng, expected, is_sound, vary=None):
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
        With which a try may fail; a placement that fails is followed by another one, and the
        first of them is raised if all tries do.
    is_sound : callable
        Of what ``minimum`` gives.
    vary : callable, optional
        Other positions, of positions.

    Returns
    -------
    (minimum, list of minima)
        The present one at the end, and all that were found.
    """

    wanted = tries if vary is None else -(-tries // PLACED)
    found, lost = [], []
    while len(found) < wanted and len(found) + len(lost) < tries:
        try:
            found.append(minimum(place(len(found) + len(lost))))
        except expected as error:
            lost.append(error)
    if not found:
        raise lost[0]
    sound = [each for each in found if is_sound(each)]
    was_sound, chosen = bool(sound), sound or found
    energies = np.array([each.energy for each in chosen])
    weights = np.exp(-(energies - energies.min()) / (KB * temperature))
    present = chosen[rng.choice(len(weights), p=weights / weights.sum())]
    for _ in range(tries - len(found) - len(lost)):
        with contextlib.suppress(*expected):
            trial = minimum(vary(present.positions))
            found.append(trial)
            rise = (trial.energy - present.energy) / (KB * temperature)
            is_taken = rng.random() < np.exp(-max(rise, 0.0))
            if was_sound and not is_taken:
                continue
            sound_now = is_sound(trial)
            if sound_now > was_sound or (is_taken and sound_now == was_sound):
                present, was_sound = trial, sound_now
    return present, found
