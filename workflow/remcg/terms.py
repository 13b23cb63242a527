"""The terms of a model: where their splines begin, and how many they have where that is left open.

Both are found once per campaign, from the mapped training references; later stages read the file.
"""

import json
from dataclasses import replace

import numpy as np

from remcg import entropy, optimize
from remcg.basis import AngleBasis, BondBasis, SplineBasis
from remcg.basis_size import ReferenceState, choose_n_basis, inverted
from remcg.bonded import site_sums
from remcg.boxes import many, volume
from remcg.config import LARGEST_BASIS, SMALLEST_BASIS, TEMPERATURE_ORDERS, n_basis_of
from remcg.errors import InputError
from remcg.forms import HarmonicBasis
from remcg.io import open_h5, read_json, write_json
from remcg.model import FORMS, TERMS, Model, PairTerm, VolumeTerm, canonical
from remcg.pairs import numbers_of_pairs, rdf, shell_volumes
from remcg.sample import read_topology
from remcg.spectrum import spectrum
from remcg.statistics import covariance_of_mean

CHUNK = 50  # frames
N_BLOCKS = 10
LEAST_FRAMES = 2 * N_BLOCKS
ONSET_GRID = 0.005  # nm
FINEST = 0.008  # nm between the functions that the candidates are compared with
FINE = 0.01  # nm between the functions of the largest candidate
N_CANDIDATES = 60  # about, each larger than the one before it by a constant factor
BINS_PER_FUNCTION = 4  # of the RDF that is inverted
MARGIN = 0.05  # of the sampled range of a bonded coordinate, on either side
NARROWEST = 0.002  # nm or rad: a range below it is that of a constraint
BONDED_GRID = {"bond": 0.001, "angle": 0.01}  # nm, rad
NEARLY_OPEN = 0.1  # rad: splines of an angle that begin below it begin at 0
STRAIGHT = np.pi - 0.05  # rad


def model_terms(config, onsets, bonded=()):
    """All terms of the model, in the order of the config.

    Parameters
    ----------
    config : remcg.config.ModelConfig
    onsets : list of dict
        Per training state, pair name to the smallest sampled r, nm.
    bonded : list of dict
        Per training state, "bond A-B" and alike to the sampled range {"low", "high"}, nm or rad.

    Returns
    -------
    list of terms
        r_min of a pair is the config's, or the smallest onset rounded down to 0.005 nm; a number of
        functions that is to be chosen is a provisional one. The splines of a bond span what all
        training states sample and MARGIN of it on either side, those of an angle that and all up
        to pi, rounded outwards to BONDED_GRID.
    """
    return [_model_term(term, config.n_orders(term), onsets, bonded) for term in config.terms]


def _model_term(term, n_orders, onsets, bonded):
    if term.kind == "volume":
        return VolumeTerm(term.order, n_orders)
    if term.kind == "pair":
        return _pair_term(term, n_orders, onsets)
    return TERMS[term.kind](tuple(term.sites), _bonded_basis(term, bonded), n_orders)


def _bonded_basis(term, bonded):
    """Basis of a bonded term, over the range that the training states sample."""
    key, n_basis = f"{term.kind} {term.name}", term.n_functions
    found = [item[key] for item in bonded if key in item]
    if not found:
        raise InputError(_absent(term, bonded))
    low, high = min(item["low"] for item in found), max(item["high"] for item in found)
    if high - low < NARROWEST:
        raise InputError(
            f"the {key} has the same value, {low:.4g}, in all frames: it is constrained, and no"
            " potential follows from it; map atoms that are free to move, or leave the term out"
        )
    if term.kind == "dihedral" or (term.kind, term.form) == ("angle", "cosine"):
        return FORMS[term.kind][term.form](n_basis)
    low, high = _with_margin(term, low, high)
    if term.form == "harmonic":
        return HarmonicBasis(low, high)
    if term.kind == "angle":
        return AngleBasis(0.0 if low < NEARLY_OPEN else low, n_basis)
    return BondBasis(low, high, n_basis)


