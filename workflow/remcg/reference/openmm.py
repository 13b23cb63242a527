"""Atomistic reference trajectories with OpenMM, in pieces that a killed run does not lose."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import openmm
from mdtraj.formats import TRRTrajectoryFile, XTCTrajectoryFile
from openmm import app, unit

from remcg.backmap.atoms import build_system
from remcg.errors import InputError
from remcg.io import replacing
from remcg.trajectory import LOG_COLUMNS

PIECE = 50  # frames between checkpoints
BAROSTAT_STEPS = 25
SHORT_STEP, SETTLING = 0.001, 0.2  # ps, of short runs


def simulate(
    topology,
    force_field,
    temperature,
    pressure,
    trajectory,
    log,
    seed,
    timestep=0.002,
    equilibration=50.0,
    production=500.0,
    interval=1.0,
    log_interval=None,
    cutoff=0.9,
    friction=1.0,
    threads=1,
    progress=None,
    work=None,
):
    """Sample an atomistic system and write its frames and its log.

    Particle-mesh Ewald, rigid water, constrained bonds to hydrogen, Langevin middle integrator, and
    a Monte Carlo barostat that scales molecules as rigid bodies (so N_mol is in its Jacobian).

    Parameters
    ----------
    topology : path
        PDB with coordinates and a box, the starting configuration.
    force_field : list of str
        XML files that OpenMM's ``ForceField`` reads.
    temperature, pressure : float
        K; bar, or None for the canonical ensemble.
    trajectory, log : path
        XTC (nm, precision 1e-3) and CSV (ps, kJ/mol, nm^3, K), each renamed at the end.
    seed : int
        Seed of velocities, thermostat and barostat.
    timestep, equilibration, production, interval : float
        ps.
    log_interval : float, optional
        ps; a part of the interval between frames, or one line per frame.
    cutoff : float, optional
        nm; None for all pairs without a periodic box, as for one molecule in vacuum.
    friction : float
        1/ps.
    work : path, optional
        Folder of finished pieces, from which the run goes on.
    """
    pdb = app.PDBFile(str(topology))
    check_force_field(force_field)
    _check_box(pdb.topology, topology, cutoff, pressure)
    system = build_system(pdb.topology, force_field, cutoff)
    settings = temperature, pressure, seed, timestep, friction, threads
    run = _simulation(pdb.topology, system, *settings)
    pieces = _Pieces(work or f"{trajectory}.pieces")
    lines = interval_lines(interval, log_interval)
    try:
        if not pieces.resume(run):
            _equilibrate(run, pdb.positions, temperature, seed, round(equilibration / timestep))
            pieces.finish(run, 0)
        while (done := pieces.n_frames) < round(production / interval):
            last = min(done + PIECE, round(production / interval))
            every = round(interval / lines / timestep)
            with pieces.next() as (frames, rows):
                for frame in range(done + 1, last + 1):
                    for line in range(1, lines + 1):
                        run.step(every)
                        time = (frame - 1 + line / lines) * interval
                        rows.writerow(_observables(run.context, system, time))
                    _write_frame(frames, run.context, frame * interval, cutoff is not None)
            pieces.finish(run, last)
            if progress is not None:
                progress(last * interval)
    except openmm.OpenMMException as error:
        raise InputError(
            f"the atomistic run from {topology} failed after {pieces.n_frames} frames ({error}); "
            "a box that shrinks below twice reference.cutoff needs a start box nearer to its "
            "density or more molecules, and coordinates that are not numbers a shorter timestep"
        ) from error
    pieces.join(trajectory, log)


def simulate_short(
    topology,
    starts,
    force_field,
    temperature,
    trajectory,
    seed,
    production=4.0,
    interval=0.004,
    cutoff=0.9,
    threads=1,
    progress=None,
):
    """Motion of an atomistic system at constant energy and volume, with frames close in time.

    One run per start: a configuration in equilibrium with new velocities is a sample of the
    ensemble, and so is its energy. A moment with a thermostat mends what the file had rounded; then
    there is none.

    Parameters
    ----------
    topology : openmm.app.Topology
    starts : sequence of (ndarray, shape (n_atoms, 3), ndarray, shape (3, 3))
        Positions and reduced box vectors, nm.
    force_field, temperature, seed, cutoff, threads
        As for :func:`simulate`.
    trajectory : path
        TRR with positions and forces (those of constraints not among them), one run after another;
        times leave the moment with a thermostat out, so that a run follows a gap.
    production, interval : float
        ps, of each run.
    progress : callable, optional
        Told the ps that are done, of all runs.
    """
    check_force_field(force_field)
    for _, box in starts:
        topology.setPeriodicBoxVectors(box * unit.nanometer)
        _check_box(topology, "the reference", cutoff, None)
    system = build_system(topology, force_field, cutoff)
    every = int(np.ceil(interval / SHORT_STEP - 1e-9))
    run = _simulation(topology, system, temperature, None, seed, interval / every, 1.0, threads)
    n_frames = round(production / interval)
    with replacing(trajectory) as path, TRRTrajectoryFile(str(path), "w") as f:
        for number, start in enumerate(starts):
            try:
                _begin_short(run, *start, temperature, seed + 2 + number)
                first = number * (production + SETTLING)
                for frame in range(n_frames):
                    run.step(every)
                    step = number * n_frames + frame
                    _write_forces(f, run.context, first + frame * interval, step)
                    if progress is not None and (frame + 1) % PIECE == 0:
                        progress(number * production + (frame + 1) * interval)
            except openmm.OpenMMException as error:
                raise InputError(
                    f"short run {number + 1} of {len(starts)} of the reference failed ({error}); "
                    "coordinates that are not numbers mean that its first frame and "
                    "system.force_field do not belong together"
                ) from error


def _begin_short(run, positions, box, temperature, seed):
    """Positions with new velocities after a moment with a thermostat, which is then off."""
    run.integrator.setFriction(1.0)
    run.context.setPeriodicBoxVectors(*box)
    run.context.setPositions(positions)
    run.context.applyConstraints(run.integrator.getConstraintTolerance())
    run.context.setVelocitiesToTemperature(temperature * unit.kelvin, seed)
    run.step(round(SETTLING / SHORT_STEP))
    run.integrator.setFriction(0.0)


def _write_forces(file, context, time, step):
    """Add a frame of positions and forces to a TRR."""
    state = context.getState(getPositions=True, getForces=True)
    forces = state.getForces(asNumpy=True)
    rows = (
        state.getPositions(asNumpy=True).value_in_unit(unit.nanometer),
        state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer),
        forces.value_in_unit(unit.kilojoule_per_mole / unit.nanometer),
    )
    x, cell, forces = (np.asarray(row, np.float32)[None] for row in rows)
    times, steps = np.array([time], np.float32), np.array([step], np.int32)
    # mdtraj has no public way to forces
    file._write(x, times, steps, cell, np.zeros(1, np.float32), None, forces)


def interval_lines(interval, log_interval):
    """Lines of the log per frame."""
    lines = 1 if log_interval is None else round(interval / log_interval)
    if log_interval is not None and abs(lines * log_interval / interval - 1.0) > 1e-6:
        raise InputError(
            f"reference.log_interval: {log_interval:g} ps does not divide reference.interval "
            f"({interval:g} ps); give {interval:g} ps over a whole number"
        )
    return lines


def _check_box(topology, path, cutoff, pressure):
    edges = topology.getUnitCellDimensions()
    if edges is None:
        raise InputError(
            f"{path} has no box, which frames need even in vacuum; give it a CRYST1 record"
        )
    if cutoff is None and pressure is not None:
        raise InputError(
            "reference.cutoff: null is for molecules in vacuum, but the state has a pressure "
            f"({pressure:g} bar); give a cut-off in nm, or pressure: null"
        )
    if cutoff is not None and cutoff > 0.5 * min(edges.value_in_unit(unit.nanometer)):
        raise InputError(
            f"reference.cutoff = {cutoff:g} nm needs a box of at least {2 * cutoff:g} nm, but "
            f"{path} has edges of {edges}; shorten the cut-off or start from a larger box"
        )


def check_force_field(files):
    """OpenMM combines Lennard-Jones parameters as Lorentz and Berthelot do and in no other way.

    A force field that says otherwise of itself, in the attributes that other readers of the format
    know, would run with other mixed parameters without a word.
    """
    from xml.etree import ElementTree

    for name in files:
        if not Path(name).is_file():
            continue
        try:
            root = ElementTree.parse(name).getroot()
        except ElementTree.ParseError as error:
            raise InputError(
                f"system.force_field: {name} is not XML ({error}); reference.engine: openmm reads "
                "OpenMM's XML files, GROMACS's topologies go with engine: gromacs and "
                "reference.include"
            ) from error
        for element in [root, *root.iter("FFMetaData")]:
            rule = element.get("combining_rule") or element.get("combiningRule") or "lorentz"
            if "lorentz" not in rule.lower():
                raise _other_rule(name, rule)


def _other_rule(name, rule):
    return InputError(
        f"{name} has {rule} combining rules, but OpenMM's NonbondedForce knows Lorentz-Berthelot "
        "only (the mean of sigma), so mixed pairs would have other parameters; run it with "
        "reference.engine: gromacs, or give a force field with Lorentz-Berthelot rules"
    )


def _simulation(topology, system, temperature, pressure, seed, timestep, friction, threads):
    system.addForce(openmm.CMMotionRemover(1))
    if pressure is not None:
        barostat = openmm.MonteCarloBarostat(
            pressure * unit.bar, temperature * unit.kelvin, BAROSTAT_STEPS
        )
        barostat.setRandomNumberSeed(seed + 1)
        system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(
        temperature * unit.kelvin, friction / unit.picosecond, timestep * unit.picosecond
    )
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU")
    settings = {"Threads": str(threads), "DeterministicForces": "true"}
    return app.Simulation(topology, system, integrator, platform, settings)


def _equilibrate(simulation, positions, temperature, seed, steps):
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(temperature * unit.kelvin, seed + 2)
    simulation.step(steps)


class _Pieces:
    """Frames and log lines in files of a folder, each complete before its checkpoint."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.n_frames = 0

    def _checkpoints(self):
        return sorted(self.folder.glob("*.chk"))

    def resume(self, simulation):
        """Load the last checkpoint, if there is one."""
        found = self._checkpoints()
        if not found:
            return False
        self.n_frames = int(found[-1].stem)
        simulation.context.setPeriodicBoxVectors(*simulation.system.getDefaultPeriodicBoxVectors())
        simulation.loadCheckpoint(str(found[-1]))
        return True

    def next(self):
        return _Piece(self.folder / f"{self.n_frames:09d}")

    def finish(self, simulation, n_frames):
        """Record that ``n_frames`` are on disk; the checkpoint before is not needed any more."""
        before = self._checkpoints()
        with replacing(self.folder / f"{n_frames:09d}.chk") as path:
            simulation.saveCheckpoint(str(path))
        for path in before:
            path.unlink()
        self.n_frames = n_frames

    def join(self, trajectory, log):
        for suffix, final, header in (
            (".xtc", trajectory, b""),
            (".csv", log, ",".join(LOG_COLUMNS).encode() + b"\r\n"),
        ):
            with replacing(final) as path, open(path, "wb") as stream:
                stream.write(header)
                for piece in sorted(self.folder.glob(f"*{suffix}")):
                    stream.write(piece.read_bytes())
        shutil.rmtree(self.folder)


