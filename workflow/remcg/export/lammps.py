"""LAMMPS inputs: tables of pair and bonded terms per state, the volume term in the barostat."""

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

from remcg.boxes import vectors
from remcg.export.bonded import grid, groups_of, has_molecules, molecule_of
from remcg.export.tables import evaluate, term_of_pair
from remcg.io import write_text
from remcg.units import BAR

KCAL = 4.184  # kJ
ANGSTROM = 10.0  # per nm
ATM = 1.01325  # bar
N_TABLE = 40_000
N_BONDED = {"bond": 20_000, "angle": 18_001, "dihedral": 7200}
FIRST_RADIUS = 0.1  # of r_min: where a table starts, in the linear core
DAMPING = (100, 1000)  # of thermostat and barostat, time steps

INPUT = """\
# remcg: run the exported model with LAMMPS
#   lmp -in in.remcg -var state {first} -var steps 100000
# states: {states}

variable        state index {first}
variable        steps index 50000

units           real
atom_style      {style}
boundary        p p p
read_data       start.data

include         ${{state}}.potential
neighbor        2.0 bin
neigh_modify    every 1 delay 0 check yes

velocity        all create ${{temperature}} 4928459 mom yes rot no dist gaussian
timestep        {timestep}
thermo          100
thermo_style    custom step temp pe press vol density
include         ${{state}}.ensemble
run             ${{steps}}
write_data      ${{state}}.final.data
"""

README = """\
# The model for LAMMPS

    lmp -in in.remcg -var state {first} -var steps 100000

`units real` (kcal/mol, Angstrom, fs, atm). One `<state>.table` per state, because the potential
depends on the temperature; `<state>.potential` loads it, `<state>.ensemble` sets the thermostat and
the barostat. The tables contain the core below r_min, where the force is constant; distances below
{fraction:g} r_min stop LAMMPS. `start.data` is one configuration of {n_sites} sites; for another
one (or another number of molecules) replace it and export again.
{molecules}
## The volume term

The model has, besides pair potentials, an energy of the volume

    U_V = N [psi_1 v/v0 + psi_2 ((v - v0)/v0)^2],   v = V/N
    N = {n_molecules}, v0 = {v0:.8f} nm^3

which adds -dU_V/dV = -(1/v0) [psi_1 + 2 psi_2 (v - v0)/v0] to the pressure. LAMMPS does not know
U_V: `pe` is the pair energy alone and LAMMPS' own pressure lacks -dU_V/dV. **A plain `fix npt` at
the physical pressure would not give the density of the model.**

{how}

| state | T (K) | P (bar) | psi_1 (kJ/mol) | psi_2 (kJ/mol) | -dU_V/dV, v0 (bar) | set to (atm) |
|---|---|---|---|---|---|---|
{rows}

LAMMPS takes the kinetic pressure from 3N - 3 degrees of freedom, which lowers the pressure by
kT/V; its k_B and energy-to-pressure factor in `units real` differ from CODATA 2018 by about 1e-6.
"""

MOLECULES = """\

`<state>.bond`, `<state>.angle` and `<state>.dihedral` are the tables of the bonded terms (angles in
degrees), `start.data` has the groups that they act on; bonds beyond the ends of their table stop
LAMMPS. `special_bonds` leaves out the pairs that the model excludes ({exclude}). LAMMPS scales
sites, not molecules: the mean volume is the same.
"""
NONE = "This model has no volume term (psi = 0): the barostat is set to the physical pressure."
OFFSET = """\
Here psi_2 = 0, so U_V is a constant pressure, and the barostat (`fix npt`) is set to
P_set = P + dU_V/dV = P + psi_1/v0 instead of P."""
BOCS = """\
Here psi_2 is not zero, so the pressure depends on the volume. `fix bocs` (package BOCS; Dunn and
Noid, J. Chem. Phys. 143, 243148 (2015)) is set to the physical pressure and adds
-(N/V_avg) [c_1 + 2 c_2 (V - V_avg)/V_avg] to the virial pressure, which is the expression above
with V_avg = N v0 (Angstrom^3) and c_i = psi_i (atm Angstrom^3); `<state>.ensemble` has the command
with the numbers. With its `thermo_modify press remcg_press`, `press` is the corrected pressure."""