def _with_margin(term, low, high):
    """Range of the splines: the config's, or the sampled one with its margin, on the grid."""
    grid, margin = BONDED_GRID[term.kind], MARGIN * (high - low)
    given = getattr(term, "low", None), getattr(term, "high", None)
    below = grid * np.floor((low - margin) / grid) if given[0] is None else given[0]
    above = grid * np.ceil((high + margin) / grid) if given[1] is None else given[1]
    below = max(below, 0.0 if term.kind == "angle" else grid)
    if not below < above:
        raise InputError(
            f"the {term.kind} {term.name} is sampled from {low:.4g} to {high:.4g}, outside of its"
            f" range from {below:.4g} to {above:.4g} in the config; correct low and high"
        )
    return float(np.round(below, 6)), float(np.round(above, 6))


def _absent(term, bonded):
    """Why a bonded term has nothing to act on."""
    known = sorted({key for item in bonded for key in item if key.startswith(f"{term.kind} ")})
    has = ", ".join(key.split(" ", 1)[1] for key in known) or "none"
    return (
        f"model.terms: the {term.kind} term {term.name} acts on nothing: the {term.kind}s of the"
        f" mapped training states are {has}; correct its sites, add the {term.kind} to the mapping,"
        " or leave the term out"
    )


def straightened(campaign, bonded):
    """Warnings about dihedrals one of whose angles reaches 180 degrees.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    bonded : sequence of dict
        Of the training states, the ranges of their bonded coordinates.

    Returns
    -------
    list of str
    """
    largest = {}
    for item in bonded:
        for key, found in item.items():
            largest[key] = max(largest.get(key, 0.0), found["high"])
    warnings = []
    for term in campaign.bonded_terms:
        if term.kind == "dihedral":
            angles = {"-".join(canonical(term.sites[k : k + 3])) for k in (0, 1)}
            for angle in sorted(a for a in angles if largest.get(f"angle {a}", 0.0) > STRAIGHT):
                degrees = np.degrees(largest[f"angle {angle}"])
                warnings.append(
                    f"the angle {angle} reaches {degrees:.0f} degrees, where the dihedral"
                    f" {term.name} is not defined and its force is cut off; leave the dihedral term"
                    " out unless this is rare"
                )
    return warnings


def _pair_term(term, n_orders, onsets):
    r_min = term.r_min
    if r_min is None:
        found = [onset[term.name] for onset in onsets if term.name in onset]
        if not found:
            raise InputError(
                f"the pair {term.name} is not sampled within r_cut = {term.r_cut:g} nm in any"
                " training state; raise r_cut, run longer, or leave the term out"
            )
        r_min = _on_grid(min(found))
    if r_min >= term.r_cut:
        raise InputError(
            f"the pair {term.name} is first sampled at {r_min:g} nm, beyond r_cut ="
            f" {term.r_cut:g} nm; raise r_cut"
        )
    n_basis = n_basis_of(r_min, term.r_cut) if term.is_open else term.n_basis
    return PairTerm(tuple(term.sites), SplineBasis(r_min, term.r_cut, n_basis), n_orders)


def _on_grid(onset):
    """The onset rounded down, nm."""
    on_grid = ONSET_GRID * np.floor(onset / ONSET_GRID + 1e-9)
    return float(np.round(max(on_grid, ONSET_GRID), 6))


def resolve(campaign, map_files, facts):
    """The terms of a campaign, with the numbers of functions that it leaves open.

    Each is chosen with the other terms as they stand in the config, or provisional; so the order
    of the terms does not matter.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    map_files : sequence of path
        Of the training states, as written by :func:`remcg.mapping.map_trajectory`.
    facts : sequence of dict
        What that wrote beside them.

    Returns
    -------
    terms : list of terms
    sizes : dict
        Pair name to :class:`remcg.basis_size.BasisSize`, for the terms with ``n_basis: auto``.
    """
    onsets, bonded = ([item.get(key, {}) for item in facts] for key in ("onset", "bonded"))
    for warning in straightened(campaign, bonded):
        print(f"warning: {warning}")
    terms = model_terms(campaign.model, onsets, bonded)
    _check_temperatures(campaign, facts)
    sizes = {}
    for index, name in ((i, t.name) for i, t in enumerate(campaign.model.terms) if t.is_open):
        _check_frames(name, campaign.training, facts)
        sizes[name] = _size(campaign, index, terms, map_files, facts)
    chosen = [
        replace(term, basis=replace(term.basis, n_basis=sizes[term.name].n_basis))
        if term.kind == "pair" and term.name in sizes
        else term
        for term in terms
    ]
    return chosen, sizes


