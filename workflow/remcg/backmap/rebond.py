"""Hydrogen bonds of molecules at fixed sites, turned along whole chains of them while they cool."""

from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.backmap import turns
from remcg.units import KB

POLAR = 0.3  # e: at least that of a hydrogen that is given, less than minus that of what takes it
COVALENT = 0.12  # nm: from such a hydrogen to the atom that gives it
BONDED, NEAR = 0.26, 0.36  # nm: from hydrogen to acceptor, from the atom that gives it
SHELL = 5  # nearest molecules of each that changes relax with it
OPEN = 0.3  # share of chains that need not be closed
LONGEST = 14  # molecules of a chain
LONGEST_WALK = 40
STOPPING = 0.5  # at each molecule of an open chain
STEPS, TOLERANCE = 40, 5.0  # of a relaxation; largest torque, kJ/mol/rad
GLANCE, HOPELESS = 12, 60.0  # after so many steps so much too high (kJ/mol): given up
FIRST_PACE, MOST_PACE = 3e-4, 2e-2  # rad^2 mol/kJ
LARGEST_TURN = 0.3  # rad, in a step
HALF = np.float32(0.5)


class Polar(NamedTuple):
    """Which atoms of turning molecules give and take hydrogen bonds.

    Hydrogens of group g are ``hydrogen[start[g]:start[g + 1]]``, each given by the atom of the same
    place in ``giver``; ``accepts`` (n_atoms,); ``owner`` (n_atoms,): the group of an atom, -1 for
    one that stands still; ``nearest`` (n_groups, up to SHELL): groups, -1 for none.
    """

    start: np.ndarray
    hydrogen: np.ndarray
    giver: np.ndarray
    accepts: np.ndarray
    owner: np.ndarray
    nearest: np.ndarray


def polar_atoms(positions, groups, neighbours, charges):
    """Hydrogens that can be given and atoms that can take them, by charge and distance.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm, molecules whole.
    groups, neighbours
        Of :mod:`remcg.backmap.turns`.
    charges : ndarray, shape (n_atoms,)
        e.

    Returns
    -------
    Polar
    """
    n_groups = len(groups.pivot)
    owner, start = np.full(len(charges), -1), np.zeros(n_groups + 1, np.int64)
    hydrogens, givers, nearest = [], [], np.full((n_groups, SHELL), -1)
    for group in range(n_groups):
        atoms = groups.atoms[groups.start[group] : groups.start[group + 1]]
        owner[atoms] = group
        apart = np.linalg.norm(positions[atoms][:, None] - positions[atoms], axis=2)
        apart[:, charges[atoms] > -POLAR] = np.inf
        giver = apart.argmin(axis=1)
        is_given = (charges[atoms] >= POLAR) & (apart[np.arange(len(atoms)), giver] < COVALENT)
        hydrogens.append(atoms[is_given])
        givers.append(atoms[giver[is_given]])
        start[group + 1] = start[group] + is_given.sum()
    for group in range(n_groups):
        part = slice(neighbours.bounds[group, 0], neighbours.bounds[group, 4])
        atoms, away = neighbours.atom[part], neighbours.shift[part] - groups.pivot[group]
        moves = (atoms >= 0) & (owner[atoms] >= 0) & (owner[atoms] != group)
        distances = np.linalg.norm(positions[atoms[moves]] + away[moves], axis=1)
        found = list(dict.fromkeys(owner[atoms[moves][np.argsort(distances)]].tolist()))[:SHELL]
        nearest[group, : len(found)] = found
    accepts = (charges <= -POLAR) & (owner >= 0)
    return Polar(start, np.concatenate(hydrogens), np.concatenate(givers), accepts, owner, nearest)