def write_lammps(folder, model, states, start, timestep=0.004):
    """Write ``in.remcg``, ``start.data``, ``README.md`` and table, potential, ensemble per state.

    Parameters
    ----------
    folder : path
    model : Model
    states : sequence with attributes id, temperature (K), pressure (bar, or None for NVT)
    start : Start
    timestep : float
        ps.
    """
    folder = Path(folder)
    ids = [state.id for state in states]
    steps = 1000.0 * timestep
    style = "molecular" if has_molecules(start) else "atomic"
    if np.ndim(start.box) == 2:
        style += "\nbox             tilt large"
    text = INPUT.format(first=ids[0], states=", ".join(ids), timestep=f"{steps:g}", style=style)
    write_text(folder / "in.remcg", text)
    write_text(folder / "start.data", data_file(start, model))
    write_text(folder / "README.md", _readme(model, states, start))
    for state in states:
        write_potential(folder, model, state, start)
        write_text(folder / f"{state.id}.ensemble", _ensemble(model, state, start, steps))


def write_potential(folder, model, state, start, style="spline"):
    """Write the tables of a state (with id, temperature in K) and ``<id>.potential``, which loads
    them; ``style``: how LAMMPS interpolates pairs, spline or linear (faster)."""
    folder = Path(folder)
    table, potential = _tables(model, state, start.site_names, style)
    write_text(folder / f"{state.id}.table", table)
    for kind, content, commands in _bonded(model, state, start):
        write_text(folder / f"{state.id}.{kind}", content)
        potential += commands
    write_text(folder / f"{state.id}.potential", potential)


def data_file(start, model=None):
    """A configuration as a LAMMPS data file, ``units real``; ``atom_style molecular`` where
    molecules have several sites (bonded types are those of ``model``), else ``atomic``."""
    is_molecular = has_molecules(start)
    groups = [g for g in groups_of(model, start, 300.0) if len(g.sites)] if is_molecular else []
    lines = ["remcg", "", f"{len(start.positions)} atoms"]
    lines += [f"{len(group.sites)} {group.kind}s" for group in groups]
    lines += [f"{len(start.site_names)} atom types"]
    lines += [f"{_n_types(group)} {group.kind} types" for group in groups]
    lines += ["", *_box_lines(start.box), "", "Masses", ""]
    types = np.asarray(start.site_types)
    for index, name in enumerate(start.site_names):
        mass = float(np.asarray(start.masses)[types == index].mean()) if index in types else 1.0
        lines.append(f"{index + 1} {mass!r} # {name}")
    lines += ["", f"Atoms # {'molecular' if is_molecular else 'atomic'}", ""]
    molecules = [f"{m + 1} " if is_molecular else "" for m in molecule_of(start).tolist()]
    for index, (kind, x) in enumerate(zip(types.tolist(), _wrapped(start).tolist())):
        lines.append(f"{index + 1} {molecules[index]}{kind + 1} {x[0]!r} {x[1]!r} {x[2]!r}")
    for group in groups:
        lines += ["", f"{group.kind.capitalize()}s", ""]
        numbers = np.where(group.term < 0, len(group.terms), group.term) + 1
        for index, (number, sites) in enumerate(zip(numbers.tolist(), group.sites.tolist())):
            lines.append(f"{index + 1} {number} {' '.join(str(site + 1) for site in sites)}")
    return "\n".join(lines) + "\n"


def _n_types(group):
    """Bonds without a term are one more type."""
    return len(group.terms) + bool((group.term < 0).any())


def _box_lines(box):
    box = ANGSTROM * np.asarray(box, float)
    if box.ndim == 1:
        return [f"0 {edge!r} {axis}lo {axis}hi" for edge, axis in zip(box.tolist(), "xyz")]
    lines = [f"0 {box[d, d].item()!r} {axis}lo {axis}hi" for d, axis in enumerate("xyz")]
    tilts = [box[1, 0].item(), box[2, 0].item(), box[2, 1].item()]
    return [*lines, f"{tilts[0]!r} {tilts[1]!r} {tilts[2]!r} xy xz yz"]


