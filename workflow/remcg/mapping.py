"""From atoms to sites: mapping files, the linear operator, and mapped trajectories."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass

import h5py
import numpy as np
from scipy.sparse import csr_matrix

from remcg import strict_yaml
from remcg.config import USUAL_SPACING
from remcg.errors import InputError
from remcg.io import replacing, write_json
from remcg.statistics import inefficiency, standard_error
from remcg.trajectory import at_frames, check_log, load_topology, read_frames, read_log
from remcg.typed import nearest, refuse_unknown_keys
from remcg.units import KG_M3

LONGEST_BOND = 0.5  # nm; a longer one means a corrupt frame or another topology
DRIFT_SE = 4.0
TEMPERATURE_TOLERANCE = 0.002  # relative; integrators deviate by less
TEMPERATURE_SLIP = 0.1  # relative; more is another unit or another trajectory
ONSET_COUNT = 10
ONSET_WIDTH = 1e-4  # nm, bins of the search for the onset
_RESIDUE_KEYS = ("sites", "types", "ignore", "bonds", "angles", "dihedrals")
_SITE_KEYS = ("atoms", "weights")


@dataclass(frozen=True)
class SiteMap:
    """One site of a residue.

    Attributes
    ----------
    name, type : str
    atoms : list of str
        Names of the atoms it stands for.
    weights : "mass", "geometric" or list of float
    """

    name: str
    type: str
    atoms: list
    weights: str | list


@dataclass(frozen=True)
class Sites:
    """A mapping applied to a topology.

    Attributes
    ----------
    matrix : csr_matrix, shape (n_sites, n_atoms)
        Rows sum to one.
    atoms : list of ndarray
        Per molecule, the indices of all its atoms.
    site_types, molecule : ndarray, shape (n_sites,)
    masses : ndarray, shape (n_sites,), amu
        Of the whole molecule: one site per molecule carries all of its mass.
    names : list of str
        Type names, sorted; ``site_types`` are indices into them.
    """

    matrix: csr_matrix
    atoms: list
    site_types: np.ndarray
    molecule: np.ndarray
    masses: np.ndarray
    names: list

    @property
    def pair_types(self):
        """All pairs of type indices, in the order of :attr:`pair_names`."""
        n = len(self.names)
        return [(a, b) for a in range(n) for b in range(a, n)]

    @property
    def pair_names(self):
        return [f"{self.names[a]}-{self.names[b]}" for a, b in self.pair_types]


def read_mapping(path):
    """Mapping file as {residue name: SiteMap, or None for a residue that is left out}."""
    content = strict_yaml.read(path)
    try:
        if not isinstance(content, dict) or not content:
            found = "is empty" if not content else "does not begin with a residue name"
            raise InputError(
                f"{found}; give HOH: {{sites: {{W: {{atoms: [O, H1, H2]}}}}}} or alike"
            )
        return {str(name): _residue(str(name), item) for name, item in content.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _residue(name, item):
    refuse_unknown_keys(item, _RESIDUE_KEYS, name)
    if item.get("ignore") is True:
        return None
    bonded = [key for key in ("bonds", "angles", "dihedrals") if item.get(key)]
    sites = item.get("sites")
    if not isinstance(sites, dict) or not sites:
        raise InputError(f"{name}: has no sites; give sites: {{NAME: {{atoms: [...]}}}}")
    if len(sites) > 1 or bonded:
        found = f"{len(sites)} sites" if len(sites) > 1 else bonded[0]
        raise InputError(
            f"{name}: has {found}; this version maps each molecule to one site: join the atoms in "
            "one site"
        )
    ((site, rules),) = sites.items()
    types = item.get("types") or {}
    refuse_unknown_keys(types, [str(site)], f"{name}.types")
    return _site(f"{name}.sites.{site}", str(site), str(types.get(site, site)), rules)


def _site(where, name, kind, rules):
    refuse_unknown_keys(rules, _SITE_KEYS, where)
    if not kind.replace("_", "").isalnum():
        raise InputError(f"{where}: '{kind}' cannot name a site; use letters, digits and '_'")
    atoms = rules.get("atoms")
    if not isinstance(atoms, list) or not atoms:
        raise InputError(f"{where}: has no atoms; list their names, such as atoms: [O, H1, H2]")
    atoms = [str(atom) for atom in atoms]
    doubles = sorted({atom for atom in atoms if atoms.count(atom) > 1})
    if doubles:
        raise InputError(f"{where}: lists the atom {doubles[0]} twice; keep one of them")
    weights = rules.get("weights", "mass")
    if isinstance(weights, list):
        _check_weights(where, weights, atoms)
    elif weights not in ("mass", "geometric"):
        raise InputError(
            f"{where}.weights: found {weights!r}; allowed are mass, geometric, or one number per "
            "atom"
        )
    return SiteMap(name, kind, atoms, weights)


def _check_weights(where, weights, atoms):
    numbers = all(isinstance(w, int | float) and not isinstance(w, bool) for w in weights)
    if len(weights) != len(atoms) or not numbers or not np.isfinite(weights).all():
        raise InputError(
            f"{where}.weights: found {weights} for {len(atoms)} atoms; give one number per atom"
        )
    if not sum(weights) > 0:
        raise InputError(f"{where}.weights: sum to {sum(weights):g}; their sum must be positive")


def build_sites(topology, mapping):
    """Apply a mapping to a topology.

    Parameters
    ----------
    topology : mdtraj.Topology
    mapping : dict
        As from :func:`read_mapping`.
    """
    _check_residues(topology, mapping)
    _check_bonds(topology, mapping)
    mapped = [residue for residue in topology.residues if mapping[residue.name] is not None]
    if not mapped:
        raise InputError("the mapping ignores every residue of the topology; map at least one")
    names = sorted({mapping[residue.name].type for residue in mapped})
    rows, columns, values, masses = [], [], [], []
    for row, residue in enumerate(mapped):
        indices, weights = _weights(residue, mapping[residue.name])
        rows += [row] * len(indices)
        columns += indices
        values += weights
        masses.append(sum(_mass(atom) for atom in residue.atoms))
    if min(masses) <= 0:
        residue = mapped[int(np.argmin(masses))]
        raise InputError(f"residue {residue}: has no mass; ignore it, or give atoms with elements")
    return Sites(
        matrix=csr_matrix((values, (rows, columns)), shape=(len(mapped), topology.n_atoms)),
        atoms=[np.array([atom.index for atom in residue.atoms]) for residue in mapped],
        site_types=np.array([names.index(mapping[residue.name].type) for residue in mapped]),
        molecule=np.arange(len(mapped)),
        masses=np.array(masses),
        names=names,
    )


def operator(topology, mapping):
    """Mapping matrix (n_sites, n_atoms) and the atom indices of each molecule, from two files."""
    sites = sites_of(topology, mapping)[1]
    return sites.matrix, sites.atoms


def sites_of(topology, mapping):
    """(mdtraj.Topology, Sites) of a topology file and a mapping file."""
    read = load_topology(topology)
    rules = read_mapping(mapping)
    try:
        return read, build_sites(read, rules)
    except InputError as error:
        raise InputError(f"{mapping} on {topology}: {error}") from None


def _mass(atom):
    return atom.element.mass if atom.element is not None else 0.0


def _check_residues(topology, mapping):
    found = sorted({residue.name for residue in topology.residues})
    for name in found:
        if name not in mapping:
            guess = nearest(name, mapping)
            advice = f" (is '{guess}' meant for it?)" if guess else ""
            raise InputError(
                f"the topology has residues {name} but the mapping has only "
                f"{', '.join(mapping)}{advice}; add its sites, or '{name}: {{ignore: true}}' to "
                "leave it out"
            )
    for name in mapping:
        if name not in found:
            raise InputError(
                f"the mapping has the residue {name} but the topology has only "
                f"{', '.join(found)}; remove it or correct its name"
            )


def _check_bonds(topology, mapping):
    for bond in topology.bonds:
        first, second = bond[0].residue, bond[1].residue
        mapped = mapping[first.name] is not None or mapping[second.name] is not None
        if first.index != second.index and mapped:
            raise InputError(
                f"the topology binds residue {first} to {second}; this version maps molecules of "
                "one residue: give each molecule one residue"
            )


def _weights(residue, site):
    """(atom indices, normalised weights) of one residue's site."""
    atoms = {}
    for atom in residue.atoms:
        if atom.name in atoms:
            raise InputError(
                f"residue {residue} has two atoms {atom.name}; give each its own name in the "
                "topology"
            )
        atoms[atom.name] = atom
    for name in site.atoms:
        if name not in atoms:
            guess = nearest(name, atoms)
            advice = f"; did you mean '{guess}'?" if guess else "; correct the name"
            raise InputError(
                f"site {site.name}: the atom {name} is not in residue {residue}, which has "
                f"{', '.join(atoms)}{advice}"
            )
    chosen = [atoms[name] for name in site.atoms]
    weights = site.weights
    if weights == "geometric":
        weights = [1.0] * len(chosen)
    elif weights == "mass":
        weights = [_mass(atom) for atom in chosen]
    if not sum(weights) > 0:
        raise InputError(
            f"site {site.name}: its atoms {', '.join(site.atoms)} have no mass in the topology; "
            "give elements there, or weights: geometric"
        )
    return [atom.index for atom in chosen], (np.array(weights) / sum(weights)).tolist()