def _check_temperatures(campaign, facts):
    """States without the pair or group of a term tell nothing of how it depends on temperature."""
    for term in campaign.model.terms:
        if term.kind == "volume":
            continue
        place, key = "onset", term.name
        if term.kind != "pair":
            place, key = "bonded", f"{term.kind} {term.name}"
        having = [s for s, item in zip(campaign.training, facts) if key in item.get(place, {})]
        temperatures = sorted({state.temperature for state in having})
        needed = campaign.n_orders(term)
        if 0 < len(temperatures) < needed:
            found = ", ".join(f"{t:g} K" for t in temperatures)
            simpler = [k for k, n in TEMPERATURE_ORDERS.items() if n <= len(temperatures)][-1]
            occur = "its sites meet" if term.kind == "pair" else f"its {term.kind}s occur"
            raise InputError(
                f"model.terms: the {term.kind} term {term.name} needs {needed} or more"
                f" temperatures, but {occur} in training states at {found} only; add training"
                f" states with them at others, or set temperature: {simpler} for this term"
            )


def candidates(basis):
    """Numbers of functions to choose from, from the fewest to one every FINE nm."""
    most = n_basis_of(basis.r_min, basis.r_cut, FINE)
    return np.unique(np.rint(np.geomspace(SMALLEST_BASIS, most, N_CANDIDATES)).astype(int))


def write(path, site_names, terms):
    """Write ``basis/terms.json``."""
    content = {"site_names": site_names, "terms": [term.to_dict() for term in terms]}
    write_json(path, content, sealed=True)


def read(path):
    """(site type names, terms) of ``basis/terms.json``."""
    content = read_json(path)
    return content["site_names"], [TERMS[t["kind"]].from_dict(t) for t in content["terms"]]


def _check_frames(name, states, facts):
    for state, item in zip(states, facts):
        if item["n_frames"] < LEAST_FRAMES:
            raise InputError(
                f"{state.id}: has {item['n_frames']} frames, from which no n_basis can be chosen"
                f" for {name} (auto); give a trajectory of {LEAST_FRAMES} frames or more, or a"
                " number instead of auto"
            )


def _size(campaign, index, terms, map_files, facts):
    """Where all states that have the pair sample it; nothing is known of a basis below that."""
    whole = terms[index].basis
    found = [item["onset"].get(terms[index].name, np.inf) for item in facts]
    onsets = [_on_grid(onset) if onset < whole.r_cut else None for onset in found]
    if not any(onsets):
        raise InputError(
            f"the pair {terms[index].name} is hardly ever closer than r_cut = {whole.r_cut:g} nm in"
            " the training states, so that nothing tells its n_basis (auto); raise r_cut, run"
            " longer, or give a number instead of auto"
        )
    low = max(whole.r_min, *(onset or 0.0 for onset in onsets))
    sampled = SplineBasis(low, whole.r_cut, n_basis_of(low, whole.r_cut, FINEST))
    terms = list(terms)
    terms[index] = replace(terms[index], basis=sampled)
    model = Model(
        tuple(facts[0]["site_names"]),
        tuple(terms),
        campaign.reference_temperature,
        float(np.mean([item["volume_per_molecule"] for item in facts])),
        tuple(np.zeros((term.n_orders, term.n_basis)) for term in terms),
        exclude=campaign.exclude,
    )
    weights = optimize.weights(campaign.training, [item["n_molecules"] for item in facts])
    references = [
        _reference_state(path, model, index, float(weight), state.temperature, onset is not None)
        for path, weight, state, onset in zip(map_files, weights, campaign.training, onsets)
    ]
    possible = _affordable(model, index, candidates(sampled), references)
    size = choose_n_basis(model, index, possible, references)
    return _extended(size, sampled, whole)


