"""Backmapping beside plain restrained minimisation and dynamics: structures, energy, time per draw.

make bench NAME=backmap ARGS="--only placement-hexane"
"""

import platform
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

import mdtraj
import numpy as np
from benchtools import cases, cg2at_peer, mstool_peer, table
from benchtools.restrained import HOT, STAGES, Restrained, minimised, pulled
from benchtools.timing import FULL, Stopwatch
from scipy.sparse import block_diag, csr_matrix

from remcg import backmap, config, mapping
from remcg.backmap import validation
from remcg.backmap.atoms import Atoms
from remcg.backmap.constraints import Constraints
from remcg.backmap.linear import Projector
from remcg.backmap.minimise import find_minimum
from remcg.backmap.placement import place
from remcg.backmap.posterior import Protocol, System, draw, two_sided
from remcg.backmap.turns import Turns
from remcg.config import ROOT
from remcg.mapping import Unwrapper
from remcg.trajectory import Selection, read_frames

NAME = "backmap"
WATER = ROOT / "resources" / "spce"
MAPPING = ROOT / "config" / "mappings" / "water-1site.yaml"
FORCE_FIELD = ["spce.xml"]
SPCE = Path(__file__).with_name("benchtools") / "spce.itp"
FRAME, N_TEMPLATES, CUTOFF = 300, 20, 0.9  # number, number, nm
HEXANES, CARBONS = 150, 6
WANTED_RATE, WANTED_RATIO = 500.0, 2.0  # molecules/s; gap of the peer over ours


@cache
def water(state):
    """Frames of a state: topology, mapping, positions (n, n_atoms, 3), boxes; the last is used."""
    topology = mdtraj.load_topology(str(WATER / "topology.pdb"))
    mapped = mapping.build_sites(topology, mapping.read_mapping(MAPPING))
    unwrap, positions, boxes = Unwrapper(topology, mapped.atoms), [], []
    for chunk in read_frames([WATER / f"{state}.xtc"], topology, state):
        positions.append(unwrap(chunk, state))
        boxes.append(chunk.boxes)
        if sum(map(len, boxes)) > FRAME:
            break
    positions, boxes = np.concatenate(positions), np.concatenate(boxes)
    chosen = np.linspace(0, FRAME, N_TEMPLATES).astype(int)
    return topology, mapped, positions[chosen], boxes[chosen]


def chains(n, n_frames, rng):
    """All-atom hexanes with random torsions, (n_frames, 20 n, 3) nm, and the mapping."""
    frames = np.array([[_hexane(rng) for _ in range(n)] for _ in range(n_frames)])
    weights = np.zeros((3, 20))
    for site, carbons in enumerate(((0, 1), (2, 3), (4, 5))):
        for carbon in carbons:
            weights[site, carbon] = 12.011
            weights[site, CARBONS + _hydrogens(carbon)] = 1.008
    weights /= weights.sum(axis=1, keepdims=True)
    return frames.reshape(n_frames, -1, 3), csr_matrix(block_diag([weights] * n))


def _hydrogens(carbon):
    counts = np.array([3, 2, 2, 2, 2, 3])
    first = counts[:carbon].sum()
    return np.arange(first, first + counts[carbon])


def _hexane(rng):
    """Carbons with random torsions, then hydrogens at 0.109 nm of their carbon; shapes suffice."""
    x = [np.zeros(3), np.array([0.153, 0, 0]), np.array([0.204, 0.144, 0])]
    for torsion in rng.choice([np.pi, 1.1, -1.1], 3) + 0.2 * rng.standard_normal(3):
        u, v = x[-2] - x[-3], x[-1] - x[-2]
        axis = v / np.linalg.norm(v)
        side = np.cross(axis, np.cross(u, axis))
        side /= np.linalg.norm(side)
        up = np.cross(axis, side)
        sideways = -np.cos(torsion) * side + np.sin(torsion) * up
        x.append(x[-1] + 0.153 * (0.33 * axis + 0.94 * sideways))
    hydrogens = []
    for carbon, place_ in enumerate(x):
        for _ in _hydrogens(carbon):
            arm = rng.standard_normal(3)
            hydrogens.append(place_ + 0.109 * arm / np.linalg.norm(arm))
    return np.array([*x, *hydrogens])


