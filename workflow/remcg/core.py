"""The repulsive core of pair terms, where a reference has few pairs or none.

There the data leave a potential open, and a step of the optimiser may leave a hole in the wall:
sites that fall through it onto one another do not come back.
"""

import numpy as np

from remcg.units import KB

CORE_SLOPE = 100.0  # kT/nm: least repulsion continued into a core that was never sampled
CORE_COUNT = 100.0  # basis sums over all frames below which a function belongs to the core
CORE_SHARE = 0.1  # of the largest basis sum: with more at contact there is no core


def places(basis):
    """Where a straight line has the coefficients of a clamped basis (Greville), (n_basis,), nm."""
    knots = basis.knots
    return (knots[1:-3] + knots[2:-2] + knots[3:-1])[: basis.n_basis] / 3.0


def with_repulsive_core(model, temperatures, counts):
    """The model with pair potentials that rise towards contact where the reference is scarce.

    Coefficients of core functions are raised (A alone, so that all temperatures rise alike) to
    those that follow them, and the first, which continues to contact, by CORE_SLOPE more.

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
    parameters = model.parameters
    for term, rows, part in zip(model.terms, model.phi_slices, model.parameter_slices):
        if term.kind != "pair":
            continue
        met = counts[rows]
        if met[0] >= CORE_SHARE * met.max():
            continue
        blocks = parameters[part].reshape(term.n_orders, term.n_basis)
        powers = (-np.array([[model.tau(T)] for T in temperatures])) ** np.arange(term.n_orders)
        x = places(term.basis)
        n_core = max(int(np.argmax(met >= CORE_COUNT)), 1)
        for k in reversed(range(n_core)):
            least = 0.0
            if k == 0:
                least = CORE_SLOPE * KB * max(temperatures) * (x[1] - x[0])
            missing = powers @ (blocks[:, k + 1] - blocks[:, k]) + least
            blocks[0, k] += max(missing.max(), 0.0)
        parameters[part] = blocks.ravel()
    return model.with_parameters(parameters, **model.extra)
