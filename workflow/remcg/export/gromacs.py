"""GROMACS inputs of bonded terms: tables and the topology of each kind of molecule."""

from pathlib import Path

import numpy as np

from remcg.export.bonded import groups_of, molecule_of
from remcg.export.tables import evaluate
from remcg.io import write_text

LETTERS = {"bond": "b", "angle": "a", "dihedral": "d"}
N_ROWS = {"bond": 4001, "angle": 3601, "dihedral": 3601}
TABULATED, NO_POTENTIAL = 8, 5  # function types of GROMACS
NEIGHBORS = ("1-2", "1-3", "1-4")

README = """\
# The bonded terms for GROMACS

GROMACS has not run tabulated non-bonded potentials since its version 2020: these files are for the
bonded terms alone, for use with other non-bonded interactions, or with a version before that and
the tables of `../tables`. Forces were compared with the model in GROMACS 2022.5: they agree to its
single precision.

    gmx mdrun -tableb <state>/table_b0.xvg <state>/table_a0.xvg ...

One folder of tables per state, because the potential depends on the temperature: nm or degrees,
kJ/mol, minus the slope per nm or degree. `molecules.itp` has a `[ moleculetype ]` for each kind of
molecule with more than one site; its last two columns are the number of the table and a factor of
1. Pairs that the model excludes: {exclude}.

| table | term |
|---|---|
{rows}
"""


def write_gromacs(folder, model, states, start):
    """Write ``<state>/table_b0.xvg`` and alike, ``molecules.itp`` and ``README.md``.

    Parameters
    ----------
    folder : path
    model : Model
    states : sequence with attributes id, temperature (K)
    start : Start
        With molecules of several sites.
    """
    folder, rows = Path(folder), []
    for state in states:
        for group in groups_of(model, start, state.temperature):
            for number, (term, theta) in enumerate(group.terms):
                name = f"table_{LETTERS[term.kind]}{number}.xvg"
                write_text(folder / state.id / name, _table(term, theta))
                rows.append(f"| `{name}` | {term.kind} {term.name} |")
    exclude = ", ".join(model.exclude) or "none"
    rows = "\n".join(dict.fromkeys(rows))
    write_text(folder / "README.md", README.format(exclude=exclude, rows=rows))
    write_text(folder / "molecules.itp", molecules(model, start))


def _table(term, theta):
    """Rows of x, U and -dU/dx; an angle in degrees, from 0 to 180, a dihedral from -180."""
    n_rows = N_ROWS[term.kind]
    first, last = {"bond": (0.0, 2.0 * term.basis.high)}.get(
        term.kind, (0.0 if term.kind == "angle" else -np.pi, np.pi)
    )
    x = np.linspace(first, last, n_rows)
    energy, force = evaluate(term.basis, theta, x)
    scale = 1.0 if term.kind == "bond" else np.degrees(1.0)
    lines = [f"# {term.kind} {term.name}"]
    lines += [f"{a:.10g} {b:.10e} {c:.10e}" for a, b, c in zip(x * scale, energy, force / scale)]
    return "\n".join(lines) + "\n"


def molecules(model, start):
    """``[ moleculetype ]`` of each kind of molecule with several sites, by its first one."""
    molecule, types = molecule_of(start), np.asarray(start.site_types)
    groups = groups_of(model, start, 300.0)
    kinds = {}
    for number in range(molecule.max() + 1):
        sites = np.flatnonzero(molecule == number)
        kinds.setdefault(tuple(types[sites].tolist()), sites)
    parts = [
        _moleculetype(f"CHAIN{k}", sites, groups, model, start)
        for k, sites in enumerate(sites for sites in kinds.values() if len(sites) > 1)
    ]
    return "\n".join(parts)


def _moleculetype(name, sites, groups, model, start):
    place = {site: k + 1 for k, site in enumerate(sites.tolist())}
    n_excluded = next((n for n in range(4) if set(model.exclude) == set(NEIGHBORS[:n])), 0)
    lines = ["[ moleculetype ]", "; name nrexcl", f"{name} {n_excluded}", "", "[ atoms ]"]
    lines.append("; nr type resnr residue atom cgnr charge mass")
    for site, k in place.items():
        kind = start.site_names[start.site_types[site]]
        mass = float(start.masses[site])
        lines.append(f"{k} {kind} 1 {name} {kind} {k} 0.0 {mass!r}")
    for group in groups:
        inside = np.isin(group.sites[:, 0], sites)
        if inside.any():
            lines += ["", f"[ {group.kind}s ]"]
        for number, row in zip(group.term[inside].tolist(), group.sites[inside].tolist()):
            what = NO_POTENTIAL if number < 0 else f"{TABULATED} {number} 1.0"
            lines.append(f"{' '.join(str(place[site]) for site in row)} {what}")
    if len(model.exclude) != n_excluded:
        pairs = start.topology.excluded(model.exclude)
        pairs = pairs[np.isin(pairs[:, 0], sites)].tolist()
        lines += ["", "[ exclusions ]", *(f"{place[i]} {place[j]}" for i, j in pairs)]
    return "\n".join(lines) + "\n"
