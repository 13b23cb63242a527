"""Monte Carlo over orientations: molecules of one site turn about it, so that sites stay."""

from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from remcg import boxes
from remcg.errors import InputError
from remcg.units import COULOMB, KB

CUTOFF = 0.9  # nm
DAMPING = 2.0  # 1/nm
DEGREE = 9  # of the polynomial in r^2 that stands for erf(damping r)/r
CLOSEST = 0.1  # nm: nearer charges interact as at this distance
CORE = 0.05  # nm: the same for Lennard-Jones
CLOSEST_SQUARE, CORE_SQUARE = np.float32(CLOSEST**2), np.float32(CORE**2)
LANES = (16, 32, 32, 32)  # of the parts of a list of neighbours
FAR_AWAY = np.float32(100)  # nm
ZERO, ONE = np.float32(0), np.float32(1)
REAL = np.float32  # of energies of pairs: rounding is far below kT
NEAR_ATOMS = 40  # that decide a turn before all others are looked at
TRIALS = 16  # turns tried per molecule and sweep
KINDS = ("small", "axis", "uniform")
SHARES = (0.2, 0.4, 0.4)  # of the kinds among the trials
FIRST_STEP = 0.4  # rad
LEAST_STEP, LARGEST_STEP = 0.02, np.pi  # rad
WANTED_ACCEPTANCE = 0.4  # of small turns
GAIN = 0.2  # of the step per sweep while it adapts
ANNEALING_CUTOFF, ANNEALING_DAMPING = 0.6, 3.0  # nm, 1/nm
HOTTEST, COOLING, STAGE = 1500.0, 0.93, 10  # K, factor of the temperature, sweeps
FREEZING = 50  # uniform turns, of which one is accepted
FROZEN, SLOW = 0.75, 0.8  # of that temperature, and part of the sweeps spent above it
QUENCH = 80  # sweeps of a fast cooling


class Turned(NamedTuple):
    """What a run of :class:`Turns` gives.

    positions (n_atoms, 3) nm; acceptance of each of :data:`KINDS`; energies (n_sweeps,) kJ/mol,
    after each sweep, of the turning molecules with each other and with the rest, by the truncated
    interactions.
    """

    positions: np.ndarray
    acceptance: np.ndarray
    energies: np.ndarray


class _Groups(NamedTuple):
    """Atoms that turn: those of molecule m are ``atoms[start[m]:start[m + 1]]``."""

    start: np.ndarray
    atoms: np.ndarray
    pivot: np.ndarray  # (n_groups, 3) nm
    body: np.ndarray  # (len(atoms), 3) nm, relative to the pivot, before any turn


class _Neighbours(NamedTuple):
    """Atoms around each group with their lattice shift, in four parts between ``bounds``.

    Near atoms with Lennard-Jones, other near ones, far ones with Lennard-Jones, other far ones.
    Parts are filled up to multiples of :data:`LANES` with atom -1, which does not interact.
    """

    bounds: np.ndarray  # (n_groups, 5)
    atom: np.ndarray
    shift: np.ndarray  # (n, 3) nm


class _Potential(NamedTuple):
    """q_i q_j (1/r + constant + slope r - P(r^2 / square)) + Lennard-Jones, below the cut-off."""

    square: float  # of the cut-off, nm^2
    constant: float
    slope: float
    scale: float  # 1/nm^2, of the argument of the polynomial
    polynomial: np.ndarray
    geometric: bool
    charge: np.ndarray  # (n_atoms,), with the root of the Coulomb constant
    size: np.ndarray  # half of sigma, or its root
    depth: np.ndarray  # 2 sqrt(epsilon)


