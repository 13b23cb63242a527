"""Backmapping of one state of a campaign: its prediction, or its own mapped reference."""

import json
from pathlib import Path

import numpy as np

from remcg import backmap
from remcg.backmap import validation
from remcg.backmap.frames import evenly_spaced, read_reference
from remcg.boxes import many
from remcg.errors import InputError
from remcg.io import open_h5, read_h5, write_json
from remcg.mapping import sites_of
from remcg.streams import derived_seed
from remcg.trajectory import Selection

FEWEST_TEMPLATES, MOST_TEMPLATES = 50, 2000
TEMPLATE_ATOMS = 200_000  # in all templates, about
FEWEST_COMPARED = 20  # reference frames


class State:
    """One state of a campaign with what its backmapping reads.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    name : str
        Id of the state.
    template_name : str
        Id of the state that conformers come from.
    template_map, reference_map : path
        ``map/<state>.h5`` of both, for the number of their frames.
    """

    def __init__(self, campaign, name, template_name, template_map, reference_map):
        self.campaign, self.state = campaign, campaign.state(name)
        self.topology, self.mapped = sites_of(campaign.topology(name), campaign.system.mapping)
        self.in_vacuum = campaign.backmap_cutoff is None
        self.n_frames = _length(reference_map)
        wanted = np.clip(TEMPLATE_ATOMS // self.topology.n_atoms, FEWEST_TEMPLATES, MOST_TEMPLATES)
        self._template_frames = evenly_spaced(_length(template_map), int(wanted))
        self._has_own_templates = template_name == name
        self.templates = self._read(campaign.state(template_name), self._template_frames)

    def _read(self, state, chosen):
        arguments = state.trajectory, self.topology, self.mapped.atoms, state.id, chosen
        return read_reference(*arguments, Selection.of(state), self.in_vacuum)

    def reference(self, chosen):
        """Frames of the state's own reference with these numbers."""
        return self._read(self.state, chosen)

    def templates_far_from(self, frames):
        """Templates without the half of the trajectory that lies around frames of the state."""
        if not self._has_own_templates:
            return self.templates
        distance = np.abs(self._template_frames[:, None] - np.asarray(frames)).min(axis=1)
        far = 4 * len(frames) * distance > self.n_frames
        return self.templates.take(far) if far.any() else self.templates

    def run(self, source, templates, frames, boxes, folder, starts=None, progress=print):
        """:func:`remcg.backmap.backmap` with the campaign's settings."""
        chosen = self.campaign.backmap
        settings = backmap.Settings(
            chosen.method, chosen.draws, chosen.steps, chosen.sweeps, self.campaign.backmap_cutoff
        )
        key = self.campaign.seed, self.campaign.campaign, "backmap", source, self.state.id
        return backmap.backmap(
            frames,
            boxes,
            self.topology,
            self.mapped,
            templates,
            self.campaign.system.force_field,
            self.state.temperature,
            derived_seed(*key),
            settings,
            starts=starts,
            folder=folder,
            where=self.state.id,
            progress=progress,
        )

    def compare(self, result, reference, own=None):
        """:func:`compare` with what the state knows."""
        system = self.topology, self.mapped
        return compare(self.campaign, self.state.id, *system, result, reference, own)


def compare(campaign, state, topology, mapped, result, reference, own=None):
    """:func:`remcg.backmap.validation.compare` with energies of the campaign's force field.

    Parameters
    ----------
    campaign : remcg.config.Campaign
    state : str
    topology : mdtraj.Topology
    mapped : remcg.mapping.Sites
    result : remcg.backmap.Backmapped
    reference, own : remcg.backmap.frames.Frames
    """
    from remcg.backmap.atoms import Atoms

    in_vacuum = campaign.backmap_cutoff is None
    boxes = None if in_vacuum else _all_boxes(reference, own, result.arrays)
    cutoff = campaign.backmap_cutoff or backmap.CUTOFF
    atoms = Atoms(topology, campaign.system.force_field, boxes, cutoff)

    def energy(positions, box):
        atoms.set_box(box)
        return atoms.energy(positions)

    system = validation.System(topology, mapped, atoms.rigid, atoms.rigid_lengths, energy)
    seed = derived_seed(campaign.seed, campaign.campaign, "compare", state)
    return validation.compare(result.arrays, reference, own, system, np.random.default_rng(seed))


def carry_out(source, campaign, names, maps, outputs, prediction=None):
    """What a rule of backmapping does: the structures of one state, compared and written.

    Parameters
    ----------
    source : str
        "predicted": frames of the state's prediction; "mapped": of its own mapped reference, for
        which no views are written.
    campaign : remcg.config.Campaign
    names : (str, str)
        Id of the state, and of the one that conformers come from.
    maps : (path, path)
        ``map/<state>.h5`` of the latter, then of the former.
    outputs : (path, path, path)
        Structures, comparison, numbers. Finished frames are kept beside the structures until these
        are written.
    prediction : path, optional
        ``predict/<state>.h5``, for frames of a prediction.
    """
    state = State(campaign, *names, *maps)
    folder = frames_folder(outputs[0])
    views = source == "predicted"
    try:
        found = predicted(state, prediction, folder) if views else mapped(state, folder)
    except backmap.NoStructureError as error:  # a verdict on the model, not a failure of the job
        print(error)
        write_failures(error.failures, state, *outputs, views=views)
    else:
        write(*found, state, *outputs, views=views)
    backmap.remove_frames(folder)


def predicted(state, prediction, folder, progress=print):
    """Backmap frames of a prediction.

    Parameters
    ----------
    state : State
    prediction : path
        ``predict/<state>.h5`` with kept configurations.
    folder : path
        Where finished frames are kept for a restart.

    Returns
    -------
    (Backmapped, Comparison)
        The comparison is empty unless draws are from the posterior.
    """
    arrays, attributes = read_h5(prediction)
    _check_sites(arrays, attributes, state)
    count = state.campaign.backmap.frames
    chosen = evenly_spaced(len(arrays["trajectory"]), count)
    frames = arrays["trajectory"][chosen], arrays["trajectory_box"][chosen]
    result = state.run("predicted", state.templates, *frames, folder, progress=progress)
    if state.campaign.backmap.method != "posterior":
        return result, validation.EMPTY
    compared = max(FEWEST_COMPARED, 2 * len(result.arrays["frame"]))
    reference = state.reference(evenly_spaced(state.n_frames, compared))
    return result, state.compare(result, reference)


def mapped(state, folder, progress=print):
    """Backmap what the state's own reference is mapped to, and compare with its atoms.

    Conformers come from the half of the trajectory that is far from the frames: from these
    themselves every draw would begin where it should end.

    Parameters
    ----------
    state : State
    folder : path
        Where finished frames are kept for a restart.

    Returns
    -------
    (Backmapped, Comparison)
    """
    chosen = state.campaign.backmap
    compared = max(FEWEST_COMPARED, 2 * chosen.validate * chosen.draws)
    frames = evenly_spaced(state.n_frames, compared)
    reference, ours = state.reference(frames), evenly_spaced(len(frames), chosen.validate)
    own, templates = reference.take(ours), state.templates_far_from(frames[ours])
    sites = np.array([state.mapped.matrix @ x for x in own.positions])
    result = state.run("mapped", templates, sites, own.boxes, folder, own, progress)
    return result, state.compare(result, reference, own)


def write(result, comparison, state, atoms, comparison_path, numbers_path, views=True):
    """Write what one state has: structures, comparison and numbers."""
    where = atoms, result.arrays, state.topology, state.state.id
    backmap.write_backmapped(*where, result.start, views)
    validation.write_comparison(comparison_path, comparison)
    numbers = backmap.summarise(result) | comparison.numbers
    if message := validation.flexible(numbers):
        print(f"warning: {state.state.id}: {message}")
    if "is_posterior" in numbers:  # first peaks must agree too
        peaks = numbers.get("rdf_peaks", {}).values()
        agree = all(abs(p["deviation"]) <= backmap.SIGNIFICANT * p["se"] for p in peaks)
        numbers["is_posterior"] = numbers["is_posterior"] and agree
    lists = {"failures": result.failures, "offending": result.offending}
    write_json(numbers_path, {**numbers, **lists, "most_clashes": result.most_clashes})


def write_failures(failures, state, atoms, comparison_path, numbers_path, views=True):
    """As :func:`write`, of a state none of whose frames has a structure."""
    backmap.write_nothing(atoms, state.topology.n_atoms, state.state.id, views)
    validation.write_comparison(comparison_path, validation.EMPTY)
    numbers = dict.fromkeys(("n_frames", "n_structures", "defective_structures"), 0)
    numbers["offending_frames"] = backmap.offending_frames(failures, ())
    lists = {"failures": failures, "offending": []}
    write_json(numbers_path, {**numbers, "failed_frames": len(failures), **lists})


def frames_folder(atoms):
    """Where finished frames of an HDF5 file are kept until it is written: hidden, beside it."""
    path = Path(atoms)
    return path.with_name(f".{path.stem}.frames")


def _check_sites(arrays, attributes, state):
    """A prediction of other sites, or of the same in another order, is not this system."""
    if "site_types" not in arrays or "site_names" not in attributes:
        return
    names, mapped = json.loads(attributes["site_names"]), state.mapped
    theirs = [names[kind] for kind in arrays["site_types"]]
    ours = [mapped.names[kind] for kind in mapped.site_types]
    different = [k for k, pair in enumerate(zip(theirs, ours)) if pair[0] != pair[1]]
    if len(theirs) != len(ours) or different:
        what = f"{len(theirs)} sites"
        if different:
            k = different[0]
            what = f"site {k} of type {theirs[k]}, where the topology makes one of type {ours[k]}"
        raise InputError(
            f"backmap: the prediction of {state.state.id} has {what} (the topology makes"
            f" {len(ours)} sites); predict and map the same system"
        )


def _length(map_file):
    with open_h5(map_file) as file:
        return len(file["box"])


def _all_boxes(reference, own, arrays):
    """Boxes of all frames whose energies are computed, as vectors."""
    parts = [reference.boxes, None if own is None else own.boxes, arrays["box"]]
    return np.concatenate([many(part) for part in parts if part is not None])
