"""Everything that one state says of its model: structure, dynamics and symmetry, as numbers and
curves.

A curve is an array (3, n) of x, y and the standard error of y, by (kind, name, side); sides are
``reference``, ``model`` and, for structure factors, ``rdf``: that of the reference from its g(r).
"""

import json
from dataclasses import replace

import numpy as np

from remcg.boxes import heights, many, volume
from remcg.consistency import divergence, dynamics, memory, structure, symmetry, vamp
from remcg.engine.replica import Replica, Start
from remcg.errors import InputError
from remcg.io import open_h5
from remcg.pairs import rdf, rdf_edges
from remcg.sample import read_topology
from remcg.statistics import explained_by, mean_and_error
from remcg.units import KB

SITE_FRAMES = 60_000  # of a side in the structure, where there are more than LEAST_FRAMES
LEAST_FRAMES = 20
FEWEST_COMPARED = 4
MOST_SITE_FRAMES = 20_000_000  # that are read, half a gigabyte
K_MAX = 45.0  # 1/nm
RDF_MAX = 2.0  # nm
SITE_STEPS, FEWEST_STEPS, MOST_STEPS = 5_000_000, 2000, 10_000  # of the model's free motion
N_LAGS = 400  # frames of it
SHORT_STEPS, FEWEST_FRAMES, KERNEL = 1500, 300, 1.0  # for the memory kernel; ps
RESOLUTION = 0.02  # K(0) times the squared time between these frames
SETTLING = 500  # steps before it
FINE = 0.02  # ps: frames this close may tell velocities
COARSEST = 0.25  # K(0) times the squared time between frames, up to which they tell the kernel
FORCE_FRAMES = 100  # for K(0)
N_FEATURES = 5
LEFT = 1e-6  # of the deviation of a basis sum, that more than rounding is left of
KEPT, LAST = ("trajectory", "trajectory_box"), ("positions", "box")
UNITS = {
    "structure_factor": ("1/nm", "1"),
    "neighbor_angles": ("rad", "1/rad"),
    "coordination": ("neighbours", "1"),
    "msd": ("ps", "nm^2"),
    "velocity": ("ps", "1"),
    "kernel": ("ps", "1/ps^2"),
}


