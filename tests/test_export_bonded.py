"""Exported molecules: LAMMPS and OpenMM have the energies and forces of the engine."""

import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import openmm
import pytest
from mdtraj.formats import TRRTrajectoryFile

from naive import short_steps
from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.engine.replica import Start as EngineStart
from remcg.export import Start, write_all, write_lammps, write_openmm, write_tables
from remcg.export.openmm import build_system
from remcg.forms import AngleCosines, DihedralCosines, HarmonicBasis
from remcg.io import read_json
from remcg.model import AngleTerm, BondTerm, DihedralTerm, Model, PairTerm, VolumeTerm
from remcg.topology import Topology
from remcg.units import BAR
from test_export import lammps_forces, openmm_forces, openmm_script, run_lammps
from test_kernels import evaluate

STATES = [
    SimpleNamespace(id="T280", temperature=280.0, pressure=1.0),
    SimpleNamespace(id="T340", temperature=340.0, pressure=None),
]
BOXES = {
    "brick": np.array([3.0, 3.1, 3.2]),
    "skew": np.array([[3.0, 0.0, 0.0], [0.7, 3.1, 0.0], [-0.9, 0.5, 3.2]]),
}
EXCLUSIONS = [(), ("1-2",), ("1-2", "1-3"), ("1-2", "1-3", "1-4")]


def fitted(basis, function):
    x = np.linspace(basis.low, basis.high, 400)
    return np.linalg.lstsq(basis.values(x), function(x), rcond=None)[0]


def a_model(exclude=("1-2", "1-3"), forms=False):
    """Tetramers A-B-B-A: every pair, bonds A-B (and none B-B), angles, a chiral dihedral."""
    pair = SplineBasis(0.1, 0.8, 24)
    core = fitted(
        pair, lambda r: 20.0 * np.exp(-(r - 0.3) / 0.04) - np.exp(-(((r - 0.45) / 0.1) ** 2))
    )
    bond = HarmonicBasis(0.2, 0.4) if forms else BondBasis(0.2, 0.4, 12)
    angle = AngleCosines(4) if forms else AngleBasis(0.8, 12)
    dihedral = DihedralCosines(6) if forms else PeriodicBasis(16)
    stretch = fitted(bond, lambda r: 2000.0 * (r - 0.3) ** 2)
    bend = fitted(angle, lambda x: 20.0 * (np.cos(x) + 0.5) ** 2)
    twist = fitted(dihedral, lambda x: 3.0 * np.cos(3 * x) + 2.0 * np.sin(x) + np.cos(x))
    terms = (
        PairTerm(("A", "A"), pair, 2),
        BondTerm(("A", "B"), bond, 2),
        PairTerm(("A", "B"), pair, 1),
        AngleTerm(("A", "B", "B"), angle, 1),
        DihedralTerm(("A", "B", "B", "A"), dihedral, 2),
        PairTerm(("B", "B"), pair, 1),
        VolumeTerm(1, 1),
    )
    rows = [core, stretch, 0.8 * core, bend, twist, 1.1 * core, np.array([2.0])]
    blocks = [np.array([row, 0.3 * row][: t.n_orders]) for t, row in zip(terms, rows)]
    return Model(("A", "B"), terms, 310.0, 0.1, tuple(blocks), exclude=exclude)


def configuration(box, n_molecules=60, n_single=20, seed=0):
    """Whole tetramers in random walks, and single sites A among them; none on one another."""
    rng = np.random.default_rng(seed)
    rows, placed = np.diag(box) if box.ndim == 1 else box, np.zeros((0, 3))
    while len(placed) < 4 * n_molecules + n_single:
        n = 4 if len(placed) < 4 * n_molecules else 1
        steps = rng.normal(size=(n, 3))
        steps *= rng.uniform(0.25, 0.36, (n, 1)) / np.linalg.norm(steps, axis=1, keepdims=True)
        chain = np.cumsum(steps, axis=0) + rng.random(3) @ rows
        whole = np.concatenate([placed, chain])
        closest = short_steps(whole, box)[3]
        if closest.min(initial=1.0) > 0.12:
            placed = whole
    bonds = [(4 * m + k, 4 * m + k + 1) for m in range(n_molecules) for k in range(3)]
    types = [0, 1, 1, 0] * n_molecules + [0] * n_single
    masses = np.where(np.array(types) == 0, 15.0, 14.0)
    topology = Topology.from_bonds(types, masses, bonds)
    start = Start(
        placed, box, topology.site_types, ("A", "B"), masses, topology.n_molecules, topology
    )
    return start, EngineStart(placed, box, None, topology)


