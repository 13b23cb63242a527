"""Mapping files: what the sites of each residue are, and how they are bonded."""

import re
from dataclasses import dataclass

import numpy as np

from remcg import strict_yaml
from remcg.errors import InputError
from remcg.typed import correction, refuse_unknown_keys

GROUPS = {"bonds": 2, "angles": 3, "dihedrals": 4}
_RESIDUE_KEYS = ("sites", "types", "masses", "ignore", *GROUPS)
_LABEL = re.compile(r"[A-Za-z0-9_]{1,32}")
_SITE_KEYS = ("atoms", "select", "weights")


@dataclass(frozen=True)
class SiteMap:
    """One site of a residue.

    Attributes
    ----------
    name, type : str
        The type is the name unless the mapping says otherwise.
    atoms : list of str, or None
        Names of the atoms it stands for.
    weights : "mass", "geometric" or list of float
    select : str, optional
        Instead of ``atoms``, an mdtraj selection within the residue.
    says_type : bool
        Whether the mapping names the type.
    """

    name: str
    type: str
    atoms: list | None
    weights: str | list = "mass"
    select: str | None = None
    says_type: bool = False


@dataclass(frozen=True)
class ResidueMap:
    """The sites of a residue.

    Attributes
    ----------
    sites : tuple of SiteMap
    bonds, angles, dihedrals : tuple of tuples of site names, or None
        Groups within the residue; None: as the bonds of its atoms tell.
    masses : dict, optional
        Masses (amu) of atoms that are not those of their elements.
    """

    sites: tuple
    bonds: tuple | None = None
    angles: tuple | None = None
    dihedrals: tuple | None = None
    masses: dict | None = None


def read_mapping(path):
    """Mapping file as {residue name: ResidueMap, or None for a residue that is left out}."""
    content = strict_yaml.read(path)
    try:
        return parse_mapping(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_mapping(content):
    """What :func:`read_mapping` reads, from the content of the file."""
    if not isinstance(content, dict) or not content:
        found = "is empty" if not content else "does not begin with a residue name"
        raise InputError(f"{found}; give HOH: {{sites: {{W: {{atoms: [O, H1, H2]}}}}}} or alike")
    return {str(name): _residue(str(name), item) for name, item in content.items()}


def _residue(name, item):
    refuse_unknown_keys(item, _RESIDUE_KEYS, name)
    if _is_ignored(name, item):
        return None
    sites = item.get("sites")
    if not isinstance(sites, dict) or not sites:
        raise InputError(f"{name}: has no sites; give sites: {{NAME: {{atoms: [...]}}}}")
    types = _types(f"{name}.types", item.get("types"), [str(site) for site in sites])
    built = tuple(
        _site(f"{name}.sites.{site}", str(site), types.get(str(site)), rules)
        for site, rules in sites.items()
    )
    groups = {key: _groups(f"{name}.{key}", item.get(key), size, built)
              for key, size in GROUPS.items()}  # fmt: skip
    _check_case(name, built)
    return ResidueMap(built, **groups, masses=_masses(f"{name}.masses", item.get("masses")))


def _types(where, types, sites):
    """Type of each site that is named, as text."""
    if isinstance(types, dict):
        types = {str(site): kind for site, kind in types.items()}
    types = types or {}
    refuse_unknown_keys(types, sites, where)
    for site, kind in types.items():
        if not isinstance(kind, str | int | float) or isinstance(kind, bool):
            raise InputError(
                f"{where}.{site}: found {'nothing' if kind is None else repr(kind)}; give the name "
                "of its type, or leave it out for the name of the site"
            )
    return {site: str(kind) for site, kind in types.items()}


def _masses(where, masses):
    if masses is None:
        return None
    if not isinstance(masses, dict):
        raise InputError(f"{where}: found {masses!r}; give masses of atoms, such as C1: 15.035")
    for atom, mass in masses.items():
        if not isinstance(mass, int | float) or isinstance(mass, bool) or not 0 <= mass < np.inf:
            raise InputError(f"{where}.{atom}: found {mass!r}; give a mass in amu")
    return {str(atom): float(mass) for atom, mass in masses.items()}


def _check_case(name, sites):
    spellings = {}
    for site in sites:
        other = spellings.setdefault(site.type.lower(), site.type)
        if other != site.type:
            raise InputError(
                f"{name}: the types {other} and {site.type} differ only in case; rename one of them"
            )


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
    says_type, kind = kind is not None, kind or name
    for label in (name, kind):
        if not _LABEL.fullmatch(label):
            raise InputError(
                f"{where}: '{label}' cannot name a site; use letters (A to Z), digits and '_', at "
                "most 32: input files of other programs have these names"
            )
    atoms, select = rules.get("atoms"), rules.get("select")
    if atoms is not None and select is not None:
        raise InputError(f"{where}: has atoms and select; keep one of the two")
    if select is None:
        atoms = _atoms(where, atoms)
    elif not isinstance(select, str) or not select.strip():
        raise InputError(f"{where}.select: found {select!r}; give a selection, such as 'name CA'")
    weights = _weights(where, rules.get("weights", "mass"), atoms)
    return SiteMap(name, kind, atoms, weights, select, says_type)


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
            advice = correction(name, names, "; correct the name")
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
