"""Plain loops over pairs: what the kernels must reproduce."""

import numpy as np


def distance(a, b, box):
    """Minimum-image vector from b to a, and its length."""
    step = a - b
    step = step - box * np.round(step / box)
    return step, np.sqrt(step @ step)


def pairs(positions, box):
    """(i, j, r_ij vector, r) of all pairs."""
    for i in range(len(positions)):
        for j in range(i + 1, len(positions)):
            yield i, j, *distance(positions[i], positions[j], box)


def term_of(site_types, i, j, names, terms):
    """Index of the term between two sites, or None."""
    kinds = sorted([names[site_types[i]], names[site_types[j]]])
    found = [t for t, term in enumerate(terms) if sorted(term.sites) == kinds]
    return found[0] if found else None


def pair_sums(positions, box, site_types, names, terms):
    """Basis sums of one frame."""
    sums = [np.zeros(term.n_basis) for term in terms]
    for i, j, _, r in pairs(positions, box):
        t = term_of(site_types, i, j, names, terms)
        if t is not None:
            sums[t] += terms[t].basis.values(r)
    return np.concatenate(sums)


def forces(positions, box, site_types, names, terms, thetas):
    """Energy, forces (n_sites, 3) and virial of one frame."""
    energy, virial, result = 0.0, 0.0, np.zeros_like(positions)
    for i, j, step, r in pairs(positions, box):
        t = term_of(site_types, i, j, names, terms)
        if t is not None:
            slope = terms[t].basis.values(r, 1) @ thetas[t]
            energy += terms[t].basis.values(r) @ thetas[t]
            virial -= slope * r
            result[i] -= slope * step / r
            result[j] += slope * step / r
    return energy, result, virial


def rdf(positions, box, site_types, pair, edges):
    """g(r) of one frame for one pair of types."""
    a, b = pair
    found = [r for i, j, _, r in pairs(positions, box) if {site_types[i], site_types[j]} == {a, b}]
    n_a, n_b = np.sum(site_types == a), np.sum(site_types == b)
    number = n_a * (n_a - 1) / 2 if a == b else n_a * n_b
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    return np.histogram(found, edges)[0] * np.prod(box) / (number * shells)