def _rate(case, templates, species, molecules, sites, projector, pace):
    """Row of molecules placed per second of CPU."""
    rng = np.random.default_rng(1)
    found = place(templates, species, molecules, sites, projector, rng)
    assert np.abs(projector.map(found) - sites).max() < 1e-9
    watch, calls = Stopwatch(), 0
    while watch.cpu < pace.seconds or calls < 1:
        place(templates, species, molecules, sites, projector, rng)
        calls += 1
    rate = watch.timing(calls * len(molecules)).rate
    name = "what is wanted"
    return table.row(case, rate, WANTED_RATE, name, "molecules/s", rate / WANTED_RATE, ">=", 1.0)


def placement_hexane(pace):
    """Conformers of three sites, chosen among 20 frames."""
    rng = np.random.default_rng(2)
    templates, operator = chains(HEXANES, N_TEMPLATES if pace is FULL else 2, rng)
    sites = operator @ chains(HEXANES, 1, rng)[0][0]
    masses = np.tile([12.011] * CARBONS + [1.008] * 14, HEXANES)
    molecules = list(np.arange(len(masses)).reshape(HEXANES, -1))
    arguments = ["HEX"] * HEXANES, molecules, sites, Projector(operator, masses)
    case = f"templates and projection, {HEXANES} hexanes of 20 atoms and three sites"
    return [_rate(case, templates, *arguments, pace)], {}


def placement_water(pace):
    """Waters of one site."""
    _, mapped, positions, _ = water("T280")
    sites = mapped.matrix @ positions[-1]
    projector = Projector(mapped.matrix, mapped.atom_masses)
    arguments = ["HOH"] * len(mapped.atoms), mapped.atoms, sites, projector
    case = f"templates and projection, {len(mapped.atoms)} waters of one site"
    return [_rate(case, positions[:-1], *arguments, pace)], {}


def _system(topology, mapped, templates, boxes):
    atoms = Atoms(topology, FORCE_FIELD, boxes, CUTOFF)
    operator, molecules = atoms.fold(mapped.matrix), mapped.atoms
    constraints = Constraints(operator, atoms.masses, atoms.rigid, atoms.rigid_lengths)
    projector, species = Projector(operator, atoms.masses), ["HOH"] * len(molecules)

    def put(sites, rng):
        placed = place(templates, species, molecules, sites, projector, rng)
        return constraints.project(placed, sites)

    turns = Turns(atoms, operator, molecules, cutoff=CUTOFF)
    return System(atoms, constraints, turns, put, len(molecules))


def _restrained(system, topology, mapped, sites, box, temperature, seconds, rng):
    """Energy (kJ/mol) over exact sites after so many CPU seconds, and the steps of that time."""
    openmm_topology = topology.to_openmm()
    openmm_topology.setPeriodicBoxVectors(np.diag(box))
    arguments = mapped.matrix, sites, temperature, CUTOFF
    peer = Restrained(openmm_topology, FORCE_FIELD, *arguments, int(rng.integers(1, 2**31)))
    start, watch, steps = system.place(sites, rng), Stopwatch(), 0
    peer.start(start)
    energies, hot = [], max(HOT, temperature)
    while watch.cpu < seconds:
        done = min(watch.cpu / (0.5 * seconds), 1.0)  # the first half cools
        stage = np.ceil(done * STAGES) / STAGES
        peer.run(20, hot * (temperature / hot) ** stage)
        steps += 20
        if watch.cpu > 0.9 * seconds:
            energies.append(
                system.atoms.energy(system.constraints.project(peer.positions(), sites))
            )
    last = system.atoms.energy(system.constraints.project(peer.positions(), sites))
    return float(np.mean([*energies, last])), steps


def _gap(state, pace):
    """Rows of the gap at equal time and of the time per draw, of a mapped reference frame."""
    temperature = float(state[1:])
    topology, mapped, positions, boxes = water(state)
    system = _system(topology, mapped, positions[:-1], boxes)
    own, box, n = positions[-1], boxes[-1], len(mapped.atoms)
    sites, rng = mapped.matrix @ own, np.random.default_rng(3)
    protocol = Protocol(draws=1) if pace is FULL else Protocol(draws=1, sweeps=3, steps=40)
    draw(system, sites, box, temperature, rng, Protocol(draws=1, sweeps=1, steps=20))  # compiles
    watch = Stopwatch()
    drawn = draw(system, sites, box, temperature, rng, protocol)
    seconds = watch.cpu
    side = two_sided(system, drawn, own, sites, box, temperature, rng, protocol)
    energy, steps = _restrained(system, topology, mapped, sites, box, temperature, seconds, rng)
    theirs = energy / n - side.own_energy
    peer = f"OpenMM {version('openmm')}, restrained dynamics"
    case = f"{n} SPC/E waters, {temperature:g} K, sites of a reference frame: "
    details = {
        "core_seconds": seconds,
        "peer_steps": steps,
        "gap_kJ_mol": side.gap,
        "gap_se": side.se,
        "peer_gap_kJ_mol": theirs,
        "verdict": side.verdict,
        "n_eff": drawn.n_eff,
        "inefficiency_ps": drawn.inefficiency,
    }
    what = f"energy above that of own atoms after {seconds:.0f} s of a core"
    rows = [
        table.row(
            case + what, side.gap, theirs, peer, "kJ/mol", theirs / side.gap, ">=", WANTED_RATIO
        ),
        table.row(
            case + "time per structure, each of its own chain",
            seconds / drawn.n_eff,
            300.0,
            "what is wanted",
            "s",
            seconds / drawn.n_eff / 300.0,
            "<=",
            1.0,
        ),
    ]
    return rows, details


