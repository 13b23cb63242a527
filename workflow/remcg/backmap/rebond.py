"""Hydrogen bonds of molecules at fixed sites, turned along whole chains of them while they cool."""

from typing import NamedTuple

import numpy as np
from numba import njit

from remcg.backmap import turns
from remcg.backmap.polar import NEAR, SHELL, polar_atoms
from remcg.units import KB

BONDED = 0.26  # nm, from a hydrogen to what takes it
OPEN = 0.3  # share of chains that need not be closed
LONGEST = 14  # molecules of a chain
LONGEST_WALK = 40
STOPPING = 0.5  # at each molecule of an open chain
STEPS, TOLERANCE = 40, 5.0  # of a relaxation; largest torque, kJ/mol/rad
GLANCE, HOPELESS = 12, 60.0  # after so many steps so much too high (kJ/mol): given up
FIRST_PACE, MOST_PACE = 3e-4, 2e-2  # rad^2 mol/kJ
LARGEST_TURN = 0.3  # rad, in a step
HALF = np.float32(0.5)
TURNED = 0.2  # of the sweeps of molecules with hydrogen bonds
REBONDED = 1 / 40  # chains tried per molecule in place of a sweep, which take as long
BREAKING = 1.5  # of the temperature of freezing, where chains of bonds begin to cool


class _State(NamedTuple):
    """What turns, among what, and buffers."""

    positions: np.ndarray
    groups: tuple
    neighbours: tuple
    potential: tuple
    slopes: np.ndarray
    owner: np.ndarray
    around: np.ndarray  # x, y, z, charge, size, depth, weight of what is around a group
    ones: np.ndarray


def cooled(chain, positions, box, temperature, n_sweeps, rng):
    """From any orientations to low-lying ones at a temperature, as :meth:`Turns.anneal`.

    Where all molecules have hydrogen bonds, :data:`TURNED` of the sweeps are those of turns; in
    place of each other one :data:`REBONDED` chains of bonds per molecule are tried, while they cool
    from :data:`BREAKING` times the temperature of freezing. Where nothing freezes there are none.

    Parameters
    ----------
    chain : remcg.backmap.turns.Turns
    positions, box, temperature, n_sweeps, rng
        As of :meth:`Turns.run`.

    Returns
    -------
    ndarray, shape (n_atoms, 3), nm
    """
    if not len(chain.turning):
        return np.array(positions, float)
    place = chain.prepare_to_cool(positions, box)
    positions, held, is_frozen = chain.frozen(positions, place, temperature, rng)
    polar = polar_atoms(positions, *place[:2], chain.charges)
    share = polar.share if is_frozen else 0.0
    n_turned = int(np.ceil((1.0 - share * (1.0 - TURNED)) * n_sweeps))
    positions = chain.slowly(positions, place, held, temperature, n_turned, rng).positions
    n_trials = int((n_sweeps - n_turned) * REBONDED * len(chain.turning))
    if n_trials:
        hot = max(BREAKING * held, temperature)
        rebond(positions, *place, polar, hot, temperature, n_trials, rng)
    return positions


def rebond(positions, groups, neighbours, potential, polar, hot, temperature, n_trials, rng):
    """Turn chains of hydrogen bonds the other way round; relaxed energies decide, by Metropolis.

    Where sites are known, so is nearly which molecules are bonded, but not which of two gives the
    hydrogen. Turning one molecule breaks bonds; so a whole chain is turned, each of its molecules
    giving a hydrogen to the one that it took one from. A chain is closed, or it begins with a
    hydrogen that is given to another neighbour than before and ends with one that is taken from
    where it was. All molecules relax first, and those of the chain with :data:`SHELL` neighbours of
    each before their energy decides, so that the walk is one among minima (Li and Scheraga, PNAS
    84, 6611 (1987); closed chains: Rahman and Stillinger, J. Chem. Phys. 57, 4009 (1972)), which
    does not keep detailed balance: a beginning for a Markov chain that does.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        nm; changed in place.
    groups, neighbours, potential
        Of :mod:`remcg.backmap.turns`.
    polar : remcg.backmap.polar.Polar
    hot, temperature : float
        K, of the first and of the last trial.
    n_trials : int
    rng : numpy.random.Generator

    Returns
    -------
    (tried, done)
        Numbers of chains that were found and of those that were turned.
    """
    state = state_of(positions, groups, neighbours, potential, polar.owner)
    return _rebond(state, polar, 1.0 / (KB * hot), 1.0 / (KB * temperature), n_trials, rng)


