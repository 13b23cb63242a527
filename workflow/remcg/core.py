"""Where a reference has few pairs or groups: the core of pair terms, the ends of bonded ones.

There the data leave a potential open, and a step of the optimiser may leave a hole in the wall:
sites that fall through it onto one another, or bonds that leave their range, do not come back.
"""

import numpy as np

from remcg.units import KB

CORE_SLOPE = 100.0  # kT/nm: least repulsion continued into a core that was never sampled
CORE_COUNT = 100.0  # basis sums over all frames below which a function belongs to the core
CORE_SHARE = 0.1  # of the largest basis sum: with more at contact there is no core
END_RISE = 10.0  # kT per range of a bonded term: least slope at which it goes on outwards


def places(basis):
    """Where a straight line has the coefficients of a clamped basis (Greville), (n_basis,), nm."""
    knots = basis.knots
    return (knots[1:-3] + knots[2:-2] + knots[3:-1])[: basis.n_basis] / 3.0


def with_repulsive_core(model, temperatures, counts):
    """The model with potentials that rise towards contact, or outwards, where data are scarce.

    Coefficients of core functions are raised (A alone, so that all temperatures rise alike) to
    those that follow them, and the first, which continues to contact, by CORE_SLOPE more. At both
    ends of a bond and the lower end of an angle the last rises by END_RISE. A harmonic bond is
    kept from turning over.

    Parameters
    ----------
    model : Model
    temperatures : sequence of float
        K, where this shall hold.
    counts : ndarray, shape (n_phi,)
        Basis sums over all frames of the references.

    Returns
    -------
    Model
    """
    parameters, thermal = model.parameters, KB * max(temperatures)
    for term, rows, part in zip(model.terms, model.phi_slices, model.parameter_slices):
        blocks = parameters[part].reshape(term.n_orders, term.n_basis)
        powers = (-np.array([[model.tau(T)] for T in temperatures])) ** np.arange(term.n_orders)
        if term.kind == "bond" and term.form == "harmonic":
            stiffness = (powers @ blocks[:, 1]).min()
            blocks[0, 1] += max(END_RISE * thermal - stiffness, 0.0)
        for side in _walls(term):
            x, slope = places(term.basis), CORE_SLOPE * thermal
            if term.kind != "pair":
                slope = END_RISE * thermal / (term.basis.high - term.basis.low)
                x = _bonded_places(term.basis)
            first, second = x[side][:2]
            _raise(blocks[:, side], powers, counts[rows][side], slope * abs(second - first))
        parameters[part] = blocks.ravel()
    return model.with_parameters(parameters, **model.extra)


def held_by_walls(model, counts):
    """Parameters that :func:`with_repulsive_core` may keep from where the data pull them.

    Returns
    -------
    ndarray of bool, shape (n_params,)
    """
    held = np.zeros(model.n_params, bool)
    for term, rows, part in zip(model.terms, model.phi_slices, model.parameter_slices):
        scarce = np.zeros(term.n_basis, bool)
        for side in _walls(term):
            met = counts[rows][side]
            if met[0] < CORE_SHARE * met.max():
                scarce[side][: np.argmax(met >= CORE_COUNT)] = True
        held[part] = np.tile(scarce, term.n_orders)
    return held


def _walls(term):
    """The functions of a term from each of its walls on, as slices."""
    if term.kind == "pair":
        return [slice(None)]
    if not _has_end(term):
        return []
    return [slice(None), slice(None, None, -1)][: 2 if term.kind == "bond" else 1]


def without_shift(model, free, counts):
    """Steps of the parameters that move no bonded potential as a whole, as a projection.

    The splines of a bonded term sum to one, and a constant acts on nothing. Where some of them are
    not free, as they were not met, it would raise the rest above these ends or sink it below: no
    data hold it, so it would drift until the ends are cliffs. Taken away after a step, it would
    take with it what the others were changed by to make up for it.

    Parameters
    ----------
    model : Model
    free : ndarray of bool, shape (n_params,)
        Parameters that a step may change.
    counts : ndarray, shape (n_phi,)
        Basis sums over all frames of the references.

    Returns
    -------
    ndarray, shape (n_params, n_params)
        P; P @ step is the step without the mean, weighted by the counts, of each potential.
    """
    moves = np.eye(model.n_params)
    for term, rows, part in zip(model.terms, model.phi_slices, model.parameter_slices):
        if term.kind in ("bond", "angle", "dihedral") and term.form == "spline":
            for k in range(term.n_orders):
                order = slice(part.start + k * term.n_basis, part.start + (k + 1) * term.n_basis)
                weights = counts[rows] * free[order]
                moves[order, order] -= np.outer(free[order], weights / max(weights.sum(), 1e-300))
    return moves


def _has_end(term):
    """Whether the splines of a term go on along a straight line below their range."""
    return term.kind in ("bond", "angle") and term.form == "spline" and term.basis.low > 0.0


def _bonded_places(basis):
    """Greville places of the functions: of several that are one, the first."""
    knots = basis.knots
    places = (knots[1:-3] + knots[2:-2] + knots[3:-1]) / 3.0
    return places[np.unique(basis.member, return_index=True)[1]]


def _raise(blocks, powers, met, rise):
    """Raise the first functions that were scarcely met to the next one, in place."""
    if met[0] >= CORE_SHARE * met.max():
        return
    n_core = max(int(np.argmax(met >= CORE_COUNT)), 1)
    for k in reversed(range(n_core)):
        least = rise if k == 0 else 0.0
        missing = powers @ (blocks[:, k + 1] - blocks[:, k]) + least
        blocks[0, k] += max(missing.max(), 0.0)
