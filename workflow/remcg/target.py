"""What the reference of one state says about a model: basis sums, distributions, volumes."""

import json

import numpy as np

from remcg.bonded import Histograms, site_sums
from remcg.boxes import many, volume
from remcg.errors import InputError
from remcg.forces import normal_equations
from remcg.io import open_h5
from remcg.pairs import numbers_of_pairs, rdf, rdf_edges, rdf_norm
from remcg.sample import read_topology
from remcg.statistics import inefficiency
from remcg.trajectory import at_frames, log_of_frames, read_log, while_sampled

CHUNK = 50  # frames
N_BLOCKS = 10
FINE_WIDTH = 0.002  # nm
LEAST_BEYOND = 10  # pairs of the reference beyond the cut-off of a pair term
LEADING = 0.5  # basis functions whose mean sum is at least this fraction of the largest


def compute(map_file, terms, log=None, forces=False, exclude=()):
    """Basis sums, RDFs, bonded distributions and volumes of a mapped trajectory, streamed.

    Parameters
    ----------
    map_file : path
        As written by :func:`remcg.mapping.map_trajectory`.
    terms : list of terms
        Of the model, in its order; the volume term is passed over.
    log : path, optional
        CSV of the atomistic run: its energies at the frames are kept, and all volumes that it has
        from the sampled time where they are more than the frames.
    forces : bool
        Whether to add up the normal equations of force matching, as means over the frames.
    exclude : sequence of str
        Bonded neighbours that pair sums and RDFs leave out: of "1-2", "1-3", "1-4".

    Returns
    -------
    arrays, attributes : dict
        Content of ``target/<state>.h5``.
    """
    with open_h5(map_file) as file:
        names = json.loads(file.attrs["site_names"])
        state = str(file.attrs["state"])
        boxes, topology = file["box"][()], read_topology(file)
        types, masses = topology.site_types, topology.masses
        time = file["time"][()] if log else None
        n_molecules = int(file.attrs["n_molecules"])
        mass = float(file.attrs.get("mass_per_molecule", masses.sum() / n_molecules))
        pairs = [(a, b) for a in range(len(names)) for b in range(a, len(names))]
        excluded = topology.excluded(exclude)
        arrays, found = _streamed(file["positions"], boxes, topology, names, pairs, terms, excluded)
        of_pairs = [term for term in terms if term.kind == "pair"]
        _check_cutoffs(state, of_pairs, names, pairs, arrays, boxes, types, excluded)
        if forces:
            arrays |= _force_sums(file, state, boxes, types, names, of_pairs)
        lines = log_of_frames(read_log(log, state), file) if log else {}
    arrays["volume"] = volume(many(boxes))
    arrays |= _logged(lines, time) if lines else {}
    slow = inefficiency(arrays["volume"][None, :, None])
    fast = inefficiency(_leading(arrays["site_sums"], terms)[None])
    counts = np.bincount(types, minlength=len(names))
    return arrays, {
        "n_molecules": n_molecules,
        "n_sites": len(types),
        "inefficiency_volume": float(slow),
        "inefficiency_pair": float(fast),
        "n_eff": float(len(boxes) / max(slow, fast)),
        "pair_names": json.dumps([f"{names[a]}-{names[b]}" for a, b in pairs]),
        "type_counts": json.dumps({name: int(n) for name, n in zip(names, counts)}),
        "mass_per_molecule": mass,
        "state": state,
        **({name: json.dumps(numbers) for name, numbers in found.items() if numbers}),
    }


def _logged(log, time):
    """What a log adds to the frames of its trajectory."""
    arrays, matched = {}, at_frames(log, time)
    if matched and "potential_energy_kJ_mol" in matched:
        arrays["energy"] = matched["potential_energy_kJ_mol"]
    if matched and matched is not log and "volume_nm3" in log:
        volumes = while_sampled(log, time)["volume_nm3"]
        if len(volumes) > len(time):
            arrays["log_volume"] = volumes
    return arrays