def rebond(positions, groups, neighbours, potential, polar, temperatures, rng):
    r"""Turn chains of hydrogen bonds the other way round; relaxed energies decide, by Metropolis.

    Where sites are known, so is nearly which molecules are bonded, but not which of two gives the
    hydrogen. Turning one molecule breaks bonds; so a whole chain is turned, each of its molecules
    giving a hydrogen to the one that it took one from. A chain is closed, or it begins with a
    hydrogen that is given to another neighbour than before and ends with one that is taken from
    where it was. The molecules of the chain and :data:`SHELL` neighbours of each relax before their
    energy decides, so that the walk is one among minima (Li and Scheraga, PNAS 84, 6611 (1987);
    closed chains: Rahman and Stillinger, J. Chem. Phys. 57, 4009 (1972)), which does not keep
    detailed balance: a beginning for a Markov chain that does.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm; changed in place.
    groups, neighbours, potential
        Of :mod:`remcg.backmap.turns`.
    polar : Polar
    temperatures : ndarray, shape (n_trials,)
        K.
    rng : numpy.random.Generator

    Returns
    -------
    (tried, done)
        Numbers of chains that were found and of those that were turned.
    """
    betas = 1.0 / (KB * np.asarray(temperatures, float))
    forces = potential, slopes_of(potential)
    return _rebond(positions, groups, neighbours, *forces, polar, betas, rng)


def slopes_of(potential):
    """Coefficients of the derivative of its polynomial, (DEGREE,)."""
    coefficients = potential.polynomial
    return (coefficients[1:] * np.arange(1, len(coefficients))).astype(turns.REAL)


@njit(cache=True, fastmath=True, error_model="numpy")
def _pull(x, y, z, around, last, potential, slopes):
    """Of a unit charge: weighted energy, and force, from the atoms around it."""
    xs, ys, zs = around[0][:last], around[1][:last], around[2][:last]
    charges, weights = around[3][:last], around[6][:last]
    c, d = potential.polynomial, slopes
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = (
        c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9],
    )  # fmt: skip
    d0, d1, d2, d3, d4, d5, d6, d7, d8 = d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8]
    square, constant, slope = potential.square, potential.constant, potential.slope
    scale, closest, one, zero = potential.scale, turns.CLOSEST_SQUARE, turns.ONE, turns.ZERO
    twice = scale + scale
    energy, fx, fy, fz = zero, zero, zero, zero
    for k in range(len(xs)):
        dx, dy, dz = xs[k] - x, ys[k] - y, zs[k] - z
        r2 = max(dx * dx + dy * dy + dz * dz, closest)
        inverse = one / np.sqrt(r2)
        u = r2 * scale
        v = c9
        v = v * u + c8
        v = v * u + c7
        v = v * u + c6
        v = v * u + c5
        v = v * u + c4
        v = v * u + c3
        v = v * u + c2
        v = v * u + c1
        v = v * u + c0
        w = d8
        w = w * u + d7
        w = w * u + d6
        w = w * u + d5
        w = w * u + d4
        w = w * u + d3
        w = w * u + d2
        w = w * u + d1
        w = w * u + d0
        v = inverse + constant + slope * r2 * inverse - v
        w = (slope - inverse * inverse) * inverse - twice * w
        v = charges[k] * v if r2 < square else zero
        w = charges[k] * w if r2 < square else zero
        energy += weights[k] * v
        fx += w * dx
        fy += w * dy
        fz += w * dz
    return energy, fx, fy, fz


@njit(cache=True, fastmath=True, error_model="numpy")
def _pull_lennard_jones(size, x, y, z, around, first, last, potential):
    """Of an atom of unit depth: weighted energy, and force."""
    xs, ys, zs = around[0][first:last], around[1][first:last], around[2][first:last]
    sizes, depths, weights = around[4][first:last], around[5][first:last], around[6][first:last]
    square, core, zero = potential.square, turns.CORE_SQUARE, turns.ZERO
    energy, fx, fy, fz = zero, zero, zero, zero
    six, twelve, one = turns.REAL(6), turns.REAL(12), turns.ONE
    for k in range(len(xs)):
        dx, dy, dz = xs[k] - x, ys[k] - y, zs[k] - z
        r2 = max(dx * dx + dy * dy + dz * dz, core)
        sigma = size * sizes[k] if potential.geometric else size + sizes[k]
        inverse = one / r2
        t = sigma * sigma * inverse
        t = t * t * t
        depth = depths[k] if r2 < square else zero
        energy += weights[k] * depth * (t * t - t)
        w = depth * (six * t - twelve * t * t) * inverse
        fx += w * dx
        fy += w * dy
        fz += w * dz
    return energy, fx, fy, fz