def state_of(positions, groups, neighbours, potential, owner):
    """The :class:`_State` of positions (n_atoms, 3), nm, which it shares."""
    coefficients = potential.polynomial
    slopes = (coefficients[1:] * np.arange(1, len(coefficients))).astype(turns.REAL)
    widest = np.max(neighbours.bounds[:, 4] - neighbours.bounds[:, 0])
    around, ones = np.empty((7, widest), turns.REAL), np.ones(len(positions), turns.REAL)
    return _State(positions, groups, neighbours, potential, slopes, owner, around, ones)


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
    positions, groups, neighbours = state.positions, state.groups, state.neighbours
    potential, around = state.potential, state.around
    pivot = groups.pivot[group]
    turns.gather(positions, neighbours, group, pivot, potential, around, state.ones)
    first = neighbours.bounds[group, 0]
    bounds = neighbours.bounds[group] - first
    for k in range(bounds[4]):
        atom = neighbours.atom[first + k]
        is_inside = atom >= 0 and state.owner[atom] >= 0 and inside[state.owner[atom]]
        around[6, k] = HALF if is_inside else turns.ONE
    total = 0.0
    torque[:] = 0.0
    for a in range(groups.start[group], groups.start[group + 1]):
        atom = groups.atoms[a]
        arm = positions[atom] - pivot
        x, y, z = turns.REAL(arm[0]), turns.REAL(arm[1]), turns.REAL(arm[2])
        charge, depth, size = potential.charge[atom], potential.depth[atom], potential.size[atom]
        fx, fy, fz = 0.0, 0.0, 0.0
        if charge != turns.ZERO:
            e, u, v, w = _pull(x, y, z, around, bounds[4], potential, state.slopes)
            total += charge * e
            fx, fy, fz = charge * u, charge * v, charge * w
        if depth != turns.ZERO:
            for part in range(2):
                low, high = bounds[2 * part], bounds[2 * part + 1]
                e, u, v, w = _pull_lennard_jones(size, x, y, z, around, low, high, potential)
                total += depth * e
                fx, fy, fz = fx + depth * u, fy + depth * v, fz + depth * w
        torque[0] += arm[1] * fz - arm[2] * fy
        torque[1] += arm[2] * fx - arm[0] * fz
        torque[2] += arm[0] * fy - arm[1] * fx
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
def _relaxed(members, n_members, state, inside, limit, buffers):
    """Energy of some groups that have turned downhill; infinite if it is given up.

    Steps along torques, as long as the last change of these tells (Barzilai and Borwein, IMA J.
    Numer. Anal. 8, 141 (1988)).
    """
    torques, before, steps = buffers
    pace, energy = FIRST_PACE, 0.0
    for step in range(STEPS + 1):
        energy, largest = 0.0, 0.0
        for m in range(n_members):
            energy += _torque(members[m], state, inside, torques[m])
            largest = max(largest, (torques[m] ** 2).sum())
        if step == GLANCE and energy > limit:
            return np.inf
        if largest < TOLERANCE**2 or step == STEPS:
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
            _turn(members[m], steps[m], state.positions, state.groups)
    return energy


@njit(cache=True)
def _square(x, place, positions, neighbours):
    """Squared distance of a point from the atom at a place of the list of neighbours."""
    atom, square = neighbours.atom[place], 0.0
    for axis in range(3):
        square += (positions[atom, axis] + neighbours.shift[place, axis] - x[axis]) ** 2
    return square


