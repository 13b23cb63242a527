"""LAMMPS as a peer: the same system from tables, in each of its fast variants."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchtools.timing import SINGLE_THREAD, Timing

KCAL = 4.184  # kJ
ANGSTROM = 10.0  # per nm
N_TABLE = 2000
NEAR = 0.95
SUFFIXES = {"": [], "opt": ["-sf", "opt"], "omp": ["-sf", "omp", "-pk", "omp", "1"]}
STYLES = ("linear", "spline")
LOOP = re.compile(r"Loop time of (\S+) on 1 procs for (\d+) steps")
CPU_USE = re.compile(r"([\d.]+)% CPU use")

INPUT = """\
units real
atom_style {atom_style}
{bonded}
read_data start.data
pair_style table {{style}} {n_table}
{coefficients}
neighbor {{skin}} bin
neigh_modify every 1 delay 0 check yes
timestep {timestep}
fix move all nve
fix heat all langevin {temperature} {temperature} {damping} 4921
thermo_style custom step pe
thermo 0
run {{warm_up}}
run {{steps}}
"""


class Variant(NamedTuple):
    """How a table is looked up, the accelerated styles (or none), the skin in nm."""

    style: str
    suffix: str
    skin: float

    def __str__(self):
        kind = f"-sf {self.suffix}" if self.suffix else "plain"
        return f"table {self.style}, {kind}, skin {self.skin:.3g} nm"


class Lammps:
    """Input files of a system in a folder."""

    def __init__(self, system, folder):
        self.folder = Path(folder)
        self.input = _input(system)
        self.n_sites = system.n_sites
        (self.folder / "start.data").write_text(_data_file(system))
        (self.folder / "tables").write_text(_tables(system))

    def measure(self, variant, steps):
        """LAMMPS' own loop time, times the CPU use that it prints beside."""
        said = self._run(variant, steps, warm_up=20 + steps // 10)
        seconds, done = LOOP.findall(said)[-1]
        wall = float(seconds)
        use = min(float(CPU_USE.findall(said)[-1]) / 100.0, 1.0)
        dangerous = re.findall(r"Dangerous builds = (\d+)", said)[-1]
        assert dangerous == "0", f"{variant} missed pairs: {dangerous} dangerous builds"
        return Timing(int(done), wall * use, wall)

    def energy(self):
        """Energy of the start, kJ/mol."""
        said = self._run(Variant("linear", "", 0.1), steps=0, warm_up=0)
        return KCAL * float(re.findall(r"Step +PotEng *\n +0 +(\S+)", said)[0])

    def _run(self, variant, steps, warm_up):
        name = f"in.{variant.style}"
        skin = ANGSTROM * variant.skin
        settings = dict(style=variant.style, skin=skin, steps=steps, warm_up=warm_up)
        (self.folder / name).write_text(self.input.format(**settings))
        command = [executable(), "-in", name, "-log", "none", "-nocite", *SUFFIXES[variant.suffix]]
        environment = os.environ | SINGLE_THREAD
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        return done.stdout


def executable():
    """``lmp`` of the environment."""
    return str(Path(sys.prefix) / "bin" / "lmp")


def version():
    said = subprocess.run([executable(), "-h"], capture_output=True, text=True).stdout
    return re.search(r"Simulator - (.+)", said)[1]


def tune(lammps, pace, our_skin):
    """Variants and their rates in short runs, the fastest first.

    All look-ups and accelerated styles are tried at our skin, the fastest at every skin, and so is
    the next one if it may overtake.
    """
    rates = {}

    def measure(variant):
        rate = max(rates.values(), default=1e6 / lammps.n_sites)
        steps = max(2 * pace.least_steps // 3, int(rate * pace.tune_seconds))
        rates[variant] = lammps.measure(variant, steps).rate

    for style in STYLES:
        for suffix in SUFFIXES:
            measure(Variant(style, suffix, our_skin))
    first, second = _fastest(rates)[:2]
    for variant in (first, second) if rates[second] > NEAR * rates[first] else (first,):
        for skin in pace.skins:
            if skin != our_skin:
                measure(variant._replace(skin=skin))
    return {variant: rates[variant] for variant in _fastest(rates)}


def _fastest(rates):
    return sorted(rates, key=rates.get, reverse=True)


def _input(system):
    topology = system.start.topology
    names = system.model.site_types
    lines = []
    for term, _ in system.terms("pair"):
        a, b = sorted(names.index(site) + 1 for site in term.sites)
        cut = float(ANGSTROM * term.basis.r_cut)
        lines.append(f"pair_coeff {a} {b} tables pair-{term.name} {cut!r}")
    bonded = ""
    if len(topology.bonds):
        assert system.model.exclude == ("1-2", "1-3"), "special_bonds below says so"
        bonded = f"bond_style table linear {N_TABLE}\nangle_style table linear {N_TABLE}\n"
        bonded += "special_bonds lj 0 0 1"
        for kind in ("bond", "angle"):
            for number, (term, _) in enumerate(system.terms(kind), 1):
                lines.append(f"{kind}_coeff {number} tables {kind}-{term.name}")
    return INPUT.format(
        atom_style="molecular" if bonded else "atomic",
        bonded=bonded,
        n_table=N_TABLE,
        coefficients="\n".join(lines),
        timestep=f"{1000.0 * system.timestep:g}",
        temperature=system.temperature,
        damping=f"{1000.0 / system.friction:g}",
    )


def _data_file(system):
    start, topology = system.start, system.start.topology
    names = system.model.site_types
    groups = {kind: _numbered_groups(system, kind) for kind in ("bond", "angle")}
    head = ["benchmark", "", f"{system.n_sites} atoms", f"{len(names)} atom types"]
    for kind, rows in groups.items():
        if rows:
            head += [f"{len(rows)} {kind}s", f"{len(system.terms(kind))} {kind} types"]
    box = ANGSTROM * start.box
    head += [f"0 {edge!r} {x}lo {x}hi" for edge, x in zip(box.tolist(), "xyz")]
    types = topology.site_types
    masses = [f"{n + 1} {topology.masses[types == n][0]}" for n in range(len(names))]
    positions = np.mod(ANGSTROM * start.positions, box).tolist()
    velocities = (ANGSTROM / 1000.0 * start.velocities).tolist()
    molecule = [f"{m + 1} " if groups["bond"] else "" for m in topology.molecule.tolist()]
    atoms = [
        f"{i + 1} {m}{kind + 1} {x[0]!r} {x[1]!r} {x[2]!r}"
        for i, (m, kind, x) in enumerate(zip(molecule, types.tolist(), positions))
    ]
    moves = [f"{i + 1} {v[0]!r} {v[1]!r} {v[2]!r}" for i, v in enumerate(velocities)]
    sections = {"Masses": masses, "Atoms": atoms, "Velocities": moves}
    sections |= {f"{kind.title()}s": rows for kind, rows in groups.items() if rows}
    body = [f"\n{title}\n\n" + "\n".join(rows) for title, rows in sections.items()]
    return "\n".join([*head, *body]) + "\n"


def _numbered_groups(system, kind):
    rows = []
    for number, (term, _) in enumerate(system.terms(kind), 1):
        for group in system.groups(term).tolist():
            rows.append(f"{len(rows) + 1} {number} {' '.join(str(i + 1) for i in group)}")
    return rows


def _tables(system):
    """All tables in one file: pairs in r from the linear core, bonds in r, angles in degrees."""
    sections = []
    for term, theta in system.terms("pair"):
        basis = term.basis
        x = np.linspace(0.3 * basis.r_min, basis.r_cut, N_TABLE)
        ends = f"R {ANGSTROM * x[0]:.12g} {ANGSTROM * x[-1]:.12g}"
        sections.append(_section(f"pair-{term.name}", ends, x, ANGSTROM, basis, theta))
    for term, theta in system.terms("bond"):
        x = np.linspace(0.0, 2.0 * term.basis.high, N_TABLE)
        sections.append(_section(f"bond-{term.name}", "", x, ANGSTROM, term.basis, theta))
    for term, theta in system.terms("angle"):
        x = np.linspace(0.0, np.pi, N_TABLE)
        sections.append(_section(f"angle-{term.name}", "", x, 180.0 / np.pi, term.basis, theta))
    return "\n".join(sections)


def _section(name, ends, x, unit, basis, theta):
    """A table of energy and force in kcal/mol; ``unit``: LAMMPS' units of x per ours."""
    energy = basis.values(x) @ theta / KCAL
    force = -(basis.values(x, derivative=1) @ theta) / KCAL / unit
    rows = zip(range(1, len(x) + 1), (unit * x).tolist(), energy.tolist(), force.tolist())
    lines = [f"{i} {a:.12g} {b:.12g} {c:.12g}" for i, a, b, c in rows]
    return "\n".join([name, f"N {len(x)} {ends}", "", *lines]) + "\n"