@njit(cache=True, error_model="numpy")
def _torque(group, state, inside, torque):
    """Energy of a group, its pairs with those ``inside`` counted by half; fills its torque."""
    positions, groups, neighbours, potential, slopes, owner, around, ones = state
    pivot = groups.pivot[group]
    turns._gather(positions, neighbours, group, pivot, potential, around, ones)
    bounds = neighbours.bounds[group] - neighbours.bounds[group, 0]
    first = neighbours.bounds[group, 0]
    for k in range(bounds[4]):
        atom = neighbours.atom[first + k]
        is_inside = atom >= 0 and owner[atom] >= 0 and inside[owner[atom]]
        around[6, k] = HALF if is_inside else turns.ONE
    total = 0.0
    torque[:] = 0.0
    for a in range(groups.start[group], groups.start[group + 1]):
        atom = groups.atoms[a]
        x, y, z = (
            positions[atom, 0] - pivot[0],
            positions[atom, 1] - pivot[1],
            positions[atom, 2] - pivot[2],
        )
        p, q, r = turns.REAL(x), turns.REAL(y), turns.REAL(z)
        charge, depth, size = potential.charge[atom], potential.depth[atom], potential.size[atom]
        fx, fy, fz = 0.0, 0.0, 0.0
        if charge != turns.ZERO:
            e, u, v, w = _pull(p, q, r, around, bounds[4], potential, slopes)
            total += charge * e
            fx, fy, fz = charge * u, charge * v, charge * w
        if depth != turns.ZERO:
            for part in range(2):
                low, high = bounds[2 * part], bounds[2 * part + 1]
                e, u, v, w = _pull_lennard_jones(size, p, q, r, around, low, high, potential)
                total += depth * e
                fx, fy, fz = fx + depth * u, fy + depth * v, fz + depth * w
        torque[0] += y * fz - z * fy
        torque[1] += z * fx - x * fz
        torque[2] += x * fy - y * fx
    return total


@njit(cache=True, error_model="numpy")
def _turn(group, turn, positions, groups):
    """Turn a group by a vector, along the axis and as long as the angle."""
    angle = np.sqrt(turn[0] ** 2 + turn[1] ** 2 + turn[2] ** 2)
    if angle < 1e-12:
        return
    k0, k1, k2 = turn[0] / angle, turn[1] / angle, turn[2] / angle
    cosine, sine = np.cos(angle), np.sin(angle)
    pivot = groups.pivot[group]
    for a in range(groups.start[group], groups.start[group + 1]):
        atom = groups.atoms[a]
        x, y, z = (
            positions[atom, 0] - pivot[0],
            positions[atom, 1] - pivot[1],
            positions[atom, 2] - pivot[2],
        )
        along = (k0 * x + k1 * y + k2 * z) * (1.0 - cosine)
        positions[atom, 0] = pivot[0] + x * cosine + (k1 * z - k2 * y) * sine + k0 * along
        positions[atom, 1] = pivot[1] + y * cosine + (k2 * x - k0 * z) * sine + k1 * along
        positions[atom, 2] = pivot[2] + z * cosine + (k0 * y - k1 * x) * sine + k2 * along


