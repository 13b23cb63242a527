"""The stage map: an atomistic trajectory becomes one of sites, frame by frame."""

import json

import numpy as np

from remcg.bonded import coordinates, groups_of
from remcg.boxes import volume
from remcg.io import new_h5, write_json
from remcg.mapping.coverage import (
    check_cutoff,
    check_residues,
    check_terms,
    pairs_that_never_meet,
    pairs_without_term,
)
from remcg.mapping.orient import Orientations
from remcg.mapping.sites import sites_of
from remcg.mapping.warnings import find_warnings
from remcg.mapping.whole import Mapper
from remcg.pairs import Closest, numbers_of_pairs
from remcg.topology import GROUPS
from remcg.trajectory import Selection, log_of_frames, read_frames, read_log
from remcg.units import KG_M3

ONSET_COUNT = 10
ONSET_WIDTH = 1e-4  # nm, bins of the search for the onset
COLLINEAR = 1e-3  # rad from 180 degrees, where a dihedral is not defined


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
    source = campaign.topology(state.id)
    topology, sites = sites_of(source, campaign.system.mapping)
    if all(campaign.topology(each.id) == source for each in campaign.states):
        check_residues(campaign, [topology])
    check_terms(campaign, sites)
    log = read_log(state.log, state.id) if state.log else {}
    selection = Selection.of(state)
    stream = _Stream(campaign, state, topology, sites, selection)
    with new_h5(sites_path) as file:
        _describe(file, sites, state.id)
        frames = read_frames(state.trajectory, topology, state.id, source, selection=selection)
        for chunk in frames:
            _append(file, stream(chunk))
        boxes, time = file["box"][()], file["time"][()]
        log = log_of_frames(log, file)
    volumes = volume(boxes) if boxes.ndim == 3 else boxes.prod(axis=1)
    facts = _facts(sites, stream, volumes)
    facts["warnings"] = pairs_without_term(campaign, sites, stream.excluded) + stream.warnings()
    facts["warnings"] += find_warnings(campaign, state, volumes, time, log)
    write_json(facts_path, facts, sealed=True)
    for warning in facts["warnings"]:
        print(f"warning: {warning}")
    return facts


class _Stream:
    """What becomes of chunk after chunk of a state's frames."""

    def __init__(self, campaign, state, topology, sites, selection):
        self.campaign, self.state, self.sites = campaign, state, sites
        self.r_cut = max(term.r_cut for term in campaign.pair_terms)
        self.excluded = sites.topology.excluded(campaign.exclude)
        self.onset = _Onset(sites, self.r_cut, self.excluded)
        self.bonded = _Ranges(sites)
        self.forces = _forces_of(campaign, state, topology, sites, selection)
        turned = campaign.system.orientations
        self.orientations = Orientations(sites) if turned else None
        self.map = Mapper(topology, sites, bool(self.forces or self.orientations))
        self.selected = selection.is_active

    def __call__(self, chunk):
        """Datasets of the map file and what they get from a chunk."""
        check_cutoff(self.r_cut, chunk.boxes, chunk.number(0), self.state.id)
        positions = self.map(chunk, self.state.id)
        self.onset.add(positions, chunk.boxes)
        self.bonded.add(positions)
        result = {"positions": positions, "box": chunk.boxes, "time": chunk.time}
        if self.forces:
            result["forces"] = self.forces(self.map.atoms, chunk.boxes)
        if self.orientations:
            result["frames"] = self.orientations(self.map.atoms)
        if self.selected:
            result["frame"] = np.array([chunk.number(k) for k in range(len(chunk.time))])
        return result

    def warnings(self):
        name = self.state.id
        found = pairs_that_never_meet(self.campaign, self.sites, name, self.onset.result())
        found += self.bonded.warnings(name)
        if self.orientations is not None and self.orientations.undefined.any():
            kinds = {
                self.sites.names[kind]
                for kind in self.sites.site_types[self.orientations.undefined]
            }
            found.append(
                f"{name}: the sites {', '.join(sorted(kinds))} have fewer than three atoms off a "
                "line and so no orientation; their frames are the axes of the box"
            )
        return found


def _forces_of(campaign, state, topology, sites, selection):
    """Where the forces on the sites of a state come from, or None where nobody needs them."""
    if not campaign.needs_forces(state.id):
        return None
    from remcg.mapped_forces import open_forces

    field, cutoff = campaign.system.force_field, campaign.reference.cutoff
    return open_forces(state.trajectory, state.id, field, cutoff, topology, sites, selection)


