"""A replica whose steps LAMMPS does: remcg writes its input and observes the dump it leaves.

A run is a chain of segments, each one call of LAMMPS: it begins with the restart file of the last
one and leaves a dump with one frame per sample. The frames are read one at a time, and the kernels
of the own engine make the samples of them, so that memory and disk do not grow with the run.

Where segments end depends on the system and the ranks alone, so that a run that was stopped gives
the same samples. Only one that was twice at the same segment and did not get through, as at a wall
limit, goes on in shorter ones: other samples of the same ensemble.
"""

import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from remcg import export
from remcg.boxes import heights
from remcg.checkpoint import StopError, digest
from remcg.engine.dynamics import (
    HEATED,
    MAX_HEAT,
    SHRUNK,
    SKIN,
    kinetic_temperature,
)
from remcg.engine.replica import Replica
from remcg.errors import InputError, SamplingError
from remcg.export.bonded import has_molecules
from remcg.export.lammps import (
    ANGSTROM,
    ATM,
    bocs_arguments,
    data_file,
    set_pressure,
    write_potential,
)
from remcg.io import write_text
from remcg.lammps.attempt import Attempt
from remcg.lammps.dump import BYTES_PER_SITE, COLUMNS, frames
from remcg.lammps.observe import observe
from remcg.lammps.timestep import advice
from remcg.progress import last_words
from remcg.streams import derived_seed
from remcg.units import BAR, KB

SEGMENTS = 10  # of a run at least: a killed one loses no more than one
DUMP_BYTES = 2**30  # of a segment at most
SITE_STEPS = 5 * 10**8  # of a segment and rank at most: a quarter of an hour of one core
DAMPING = 100  # steps: of the Nose-Hoover thermostat
AGREEMENT = 1e-4  # kT per site, between the energies of LAMMPS and of the kernels
LOG = "log.segment"
SPEED = 0.01  # Angstrom/fs of 1 nm/ps
FINAL = "final.bin"

INPUT = """\
# step {step} of {label}
units           real
{first}
boundary        p p p
{read}
include         model.potential
neighbor        {skin!r} bin
neigh_modify    every 1 delay 0 check yes
timestep        {timestep!r}
reset_timestep  {first_step}
{ensemble}
thermo          {every}
thermo_style    custom step temp pe press vol
thermo_modify   norm no flush yes
{dump}
run             {n_steps}
print           "REMCG pe $(pe:%.15g)"
write_dump      all custom {final} {columns}
write_restart   end.restart
"""
LANGEVIN = """\
if "$(is_available(fix,gjf))" then &
  "fix remcg all gjf {heat} {damping!r} {seed}" &
else &
  "fix remcg all langevin {heat} {damping!r} {seed}" &
  "fix move all nve"
"""
HINTS = {
    "fix style 'bocs'": "the volume term of order 2 needs LAMMPS with the package BOCS: build it"
    " in, give another program in sample.lammps.command, or set the order of the term to 1",
    "inner cutoff": "two sites came closer than the table goes; shorten sample.timestep or mend the"
    " potential",
    "Unrecognized bond style": "bonded terms need LAMMPS with the package MOLECULE: build it in, or"
    " give another program in sample.lammps.command",
}