class Unwrapper:
    """Makes molecules whole across orthorhombic boundaries, along their bonds.

    Atoms that no bond reaches are placed next to the first atom of their molecule.

    Parameters
    ----------
    topology : mdtraj.Topology
    molecules : list of ndarray
        Atom indices.
    """

    def __init__(self, topology, molecules):
        self.topology = topology
        neighbours = {}
        for bond in topology.bonds:
            a, b = bond[0].index, bond[1].index
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
        levels = {}
        for atoms in molecules:
            _walk([int(atom) for atom in atoms], neighbours, levels)
        self.levels = [np.array(levels[depth]).T for depth in sorted(levels)]

    def __call__(self, chunk, state):
        """Positions of a chunk of frames, shape (n_frames, n_atoms, 3), nm, molecules whole."""
        positions = chunk.positions.copy()
        boxes = chunk.boxes[:, None, :]
        for children, parents, bonded in self.levels:
            step = positions[:, children] - positions[:, parents]
            step -= boxes * np.round(step / boxes)
            self._check(step, children, parents, bonded, chunk.start, state)
            positions[:, children] = positions[:, parents] + step
        return positions

    def _check(self, step, children, parents, bonded, start, state):
        length = np.sqrt((step**2).sum(axis=2)) * bonded
        if length.max(initial=0.0) > LONGEST_BOND:
            frame, k = np.unravel_index(np.argmax(length), length.shape)
            atoms = " and ".join(str(self.topology.atom(int(i[k]))) for i in (parents, children))
            raise InputError(
                f"{state}: in frame {start + frame} the bonded atoms {atoms} are "
                f"{length[frame, k]:.3g} nm apart (more than {LONGEST_BOND:g} nm); the "
                "trajectory is "
                "corrupt there, or the topology lists its atoms in another order"
            )


