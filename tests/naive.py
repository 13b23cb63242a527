"""Plain loops over pairs and bonded groups: what the kernels must reproduce."""

from itertools import pairwise, product

import numpy as np


def distance(a, b, box):
    """Shortest vector from b to a over the periodic images, and its length; box (3,) or (3, 3)."""
    box = np.asarray(box, float)
    step = a - b
    if box.ndim == 1:
        step = step - box * np.round(step / box)
    else:
        step = step - np.round(step @ np.linalg.inv(box)) @ box
        images = [step + np.array(shift) @ box for shift in product(range(-2, 3), repeat=3)]
        step = min(images, key=lambda image: image @ image)
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


def pair_sums(positions, box, site_types, names, terms, excluded=()):
    """Basis sums of one frame; no term acts on the pairs (i < j) in ``excluded``."""
    sums = [np.zeros(term.n_basis) for term in terms]
    for i, j, _, r in pairs(positions, box):
        t = term_of(site_types, i, j, names, terms)
        if t is not None and (i, j) not in excluded:
            sums[t] += terms[t].basis.values(r)
    return np.concatenate(sums)


def forces(positions, box, site_types, names, terms, thetas):
    """Energy, forces (n_sites, 3) and virial of one frame, from pair terms."""
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


def coordinate(points, box):
    """Bond length (nm) of two points, angle of three or dihedral of four (rad; cis is 0)."""
    steps = [distance(b, a, box)[0] for a, b in pairwise(points)]
    if len(points) == 2:
        return np.linalg.norm(steps[0])
    if len(points) == 3:
        u, v = -steps[0], steps[1]
        return np.arccos(np.clip(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)), -1.0, 1.0))
    u, v, w = steps
    first, last = np.cross(u, v), np.cross(v, w)
    return np.arctan2(np.linalg.norm(v) * (u @ last), first @ last)


def groups_of(topology, names, term):
    """Groups of sites a bonded term acts on."""
    groups = {"bond": topology.bonds, "angle": topology.angles, "dihedral": topology.dihedrals}
    for group in groups[term.kind]:
        types = [names[topology.site_types[i]] for i in group]
        if types == list(term.sites) or types[::-1] == list(term.sites):
            yield group


def bonded_sums(positions, box, topology, names, term):
    """Basis sums of one bonded term in one frame."""
    values = [
        term.basis.values(coordinate([positions[i] for i in group], box))
        for group in groups_of(topology, names, term)
    ]
    return np.sum(values, axis=0) if values else np.zeros(term.n_basis)


def excluded_pairs(topology, kinds):
    """Set of pairs (i < j) as many bonds apart as ``kinds`` tell, by the shortest way."""
    found = set()
    for start in range(topology.n_sites):
        steps, edge = {start: 0}, [start]
        for site in edge:
            for bond in topology.bonds.tolist():
                if site in bond:
                    other = bond[1] if bond[0] == site else bond[0]
                    if other not in steps:
                        steps[other] = steps[site] + 1
                        edge.append(other)
        wanted = [int(kind[-1]) - 1 for kind in kinds]
        found |= {(start, i) for i, n in steps.items() if i > start and n in wanted}
    return found


def site_sums(positions, box, topology, model):
    """Basis sums of all pair and bonded terms of one frame, in the order of the model."""
    excluded = excluded_pairs(topology, model.exclude)
    names, parts = model.site_types, [np.zeros(0)]
    for term in model.terms:
        if term.kind == "pair":
            parts.append(pair_sums(positions, box, topology.site_types, names, [term], excluded))
        elif term.kind != "volume":
            parts.append(bonded_sums(positions, box, topology, names, term))
    return np.concatenate(parts)


def energy(positions, box, topology, model, temperature):
    """Energy of all pair and bonded terms of one frame, kJ/mol."""
    thetas = model.term_theta(temperature)
    parts = [theta for term, theta in zip(model.terms, thetas) if term.kind != "volume"]
    return site_sums(positions, box, topology, model) @ np.concatenate([np.zeros(0), *parts])


def rdf(positions, box, site_types, pair, edges):
    """g(r) of one frame for one pair of types."""
    a, b = pair
    found = [r for i, j, _, r in pairs(positions, box) if {site_types[i], site_types[j]} == {a, b}]
    n_a, n_b = np.sum(site_types == a), np.sum(site_types == b)
    number = n_a * (n_a - 1) / 2 if a == b else n_a * n_b
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    return np.histogram(found, edges)[0] * np.prod(box) / (number * shells)


def short_steps(positions, box):
    """(i, j, r_i - r_j, r) of all pairs i < j; exact where r is less than half the least height.

    Such a step is less than half a height along the normal of every face: its fractions are in
    (-1/2, 1/2), and rounding finds it.
    """
    rows = np.diag(box) if np.ndim(box) == 1 else np.asarray(box, float)
    i, j = np.triu_indices(len(positions), 1)
    fractions = (positions[i] - positions[j]) @ np.linalg.inv(rows)
    steps = (fractions - np.round(fractions)) @ rows
    return i, j, steps, np.linalg.norm(steps, axis=1)


def pair_evaluation(positions, box, topology, model, temperature):
    """Energy, forces (n_sites, 3), virial (3, 3), basis sums of the pair terms of one frame."""
    i, j, steps, r = short_steps(positions, box)
    excluded = excluded_pairs(topology, model.exclude) if model.exclude else set()
    kept = np.array([pair not in excluded for pair in zip(i.tolist(), j.tolist())], bool)
    types = np.array(model.site_types)[topology.site_types]
    energy, forces, virial, sums = 0.0, np.zeros(positions.shape), np.zeros((3, 3)), []
    for term, theta in zip(model.terms, model.term_theta(temperature)):
        if term.kind != "pair":
            continue
        a, b = term.sites
        chosen = (types[i] == a) & (types[j] == b) | (types[i] == b) & (types[j] == a)
        chosen &= kept & (r < term.basis.high)
        sums.append(term.basis.values(r[chosen]).sum(axis=0))
        slopes = term.basis.values(r[chosen], 1) @ theta
        with np.errstate(invalid="ignore", divide="ignore"):
            pushes = -(slopes / r[chosen])[:, None] * steps[chosen]
        energy += sums[-1] @ theta
        np.add.at(forces, i[chosen], pushes)
        np.add.at(forces, j[chosen], -pushes)
        virial += steps[chosen].T @ pushes
    return energy, forces, virial, np.concatenate([np.zeros(0), *sums])