def _streamed(positions, boxes, topology, names, pairs, terms, excluded):
    """Sums and distributions, block by block of consecutive frames; numbers of bonded groups."""
    types = topology.site_types
    terms = [term for term in terms if term.kind != "volume"]
    r_max = max(term.basis.r_cut for term in terms if term.kind == "pair")
    edges, fine_edges = rdf_edges(r_max), rdf_edges(r_max, FINE_WIDTH)
    blocks = np.array_split(np.arange(len(boxes)), min(N_BLOCKS, len(boxes)))
    sums = np.empty((len(boxes), sum(term.n_basis for term in terms)))
    rdf_blocks = np.zeros((len(blocks), len(pairs), len(edges) - 1))
    fine = np.zeros((len(pairs), len(fine_edges) - 1))
    bonded = Histograms(topology, names, len(blocks))
    for b, block in enumerate(blocks):
        for start in range(block[0], block[-1] + 1, CHUNK):
            part = slice(start, min(start + CHUNK, block[-1] + 1))
            frames, n = positions[part], part.stop - part.start
            sums[part] = site_sums(frames, boxes[part], topology, names, terms, excluded)
            g = rdf(frames, boxes[part], types, pairs, edges, 1, excluded)[0]
            rdf_blocks[b] += g * n / len(block)
            finer = rdf(frames, boxes[part], types, pairs, fine_edges, 1, excluded)[0]
            fine += finer * n / len(boxes)
            bonded.add(frames, b)
    arrays = {
        "site_sums": sums,
        "rdf_edges": edges,
        "rdf_blocks": rdf_blocks,
        "rdf_fine_edges": fine_edges,
        "rdf_fine": fine,
    }
    return {**arrays, **bonded.arrays()}, bonded.attributes()


def _check_cutoffs(state, terms, names, pairs, arrays, boxes, types, excluded):
    """Refuse a pair term that acts on all pairs of its types in all frames.

    So it is with one molecule shorter than the cut-off. A constant added to the potential then
    changes nothing but the depth of a hole near the cut-off, where the reference never was.
    """
    edges = arrays["rdf_fine_edges"]
    norm = np.nan_to_num(rdf_norm(types, pairs, edges), posinf=0.0)
    counts = arrays["rdf_fine"] * norm * len(boxes) / volume(many(boxes)).mean()
    numbers = numbers_of_pairs(types, pairs, excluded)
    for term in terms:
        k = pairs.index(tuple(sorted(names.index(site) for site in term.sites)))
        n_pairs = numbers[k]
        beyond = n_pairs * len(boxes) - np.cumsum(counts[k])
        if n_pairs == 0 or beyond[edges[1:] <= term.basis.r_cut + 1e-9][-1] >= LEAST_BEYOND:
            continue
        longest = edges[1:][beyond >= LEAST_BEYOND].max(initial=0.0)
        raise InputError(
            f"{state}: of the {n_pairs * len(boxes)} {term.name} pairs of the reference fewer than "
            f"{LEAST_BEYOND} are farther apart than r_cut, {term.basis.r_cut:g} nm. A constant "
            "added to their potential would change nothing, so that it is not determined. Give "
            f"this term an r_cut of at most {np.floor(100 * longest) / 100:g} nm, beyond which "
            "that many are."
        )


def _force_sums(file, state, boxes, types, names, pair_terms):
    """Normal equations of force matching, mean over the frames."""
    if "forces" not in file:
        raise InputError(
            f"{state}: {file.filename} has no forces, which force matching needs; map the "
            "trajectory again with rem.method: force_matching"
        )
    total = 0.0, 0.0, 0.0
    for start in range(0, len(boxes), CHUNK):
        part = slice(start, start + CHUNK)
        frames = file["positions"][part], boxes[part], file["forces"][part]
        found = normal_equations(*frames, types, names, pair_terms)
        total = tuple(a + b for a, b in zip(total, found))
    keys = "force_normal", "force_right", "force_square"
    return {key: value / len(boxes) for key, value in zip(keys, total)}


def _leading(sums, terms):
    """Columns with enough counts, among those of their term, to have a correlation time."""
    sizes = [term.n_basis for term in terms if term.kind != "volume"]
    parts = np.split(sums, np.cumsum(sizes)[:-1], axis=1)
    means = [np.abs(part.mean(axis=0)) for part in parts]
    return sums[:, np.concatenate([mean >= LEADING * mean.max() for mean in means])]