def _campaign(name, state, frames, templates):
    """Topology, mapping, force field, cut-off, frames and templates of a shipped reference."""
    campaign = config.load(ROOT / "config" / f"{name}.yaml")
    topology, mapped = mapping.sites_of(campaign.topology(state), campaign.system.mapping)
    cutoff, of = campaign.backmap_cutoff, campaign.state(state)
    given = of.trajectory, topology, mapped.atoms, state
    reading = Selection.of(of), cutoff is None
    own, others = (backmap.read_reference(*given, n, *reading) for n in (frames, templates))
    fields = campaign.system.force_field, cutoff, of.temperature
    return (topology, mapped, *fields, own, others)


def _minimisation(name, state, frames, templates, steps=0, itp=None):
    """Rows of structures over mapped reference frames: ours (map, one try) and those of others.

    With steps of dynamics also the divergences of draws from the posterior; with the path of a
    GROMACS topology of the molecule also CG2AT2.
    """
    topology, mapped, fields, cutoff, temperature, own, others = _campaign(
        name, state, frames, templates
    )
    n, sites = len(mapped.atoms), np.array([mapped.matrix @ x for x in own.positions])
    settings = backmap.Settings(method="map", draws=1, cutoff=cutoff)
    boxes = own.boxes
    workshop = backmap.Workshop(topology, mapped, others, fields, boxes, temperature, settings)
    constraints, box = workshop.constraints, [own.box(k) for k in range(len(own))]
    workshop(sites[0], box[0], np.random.default_rng(0))  # compiles
    best, ours, theirs = [], _Structures(workshop), _Structures(workshop)
    for k, y in enumerate(sites):
        ours.add(box[k], y, workshop, y, box[k], np.random.default_rng([4, k]))
        start = constraints.project(backmap.next_to(own.positions[k], y, mapped), y)
        best.append(find_minimum(workshop.atoms, constraints, start, y).energy)
        plain = _openmm_topology(topology, box[k]), fields, mapped.matrix, y, cutoff
        theirs.add(box[k], y, _over_sites, constraints, minimised, *plain, k)
    case, peer = f"{name}, {len(own)} frames of {n} molecules: ", "OpenMM, restrained minimisation"
    compared = _Compared(case, np.array(best))
    rows = compared.rows(ours, theirs, peer, KINDS_OF_ROWS)
    details = {"ours_lost": ours.lost, "theirs_lost": theirs.lost}
    if steps:
        settings = backmap.Settings(draws=1, steps=steps, cutoff=cutoff)
        workshop = backmap.Workshop(topology, mapped, others, fields, boxes, temperature, settings)
        draws = _Structures(workshop)
        for k, y in enumerate(sites):
            draws.add(box[k], y, workshop, y, box[k], np.random.default_rng([5, k]))
        compared = _Compared(f"{case}draws from the posterior, ", np.array(best))
        kinds = [(what, unit, "<=") for what, unit, _ in KINDS_OF_ROWS if what in (STIFF, TURNING)]
        rows += compared.rows(draws, theirs, peer, kinds)
        details |= {"draws_lost": draws.lost, "seconds_per_draw": draws.seconds / len(sites)}
    arguments = case, sites, box, fields, np.array(best)
    if mstool_peer.python():
        peer = f"mstool {mstool_peer.version(mstool_peer.python())}"
        given = fields, sites, box, temperature
        made = _made(mstool_peer.run, workshop, *given)
        more, details["mstool"] = _beside(peer, made, ours, *arguments)
        rows += more
        if steps:
            made = _made(mstool_peer.run, workshop, *given, mstool_peer.STEPS)
            warm = _kept(made, workshop, sites, box)
            compared = _Compared(f"{case}draws from the posterior, ", np.array(best))
            peer = f"{peer}, then {mstool_peer.STEPS} steps without restraints"
            rows += compared.rows(draws, warm, peer, WARM_ROWS)
            details["mstool_warm"] = {"lost": warm.lost, "defects": warm.defects}
    if itp and cg2at_peer.python():
        made = _made(cg2at_peer.run, workshop, itp, sites, box)
        more, details["cg2at2"] = _beside(f"CG2AT2 {cg2at_peer.version()}", made, ours, *arguments)
        rows += more
    return rows, details


