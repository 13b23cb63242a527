"""Bonded coordinates and shapes of molecules: distributions of a prediction and its reference."""

import json
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from remcg import bonded
from remcg.sample import read_topology
from remcg.statistics import mean_and_error

MODEL_BLOCKS = 5  # of each replica
MOST_BLOCKS = 10  # of a reference, that are split into halves in every way
BINS_PER_DEVIATION = 4  # about, of a standard deviation of the reference
WIDEST = {"dihedral": np.pi / 30, "angle": np.pi / 36}  # rad


@dataclass(frozen=True)
class Distribution:
    """Normalised histograms of both sides, each as blocks of consecutive frames.

    Attributes
    ----------
    kind : str
        bond (nm), angle, dihedral (rad), rg (radius of gyration, nm) or end (end-to-end, nm).
    name : str
        Site types, or the name of a kind of molecules.
    edges : ndarray, shape (n_bins + 1,)
    reference, model : ndarray, shape (n_blocks, n_bins)
        1/nm or 1/rad; the two sides may have different numbers of blocks.
    """

    kind: str
    name: str
    edges: np.ndarray
    reference: np.ndarray
    model: np.ndarray

    @property
    def key(self):
        """Name in tables and files: kind and site types."""
        return f"{self.kind} {self.name}"

    @property
    def centers(self):
        """Centres of the bins, (n_bins,), nm or rad."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def is_shape(self):
        """Whether it belongs to a whole molecule, not to a bonded group."""
        return self.kind in bonded.SHAPES


def jensen_shannon(p, q):
    r"""Jensen-Shannon divergence of two histograms of equal bins, of any norm, in bits.

    .. math:: JS = \tfrac12 KL(p\,\|\,m) + \tfrac12 KL(q\,\|\,m), \quad m = \tfrac12 (p + q)
    """
    p, q = p / p.sum(), q / q.sum()
    middle = 0.5 * (p + q)
    return max(0.0, 0.5 * _kullback_leibler(p, middle) + 0.5 * _kullback_leibler(q, middle))


def _kullback_leibler(p, q):
    some = p > 0
    return (p[some] * np.log2(p[some] / q[some])).sum()


def noise_floor(blocks, measure=jensen_shannon):
    """Divergence of the halves of a reference: mean over all ways to split its blocks, bits.

    With N independent values a half has N/2, so that this is about (K - 1)/(2 N ln 2) for K bins:
    twice what a perfect model with as many values as the reference shows. Another ``measure`` of
    two mean blocks takes the place of the Jensen-Shannon divergence.
    """
    blocks = blocks[:MOST_BLOCKS]
    everything, half = range(len(blocks)), len(blocks) // 2
    found = []
    for first in combinations(everything, half):
        rest = [k for k in everything if k not in first]
        if len(rest) > half or 0 in first:  # each split once
            found.append(measure(blocks[list(first)].mean(axis=0), blocks[rest].mean(axis=0)))
    return float(np.mean(found))


def compare(target_arrays, target_attrs, sample_arrays, sample_attrs):
    """Distributions of both sides by "bond A-B", "rg A-B-A" and alike.

    The model's are those of the configurations that were kept; without any there are none.

    Parameters
    ----------
    target_arrays, target_attrs, sample_arrays, sample_attrs : dict
        Content of ``target/<state>.h5`` and ``predict/<state>.h5``.

    Returns
    -------
    dict of Distribution
    """
    if "trajectory" not in sample_arrays or "bonded" not in target_attrs:
        return {}
    topology, names = read_topology(sample_arrays), json.loads(sample_attrs["site_names"])
    frames = _blocks(sample_arrays["trajectory"], len(sample_arrays["volume"]))
    found = {}
    for group in bonded.groups_of(topology, names):
        values = [bonded.coordinates(block, group.sites) for block in frames]
        _add(found, target_arrays, "bonded", group.kind, group.name, values)
    for chains in bonded.chains_of(topology, names):
        of_blocks = [bonded.shapes(block, chains, topology.masses) for block in frames]
        for shape in of_blocks[0]:
            values = [block[shape] for block in of_blocks]
            _add(found, target_arrays, "chain", shape, chains.name, values)
    return found


def _add(found, arrays, prefix, kind, name, values):
    place = f"{kind}_{name}" if prefix == "bonded" else f"{name}_{kind}"
    edges = arrays.get(f"{prefix}_{place}_edges")
    if edges is not None:
        edges, reference = _coarser(kind, edges, arrays[f"{prefix}_{place}_blocks"])
        model = np.array([bonded.histogram(x, edges) for x in values])
        found[f"{kind} {name}"] = Distribution(kind, name, edges, reference, model)


def _coarser(kind, edges, blocks):
    """Edges and blocks of bins that are joined: narrow ones would show noise alone."""
    width, n_bins = edges[1] - edges[0], len(edges) - 1
    centers, p = 0.5 * (edges[1:] + edges[:-1]), blocks.mean(axis=0) * width
    deviation = np.sqrt(p @ (centers - p @ centers) ** 2)
    most = min(deviation / BINS_PER_DEVIATION, WIDEST.get(kind, np.inf)) / width
    n_joined = max(int(most + 1e-6), 1)
    if kind in WIDEST:  # the range stays what it is
        n_joined = max(n for n in range(1, n_joined + 1) if n_bins % n == 0)
    missing = -n_bins % n_joined
    blocks = np.pad(blocks, ((0, 0), (0, missing)))
    joined = blocks.reshape(len(blocks), -1, n_joined).mean(axis=2)
    return edges[0] + n_joined * width * np.arange(joined.shape[1] + 1), joined


def _blocks(frames, n_replicas):
    """Kept frames, replica by replica, in blocks."""
    per_replica = max(len(frames) // n_replicas, 1)
    n_blocks = min(MODEL_BLOCKS, per_replica)
    replicas = [frames[k : k + per_replica] for k in range(0, len(frames), per_replica)]
    return [b for replica in replicas for b in np.array_split(replica, n_blocks) if len(b)]


def numbers(distributions):
    """What ``summary.json`` says of them: the sections ``bonded`` and ``chains`` of a state.

    Parameters
    ----------
    distributions : dict of Distribution

    Returns
    -------
    dict
        bonded: per tuple of site types {js_bits, noise_floor_js_bits}, both plug-in estimates, and
        what :func:`remcg.consistency.divergence.beside_plug_in` adds; chains: per kind of molecules
        rg_nm and end_nm with these, and with the means of both sides and their standard errors.
    """
    from remcg.consistency.divergence import beside_plug_in  # which needs this module

    found = {"bonded": {}, "chains": {}}
    for item in distributions.values():
        entry = beside_plug_in(item.reference, item.model) | {
            "js_bits": jensen_shannon(item.reference.sum(axis=0), item.model.sum(axis=0)),
            "noise_floor_js_bits": noise_floor(item.reference),
        }
        if item.is_shape:
            sides = {"reference": item.reference, "model": item.model}
            entry |= {k: v for side, b in sides.items() for k, v in _mean(side, item, b).items()}
            found["chains"].setdefault(item.name, {})[f"{item.kind}_nm"] = entry
        else:
            found["bonded"][item.name] = entry
    return {section: entries for section, entries in found.items() if entries}


def _mean(side, item, blocks):
    mean, error = mean_and_error(blocks @ (item.centers * np.diff(item.edges)))
    return {side: float(mean), f"{side}_se": float(error)}
