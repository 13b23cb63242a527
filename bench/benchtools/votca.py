"""VOTCA as a peer: relative entropy iterations of ``csg_inverse``, LAMMPS doing the dynamics."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np

from benchtools.lammps import executable as lammps
from benchtools.rem_case import FRICTION, KNOT_SPACING, R_CUT, R_MIN, TEMPERATURE, Clock, Curve
from benchtools.timing import SINGLE_THREAD
from remcg.model import Model
from remcg.units import KB

INSTALL = "apt-get install votca (Debian 12; releases from 2026 on have no csg_inverse)"
PROGRAMS = ("csg_inverse", "csg_reupdate", "csg_stat", "csg_resample")
NAME, BEAD = "CG-CG", "Bead1"
GRID = 0.01  # nm, of the target and of the first table of a potential, as in the tutorial
N_KNOTS = 48  # from zero to two beyond the cut-off
N_LAST = 4  # knots at the cut-off that VOTCA holds at zero
TIMESTEP = 0.002  # ps
INTERVAL = 100  # steps between frames
SCALE = 0.5  # of a Newton step
TIMES = "times.txt"

SETTINGS = """\
<cg>
  <non-bonded>
    <name>{name}</name>
    <type1>{bead}</type1>
    <type2>{bead}</type2>
    <min>0</min>
    <max>{r_cut}</max>
    <step>{grid}</step>
    <re>
      <function>cbspl</function>
      <cbspl><nknots>{n_knots}</nknots></cbspl>
    </re>
    <inverse>
      <target>{name}.dist.tgt</target>
      <lammps>
        <table>pair.table</table>
        <scale>10</scale>
        <y_scale>0.2390057</y_scale>
        <table_begin>0.05</table_begin>
        <table_bins>0.002</table_bins>
      </lammps>
    </inverse>
  </non-bonded>
  <inverse>
    <kBT>{thermal}</kBT>
    <program>lammps</program>
    <lammps>
      <command>lmp</command>
      <script>run.in</script>
      <topol>start.data</topol>
      <traj>frames.dump</traj>
    </lammps>
    <filelist>run.in start.data</filelist>
    <initial_configuration>maindir</initial_configuration>
    <method>re</method>
    <scale>{scale}</scale>
    <iterations_max>{n_iterations}</iterations_max>
    <simulation><tasks>1</tasks></simulation>
  </inverse>
