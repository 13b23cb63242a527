"""What every export shares: the states, a start configuration, U(r) and F(r)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from remcg.io import write_text

N_ROWS = 1000


class Start(NamedTuple):
    """A configuration to start from.

    positions (n_sites, 3) nm; box (3,) nm; site_types (n_sites,) indices into site_names; masses
    (n_sites,) amu; n_molecules: objects that the barostat scales, what the volume term counts.
    """

    positions: np.ndarray
    box: np.ndarray
    site_types: np.ndarray
    site_names: tuple
    masses: np.ndarray
    n_molecules: int


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
    """Write ``<state>_<pair>.txt``: r (nm), U (kJ/mol), F (kJ/mol/nm) of every pair term.

    Parameters
    ----------
    folder : path
    model : Model
    states : sequence with attributes id, temperature (K), pressure (bar or None)
    """
    for state in states:
        for term, theta in zip(model.terms, model.term_theta(state.temperature)):
            if term.kind != "pair":
                continue
            r = np.linspace(0.5 * term.basis.r_min, term.basis.r_cut, N_ROWS)
            energy, force = evaluate(term.basis, theta, r)
            rows = [f"{a:.6f} {b:.10e} {c:.10e}" for a, b, c in zip(r, energy, force)]
            head = f"# {term.name} at {state.temperature} K: r (nm), U (kJ/mol), F (kJ/mol/nm)"
            name = f"{state.id}_{term.name}.txt"
            write_text(Path(folder) / name, "\n".join([head, *rows]) + "\n")