def _made(run, *arguments):
    """What a peer makes of all frames, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="remcg-bench-") as folder:
        return run(folder, *arguments)


def _kept(made, workshop, sites, boxes):
    """As :class:`_Structures`, what a peer made of each frame."""
    structures = _Structures(workshop)
    for (x, seconds), y, box in zip(made, sites, boxes):
        if isinstance(x, str):
            structures.lost.append(x)
        structures.keep(box, y, seconds, None if isinstance(x, str) else x)
    return structures


def _beside(peer, made, ours, case, sites, boxes, fields, best):
    """Rows of a peer's structures as they come, and minimised over the sites as plain ones are."""
    workshop = ours.workshop
    free, over = _kept(made, workshop, sites, boxes), _Structures(workshop)
    for (x, _), y, box in zip(made, sites, boxes):
        if isinstance(x, str):
            over.keep(box, y, 0.0, None)
            continue
        given = _openmm_topology(workshop.topology, box), fields, workshop.mapped.matrix, y
        cutoff = workshop.atoms.cutoff
        over.add(box, y, _over_sites, workshop.constraints, pulled, *given, cutoff, x)
    compared = _Compared(case, best)
    rows = compared.rows(ours, free, peer, FREE_ROWS)
    rows += compared.rows(ours, over, f"{peer}, then restrained minimisation", PULLED_ROWS)
    return rows, {"lost": free.lost, "lost_over_sites": over.lost, "defects": free.defects}


def _openmm_topology(topology, box):
    result = topology.to_openmm()
    if box is not None:
        result.setPeriodicBoxVectors(np.diag(box))
    return result


def _over_sites(constraints, minimise, topology, fields, operator, sites, *rest):
    """As what a workshop returns: positions that are exactly over the sites."""
    x = minimise(topology, fields, operator, sites, *rest)
    return {"positions": constraints.project(x, sites)[None]}


TIME, ENERGY = "time per molecule", "median energy above own atoms minimised, per molecule"
AWAY = "median of the largest distance of a site from where it should be"
STIFF = "mean divergence of bonds and angles from the reference"
TURNING = "mean divergence of dihedrals from the reference"
STIFF_FLOORS, TURNING_FLOORS = (f"{name}, in noise floors" for name in (STIFF, TURNING))
CLEAN = "structures without a defect (ratio of numbers plus one)"
KINDS_OF_ROWS = (
    (TIME, "s", "<="),
    (ENERGY, "kJ/mol", "<="),
    (STIFF, "bit", None),
    (TURNING, "bit", "<="),
    (CLEAN, "structures", ">="),
)
FREE_ROWS = (
    (TIME, "s", "<="),
    (AWAY, "nm", "<="),
    (ENERGY, "kJ/mol", None),  # off the sites it may be lower
    (CLEAN, "structures", ">="),
)
PULLED_ROWS = (
    (ENERGY, "kJ/mol", "<="),
    (STIFF_FLOORS, "floors", None),
    (TURNING_FLOORS, "floors", "<="),
    (CLEAN, "structures", ">="),
)
WARM_ROWS = (
    (AWAY, "nm", "<="),
    (STIFF_FLOORS, "floors", "<="),
    (TURNING_FLOORS, "floors", "<="),
    (CLEAN, "structures", ">="),
)


class _Compared:
    """Rows of two programs' structures; best (n_frames,): energies of own atoms minimised."""

    def __init__(self, case, best):
        self.case, self.best = case, best

    def rows(self, ours, theirs, peer, kinds):
        """A row for each kind that both have: its name, unit and which side should be larger."""
        found = [each.numbers(self.best) for each in (ours, theirs)]
        rows = []
        for what, unit, sense in kinds:
            a, b = (numbers[what] for numbers in found)
            if a is None or b is None:
                continue
            ratio = (a + 1.0) / (b + 1.0) if what == CLEAN else a / b
            aim = (sense, 1.0) if sense else ()
            rows.append(table.row(self.case + what, a, b, peer, unit, ratio, *aim))
        return rows