class _Piece:
    """Open files of one piece; one that a killed run left behind is overwritten."""

    def __init__(self, stem):
        self.stem = stem

    def __enter__(self):
        self.frames = XTCTrajectoryFile(f"{self.stem}.xtc", "w")
        self.stream = open(f"{self.stem}.csv", "w", newline="")
        return self.frames, csv.writer(self.stream)

    def __exit__(self, *exception):
        self.frames.close()
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()


def _write_frame(file, context, time, is_periodic):
    state = context.getState(getPositions=True, enforcePeriodicBox=is_periodic)
    positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    box = np.array(state.getPeriodicBoxVectors().value_in_unit(unit.nanometer))
    file.write(positions[None], time=[time], step=[round(time * 1000)], box=box[None])


def _observables(context, system, time):
    state = context.getState(getEnergy=True)
    volume = state.getPeriodicBoxVolume().value_in_unit(unit.nanometer**3)
    kinetic = state.getKineticEnergy()
    degrees = 3 * sum(system.getParticleMass(i)._value > 0 for i in range(system.getNumParticles()))
    degrees -= system.getNumConstraints() + 3  # the centre of mass does not move
    temperature = (2 * kinetic / (degrees * unit.MOLAR_GAS_CONSTANT_R)).value_in_unit(unit.kelvin)
    potential = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    return [f"{time:.3f}", f"{potential:.4f}", f"{volume:.6f}", f"{temperature:.2f}"]