class Turns:
    r"""Turns whole molecules about their site, by Metropolis with energies of the force field.

    A molecule turns when all its atoms that a site knows belong to one site whose weights sum to
    one; the rest of the system stands still and acts on those that turn. Lennard-Jones is as in
    the force field up to the cut-off. Coulomb is the damped shifted force

    .. math:: v(r) = \frac{\mathrm{erfc}(a r)}{r} - \frac{\mathrm{erfc}(a R)}{R} + \left(\frac{
        \mathrm{erfc}(a R)}{R^2} + \frac{2 a e^{-a^2 R^2}}{\sqrt\pi R}\right)(r - R), \quad r < R

    (Fennell and Gezelter, J. Chem. Phys. 124, 234104 (2006), eq. 18); in vacuum it is the plain
    Coulomb energy of all pairs. A trial turn is small, or by any angle about the axis from the
    site to one of the atoms, or a uniform new orientation; it is decided in two steps, first by
    the nearest atoms alone (Christen and Fox, J. Comput. Graph. Stat. 14, 795 (2005)), each step
    keeping detailed balance.

    Parameters
    ----------
    atoms : Atoms
        Anything with ``nonbonded()``, which gives ``charges`` (e), ``sigma`` (nm), ``epsilon``
        (kJ/mol), each (n_atoms,), and perhaps ``geometric`` (combination of sigma).
    operator : sparse matrix, shape (n_sites, n_atoms)
    molecules : sequence of ndarray
        Atom indices of each molecule.
    cutoff : float
        R, nm; half the least height of the box if that is less.
    damping : float
        a, 1/nm.

    Attributes
    ----------
    turning : ndarray
        Molecules that turn; empty where there is nothing to do.
    moves : ndarray of bool, shape (n_atoms,)
        Atoms of molecules that turn.
    step : float
        Largest angle of a small turn, rad; each :meth:`anneal` and :meth:`quench` finds it anew.
    """

    def __init__(self, atoms, operator, molecules, cutoff=CUTOFF, damping=DAMPING):
        nonbonded = atoms.nonbonded()
        if nonbonded is None:
            raise InputError(
                "backmap: molecules cannot be turned, because the force field has no plain "
                "Lennard-Jones and Coulomb interactions (pairs of NBFIX follow no rule of "
                "combination); only its dynamics can sample it"
            )
        self.cutoff, self.damping, self.step = cutoff, damping, FIRST_STEP
        self._operator = operator.tocsr()
        self._geometric = bool(getattr(nonbonded, "geometric", False))
        sigma, epsilon = (np.asarray(x, float) for x in (nonbonded.sigma, nonbonded.epsilon))
        self._charge = np.sqrt(COULOMB) * np.asarray(nonbonded.charges, float)
        self._size = np.sqrt(sigma) if self._geometric else 0.5 * sigma
        self._depth = 2.0 * np.sqrt(epsilon)
        self.turning, self._site = turning(self._operator, molecules)
        self._members = [np.asarray(molecules[m], np.int64) for m in self.turning]
        self.moves = np.zeros(self._operator.shape[1], bool)
        for members in self._members:
            self.moves[members] = True
        self._standing = np.flatnonzero(~self.moves)

    def run(self, positions, box, temperature, n_sweeps, rng):
        """Sample at a temperature with the present step.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            nm, molecules whole.
        box : ndarray, shape (3,) or (3, 3), or None
            nm.
        temperature : float
            K.
        n_sweeps : int
            Of :data:`TRIALS` turns for each molecule.
        rng : numpy.random.Generator

        Returns
        -------
        Turned
        """
        temperatures = np.full(n_sweeps, float(temperature))
        return self._run(positions, temperatures, rng, self._prepare(positions, box), False)

    def anneal(self, positions, box, temperature, n_sweeps, rng):
        """From any orientations to low-lying ones at a temperature.

        Hydrogen bonds at fixed sites order, or freeze in disorder, far above the temperatures at
        which their liquid flows, and over a wide range. So most sweeps are spent there: between
        the temperature at which one uniform turn in :data:`FREEZING` is accepted, found on the way
        down from :data:`HOTTEST`, and :data:`FROZEN` times that. The rest of them cools from there.
        Truncated earlier than :meth:`run`, at :data:`ANNEALING_CUTOFF`, and while it cools the step
        follows the acceptance. :func:`remcg.backmap.rebond.cooled` also turns chains of bonds.

        Parameters and returns as of :meth:`run`; the energies are those of the ``n_sweeps`` sweeps
        after the way down.
        """
        place = self.prepare_to_cool(positions, box)
        positions, held, _ = self.frozen(positions, place, temperature, rng)
        return self.slowly(positions, place, held, temperature, n_sweeps, rng)

    def frozen(self, positions, place, temperature, rng):
        """Cool until few uniform turns are accepted, or to the temperature.

        Returns positions, the temperature there (K), and whether they froze; ``place`` is from
        :meth:`prepare_to_cool`.
        """
        held, last = HOTTEST, len(KINDS) - 1
        while len(self.turning) and held > temperature:
            turned = self._run(positions, np.full(STAGE, held), rng, place, True)
            positions = turned.positions
            if turned.acceptance[last] < 1.0 / FREEZING:
                return positions, held, True
            held = max(COOLING * held, temperature)
        return positions, held, False

    def slowly(self, positions, place, held, temperature, n_sweeps, rng):
        """Cool from where they froze, most sweeps above :data:`FROZEN` times that; a Turned."""
        slow, n_slow = max(FROZEN * held, temperature), int(SLOW * n_sweeps)
        ladder = np.full(n_sweeps, float(temperature))
        ladder[:n_slow] = np.geomspace(held, slow, n_slow)
        ladder[n_slow:] = np.geomspace(slow, temperature, n_sweeps - n_slow)
        return self._run(positions, ladder, rng, place, True)

    def quench(self, positions, box, temperature, n_sweeps, rng):
        """From any orientations to the basin of a minimum, by cooling from :data:`HOTTEST`.

        Parameters and returns as of :meth:`run`.
        """
        ladder = np.geomspace(max(HOTTEST, temperature), temperature, n_sweeps)
        return self._run(positions, ladder, rng, self.prepare_to_cool(positions, box), True)

    def energy(self, positions, box):
        """Truncated energy of what turns, with itself and with the rest, kJ/mol."""
        if not len(self.turning):
            return 0.0
        positions = np.array(positions, float)
        return self._total(positions, self._prepare(positions, box))

    @property
    def charges(self):
        """Of all atoms, e."""
        return self._charge / np.sqrt(COULOMB)

    def _total(self, positions, prepared):
        halves = np.full(len(positions), 0.5, REAL)
        halves[self._standing] = 1.0
        return _total(positions, *prepared, halves)

    def _run(self, positions, temperatures, rng, prepared, adapts):
        positions = np.array(positions, float)
        if not (len(self.turning) and len(temperatures)):
            return Turned(positions, np.zeros(len(KINDS)), np.zeros(len(temperatures)))
        groups, neighbours, potential = prepared
        groups = groups._replace(body=self._body(positions, groups))
        betas = 1.0 / (KB * np.asarray(temperatures, float))
        first = self._total(positions, prepared)
        tried, done, changes, self.step = _sweeps(
            positions, groups, neighbours, potential, betas, self.step, adapts, TRIALS, rng
        )
        return Turned(positions, done / np.maximum(tried, 1), first + np.cumsum(changes))

    def prepare_to_cool(self, positions, box):
        """What the sweeps that cool share: groups, their neighbours, and the potential."""
        self.step = FIRST_STEP  # a run depends on its arguments alone
        return self._prepare(positions, box, min(ANNEALING_CUTOFF, self.cutoff), ANNEALING_DAMPING)

    def _prepare(self, positions, box, cutoff=None, damping=None):
        if not len(self.turning):
            return None
        positions = np.asarray(positions, float)
        pivot = (self._operator @ positions)[self._site]
        start = np.cumsum([0, *map(len, self._members)])
        groups = _Groups(start, np.concatenate(self._members), pivot, np.zeros((start[-1], 3)))
        square = (self._body(positions, groups) ** 2).sum(axis=1)
        reach = np.sqrt(np.maximum.reduceat(square, start[:-1]))
        if box is None:
            cutoff = np.inf
        else:
            cutoff = min(cutoff or self.cutoff, 0.5 * boxes.heights(box).min())
        found = _around(pivot, reach, positions[self._standing], box, cutoff)
        members = [*self._members, *self._standing[:, None]]
        neighbours = _neighbours(len(pivot), members, self._depth, *found)
        return groups, neighbours, self._potential(cutoff, damping or self.damping)

    @staticmethod
    def _body(positions, groups):
        return positions[groups.atoms] - np.repeat(groups.pivot, np.diff(groups.start), axis=0)

    def _potential(self, cutoff, damping):
        *constants, polynomial = _damped(damping, cutoff)
        arrays = (x.astype(REAL) for x in (polynomial, self._charge, self._size, self._depth))
        polynomial, *parameters = arrays
        return _Potential(*map(REAL, constants), polynomial, self._geometric, *parameters)


