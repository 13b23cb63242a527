"""Atomistic reference trajectories in the isothermal-isobaric ensemble, made with OpenMM."""

import csv
from pathlib import Path

import openmm
from openmm import app, unit

from remcg.backmap.sampling import build_system
from remcg.errors import InputError

PROGRESS_PS = 10.0


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
    cutoff=0.9,
    friction=1.0,
    threads=1,
    progress=None,
):
    """Sample an atomistic system and write one frame and one log line per interval.

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
    cutoff, friction : float
        nm, 1/ps.
    """
    pdb = app.PDBFile(str(topology))
    edges = pdb.topology.getUnitCellDimensions()
    if edges is None or cutoff > 0.5 * min(edges.value_in_unit(unit.nanometer)):
        raise InputError(
            f"reference.cutoff = {cutoff:g} nm needs a box of at least {2 * cutoff:g} nm, but "
            f"{topology} has {'no box' if edges is None else f'edges of {edges}'}; shorten the "
            "cut-off or start from a larger box"
        )
    system = build_system(pdb.topology, force_field, cutoff)
    system.addForce(openmm.CMMotionRemover(1))
    if pressure is not None:
        barostat = openmm.MonteCarloBarostat(pressure * unit.bar, temperature * unit.kelvin, 25)
        barostat.setRandomNumberSeed(seed + 1)
        system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(
        temperature * unit.kelvin, friction / unit.picosecond, timestep * unit.picosecond
    )
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(
        pdb.topology, system, integrator, platform, {"Threads": str(threads)}
    )
    simulation.context.setPositions(pdb.positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(temperature * unit.kelvin, seed + 2)
    steps = round(equilibration / timestep)
    simulation.step(steps)
    every = round(interval / timestep)
    partial = [Path(str(path) + ".partial") for path in (trajectory, log)]
    simulation.reporters.append(app.XTCReporter(str(partial[0]), every))
    with open(partial[1], "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["time_ps", "potential_energy_kJ_mol", "volume_nm3", "temperature_K"])
        for frame in range(1, round(production / interval) + 1):
            simulation.step(every)
            writer.writerow(_observables(simulation.context, system, frame * interval))
            stream.flush()
            if progress is not None:
                progress(frame * interval)
    simulation.reporters.clear()
    for path, final in zip(partial, (trajectory, log)):
        path.rename(final)


def _observables(context, system, time):
    state = context.getState(getEnergy=True)
    volume = state.getPeriodicBoxVolume().value_in_unit(unit.nanometer**3)
    kinetic = state.getKineticEnergy()
    degrees = 3 * sum(system.getParticleMass(i)._value > 0 for i in range(system.getNumParticles()))
    degrees -= system.getNumConstraints() + 3  # the centre of mass does not move
    temperature = (2 * kinetic / (degrees * unit.MOLAR_GAS_CONSTANT_R)).value_in_unit(unit.kelvin)
    potential = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    return [f"{time:.3f}", f"{potential:.4f}", f"{volume:.6f}", f"{temperature:.2f}"]
