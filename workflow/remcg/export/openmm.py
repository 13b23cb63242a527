"""OpenMM systems: the piecewise cubic potentials without loss, and the volume term."""

from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from remcg.boxes import vectors
from remcg.export.bonded import groups_of, has_molecules, molecule_of, piecewise
from remcg.export.tables import term_of_pair
from remcg.io import write_json, write_text

PAIR_ENERGY = (
    "step(cut(p)-r)*(c0(i)+x*(c1(i)+x*(c2(i)+x*c3(i)))+slope(p)*min(r-low(p),0));"
    "x=t-k; i=k+first(p); k=min(floor(t),last(p)); t=max(r-low(p),0)*inverse(p);"
    "p=pair(type1,type2)"
)
BONDED_ENERGY = (
    "c0(k)+u*(c1(k)+u*(c2(k)+u*c3(k)));"
    "u=t-k; k=max(0,min(floor(t),last)); t=(x-origin)*inverse; x={coordinate}"
)
COORDINATES = {
    "bond": "distance(p1,p2)",
    "angle": "angle(p1,p2,p3)",
    "dihedral": "dihedral(p1,p2,p3,p4)",
}
VOLUME_ENERGY = "n_molecules*(psi_1*x+psi_2*(x-1)^2); x=v/(n_molecules*v0)"

README = """\
# The model for OpenMM

    python run_openmm.py --state {first} --steps 100000

`<state>.xml` is a serialised `System` of {n_sites} sites, one per state because the potential
depends on the temperature. `states.json` has temperature and pressure of each state, `start.pdb` a
configuration to start from. Needs an OpenMM that has `CustomVolumeForce` (written with {version}),
nothing of remcg.

The pair potential is a `CustomNonbondedForce` with the coefficients of the piecewise cubic
polynomials, so nothing is interpolated: on the Reference platform it is the model to rounding.
{molecules}
## The volume term

    U_V = N [psi_1 v/v0 + psi_2 ((v - v0)/v0)^2],   v = V/N
    N = {n_molecules}, v0 = {v0:.8f} nm^3

is a `CustomVolumeForce` in the system: `MonteCarloBarostat` at the physical pressure sees it, and
so does the potential energy. Its parameters psi_1, psi_2, v0 and n_molecules are global
(`context.setParameter`). The system is for N molecules: export again for another number.

| state | T (K) | P (bar) | psi_1 (kJ/mol) | psi_2 (kJ/mol) |
|---|---|---|---|---|
{rows}
"""

MOLECULES = """
Each bonded term is a `CustomCompoundBondForce` with the coefficients of its piecewise polynomials.
Pairs that the model excludes ({exclude}) are exclusions. A `HarmonicBondForce` without stiffness
tells the barostat which sites are one molecule, so that it scales molecules.
"""

SCRIPT = '''\
"""Run the exported coarse-grained model with OpenMM (needs nothing else)."""

import argparse
import json
import sys
from pathlib import Path

import openmm
from openmm import app, unit

HERE = Path(__file__).resolve().parent


def states():
    """What `states.json` says of each state."""
    return json.loads((HERE / "states.json").read_text())


def simulation_of(name, platform=None, seed=1):
    """A state at its start: Langevin dynamics, with a barostat where it has a pressure."""
    state = states()[name]
    system = openmm.XmlSerializer.deserialize((HERE / (name + ".xml")).read_text())
    temperature = state["temperature_K"] * unit.kelvin
    if "pressure_bar" in state:
        # the volume term is in the system, so the barostat has the physical pressure
        barostat = openmm.MonteCarloBarostat(state["pressure_bar"] * unit.bar, temperature, 10)
        barostat.setRandomNumberSeed(seed)
        system.addForce(barostat)
    integrator = openmm.LangevinMiddleIntegrator(
        temperature,
        state["friction_per_ps"] / unit.picosecond,
        state["timestep_ps"] * unit.picosecond,
    )
    integrator.setRandomNumberSeed(seed)
    start = app.PDBFile(str(HERE / "start.pdb"))
    platform = [openmm.Platform.getPlatformByName(platform)] if platform else []
    simulation = app.Simulation(start.topology, system, integrator, *platform)
    simulation.context.setPositions(start.positions)
    simulation.context.setVelocitiesToTemperature(temperature, seed)
    return simulation


def main():
    names = list(states())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", choices=names, default=names[0])
    parser.add_argument("--steps", type=int, default=50000)
    parser.add_argument("--every", type=int, default=1000, help="steps between lines of output")
    parser.add_argument("--platform", default=None, help="CPU, CUDA, OpenCL, Reference")
    parser.add_argument("--output", default=None, help="prefix of trajectory (XTC) and log (CSV)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    simulation = simulation_of(arguments.state, arguments.platform, arguments.seed)
    columns = dict(step=True, potentialEnergy=True, temperature=True, volume=True, density=True)
    simulation.reporters.append(app.StateDataReporter(sys.stdout, arguments.every, **columns))
    if arguments.output:
        log = app.StateDataReporter(arguments.output + ".csv", arguments.every, **columns)
        simulation.reporters.append(log)
        simulation.reporters.append(app.XTCReporter(arguments.output + ".xtc", arguments.every))
    simulation.step(arguments.steps)


if __name__ == "__main__":
    main()
'''