@njit(cache=True)
def _taker(hydrogen, group, state, polar):
    """Place in the list of neighbours of the atom that a hydrogen is given to, -1 if none."""
    positions, neighbours = state.positions, state.neighbours
    found, least = -1, BONDED**2
    for p in range(neighbours.bounds[group, 0], neighbours.bounds[group, 4]):
        if neighbours.atom[p] >= 0 and polar.accepts[neighbours.atom[p]]:
            square = _square(positions[hydrogen], p, positions, neighbours)
            if square < least:
                found, least = p, square
    return found


@njit(cache=True)
def _other_taker(giver, group, state, polar, rng):
    """Place of an atom near enough that takes no hydrogen of the group yet, at random; -1: none."""
    positions, neighbours = state.positions, state.neighbours
    low, high = polar.start[group], polar.start[group + 1]
    taken = np.empty(high - low, np.int64)
    for h in range(low, high):
        taken[h - low] = _taker(polar.hydrogen[h], group, state, polar)
    found, count = -1, 0
    for p in range(neighbours.bounds[group, 0], neighbours.bounds[group, 4]):
        if neighbours.atom[p] < 0 or not polar.accepts[neighbours.atom[p]] or (taken == p).any():
            continue
        if _square(positions[giver], p, positions, neighbours) < NEAR**2:
            count += 1
            if rng.random() * count < 1.0:
                found = p
    return found


@njit(cache=True)
def _walk(group, is_open, state, polar, path, rng):
    """Follow hydrogens from molecule to molecule.

    Fills rows of ``path``: group, its hydrogen, and where in its list the atom is that takes it.
    Returns the first and one beyond the last row of the chain; none if both are equal.
    """
    length = 0
    while length < LONGEST_WALK:
        for k in range(length):
            if path[k, 0] == group:
                return (0, length) if is_open else (k, length)
        low, high = polar.start[group], polar.start[group + 1]
        if low == high:
            return 0, length if is_open else 0
        h = low + int(rng.random() * (high - low))
        taker = _taker(polar.hydrogen[h], group, state, polar)
        if taker < 0 and not is_open and high - low > 1:
            h = low + (h - low + 1) % (high - low)
            taker = _taker(polar.hydrogen[h], group, state, polar)
        path[length, 0], path[length, 1], path[length, 2] = group, h, taker
        length += 1
        if is_open and (rng.random() < STOPPING or length == LONGEST):
            return 0, length
        if taker < 0:
            return 0, length if is_open else 0
        group = polar.owner[state.neighbours.atom[taker]]
    return 0, 0


@njit(cache=True)
def _targets(path, first, last, is_open, state, polar, targets, rng):
    """Where the hydrogens of a chain shall point, nm; False if the first has nowhere to go."""
    positions, neighbours = state.positions, state.neighbours
    if is_open:
        taker = _other_taker(polar.giver[path[0, 1]], path[0, 0], state, polar, rng)
        if taker < 0:
            return False
        targets[0] = positions[neighbours.atom[taker]] + neighbours.shift[taker]
    for k in range(first + is_open, last):
        before = k - 1 if k > first else last - 1
        giver, shift = polar.giver[path[before, 1]], neighbours.shift[path[before, 2]]
        targets[k] = positions[giver] - shift
    return True


