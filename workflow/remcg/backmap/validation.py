r"""Backmapped configurations against reference ones: distributions, RDFs, energies and ranks.

If y is mapped from a reference configuration x, draws x_1, ..., x_L from p(x | y) and x itself are
exchangeable. So every distribution of the draws is that of the reference, and the rank of a
coordinate of x among those of the draws is uniform on 0, ..., L (simulation-based calibration;
Talts et al., arXiv:1804.06788).
"""

import json
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from remcg import bonded
from remcg.backmap.checks import (
    bonds_of,
    close_pairs,
    neighbours_of,
    species,
)
from remcg.boxes import heights, many
from remcg.distributions import (
    BINS_PER_DEVIATION,
    WIDEST,
    Distribution,
    jensen_shannon,
    noise_floor,
)
from remcg.equilibration import inefficiency
from remcg.io import read_h5, write_h5, write_text
from remcg.pairs import rdf, rdf_edges

N_BLOCKS = 10  # of a reference
VALUES_PER_BIN = 10  # at least, on average
FEWEST_BINS = 4
RARE = 1e-3  # probability that exact draws fail
FREE = 1e-4  # part of a gradient that no constraint explains
STEP = 1e-6  # nm, of finite differences
STEREO_DEPTH = 12  # bonds, as far as atoms of a molecule are told apart
RDF_RANGE = 0.8  # nm
PEAK_HALF_WIDTH = 2  # bins of 0.01 nm on either side of a first peak that are averaged
PEAK_LEAST = 0.5  # g(r) below which a maximum is no peak
GRID = 1e-3  # nm, to which XTC rounds
ON_GRID = 1e-3  # of the grid
PRECISION = 2e-7  # of single-precision numbers
MOST_RIGID = 1.5e-3  # nm: rounding to the grid makes 0.0004, a flexible bond of hydrogen 0.003


