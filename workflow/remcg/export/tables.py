"""What every export shares: the states, a start configuration, U(r) and F(r)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from remcg.export.bonded import grid
from remcg.io import write_text

N_ROWS = 1000


class Start(NamedTuple):
    """A configuration to start from.

    positions (n_sites, 3) nm; box (3,) or (3, 3) nm; site_types (n_sites,) indices into site_names;
    masses (n_sites,) amu; n_molecules: what the volume term counts; topology: a
    remcg.topology.Topology, or None where each site is a molecule.
    """

    positions: np.ndarray
    box: np.ndarray
    site_types: np.ndarray
    site_names: tuple
    masses: np.ndarray
    n_molecules: int
    topology: object = None


def term_of_pair(model, first, second):
    """(term, theta index) of a pair of site types, or None where the model has no such term."""
    for index, term in enumerate(model.terms):
        if term.kind == "pair" and set(term.sites) == {first, second}:
            return index
    return None


def evaluate(basis, theta, r):
    """U(r), kJ/mol, and F(r) = -dU/dr, kJ/mol/nm, both like r (nm)."""
    return basis.values(r) @ theta, -(basis.values(r, derivative=1) @ theta)


def write_tables(folder, model, states):
    """Write ``<state>_<pair>.txt``: r (nm), U (kJ/mol), F (kJ/mol/nm) of every pair term, and
    ``<state>_<kind>_<sites>.txt`` of every bonded one: x (nm or rad), U, F per nm or rad.

    Parameters
    ----------
    folder : path
    model : Model
    states : sequence with attributes id, temperature (K), pressure (bar or None)
    """
    for state in states:
        for term, theta in zip(model.terms, model.term_theta(state.temperature)):
            if term.kind == "volume":
                continue
            name, label, x = _grid_of(term)
            energy, force = evaluate(term.basis, theta, x)
            rows = [f"{a:.6f} {b:.10e} {c:.10e}" for a, b, c in zip(x, energy, force)]
            unit = "rad" if term.kind in ("angle", "dihedral") else "nm"
            head = f"# {label} at {state.temperature} K: "
            head += f"{'r' if unit == 'nm' else 'x'} ({unit}), U (kJ/mol), F (kJ/mol/{unit})"
            write_text(Path(folder) / f"{state.id}_{name}.txt", "\n".join([head, *rows]) + "\n")


def _grid_of(term):
    """Name in file names, name in words, and places of a term's table."""
    if term.kind == "pair":
        return term.name, term.name, np.linspace(0.5 * term.basis.r_min, term.basis.r_cut, N_ROWS)
    return f"{term.kind}_{term.name}", f"{term.kind} {term.name}", grid(term, N_ROWS)