def assert_same(found, energy, forces):
    assert found[0] == pytest.approx(energy, rel=1e-6)
    deviation = np.abs(found[1] - forces).max() / np.sqrt((forces**2).mean())
    print("forces", deviation)
    assert deviation <= 1e-5


def of_engine(model, temperature, start):
    """Energy and forces of pair and bonded terms; the kernels' helper knows one temperature."""
    terms = tuple(
        VolumeTerm(term.n_basis, 1)
        if term.kind == "volume"
        else type(term)(term.sites, term.basis, 1)
        for term in model.terms
    )
    thetas = tuple(theta[None] for theta in model.term_theta(temperature))
    fixed = Model(model.site_types, terms, 300.0, model.v0, thetas, exclude=model.exclude)
    found = evaluate(fixed, start)
    return found.energy, found.forces


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("forms", [False, True])
def test_lammps_has_the_energies_and_forces_of_the_engine(tmp_path, box, forms):
    starts, engines = zip(*(configuration(BOXES[box], seed=seed) for seed in range(2)))
    for exclude in EXCLUSIONS[1::2]:
        model = a_model(exclude, forms)
        write_lammps(tmp_path, model, STATES, starts[0])
        states = [STATES[k % 2] for k in range(len(starts))]
        found = lammps_forces(tmp_path, starts, states, model)
        for state, engine, item in zip(states, engines, found):
            assert_same(item, *of_engine(model, state.temperature, engine))


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("forms", [False, True])
def test_openmm_has_the_energies_and_forces_of_the_engine(tmp_path, box, forms):
    for number, exclude in enumerate(EXCLUSIONS):
        start, engine = configuration(BOXES[box], seed=number)
        model, state = a_model(exclude, forms), STATES[number % 2]
        write_openmm(tmp_path, model, STATES, start)
        system = openmm.XmlSerializer.deserialize((tmp_path / f"{state.id}.xml").read_text())
        energy, forces = of_engine(model, state.temperature, engine)
        volume = model.volume_term.basis_sums(engine.volume, start.n_molecules, model.v0)
        energy += volume @ model.psi(state.temperature)[:1]
        assert_same(openmm_forces(system, start), energy, forces)


def test_the_openmm_script_starts_molecules_of_sites_with_one_name_at_their_places(tmp_path):
    start, _ = configuration(BOXES["brick"], n_molecules=30)
    write_openmm(tmp_path, a_model(), STATES, start)
    simulation = openmm_script(tmp_path).simulation_of("T280", "Reference")
    state = simulation.context.getState(positions=True)
    whole = start.topology.make_whole(start.positions, start.box)
    found = state.getPositions(asNumpy=True)._value
    np.testing.assert_allclose(found, whole, atol=5.1e-5)  # nm; a PDB file has three decimals of A
    bonds = [(a.index, b.index) for a, b in simulation.topology.bonds()]
    assert sorted(bonds) == sorted(map(tuple, start.topology.bonds.tolist()))
    simulation.step(20)
    assert np.isfinite(simulation.context.getState(energy=True).getPotentialEnergy()._value)


def test_the_barostat_of_openmm_scales_molecules():
    start, _ = configuration(BOXES["brick"])
    system = build_system(a_model(), 280.0, start)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    assert len(context.getMolecules()) == start.n_molecules == 80