def _walk(atoms, neighbours, levels):
    """Sort a molecule's atoms by their depth in its bond graph: (child, parent, is bonded)."""
    seen, depth = {atoms[0]}, 1
    front = [atoms[0]]
    inside = set(atoms)
    while len(seen) < len(atoms):
        grown = []
        for parent in front:
            for child in neighbours.get(parent, ()):
                if child in inside and child not in seen:
                    seen.add(child)
                    grown.append(child)
                    levels.setdefault(depth, []).append((child, parent, 1))
        if not grown and len(seen) < len(atoms):
            child = next(atom for atom in atoms if atom not in seen)
            seen.add(child)
            grown.append(child)
            levels.setdefault(depth, []).append((child, atoms[0], 0))
        front, depth = grown, depth + 1


def map_trajectory(campaign, state, sites_path, facts_path):
    """Map one state's trajectory and write ``map/<state>.h5`` and ``map/<state>.json``.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : str
        Id of the state.
    sites_path, facts_path : path

    Returns
    -------
    dict
        The content of the JSON file.
    """
    state = campaign.state(state)
    system = campaign.system
    topology, sites = sites_of(system.topology, system.mapping)
    check_terms(campaign, sites)
    log = read_log(state.log, state.id) if state.log else {}
    r_cut = max(term.r_cut for term in campaign.pair_terms)
    onset = _Onset(sites, r_cut)
    unwrap = Unwrapper(topology, sites.atoms)
    forces = _forces_of(campaign, state, topology, sites)
    with replacing(sites_path) as temporary:
        with _growing(temporary, sites, state.id, forces is not None) as append:
            for chunk in read_frames(state.trajectory, topology, state.id, system.topology):
                check_cutoff(r_cut, chunk.boxes, chunk.start, state.id)
                atoms = unwrap(chunk, state.id)
                positions = _apply(sites.matrix, atoms)
                mapped = [forces(atoms, chunk.boxes)] if forces else []
                append(positions, chunk.boxes, chunk.time, *mapped)
                onset.add(positions, chunk.boxes)
        with h5py.File(temporary, "r") as file:
            boxes, time = file["box"][()], file["time"][()]
        volumes = boxes.prod(axis=1)
        facts = _facts(sites, onset, volumes)
        facts["warnings"] = pairs_without_term(campaign, sites)
        facts["warnings"] += find_warnings(campaign, state, volumes, time, log)
    write_json(facts_path, facts)
    for warning in facts["warnings"]:
        print(f"warning: {warning}")
    return facts


