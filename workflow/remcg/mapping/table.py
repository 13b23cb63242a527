"""``remcg check``: what a campaign maps to what, before it runs."""

import os
from collections import Counter

import numpy as np

from remcg.bonded import groups_of
from remcg.boxes import heights, many
from remcg.errors import InputError
from remcg.mapping.coverage import (
    check_cutoff,
    check_residues,
    check_terms,
    pairs_without_term,
)
from remcg.mapping.rules import read_mapping
from remcg.mapping.sites import sites_of
from remcg.mapping.warnings import check_temperature, spoken_size
from remcg.mapping.whole import Unwrapper
from remcg.model import canonical
from remcg.trajectory import read_frames, read_log

NAMED = 8  # atoms of a site that are written out


def check_campaign(campaign, report=print):
    """Read all inputs of a campaign but only the first frames, and print a table of them.

    Returns
    -------
    int
        Number of states.
    """
    r_cut = max(term.r_cut for term in campaign.pair_terms)
    report(f"campaign {campaign.campaign}: {campaign.source}")
    sources = dict.fromkeys(campaign.topology(state.id) for state in campaign.states)
    mapped = {source: _check_mapping(campaign, source, report) for source in sources}
    check_residues(campaign, [topology for topology, _ in mapped.values()])
    terms = ", ".join(f"{term.name} ({campaign.n_orders(term)} x)" for term in campaign.model.terms)
    report(f"model    {terms}: {spoken_size(campaign)}, T0 {campaign.reference_temperature:g} K")
    header = f"{'state':<12}{'use':<7}{'T/K':>7}{'P/bar':>9}  {'box/nm':<22}{'r_cut/nm':>9}"
    report(f"{header}{'half/nm':>9}  file")
    for state in campaign.states:
        _check_state(campaign, state, *mapped[campaign.topology(state.id)], r_cut, report)
    if campaign.is_backmapped and campaign.system.force_field:
        for topology, _ in mapped.values():
            _check_force_field(campaign, topology)
    return len(campaign.states)


def _check_mapping(campaign, source, report):
    """Topology and what makes its molecules whole; tells what is mapped to what."""
    topology, sites = sites_of(source, campaign.system.mapping)
    check_terms(campaign, sites)
    report(f"topology {source}: {topology.n_atoms} atoms")
    report(f"mapping  {campaign.system.mapping}:")
    termed = {(term.kind, "-".join(canonical(term.sites))) for term in campaign.bonded_terms}
    for line in describe(topology, read_mapping(campaign.system.mapping), sites, termed):
        report(f"  {line}")
    for warning in pairs_without_term(campaign, sites, sites.topology.excluded(campaign.exclude)):
        report(f"warning: {warning}")
    return topology, Unwrapper(topology, sites.atoms)


def describe(topology, mapping, sites, termed=None):
    """Lines that tell what the sites of each residue are and how they are bonded.

    Parameters
    ----------
    topology : mdtraj.Topology
    mapping : dict
        As from :func:`remcg.mapping.read_mapping`.
    sites : remcg.mapping.Sites
    termed : set of (str, str), optional
        Kind and name of the groups with a term in the model; the others are marked.

    Returns
    -------
    list of str
    """
    lines = _site_lines(topology, mapping, sites) + _left_out_lines(topology, sites)
    ignored = Counter(r.name for r in topology.residues if mapping[r.name] is None)
    lines += [f"{name}: {number} residues are left out" for name, number in ignored.items()]
    for each in groups_of(sites.topology, sites.names):
        mark = "" if termed is None or (each.kind, each.name) in termed else "  no term"
        lines.append(f"{each.kind:<9}{each.name:<20}{len(each.sites):>7}{mark}")
    lines.append(
        f"{len(sites.atoms)} molecules ({_spoken_sizes(sites)}), {sites.n_sites} sites of "
        f"{sites.n_atoms} atoms; {sites.null_dimension} of {3 * sites.n_atoms} dimensions of the "
        "atoms move no site"
    )
    return lines


def _spoken_sizes(sites):
    """How many molecules have how many sites."""
    sizes = Counter(np.bincount(sites.molecule).tolist())
    if set(sizes) == {1}:
        return "one site each"
    return ", ".join(f"{number} of {size} sites" for size, number in sorted(sizes.items()))