def _wrapped(start):
    """Positions in the box, Angstrom."""
    positions = ANGSTROM * np.asarray(start.positions, float)
    box = ANGSTROM * np.asarray(start.box, float)
    if box.ndim == 1:
        return np.mod(positions, box)
    rows = vectors(box)
    return np.mod(positions @ np.linalg.inv(rows), 1.0) @ rows


def _bonded(model, state, start):
    """(kind, text of its table file, commands that load it) of each kind of bonded groups."""
    if not has_molecules(start):
        return
    weights = " ".join(f"{float(kind not in model.exclude):g}" for kind in ("1-2", "1-3", "1-4"))
    commands = f"special_bonds   lj/coul {weights}\n"
    for group in groups_of(model, start, state.temperature):
        if not len(group.sites):
            continue
        kind, n_rows = group.kind, N_BONDED[group.kind]
        sections = [f"# remcg, {state.id}, {state.temperature} K; units real"]
        commands += f"{kind}_style".ljust(16) + f"table spline {n_rows}\n"
        for number, (term, theta) in enumerate(group.terms, start=1):
            sections.append(_bonded_section(term, theta, n_rows))
            commands += f"{kind}_coeff".ljust(16) + f"{number} {state.id}.{kind} {term.name}\n"
        if (group.term < 0).any():
            sections.append("\nNONE\nN 2\n\n1 0.001 0 0\n2 1000 0 0\n")
            commands += f"{kind}_coeff".ljust(16) + f"{_n_types(group)} {state.id}.{kind} NONE\n"
        yield kind, "\n".join(sections), commands
        commands = ""


def _bonded_section(term, theta, n_rows):
    """A bonded term: Angstrom or degrees, kcal/mol, minus the slope in these units."""
    x = grid(term, n_rows)
    energy, force = evaluate(term.basis, theta, x)
    scale = ANGSTROM if term.kind == "bond" else np.degrees(1.0)
    x, energy, force = scale * x, energy / KCAL, force / KCAL / scale
    options = " DEGREES" if term.kind == "dihedral" else ""
    if term.kind == "angle":
        x[-1] = 180.0
    columns = zip(range(1, n_rows + 1), x, energy, force)
    rows = [f"{i} {a:.12g} {b:.12g} {c:.12g}" for i, a, b, c in columns]
    return "\n".join(["", term.name, f"N {n_rows}{options}", "", *rows]) + "\n"


def set_pressure(model, temperature, pressure):
    """Pressure (bar) for a barostat that does not know U_V: P + dU_V/dV of a term of order 1."""
    return float(pressure + model.psi(temperature)[0] / model.v0 / BAR)


def bocs_arguments(model, temperature, n_molecules):
    """V_avg (Angstrom^3), N and the coefficients (atm Angstrom^3) of ``fix bocs ... analytic``."""
    per_energy = ANGSTROM**3 / BAR / ATM
    return (
        float(n_molecules * model.v0 * ANGSTROM**3),
        int(n_molecules),
        model.psi(temperature) * per_energy,
    )


def _tables(model, state, site_names, style):
    """Text of ``<state>.table`` and ``<state>.potential``."""
    theta = model.term_theta(state.temperature)
    largest = max(term.basis.r_cut for term in model.pair_terms)
    sections = [f"# remcg, {state.id}, {state.temperature} K; units real"]
    lines = [
        f"variable        temperature equal {float(state.temperature)!r}",
        f"pair_style      table {style} {N_TABLE}",
    ]
    for i, j in combinations_with_replacement(range(len(site_names)), 2):
        name = "-".join(sorted((site_names[i], site_names[j])))
        index = term_of_pair(model, site_names[i], site_names[j])
        if index is None:
            r = np.linspace(0.01, largest, 10)
            section, cut = _section(name, r, 0 * r, 0 * r, 0.0, 0.0, "R"), largest
        else:
            section, cut = _term_section(name, model.terms[index].basis, theta[index])
        sections.append(section)
        lines.append(
            f"pair_coeff      {i + 1} {j + 1} {state.id}.table {name} {float(ANGSTROM * cut)!r}"
        )
    return "\n".join(sections), "\n".join(lines) + "\n"