def turning(operator, molecules):
    """Molecules that can turn, and the site of each.

    Parameters as of :class:`Turns`.
    """
    owner = np.full(operator.shape[1], -1)
    for number, atoms in enumerate(molecules):
        owner[atoms] = number
    first = owner[operator.indices[operator.indptr[:-1]]]
    count = np.bincount(first, minlength=len(molecules))
    site = np.zeros(len(molecules), int)
    site[first] = np.arange(len(first))
    sums = np.asarray(operator.sum(axis=1)).ravel()
    turning = [
        m
        for m, atoms in enumerate(molecules)
        if len(atoms) > 1 and count[m] == 1 and abs(sums[site[m]] - 1.0) < 1e-9
    ]
    return np.array(turning, int), site[turning]


def _damped(damping, cutoff):
    """Constants of :class:`_Potential` for the damped shifted force."""
    from scipy.special import erf, erfc

    if not np.isfinite(cutoff):
        return np.inf, 0.0, 0.0, 0.0, np.zeros(DEGREE + 1)
    edge = erfc(damping * cutoff) / cutoff
    slope = edge / cutoff + 2.0 * damping / np.sqrt(np.pi) / cutoff * np.exp(
        -((damping * cutoff) ** 2)
    )
    u = 0.5 - 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    r = cutoff * np.sqrt(u)
    fit = np.polynomial.Chebyshev.fit(u, erf(damping * r) / r, DEGREE, domain=[0.0, 1.0])
    polynomial = fit.convert(kind=np.polynomial.Polynomial).coef
    return cutoff**2, -edge - slope * cutoff, slope, 1.0 / cutoff**2, polynomial