def _forces_of(campaign, state, topology, sites):
    """Where the forces on the sites of a state come from, or None where nobody needs them."""
    if not campaign.needs_forces(state.id):
        return None
    from remcg.mapped_forces import open_forces

    field, cutoff = campaign.system.force_field, campaign.reference.cutoff
    return open_forces(state.trajectory, state.id, field, cutoff, topology, sites)


def _apply(matrix, positions):
    """M x of each frame."""
    return np.stack([matrix @ frame for frame in positions])


def _facts(sites, onset, volumes):
    mass = float(sites.masses.sum())
    return {
        "n_frames": len(volumes),
        "n_sites": len(sites.site_types),
        "n_molecules": len(sites.atoms),
        "site_names": sites.names,
        "mass_per_molecule": mass / len(sites.atoms),
        "volume_per_molecule": float(volumes.mean()) / len(sites.atoms),
        "density_kg_m3": mass / float(volumes.mean()) * KG_M3,
        "onset": onset.result(),
    }


def check_terms(campaign, sites):
    """Every site type that a term names must exist, and every one must be in a term."""
    for term in campaign.pair_terms:
        for name in term.sites:
            if name not in sites.names:
                guess = nearest(name, sites.names)
                advice = f"; did you mean '{guess}'?" if guess else "; correct the term"
                raise InputError(
                    f"model.terms: the pair term {term.name} names the site type {name}, but the "
                    f"mapping {campaign.system.mapping} has {', '.join(sites.names)}{advice}"
                )
    named = {name for term in campaign.pair_terms for name in term.sites}
    for name in sites.names:
        if name not in named:
            raise InputError(
                f"model.terms: no pair term names the site type {name} of the mapping "
                f"{campaign.system.mapping}, so it would not interact at all; add a term such as "
                f"{{kind: pair, sites: [{name}, {name}], ...}}, or ignore its residue"
            )


def pairs_without_term(campaign, sites):
    """A warning that names the pairs of site types without a pair term, or nothing."""
    named = {term.name for term in campaign.pair_terms}
    several = np.bincount(sites.site_types) > 1
    missing = [
        name
        for name, (a, b) in zip(sites.pair_names, sites.pair_types)
        if name not in named and (a != b or several[a])
    ]
    if not missing:
        return []
    return [
        f"the model has no pair term for {', '.join(missing)}, so these sites pass through each "
        "other; add terms unless this is meant"
    ]


def check_cutoff(r_cut, boxes, start, state):
    """The minimum image convention needs r_cut <= half of every box edge."""
    half = 0.5 * boxes.min(axis=1)
    if (half < r_cut).any():
        frame = int(np.argmax(half < r_cut))
        raise InputError(
            f"{state}: r_cut is {r_cut:g} nm but half the shortest box edge is {half[frame]:.4g} "
            f"nm in frame {start + frame}; lower r_cut below it, or simulate a larger box"
        )


@contextmanager
def _growing(path, sites, state, with_forces=False):
    """Yield a function that appends frames to the datasets of a new mapped trajectory."""
    n_sites = len(sites.site_types)
    shapes = {"positions": (n_sites, 3), "box": (3,), "time": ()}
    if with_forces:
        shapes["forces"] = (n_sites, 3)
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            chunks = (1024 if name in ("box", "time") else 1, *shape)
            file.create_dataset(name, (0, *shape), "f8", maxshape=(None, *shape), chunks=chunks)
        file["site_types"] = sites.site_types.astype(np.int64)
        file["molecule"] = sites.molecule.astype(np.int64)
        file["masses"] = sites.masses
        file.attrs["site_names"] = json.dumps(sites.names)
        file.attrs["n_molecules"] = len(sites.atoms)
        file.attrs["state"] = state

        def append(*arrays):
            for name, array in zip(shapes, arrays):
                dataset = file[name]
                dataset.resize(len(dataset) + len(array), axis=0)
                dataset[len(dataset) - len(array) :] = array

        yield append