@njit(cache=True, error_model="numpy")
def _relaxed(members, n_members, state, inside, limit, torques, before, steps):
    """Energy of some groups that have turned downhill.

    Steps along torques, as long as the last change of these tells (Barzilai and Borwein, IMA J.
    Numer. Anal. 8, 141 (1988)).
    """
    positions, groups = state[0], state[1]
    pace, energy = FIRST_PACE, 0.0
    for step in range(STEPS + 1):
        energy, largest = 0.0, 0.0
        for m in range(n_members):
            energy += _torque(members[m], state, inside, torques[m])
            largest = max(largest, (torques[m] ** 2).sum())
        if largest < TOLERANCE**2 or step == STEPS or (step == GLANCE and energy > limit):
            break
        if step:
            moved, bent = 0.0, 0.0
            for m in range(n_members):
                for axis in range(3):
                    change = before[m, axis] - torques[m, axis]
                    moved += steps[m, axis] * change
                    bent += change * change
            pace = min(moved / bent, MOST_PACE) if moved > 1e-12 else 1e-3
        for m in range(n_members):
            before[m] = torques[m]
            steps[m] = pace * torques[m]
            angle = np.sqrt((steps[m] ** 2).sum())
            if angle > LARGEST_TURN:
                steps[m] *= LARGEST_TURN / angle
            _turn(members[m], steps[m], positions, groups)
    return energy


@njit(cache=True)
def _taker(hydrogen, group, positions, neighbours, accepts):
    """Place in the list of neighbours of the atom that a hydrogen is given to, -1 if none."""
    found, least = -1, BONDED**2
    for p in range(neighbours.bounds[group, 0], neighbours.bounds[group, 4]):
        atom = neighbours.atom[p]
        if atom < 0 or not accepts[atom]:
            continue
        square = 0.0
        for axis in range(3):
            square += (
                positions[atom, axis] + neighbours.shift[p, axis] - positions[hydrogen, axis]
            ) ** 2
        if square < least:
            found, least = p, square
    return found


@njit(cache=True)
def _other_taker(giver, group, positions, neighbours, polar, rng):
    """Place of an atom near enough that takes no hydrogen of the group yet, at random; -1: none."""
    found, count = -1, 0
    for p in range(neighbours.bounds[group, 0], neighbours.bounds[group, 4]):
        atom = neighbours.atom[p]
        if atom < 0 or not polar.accepts[atom]:
            continue
        square = 0.0
        for axis in range(3):
            square += (
                positions[atom, axis] + neighbours.shift[p, axis] - positions[giver, axis]
            ) ** 2
        if square >= NEAR**2:
            continue
        is_taken = False
        for h in range(polar.start[group], polar.start[group + 1]):
            is_taken |= _taker(polar.hydrogen[h], group, positions, neighbours, polar.accepts) == p
        if not is_taken:
            count += 1
            if rng.random() * count < 1.0:
                found = p
    return found


@njit(cache=True)
def _walk(group, is_open, positions, neighbours, polar, seen, path, rng):
    """Follow hydrogens from molecule to molecule.

    Fills rows of ``path``: group, its hydrogen, and where in its list the atom is that takes it.
    Returns the first and one beyond the last row of the chain; none if both are equal.
    """
    seen[:] = -1
    length = 0
    while length < LONGEST_WALK:
        if seen[group] >= 0:
            return (0, length) if is_open else (seen[group], length)
        low, high = polar.start[group], polar.start[group + 1]
        if low == high:
            return 0, length if is_open else 0
        seen[group] = length
        h = low + int(rng.random() * (high - low))
        taker = _taker(polar.hydrogen[h], group, positions, neighbours, polar.accepts)
        if taker < 0 and not is_open and high - low > 1:
            h = low + (h - low + 1) % (high - low)
            taker = _taker(polar.hydrogen[h], group, positions, neighbours, polar.accepts)
        path[length, 0], path[length, 1], path[length, 2] = group, h, taker
        length += 1
        if is_open and (rng.random() < STOPPING or length == LONGEST):
            return 0, length
        if taker < 0:
            return 0, length if is_open else 0
        group = polar.owner[neighbours.atom[taker]]
    return 0, 0


