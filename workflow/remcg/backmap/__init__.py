"""Atomistic configurations for given sites: draws from p(x | M x = y), or one best guess.

The driver of a state: frame by frame, each kept on disk when it is done, none lost to the failure
of another. Placement, minimisation, turns and dynamics are in the modules of this package.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from remcg import checkpoint
from remcg.backmap import checks
from remcg.backmap.cranks import find_cranks, turned
from remcg.backmap.frames import (
    Frames,
    evenly_spaced,
    has_volume,
    prepare_sites,
    read_reference,
)
from remcg.backmap.linear import Projector
from remcg.backmap.output import write_backmapped, write_nothing
from remcg.backmap.search import HOT, search
from remcg.boxes import reduced
from remcg.errors import InputError, SamplingError
from remcg.statistics import effective_number

__all__ = [
    "METHODS",
    "Backmapped",
    "Frames",
    "NoStructureError",
    "Settings",
    "backmap",
    "evenly_spaced",
    "read_reference",
    "summarise",
    "write_backmapped",
    "write_nothing",
]

METHODS = ("pseudoinverse", "map", "posterior")
CUTOFF = 0.9  # nm
SIGNIFICANT = 3.0  # standard errors
UNCHOSEN = (
    "conformers are chosen by their sites alone, not by their energy beside their neighbours,"
    " because the force field has terms other than harmonic bonds and angles, periodic or"
    " Ryckaert-Bellemans dihedrals, Lennard-Jones and Coulomb, or molecules are too large; more"
    " backmap.steps help"
)
EXPECTED = InputError, SamplingError, np.linalg.LinAlgError, FloatingPointError  # of one frame
BROKEN = (
    "its coordinates or its box are not finite, or the box has no volume; the prediction it comes"
    " from has blown up there, look at its log"
)
UNTURNED = (
    "{} molecules of one site do not turn by Monte Carlo, because the force field has pairs that"
    " follow no rule of combination (NBFIX) or that are not Lennard-Jones and Coulomb; dynamics"
    " alone samples their orientations, which it forgets slowly: more backmap.steps help (map: they"
    " are minimised from random orientations)"
)


class NoStructureError(InputError):
    """No frame of a state has a structure; ``failures``: as of :class:`Backmapped`."""

    def __init__(self, message, failures):
        super().__init__(message)
        self.failures = failures


@dataclass(frozen=True)
class Settings:
    """How frames are backmapped, see the section ``backmap`` of the configuration.

    Attributes
    ----------
    method : str
        One of :data:`METHODS`.
    draws : int
        Independent ones per frame; of ``map`` the number of tries, of which the best is kept.
    steps, sweeps : int
        Of dynamics, and how long molecules with one site cool, in sweeps of turns, per draw; of
        ``map`` at most :data:`remcg.backmap.turns.QUENCH` sweeps and no steps.
    cutoff : float or None
        nm, of the force field's real-space part; None: the molecules are in vacuum.
    """

    method: str = "posterior"
    draws: int = 2
    steps: int = 1000
    sweeps: int = 6000
    cutoff: float | None = CUTOFF

    def __post_init__(self):
        if self.method not in METHODS:
            raise InputError(
                f"backmap: there is no method {self.method!r}; choose {', '.join(METHODS)}"
            )
        if self.draws < 1 or min(self.steps, self.sweeps) < 0:
            raise InputError(
                f"backmap: draws is {self.draws}, steps {self.steps}, sweeps {self.sweeps}; give"
                " at least one draw, and no negative number"
            )


@dataclass(frozen=True)
class Backmapped:
    """Structures of one state.

    Attributes
    ----------
    arrays : dict
        Of ``backmap/<state>.h5``: positions (n, n_atoms, 3) nm, whole molecules; frame and draw
        (n,): index of the coarse-grained frame and of the draw; box (n, 3) or (n, 3, 3) nm, not in
        vacuum; sites (n, n_sites, 3) nm, molecules whole and in the cell; residual (n,) nm; energy
        (n,) kJ/mol; clashes, inversions, cis_trans, piercings (n,); temperature K. Of draws from
        the posterior also log_weight (n,), where sites couple rigid bonds
        (:meth:`remcg.backmap.constraints.Constraints.log_weight`), and by frame what
        :mod:`remcg.backmap.posterior` says of them: n_eff, inefficiency_ps, discarded_ps and, for
        ``starts``, two_sided_gap (kJ/mol per molecule), two_sided_gap_se, is_posterior. Of
        ``map`` force (n,): the largest left on an atom, kJ/mol/nm, and is_minimum (n,).
    failures : list of dict
        frame and reason of each frame that has no structure.
    offending : list of dict
        frame, draw and what, for structures with a defect and for draws that failed where others
        of their frame did not.
    most_clashes : int
        How many a structure may have.
    checked : tuple of str
        The defects that can occur in these molecules.
    start : openmm.State or None
        To go on from, with the first structure.
    unturned : int
        Molecules of one site whose orientations dynamics alone sampled, because pairs of their
        force field follow no rule.
    """

    arrays: dict
    failures: list = field(default_factory=list)
    offending: list = field(default_factory=list)
    most_clashes: int = 0
    checked: tuple = ("clashes",)
    start: object = None
    unturned: int = 0


def backmap(
    frames,
    boxes,
    topology,
    mapped,
    templates,
    force_field,
    temperature,
    seed,
    settings=None,
    starts=None,
    folder=None,
    where="the state",
    progress=None,
):
    """Atomistic configurations for coarse-grained frames.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_sites, 3)
        nm, in any periodic image.
    boxes : ndarray, shape (n_frames, 3) or (n_frames, 3, 3), or None
        nm; in vacuum they only make molecules whole, and there may be none.
    topology : mdtraj.Topology
        Atoms with bonds.
    mapped : remcg.mapping.Sites
        The mapping on this topology.
    templates : Frames
        Reference configurations: conformers, chirality and the like are taken from them.
    force_field : sequence of str
        What :class:`remcg.backmap.atoms.Atoms` reads.
    temperature : float
        K.
    seed : int
        The streams of all frames derive from it.
    settings : Settings
    starts : Frames, optional
        Atoms that the sites were mapped from: chains that start there must agree with ours.
    folder : path, optional
        Where finished frames are kept; those found there are not made again.
    where : str
        Name of the state, for messages.
    progress : callable, optional
        Called with a line of text per frame.

    Returns
    -------
    Backmapped

    Raises
    ------
    InputError
        Input that does not belong together; :class:`NoStructureError`: if no frame at all can be
        backmapped.
    """
    settings, say = settings or Settings(), progress or (lambda line: None)
    sites, boxes = prepare_sites(frames, boxes, mapped, topology, where)
    if settings.cutoff is None:
        boxes = None
    elif boxes is None:
        raise InputError(
            f"backmap: the coarse-grained frames of {where} have no box, but there is a cut-off of"
            f" {settings.cutoff:g} nm; give them boxes, or set reference.cutoff: none for molecules"
            " in vacuum"
        )
    _check_templates(templates, topology, where)
    _check_starts(starts, sites, topology, where)
    arguments = topology, mapped, templates, force_field, boxes, temperature, settings
    workshop = (
        Guess(topology, mapped) if settings.method == "pseudoinverse" else Workshop(*arguments)
    )
    if workshop.unturned:
        say(UNTURNED.format(workshop.unturned))
    if workshop.is_unchosen:
        say(UNCHOSEN)
    streams = np.random.SeedSequence(seed).spawn(len(sites))
    shared = _digest(topology, mapped, templates, force_field, temperature, seed, settings)
    made, lost, failures = {}, {}, []
    for k, target in enumerate(sites):
        box = None if boxes is None else boxes[k]
        start = None if starts is None else starts.positions[k]
        key = checkpoint.digest(shared, k, target, box, start)
        path = None if folder is None else frame_path(folder, k)
        found = None if path is None else checkpoint.load(path, key, say)
        if found is not None:
            made[k], lost[k] = found[0], found[1].get("lost", [])
            say(f"frame {k}: kept from before")
            continue
        try:
            found = _made(workshop, target, box, np.random.default_rng(streams[k]), start)
        except workshop.expected as error:
            failures.append({"frame": k, "reason": _reason(error, topology, mapped)})
            say(f"frame {k}: FAILED: {failures[-1]['reason']}")
            continue
        lost[k] = [_reason(error, topology, mapped) for error in found.pop("lost", [])]
        made[k] = found
        if path is not None:
            checkpoint.save(path, key, made[k], {"lost": lost[k]})
        say(f"frame {k}: {len(made[k]['positions'])} structures")
    if not made:
        raise NoStructureError(
            f"backmap: none of the {len(sites)} frames of {where} could be backmapped; frame 0: "
            f"{failures[0]['reason']}",
            failures,
        )
    arrays = _gathered(made, sites, boxes, temperature, settings.method)
    arrays["residual"] = _residuals(mapped, arrays)
    return _checked(arrays, failures, lost, workshop, seed)


def _made(workshop, sites, box, rng, start):
    """Structures of one frame, all numbers of them finite."""
    if not np.isfinite(sites).all():
        raise InputError(f"the frame cannot be used: {BROKEN}")
    found = workshop(sites, box, rng, start)
    if not all(np.isfinite(found[name]).all() for name in ("positions", "energy") if name in found):
        raise SamplingError("positions or energies of its structures are not finite")
    return found


class Guess:
    """Atoms by the linear inverse in the metric of the masses alone; no force field.

    Atoms of a site lie on top of each other, and those of no site at the middle of their molecule.
    """

    checker, unturned, is_unchosen, expected = None, 0, False, EXPECTED

    def __init__(self, topology, mapped):
        self.mapped = mapped
        self.projector = Projector(mapped.matrix, mapped.atom_masses)
        self.owner = np.zeros(topology.n_atoms, int)
        for k, atoms in enumerate(mapped.atoms):
            self.owner[atoms] = k

    def __call__(self, sites, box, rng, start=None):
        total = np.zeros((len(self.mapped.atoms), 3))
        np.add.at(total, self.mapped.molecule, sites)
        middle = total / np.bincount(self.mapped.molecule)[:, None]
        return {"positions": self.projector.project(middle[self.owner], sites)[None]}


class _Tried(NamedTuple):
    """A minimum: positions (n_atoms, 3), nm, with virtual sites, kJ/mol and kJ/mol/nm."""

    positions: np.ndarray
    energy: float
    force: float
    is_minimum: bool
    defects: checks.Found
    is_defective: bool


class Workshop:
    """What all frames of a state share: force field, constraints, templates, moves, checks.

    Parameters as of :func:`backmap`.
    """

    def __init__(self, topology, mapped, templates, force_field, boxes, temperature, settings):
        from openmm import OpenMMException  # OpenMM is loaded only by who samples

        from remcg.backmap.atoms import Atoms
        from remcg.backmap.constraints import Constraints
        from remcg.backmap.posterior import tries_for

        self.expected = (*EXPECTED, OpenMMException)
        self.topology, self.mapped, self.templates = topology, mapped, templates
        self.temperature, self.settings = temperature, settings
        self.tries = tries_for(len(mapped.atoms), topology.n_atoms)
        cutoff = settings.cutoff or CUTOFF
        self.atoms = Atoms(topology, force_field, wide_enough(boxes, cutoff), cutoff)
        operator = self.atoms.fold(mapped.matrix)
        rigid = self.atoms.rigid, self.atoms.rigid_lengths
        self.constraints = Constraints(operator, self.atoms.masses, *rigid)
        self.projector = Projector(operator, self.atoms.masses)
        self.checker = checks.Checker(topology, mapped.atoms, templates.positions, templates.boxes)
        names = [checks.species(topology, atoms) for atoms in mapped.atoms]
        self.species = list(zip(names, self.checker.isomers))  # no conformer of a mirror image
        self.turns, self.is_unchosen = self._turns(operator), False
        self.isolated = self._isolated()
        self.cranks = self._cranks()

    def __call__(self, sites, box, rng, start=None):
        """Structures of one frame: arrays positions (n, n_atoms, 3), energy (n,) and more."""
        self.atoms.set_box(box)
        if self.settings.method == "map":
            return self._best(sites, box, rng)
        found = self._draws(sites, box, rng, start)
        if not self.constraints.is_exact:
            weights = [self.constraints.log_weight(x) for x in found["positions"]]
            found["log_weight"] = np.array(weights)
            found["n_eff"] = min(found["n_eff"], effective_number(found["log_weight"]))
        return found

    def state(self, positions, box, seed):
        """An OpenMM State of a structure with thermal velocities."""
        self.atoms.set_box(box)
        self.atoms.state(positions)
        self.atoms.context.setVelocitiesToTemperature(self.temperature, seed % 2**31)
        return self.atoms.context.getState(positions=True, velocities=True, energy=True)

    def _placed(self, sites, rng, is_varied=False):
        """Templates put under the sites, on the manifold; if not varied, chosen by energy."""
        if self.isolated is None or is_varied:
            return self._fitted(sites, rng, is_varied)
        arguments = self._fitted, self.constraints, sites, self.atoms.box, self.temperature, rng
        return self.isolated.choose(*arguments)

    def _fitted(self, sites, rng, is_varied=False):
        """Templates put under the sites that they fit."""
        from remcg.backmap.placement import place

        arguments = self.templates.positions, self.species, self.mapped.atoms
        placed = place(*arguments, sites, self.projector, rng, is_varied)
        return self.constraints.project(placed, sites)

    def _cranks(self):
        """Parts that vary conformers, where there are few molecules."""
        if self.tries == 1:
            return []
        return find_cranks(checks.neighbours_of(self.checker.elements, self.checker.bonds))

    def _is_sound(self, positions):
        x = self.atoms.with_virtual_sites(positions)
        return not self.checker(x, self.atoms.box).is_lasting

    def _varied(self, positions, sites, rng):
        crank = self.cranks[rng.integers(len(self.cranks))]
        return self.constraints.project(turned(positions, crank, 2.0 * np.pi * rng.random()), sites)

    def _turns(self, operator):
        """The Monte Carlo over orientations, None without need or where pairs follow no rule."""
        from remcg.backmap.turns import Turns, turning

        self.unturned = 0
        if not self.settings.sweeps:
            return None
        if self.atoms.nonbonded() is None:
            self.unturned = len(turning(operator, self.mapped.atoms)[0])
            return None
        turns = Turns(
            self.atoms, operator, self.mapped.atoms, cutoff=self.settings.cutoff or CUTOFF
        )
        return turns if len(turns.turning) else None

    def _isolated(self):
        """Energies of molecules by themselves, where there are many and some have several sites."""
        from remcg.backmap.isolated import Isolated, describable

        molecules = self.mapped.atoms
        if self.tries > 1 or len(self.mapped.molecule) == len(molecules):
            return None
        self.is_unchosen = not describable(self.atoms, molecules)
        return None if self.is_unchosen else Isolated(self.atoms, molecules)

    def _best(self, sites, box, rng):
        """Of several tries the structure of least energy among those without a defect."""

        def place(n):
            return self._placed(sites, rng, self.tries > 1 and n > 0)

        def minimum(placed):
            return self._minimum(placed, sites, box, rng)

        def vary(positions):
            return self._varied(positions, sites, rng)

        hot = max(HOT, self.temperature)
        arguments = place, minimum, self.settings.draws, hot, rng, self.expected
        _, found = search(
            *arguments, lambda each: not each.defects.is_lasting, vary if self.cranks else None
        )
        best = min(found, key=lambda each: (each.is_defective, each.energy))
        values = {
            "positions": best.positions,
            "energy": best.energy,
            "force": best.force,
            "is_minimum": best.is_minimum,
        }
        return {name: np.array([value]) for name, value in values.items()}

    def _minimum(self, placed, sites, box, rng):
        from remcg.backmap.minimise import find_minimum
        from remcg.backmap.turns import QUENCH

        if self.turns is not None:
            n_sweeps = min(self.settings.sweeps, QUENCH)
            arguments = placed, self.atoms.box, self.temperature, n_sweeps, rng
            placed = self.turns.quench(*arguments).positions
        found = find_minimum(self.atoms, self.constraints, placed, sites)
        x = self.atoms.with_virtual_sites(found.positions)
        defects = self.checker(x, box)
        is_defective = bool(defects.described(self.checker.most_clashes))
        energy = self.atoms.energy(x)
        return _Tried(x, energy, found.force, found.is_converged, defects, is_defective)

    def _draws(self, sites, box, rng, start):
        """Draws from the posterior, and whether a chain from ``start`` agrees with theirs."""
        from remcg.backmap import posterior

        chosen = self.settings
        counts = {"draws": chosen.draws, "sweeps": chosen.sweeps, "steps": chosen.steps}
        protocol = posterior.Protocol(**counts, tries=self.tries)
        parts = self.atoms, self.constraints, self.turns, self._placed, len(self.mapped.atoms)
        vary = self._varied if self.cranks else None
        system = posterior.System(*parts, self._is_sound, vary)
        temperature = self.temperature
        drawn = posterior.draw(system, sites, box, temperature, rng, protocol)
        found = drawn.arrays() | {"lost": drawn.lost}
        if start is None:
            return found
        own = next_to(start, sites, self.mapped)
        arguments = own, sites, box, temperature, rng, protocol
        return found | posterior.two_sided(system, drawn, *arguments).arrays()


def next_to(positions, sites, mapped):
    """The same atoms, each molecule moved as a whole to where its sites are given, nm."""
    first = np.unique(mapped.molecule, return_index=True)[1]
    shifts = sites[first] - (mapped.matrix @ positions)[first]
    moved = np.array(positions, float)
    for molecule, shift in zip(mapped.molecule[first], shifts):
        moved[mapped.atoms[molecule]] += shift
    return moved


def wide_enough(boxes, cutoff):
    """The boxes that a cut-off fits in, or all if it fits in none; None in vacuum."""
    if boxes is None:
        return None
    boxes = boxes[has_volume(boxes)]
    fits = [2.0 * cutoff <= reduced(box).diagonal().min() for box in boxes]
    return boxes[fits] if any(fits) else boxes


def frame_path(folder, k):
    """Where the finished frame ``k`` is kept: hidden, beside the output."""
    return Path(folder) / f"frame-{k:04d}.checkpoint.h5"


def remove_frames(folder):
    """Remove what :func:`backmap` kept for a restart."""
    folder = Path(folder)
    if folder.is_dir():
        for path in folder.glob("frame-*.checkpoint.h5"):
            path.unlink()
        folder.rmdir()


def summarise(result):
    """Entry of ``summary.json`` for structures of one state, without its comparisons.

    Parameters
    ----------
    result : Backmapped

    Returns
    -------
    dict
        max_residual_nm; n_frames, n_structures, failed_frames, defective_structures, and the
        numbers of their frames, offending_frames, if there are any; sums over the structures of
        clashes and, as far as there are stereocentres, double bonds or rings, of inversions,
        cis_trans and piercings; of draws from the posterior n_eff_draws and inefficiency_ps, the
        mean time between independent energies; where chains were started from both sides,
        two_sided_gap_kJ_mol per molecule, two_sided_gap_se, annealed_frames and is_posterior; of
        minima unconverged_minima; where draws have weights log_weight_sd, the standard deviation of
        their logarithms among the draws of a frame; unturned_molecules, if there are any.
    """
    arrays = result.arrays
    numbers = {
        "max_residual_nm": float(np.max(arrays["residual"])),
        "n_frames": len(np.unique(arrays["frame"])),
        "n_structures": len(arrays["frame"]),
        "failed_frames": len(result.failures),
        "defective_structures": len(result.offending),
    }
    if "n_eff" in arrays:
        numbers["n_eff_draws"] = float(np.sum(arrays["n_eff"]))
    if bad := offending_frames(result.failures, result.offending):
        numbers["offending_frames"] = bad
    numbers |= {name: int(np.sum(arrays[name])) for name in result.checked if name in arrays}
    if "log_weight" in arrays:
        numbers["log_weight_sd"] = _spread(arrays["log_weight"], arrays["frame"])
    if "inefficiency_ps" in arrays:
        numbers["inefficiency_ps"] = float(np.mean(arrays["inefficiency_ps"]))
    if "is_minimum" in arrays:
        numbers["unconverged_minima"] = int(np.sum(~arrays["is_minimum"].astype(bool)))
    if result.unturned:
        numbers["unturned_molecules"] = result.unturned
    if "two_sided_gap" in arrays:
        numbers |= _agreement(arrays["two_sided_gap"], arrays["two_sided_gap_se"])
    return numbers


def _spread(values, frame):
    """Standard deviation of values about the mean of their frame."""
    names, place, counts = np.unique(frame, return_inverse=True, return_counts=True)
    away = values - (np.bincount(place, values) / counts)[place]
    return float(np.sqrt((away**2).sum() / max(len(values) - len(names), 1)))


def offending_frames(failures, offending):
    """Numbers of the frames in lists of failed frames and of defects, sorted."""
    return sorted({int(each["frame"]) for each in (*failures, *offending)})


def _agreement(gaps, errors):
    """Gap between chains from both sides: its mean over frames, and frames that have one.

    A frame has one beyond what the largest of so many gaps in standard errors exceeds as rarely as
    one exceeds three: gaps of both signs do not cancel.
    """
    gap, error = float(np.mean(gaps)), float(np.sqrt((errors**2).sum()) / len(gaps))
    most = norm.isf(norm.sf(SIGNIFICANT) / len(gaps))
    apart = int((np.abs(gaps) > most * errors).sum())
    verdict = {"two_sided_gap_kJ_mol": gap, "two_sided_gap_se": error, "annealed_frames": apart}
    return {**verdict, "is_posterior": not apart and abs(gap) <= SIGNIFICANT * error}


def _reason(error, topology, mapped):
    """What went wrong with a frame, with the molecule where one is to blame."""
    text = " ".join(str(error).split())
    if getattr(error, "atoms", None) is None:
        return text
    atom = int(np.min(error.atoms))
    number = next(k for k, atoms in enumerate(mapped.atoms) if atom in atoms)
    return f"molecule {number} ({topology.atom(atom).residue}): {text}"


def _check_templates(templates, topology, where):
    n_atoms = templates.positions.shape[1] if len(templates) else 0
    if n_atoms != topology.n_atoms:
        raise InputError(
            f"backmap: the template frames of {where} have {n_atoms} atoms, but the topology has"
            f" {topology.n_atoms}; take them from a state of the same molecules"
        )


def _check_starts(starts, sites, topology, where):
    expected = len(sites), topology.n_atoms, 3
    if starts is not None and starts.positions.shape != expected:
        raise InputError(
            f"backmap: the starts of {where} have shape {starts.positions.shape}, where {expected}"
            " is needed: give the atoms that each coarse-grained frame was mapped from"
        )


def _digest(topology, mapped, templates, force_field, temperature, seed, settings):
    """What all frames depend on."""
    files = [Path(name).read_bytes() if Path(name).is_file() else name for name in force_field]
    return checkpoint.digest(
        [str(atom) for atom in topology.atoms],
        checks.bonds_of(topology),
        mapped.matrix.data,
        mapped.matrix.indices,
        mapped.matrix.indptr,
        templates.positions,
        files,
        float(temperature),
        int(seed),
        vars(settings),
    )


def _gathered(made, sites, boxes, temperature, method):
    """Arrays of all structures, frame by frame."""
    counts = [len(each["positions"]) for each in made.values()]
    arrays = {
        "positions": np.concatenate([each["positions"] for each in made.values()]),
        "frame": np.repeat(list(made), counts),
        "draw": np.concatenate([np.arange(n) for n in counts]),
        "temperature": float(temperature),
    }
    arrays["sites"] = sites[arrays["frame"]]
    if boxes is not None:
        arrays["box"] = boxes[arrays["frame"]]
    names = dict.fromkeys(name for each in made.values() for name in each if name != "positions")
    for name in names:
        arrays[name] = np.concatenate([np.atleast_1d(each[name]) for each in made.values()])
    return arrays


def _residuals(mapped, arrays):
    """Largest distance of a mapped structure's site from where it should be, of each, nm."""
    pairs = zip(arrays["positions"], arrays["sites"])
    return np.array([np.linalg.norm(mapped.matrix @ x - y, axis=1).max() for x, y in pairs])


def _checked(arrays, failures, lost, workshop, seed):
    """The result with its defects counted and listed; lost: {frame: reasons of failed draws}."""
    checker = workshop.checker
    if checker is None:
        return Backmapped(arrays, failures, checked=())
    boxes = arrays.get("box", [None] * len(arrays["frame"]))
    found = [checker(*structure) for structure in zip(arrays["positions"], boxes)]
    for name in checks.Found.__dataclass_fields__:
        arrays[name] = np.array([getattr(each, name) for each in found])
    offending = []
    for k, each in enumerate(found):
        what = each.described(checker.most_clashes)
        if what:
            place = {"frame": int(arrays["frame"][k]), "draw": int(arrays["draw"][k])}
            offending.append({**place, "what": what})
    for frame, reasons in lost.items():
        last = int((arrays["frame"] == frame).sum())
        offending += [
            {"frame": frame, "draw": last + k, "what": f"no structure: {reason}"}
            for k, reason in enumerate(reasons)
        ]
    first = arrays["positions"][0], boxes[0]
    start = workshop.state(*first, seed)
    verdicts = offending, checker.most_clashes, checker.applicable
    return Backmapped(arrays, failures, *verdicts, start, workshop.unturned)