class LammpsReplica(Replica):
    """A :class:`remcg.engine.replica.Replica` with the dynamics of LAMMPS.

    NVT has the Langevin dynamics of ``fix gjf`` (older LAMMPS: ``fix langevin``) with the friction
    of the campaign; NPT Nose-Hoover chains and the barostat of Martyna, Tobias and Klein:
    ``fix npt`` at the pressure that holds the linear volume term, or ``fix bocs`` where the term
    is of order 2. Samples depend on the number of ranks within their error.

    Parameters
    ----------
    program : Program
    folder : path
        Input, log and dump; made by the first segment.
    barostat_time : float
        ps.
    ranks : int
        Of LAMMPS, for the length of segments.

    References
    ----------
    Gronbech-Jensen, Mol. Phys. 118, e1662506 (2020). Martyna, Tobias and Klein, J. Chem. Phys.
    101, 4177 (1994). Dunn and Noid, J. Chem. Phys. 143, 243148 (2015).
    """

    def __init__(
        self,
        model,
        start,
        temperature,
        pressure_bar=None,
        *,
        program,
        folder,
        barostat_time=2.0,
        ranks=1,
        **settings,
    ):
        super().__init__(model, start, temperature, pressure_bar, **settings)
        if not model.pair_terms or settings.get("barostat", "isotropic") != "isotropic":
            raise InputError(
                f"{self.label}: engine: lammps needs a pair term and barostat: isotropic; take"
                " engine: numba"
            )
        self.model, self.program, self.folder = model, program, Path(folder)
        self.pressure_bar, self.barostat_time = pressure_bar, float(barostat_time)
        self.seed_key = settings.get("seed_key", (0,))
        self.key = digest("lammps", self.key, self.barostat_time)
        self.restart_file = np.zeros(0, np.uint8)
        self.first_volume = start.volume
        self.ranks, self.most_steps = int(ranks), None
        self.attempt = Attempt(self.folder / "attempt.json")
        self.stop = False

    def run_chunk(self, until=None):
        """One segment; a stopped or failed one leaves everything as it was."""
        begin = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.step == 0 and self.conditions.is_npt:
            self._advise()
        shorter = self.attempt.shorter(self.step, self._first_step, self.folder / LOG)
        if shorter:
            self.most_steps = shorter
            print(f"{self.label}: goes on in segments of {shorter} steps: longer ones did not end")
        n_steps = self._segment()
        with self.attempt.at(self.step, n_steps):
            busy = self._run_segment(n_steps)
        self.step += n_steps
        self.seconds += busy + time.perf_counter() - begin

    def _advise(self):
        conditions = self.conditions
        settings = conditions.temperature, conditions.timestep
        if said := advice(self.model, self.topology, *settings):
            print(f"warning: {self.label}: {said}", flush=True)

    def _run_segment(self, n_steps):
        """Input, run and samples of a segment; the busy seconds of all ranks but one."""
        if not (self.folder / "model.potential").exists() or self.step == 0:
            self._write_tables()
        self._write_input(n_steps)
        begin, n_ranks = time.perf_counter(), self._run()
        busy = (time.perf_counter() - begin) * (n_ranks - 1)
        self._read(n_steps)
        self.restart_file = np.fromfile(self.folder / "end.restart", np.uint8)
        return busy

    def arrays(self):
        """Arrays of a checkpoint."""
        return super().arrays() | {"lammps.restart": self.restart_file}

    def attributes(self):
        """What a checkpoint holds besides arrays."""
        return super().attributes() | {"most_steps": self.most_steps}

    def restore(self, arrays, attributes):
        """Go on from a checkpoint."""
        self.restart_file = arrays["lammps.restart"]
        self.most_steps = attributes.get("most_steps")
        super().restore(arrays, attributes)

    def _segment(self):
        """Steps of the next segment; sampling begins with one of its own."""
        interval, n_sites = self.conditions.sample_interval, self.topology.n_sites
        frames_at_once = min(
            DUMP_BYTES // (BYTES_PER_SITE * n_sites),
            self.ranks * SITE_STEPS // (interval * n_sites),
        )
        length = interval * max(1, min(-(-self.n_samples // SEGMENTS), frames_at_once))
        if self.step < self.n_equilibration:
            n_steps = min(length, self.n_equilibration - self.step)
        else:
            rest = self.n_total - self.step
            n_steps = rest if rest < length + interval else length
        return min(n_steps, self.most_steps or n_steps)

    @property
    def _first_step(self):
        """Number that LAMMPS gives to the step it begins with: those of sampling, from 0."""
        return max(self.step - self.n_equilibration, 0)

    def _start(self):
        state, topology = self.state, self.topology
        return export.Start(
            state.positions,
            self._box(state.box),
            topology.site_types,
            self.names,
            topology.masses,
            topology.n_molecules,
            topology,
        )

    def _write_tables(self):
        temperature = SimpleNamespace(id="model", temperature=self.conditions.temperature)
        start = self._start()
        write_potential(self.folder, self.model, temperature, start, "linear")
        lines = [data_file(start, self.model), "Velocities\n"]
        for i, v in enumerate((SPEED * self.state.velocities).tolist(), start=1):
            lines.append(f"{i} {v[0]!r} {v[1]!r} {v[2]!r}")
        write_text(self.folder / "start.data", "\n".join(lines) + "\n")

    def _write_input(self, n_steps):
        conditions, is_first = self.conditions, len(self.restart_file) == 0
        is_sampling = self.step >= self.n_equilibration
        dump = f"dump remcg all custom {conditions.sample_interval} samples.bin {COLUMNS}"
        text = INPUT.format(
            step=self.step,
            label=self.label,
            first=self._style() if is_first else "",
            read="read_data       start.data" if is_first else "read_restart    start.restart",
            first_step=self._first_step,
            skin=ANGSTROM * SKIN,
            timestep=1000.0 * conditions.timestep,
            ensemble=self._ensemble(is_first),
            every=max(1, n_steps // 10),
            dump=dump if is_sampling else "",
            n_steps=n_steps,
            final=FINAL,
            columns=COLUMNS,
        )
        write_text(self.folder / "in.segment", text)
        for name in (FINAL, "samples.bin", "end.restart"):
            (self.folder / name).unlink(missing_ok=True)
        if not is_first:
            self.restart_file.tofile(self.folder / "start.restart")

    def _style(self):
        style = "molecular" if has_molecules(self._start()) else "atomic"
        return f"atom_style      {style}" + ("" if self.is_straight else "\nbox tilt large")

    def _ensemble(self, is_first):
        """Thermostat and barostat, and the volume term in the pressure that it is set to."""
        temperature, fs = self.conditions.temperature, 1000.0
        heat = f"{temperature!r} {temperature!r}"
        if not self.conditions.is_npt:
            if self.conditions.friction == 0.0:
                return "fix             remcg all nve"
            seed = 1 + derived_seed(*map(str, self.seed_key), "lammps", self.step, bits=29)
            damping = fs / self.conditions.friction
            return LANGEVIN.format(heat=heat, damping=damping, seed=seed)
        still = "velocity        all zero linear\n" if is_first else ""
        heat = f"temp {heat} {DAMPING * fs * self.conditions.timestep!r}"
        lost = KB * temperature / self.first_volume / BAR  # of the momentum that LAMMPS conserves
        if self.model.psi(temperature)[1] == 0.0:
            pressure = (set_pressure(self.model, temperature, self.pressure_bar) - lost) / ATM
            press = f"iso {pressure!r} {pressure!r} {fs * self.barostat_time!r}"
            return f"{still}fix             remcg all npt {heat} {press}"
        pressure = (self.pressure_bar - lost) / ATM
        press = f"cgiso {pressure!r} {pressure!r} {fs * self.barostat_time!r}"
        volume, count, psi = bocs_arguments(self.model, temperature, self.topology.n_molecules)
        term = " ".join(map(repr, [volume, count, len(psi), *psi.tolist()]))
        return f"{still}fix             remcg all bocs {heat} {press} analytic {term}"

    def _run(self):
        """Let LAMMPS run the segment; the number of its ranks."""
        log, threads = self.folder / LOG, self.conditions.threads
        code = self.program.run(self.folder, "in.segment", log.name, threads, self._obey)
        text = log.read_text(errors="replace")
        if code or "\nREMCG pe " not in text:
            self._obey()
            if code in (-signal.SIGTERM, 128 + signal.SIGTERM):  # SLURM asks the ranks alone
                raise StopError(f"{self.label}: LAMMPS was asked to stop after step {self.step}")
            raise self._failure(code, text, log)
        if any(int(count) for count in re.findall(r"Dangerous builds = (\d+)", text)):
            raise SamplingError(
                f"{self.label}, step {self.step}: LAMMPS made lists of neighbours too late;"
                " shorten sample.timestep"
            )
        return max([int(n) for n in re.findall(r"on (\d+) procs for", text)], default=1)

    def _obey(self):
        self.attempt.go_on(bool(self.stop))
        if self.stop:
            raise StopError(f"{self.label}: stopped at step {self.step}")

    def _failure(self, code, text, log):
        for sign, hint in HINTS.items():
            if sign in text:
                return SamplingError(f"{self.label}, step {self.step}: {hint}")
        return SamplingError(
            f"{self.label}, step {self.step}: LAMMPS ended with code {code}; its last lines"
            f" ({log}) are\n{last_words(text)}"
        )

    def _read(self, n_steps):
        """Samples of the dump, then the last configuration."""
        sums = self.samples.rdf.copy(), self.samples.levers.copy()
        try:
            if self.step >= self.n_equilibration:
                self._read_samples(n_steps)
            self._read_final(n_steps)
        except BaseException:
            self.samples.rdf[:], self.samples.levers[:] = sums
            raise
        (self.folder / "samples.bin").unlink(missing_ok=True)

    def _read_samples(self, n_steps):
        interval, first = self.conditions.sample_interval, self._first_step
        found = 0
        for frame in frames(self.folder / "samples.bin", self.topology.n_sites):
            k = frame.step // interval - 1
            if frame.step > first and k < self.n_samples:
                self._obey()
                self._observe(frame, k)
                found += 1
        due = min((first + n_steps) // interval, self.n_samples) - first // interval
        if found != due:
            raise SamplingError(
                f"{self.label}: {self.folder / 'samples.bin'} has {found} frames after step"
                f" {first}, {due} were due; the disk may be full: make room, then start again"
            )

    def _read_final(self, n_steps):
        frame = next(frames(self.folder / FINAL, self.topology.n_sites), None)
        if frame is None or frame.step != self._first_step + n_steps:
            raise SamplingError(
                f"{self.label}: LAMMPS left no configuration of step {n_steps} in"
                f" {self.folder / FINAL}; the disk may be full: make room, then start again"
            )
        energy, positions = self._observe(frame)
        said = (self.folder / LOG).read_text(errors="replace")
        theirs = export.lammps.KCAL * float(re.findall(r"\nREMCG pe (\S+)", said)[-1])
        allowed = AGREEMENT * KB * self.conditions.temperature * self.topology.n_sites
        if not abs(theirs - energy) <= allowed:
            raise SamplingError(
                f"{self.label}, step {self.step + n_steps}: the energy of LAMMPS is {theirs:.6f}"
                f" kJ/mol, that of the model {energy:.6f} kJ/mol; the files in {self.folder} or the"
                " LAMMPS that reads them do not fit; delete the folder and start again"
            )
        self.state = self.state._replace(
            positions=positions, velocities=frame.velocities, box=frame.box
        )

    def _observe(self, frame, k=None):
        """(energy without the volume term, whole positions) of a frame; it becomes sample k."""
        box, positions = frame.box, frame.positions
        if heights(box).min() < 2.0 * self.system.reach.max() * (1.0 - 1e-9):
            self.state = self.state._replace(box=box)
            raise SamplingError(f"{self.label}, step {self.step}: {self._reason(SHRUNK)}")
        heat = kinetic_temperature(frame.velocities, self.topology.masses)
        if not heat <= MAX_HEAT * self.conditions.temperature:
            raise SamplingError(f"{self.label}, step {self.step}: {self._reason(HEATED)}")
        if self.topology.n_molecules < self.topology.n_sites:
            positions = np.ascontiguousarray(self.topology.make_whole(positions, box))
        energy = observe(self, positions, frame.velocities, box, k)
        return energy, positions