class _Onset:
    """Where pairs begin, from the closest pairs of each chunk. Memory is constant."""

    def __init__(self, sites, r_cut):
        self.sites = sites
        self.edges = np.arange(0.0, r_cut + ONSET_WIDTH, ONSET_WIDTH)
        self.counts = np.zeros((len(sites.pair_types), len(self.edges) - 1))

    def add(self, positions, boxes):
        from remcg.pairs import rdf, rdf_norm

        arguments = self.sites.site_types, self.sites.pair_types, self.edges
        g = rdf(positions, boxes, *arguments, 1)[0]
        # rdf carries the volume of each frame; one mean volume is good enough to count to ten
        norm = np.where(np.isfinite(rdf_norm(*arguments)), rdf_norm(*arguments), 0.0)
        self.counts += g * norm / boxes.prod(axis=1).mean() * len(positions)

    def result(self):
        """Per pair name, the smallest r (nm) with ONSET_COUNT pairs; pairs that never come so close
        are left out."""
        reached = np.cumsum(self.counts, axis=1) >= ONSET_COUNT - 0.5
        return {
            name: round(float(self.edges[np.argmax(row) + 1]), 6)
            for name, row in zip(self.sites.pair_names, reached)
            if row.any()
        }


def find_warnings(campaign, state, volumes, time, log):
    """What looks wrong about a state but does not stop it.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : remcg.config.State
    volumes, time : ndarray, shape (n_frames,)
        nm^3, ps.
    log : dict
        Columns of the log, or empty.

    Returns
    -------
    list of str
    """
    if len(volumes) < 2:
        raise InputError(
            f"{state.id}: the trajectory has {len(volumes)} frame; at least two are needed, and "
            "hundreds for a model: run it longer"
        )
    warnings = check_log(log, volumes, time, state.id) if log else []
    matched = (at_frames(log, time) if log else None) or {}
    series = {"volume (nm³)": volumes}
    if "potential_energy_kJ_mol" in matched:
        series["potential energy (kJ/mol)"] = matched["potential_energy_kJ_mol"]
    for name, values in series.items():
        warnings += _drift(state, name, values)
    if "temperature_K" in log:
        warnings += _temperature(state, log["temperature_K"])
    warnings += _ensemble(state, volumes)
    warnings += _times(state, time)
    return warnings + _frames(campaign, state, list(series.values()))


def _varies(values):
    return values.std() > 1e-6 * abs(values.mean())


def _drift(state, name, values):
    """The means of both halves must agree."""
    half = len(values) // 2
    if half < 10 or not _varies(values):
        return []
    (first, se_1), (second, se_2) = (
        standard_error(v[None]) for v in (values[:half], values[half:])
    )
    error = np.hypot(se_1, se_2)
    if abs(second - first) <= DRIFT_SE * error:
        return []
    return [
        f"{state.id}: the {name} drifts: its mean is {first:.6g} in the first half and "
        f"{second:.6g} in "
        f"the second, {abs(second - first) / error:.1f} standard errors apart; equilibrate longer "
        "and cut off the beginning"
    ]


def _temperature(state, values):
    if len(values) < 10:
        return []
    mean, error = standard_error(values[None])
    if abs(mean - state.temperature) > TEMPERATURE_SLIP * state.temperature:
        raise InputError(
            f"{state.id}: the mean temperature of the log is {mean:.2f} K but the config says "
            f"{state.temperature:g} K; give the temperature of the trajectory in kelvin, or the "
            "trajectory and log of this state"
        )
    allowed = max(DRIFT_SE * error, TEMPERATURE_TOLERANCE * state.temperature)
    if abs(mean - state.temperature) <= allowed:
        return []
    return [
        f"{state.id}: the mean temperature of the log is {mean:.2f} +- {error:.2f} K but the "
        f"config says {state.temperature:g} K; correct the temperature or give the right trajectory"
    ]


def _ensemble(state, volumes):
    if state.pressure is not None and not _varies(volumes):
        return [
            f"{state.id}: has a pressure ({state.pressure:g} bar) but its volume is constant; set "
            "pressure: null for a trajectory at constant volume"
        ]
    if state.pressure is None and _varies(volumes):
        return [
            f"{state.id}: has no pressure (constant volume) but its volume varies; set its "
            "pressure in bar"
        ]
    return []