def read_reference(path):
    """(positions, boxes, times or None, topology, site names) of a map file.

    Of a trajectory too long for the memory, evenly spaced frames.
    """
    with open_h5(path) as file:
        n_frames, n_sites = file["positions"].shape[:2]
        every = slice(None, None, -(-n_frames * n_sites // MOST_SITE_FRAMES))
        times = file["time"][every] if "time" in file else None
        names = json.loads(file.attrs["site_names"])
        return file["positions"][every], file["box"][every], times, read_topology(file), names


def analyse(map_path, target, sample, model, interval, seed, log=print, short_run=None):
    """Numbers and curves of one state.

    Parameters
    ----------
    map_path : path
        ``map/<state>.h5``.
    target, sample : (dict, dict)
        Content of ``target/<state>.h5`` and ``predict/<state>.h5``, arrays and attributes.
    model : Model
    interval : float
        Between the samples of the prediction, ps.
    seed : int
    log : callable
        Gets a line for everything that cannot be had.
    short_run : dict, optional
        Datasets of ``map/dynamics/<state>.h5``.

    Returns
    -------
    (dict, dict)
        Numbers as in ``summary.json``; curves.
    """
    rng = np.random.default_rng(seed)
    reference = read_reference(map_path)
    numbers, curves = {}, {}
    frames = sample[0].get("trajectory")
    if frames is None or min(len(frames), len(reference[0])) < FEWEST_COMPARED:
        log(
            f"less than {FEWEST_COMPARED} configurations of the prediction or the reference: no"
            " structure beyond g(r), no symmetries"
        )
    else:
        boxes = sample[0]["trajectory_box"]
        found, drawn = compare_structure(reference, (frames, boxes), target, model, rng, log)
        numbers, curves = numbers | found, curves | drawn
        numbers["symmetry"] = symmetries(model, sample, reference[3], frames, boxes, rng)
    found, drawn = compare_dynamics(reference, sample, model, seed, log, short_run)
    numbers, curves = numbers | found, curves | drawn
    numbers |= compare_scores(reference[2], target, sample, model, interval, log)
    return numbers, curves


def spread(n_frames, n_sites):
    """Indices of evenly spaced frames, as many as structure needs."""
    n = min(n_frames, max(SITE_FRAMES // n_sites, LEAST_FRAMES))
    return np.linspace(0, n_frames - 1, n).round().astype(int)


def compare_structure(reference, sampled, target, model, rng, log=print):
    """Structure factors, neighbours' angles and coordination of both sides, see :func:`analyse`."""
    positions, boxes, _, topology, names = reference
    chosen = spread(len(positions), topology.n_sites)
    other = spread(len(sampled[0]), topology.n_sites)
    sides = {
        "reference": (positions[chosen], boxes[chosen]),
        "model": (sampled[0][other], sampled[1][other]),
    }
    found = _compare_factors(sides, topology, names, rng)
    local = _compare_neighbors(sides, topology, names, target, model, rng, log)
    return found[0] | local[0], found[1] | local[1]


def _compare_factors(sides, topology, names, rng):
    types, numbers, curves = topology.site_types, {}, {}
    boxes = many(sides["reference"][1])
    vectors = structure.wave_vectors(boxes.mean(axis=0), K_MAX)
    blocks = {
        side: structure.structure_factors(x, box, types, len(names), vectors)
        for side, (x, box) in sides.items()
    }
    pairs = [(a, b) for a in range(len(names)) for b in range(a, len(names))]
    by_rdf = _factors_by_rdf(*sides["reference"], types, pairs, vectors.k)
    for p, (a, b) in enumerate(pairs):
        name = f"{names[a]}-{names[b]}"
        own = {side: found[:, p] for side, found in blocks.items()}
        numbers[name] = divergence.compare_curves(own["reference"], own["model"], rng)
        for side, rows in own.items():
            curves["structure_factor", name, side] = np.array([vectors.k, *mean_and_error(rows)])
        shown = vectors.k > 2.0 * np.pi / by_rdf[0]
        value = by_rdf[1][p]
        numbers[name]["from_rdf_rms"] = float(
            np.sqrt(np.mean((value - own["reference"].mean(axis=0))[shown] ** 2))
        )
        curves["structure_factor", name, "rdf"] = np.array(
            [vectors.k[shown], value[shown], np.zeros(shown.sum())]
        )
    return {"structure_factor": numbers}, curves


def _factors_by_rdf(positions, boxes, types, pairs, k):
    """(range of g(r) in nm, structure factors (n_pairs, n_k)) of one side."""
    reach = min(0.499 * heights(many(boxes)).min(), RDF_MAX)
    edges = rdf_edges(np.floor(reach / 0.01) * 0.01)
    g = rdf(positions, boxes, types, pairs, edges, 1)[0]
    mean = float(volume(many(boxes)).mean())
    counts = np.bincount(types)
    found = [
        structure.structure_factor_from_rdf(
            edges, row, np.sqrt(counts[a] * counts[b]) / mean, k, (counts[b], mean), a == b
        )
        for row, (a, b) in zip(g, pairs)
    ]
    return edges[-1], np.array(found)


def _compare_neighbors(sides, topology, names, target, model, rng, log):
    arrays, attributes = target
    shells = np.zeros((len(names), len(names)))
    for name, blocks in zip(
        json.loads(attributes["pair_names"]), np.moveaxis(arrays["rdf_blocks"], 1, 0)
    ):
        a, b = (names.index(x) for x in name.split("-"))
        radius = structure.first_minimum(arrays["rdf_edges"], blocks)
        shells[a, b] = shells[b, a] = radius
    excluded = topology.excluded(model.exclude)
    local = {
        side: structure.local_structure(*frames, topology.site_types, shells, excluded)
        for side, frames in sides.items()
    }
    angles, coordination, curves = {}, {}, {}
    bins = (np.arange(structure.ANGLE_BINS) + 0.5) * np.pi / structure.ANGLE_BINS
    numbers = np.arange(structure.MOST_NEIGHBORS + 1)
    for a in range(len(names)):
        for b in range(len(names)):
            own = {side: x.angles[:, a, b] for side, x in local.items()}
            name = f"{names[b]}-{names[a]}-{names[b]}"
            if all((x.sum(axis=1) > 0).all() for x in own.values()):
                angles[name] = divergence.compare_distributions(*own.values(), rng)
                for side, rows in own.items():
                    norm = rows.sum(axis=1, keepdims=True) * np.pi / structure.ANGLE_BINS
                    curve = bins, *mean_and_error(rows / norm)
                    curves["neighbor_angles", name, side] = np.array(curve)
            own = {side: x.coordination[:, a, b] for side, x in local.items()}
            if not all((x.sum(axis=1) > 0).all() for x in own.values()):
                continue
            name = f"{names[a]}-{names[b]}"
            if any(x[:, -1].any() for x in own.values()):
                log(f"{name}: more than {numbers[-1] - 1} neighbours within {shells[a, b]:.3g} nm: "
                    "their numbers are left out")  # fmt: skip
                continue
            coordination[name] = {
                "radius_nm": float(shells[a, b]),
                **divergence.compare_distributions(*own.values(), rng),
            }
            for side, rows in own.items():
                rows = rows / rows.sum(axis=1, keepdims=True)
                value, error = mean_and_error((rows @ numbers)[:, None])
                coordination[name] |= {side: float(value[0]), f"{side}_se": float(error[0])}
                shown = numbers <= np.flatnonzero(rows.sum(axis=0)).max()
                curve = np.array([numbers, *mean_and_error(rows)])
                curves["coordination", name, side] = curve[:, shown]
    return {"neighbor_angles": angles, "coordination": coordination}, curves


def symmetries(model, sample, topology, frames, boxes, rng):
    """Largest violations over the first and the last configuration."""
    temperature = float(sample[1]["temperature"])
    found = [
        symmetry.check(model, temperature, topology, frames[k], boxes[k], rng) for k in (0, -1)
    ]
    return {name: max(getattr(x, name) for x in found) for name in symmetry.Symmetry._fields}


def compare_dynamics(reference, sample, model, seed, log, short_run=None):
    """Diffusion, speed-up and memory, see :func:`analyse`.

    The model moves freely (no thermostat) in a fixed box of its mean volume, from where the
    prediction ended.
    """
    positions, boxes, times, topology, _ = reference
    if topology.n_molecules == 1:
        log("one molecule alone: nothing acts on its centre, so there are no dynamics to compare")
        return {}, {}
    temperature = float(sample[1]["temperature"])
    numbers, curves, found = {}, {}, {}
    masses = np.bincount(topology.molecule, topology.masses)
    at_zero = _force_kernel(model, sample, topology, masses, temperature)
    runs = free_runs(model, topology, sample, at_zero["force_kernel_zero_1_ps2"], seed)
    height = runs[0].height
    lags = {"model": ([run.long for run in runs], runs[0].long_interval, height)}
    if times is None or len(times) < 20:
        log("the reference has no times or less than 20 frames: no dynamics to compare with")
    else:
        try:
            centres = dynamics.centres(positions, topology, boxes)
            parts, interval = dynamics.pieces(centres, boxes, times)
            numbers["frames_ps"] = {"reference": interval, "needed": FINE}
            lags["reference"] = (parts, interval, float(heights(many(boxes)).min()))
        except InputError as error:
            log(f"no dynamics of the reference: {error}")
    for side, (parts, interval, box) in lags.items():
        msd = sum(dynamics.mean_squared_displacement(part) for part in parts) / len(parts)
        groups, t = dynamics.groups_of(msd), interval * np.arange(len(msd))
        shown = t <= 2.0 * dynamics.FIT_TO * t[-1]
        curves["msd", "centres", side] = np.array([t, *mean_and_error(groups)])[:, shown]
        try:
            found[side] = dynamics.diffusion(t, groups, box)
        except InputError as error:
            log(f"no diffusion coefficient of the {side}: {error}")
    numbers["diffusion_nm2_ps"] = {
        key: value for side, d in found.items() for key, value in
        ((side, d.value), (f"{side}_se", d.se))
    }  # fmt: skip
    if {"reference", "model"} <= found.keys() and found["reference"].value > 0.0:
        value, error = dynamics.speed_up(found["model"], found["reference"])
        numbers["speed_up"] = {"value": value, "se": error}
        if lags["reference"][1] > FINE and not short_run:
            log(
                f"frames of the reference are {lags['reference'][1]:g} ps apart: its velocity"
                f" autocorrelation and memory kernel need {FINE:g} ps or less"
            )
    short = {"model": ([run.short for run in runs], runs[0].short_interval)}
    fine = lags.get("reference")
    if short_run:
        fine = dynamics.pieces(*(short_run[name] for name in ("centres", "box", "time")))
        used, given = sum(map(len, fine[0])), len(short_run["time"])
        if used < given:
            log(
                f"short runs: {used} of {given} frames are used, of {len(fine[0])} runs: a run "
                "shorter than half the longest is left out, and all are cut to the shortest"
            )
        numbers.setdefault("frames_ps", {"needed": FINE})["short_run"] = fine[1]
    if fine and fine[1] <= FINE and len(fine[0][0]) > 30:
        short["reference"] = fine[:2]
    elif short_run:
        log(f"frames of the short runs are {fine[1]:g} ps apart, or too few: no kernel from them")
    for side, (parts, interval) in short.items():
        try:
            entry, drawn = memory.kernel_of_trajectories(parts, interval, masses, KERNEL)
        except InputError as error:
            log(f"no memory kernel of the {side}: {error}")
            continue
        coarse = entry["kernel_zero_1_ps2"] * interval**2
        if coarse > COARSEST:
            log(
                f"frames of the {side} are {interval:g} ps apart, but its kernel begins at "
                f"{entry['kernel_zero_1_ps2']:.0f}/ps^2 and asks for "
                f"{np.sqrt(COARSEST / coarse) * interval:.2g} ps or less: it is left out"
            )
            continue
        numbers.setdefault("memory", {})[side] = entry
        curves |= {(kind, "centres", side): rows for kind, rows in drawn.items()}
    memories = numbers.setdefault("memory", {})
    memories["model"] = memories.get("model", {}) | at_zero
    if "reference" in memories and short_run and "forces" in short_run:
        T = memories["reference"].get("kinetic_temperature_K", temperature)  # of that run
        value, error = memory.mean_square_force_kernel(short_run["forces"], masses, T)
        at_zero = {"force_kernel_zero_1_ps2": value, "force_kernel_zero_1_ps2_se": error}
        memories["reference"] |= at_zero
    return numbers, curves


class _Run:
    """Unwrapped centres of one replica: coarse frames of a long run, fine ones of a short one."""

    def __init__(self, long, long_interval, short, short_interval, height):
        self.long, self.long_interval = long, long_interval
        self.short, self.short_interval = short, short_interval
        self.height = height


def free_runs(model, topology, sample, kernel_zero, seed):
    """Motion of the model without a thermostat, one run per replica of a prediction.

    Fine frames are as close as ``kernel_zero`` (1/ps^2), the curvature of the velocity
    autocorrelation, asks for.
    """
    arrays, attributes = sample
    timestep, temperature = float(attributes["timestep"]), float(attributes["temperature"])
    steps = n_free_steps(topology)
    every = steps // N_LAGS
    fine = max(1, round(np.sqrt(RESOLUTION / max(kernel_zero, 1e-6)) / timestep))
    fine = min(fine, max(1, int(0.05 / timestep)))
    most = max(1_500_000 // topology.n_sites, FEWEST_FRAMES // 2)
    n_short = min(max(SHORT_STEPS // fine, FEWEST_FRAMES), most) * fine
    at_energy, runs = _mean_site_energy(model, arrays, temperature), []
    for k in range(min(len(arrays["positions"]), 2)):
        start = Start(
            arrays["positions"][k], arrays["box"][k], arrays["velocities"][k], topology
        ).with_volume(float(arrays["volume"].mean()))
        settings = {"timestep": timestep, "seed_key": ("free", seed, k)}
        _, start = moved(model, start, temperature, SETTLING, SETTLING, 1.0, settings)
        start = _with_energy(model, start, temperature, at_energy)
        long, start = moved(model, start, temperature, steps, every, 0.0, settings)
        short, start = moved(model, start, temperature, n_short, fine, 0.0, settings)
        unwrapped = [
            dynamics.unwrapped(dynamics.centres(x, topology, box), box) for x, box in (long, short)
        ]
        height = float(heights(many(long[1])).min())
        runs.append(_Run(unwrapped[0], every * timestep, unwrapped[1], fine * timestep, height))
    return runs


def n_free_steps(topology):
    """Steps of a free run, fewer of larger boxes."""
    return int(np.clip(SITE_STEPS // topology.n_sites, FEWEST_STEPS, MOST_STEPS))


def _mean_site_energy(model, arrays, temperature):
    """Mean energy of all terms but that of the volume, kJ/mol."""
    theta = model.term_theta(temperature)
    own = [rows for term, rows in zip(model.terms, theta) if term.kind != "volume"]
    return float(arrays["site_sums"].mean(axis=(0, 1)) @ np.concatenate(own))


def _with_energy(model, start, temperature, potential):
    """Velocities scaled such that without a thermostat the mean temperature is the set one."""
    topology = start.topology
    now, _ = symmetry.energy_and_forces(
        model, temperature, topology, topology.make_whole(start.positions, start.box), start.box
    )
    kinetic = 0.5 * float(topology.masses @ (start.velocities**2).sum(axis=1))
    wanted = 1.5 * topology.n_sites * KB * temperature + potential - now
    if not 0.5 * kinetic < wanted < 2.0 * kinetic:
        return start
    return replace(start, velocities=start.velocities * np.sqrt(wanted / kinetic))


def moved(model, start, temperature, n_steps, every, friction, settings):
    """((frames, boxes), Start at the end) of constant volume."""
    replica = Replica(
        model,
        start,
        temperature,
        None,
        n_steps=n_steps,
        n_equilibration=0,
        friction=friction,
        sample_interval=every,
        keep=n_steps // every,
        **settings,
    )
    while not replica.is_done:
        replica.run_chunk()
    found = replica.result()
    end = Start(found["positions"], found["box"], found["velocities"], start.topology)
    return (found["trajectory"], found["trajectory_box"]), end


def _force_kernel(model, sample, topology, masses, temperature):
    """K(0) by the forces at the configurations that were kept, or at the last ones."""
    arrays = sample[0]
    kept = "trajectory" in arrays
    frames, boxes = (arrays[x] for x in (KEPT if kept else LAST))
    forces = np.zeros((min(len(frames), FORCE_FRAMES), topology.n_molecules, 3))
    chosen = np.linspace(0, len(frames) - 1, len(forces)).round().astype(int)
    for row, k in zip(forces, chosen):
        box = boxes[k]
        whole = topology.make_whole(frames[k], box)
        _, found = symmetry.energy_and_forces(model, temperature, topology, whole, box)
        np.add.at(row, topology.molecule, found)
    value, error = memory.mean_square_force_kernel(forces, masses, temperature)
    return {"force_kernel_zero_1_ps2": value, "force_kernel_zero_1_ps2_se": error}


def compare_scores(times, target, sample, model, interval, log):
    """VAMP-2 of basis sums' components of largest variance, at fixed volume.

    The volume follows the barostat of each side, not the dynamics of the sites: what basis sums and
    energy owe to it, to first order, is taken off first. The components are those of the reference;
    both sides are scored at one lag, the time between frames of the reference. Where the energy of
    the atoms is known, it is scored together with the components as ``with_energy``: what the sites
    alone do not tell of the slow motion.
    """
    arrays, attributes = target
    n = int(attributes["n_molecules"])
    if times is None or len(times) < 100:
        return {}
    lag = float(np.median(np.diff(times)))
    steps = round(lag / interval)
    enough = sample[0]["volume"].shape[1] >= 3 * vamp.N_FOLDS * steps
    if steps < 1 or abs(steps * interval - lag) > 0.1 * lag or not enough:
        log(
            f"no VAMP-2 scores: samples of the model, {interval:g} ps apart, do not meet a lag of"
            f" {lag:g} ps or are too few for it"
        )
        return {}
    sides = {"reference": (arrays, 1), "model": (sample[0], steps)}
    phi = {
        side: np.atleast_3d(model.basis_sums(x["site_sums"], x["volume"], n))
        for side, (x, _) in sides.items()
    }
    phi["reference"] = phi["reference"].reshape(1, len(arrays["volume"]), -1)
    before = phi["reference"].std(axis=(0, 1))
    phi = {side: at_fixed_volume(phi[side], x["volume"]) for side, (x, _) in sides.items()}
    scale = phi["reference"].std(axis=(0, 1))
    varies = (scale > 1e-9 * scale.max()) & (scale > LEFT * before)
    if not varies.any():
        log("no VAMP-2 scores: the basis sums of the reference follow its volume alone")
        return {}
    middle = phi["reference"].mean(axis=(0, 1))[varies]
    rows = (phi["reference"][0][:, varies] - middle) / scale[varies]
    leading = np.linalg.svd(rows, full_matrices=False)[2][:N_FEATURES].T
    entry = {"lag_ps": lag}
    for side, (_, steps) in sides.items():
        series = [(x[:, varies] - middle) / scale[varies] @ leading for x in phi[side]]
        value, error = vamp.cross_validated(series, steps)
        entry |= {side: value, f"{side}_se": error}
    energy = np.asarray(arrays.get("energy", ()), float)
    if len(energy) == len(rows) and np.isfinite(energy).all() and np.ptp(energy) > 0.0:
        energy = at_fixed_volume(energy[:, None], arrays["volume"])
        both = np.column_stack([rows @ leading, energy])
        value, error = vamp.cross_validated([both], 1)
        entry |= {"with_energy": value, "with_energy_se": error}
    return {"vamp2": entry}


def at_fixed_volume(values, volumes):
    """Values less their regression on the deviation of the volume from its mean.

    Parameters
    ----------
    values : ndarray, shape (..., n_values)
    volumes : ndarray, of as many samples
        nm^3; constant ones change nothing.

    Returns
    -------
    ndarray, shape of ``values``
    """
    rows = values.reshape(-1, values.shape[-1])
    return (rows - explained_by(volumes, rows - rows.mean(axis=0))).reshape(values.shape)