def _around(pivot, reach, standing, box, cutoff):
    """Pairs (group, neighbour, shift, distance) near enough that their atoms may interact.

    Neighbours are the groups, then the standing atoms; every periodic image counts.
    """
    centres = np.concatenate([pivot, standing])
    radius = np.concatenate([reach, np.zeros(len(standing))])
    if box is None:
        pairs = np.indices((len(pivot), len(centres))).reshape(2, -1)
        shift = np.zeros((pairs.shape[1], 3))
    else:
        pairs, shift = _periodic(pivot, centres, box, cutoff + reach.max() + radius.max())
    i, j = pairs
    distance = np.linalg.norm(centres[j] + shift - pivot[i], axis=1)
    kept = (i != j) & (distance < cutoff + radius[i] + radius[j])
    return i[kept], j[kept], shift[kept], distance[kept] - radius[j[kept]]


def _periodic(pivot, centres, box, reach):
    """Pairs of pivots and images of centres within ``reach``; shifts refer to given places."""
    vectors = boxes.vectors(box)
    cells = np.floor(centres @ np.linalg.inv(vectors))
    wrapped = centres - cells @ vectors
    extent = np.ceil(reach / boxes.heights(vectors)).astype(int)
    steps = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in extent], indexing="ij"), -1)
    images, home = cKDTree(wrapped), cKDTree(wrapped[: len(pivot)])
    pairs, shifts = [], []
    for step in steps.reshape(-1, 3):
        moved = cKDTree(wrapped + step @ vectors) if step.any() else images
        found = home.query_ball_tree(moved, reach)
        j = np.array([b for near in found for b in near], int)
        i = np.repeat(np.arange(len(pivot)), [len(near) for near in found])
        pairs.append(np.array([i, j]))
        shifts.append((step + cells[i] - cells[j]) @ vectors)
    return np.concatenate(pairs, axis=1), np.concatenate(shifts)


def _neighbours(n_groups, members, depth, i, j, shift, distance):
    """The lists of :class:`_Neighbours`, of pairs in any order."""
    bounds, chosen, moves = np.zeros((n_groups, 5), np.int64), [], []
    order = np.lexsort((distance, i))
    i, j, shift = i[order], j[order], shift[order]
    edges, total = np.searchsorted(i, np.arange(n_groups + 1)), 0
    for group in range(n_groups):
        part = slice(edges[group], edges[group + 1])
        sizes = [len(members[b]) for b in j[part]]
        atom = np.concatenate([members[b] for b in j[part]] or [np.zeros(0, np.int64)])
        moved = np.repeat(shift[part], sizes, axis=0)
        last = np.cumsum(sizes)
        n_near = int(last[min(np.searchsorted(last, NEAR_ATOMS), len(last) - 1)]) if sizes else 0
        kind = 2 * (np.arange(len(atom)) >= n_near) + (depth[atom] == 0.0)
        for part in range(4):
            inside = kind == part
            fill = -int(inside.sum()) % LANES[part]
            chosen += [atom[inside], np.full(fill, -1)]
            moves += [moved[inside], np.zeros((fill, 3))]
            total += int(inside.sum()) + fill
            bounds[group, part + 1] = total
    bounds[1:, 0] = bounds[:-1, 4]
    return _Neighbours(bounds, np.concatenate(chosen), np.concatenate(moves))