class _Structures:
    """Structures of one program with their times and energies."""

    def __init__(self, workshop):
        self.workshop, self.seconds = workshop, 0.0
        self.positions, self.energies, self.away = [], [], []
        self.defects, self.clean, self.lost = [], 0, []

    def add(self, box, sites, make, *arguments):
        """Make a structure, timed."""
        watch = Stopwatch()
        try:
            x = make(*arguments)["positions"][0]
        except Exception as error:
            self.lost.append(f"{type(error).__name__}: {error}")
            x = None
        self.keep(box, sites, watch.cpu, x)

    def keep(self, box, sites, seconds, x):
        """A structure that took so many CPU seconds, None where there is none."""
        self.seconds += seconds
        if x is None:
            self.energies.append(np.inf)
            return
        self.workshop.atoms.set_box(box)
        self.positions.append(x)
        self.energies.append(self.workshop.atoms.energy(x))
        checker = self.workshop.checker
        self.defects.append(checker(x, box).described(checker.most_clashes))
        self.clean += not self.defects[-1]
        away = self.workshop.mapped.matrix @ x - sites
        self.away.append(np.linalg.norm(away, axis=1).max())

    def numbers(self, best):
        """Values by the names of rows; None where there is none."""
        n = len(self.workshop.mapped.atoms)
        energy = float(np.median((np.array(self.energies) - best) / n))
        return {
            TIME: self.seconds / (n * len(self.energies)) or None,
            ENERGY: energy if np.isfinite(energy) else None,
            AWAY: float(np.median(self.away)) if self.away else None,
            CLEAN: self.clean,
        } | self._divergences()

    def _divergences(self):
        names = STIFF, STIFF_FLOORS, TURNING, TURNING_FLOORS
        if not self.positions:
            return dict.fromkeys(names)
        workshop = self.workshop
        topology, mapped, reference = workshop.topology, workshop.mapped, workshop.templates
        rigid = workshop.atoms.rigid
        arguments = topology, mapped.atoms, mapped.matrix, rigid, reference.positions[0]
        groups = validation.coordinates_of(*arguments).free
        found = validation.divergences(
            validation.distributions(groups, reference.positions, np.array(self.positions))
        )
        result = []
        for is_turning in (False, True):
            of_kind = [x for key, x in found.items() if key.startswith("dihedral") is is_turning]
            js, floor = np.mean(of_kind, axis=0).tolist() if of_kind else (None, None)
            result += [js, js / floor if of_kind and floor else None]
        return dict(zip(names, result))


def minimise_peptide(pace):
    frames = np.arange(20 if pace is FULL else 2) * 90 + 5
    steps = 1000 if pace is FULL else 40
    return _minimisation("pentaalanine", "T400", frames, np.arange(500) * 3 + 6, steps)


def minimise_water(pace):
    frames = np.array([20, 150, 280] if pace is FULL else [20])
    return _minimisation("spce-water", "T280", frames, np.arange(25) * 10 + 25, itp=SPCE)


def minimise_hexane(pace):
    frames = np.array([20, 150, 280] if pace is FULL else [20])
    itp = ROOT / "resources" / "hexane" / "hexane.itp"
    return _minimisation("hexane", "T300", frames, np.arange(25) * 10 + 25, itp=itp)


def gap_280(pace):
    return _gap("T280", pace)


def gap_340(pace):
    return _gap("T340", pace)


CASES = {
    "placement-water": placement_water,
    "placement-hexane": placement_hexane,
    "minimise-peptide": minimise_peptide,
    "minimise-water": minimise_water,
    "minimise-hexane": minimise_hexane,
    "gap-280": gap_280,
    "gap-340": gap_340,
}


def _versions():
    names = ("mdtraj", "numba", "numpy", "openmm")
    found = {name: version(name) for name in names}
    if mstool_peer.python():
        found["mstool"] = mstool_peer.version(mstool_peer.python())
    if cg2at_peer.python():
        found["cg2at2"] = cg2at_peer.version()
    return found | {"python": platform.python_version()}


def main(argv=None):
    for name, peer in (("mstool", mstool_peer), ("CG2AT2", cg2at_peer)):
        if not peer.python():
            print(f"no {name}, so not compared with it: {peer.INSTALL}")
    return cases.main(NAME, __doc__.split("\n")[0], CASES, _versions, argv)


if __name__ == "__main__":
    sys.exit(main())