@dataclass(frozen=True)
class Group:
    """Internal coordinates of one class over all molecules.

    Attributes
    ----------
    kind : str
        bond (nm), angle, dihedral (rad).
    name : str
        Names of atoms, "C1-C2"; equivalent atoms have the name of the first of them.
    atoms : ndarray, shape (n, 2), (n, 3) or (n, 4)
    """

    kind: str
    name: str
    atoms: np.ndarray

    @property
    def key(self):
        """Name in tables and files: kind and atoms."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Coordinates:
    """Internal coordinates of a system, by what determines them.

    Attributes
    ----------
    free : list of Group
        What the sites leave free: these have distributions.
    rigid : list of Group
        Fixed by rigid bonds alone.
    mapped : list of Group
        Fixed by the sites, with rigid bonds.
    """

    free: list = field(default_factory=list)
    rigid: list = field(default_factory=list)
    mapped: list = field(default_factory=list)


def coordinates_of(topology, molecules, operator, rigid, positions):
    """Bonds, angles and dihedrals by class, sorted by what determines them.

    Atoms are equivalent when they have the same name in residues of the same name, or when the bond
    graph of their molecule does not tell them apart. Of the dihedrals about one bond those with the
    heaviest ends are taken. A coordinate is fixed where its gradient is a combination of those of
    the sites and rigid bonds.

    Parameters
    ----------
    topology : mdtraj.Topology
        With bonds.
    molecules : sequence of ndarray
        Atom indices.
    operator : sparse matrix, shape (n_sites, n_atoms)
    rigid : array_like of int, shape (n_rigid, 2)
        Pairs of atoms at fixed distances.
    positions : ndarray, shape (n_atoms, 3)
        A typical configuration with whole molecules, nm.

    Returns
    -------
    Coordinates
    """
    copies = {}
    for atoms in molecules:
        copies.setdefault(species(topology, atoms), []).append(np.asarray(atoms, int))
    elements = [atom.element.symbol if atom.element else "VS" for atom in topology.atoms]
    neighbours = neighbours_of(elements, bonds_of(topology))
    classes = _atom_classes(topology, list(copies.values()), elements, neighbours)
    rows, found = operator.tocsr(), {}
    for of_kind in copies.values():
        first = of_kind[0]
        shift = np.array(of_kind) - first
        local = {int(atom): k for k, atom in enumerate(first)}
        constraints = _constraint_gradients(first, rows, rigid, positions)
        for kind, group in _members(first, neighbours, elements, classes).items():
            for name, atoms in group.items():
                place = np.array([[local[a] for a in row] for row in atoms])
                copied = first[place][None] + shift[:, place]
                verdict = _what_fixes(positions, atoms, first, constraints)
                found.setdefault((verdict, kind, name), []).append(
                    copied.reshape(-1, place.shape[1])
                )
    result = Coordinates()
    for (verdict, kind, name), atoms in found.items():
        getattr(result, verdict).append(Group(kind, name, np.concatenate(atoms)))
    return result


def _atom_classes(topology, copies, elements, neighbours):
    """Name of the class of each atom: that of the first atom which is equivalent to it."""
    own = [(atom.residue.name, atom.name) for atom in topology.atoms]
    joined = {}

    def root(name):
        while joined.get(name, name) != name:
            name = joined[name]
        return name

    for of_kind in copies:
        labels, first = _colours(of_kind[0], elements, neighbours), {}
        for atom in map(int, of_kind[0]):
            earlier, name = root(first.setdefault(labels[atom], own[atom])), root(own[atom])
            if earlier != name:
                joined[name] = earlier
    several = len({residue for residue, _ in own}) > 1
    return [f"{residue}:{name}" if several else name for residue, name in map(root, own)]


def _colours(atoms, elements, neighbours):
    """Colour refinement: a label per atom that the bond graph alone determines."""
    labels = {int(a): elements[a] for a in atoms}
    for _ in range(STEREO_DEPTH):
        described = {
            a: (labels[a], tuple(sorted(labels[b] for b in neighbours[a]))) for a in labels
        }
        order = {text: f"{k:05d}" for k, text in enumerate(sorted(set(described.values())))}
        refined = {a: order[described[a]] for a in labels}
        if len(order) == len(set(labels.values())):
            break
        labels = refined
    return labels


def _members(atoms, neighbours, elements, classes):
    """Bonds, angles and dihedrals of one molecule: {kind: {name: [atoms, ...]}}."""
    found = {"bond": {}, "angle": {}, "dihedral": {}}

    def add(kind, row):
        forward, backward = (tuple(classes[a] for a in way) for way in (row, row[::-1]))
        name, row = (forward, row) if forward <= backward else (backward, row[::-1])
        found[kind].setdefault("-".join(name), []).append(row)

    real = {int(a) for a in atoms if elements[a] not in ("VS", "")}
    bonded_to = {a: [b for b in neighbours[a] if b in real] for a in real}
    for a in sorted(real):
        for b in bonded_to[a]:
            if a < b:
                add("bond", (a, b))
                for row in _heaviest(a, b, bonded_to, elements):
                    add("dihedral", row)
        ends = bonded_to[a]
        for i, b in enumerate(ends):
            for c in ends[i + 1 :]:
                add("angle", (b, a, c))
    return found


def _heaviest(a, b, bonded_to, elements):
    """Dihedrals about a bond whose ends are heavy, as far as there are such."""

    def ends(atom, other):
        found = [c for c in bonded_to[atom] if c != other]
        heavy = [c for c in found if elements[c] not in ("H", "D")]
        return heavy or found

    return [(c, a, b, d) for c in ends(a, b) for d in ends(b, a) if c != d]


def _constraint_gradients(atoms, operator, rigid, positions):
    """Rows of (rigid bonds, sites) in the 3n coordinates of one molecule."""
    local = {int(a): k for k, a in enumerate(atoms)}
    n = len(atoms)
    bonds = []
    for a, b in np.asarray(rigid, int).reshape(-1, 2).tolist():
        if a in local and b in local:
            row = np.zeros((n, 3))
            row[local[a]] = positions[a] - positions[b]
            row[local[b]] = -row[local[a]]
            bonds.append(row.ravel() / np.linalg.norm(row))
    weights = operator[:, atoms].toarray()
    weights = weights[np.abs(weights).sum(axis=1) > 0]
    sites = np.kron(weights, np.eye(3))
    return np.array(bonds).reshape(-1, 3 * n), sites


def _what_fixes(positions, rows, atoms, constraints):
    """free, rigid or mapped, for coordinates of a class in one molecule."""
    rigid, sites = constraints
    both = np.concatenate([rigid, sites])
    local = {int(a): k for k, a in enumerate(atoms)}
    verdicts = set()
    for row in rows:
        gradient = np.zeros((len(atoms), 3))
        gradient[[local[a] for a in row]] = _gradient(positions[list(row)])
        g = gradient.ravel()
        if _outside(g, both) > FREE:
            return "free"
        verdicts.add("rigid" if _outside(g, rigid) <= FREE else "mapped")
    return "rigid" if verdicts == {"rigid"} else "mapped"


def _gradient(points):
    """Gradient of a bond, angle or dihedral of 2, 3 or 4 points, by central differences."""
    row = np.arange(len(points))[None]
    moved = points + STEP * np.concatenate([np.eye(points.size), -np.eye(points.size)]).reshape(
        -1, *points.shape
    )
    values = bonded.coordinates(moved, row)[:, 0]
    change = values[: points.size] - values[points.size :]
    change = (change + np.pi) % (2 * np.pi) - np.pi
    return (change / (2 * STEP)).reshape(points.shape)


def _outside(vector, rows):
    """Part of a vector's length that is outside the span of the rows."""
    length = np.linalg.norm(vector)
    if length == 0.0 or not len(rows):
        return 1.0
    fitted = rows.T @ np.linalg.lstsq(rows.T, vector, rcond=1e-10)[0]
    return float(np.linalg.norm(vector - fitted) / length)