@njit(cache=True, fastmath=True, error_model="numpy")
def _coulomb(x, y, z, around, first, last, potential):
    """Potential of charges at a point; a loop over slices from 0, which the compiler can unroll."""
    xs, ys, zs = around[0][first:last], around[1][first:last], around[2][first:last]
    charges = around[3][first:last]
    c = potential.polynomial
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 = (
        c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], c[9],
    )  # fmt: skip
    square, constant, slope = potential.square, potential.constant, potential.slope
    scale, closest, one, total = potential.scale, CLOSEST_SQUARE, ONE, ZERO
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
        v = inverse + constant + slope * r2 * inverse - v
        total += charges[k] * (v if r2 < square else ZERO)
    return total


@njit(cache=True, fastmath=True, error_model="numpy")
def _lennard_jones(size, x, y, z, around, first, last, potential):
    """Lennard-Jones energy of an atom of unit depth with others."""
    xs, ys, zs = around[0][first:last], around[1][first:last], around[2][first:last]
    sizes, depths = around[4][first:last], around[5][first:last]
    square, core, total = potential.square, CORE_SQUARE, ZERO
    for k in range(len(xs)):
        dx, dy, dz = xs[k] - x, ys[k] - y, zs[k] - z
        r2 = max(dx * dx + dy * dy + dz * dz, core)
        sigma = size * sizes[k] if potential.geometric else size + sizes[k]
        t = sigma * sigma / r2
        t = t * t * t
        total += depths[k] * ((t * t - t) if r2 < square else ZERO)
    return total


@njit(cache=True, error_model="numpy")
def _energy(own, n_own, about, around, first, last, lj_last, potential):
    """Energy of a molecule whose atoms are at ``own`` with a part of what is around it."""
    total = 0.0
    for a in range(n_own):
        atom, x, y, z = about[a], own[a, 0], own[a, 1], own[a, 2]
        charge, depth = potential.charge[atom], potential.depth[atom]
        if charge != ZERO:
            total += charge * _coulomb(x, y, z, around, first, last, potential)
        if depth != ZERO:
            size = potential.size[atom]
            total += depth * _lennard_jones(size, x, y, z, around, first, lj_last, potential)
    return total


@njit(cache=True)
def gather(positions, neighbours, group, pivot, potential, around, factors):
    """Copy what is around a group into rows of ``around``: x, y, z, charge, size, depth."""
    begin, shift = neighbours.bounds[group, 0], neighbours.shift
    for k in range(neighbours.bounds[group, 4] - begin):
        atom = neighbours.atom[begin + k]
        if atom < 0:
            around[0, k], around[1, k], around[2, k] = FAR_AWAY, FAR_AWAY, FAR_AWAY
            around[3, k], around[4, k], around[5, k] = ZERO, ZERO, ZERO
            continue
        for axis in range(3):
            around[axis, k] = positions[atom, axis] + shift[begin + k, axis] - pivot[axis]
        around[3, k] = potential.charge[atom] * factors[atom]
        around[4, k] = potential.size[atom]
        around[5, k] = potential.depth[atom] * factors[atom]


@njit(cache=True)
def _buffers(groups, neighbours):
    largest = np.max(neighbours.bounds[:, 4] - neighbours.bounds[:, 0])
    widest = np.max(groups.start[1:] - groups.start[:-1])
    return np.empty((6, largest), REAL), np.empty((2, widest, 3), REAL)


@njit(cache=True)
def _total(positions, groups, neighbours, potential, halves):
    """Energy of all groups; ``halves`` is 1/2 for the atoms whose pairs are met twice."""
    around, own = _buffers(groups, neighbours)
    total = 0.0
    for group in range(len(groups.pivot)):
        low, high = groups.start[group], groups.start[group + 1]
        about, pivot = groups.atoms[low:high], groups.pivot[group]
        gather(positions, neighbours, group, pivot, potential, around, halves)
        for a in range(high - low):
            own[0, a] = positions[about[a]] - pivot
        b = neighbours.bounds[group] - neighbours.bounds[group, 0]
        for part in range(2):
            total += _energy(
                own[0], high - low, about, around, b[2 * part], b[2 * part + 2],
                b[2 * part + 1], potential,
            )  # fmt: skip
    return total


@njit(cache=True)
def _product(p, q, result):
    """Product of two quaternions (w, x, y, z), normalised."""
    w = p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3]
    x = p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2]
    y = p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1]
    z = p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0]
    norm = 1.0 / np.sqrt(w * w + x * x + y * y + z * z)
    result[0], result[1], result[2], result[3] = w * norm, x * norm, y * norm, z * norm