def _term_section(name, basis, theta):
    """A pair term at the distances of LAMMPS' own table, uniform in r^2, so nothing is refitted."""
    first = FIRST_RADIUS * basis.r_min
    r = np.sqrt(np.linspace(first**2, basis.r_cut**2, N_TABLE))
    r[0], r[-1] = first, basis.r_cut
    energy, force = evaluate(basis, theta, r)
    last = basis.potential(theta)[-1] * np.array([0, 0, 2, 6])
    curvature = last.sum() / basis.spacing**2  # U'' at r_cut, from inside
    return _section(name, r, energy, force, 0.0, -curvature, "RSQ"), basis.r_cut


def _section(name, r, energy, force, slope_low, slope_high, spacing):
    """One section of a table file; r in nm, kJ/mol, kJ/mol/nm; slopes of F in kJ/mol/nm^2."""
    r, energy = ANGSTROM * r, energy / KCAL
    force = force / KCAL / ANGSTROM
    slopes = [slope / KCAL / ANGSTROM**2 for slope in (slope_low, slope_high)]
    ends = f"{spacing} {r[0]:.12g} {r[-1]:.12g} FPRIME {slopes[0]:.12g} {slopes[1]:.12g}"
    head = ["", name, f"N {len(r)} {ends}", ""]
    columns = zip(range(1, len(r) + 1), r, energy, force)
    return "\n".join(head + [f"{i} {a:.12g} {b:.12g} {c:.12g}" for i, a, b, c in columns]) + "\n"


def _ensemble(model, state, start, steps):
    """Thermostat and barostat, with the volume term."""
    damping = [f"{count * steps:g}" for count in DAMPING]
    heat = f"temp {float(state.temperature)!r} {float(state.temperature)!r} {damping[0]}"
    if state.pressure is None:
        return f"fix             remcg all nvt {heat}\n"
    if model.psi(state.temperature)[1] == 0.0:
        pressure = set_pressure(model, state.temperature, state.pressure) / ATM
        return f"fix             remcg all npt {heat} iso {pressure!r} {pressure!r} {damping[1]}\n"
    pressure = float(state.pressure) / ATM
    volume, count, psi = bocs_arguments(model, state.temperature, start.n_molecules)
    coefficients = " ".join(repr(value) for value in psi.tolist())
    return (
        f"fix             remcg all bocs {heat} cgiso {pressure!r} {pressure!r} {damping[1]} "
        f"analytic {volume!r} {count} {len(psi)} {coefficients}\n"
        "thermo_modify   press remcg_press\n"
    )


def _readme(model, states, start):
    psi = np.array([model.psi(state.temperature) for state in states])
    how = BOCS if psi[:, 1].any() else OFFSET if psi[:, 0].any() else NONE
    rows = []
    for state, (first, second) in zip(states, psi):
        added = -first / model.v0 / BAR
        if state.pressure is None:
            physical = setting = "NVT"
        else:
            offset = first / model.v0 / BAR if second == 0.0 else 0.0
            physical, setting = f"{state.pressure:g}", f"{(state.pressure + offset) / ATM:.3f}"
        rows.append(
            f"| {state.id} | {state.temperature:g} | {physical} | {first:.6f} | {second:.6f} "
            f"| {added:.2f} | {setting} |"
        )
    return README.format(
        first=states[0].id,
        molecules=MOLECULES.format(exclude=", ".join(model.exclude) or "none")
        if has_molecules(start)
        else "",
        fraction=FIRST_RADIUS,
        n_sites=len(start.positions),
        n_molecules=start.n_molecules,
        v0=model.v0,
        how=how,
        rows="\n".join(rows),
    )