@njit(cache=True)
def _given(group, h, target, state, polar):
    """Turn a group so that a hydrogen points to a target, its other ones as near as they can be."""
    positions, pivot = state.positions, state.groups.pivot[group]
    old, new = positions[polar.hydrogen[h]] - pivot, target - pivot
    old /= np.sqrt((old * old).sum()) + 1e-12
    new /= np.sqrt((new * new).sum()) + 1e-12
    low, high = polar.start[group], polar.start[group + 1]
    kept = np.empty((high - low, 3))
    for k in range(low, high):
        kept[k - low] = positions[polar.hydrogen[k]] - pivot
    axis = np.cross(old, new)
    angle = np.arctan2(np.sqrt((axis * axis).sum()), (old * new).sum())
    if (axis * axis).sum() < 1e-12:
        axis[:] = 0.0
        axis[np.abs(old).argmin()] = 1.0
        axis = np.cross(old, axis)
    _turn(group, axis * (angle / np.sqrt((axis * axis).sum())), positions, state.groups)
    across, along = 0.0, 0.0
    for k in range(low, high):
        if k != h:
            x = positions[polar.hydrogen[k]] - pivot
            x -= new * (x * new).sum()
            along += (kept[k - low] * x).sum()
            across += (kept[k - low] * np.cross(new, x)).sum()
    if across != 0.0 or along != 0.0:
        _turn(group, new * np.arctan2(across, along), positions, state.groups)


@njit(cache=True)
def _gathered(path, first, last, polar, inside, members):
    """Number of groups of a chain with their nearest ones; fills ``members`` and ``inside``."""
    count = 0
    for k in range(first, last):
        for s in range(-1, SHELL):
            group = path[k, 0] if s < 0 else polar.nearest[path[k, 0], s]
            if group >= 0 and not inside[group]:
                inside[group], members[count] = True, group
                count += 1
    return count


@njit(cache=True)
def _copied(members, count, state, saved, is_back):
    """Save positions of groups, or put them back."""
    positions, groups = state.positions, state.groups
    for m in range(count):
        low = groups.start[members[m]]
        for a in range(low, groups.start[members[m] + 1]):
            for axis in range(3):
                if is_back:
                    positions[groups.atoms[a], axis] = saved[m, a - low, axis]
                else:
                    saved[m, a - low, axis] = positions[groups.atoms[a], axis]


@njit(cache=True, error_model="numpy")
def _rebond(state, polar, hot, cold, n_trials, rng):
    """Trials between two inverse temperatures; numbers of chains found and turned."""
    groups, giving = state.groups, np.flatnonzero(polar.start[1:] > polar.start[:-1])
    n_groups, widest = len(groups.pivot), np.max(groups.start[1:] - groups.start[:-1])
    everyone, all_inside = np.arange(n_groups), np.ones(n_groups, np.bool_)
    vectors = np.empty((n_groups, 3)), np.empty((n_groups, 3)), np.empty((n_groups, 3))
    _relaxed(everyone, n_groups, state, all_inside, np.inf, vectors)
    most = min(LONGEST * (SHELL + 1), n_groups)
    inside, members = np.zeros(n_groups, np.bool_), np.empty(most, np.int64)
    saved, path = np.empty((most, widest, 3)), np.empty((LONGEST_WALK, 3), np.int64)
    targets, tried, done = np.empty((LONGEST_WALK, 3)), 0, 0
    for trial in range(n_trials):
        beta = hot * (cold / hot) ** (trial / max(n_trials - 1, 1))
        start, is_open = giving[int(rng.random() * len(giving))], rng.random() < OPEN
        first, last = _walk(start, is_open, state, polar, path, rng)
        if last - first > LONGEST or last - first < (1 if is_open else 3):
            continue
        if not _targets(path, first, last, is_open, state, polar, targets, rng):
            continue
        tried += 1
        count = _gathered(path, first, last, polar, inside, members)
        _copied(members, count, state, saved, False)
        old = 0.0
        for m in range(count):
            old += _torque(members[m], state, inside, vectors[0][m])
        for k in range(first, last):
            _given(path[k, 0], path[k, 1], targets[k], state, polar)
        new = _relaxed(members, count, state, inside, old + HOPELESS, vectors)
        if rng.random() < np.exp(-beta * (new - old)):
            done += 1
        else:
            _copied(members, count, state, saved, True)
        inside[members[:count]] = False
    return tried, done
