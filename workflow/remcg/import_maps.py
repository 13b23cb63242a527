"""Mapping files of other programs as ours: VOTCA's XML, and the YAML of OpenMSCG and AceCG.

What has no counterpart here is an error; what is done in another way is a note, which the result
carries as a comment.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from remcg import strict_yaml
from remcg.errors import InputError
from remcg.mapping.rules import GROUPS, parse_mapping
from remcg.typed import refuse_unknown_keys

EQUAL = 1e-6  # relative, of weights that are taken as all the same
VOTCA_GROUPS = {"bond": "bonds", "angle": "angles", "dihedral": "dihedrals"}


@dataclass
class Imported:
    """A mapping on its way.

    Attributes
    ----------
    residues : dict
        Per residue name, a list of (site name, type, atom names, weights or None for masses).
    groups : dict
        Per residue name, {"bonds": [...], ...}; what is not there is to be inferred.
    ignored : list of str
        Residues without sites.
    notes : list of str
    """

    residues: dict = field(default_factory=dict)
    groups: dict = field(default_factory=dict)
    ignored: list = field(default_factory=list)
    notes: list = field(default_factory=list)


def import_maps(paths, topology=None):
    """Text of a mapping file from those of other programs.

    Parameters
    ----------
    paths : list of path
        XML files of VOTCA, one per molecule, or one YAML file of OpenMSCG or AceCG.
    topology : path, optional
        What the indices of a YAML file count in.
    """
    result = Imported()
    for path in paths:
        try:
            if str(path).lower().endswith((".yaml", ".yml")):
                _add(result, from_openmscg(strict_yaml.read(path), topology))
            else:
                _add(result, from_votca(_parsed(path)))
        except InputError as error:
            text = str(error)
            raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    content = _content(result)
    names = ", ".join(Path(path).name for path in paths)
    try:
        parse_mapping(content)
    except InputError as error:
        raise InputError(f"{names}: as a mapping, {error}") from None
    return _text(content, [f"Imported from {names}.", *dict.fromkeys(result.notes)])


def _add(result, other):
    for name in other.residues:
        if name in result.residues:
            raise InputError(f"maps the residue {name}, as another file does; give one of them")
    result.residues |= other.residues
    result.groups |= other.groups
    result.ignored += other.ignored
    result.notes += other.notes


def _parsed(path):
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"cannot be read as XML ({error}); give a mapping of VOTCA") from error
    if root.tag != "cg_molecule":
        raise InputError(
            f"begins with <{root.tag}>; give VOTCA's <cg_molecule>, or a .yaml of OpenMSCG or AceCG"
        )
    return root


def from_votca(root):
    """Imported, of the root element <cg_molecule> of a mapping file of VOTCA."""
    maps = {_said(item, "name", "map"): item for item in root.findall("maps/map")}
    beads = [_bead(item, maps) for item in root.findall("topology/cg_beads/cg_bead")]
    if not beads:
        raise InputError("has no <cg_bead> in topology/cg_beads; give a complete mapping of VOTCA")
    names = [bead[0] for bead in beads]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two beads have the name {name}; rename one of them")
    result = Imported(notes=_notes(maps))
    bonded = root.find("topology/cg_bonded")
    groups = None if bonded is None else _votca_groups(bonded, names)
    place = _by_residue(result, beads)
    if groups is not None:
        _sort_groups(result, groups, place)
    return result


def _said(item, tag, what):
    text = (item.findtext(tag) or "").strip()
    if not text:
        raise InputError(f"a <{what}> has no <{tag}>; add it")
    return text


def _bead(item, maps):
    """(name, type, (residue number, residue name), atoms, weights) of a <cg_bead>."""
    name = _said(item, "name", "cg_bead")
    if (item.findtext("symmetry") or "1").strip() != "1":
        raise InputError(
            f"the bead {name} has <symmetry> {item.findtext('symmetry').strip()}, but sites here "
            "are points; remove it, and set system.orientations in the config to follow its axes"
        )
    tokens = [token.split(":") for token in _said(item, "beads", "cg_bead").split()]
    for token in tokens:
        if len(token) != 3:
            raise InputError(
                f"the bead {name} has the atom {':'.join(token)}; write atoms as residue number, "
                "residue name and atom name, such as 1:HEX:C1"
            )
    residues = list(dict.fromkeys((number, residue) for number, residue, _ in tokens))
    if len(residues) > 1:
        spoken = " and ".join(":".join(residue) for residue in residues[:2])
        raise InputError(
            f"the bead {name} has atoms of the residues {spoken}, but a site here is within one "
            "residue; join these residues in the topology, or split the bead"
        )
    chosen = _said(item, "mapping", "cg_bead")
    if chosen not in maps:
        raise InputError(
            f"the bead {name} has the map {chosen}, which is not among {', '.join(maps) or 'none'}"
            " in <maps>; add it"
        )
    weights = _numbers(maps[chosen], "weights")
    if len(weights) != len(tokens):
        raise InputError(
            f"the bead {name} has {len(tokens)} atoms but its map {chosen} has {len(weights)} "
            "weights; give as many"
        )
    _check_weights(f"<weights> of the map {chosen}", weights)
    return name, _said(item, "type", "cg_bead"), residues[0], [t[2] for t in tokens], weights


def _check_weights(where, weights):
    if not np.isfinite(weights).all():
        raise InputError(f"{where} are {weights}; give finite numbers")
    if not sum(weights) > 0.0:
        raise InputError(f"{where} sum to {sum(weights):g}; their sum must be positive")


def _numbers(item, tag):
    text = _said(item, tag, "map")
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        raise InputError(f"<{tag}> of a map are '{text}'; give numbers") from None


def _notes(maps):
    """What the force weights <d> of maps say otherwise than the weights."""
    notes = []
    for name, item in maps.items():
        if item.find("d") is None:
            continue
        forces, weights = (np.array(_numbers(item, tag)) for tag in ("d", "weights"))
        if forces.shape != weights.shape or not np.allclose(
            forces * weights.sum(), weights * forces.sum()
        ):
            notes.append(
                f"force weights <d> of the map {name} are left out: force maps follow from weights"
            )
    return notes


def _votca_groups(bonded, names):
    """{"bonds": [...], "angles": [...], "dihedrals": [...]} of bead names."""
    result = {key: [] for key in GROUPS}
    for item in bonded:
        if item.tag not in VOTCA_GROUPS:
            raise InputError(
                f"has a <{item.tag}> in <cg_bonded>; there are bonds, angles and dihedrals here: "
                "remove it"
            )
        key = VOTCA_GROUPS[item.tag]
        beads, size = _said(item, "beads", item.tag).split(), GROUPS[key]
        unknown = [bead for bead in beads if bead not in names]
        if unknown:
            raise InputError(
                f"a <{item.tag}> names the bead {unknown[0]}, but there are {', '.join(names)}"
            )
        if len(beads) % size:
            raise InputError(
                f"a <{item.tag}> lists {len(beads)} beads, which is not a multiple of {size}"
            )
        result[key] += [beads[k : k + size] for k in range(0, len(beads), size)]
    return result


def _by_residue(result, beads):
    """Gather beads by residue; {bead: (residue, site)}. Residues of one name must be alike."""
    found = {}
    for name, kind, residue, atoms, weights in beads:
        found.setdefault(residue, []).append((name, kind, atoms, weights))
    place = {}
    for residue, sites in found.items():
        known = result.residues.setdefault(residue[1], sites)
        _check_alike(residue[1], known, sites)
        place |= {bead[0]: (residue, site[0]) for bead, site in zip(sites, known)}
    return place


def _check_alike(residue, known, sites):
    """The sites of two residues of the same name, but for the names of the sites."""
    alike = len(known) == len(sites) and all(
        a[1:3] == b[1:3] and _same(a[3], b[3]) for a, b in zip(known, sites)
    )
    if not alike:
        raise InputError(
            f"residues {residue} are mapped in different ways, but there is one mapping for each "
            "residue name; give those at the ends of a chain other names in the topology"
        )


def _same(a, b):
    return (a is None) == (b is None) and (a is None or np.allclose(a, b))


def _sort_groups(result, groups, place):
    """Groups within residues as they are; those across residues will be inferred."""
    listed, across = {}, False
    for key, members in groups.items():
        for group in members:
            residues = {place[bead][0] for bead in group}
            if len(residues) > 1:
                across = True
                continue
            sites = [place[bead][1] for bead in group]
            of_residue = listed.setdefault(residues.pop(), {name: [] for name in GROUPS})
            if sites not in of_residue[key] and sites[::-1] not in of_residue[key]:
                of_residue[key].append(sites)
    if across:
        result.notes.append(
            "groups across residues are left out: they follow from the bonds of the atoms"
        )
    for residue, sites in result.residues.items():
        found = [each for (_, name), each in listed.items() if name == residue]
        if any(a != b for a, b in pairwise(found)):
            raise InputError(
                f"residues {residue} are bonded in different ways, but there is one mapping for "
                "each residue name; give those that differ other names in the topology"
            )
        if found and len(sites) > 1:
            # without bonds, which a file of angles may leave out, they are to be inferred
            result.groups[residue] = {
                k: each for k, each in found[0].items() if k != "bonds" or each
            }


def from_openmscg(content, topology=None):
    """Imported, of the content of a mapping file of OpenMSCG or AceCG."""
    from remcg.trajectory import load_topology

    refuse_unknown_keys(content, ("site-types", "system"), "")
    kinds, system = content.get("site-types"), content.get("system")
    if not isinstance(kinds, dict) or not isinstance(system, list) or not kinds or not system:
        raise InputError("has no site-types or no system; give a mapping of OpenMSCG or AceCG")
    if topology is None:
        raise InputError(
            "counts atoms from the first of the system, but mappings here name them; give the "
            "topology with --topology"
        )
    kinds = {str(name): _site_type(str(name), item) for name, item in kinds.items()}
    read = load_topology(topology)
    found = {}
    for n, (kind, anchor) in enumerate(_unfolded(system, 0, kinds)):
        if n == read.n_atoms:
            raise InputError(f"has more sites than {topology} has atoms ({n}); correct its repeats")
        index, weights = kinds[kind]
        atoms = [anchor + k for k in index]
        if min(atoms) < 0 or max(atoms) >= read.n_atoms:
            raise InputError(
                f"a site {kind} has the atom {max(atoms)}, but {topology} has {read.n_atoms} "
                "(counted from 0); give the topology that the mapping was written for"
            )
        residues = list(dict.fromkeys(read.atom(atom).residue for atom in atoms))
        if len(residues) > 1:
            raise InputError(
                f"a site {kind} has atoms of the residues {residues[0]} and {residues[1]}, but a "
                "site here is within one residue; join them in the topology"
            )
        names = [read.atom(atom).name for atom in atoms]
        found.setdefault(residues[0].index, []).append((kind, kind, names, weights))
    return _of_residues(read, found)


def _of_residues(topology, found):
    result = Imported()
    for residue in topology.residues:
        sites = _numbered(found.get(residue.index, []))
        known = result.residues.setdefault(residue.name, sites)
        _check_alike(residue.name, known, sites)
    result.ignored = [name for name, sites in result.residues.items() if not sites]
    result.residues = {name: sites for name, sites in result.residues.items() if sites}
    result.notes.append("f-weight is left out: force maps follow from the weights")
    return result


def _numbered(sites):
    """Sites named A1, A2, ... where there are several of type A."""
    kinds, named = [site[0] for site in sites], []
    for k, (kind, *rest) in enumerate(sites):
        number = kinds[: k + 1].count(kind)
        named.append((f"{kind}{number}" if kinds.count(kind) > 1 else kind, *rest))
    return named


def _site_type(name, item):
    """(indices, weights or None for masses) of a site type."""
    refuse_unknown_keys(item, ("index", "x-weight", "f-weight"), f"site-types.{name}")
    index, weights = item.get("index"), item.get("x-weight")
    if not isinstance(index, list) or not index or not all(isinstance(k, int) for k in index):
        raise InputError(f"site-types.{name}.index: found {index!r}; give a list of whole numbers")
    if weights is None:
        return index, None
    if not isinstance(weights, list) or len(weights) != len(index):
        raise InputError(
            f"site-types.{name}.x-weight: found {weights!r} for {len(index)} atoms; give as many"
        )
    if not all(isinstance(weight, int | float) for weight in weights):
        raise InputError(f"site-types.{name}.x-weight: found {weights!r}; give numbers")
    _check_weights(f"site-types.{name}.x-weight", weights)
    return index, [float(weight) for weight in weights]


def _unfolded(groups, root, kinds):
    """Yield (site type, first atom) of all sites of nested groups."""
    for k, group in enumerate(groups):
        where = f"system[{k}]"
        refuse_unknown_keys(group, ("anchor", "repeat", "offset", "sites", "groups"), where)
        numbers = [group.get(key, default) for key, default in
                   (("anchor", 0), ("repeat", 1), ("offset", 0))]  # fmt: skip
        if not all(isinstance(number, int) for number in numbers):
            raise InputError(
                f"{where}: anchor, repeat and offset are {numbers}; give whole numbers"
            )
        for key in ("sites", "groups"):
            if not isinstance(group.get(key) or [], list):
                raise InputError(f"{where}.{key}: found {group[key]!r}; give a list")
        anchor, repeat, offset = numbers
        if repeat < 1:
            raise InputError(f"{where}.repeat: found {repeat}; give at least 1")
        if not (group.get("sites") or group.get("groups")):
            raise InputError(f"{where}: has neither sites nor groups; give some, or leave it out")
        for n in range(repeat):
            first = root + anchor + n * offset
            for site in group.get("sites") or ():
                yield _placed(site, first, kinds, where)
            yield from _unfolded(group.get("groups") or (), first, kinds)


def _placed(site, first, kinds, where):
    if not isinstance(site, list) or len(site) != 2 or not isinstance(site[1], int):
        raise InputError(f"{where}.sites: found {site!r}; give [site type, first atom]")
    if str(site[0]) not in kinds:
        raise InputError(
            f"{where}.sites: names the site type {site[0]}, but there are {', '.join(kinds)}"
        )
    return str(site[0]), first + site[1]


def _content(result):
    """The content of a mapping file."""
    shared, content = _shared_types(result), {}
    for residue, sites in result.residues.items():
        content[residue] = {"sites": {name: _rules(*more) for name, _, *more in sites}}
        types = {name: kind for name, kind, _, _ in sites if name != kind or kind in shared}
        if types:
            content[residue]["types"] = types
        content[residue] |= result.groups.get(residue, {})
    return content | {name: {"ignore": True} for name in result.ignored}


def _rules(atoms, weights):
    """What a mapping file says of a site."""
    if weights is None:
        return {"atoms": atoms}
    if np.ptp(weights) <= EQUAL * abs(np.mean(weights)):
        return {"atoms": atoms, "weights": "geometric"}
    return {"atoms": atoms, "weights": list(weights)}


def _shared_types(result):
    """Types that several residues have."""
    kinds = [{site[1] for site in sites} for sites in result.residues.values()]
    return {kind for each in kinds for kind in each if sum(kind in other for other in kinds) > 1}


def _text(content, notes):
    """A mapping file: one line per site."""
    lines = [f"# {' '.join(note.split())}" for note in notes]  # a name may hold a line break
    for residue, rules in content.items():
        if "sites" not in rules:
            lines.append(f"{_word(residue)}: {_flow(rules)}")
            continue
        lines += [f"{_word(residue)}:", "  sites:"]
        lines += [f"    {_word(name)}: {_flow(site)}" for name, site in rules["sites"].items()]
        lines += [f"  {key}: {_flow(value)}" for key, value in rules.items() if key != "sites"]
    return "\n".join(lines) + "\n"


def _flow(item):
    """YAML in one line."""
    if isinstance(item, dict):
        return f"{{{', '.join(f'{_word(key)}: {_flow(each)}' for key, each in item.items())}}}"
    if isinstance(item, list | tuple):
        return f"[{', '.join(map(_flow, item))}]"
    if isinstance(item, bool):
        return str(item).lower()
    return _word(item) if isinstance(item, str) else f"{item:.10g}"


def _word(text):
    """A word that YAML reads as text again."""
    plain = text.replace("_", "").isalnum() and text.isascii() and not text[0].isdigit()
    if plain and text.lower() not in ("true", "false", "null"):
        return text
    quoted = text.replace("'", "''")
    return f"'{quoted}'"