def _extended(size, sampled, whole):
    """The numbers of functions that are as far apart over the whole range."""
    longer = (whole.r_cut - whole.r_min) / (sampled.r_cut - sampled.r_min)

    def extend(n):
        return np.minimum(1 + np.rint((n - 1) * longer).astype(int), LARGEST_BASIS)

    return size._replace(n_basis=int(extend(size.n_basis)), candidates=extend(size.candidates))


def _affordable(model, index, numbers, references):
    """Those numbers of functions for which there are as many decorrelated frames as parameters."""
    term = model.terms[index]
    n_eff = int(sum(_decorrelated_frames(reference) for reference in references))
    others = model.n_params - term.n_basis * term.n_orders
    possible = [n for n in numbers if others + n * term.n_orders <= n_eff]
    if not possible:
        least = min(numbers)
        raise InputError(
            f"about {n_eff} decorrelated frames in all training states are fewer than the"
            f" {others + least * term.n_orders} parameters of a model with {least} functions for"
            f" {term.name}, the fewest that auto may choose; give longer trajectories, a lower"
            " order in temperature, or a number instead of auto"
        )
    return possible


def _decorrelated_frames(reference):
    """Of the basis sums, averaged over their directions."""
    covariance = reference.covariance
    axes = spectrum(covariance, np.ones(len(covariance), bool)).directions
    return len(axes) / max(np.trace(axes @ reference.mean_noise @ axes.T), 1e-300)


def _reference_state(map_file, model, index, weight, temperature, has_pair):
    """What one mapped trajectory says about the size of the term ``index``, streamed."""
    with open_h5(map_file) as file:
        n_molecules, boxes = int(file.attrs["n_molecules"]), file["box"][()]
        sums, edges, blocks, ideal = _streamed(file, boxes, model, model.terms[index])
    volumes = volume(many(boxes))
    phi = model.basis_sums(sums, volumes, n_molecules)[None]
    potential, noise = np.zeros(model.n_phi), np.zeros((model.n_phi, model.n_phi))
    if has_pair:
        rows = model.phi_slices[index]
        found = inverted(model.terms[index].basis, edges, blocks, ideal, temperature)
        potential[rows], noise[rows, rows] = found
    covariances = entropy.covariance(phi), covariance_of_mean(phi)
    return ReferenceState(weight, temperature, *covariances, potential, noise)


def _streamed(file, boxes, model, term):
    """Basis sums of all frames; edges, g(r) of blocks and pairs of an ideal gas for one term."""
    names, topology = json.loads(file.attrs["site_names"]), read_topology(file)
    types, excluded = topology.site_types, topology.excluded(model.exclude)
    pair = tuple(names.index(name) for name in term.sites)
    width = term.basis.spacing / BINS_PER_FUNCTION
    low = term.basis.r_cut - width * int(term.basis.r_cut / width)
    edges = np.linspace(low, term.basis.r_cut, int(term.basis.r_cut / width) + 1)
    frames = np.array_split(np.arange(len(boxes)), N_BLOCKS)
    sums = np.empty((len(boxes), sum(t.n_basis for t in model.site_terms)))
    blocks = np.zeros((N_BLOCKS, len(edges) - 1))
    for b, block in enumerate(frames):
        for start in range(block[0], block[-1] + 1, CHUNK):
            part = slice(start, min(start + CHUNK, block[-1] + 1))
            chunk = file["positions"][part], boxes[part]
            sums[part] = site_sums(*chunk, topology, names, model.site_terms, excluded)
            g = rdf(*chunk, types, [pair], edges, 1, excluded)[0, 0]
            blocks[b] += g * (part.stop - start) / len(block)
    n_pairs, shells = numbers_of_pairs(types, [pair])[0], shell_volumes(edges)
    ideal = n_pairs * shells * np.mean(1.0 / volume(many(boxes))) * len(boxes) / N_BLOCKS
    return sums, edges, blocks, ideal