def write_openmm(folder, model, states, start, timestep=0.004, friction=1.0):
    """Write ``<state>.xml``, ``states.json``, ``start.pdb``, ``run_openmm.py`` and ``README.md``.

    Parameters
    ----------
    folder : path
    model : Model
    states : sequence with attributes id, temperature (K), pressure (bar, or None for NVT)
    start : Start
    timestep, friction : float
        ps, 1/ps.
    """
    folder = Path(folder)
    records = {}
    for state in states:
        system = build_system(model, state.temperature, start)
        write_text(folder / f"{state.id}.xml", openmm.XmlSerializer.serialize(system))
        records[state.id] = {"temperature_K": state.temperature}
        if state.pressure is not None:
            records[state.id]["pressure_bar"] = state.pressure
        records[state.id] |= {"timestep_ps": timestep, "friction_per_ps": friction}
    write_json(folder / "states.json", records)
    write_text(folder / "start.pdb", _pdb(start))
    write_text(folder / "run_openmm.py", SCRIPT)
    write_text(folder / "README.md", _readme(model, states, start))


def build_system(model, temperature, start):
    """The ``openmm.System`` of the model at one temperature (K)."""
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*vectors(start.box))
    for mass in np.asarray(start.masses, float).tolist():
        system.addParticle(mass)
    system.addForce(_pair_force(model, temperature, start))
    for force in _bonded_forces(model, temperature, start):
        system.addForce(force)
    if model.volume_term is not None:
        system.addForce(_volume_force(model, temperature, start.n_molecules))
    return system


def _pair_force(model, temperature, start):
    """All pair terms in one force: coefficients looked up by interval and pair of types."""
    theta = model.term_theta(temperature)
    pairs = [index for index, term in enumerate(model.terms) if term.kind == "pair"]
    bases = [model.terms[index].basis for index in pairs]
    pieces = [basis.potential(theta[index]) for basis, index in zip(bases, pairs)]
    counts = [basis.n_intervals for basis in bases]
    slopes = [piece[0, 1] / basis.spacing for piece, basis in zip(pieces, bases)]
    # one more entry, with a cut-off of zero, stands for pairs of types without a term
    numbers = {
        "cut": [*(basis.r_cut for basis in bases), 0.0],
        "low": [*(basis.r_min for basis in bases), 0.0],
        "inverse": [*(1.0 / basis.spacing for basis in bases), 0.0],
        "slope": [*slopes, 0.0],
        "last": [*(count - 1 for count in counts), 0],
        "first": [*np.concatenate([[0], np.cumsum(counts)])[: len(counts)], 0],
    }
    force = openmm.CustomNonbondedForce(PAIR_ENERGY)
    for name, values in numbers.items():
        force.addTabulatedFunction(name, openmm.Discrete1DFunction([float(v) for v in values]))
    for power, column in enumerate(np.concatenate(pieces).T):
        force.addTabulatedFunction(f"c{power}", openmm.Discrete1DFunction(column.tolist()))
    names = list(start.site_names)
    table = [
        float(pairs.index(found))
        if (found := term_of_pair(model, a, b)) is not None
        else len(pairs)
        for b in names
        for a in names
    ]
    force.addTabulatedFunction("pair", openmm.Discrete2DFunction(len(names), len(names), table))
    force.addPerParticleParameter("type")
    for kind in np.asarray(start.site_types).tolist():
        force.addParticle([float(kind)])
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(max(basis.r_cut for basis in bases))
    if has_molecules(start):
        for i, j in start.topology.excluded(model.exclude).tolist():
            force.addExclusion(i, j)
    return force