@njit(cache=True)
def _oriented(q, body, n_own, own):
    """Atoms of a body turned by q, relative to the pivot."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    for a in range(n_own):
        bx, by, bz = body[a, 0], body[a, 1], body[a, 2]
        tx, ty, tz = (
            2 * (y * bz - z * by),
            2 * (z * bx - x * bz),
            2 * (x * by - y * bx),
        )
        own[a, 0] = bx + w * tx + y * tz - z * ty
        own[a, 1] = by + w * ty + z * tx - x * tz
        own[a, 2] = bz + w * tz + x * ty - y * tx


@njit(cache=True)
def _about(axis, angle, q):
    """The quaternion of a turn by an angle about an axis of any length."""
    norm = np.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    factor = np.sin(0.5 * angle) / norm if norm > 1e-12 else 0.0
    q[0] = np.cos(0.5 * angle)
    q[1], q[2], q[3] = factor * axis[0], factor * axis[1], factor * axis[2]


@njit(cache=True)
def _propose(kind, step, present, own, n_own, rng, axis, turn, trial):
    """A trial orientation; the density of each kind is symmetric."""
    if kind == 2:
        for k in range(4):
            turn[k] = rng.standard_normal()
        trial[0], trial[1], trial[2], trial[3] = 1.0, 0.0, 0.0, 0.0
        _product(turn, trial, trial)
        return
    if kind == 1:
        atom = int(rng.random() * n_own)
        for k in range(3):
            axis[k] = own[atom, k]
        angle = np.pi * (2.0 * rng.random() - 1.0)
    else:
        for k in range(3):
            axis[k] = rng.standard_normal()
        angle = step * (2.0 * rng.random() - 1.0)
    _about(axis, angle, turn)
    _product(turn, present, trial)


@njit(cache=True, error_model="numpy")
def _sweeps(positions, groups, neighbours, potential, betas, step, adapts, n_trials, rng):
    """Sweeps over all groups; (tried, accepted) by kind, change of energy per sweep, last step."""
    around, owns = _buffers(groups, neighbours)
    exact = np.empty(owns.shape[1:])
    factors = np.ones(len(positions), REAL)
    turned = np.zeros((len(groups.pivot), 4))
    turned[:, 0] = 1.0
    axis, turn, trial = np.zeros(3), np.zeros(4), np.zeros(4)
    tried, done = np.zeros(3), np.zeros(3)
    changes = np.zeros(len(betas))
    for sweep in range(len(betas)):
        beta = betas[sweep]
        small_tried, small_done = tried[0], done[0]
        for group in range(len(groups.pivot)):
            low, high = groups.start[group], groups.start[group + 1]
            n_own = high - low
            about, body, pivot = groups.atoms[low:high], groups.body[low:high], groups.pivot[group]
            own, new = owns[0], owns[1]
            for a in range(n_own):
                own[a] = positions[about[a]] - pivot
            gather(positions, neighbours, group, pivot, potential, around, factors)
            b = neighbours.bounds[group] - neighbours.bounds[group, 0]
            near = _energy(own, n_own, about, around, b[0], b[2], b[1], potential)
            far = _energy(own, n_own, about, around, b[2], b[4], b[3], potential)
            moved = False
            for _ in range(n_trials):
                u = rng.random()
                kind = 0 if u < SHARES[0] else (1 if u < SHARES[0] + SHARES[1] else 2)
                tried[kind] += 1
                _propose(kind, step, turned[group], own, n_own, rng, axis, turn, trial)
                _oriented(trial, body, n_own, new)
                near_new = _energy(new, n_own, about, around, b[0], b[2], b[1], potential)
                if rng.random() >= np.exp(-beta * (near_new - near)):
                    continue
                far_new = _energy(new, n_own, about, around, b[2], b[4], b[3], potential)
                if rng.random() >= np.exp(-beta * (far_new - far)):
                    continue
                changes[sweep] += near_new + far_new - near - far
                near, far, own, new, moved = near_new, far_new, new, own, True
                turned[group] = trial
                done[kind] += 1
            if moved:
                _oriented(turned[group], body, n_own, exact)
                for a in range(n_own):
                    positions[about[a]] = pivot + exact[a]
        if adapts and tried[0] > small_tried:
            rate = (done[0] - small_done) / (tried[0] - small_tried)
            step *= np.exp(GAIN * (rate - WANTED_ACCEPTANCE))
            step = min(max(step, LEAST_STEP), LARGEST_STEP)
    return tried, done, changes, step