def distribution(group, reference, model):
    """A :class:`remcg.distributions.Distribution` of atomistic coordinates.

    Parameters
    ----------
    group : Group
    reference, model : list of ndarray
        Values of consecutive blocks, of any shape.

    Bins are as wide as a quarter of the reference's standard deviation, or wider where there are
    few values.
    """
    everything = np.concatenate([np.ravel(x) for x in [*reference, *model]])
    known = np.concatenate([np.ravel(x) for x in reference])
    low, high = (
        (-np.pi, np.pi) if group.kind == "dihedral" else (everything.min(), everything.max())
    )
    width = min(known.std() / BINS_PER_DEVIATION, WIDEST.get(group.kind, np.inf))
    most = max(min(sum(map(np.size, model)), known.size // 2) // VALUES_PER_BIN, FEWEST_BINS)
    span = max(high - low, 1e-9)
    n_bins = int(np.clip(np.ceil(span / max(width, span / 1000)), FEWEST_BINS, most))
    edges = np.linspace(low, low + span, n_bins + 1)
    sides = [np.array([bonded.histogram(x, edges) for x in side]) for side in (reference, model)]
    return Distribution(group.kind, group.name, edges, *sides)


def distributions(groups, reference, model, n_blocks=N_BLOCKS):
    """Distributions of all groups, by key.

    Parameters
    ----------
    groups : list of Group
    reference, model : ndarray, shape (n_frames, n_atoms, 3)
        nm, whole molecules.
    """
    found = {}
    for group in groups:
        sides = [
            np.array_split(bonded.coordinates(x, group.atoms), min(n_blocks, len(x)))
            for x in (reference, model)
        ]
        found[group.key] = distribution(group, *sides)
    return found


def divergences(found, n_values=None):
    """{key: (js_bits, noise_floor_js_bits)} of distributions.

    The floor of few blocks may be far below the one of independent values by chance, or nothing at
    all: where the number of values is known, it is not less than :func:`independent_floor`.

    Parameters
    ----------
    found : dict of Distribution
    n_values : dict of int, optional
        Values of the reference by key.
    """
    result = {}
    for key, item in found.items():
        js = jensen_shannon(item.reference.sum(axis=0), item.model.sum(axis=0))
        floor = noise_floor(item.reference) if len(item.reference) > 1 else 0.0
        least = independent_floor(item, n_values[key]) if n_values else 0.0
        result[key] = js, max(floor, least)
    return result


def independent_floor(item, n_values):
    r"""Divergence of the halves of so many independent values of a distribution, bits.

    .. math:: \frac{K - 1}{2 N \ln 2}, \quad K = \sum_k \min(1, 2 \ln 2 \, N p_k)

    A bin that few values fall into counts as a part of one. The probabilities are those of both
    sides together.
    """
    sides = [side.sum(axis=0) for side in (item.reference, item.model)]
    p = 0.5 * sum(side / side.sum() for side in sides)
    n_bins = np.minimum(1.0, 2.0 * np.log(2.0) * n_values * p).sum()
    return float(max(n_bins - 1.0, 0.0) / (2.0 * n_values * np.log(2.0)))


def exceeded_by_chance(found, n_reference, n_model, n_values=None):
    r"""Divergences that exact draws exceed once in 1000 comparisons of all these distributions.

    Of K bins, n and N independent values, :math:`8 \ln 2\, JS / (1/n + 1/N)` is about chi-squared
    of K - 1 degrees of freedom; correlated values behave like fewer, as the floor of the halves of
    the reference shows. That is an estimate itself, of (B - 1)(K - 1) degrees of freedom from B
    blocks, so that the ratio has the F distribution; the floor of independent values is exact.

    Parameters
    ----------
    found : dict of Distribution
    n_reference, n_model : int
        Frames of both sides; structures over one frame may be alike, and count once.
    n_values : dict of int, optional
        As of :func:`divergences`.

    Returns
    -------
    dict
        Bits; without what has no floor.
    """
    result, share = {}, (1.0 / n_model + 1.0 / n_reference) / (4.0 / n_reference)
    rare = RARE / max(len(found), 1)
    for key, item in found.items():
        used = (item.reference.sum(axis=0) + item.model.sum(axis=0)) > 0
        dof, n_blocks = max(int(used.sum()) - 1, 1), len(item.reference)
        limit = 0.0
        if n_blocks > 1:
            limit = noise_floor(item.reference) * stats.f.isf(rare, dof, dof * (n_blocks - 1))
        if n_values:
            exact = independent_floor(item, n_values[key]) * stats.chi2.isf(rare, dof) / dof
            limit = max(limit, exact)
        if limit > 0.0:
            result[key] = float(limit * max(share, 0.5))
    return result


def ranks(reference, draws, rng):
    """Ranks of reference values among draws, spread over [0, 1).

    Parameters
    ----------
    reference : ndarray, shape (...)
    draws : ndarray, shape (n_draws, ...)
    rng : numpy.random.Generator
        Breaks ties and fills the steps between ranks.

    Returns
    -------
    ndarray, shape (...)
        (rank + u)/(n_draws + 1), u uniform: uniform where reference and draws are exchangeable.
    """
    below = (draws < reference).sum(axis=0)
    ties = (draws == reference).sum(axis=0)
    rank = below + rng.integers(0, ties + 1)
    return (rank + rng.random(np.shape(reference))) / (len(draws) + 1)


def one_of_each(owner, rng):
    """Index of one element at random for each of the owners (n,), sorted by owner."""
    mixed = rng.permutation(len(owner))
    return mixed[np.unique(owner[mixed], return_index=True)[1]]


def uniformity(values):
    """p-value of the Kolmogorov-Smirnov test that values are uniform on [0, 1)."""
    return float(stats.kstest(np.ravel(values), "uniform").pvalue)


def neighbour_axes(positions, sites, box, first, others, site_of):
    """Cosine between the axis of a molecule and the direction to the nearest other site.

    A coordinate of rigid molecules with one site, which have no internal ones.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
    sites : ndarray, shape (n_sites, 3)
    box : ndarray or None
    first : ndarray of int, shape (n,)
        Atom where the axis of each molecule begins.
    others : ndarray of int, shape (n, m)
        It ends in the middle of these.
    site_of : ndarray of int, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
    """
    axis = positions[others].mean(axis=1) - positions[first]
    direction = _to_nearest(sites, box)[site_of]
    product = (axis * direction).sum(axis=1)
    return product / (np.linalg.norm(axis, axis=1) * np.linalg.norm(direction, axis=1))


def _to_nearest(sites, box):
    """Vector from each site to the nearest other one, (n_sites, 3) nm."""
    reach, n = 0.5, len(sites)
    while True:
        i, j, shift = close_pairs(sites, sites, reach, box)
        step = sites[j] + shift - sites[i]
        length = np.linalg.norm(step, axis=1)
        other = length > 1e-9
        if len(np.unique(i[other])) == n or reach > 50.0:
            break
        reach *= 2.0
    result = np.tile([1.0, 0.0, 0.0], (n, 1))
    order = np.argsort(-length[other], kind="stable")
    result[i[other][order]] = step[other][order]  # the shortest is written last
    return result


def axes_of(topology, molecules, operator):
    """Molecules of one site and several atoms, for :func:`neighbour_axes`, by number of atoms.

    Returns
    -------
    list of (first, others, site_of)
        The axis begins at the heaviest atom.
    """
    rows = operator.tocsr()
    of_molecule = np.zeros(topology.n_atoms, int)
    for k, atoms in enumerate(molecules):
        of_molecule[atoms] = k
    sites_of = [[] for _ in molecules]
    for site, start in enumerate(rows.indptr[:-1]):
        sites_of[of_molecule[rows.indices[start]]].append(site)
    groups = {}
    for atoms, its_sites in zip(molecules, sites_of):
        mass = [getattr(topology.atom(int(a)).element, "mass", 0.0) or 0.0 for a in atoms]
        real = [int(a) for a, m in zip(atoms, mass) if m > 0]
        if len(its_sites) != 1 or len(real) < 2 or rows.shape[0] < 2:
            continue
        first = int(atoms[int(np.argmax(mass))])
        others = [a for a in real if a != first]
        groups.setdefault(len(others), []).append((first, others, its_sites[0]))
    return [tuple(map(np.array, zip(*group))) for group in groups.values()]


@dataclass(frozen=True)
class AtomPairs:
    """Pairs of kinds of atoms whose RDFs between molecules are compared.

    Attributes
    ----------
    types : ndarray, shape (n_atoms,)
    pairs : list of (int, int)
    names : list of str
    excluded : ndarray, shape (n, 2)
        Pairs of atoms of one molecule.
    """

    types: np.ndarray
    pairs: list
    names: list
    excluded: np.ndarray


def atom_pairs(topology, molecules):
    """RDFs by elements, or by residue and element where there are several residues.

    None where there is one molecule only.
    """
    if len(molecules) < 2:
        return None
    several = len({atom.residue.name for atom in topology.atoms}) > 1
    labels = []
    for atom in topology.atoms:
        symbol = atom.element.symbol if atom.element else "VS"
        labels.append(f"{atom.residue.name}:{symbol}" if several else symbol)
    names = sorted({label for label in labels if not label.endswith("VS")})
    last = len(names)  # virtual sites have a type that no pair names
    types = np.array([names.index(label) if label in names else last for label in labels])
    counts = np.bincount(types, minlength=last + 1)
    pairs = [(a, b) for a in range(last) for b in range(a, last) if a != b or counts[a] > 1]
    excluded = []
    for atoms in molecules:
        i, j = np.triu_indices(len(atoms), 1)
        excluded.append(np.stack([np.asarray(atoms)[i], np.asarray(atoms)[j]], axis=1))
    text = [f"{names[a]}-{names[b]}" for a, b in pairs]
    return AtomPairs(types, pairs, text, np.concatenate(excluded))


def atomic_rdfs(kinds, positions, boxes, edges):
    """g(r) between molecules of each frame, shape (n_frames, n_pairs, n_bins)."""
    arguments = positions, boxes, kinds.types, kinds.pairs, edges
    return rdf(*arguments, len(positions), kinds.excluded)


def rdf_range(boxes):
    """Edges of the bins of atomic RDFs, nm: up to 0.8 nm or half the smallest box."""
    half = 0.5 * heights(many(np.asarray(boxes))).min()
    return rdf_edges(np.floor(100 * min(RDF_RANGE, half * 0.999)) / 100)


def first_peak(g, edges):
    """Bins of the first peak of a mean g(r), or None.

    The first maximum above 0.5 that no bin within 0.05 nm exceeds.
    """
    smooth = np.convolve(g, np.ones(3) / 3.0, mode="same")
    for k in range(1, len(g) - PEAK_HALF_WIDTH):
        around = smooth[max(0, k - 5) : k + 6]
        if smooth[k] >= max(PEAK_LEAST, around.max()):
            return slice(max(0, k - PEAK_HALF_WIDTH), k + PEAK_HALF_WIDTH + 1)
    return None


def peak_deviations(reference, model, names, edges, frame=None, others=None):
    """Relative deviation of the first peaks, averaged over 0.05 nm, and its standard error.

    Parameters
    ----------
    reference : ndarray, shape (n_frames, n_pairs, n_bins)
        g(r) of frames that are taken as independent.
    model : ndarray, shape (n, n_pairs, n_bins)
        g(r) of structures.
    names : list of str
        Of the pairs.
    frame : ndarray, shape (n,), optional
        Which of the reference frames a structure was drawn for; else it is independent of them.
    others : ndarray, shape (n_others, n_pairs, n_bins), optional
        g(r) of more reference frames, for where the peaks are and the spread of a single frame.

    Returns
    -------
    dict
        By pair: {"r_nm", "reference", "model", "deviation", "se"}; pairs without a peak are left
        out.
    """
    found, others = {}, reference if others is None else others
    for k, name in enumerate(names):
        where = first_peak(others[:, k].mean(axis=0), edges)
        if where is None or not reference[:, k, where].any():
            continue
        known, ours = (g[:, k, where].mean(axis=1) for g in (reference, model))
        spread = others[:, k, where].mean(axis=1).std()
        difference, error = mean_difference(known, ours, frame, spread)
        at = 0.5 * (edges[where.start] + edges[where.stop])
        found[name] = {
            "r_nm": float(at),
            "reference": float(known.mean()),
            "model": float(known.mean() + difference),
            "deviation": float(difference / known.mean()),
            "se": float(error / known.mean()),
        }
    return found


def mean_difference(reference, model, frame=None, spread=0.0):
    r"""Mean of a model's values less those of a reference, and its standard error.

    Independent sides have the variances of their means, with the statistical inefficiency of their
    values in time. Of n frames with L draws over the sites of each, the variance at fixed sites is
    pooled over both ways to see it:

    .. math:: \sigma^2 = \frac{\sum (d - \bar d)^2 / (1 + 1/L) + \sum (x - \bar x_f)^2}{nL - 1},
        \quad \mathrm{SE}^2 = \sigma^2 (1 + 1/L) / n

    where d is the mean of the draws of a frame less the frame's own value. A single value tells
    nothing of its spread: it has ``spread``, or that of an independent reference.

    Parameters
    ----------
    reference : ndarray, shape (n_frames,)
    model : ndarray, shape (n,)
    frame : ndarray, shape (n,), optional
        Reference frame that each value was drawn for; None: the two sides are independent.
    spread : float
        Standard deviation of a single value.
    """
    reference, model = np.asarray(reference, float), np.asarray(model, float)
    if frame is None:
        of_model = _variance_of_mean(model) if len(model) > 1 else reference.var()
        variance = of_model + _variance_of_mean(reference)
        return float(model.mean() - reference.mean()), float(np.sqrt(variance))
    frames, place, counts = np.unique(frame, return_inverse=True, return_counts=True)
    means = np.bincount(place, model) / counts
    difference, n, factor = means - reference[frames], len(frames), 1.0 + 1.0 / counts.mean()
    between = ((difference - difference.mean()) ** 2).sum() / factor
    within = ((model - means[place]) ** 2).sum()
    variance = (between + within) / (len(model) - 1) if len(model) > 1 else spread**2
    return float(difference.mean()), float(np.sqrt(variance * factor / n))


def _variance_of_mean(values):
    """Of values in time, neighbours of which may be correlated."""
    if len(values) < 2:
        return 0.0
    return float(np.var(values, ddof=1) * inefficiency(values) / len(values))


def is_rounded(positions):
    """Whether positions as a file has them lie on the grid of 0.001 nm to which XTC rounds."""
    steps = np.asarray(positions, float) / GRID
    return bool((np.abs(steps - np.round(steps)) < ON_GRID + PRECISION * np.abs(steps)).all())


def unrounded_energies(energy, positions, boxes, rng):
    r"""Energies of configurations as they were before an XTC file rounded them.

    Rounding adds :math:`\tfrac12 \mathrm{tr}(H \Sigma)` to the mean energy. As much is added once
    more by a second rounding, to a grid shifted at random, and taken off: 2 E(x) - <E(x')>.

    Parameters
    ----------
    energy : callable
        kJ/mol from positions and box.
    positions : ndarray, shape (n_frames, n_atoms, 3)
    boxes : sequence
    rng : numpy.random.Generator
    """
    found = []
    for x, box in zip(positions, boxes):
        step = rng.uniform(-0.5 * GRID, 0.5 * GRID, x.shape)
        again = np.mean([energy(x + step, box), energy(x - step, box)])
        found.append(2.0 * energy(x, box) - again)
    return np.array(found)


@dataclass(frozen=True)
class System:
    """What a comparison must know of the atoms.

    Attributes
    ----------
    topology : mdtraj.Topology
    mapped : remcg.mapping.Sites
    rigid, rigid_lengths : ndarray, shape (n_rigid, 2) and (n_rigid,)
        Atoms and nm.
    energy : callable
        kJ/mol from positions (n_atoms, 3) and box.
    """

    topology: object
    mapped: object
    rigid: np.ndarray
    rigid_lengths: np.ndarray
    energy: object


@dataclass(frozen=True)
class Comparison:
    """Backmapped structures beside reference ones.

    Attributes
    ----------
    numbers : dict
        As :func:`compare` describes.
    distributions : dict of remcg.distributions.Distribution
        By "bond C1-C2".
    rdf_edges : ndarray, nm, and rdfs : dict of (ndarray, ndarray)
        Per pair g(r) of the reference and of ours, (n_frames, n_bins) each.
    energies : dict of ndarray
        reference and ours, kJ/mol per molecule; own: the frames that ours were mapped from.
    ranks : dict of ndarray
        Counts of ranks 0 ... n_draws of the reference by coordinate.
    """

    numbers: dict
    distributions: dict
    rdf_edges: np.ndarray
    rdfs: dict
    energies: dict
    ranks: dict


EMPTY = Comparison({}, {}, np.zeros(0), {}, {}, {})


def compare(ours, reference, own, system, rng):
    """Backmapped structures against reference frames.

    Parameters
    ----------
    ours : dict
        positions, box (unless in vacuum), sites, energy, frame of structures, see
        :func:`remcg.backmap.backmap`.
    reference : remcg.backmap.frames.Frames
        Whose distributions ours should have.
    own : remcg.backmap.frames.Frames or None
        Atoms that the sites of frame 0, 1, ... were mapped from, where they were.
    system : System
    rng : numpy.random.Generator

    Returns
    -------
    Comparison
        Its numbers: js_bits, noise_floor_js_bits and chance_js_bits (see
        :func:`exceeded_by_chance`) by coordinate; energy_gap_kJ_mol per molecule
        and energy_gap_se; rdf_peaks (:func:`peak_deviations`) where there are two molecules or
        more; with ``own`` rank_p (:func:`uniformity`) by coordinate, and gap and peaks are those of
        pairs of frames; max_rigid_error_nm where there are rigid bonds, and the root mean square of
        that of the reference, which tells whether they were rigid there (:func:`flexible`).
    """
    positions, boxes = _as_precise(ours["positions"], reference), ours.get("box")
    topology, mapped = system.topology, system.mapped
    arguments = topology, mapped.atoms, mapped.matrix, system.rigid
    coordinates = coordinates_of(*arguments, reference.positions[0])
    found = distributions(coordinates.free, reference.positions, positions)
    n_values = {group.key: len(reference) * len(group.atoms) for group in coordinates.free}
    pairs, n_frames = divergences(found, n_values), len(np.unique(ours["frame"]))
    numbers = {
        "js_bits": {key: float(js) for key, (js, _) in pairs.items()},
        "noise_floor_js_bits": {key: float(floor) for key, (_, floor) in pairs.items()},
        "chance_js_bits": exceeded_by_chance(found, len(reference), n_frames, n_values),
    }
    if len(system.rigid):
        numbers["max_rigid_error_nm"] = float(
            np.abs(_rigid_errors(ours["positions"], system)).max()
        )
        errors = _rigid_errors(reference.positions, system)
        numbers["reference_rigid_error_nm"] = float(np.sqrt((errors**2).mean()))
    energies = _energies(ours, reference, own, system, rng)
    n_molecules = len(mapped.atoms)
    numbers |= _gap(ours, energies, own is not None, n_molecules)
    ranked = {} if own is None else _all_ranks(ours, positions, own, coordinates.free, system, rng)
    if ranked:
        numbers["rank_p"] = {key: uniformity(u) for key, (u, _) in ranked.items()}
    edges, rdfs = np.zeros(0), {}
    if boxes is not None and (kinds := atom_pairs(topology, mapped.atoms)) is not None:
        edges, rdfs, numbers["rdf_peaks"] = _rdfs(kinds, ours, positions, reference, own)
    histograms = {
        key: np.bincount((u * n).astype(int), minlength=n) for key, (u, n) in ranked.items()
    }
    energies = {side: values / n_molecules for side, values in energies.items()}
    return Comparison(numbers, found, edges, rdfs, energies, histograms)


def _as_precise(positions, reference):
    """Positions rounded as those of the reference are."""
    return np.round(positions / GRID) * GRID if reference.is_rounded else positions


def _rigid_errors(positions, system):
    i, j = system.rigid.T
    lengths = np.linalg.norm(positions[:, i] - positions[:, j], axis=-1)
    return lengths - system.rigid_lengths


def flexible(numbers):
    """What to say of a reference whose rigid bonds were not rigid, or had other lengths, or None.

    Parameters
    ----------
    numbers : dict
        Of a :class:`Comparison`.
    """
    error = numbers.get("reference_rigid_error_nm", 0.0)
    if error <= MOST_RIGID:
        return None
    return (
        f"the reference's bonds of hydrogen and waters differ by {error:.4f} nm (root mean square)"
        " from the lengths at which backmapping holds them: the reference was run with flexible"
        " bonds or with another force field, so energies and distributions cannot be equal; run it"
        " with rigid bonds of hydrogen and rigid water, or give its own force field"
    )


def _energies(ours, reference, own, system, rng):
    """Energies of both sides, kJ/mol, those of rounded frames without what rounding adds."""

    def of(frames):
        boxes = [frames.box(k) for k in range(len(frames))]
        if frames.is_rounded:
            return unrounded_energies(system.energy, frames.positions, boxes, rng)
        return np.array([system.energy(*pair) for pair in zip(frames.positions, boxes)])

    found = {"reference": of(reference), "ours": np.asarray(ours["energy"], float)}
    return found if own is None else {**found, "own": of(own)}


def _gap(ours, energies, paired, n_molecules):
    if paired:
        spread = energies["reference"].std()
        gap = mean_difference(energies["own"], energies["ours"], ours["frame"], spread)
    else:
        gap = mean_difference(energies["reference"], _by_frame(energies["ours"], ours["frame"]))
    return {f"energy_gap_{name}": value / n_molecules for name, value in zip(("kJ_mol", "se"), gap)}


def _by_frame(values, frame):
    """Means over the draws of each frame."""
    return np.array([values[frame == f].mean(axis=0) for f in np.unique(frame)])


def _all_ranks(ours, positions, own, groups, system, rng):
    """{coordinate: (ranks in [0, 1), n_draws + 1)} over all frames.

    Of each molecule one coordinate of a class, at random: those of one molecule are not
    independent, as the three hydrogens of a methyl group are not.
    """
    owner = np.zeros(system.topology.n_atoms, int)
    for molecule, atoms in enumerate(system.mapped.atoms):
        owner[atoms] = molecule
    axes = axes_of(system.topology, system.mapped.atoms, system.mapped.matrix)
    found, most = {}, 1
    for f in np.unique(ours["frame"]):
        mine = np.flatnonzero(ours["frame"] == f)
        both = np.concatenate([own.positions[f : f + 1], positions[mine]])
        most = max(most, len(mine) + 1)
        for group in groups:
            chosen = one_of_each(owner[group.atoms[:, 0]], rng)
            values = bonded.coordinates(both, group.atoms[chosen])
            found.setdefault(group.key, []).append(ranks(values[0], values[1:], rng))
        for axis in axes:
            place = ours["sites"][mine[0]], own.box(f)
            values = np.array([neighbour_axes(x, *place, *axis) for x in both])
            found.setdefault("axis to neighbour", []).append(ranks(values[0], values[1:], rng))
    return {key: (np.concatenate(parts), most) for key, parts in found.items()}


def _rdfs(kinds, ours, positions, reference, own):
    boxes = ours["box"]
    edges = rdf_range(boxes)
    known = atomic_rdfs(kinds, reference.positions, reference.boxes, edges)
    mine = atomic_rdfs(kinds, positions, boxes, edges)
    if own is None:
        peaks = peak_deviations(known, _by_frame(mine, ours["frame"]), kinds.names, edges)
    else:
        same = atomic_rdfs(kinds, own.positions, own.boxes, edges)
        peaks = peak_deviations(same, mine, kinds.names, edges, ours["frame"], known)
    rdfs = {name: (known[:, k], mine[:, k]) for k, name in enumerate(kinds.names)}
    return edges, rdfs, peaks


def write_comparison(path, comparison):
    """Everything of a :class:`Comparison` as HDF5."""
    arrays, names = {}, {"distributions": [], "rdfs": [], "ranks": []}
    for k, item in enumerate(comparison.distributions.values()):
        names["distributions"].append([item.kind, item.name])
        for part in ("edges", "reference", "model"):
            arrays[f"distribution_{k}_{part}"] = getattr(item, part)
    for k, (name, (known, ours)) in enumerate(comparison.rdfs.items()):
        names["rdfs"].append(name)
        arrays |= {f"rdf_{k}_reference": known, f"rdf_{k}_ours": ours}
    for k, (name, counts) in enumerate(comparison.ranks.items()):
        names["ranks"].append(name)
        arrays[f"ranks_{k}"] = counts
    arrays["rdf_edges"] = comparison.rdf_edges
    arrays |= {f"energy_{side}": values for side, values in comparison.energies.items()}
    text = {"names": json.dumps(names), "numbers": json.dumps(comparison.numbers)}
    write_h5(path, arrays, text)


def read_comparison(path):
    """The :class:`Comparison` of a file of :func:`write_comparison`."""
    arrays, attributes = read_h5(path)
    names, numbers = json.loads(attributes["names"]), json.loads(attributes["numbers"])
    parts = "edges", "reference", "model"
    found = {
        f"{kind} {name}": Distribution(
            kind, name, *(arrays[f"distribution_{k}_{p}"] for p in parts)
        )
        for k, (kind, name) in enumerate(names["distributions"])
    }
    rdfs = {
        name: (arrays[f"rdf_{k}_reference"], arrays[f"rdf_{k}_ours"])
        for k, name in enumerate(names["rdfs"])
    }
    energies = {side: arrays[f"energy_{side}"] for side in ("reference", "ours", "own")
                if f"energy_{side}" in arrays}  # fmt: skip
    ranks_of = {name: arrays[f"ranks_{k}"] for k, name in enumerate(names["ranks"])}
    return Comparison(numbers, found, arrays["rdf_edges"], rdfs, energies, ranks_of)


def write_table(path, backmap):
    """``validate/backmap.tsv``: all numbers of all states, one per line.

    Parameters
    ----------
    path : path
    backmap : dict
        From :func:`remcg.report.read_backmap`.
    """
    lines = ["state\tframes\tquantity\tpart\tvalue\tse"]
    for state, entry in backmap.items():
        for source, item in (("predicted", entry), ("mapped", entry.get("mapped", {}))):
            lines += ["\t".join([state, source, *row]) for row in _rows(item)]
    write_text(path, "\n".join(lines) + "\n")


def _rows(item):
    """(quantity, part, value, se) of the numbers of one source."""
    for key, value in item.items():
        if key in ("failures", "offending"):
            for each in value:
                place = f"frame {each['frame']}" + (
                    f" draw {each['draw']}" if "draw" in each else ""
                )
                yield key, place, each.get("reason", each.get("what", "")), ""
        elif isinstance(value, list):
            yield key, "", ", ".join(map(str, value)), ""
        elif key == "rdf_peaks":
            for pair, peak in value.items():
                yield "first peak deviation", pair, f"{peak['deviation']:.6g}", f"{peak['se']:.3g}"
        elif isinstance(value, dict) and key != "mapped":
            for part, number in value.items():
                yield key, part, f"{number:.6g}", ""
        elif key == "energy_gap_kJ_mol":
            yield key, "", f"{value:.6g}", f"{item['energy_gap_se']:.3g}"
        elif key not in ("mapped", "energy_gap_se"):
            yield key, "", f"{value:.6g}", ""
