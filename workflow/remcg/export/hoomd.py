"""HOOMD-blue inputs: arrays of all tables and a script. Untested: HOOMD is not installed here."""

from io import BytesIO
from pathlib import Path

import numpy as np

from remcg.boxes import vectors
from remcg.export.bonded import groups_of, has_molecules
from remcg.export.tables import evaluate, term_of_pair
from remcg.io import replacing, write_json, write_text
from remcg.units import BAR, KB

N_PAIR, N_BONDED = 4001, 4001
FIRST_RADIUS = 0.1  # of r_min

README = """\
# The model for HOOMD-blue

**Untested**: HOOMD-blue is not installed where this was written. Before you rely on it, compare the
energy of `start.npz` with that of LAMMPS or OpenMM (`../lammps`, `../openmm`), which are checked
against the model.

    python run_hoomd.py --state {first} --steps 100000

For the API of version 4 or 5. Units: nm, amu, kJ/mol (time in ps). `<state>.npz` has U and -dU/dx
on uniform grids for `pair.Table`, `bond.Table`, `angle.Table` and `dihedral.Table`; `start.npz` a
configuration; `states.json` temperatures, pressures and ranges. Pairs that the model excludes:
{exclude}.

HOOMD does not know the volume term U_V. Where psi_2 is 0 it is a constant pressure, which
`states.json` adds to the set one (`pressure_kJ_mol_nm3`). Else the density at constant pressure is
not that of the model: `run_hoomd.py` stays at the volume of `start.npz`; use LAMMPS or OpenMM.
"""

SCRIPT = '''\
"""Run the exported coarse-grained model with HOOMD-blue (untested)."""

import argparse
import itertools
import json
from pathlib import Path

import hoomd
import numpy as np

HERE = Path(__file__).resolve().parent


def snapshot(start, info):
    result = hoomd.Snapshot()
    if result.communicator.rank == 0:
        a, b, c = start["box"]
        xy, xz, yz = b[0] / b[1], c[0] / c[2], c[1] / c[2]
        result.configuration.box = [a[0], b[1], c[2], xy, xz, yz]
        rows = start["box"]
        fractions = start["positions"] @ np.linalg.inv(rows) - 0.5
        images = np.floor(fractions + 0.5)
        result.particles.N = len(fractions)
        result.particles.types = info["site_names"]
        result.particles.position[:] = (fractions - images) @ rows
        result.particles.image[:] = images.astype(int)
        result.particles.typeid[:] = start["site_types"]
        result.particles.mass[:] = start["masses"]
        for kind in ("bond", "angle", "dihedral"):
            groups = getattr(result, kind + "s")
            groups.N = len(start[kind])
            if groups.N:
                groups.types = info["types"][kind]
                groups.typeid[:] = start[kind + "_type"]
                groups.group[:] = start[kind]
    return result


def forces(tables, info):
    neighbors = hoomd.md.nlist.Cell(buffer=0.1, exclusions=info["exclusions"])
    pair = hoomd.md.pair.Table(nlist=neighbors)
    for a, b in itertools.combinations_with_replacement(info["site_names"], 2):
        name = "-".join(sorted((a, b)))
        found = info["pairs"].get(name)
        if found is None:
            pair.params[(a, b)] = dict(r_min=0.0, U=[0.0], F=[0.0])
            pair.r_cut[(a, b)] = 0.0
        else:
            u, f = tables["pair " + name]
            pair.params[(a, b)] = dict(r_min=found["r_min"], U=u, F=f)
            pair.r_cut[(a, b)] = found["r_cut"]
    yield pair
    kinds = {"bond": hoomd.md.bond, "angle": hoomd.md.angle, "dihedral": hoomd.md.dihedral}
    for kind, module in kinds.items():
        if not info["types"][kind]:
            continue
        force = module.Table(width=info["width"])
        for name in info["types"][kind]:
            u, f = tables[kind + " " + name]
            if kind == "bond":
                force.params[name] = dict(U=u, F=f, **info["bonds"][name])
            else:
                force.params[name] = dict(U=u, tau=f)
        yield force


def main():
    info = json.loads((HERE / "states.json").read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", choices=info["states"], default=next(iter(info["states"])))
    parser.add_argument("--steps", type=int, default=50000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    state = info["states"][arguments.state]
    start, tables = np.load(HERE / "start.npz"), np.load(HERE / (arguments.state + ".npz"))
    simulation = hoomd.Simulation(device=hoomd.device.auto_select(), seed=arguments.seed)
    simulation.create_state_from_snapshot(snapshot(start, info))
    kt, everything = state["kT_kJ_mol"], hoomd.filter.All()
    if "pressure_kJ_mol_nm3" in state:
        thermostat = hoomd.md.methods.thermostats.Bussi(kT=kt)
        method = hoomd.md.methods.ConstantPressure(
            filter=everything,
            S=state["pressure_kJ_mol_nm3"],
            tauS=1000 * state["timestep_ps"],
            couple="xyz",
            thermostat=thermostat,
        )
    else:
        method = hoomd.md.methods.Langevin(filter=everything, kT=kt)
    integrator = hoomd.md.Integrator(
        dt=state["timestep_ps"], methods=[method], forces=list(forces(tables, info))
    )
    simulation.operations.integrator = integrator
    simulation.state.thermalize_particle_momenta(filter=everything, kT=kt)
    simulation.run(arguments.steps)


if __name__ == "__main__":
    main()
'''