</cg>
"""

RUN = """\
units real
atom_style atomic
read_data start.data
velocity all create {temperature} 87287
pair_style table linear 1000
pair_coeff 1 1 pair.table VOTCA {r_cut}
timestep {timestep}
fix move all nve
fix heat all langevin {temperature} {temperature} {damping} 545454
thermo 1000
run {n_equilibration}
dump frames all atom {interval} frames.dump
run {n_steps}
"""

TIMED = """\
#!/bin/sh
begin=$(date +%s.%N)
{program} "$@"
code=$?
echo "{name} $begin $(date +%s.%N)" >> {times}
exit $code
"""


def missing():
    """Programs of VOTCA that are not on the PATH."""
    return [program for program in PROGRAMS if not shutil.which(program)]


def version():
    said = subprocess.run(["csg_reupdate", "--help"], capture_output=True, text=True).stdout
    found = re.search(r"csg_reupdate, version (\S+)", said)
    return found[1] if found else "of unknown version"


def write_inputs(folder, reference, n_steps, n_equilibration, n_iterations, grid=GRID):
    """Settings, script, start, target and first knots, as ``csg_inverse`` reads them."""
    settings = SETTINGS.format(
        name=NAME, bead=BEAD, r_cut=R_CUT, grid=grid, n_knots=N_KNOTS, scale=SCALE,
        thermal=f"{KB * TEMPERATURE:.6f}", n_iterations=n_iterations,
    )  # fmt: skip
    run = RUN.format(
        temperature=TEMPERATURE, r_cut=10.0 * R_CUT, timestep=1000.0 * TIMESTEP,
        damping=1000.0 / FRICTION, interval=INTERVAL, n_equilibration=n_equilibration,
        n_steps=n_steps,
    )  # fmt: skip
    r = grid * np.arange(round(R_CUT / grid) + 1)
    knots = KNOT_SPACING * np.arange(N_KNOTS)
    model = Model.read(reference.model_file)
    (folder / "settings.xml").write_text(settings)
    (folder / "run.in").write_text(run)
    (folder / "start.data").write_text(_data_file(reference))
    (folder / f"{NAME}.dist.tgt").write_text(_table(r, target(reference, r, grid)))
    (folder / f"{NAME}.param.init").write_text(_table(knots, first_knots(model)))


def target(reference, r, grid=GRID):
    """g(r) as VOTCA counts: N^2/2 pairs, so that its N(N-1)/2 pairs give a little less."""
    n = reference.n_sites
    return reference.distribution(r, grid) * (n - 1) / n


def first_knots(model):
    """Knot values of VOTCA's spline that have the potential of a model, kJ/mol.

    Knot i belongs to a uniform cubic B-spline around i - 1 spacings. From r_min on they span what
    the model's functions span but for the last two, which VOTCA holds at zero; below, the knots
    lie on a line, as those that VOTCA itself puts there.
    """
    term, theta = model.terms[0], model.term_theta(TEMPERATURE)[0]
    r = np.linspace(R_MIN, R_CUT, 40 * N_KNOTS, endpoint=False)
    first = round(R_MIN / KNOT_SPACING)
    free = bspline_values(r)[:, first:-N_LAST]
    found = np.linalg.lstsq(free, term.basis.values(r) @ theta, rcond=None)[0]
    core = found[0] + np.arange(-first, 0) * (found[1] - found[0])
    return np.concatenate([core, found, np.zeros(N_LAST)])


def bspline_values(r):
    """Uniform cubic B-splines at r, shape (len(r), N_KNOTS)."""
    distance = np.abs(np.asarray(r)[:, None] / KNOT_SPACING - np.arange(-1, N_KNOTS - 1))
    near = 2.0 / 3.0 - distance**2 + 0.5 * distance**3
    far = (2.0 - distance) ** 3 / 6.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


def _table(x, y):
    return "".join(f"{a:.6f} {b:.10g} i\n" for a, b in zip(x.tolist(), y.tolist()))


def _data_file(reference):
    edge = 10.0 * reference.edge
    head = [f"one-site water\n\n{reference.n_sites} atoms\n1 atom types\n"]
    head += [f"0 {edge:.8f} {x}lo {x}hi" for x in "xyz"]
    head += [f"\nMasses\n\n1 {reference.mass:.5f}\n\nAtoms\n"]
    rows = (10.0 * reference.start).tolist()
    atoms = [f"{i} 1 {x:.6f} {y:.6f} {z:.6f}" for i, (x, y, z) in enumerate(rows, 1)]
    return "\n".join([*head, *atoms]) + "\n"


def _timed_programs(folder):
    """Programs of the same names that note when they began and ended; their folder."""
    programs = folder / "timed"
    programs.mkdir()
    paths = {name: shutil.which(name) for name in ("csg_reupdate", "csg_stat")}
    for name, path in (paths | {"lmp": lammps()}).items():
        script = programs / name
        script.write_text(TIMED.format(program=path, name=name, times=folder / TIMES))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return programs


def run(folder, reference, n_steps, n_equilibration, n_iterations, seconds, grid=GRID):
    """Iterate for a number of iterations or seconds; the :class:`Curve`."""
    folder = Path(folder)
    write_inputs(folder, reference, n_steps, n_equilibration, n_iterations, grid)
    search = os.pathsep.join([str(_timed_programs(folder)), os.environ["PATH"]])
    environment = os.environ | SINGLE_THREAD | {"PATH": search}
    command = ["csg_inverse", "--options", "settings.xml", "--nocolor"]
    command += ["--wall-time", str(int(seconds))]
    with Clock() as clock:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    curve = read(folder, reference, clock, (n_steps + n_equilibration) * reference.n_sites)
    if grid != GRID:
        curve.name += f", grid {grid:g} nm"
    if done.returncode:
        said = done.stdout + done.stderr + _tail(folder / "inverse.log")
        curve.details["ended"] = _reason(said)
        if not curve.rmse:
            raise RuntimeError(f"csg_inverse failed: {said[-1500:]}")
    return curve


def _tail(path):
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""


def _reason(said):
    lines = [line.strip() for line in said.splitlines()]
    return next((line for line in lines if "Hessian" in line), lines[-1] if lines else "")


def read(folder, reference, clock, site_steps):
    """What the iterations in a folder came to."""
    curve = Curve(f"VOTCA {version()}", total_s=clock.seconds)
    times = read_times(folder / TIMES)
    for k, (_, end) in enumerate(times.get("lmp", []), 1):
        frames = folder / f"step_{k:03d}" / "frames.dump"
        positions = read_dump(frames, reference.n_sites) * reference.edge
        boxes = np.full((len(positions), 3), reference.edge)
        curve.add(clock, end, k * site_steps, reference.errors(positions, boxes))
    curve.update_s = [
        end - start for start, end in times.get("csg_reupdate", [])[1:]
    ]  # 1st: tables
    curve.details["sample_s"] = [end - start for start, end in times.get("lmp", [])]
    curve.details["rdf_s"] = [end - start for start, end in times.get("csg_stat", [])]
    return curve


def read_times(path):
    """Program to its (begin, end), seconds since 1970."""
    times = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        name, begin, end = line.split()
        times.setdefault(name, []).append((float(begin), float(end)))
    return times


def read_dump(path, n_sites):
    """Scaled positions of whole frames of ``dump atom``, (n_frames, n_sites, 3), unsorted."""
    lines = Path(path).read_text().splitlines()
    size = n_sites + 9
    n_frames = len(lines) // size
    frames = [lines[size * k + 9 : size * (k + 1)] for k in range(n_frames)]
    numbers = np.array([[line.split()[2:5] for line in frame] for frame in frames], float)
    return np.mod(numbers, 1.0)