def _bonded_forces(model, temperature, start):
    """One force per bonded term, and one without stiffness that tells molecules."""
    if not has_molecules(start):
        return
    molecules = openmm.HarmonicBondForce()
    for i, j in start.topology.bonds.tolist():
        molecules.addBond(i, j, 0.1, 0.0)
    molecules.setUsesPeriodicBoundaryConditions(True)
    molecules.setName("molecules")
    yield molecules
    for group in groups_of(model, start, temperature):
        for number, (term, theta) in enumerate(group.terms):
            sites = group.sites[group.term == number]
            if len(sites):
                yield _bonded_force(term, theta, sites)


def _bonded_force(term, theta, sites):
    energy = BONDED_ENERGY.format(coordinate=COORDINATES[term.kind])
    force = openmm.CustomCompoundBondForce(sites.shape[1], energy)
    origin, spacing, coefficients = piecewise(term, theta)
    for power, column in enumerate(coefficients.T):
        force.addTabulatedFunction(f"c{power}", openmm.Discrete1DFunction(column.tolist()))
    numbers = {"origin": origin, "inverse": 1.0 / spacing, "last": len(coefficients) - 1}
    for name in numbers:
        force.addPerBondParameter(name)
    for group in sites.tolist():
        force.addBond(group, [float(value) for value in numbers.values()])
    force.setUsesPeriodicBoundaryConditions(True)
    force.setName(f"{term.kind} {term.name}")
    return force


def _volume_force(model, temperature, n_molecules):
    force = openmm.CustomVolumeForce(VOLUME_ENERGY)
    psi = model.psi(temperature)
    for name, value in zip(("n_molecules", "v0", "psi_1", "psi_2"), (n_molecules, model.v0, *psi)):
        force.addGlobalParameter(name, float(value))
    return force


def _pdb(start):
    """Start configuration as a PDB file, one chain per molecule of several sites.

    Each site is a residue: two of one name in a residue would be read as one in two places.
    """
    from io import StringIO

    topology = app.Topology()
    chains, atoms = {}, []
    for kind, molecule in zip(np.asarray(start.site_types).tolist(), molecule_of(start).tolist()):
        name, place = start.site_names[kind], molecule if has_molecules(start) else 0
        if place not in chains:
            chains[place] = topology.addChain()
        residue = topology.addResidue("MOL" if has_molecules(start) else name, chains[place])
        atoms.append(topology.addAtom(name, None, residue))
    for i, j in start.topology.bonds.tolist() if has_molecules(start) else ():
        topology.addBond(atoms[i], atoms[j])
    rows = vectors(start.box)
    topology.setPeriodicBoxVectors(rows * unit.nanometer)
    stream = StringIO()
    positions = _placed(start, rows) * unit.nanometer
    app.PDBFile.writeFile(topology, positions, stream)
    lines = stream.getvalue().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("REMARK"))  # it has the date


def _placed(start, rows):
    """Positions in the box, where molecules have one site; whole molecules as they are."""
    positions = np.asarray(start.positions, float)
    if has_molecules(start):
        return start.topology.make_whole(positions, start.box)
    if np.ndim(start.box) == 1:
        return np.mod(positions, np.asarray(start.box, float))
    return np.mod(positions @ np.linalg.inv(rows), 1.0) @ rows


def _readme(model, states, start):
    rows = []
    for state in states:
        psi = model.psi(state.temperature)
        pressure = "NVT" if state.pressure is None else f"{state.pressure:g}"
        rows.append(
            f"| {state.id} | {state.temperature:g} | {pressure} | {psi[0]:.6f} | {psi[1]:.6f} |"
        )
    return README.format(
        first=states[0].id,
        n_sites=len(start.positions),
        version=openmm.version.version,
        molecules=MOLECULES.format(exclude=", ".join(model.exclude) or "none")
        if has_molecules(start)
        else "",
        n_molecules=start.n_molecules,
        v0=model.v0,
        rows="\n".join(rows),
    )