def write_hoomd(folder, model, states, start, timestep=0.004):
    """Write ``<state>.npz``, ``start.npz``, ``states.json``, ``run_hoomd.py`` and ``README.md``.

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
    for state in states:
        _save(folder / f"{state.id}.npz", _tables(model, state, start))
    _save(folder / "start.npz", _start(model, start))
    write_json(folder / "states.json", _info(model, states, start, timestep))
    write_text(folder / "run_hoomd.py", SCRIPT)
    exclude = ", ".join(model.exclude) or "none"
    write_text(folder / "README.md", README.format(first=states[0].id, exclude=exclude))


def _tables(model, state, start):
    """U and F = -dU/dx of every term, by "pair A-B" and alike: arrays (2, n)."""
    found = {}
    for term, theta in zip(model.terms, model.term_theta(state.temperature)):
        if term.kind == "pair":  # HOOMD's grid of a pair ends one step before r_cut
            r = np.linspace(_first(term), term.basis.r_cut, N_PAIR, endpoint=False)
            found[f"pair {'-'.join(sorted(term.sites))}"] = np.array(evaluate(term.basis, theta, r))
    for group in groups_of(model, start, state.temperature):
        for term, theta in group.terms:
            x = np.linspace(*_range(term), N_BONDED)
            found[f"{term.kind} {term.name}"] = np.array(evaluate(term.basis, theta, x))
        if (group.term < 0).any():
            found["bond none"] = np.zeros((2, N_BONDED))
    return found


def _first(term):
    return FIRST_RADIUS * term.basis.r_min


def _range(term):
    if term.kind == "bond":
        return 0.0, 2.0 * term.basis.high
    return (0.0, np.pi) if term.kind == "angle" else (-np.pi, np.pi)


def _start(model, start):
    arrays = {
        "positions": np.asarray(start.positions, float),
        "box": vectors(start.box),
        "site_types": np.asarray(start.site_types),
        "masses": np.asarray(start.masses, float),
    }
    for group in groups_of(model, start, 300.0):
        arrays[group.kind] = group.sites
        arrays[f"{group.kind}_type"] = np.where(group.term < 0, len(group.terms), group.term)
    return arrays


def _info(model, states, start, timestep):
    groups = groups_of(model, start, 300.0)
    types = {g.kind: [term.name for term, _ in g.terms] for g in groups}
    bonds = {
        term.name: dict(zip(("r_min", "r_max"), _range(term)))
        for g in groups
        for term, _ in g.terms
        if term.kind == "bond"
    }
    if (groups[0].term < 0).any():
        types["bond"].append("none")
        bonds["none"] = {"r_min": 0.0, "r_max": 1e3}
    kinds = {"1-2": "bond", "1-3": "1-3", "1-4": "1-4"}
    return {
        "site_names": list(start.site_names),
        "exclusions": [kinds[k] for k in model.exclude] if has_molecules(start) else [],
        "width": N_BONDED,
        "types": types,
        "bonds": bonds,
        "pairs": _pairs(model, start),
        "states": {state.id: _state(model, state, timestep) for state in states},
    }


def _pairs(model, start):
    found, names = {}, list(start.site_names)
    for i, a in enumerate(names):
        for b in names[i:]:
            index = term_of_pair(model, a, b)
            if index is not None:
                term = model.terms[index]
                found["-".join(sorted((a, b)))] = {"r_min": _first(term), "r_cut": term.basis.r_cut}
    return found


def _state(model, state, timestep):
    psi = model.psi(state.temperature)
    content = {"kT_kJ_mol": KB * state.temperature, "timestep_ps": timestep}
    if state.pressure is not None and psi[1] == 0.0:
        content["pressure_kJ_mol_nm3"] = float(state.pressure * BAR + psi[0] / model.v0)
    return content


def _save(path, arrays):
    stream = BytesIO()
    np.savez(stream, **arrays)
    with replacing(path) as temporary:
        Path(temporary).write_bytes(stream.getvalue())
