"""Mapping files: what the sites of each residue are, and how they are bonded."""

from dataclasses import dataclass

import numpy as np

from remcg import strict_yaml
from remcg.errors import InputError
from remcg.typed import nearest, refuse_unknown_keys

GROUPS = {"bonds": 2, "angles": 3, "dihedrals": 4}
_RESIDUE_KEYS = ("sites", "types", "ignore", *GROUPS)
_SITE_KEYS = ("atoms", "select", "weights")


@dataclass(frozen=True)
class SiteMap:
    """One site of a residue.

    Attributes
    ----------
    name, type : str
    atoms : list of str, or None
        Names of the atoms it stands for.
    weights : "mass", "geometric" or list of float
    select : str, optional
        Instead of ``atoms``, an mdtraj selection within the residue.
    """

    name: str
    type: str
    atoms: list | None
    weights: str | list = "mass"
    select: str | None = None


@dataclass(frozen=True)
class ResidueMap:
    """The sites of a residue.

    Attributes
    ----------
    sites : tuple of SiteMap
    bonds, angles, dihedrals : tuple of tuples of site names, or None
        Groups within the residue; None: as the bonds of its atoms tell.
    """

    sites: tuple
    bonds: tuple | None = None
    angles: tuple | None = None
    dihedrals: tuple | None = None


def read_mapping(path):
    """Mapping file as {residue name: ResidueMap, or None for a residue that is left out}."""
    content = strict_yaml.read(path)
    try:
        if not isinstance(content, dict) or not content:
            found = "is empty" if not content else "does not begin with a residue name"
            raise InputError(
                f"{found}; give HOH: {{sites: {{W: {{atoms: [O, H1, H2]}}}}}} or alike"
            )
        mapping = {str(name): _residue(str(name), item) for name, item in content.items()}
        _check_types(content, mapping)
        return mapping
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _residue(name, item):
    refuse_unknown_keys(item, _RESIDUE_KEYS, name)
    if _is_ignored(name, item):
        return None
    sites = item.get("sites")
    if not isinstance(sites, dict) or not sites:
        raise InputError(f"{name}: has no sites; give sites: {{NAME: {{atoms: [...]}}}}")
    types = item.get("types") or {}
    refuse_unknown_keys(types, [str(site) for site in sites], f"{name}.types")
    types = {str(site): str(kind) for site, kind in types.items()}
    built = tuple(
        _site(f"{name}.sites.{site}", str(site), types.get(str(site), str(site)), rules)
        for site, rules in sites.items()
    )
    groups = {key: _groups(f"{name}.{key}", item.get(key), size, built)
              for key, size in GROUPS.items()}  # fmt: skip
    return ResidueMap(built, **groups)


def _is_ignored(name, item):
    ignore = item.get("ignore", False)
    if not isinstance(ignore, bool):
        raise InputError(f"{name}.ignore: found {ignore!r}; allowed are true and false")
    if ignore and len(item) > 1:
        other = next(key for key in item if key != "ignore")
        raise InputError(f"{name}: has {other} and ignore: true; keep one of the two")
    return ignore


def _site(where, name, kind, rules):
    refuse_unknown_keys(rules, _SITE_KEYS, where)
    if not kind.replace("_", "").isalnum():
        raise InputError(f"{where}: '{kind}' cannot name a site; use letters, digits and '_'")
    atoms, select = rules.get("atoms"), rules.get("select")
    if atoms is not None and select is not None:
        raise InputError(f"{where}: has atoms and select; keep one of the two")
    if select is None:
        atoms = _atoms(where, atoms)
    elif not isinstance(select, str) or not select.strip():
        raise InputError(f"{where}.select: found {select!r}; give a selection, such as 'name CA'")
    return SiteMap(name, kind, atoms, _weights(where, rules.get("weights", "mass"), atoms), select)


def _atoms(where, atoms):
    if not isinstance(atoms, list) or not atoms:
        raise InputError(f"{where}: has no atoms; list their names, such as atoms: [O, H1, H2]")
    atoms = [str(atom) for atom in atoms]
    doubles = sorted({atom for atom in atoms if atoms.count(atom) > 1})
    if doubles:
        raise InputError(f"{where}: lists the atom {doubles[0]} twice; keep one of them")
    return atoms


def _weights(where, weights, atoms):
    if not isinstance(weights, list):
        if weights in ("mass", "geometric"):
            return weights
        raise InputError(
            f"{where}.weights: found {weights!r}; allowed are mass, geometric, or one number per "
            "atom"
        )
    numbers = all(isinstance(w, int | float) and not isinstance(w, bool) for w in weights)
    if not numbers or not np.isfinite(weights).all() or len(weights) != len(atoms or weights):
        raise InputError(
            f"{where}.weights: found {weights} for {len(atoms or weights)} atoms; give one number "
            "per atom"
        )
    if not sum(weights) > 0:
        raise InputError(f"{where}.weights: sum to {sum(weights):g}; their sum must be positive")
    return weights


def _groups(where, listed, size, sites):
    """Listed groups of site names, or None where they are to be inferred."""
    if listed is None:
        return None
    names = [site.name for site in sites]
    if not isinstance(listed, list) or not all(isinstance(group, list) for group in listed):
        raise InputError(f"{where}: found {listed!r}; give a list of groups of {size} site names")
    groups = [tuple(str(name) for name in group) for group in listed]
    for group in groups:
        _check_group(where, group, size, names)
        if groups.count(group) + groups.count(group[::-1]) > 1:
            raise InputError(f"{where}: {_spoken(group)} stands twice; keep one of them")
    return tuple(groups)


def _check_group(where, group, size, names):
    for name in group:
        if name not in names:
            guess = nearest(name, names)
            advice = f"; did you mean '{guess}'?" if guess else "; correct the name"
            raise InputError(
                f"{where}: {_spoken(group)} names the site {name}, but the residue has "
                f"{', '.join(names)}{advice}"
            )
    if len(group) != size:
        raise InputError(f"{where}: {_spoken(group)} has {len(group)} sites; give {size}")
    if len(set(group)) != size:
        raise InputError(f"{where}: {_spoken(group)} names a site twice; give {size} different")


def _spoken(group):
    return f"[{', '.join(group)}]"


def _check_types(content, mapping):
    """Sites of two residues are of one type only where both residues say so."""
    first = {}
    for residue, rules in mapping.items():
        for site in rules.sites if rules else ():
            said = site.name in {str(key) for key in content[residue].get("types") or {}}
            kind, other, other_said = first.setdefault(
                site.type.lower(), (site.type, (residue, site.name), said)
            )
            where = f"the sites {other[1]} of {other[0]} and {site.name} of {residue}"
            if kind != site.type:
                raise InputError(
                    f"{where} have the types {kind} and {site.type}, which differ only in case; "
                    "rename one of them"
                )
            if other[0] != residue and not (said and other_said):
                raise InputError(
                    f"{where} would both have the type {kind}; where that is meant, say so with "
                    f"types: {{{site.name}: {kind}}} in both residues, else rename one of them"
                )
