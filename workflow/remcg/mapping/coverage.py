"""Whether the terms of a model and the sites of a mapping fit each other."""

import numpy as np

from remcg.bonded import groups_of
from remcg.boxes import heights, many
from remcg.errors import InputError
from remcg.mapping.rules import read_mapping
from remcg.model import canonical
from remcg.pairs import numbers_of_pairs
from remcg.topology import GROUPS
from remcg.typed import correction


def check_residues(campaign, topologies):
    """Every residue of the mapping must be in one of the topologies of the campaign."""
    found = {residue.name for topology in topologies for residue in topology.residues}
    for name in read_mapping(campaign.system.mapping):
        if name not in found:
            raise InputError(
                f"the mapping {campaign.system.mapping} has the residue {name} but the topologies "
                f"of the campaign have only {', '.join(sorted(found))}; remove it or correct its "
                "name"
            )


def check_terms(campaign, sites):
    """Every site type and bonded group that a term names must exist.

    Every site type must be in a pair term, and every bond in a bond term. A state may lack some of
    the residues that the mapping knows: it says nothing about their terms.
    """
    for term in campaign.model.terms:
        for name in getattr(term, "sites", ()):
            if name not in sites.names:
                advice = correction(name, sites.names, "; correct the term")
                raise InputError(
                    f"model.terms: the {term.kind} term {term.name} names the site type {name}, "
                    f"but the mapping {campaign.system.mapping} has {', '.join(sites.names)}"
                    f"{advice}"
                )
    _check_all_interact(campaign, sites)
    groups = groups_of(sites.topology, sites.names)
    found = {kind: [each.name for each in groups if each.kind == kind] for kind in GROUPS}
    present = _present(sites)
    for term in campaign.model.terms:
        if term.kind in GROUPS and present.issuperset(term.sites):
            _check_bonded(campaign, term, found[term.kind])
    _check_all_bonded(campaign, found["bond"])


def _present(sites):
    """Names of the types that the topology has sites of."""
    return {sites.names[kind] for kind in np.unique(sites.site_types)}


def _check_all_interact(campaign, sites):
    named = {name for term in campaign.pair_terms for name in term.sites}
    for name in sorted(_present(sites)):
        if name not in named:
            raise InputError(
                f"model.terms: no pair term names the site type {name} of the mapping "
                f"{campaign.system.mapping}, so it would not interact at all; add a term such as "
                f"{{kind: pair, sites: [{name}, {name}], ...}}, or ignore its residue"
            )


def _check_bonded(campaign, term, found):
    name = "-".join(canonical(term.sites))
    if name not in found:
        there = f"only {', '.join(found)}" if found else "none"
        raise InputError(
            f"model.terms: the mapping {campaign.system.mapping} has no {term.kind} {name}, but "
            f"{there}; correct the sites of the term, or leave it out"
        )


def _check_all_bonded(campaign, found):
    described = [
        "-".join(canonical(term.sites)) for term in campaign.model.terms if term.kind == "bond"
    ]
    for name in found:
        if name not in described:
            sites = ", ".join(name.split("-"))
            raise InputError(
                f"model.terms: no bond term describes the bonds {name} of the mapping "
                f"{campaign.system.mapping}, so its molecules would fall apart; add a term such as "
                f"{{kind: bond, sites: [{sites}], ...}}"
            )


def pairs_without_term(campaign, sites, excluded=()):
    """A warning that names the pairs of site types without a pair term, or nothing."""
    named = {"-".join(sorted(term.sites)) for term in campaign.pair_terms}
    numbers = numbers_of_pairs(sites.site_types, sites.pair_types, excluded)
    missing = [
        name for name, number in zip(sites.pair_names, numbers) if name not in named and number > 0
    ]
    if not missing:
        return []
    return [
        f"the model has no pair term for {', '.join(missing)}, so these sites pass through each "
        "other; add terms unless this is meant"
    ]


def pairs_that_never_meet(campaign, sites, state, onset):
    """A warning that names the pair terms of which a state shows (almost) no pair, or nothing."""
    here = [term for term in campaign.pair_terms if _present(sites).issuperset(term.sites)]
    never = [term.name for term in here if term.name not in onset]
    if not never:
        return []
    return [
        f"{state}: hardly a pair of {', '.join(never)} comes within r_cut, so this state says "
        "nothing about these terms; leave them out unless another state has such pairs"
    ]


def check_cutoff(r_cut, boxes, start, state):
    """The minimum image convention needs r_cut <= half of every height of the box."""
    boxes = np.asarray(boxes, float)
    skew = boxes.ndim == 3
    half = 0.5 * (heights(many(boxes)) if skew else boxes).min(axis=1)
    if (half < r_cut).any():
        frame = int(np.argmax(half < r_cut))
        length = "the least height of the box" if skew else "the shortest box edge"
        raise InputError(
            f"{state}: r_cut is {r_cut:g} nm but half {length} is {half[frame]:.4g} "
            f"nm in frame {start + frame}; lower r_cut below it, or simulate a larger box"
        )
