"""Atomistic reference trajectories with GROMACS, run by its own programs, from checkpoint files."""

import csv
import itertools
import math
import os
import re
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from openmm import app, unit

from remcg.checkpoint import signal_at_death_of_parent
from remcg.errors import InputError
from remcg.io import replacing, write_text
from remcg.reference.openmm import interval_lines
from remcg.trajectory import LOG_COLUMNS

PROGRAM = "gmx"
NVT_PART = 0.1  # of the equilibration
CHECKPOINT_MINUTES = 5
CHUNK = 100  # frames
QUANTITIES = "Potential", "Temperature", "Volume"  # in the order of an energy file
MINIMISATION = {"integrator": "steep", "nsteps": 2000, "emtol": 100, "emstep": 0.005}


def simulate(
    topology,
    include,
    temperature,
    pressure,
    trajectory,
    log,
    seed,
    work,
    timestep=0.002,
    equilibration=50.0,
    production=500.0,
    interval=1.0,
    log_interval=None,
    cutoff=1.0,
    threads=1,
    progress=None,
):
    """Sample an atomistic system and write its frames and its log.

    Steepest descent, a tenth of the equilibration at constant volume, the rest in the ensemble of
    the state, then production. Particle-mesh Ewald, dispersion correction of energy and pressure,
    constrained bonds to hydrogen, leap-frog with stochastic velocity rescaling, and stochastic cell
    rescaling: the volume fluctuates as it should.

    Parameters
    ----------
    topology : path
        PDB with coordinates and a box; each residue is a molecule whose name the force field knows.
    include : list of str
        What the GROMACS topology includes, in this order: own files, or those that GROMACS has.
    temperature, pressure : float
        K; bar, or None for the canonical ensemble.
    trajectory, log : path
        XTC (nm, precision 1e-3) and CSV (ps, kJ/mol, nm^3, K), each renamed at the end.
    seed : int
        Seed of velocities, thermostat and barostat.
    work : path
        Folder of the files of GROMACS, from which a killed run goes on.
    timestep, equilibration, production, interval, log_interval : float
        ps; without the last, one line of the log per frame.
    cutoff : float
        nm.

    References
    ----------
    Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007); Bernetti, Bussi, J. Chem. Phys.
    153, 114107 (2020).
    """
    work, lines = Path(work), interval_lines(interval, log_interval)
    volume = write_input(work, topology, include, cutoff)
    options = dynamics(temperature, timestep, cutoff, seed)
    at_pressure = {} if pressure is None else barostat(pressure)
    n_nvt = round(NVT_PART * equilibration / timestep)
    n_all = round(equilibration / timestep)
    every = round(interval / timestep)
    n_steps = round(production / interval) * every
    stages = {
        "nvt": options | {"nsteps": n_nvt},
        "relax": options | at_pressure | {"nsteps": n_all - n_nvt},
        "production": options | at_pressure | output(every, every // lines) | {"nsteps": n_steps},
    }
    stages = {name: stage for name, stage in stages.items() if stage["nsteps"]}
    stages[next(iter(stages))] |= velocities(temperature, seed)
    previous = "start"
    for name, stage in ({"minimise": forces(cutoff) | MINIMISATION} | stages).items():
        run_stage(work, name, stage, previous, threads)
        previous = name
        if progress is not None:
            progress(stage["nsteps"] * stage.get("dt", 0.0))
    _write_frames(work, trajectory, interval, round(production / interval))
    _write_log(work, log, interval / lines, round(production / interval) * lines, volume)


def forces(cutoff):
    """Options of the forces: Lennard-Jones and particle-mesh Ewald within the same cut-off."""
    return {
        "cutoff-scheme": "Verlet",
        "coulombtype": "PME",
        "rcoulomb": cutoff,
        "rvdw": cutoff,
        "DispCorr": "EnerPres",
        "constraints": "none",
    }


def dynamics(temperature, timestep, cutoff, seed):
    """Options of molecular dynamics at constant temperature."""
    return forces(cutoff) | {
        "integrator": "md",
        "dt": timestep,
        "constraints": "h-bonds",
        "continuation": "yes",
        "tcoupl": "v-rescale",
        "tc-grps": "System",
        "tau-t": 0.5,
        "ref-t": temperature,
        "ld-seed": seed,
        "comm-mode": "Linear",
        "nstlog": 0,
    }


def velocities(temperature, seed):
    """Options of a run that draws its velocities."""
    return {"continuation": "no", "gen-vel": "yes", "gen-temp": temperature, "gen-seed": seed}


def output(every, every_line):
    """Options of frames and log lines, in steps."""
    return {
        "nstxout-compressed": every,
        "nstenergy": every_line,
        "nstcalcenergy": math.gcd(every_line, 100),
    }


def barostat(pressure):
    """Options of constant pressure; the compressibility (1/bar) sets the relaxation time only."""
    return {
        "pcoupl": "C-rescale",
        "pcoupltype": "isotropic",
        "tau-p": 2.0,
        "ref-p": pressure,
        "compressibility": 1e-4,
    }


def write_input(work, topology, include, cutoff):
    """Write ``start.gro`` and ``topology.top`` into the folder; returns the volume, nm^3."""
    pdb = app.PDBFile(str(topology))
    vectors = pdb.topology.getPeriodicBoxVectors()
    if vectors is None:
        raise InputError(f"{topology} has no box; give it a CRYST1 record")
    box = np.array(vectors.value_in_unit(unit.nanometer))
    if cutoff > 0.5 * box.diagonal().min():
        raise InputError(
            f"reference.cutoff = {cutoff:g} nm needs a box of at least {2 * cutoff:g} nm, but "
            f"{topology} has edges of {', '.join(f'{edge:g}' for edge in box.diagonal())} nm; "
            "shorten the cut-off or start from a larger box"
        )
    write_text(work / "start.gro", _gro(pdb, box))
    write_text(work / "topology.top", _top(pdb.topology, include))
    return float(np.linalg.det(box))


def _gro(pdb, box):
    positions = np.array(pdb.positions.value_in_unit(unit.nanometer))
    lines = ["remcg reference", str(len(positions))]
    for i, (atom, (x, y, z)) in enumerate(zip(pdb.topology.atoms(), positions)):
        number, residue = (atom.residue.index + 1) % 100000, atom.residue.name
        lines.append(
            f"{number:5d}{residue:<5s}{atom.name:>5s}{(i + 1) % 100000:5d}{x:8.3f}{y:8.3f}{z:8.3f}"
        )
    order = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    lines.append(" ".join(f"{box[i, j]:.5f}" for i, j in order))
    return "\n".join(lines) + "\n"


def _top(topology, include):
    for bond in topology.bonds():
        if bond[0].residue != bond[1].residue:
            raise InputError(
                f"reference.engine: gromacs takes each residue for a molecule, but the topology "
                f"binds residue {bond[0].residue.name} {bond[0].residue.id} to "
                f"{bond[1].residue.name} {bond[1].residue.id}; use engine: openmm"
            )
    names = (residue.name for residue in topology.residues())
    counts = [f"{name} {len(list(group))}" for name, group in itertools.groupby(names)]
    lines = [f'#include "{name}"' for name in include]
    lines += ["[ system ]", "remcg reference", "[ molecules ]", *counts]
    return "\n".join(lines) + "\n"


def run_stage(work, name, options, previous, threads=1):
    """Run one stage from the end of another, unless it is done; go on where it was killed."""
    if (work / f"{name}.done").is_file():
        return
    if not (work / f"{name}.tpr").is_file():
        text = "".join(f"{key} = {value}\n" for key, value in options.items())
        write_text(work / f"{name}.mdp", text)
        has_velocities = options.get("continuation") == "yes" and previous != "start"
        gmx(
            work,
            *("grompp", "-f", f"{name}.mdp", "-c", f"{previous}.gro", "-p", "topology.top"),
            *("-t", f"{previous}.cpt") if has_velocities else (),
            *("-po", f"{name}.out.mdp", "-o", f"{name}.partial.tpr"),
        )
        os.replace(work / f"{name}.partial.tpr", work / f"{name}.tpr")
    gmx(
        work,
        *("mdrun", "-deffnm", name, "-cpi", f"{name}.cpt", "-cpt", str(CHECKPOINT_MINUTES)),
        *("-ntmpi", "1", "-ntomp", str(threads), "-nb", "cpu", "-pin", "off"),
    )
    _check_end(work, name, options)
    (work / f"{name}.done").touch()


def _check_end(work, name, options):
    """A run that was told to stop ends like one that is over, with fewer steps."""
    if options["integrator"] != "md":
        return
    log = (work / f"{name}.log").read_text(errors="replace")
    last = re.findall(r"^ +Step +Time *\n +(\d+) ", log, re.MULTILINE)[-1:]
    if not last or int(last[0]) < options["nsteps"]:
        raise InputError(
            f"the stage {name} of the reference stopped at step {last[0] if last else 0} of "
            f"{options['nsteps']}; run the same command again to go on from there"
        )


def gmx(work, *arguments, text=""):
    """Run a program of GROMACS in the folder; its output goes to a file there."""
    if shutil.which(PROGRAM) is None:
        raise InputError(
            f"reference.engine: gromacs needs the program {PROGRAM}, which is not on the PATH; "
            "install GROMACS 2021 or later (Debian and Ubuntu: apt-get install gromacs), or use "
            "engine: openmm with a force field in OpenMM's format, as config/hexane-trappe.yaml "
            "does for hexane"
        )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    output = work / f"{arguments[0]}.out"
    with open(output, "a") as stream:
        start = stream.tell()
        done = subprocess.run(
            [PROGRAM, "-nobackup", *arguments],
            cwd=work,
            input=text,
            text=True,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=partial(signal_at_death_of_parent, signal.SIGTERM),
        )
    if done.returncode:
        raise InputError(
            f"gmx {arguments[0]} failed: {_reason(output, start)}; its output is in {output}"
        )


def _reason(output, start):
    """What GROMACS says between its headlines and its signature; it counts errors at the end."""
    text = output.read_bytes()[start:].decode(errors="replace")
    headline = r"(?:Fatal error|ERROR \d+[^:\n]*|Error in user input|WARNING \d+[^:\n]*):?\n"
    found = [part.split("\n\n")[0] for part in re.split(headline, text)[1:]]
    words = " ".join(" ".join(found or [text[-600:]]).split())
    return words[:600].strip(" -")


def _write_frames(work, trajectory, interval, n_frames):
    """The frames after the start, as a trajectory of their own."""
    written = 0
    with (
        XTCTrajectoryFile(str(work / "production.xtc")) as source,
        replacing(trajectory) as path,
        XTCTrajectoryFile(str(path), "w") as target,
    ):
        while True:
            positions, time, step, box = source.read(CHUNK)
            if not len(positions):
                break
            later = time > 0.5 * interval
            written += int(later.sum())
            if later.any():
                target.write(positions[later], time[later], step[later], box[later])
    if written != n_frames:
        raise InputError(
            f"{work / 'production.xtc'} has {written} frames after its start, expected {n_frames}; "
            f"delete the folder {work} and run again"
        )


def _write_log(work, log, interval, n_lines, volume):
    rows = energies(work, "production")
    rows = rows[rows[:, 0] > 0.5 * interval]
    if rows.shape[1] == 3:  # at constant volume there is no volume in the energy file
        rows = np.column_stack([rows, np.full(len(rows), volume)])
    if len(rows) != n_lines:
        raise InputError(
            f"{work / 'production.edr'} has {len(rows)} lines after its start, expected {n_lines}; "
            f"delete the folder {work} and run again"
        )
    with replacing(log) as path, open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(LOG_COLUMNS)
        for time, potential, temperature, size in rows:
            writer.writerow(
                [f"{time:.3f}", f"{potential:.4f}", f"{size:.6f}", f"{temperature:.2f}"]
            )


def energies(work, name):
    """Time, potential energy, temperature and, where it varies, volume of a stage, by line."""
    gmx(
        work,
        *("energy", "-f", f"{name}.edr", "-o", f"{name}.xvg", "-xvg", "none", "-dp"),
        text="\n".join(QUANTITIES) + "\n\n",
    )
    return np.loadtxt(work / f"{name}.xvg", ndmin=2)