def test_lammps_runs_the_exported_input(tmp_path):
    start, _ = configuration(BOXES["brick"])
    write_lammps(tmp_path, a_model(("1-2", "1-3", "1-4")), STATES, start)
    script = (
        (tmp_path / "in.remcg")
        .read_text()
        .replace("timestep", "minimize 0 1e-2 200 2000\ntimestep")
    )
    script = script.replace("run             ${steps}", "run 20")
    log = run_lammps(tmp_path, script)
    assert "Loop time" in log
    readme = (tmp_path / "README.md").read_text()
    assert "excludes (1-2, 1-3, 1-4)" in readme


def test_plain_tables_of_bonded_terms_have_the_energy_and_its_slope(tmp_path):
    write_tables(tmp_path, a_model(), STATES)
    for name in ("bond_A-B", "angle_A-B-B", "dihedral_A-B-B-A"):
        x, energy, force = np.loadtxt(tmp_path / f"T340_{name}.txt").T
        middle = (energy[2:] - energy[:-2]) / (x[2:] - x[:-2])
        assert np.abs(middle + force[1:-1]).max() < 0.02 * np.abs(force).max()


def test_everything_is_written_and_the_scripts_are_python(tmp_path):
    start, _ = configuration(BOXES["skew"], n_molecules=4, n_single=2)
    write_all(tmp_path, a_model(), STATES, start)
    assert {path.name for path in tmp_path.iterdir()} == {
        "gromacs",
        "hoomd",
        "lammps",
        "openmm",
        "tables",
    }
    for name in ("hoomd", "openmm"):
        compile((tmp_path / name / f"run_{name}.py").read_text(), name, "exec")
    assert "Untested" in (tmp_path / "hoomd" / "README.md").read_text()


def test_every_input_that_runs_has_the_time_step_that_is_asked_for(tmp_path):
    start, _ = configuration(BOXES["brick"], n_molecules=4, n_single=2)
    write_all(tmp_path, a_model(), STATES, start, timestep=0.0025, friction=3.0)
    assert re.search(r"^timestep +2\.5$", (tmp_path / "lammps" / "in.remcg").read_text(), re.M)
    for state in read_json(tmp_path / "openmm" / "states.json").values():
        assert (state["timestep_ps"], state["friction_per_ps"]) == (0.0025, 3.0)
    for state in read_json(tmp_path / "hoomd" / "states.json")["states"].values():
        assert state["timestep_ps"] == 0.0025


def test_gromacs_tables_are_in_degrees_and_their_slopes_too(tmp_path):
    start, _ = configuration(BOXES["brick"], n_molecules=4, n_single=2)
    model = a_model()
    write_all(tmp_path, model, STATES, start)
    theta = dict(zip([(t.kind, t.name) for t in model.terms], model.term_theta(340.0)))
    for name, kind, sites, ends in (
        ("b0", "bond", "A-B", (0.0, 0.8)),
        ("a0", "angle", "A-B-B", (0.0, 180.0)),
        ("d0", "dihedral", "A-B-B-A", (-180.0, 180.0)),
    ):
        x, energy, force = np.loadtxt(tmp_path / "gromacs" / "T340" / f"table_{name}.xvg").T
        assert (x[0], x[-1]) == pytest.approx(ends)
        middle = (energy[2:] - energy[:-2]) / (x[2:] - x[:-2])
        assert np.abs(middle + force[1:-1]).max() < 0.02 * np.abs(force).max()
        term = next(t for t in model.terms if (t.kind, t.name) == (kind, sites))
        at = x[1000] if kind == "bond" else np.radians(x[1000])
        assert energy[1000] == pytest.approx(term.basis.values(at) @ theta[kind, sites])
    text = (tmp_path / "gromacs" / "molecules.itp").read_text()
    assert "CHAIN0 2\n" in text and "\n1 2 8 0 1.0\n" in text and "\n2 3 5\n" in text
    assert "\n1 2 3 4 8 0 1.0\n" in text and text.count("[ moleculetype ]") == 1