@njit(cache=True)
def _given(group, h, target, state, polar):
    """Turn a group so that a hydrogen points to a target, its other ones as near as they can be."""
    positions, groups = state[0], state[1]
    pivot = groups.pivot[group]
    old = positions[polar.hydrogen[h]] - pivot
    new = target - pivot
    old /= np.sqrt((old * old).sum()) + 1e-12
    new /= np.sqrt((new * new).sum()) + 1e-12
    low, high = polar.start[group], polar.start[group + 1]
    kept = np.empty((high - low, 3))
    for k in range(low, high):
        kept[k - low] = positions[polar.hydrogen[k]] - pivot
    axis = np.cross(old, new)
    sine, cosine = np.sqrt((axis * axis).sum()), (old * new).sum()
    if sine < 1e-6:
        axis = np.cross(old, np.array([old[1], -old[2], old[0]]))
        sine = np.sqrt((axis * axis).sum()) + 1e-12
        angle = 0.0 if cosine > 0 else np.pi
    else:
        angle = np.arctan2(sine, cosine)
    _turn(group, axis * (angle / sine), positions, groups)
    across, along = 0.0, 0.0
    for k in range(low, high):
        if k != h:
            x = positions[polar.hydrogen[k]] - pivot
            x -= new * (x * new).sum()
            along += (kept[k - low] * x).sum()
            across += (kept[k - low] * np.cross(new, x)).sum()
    if across != 0.0 or along != 0.0:
        _turn(group, new * np.arctan2(across, along), positions, groups)


@njit(cache=True, error_model="numpy")
def _rebond(positions, groups, neighbours, potential, slopes, polar, betas, rng):
    giving = np.flatnonzero(polar.start[1:] > polar.start[:-1])
    n_groups, largest = len(groups.pivot), np.max(groups.start[1:] - groups.start[:-1])
    widest = np.max(neighbours.bounds[:, 4] - neighbours.bounds[:, 0])
    around = np.empty((7, widest), turns.REAL)
    ones = np.ones(len(positions), turns.REAL)
    state = positions, groups, neighbours, potential, slopes, polar.owner, around, ones
    inside, members = np.zeros(n_groups, np.bool_), np.empty(n_groups, np.int64)
    torques, before = np.empty((n_groups, 3)), np.empty((n_groups, 3))
    steps = np.empty((n_groups, 3))
    saved = np.empty((n_groups, largest, 3))
    seen, path = np.empty(n_groups, np.int64), np.empty((LONGEST_WALK, 3), np.int64)
    targets = np.empty((LONGEST_WALK, 3))
    tried, done = 0, 0
    for beta in betas:
        start, is_open = giving[int(rng.random() * len(giving))], rng.random() < OPEN
        first, last = _walk(start, is_open, positions, neighbours, polar, seen, path, rng)
        if last - first > LONGEST or last - first < (1 if is_open else 3):
            continue
        if is_open:
            giver = polar.giver[path[0, 1]]
            taker = _other_taker(giver, path[0, 0], positions, neighbours, polar, rng)
            if taker < 0:
                continue
            targets[0] = positions[neighbours.atom[taker]] + neighbours.shift[taker]
        else:
            giver = polar.giver[path[last - 1, 1]]
            targets[first] = positions[giver] - neighbours.shift[path[last - 1, 2]]
        for k in range(first + 1, last):
            giver = polar.giver[path[k - 1, 1]]
            targets[k] = positions[giver] - neighbours.shift[path[k - 1, 2]]
        tried += 1
        n_members = 0
        for k in range(first, last):
            for s in range(-1, SHELL):
                group = path[k, 0] if s < 0 else polar.nearest[path[k, 0], s]
                if group >= 0 and not inside[group]:
                    inside[group], members[n_members], n_members = True, group, n_members + 1
        energy = 0.0
        for m in range(n_members):
            low, high = groups.start[members[m]], groups.start[members[m] + 1]
            for a in range(low, high):
                saved[m, a - low] = positions[groups.atoms[a]]
            energy += _torque(members[m], state, inside, torques[m])
        for k in range(first, last):
            _given(path[k, 0], path[k, 1], targets[k], state, polar)
        limit = energy + HOPELESS
        trial = _relaxed(members, n_members, state, inside, limit, torques, before, steps)
        if rng.random() < np.exp(-beta * (trial - energy)):
            done += 1
        else:
            for m in range(n_members):
                low, high = groups.start[members[m]], groups.start[members[m] + 1]
                for a in range(low, high):
                    positions[groups.atoms[a]] = saved[m, a - low]
        inside[members[:n_members]] = False
    return tried, done