def _times(state, time):
    repeated = np.flatnonzero(np.diff(time) <= 0)
    if len(repeated) == 0:
        return []
    return [
        f"{state.id}: {len(repeated)} of {len(time)} time stamps do not increase, the first in "
        f"frame {repeated[0] + 1} ({time[repeated[0] + 1]:g} ps); if parts were joined with "
        f"overlap, cut "
        "it out, as frames that count twice make errors look too small"
    ]


def _frames(campaign, state, series):
    """Parameters need more independent frames than there are parameters."""
    if state.use != "train":
        return []
    g = max(inefficiency(values[None, :, None]) for values in series)
    n_eff, n_states = int(len(series[0]) / g), len(campaign.training)
    if n_eff * n_states >= campaign.n_params:
        return []
    return [
        f"{state.id}: about {n_eff} decorrelated frames (of {len(series[0])}); with {n_states} "
        f"training states like it there are fewer than the {_spoken_size(campaign)} of the "
        "model; run longer trajectories, or lower n_basis or the order in temperature"
    ]


def _spoken_size(campaign):
    """How many parameters the model has, or about how many where some are chosen later."""
    if not campaign.open_terms:
        return f"{campaign.n_params} parameters"
    return f"about {campaign.n_params} parameters (n_basis: auto as one per {USUAL_SPACING:g} nm)"


def check_campaign(campaign, report=print):
    """Read all inputs of a campaign but only the first frames, and print a table of them.

    Returns
    -------
    int
        Number of states.
    """
    topology, sites = sites_of(campaign.system.topology, campaign.system.mapping)
    check_terms(campaign, sites)
    r_cut = max(term.r_cut for term in campaign.pair_terms)
    unwrap = Unwrapper(topology, sites.atoms)
    counts = np.bincount(sites.site_types, minlength=len(sites.names))
    report(f"campaign {campaign.campaign}: {campaign.source}")
    report(f"topology {campaign.system.topology}: {topology.n_atoms} atoms")
    report(f"mapping  {campaign.system.mapping}: {len(sites.atoms)} molecules, one site each")
    for i, name in enumerate(sites.names):
        mass = sites.masses[sites.site_types == i].mean()
        report(f"  site {name}: {counts[i]} sites, {mass:.4f} amu per molecule")
    terms = ", ".join(f"{term.name} ({campaign.n_orders(term)} x)" for term in campaign.model.terms)
    report(f"model    {terms}: {_spoken_size(campaign)}, T0 {campaign.reference_temperature:g} K")
    header = f"{'state':<12}{'use':<7}{'T/K':>7}{'P/bar':>9}  {'box/nm':<22}{'r_cut/nm':>9}"
    report(f"{header}{'half/nm':>9}  file")
    for state in campaign.states:
        _check_state(campaign, state, topology, unwrap, r_cut, report)
    if campaign.system.force_field and campaign.backmap.frames:
        _check_force_field(campaign, topology, r_cut)
    return len(campaign.states)


def _check_state(campaign, state, topology, unwrap, r_cut, report):
    log = read_log(state.log, state.id) if state.log else {}
    if "temperature_K" in log:
        _temperature(state, log["temperature_K"])
    firsts = []
    for path in state.trajectory:
        frames = read_frames([path], topology, state.id, campaign.system.topology, chunk=1)
        chunk = next(frames)
        frames.close()
        check_cutoff(r_cut, chunk.boxes, 0, state.id)
        unwrap(chunk, state.id)
        firsts.append(chunk)
    box = firsts[0].boxes[0]
    pressure = "NVT" if state.pressure is None else f"{state.pressure:g}"
    edges = " x ".join(f"{edge:.4f}" for edge in box)
    names = ", ".join(os.path.basename(path) for path in state.trajectory)
    report(
        f"{state.id:<12}{state.use:<7}{state.temperature:>7g}{pressure:>9}  {edges:<22}{r_cut:>9g}"
        f"{0.5 * box.min():>9.4f}  {names}"
    )


def _check_force_field(campaign, topology, r_cut):
    """Backmapping comes last and must not be the first to find a fault."""
    from remcg.backmap.sampling import build_system

    atoms = topology.to_openmm()
    edge = 4.0 * r_cut  # any box: only whether the force field knows the molecules matters
    atoms.setUnitCellDimensions((edge, edge, edge))
    build_system(atoms, campaign.system.force_field, r_cut)