def test_hoomd_arrays_hold_every_term_and_group(tmp_path):
    start, _ = configuration(BOXES["brick"], n_molecules=4, n_single=2)
    model = a_model()
    write_all(tmp_path, model, STATES, start)
    tables, at = (np.load(tmp_path / "hoomd" / f"{name}.npz") for name in ("T280", "start"))
    info = read_json(tmp_path / "hoomd" / "states.json")
    assert set(tables) == {
        "pair A-A",
        "pair A-B",
        "pair B-B",
        "bond A-B",
        "bond none",
        "angle A-B-B",
        "dihedral A-B-B-A",
    }
    assert at["bond"].shape == (12, 2) and at["bond_type"].max() == 1
    assert at["dihedral"].shape == (4, 4)
    assert info["types"]["bond"] == ["A-B", "none"] and info["exclusions"] == ["bond", "1-3"]
    expected = BAR + model.psi(280.0)[0] / model.v0
    assert info["states"]["T280"]["pressure_kJ_mol_nm3"] == pytest.approx(expected)
    u, f = tables["pair A-A"]
    grid = info["pairs"]["A-A"]
    r = np.linspace(grid["r_min"], grid["r_cut"], len(u), endpoint=False)
    theta = model.term_theta(280.0)[0]
    np.testing.assert_allclose(u, model.terms[0].basis.values(r) @ theta, rtol=1e-9)
    np.testing.assert_allclose(f, -model.terms[0].basis.values(r, 1) @ theta, rtol=1e-9)


TOPOLOGY = """[ defaults ]
1 1 no 1.0 1.0
[ atomtypes ]
A 15.0 0.0 A 0.0 0.0
B 14.0 0.0 A 0.0 0.0
#include "molecules.itp"
[ system ]
chains
[ molecules ]
CHAIN0 {n_molecules}
"""
RUN = """integrator = md
nsteps = 0
nstfout = 1
nstenergy = 1
nstcalcenergy = 1
cutoff-scheme = Verlet
rvdw = 0.8
rcoulomb = 0.8
"""


def write_gro(path, start):
    """Coordinates with enough decimals not to be rounded."""
    lines = ["chains", str(len(start.positions))]
    for k, (kind, x) in enumerate(zip(start.site_types, start.positions)):
        name, molecule = start.site_names[kind], start.topology.molecule[k] + 1
        place = "".join(f"{value:15.9f}" for value in x)
        lines.append(f"{molecule:5d}{'CHAIN0'[:5]:<5s}{name:>5s}{k + 1:5d}{place}")
    lines.append(" ".join(f"{edge:.9f}" for edge in start.box))
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.skipif(not shutil.which("gmx"), reason="GROMACS is not installed")
@pytest.mark.parametrize("forms", [False, True])
def test_gromacs_has_the_bonded_forces_of_the_engine(tmp_path, forms):
    """To the single precision of its common builds; the tables are read with mdrun -tableb."""
    start, engine = configuration(BOXES["brick"], n_molecules=20, n_single=0, seed=5)
    model = a_model(("1-2", "1-3", "1-4"), forms)
    write_all(tmp_path, model, STATES[:1], start)
    folder = tmp_path / "gromacs"
    (folder / "topol.top").write_text(TOPOLOGY.format(n_molecules=20))
    (folder / "run.mdp").write_text(RUN)
    write_gro(folder / "conf.gro", start)
    tables = [f"T280/table_{name}.xvg" for name in ("b0", "a0", "d0")]
    for command in (
        ["grompp", "-f", "run.mdp", "-c", "conf.gro", "-p", "topol.top", "-o", "run.tpr"],
        ["mdrun", "-s", "run.tpr", "-deffnm", "run", "-nt", "1", "-tableb", *tables],
    ):
        command = ["gmx", "-quiet", "-nobackup", *command]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    with TRRTrajectoryFile(str(folder / "run.trr")) as file:
        found = file._read(1, None, get_velocities=False, get_forces=True)[-1][0]
    bonded = Model(
        model.site_types,
        model.terms,
        model.reference_temperature,
        model.v0,
        tuple(
            block * (term.kind not in ("pair", "volume"))
            for term, block in zip(model.terms, model.coefficients)
        ),
    )
    _, forces = of_engine(bonded, 280.0, engine)
    deviation = np.abs(found - forces).max() / np.sqrt((forces**2).mean())
    print("forces of GROMACS", deviation)
    assert deviation < 2e-4