def _site_lines(topology, mapping, sites):
    """A table of kinds of sites; those of other atoms or mass have lines of their own."""
    rules = {
        (residue, site.name): site
        for residue, found in mapping.items()
        for site in (found.sites if found else ())
    }
    kinds = Counter()
    for i, label in enumerate(sites.labels):
        entries = sites.matrix.indices[sites.matrix.indptr[i] : sites.matrix.indptr[i + 1]]
        atoms = tuple(topology.atom(int(k)).name for k in entries)
        kinds[(*label, atoms, round(float(sites.masses[i]), 4))] += 1
    rows = [("residue", "site", "type", "number", "mass/amu", "weights", "atoms")]
    for (residue, name, atoms, mass), number in kinds.items():
        site = rules[residue, name]
        weights = "given" if isinstance(site.weights, list) else site.weights
        row = residue, name, site.type, str(number), f"{mass:.4f}", weights, _spoken_atoms(atoms)
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]


def _left_out_lines(topology, sites):
    """Atoms of mapped molecules that are in no site, by residue name."""
    inside = np.zeros(topology.n_atoms, bool)
    inside[sites.matrix.indices] = True
    atoms = np.concatenate(sites.atoms)
    single = np.bincount(sites.molecule)[sites.molecule] == 1
    alone = np.zeros(topology.n_atoms, bool)
    for number in sites.molecule[single]:
        alone[sites.atoms[number]] = True
    found = {}
    for atom in map(int, np.sort(atoms[~inside[atoms]])):
        read = topology.atom(atom)
        found.setdefault((read.residue.name, bool(alone[atom])), {})[read.name] = None
    return [
        f"{residue}: in no site, their masses go to the {'only one' if one else 'nearest ones'}: "
        f"{_spoken_atoms(tuple(names))}"
        for (residue, one), names in found.items()
    ]


def _spoken_atoms(atoms):
    if len(atoms) <= NAMED:
        return " ".join(atoms)
    return f"{' '.join(atoms[:NAMED])} ... ({len(atoms)} atoms)"


def _check_state(campaign, state, topology, unwrap, r_cut, report):
    log = read_log(state.log, state.id) if state.log else {}
    if "temperature_K" in log:
        check_temperature(state, log["temperature_K"])
    firsts = []
    for path in state.trajectory:
        frames = read_frames([path], topology, state.id, campaign.topology(state.id), chunk=1)
        chunk = next(frames)
        frames.close()
        check_cutoff(r_cut, chunk.boxes, 0, state.id)
        unwrap(chunk, state.id)
        firsts.append(chunk)
    box = firsts[0].boxes[0]
    _check_backmap_cutoff(campaign, box, state)
    half = 0.5 * (box if box.ndim == 1 else heights(box)).min()
    pressure = "NVT" if state.pressure is None else f"{state.pressure:g}"
    edges = " x ".join(f"{edge:.4f}" for edge in np.linalg.norm(many(box[None])[0], axis=1))
    names = ", ".join(os.path.basename(path) for path in state.trajectory)
    shape = "" if box.ndim == 1 else " (triclinic)"
    report(
        f"{state.id:<12}{state.use:<7}{state.temperature:>7g}{pressure:>9}  {edges:<22}{r_cut:>9g}"
        f"{half:>9.4f}  {names}{shape}"
    )


def _check_force_field(campaign, topology):
    """Backmapping comes last and must not be the first to find a fault."""
    from remcg.backmap.atoms import build_system

    atoms, cutoff = topology.to_openmm(), campaign.backmap_cutoff
    if cutoff is not None:
        edge = 4.0 * cutoff  # any box: only whether the force field knows the molecules matters
        atoms.setUnitCellDimensions((edge, edge, edge))
    build_system(atoms, campaign.system.force_field, cutoff)


def _check_backmap_cutoff(campaign, box, state):
    """The cut-off of the force field must fit in the box of its reference."""
    cutoff, least = campaign.backmap_cutoff, np.diag(many(box[None])[0]).min()
    if not (campaign.is_backmapped and campaign.system.force_field) or cutoff is None:
        return
    if 2.0 * cutoff > least:
        raise InputError(
            f"{state.id}: backmapping with a cut-off of {cutoff:g} nm needs boxes at least"
            f" {2 * cutoff:g} nm wide, but this one has {least:.4g} nm; set backmap.cutoff to"
            f" {0.49 * least:.2f} or less"
        )