def _facts(sites, stream, volumes):
    mass = float(sites.masses.sum())
    return {
        "n_frames": len(volumes),
        "n_sites": sites.n_sites,
        "n_molecules": len(sites.atoms),
        "site_names": sites.names,
        "mass_per_molecule": mass / len(sites.atoms),
        "volume_per_molecule": float(volumes.mean()) / len(sites.atoms),
        "density_kg_m3": mass / float(volumes.mean()) * KG_M3,
        "onset": stream.onset.result(),
        "bonded": stream.bonded.result(),
    }


def _describe(file, sites, state):
    """Everything of a map file but its frames."""
    for name in ("site_types", "molecule", *GROUPS.values()):
        file[name] = getattr(sites.topology, name)
    file["masses"] = sites.masses
    file.attrs["site_names"] = json.dumps(sites.names)
    file.attrs["n_molecules"] = len(sites.atoms)
    file.attrs["mass_per_molecule"] = float(sites.masses.sum()) / len(sites.atoms)
    file.attrs["state"] = state


def _append(file, arrays):
    """Add frames to the datasets of a map file, which begin with their first frames."""
    for name, array in arrays.items():
        if name not in file:
            per_chunk = 1024 if array[0].size <= 9 else 1
            file.create_dataset(
                name,
                (0, *array.shape[1:]),
                array.dtype,
                maxshape=(None, *array.shape[1:]),
                chunks=(per_chunk, *array.shape[1:]),
            )
        if name == "box":
            array = _as_dense_as_needed(file, array)
        dataset = file[name]
        dataset.resize(len(dataset) + len(array), axis=0)
        dataset[len(dataset) - len(array) :] = array


def _as_dense_as_needed(file, boxes):
    """Boxes as the file has them; with the first skew one it has matrices from then on."""
    stored = file["box"]
    if boxes.ndim == 2 and stored.ndim == 3:
        return boxes[:, :, None] * np.eye(3)
    if boxes.ndim == 3 and stored.ndim == 2:
        before = stored[()][:, :, None] * np.eye(3)
        del file["box"]
        file.create_dataset("box", data=before, maxshape=(None, 3, 3), chunks=(1024, 3, 3))
    return boxes


class _Onset:
    """Where pairs begin, from the closest pairs of each chunk. Memory is constant."""

    def __init__(self, sites, r_cut, excluded=()):
        self.sites = sites
        self.edges = np.arange(0.0, r_cut + ONSET_WIDTH, ONSET_WIDTH)
        self.per_nm = (len(self.edges) - 1) / (self.edges[-1] - self.edges[0])
        numbers = numbers_of_pairs(sites.site_types, sites.pair_types, excluded)
        self.there = np.flatnonzero(numbers > 0)
        kinds = [sites.pair_types[k] for k in self.there]
        arguments = sites.site_types, kinds, self.edges[-1], ONSET_COUNT, excluded
        self.closest = Closest(*arguments) if kinds else None

    def add(self, positions, boxes):
        if self.closest:
            self.closest.add(positions, boxes)

    def result(self):
        """Per pair name, the smallest r (nm) with ONSET_COUNT pairs; pairs that never come so close
        are left out."""
        found = self.closest.onset if self.closest else ()
        names = [self.sites.pair_names[k] for k in self.there]
        return {
            name: round(float(self.edges[int(r * self.per_nm) + 1]), 6)
            for name, r in zip(names, found)
            if np.isfinite(r)
        }


class _Ranges:
    """Smallest and largest coordinate of every type of bond, angle and dihedral."""

    def __init__(self, sites):
        self.groups = {each.key: each.sites for each in groups_of(sites.topology, sites.names)}
        self.low = {name: np.inf for name in self.groups}
        self.high = {name: -np.inf for name in self.groups}
        self.bent = _inner_angles(sites.topology)
        self.collinear = None

    def add(self, positions):
        for name, groups in self.groups.items():
            values = coordinates(positions, groups)
            self.low[name] = min(self.low[name], float(values.min()))
            self.high[name] = max(self.high[name], float(values.max()))
        if self.collinear is None and len(self.bent):
            flat = np.abs(coordinates(positions, self.bent) - 0.5 * np.pi) > 0.5 * np.pi - COLLINEAR
            if flat.any():
                self.collinear = self.bent[np.argmax(flat.any(axis=0))]

    def result(self):
        return {
            name: {"low": self.low[name], "high": self.high[name], "n": len(groups)}
            for name, groups in self.groups.items()
        }

    def warnings(self, state):
        if self.collinear is None:
            return []
        sites = ", ".join(map(str, self.collinear))
        return [
            f"{state}: the sites {sites} come into one line, where the dihedrals over them are not "
            "defined; leave these out with dihedrals: [] in the mapping, or choose other sites"
        ]


def _inner_angles(topology):
    """Threes of neighbours along the dihedrals, shape (n, 3)."""
    threes = np.concatenate([topology.dihedrals[:, :3], topology.dihedrals[:, 1:]])
    return np.unique(threes, axis=0)
