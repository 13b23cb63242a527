"""What the engine samples is physics: known equations of state, LAMMPS, exact identities.

Short versions; those at full length are in test_verify.py.
"""

import io
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numba import njit
from scipy import stats
from scipy.optimize import brentq

import lammps_peer as peer
import lennard_jones as lj
from conftest import lattice_start
from remcg.basis import AngleBasis, BondBasis, PeriodicBasis, SplineBasis
from remcg.config import Sample
from remcg.engine.kernels import type_pairs
from remcg.engine.replica import Start, random_stream
from remcg.model import AngleTerm, BondTerm, DihedralTerm, Model, PairTerm, VolumeTerm
from remcg.sample import sample
from remcg.topology import Topology
from remcg.units import BAR, KB

# One-site SPC/E water at 310 K as the default campaign trained it (revision 80f16bf), kJ/mol.
WATER = """29.906 14.365 2.435 0.8 2.471 2.745 2.004 1.297 0.633 0.117 -0.338 -0.621 -0.722 -0.661
    -0.474 -0.205 0.059 0.072 -0.01 -0.052 -0.071 -0.081 -0.065 -0.048 -0.029 -0.024 -0.009 -0.013
    -0.021 -0.023 -0.017 -0.027 -0.008 -0.014"""


def water(n_side=8):
    """The model of one-site water, and a start of n_side^3 sites at its density."""
    theta = np.array(WATER.split(), float)
    term = PairTerm(("W", "W"), SplineBasis(0.24, 0.9, len(theta)), 1)
    return Model(("W",), (term,), 310.0, 1.0, (theta[None],)), lattice_start(n_side, 0.0301)


def quiet(model, start, temperature, pressure=None, **settings):
    """A run without progress lines."""
    with redirect_stdout(io.StringIO()):
        return sample(model, start, temperature, pressure, **settings)


# -- the Lennard-Jones fluid


def test_the_spline_of_lennard_jones_has_its_energy_and_force():
    r = np.linspace(0.85, 3.0, 20001)
    model = lj.model(3.0)
    basis, theta = model.pair_terms[0].basis, model.term_theta(lj.KELVIN)[0]
    energy = basis.values(r * lj.SIGMA) @ theta
    slope = basis.values(r * lj.SIGMA, 1) @ theta * lj.SIGMA
    expected = lj.shifted_slope(r, 3.0)
    assert np.abs(energy - lj.shifted(r, 3.0)).max() < 3e-6
    assert (np.abs(slope - expected) / (1.0 + np.abs(expected))).max() < 2e-5


def test_a_dilute_gas_has_the_pressure_and_energy_of_its_second_virial_coefficient():
    density, temperature = 0.001, 1.0
    settings = {"n_steps": 100000, "n_equilibration": 5000, "sample_interval": 100}
    found = lj.simulate(2.5, lj.lattice(density), temperature, friction=0.1, **settings)
    b2, slope = lj.second_virial(2.5, temperature)
    pressure = lj.estimate(found["pressure"] / lj.PRESSURE, n_blocks=25)
    assert pressure.error < 5e-4 * pressure.value
    pressure.assert_agrees(temperature * (density + b2 * density**2))
    energy = lj.estimate(found["energy"] / lj.N_SITES, n_blocks=25)
    assert energy.error < 0.05 * abs(energy.value)
    energy.assert_agrees(density * slope)


def test_the_shifted_fluid_has_the_gas_pressure_of_nist():
    point = next(p for p in lj.NIST_LFS if (p.temperature, p.density) == (1.0, 0.005))
    settings = {"n_steps": 60000, "n_equilibration": 5000, "sample_interval": 50}
    start = lj.lattice(point.density)
    found = lj.simulate(2.5, start, point.temperature, friction=0.1, **settings)
    pressure = lj.estimate(found["pressure"] / lj.PRESSURE, n_blocks=25)
    assert pressure.error < 2e-3 * point.pressure
    pressure.assert_agrees(point.pressure, point.pressure_error)


def test_the_liquid_has_the_energy_and_pressure_of_nist():
    point = next(p for p in lj.NIST if (p.temperature, p.density) == (0.85, 0.776))
    start = lj.melt(3.0, point.density, point.temperature)
    settings = {"n_steps": 12000, "n_equilibration": 3000, "sample_interval": 20, "keep": 600}
    result = lj.simulate(3.0, start, point.temperature, **settings)
    found = lj.sums(result, 3.0)
    energy, pressure, fraction = lj.full_potential(found, 3.0, point.temperature, n_blocks=40)
    assert fraction > 0.7
    assert energy.error < 0.006 and pressure.error < 0.03
    energy.assert_agrees(point.energy, point.energy_error)
    pressure.assert_agrees(point.pressure, point.pressure_error)
    np.testing.assert_allclose(result["energy"], found.lfs, rtol=1e-6)


# -- LAMMPS


@pytest.mark.parametrize("n_types", [1, 2])
def test_energy_forces_and_virial_are_those_of_lammps(n_types, tmp_path):
    """LAMMPS' harmonic/cut is a member of the spline space: only rounding is left."""
    start = lattice_start(6, 0.05, seed=n_types, jitter=0.06, n_types=n_types)
    names, lines, terms, thetas = ("A", "B")[:n_types], "pair_style harmonic/cut\n", [], []
    for k, (a, b) in enumerate(type_pairs(n_types)):
        strength, r_cut = 900.0 - 250.0 * k, 0.6 - 0.05 * k
        term, theta = peer.harmonic_term((names[a], names[b]), r_cut)
        terms.append(term)
        thetas.append(strength * theta[None])
        lines += peer.harmonic_line(a + 1, b + 1, strength, r_cut)
    model = Model(names, tuple(terms), 300.0, 1.0, tuple(thetas))
    expected = peer.evaluate(tmp_path, start, lines)
    result, forces = peer.engine(model, start)
    assert result["energy"][0] == pytest.approx(expected.energy, rel=1e-10)
    assert peer.relative(forces, expected.forces) < 1e-10
    assert peer.relative(peer.virial(result, start, 300.0), expected.virial) < 1e-10


def test_lennard_jones_forces_are_those_of_lammps_to_the_error_of_the_spline(tmp_path):
    start = lj.lattice(0.8, seed=1)
    lines = f"pair_style lj/smooth/linear {2.5 * lj.SIGMA}\npair_coeff 1 1 1.0 {lj.SIGMA}"
    expected = peer.evaluate(tmp_path, start, lines)
    result, forces = peer.engine(lj.model(2.5), start)
    assert result["energy"][0] == pytest.approx(expected.energy, rel=1e-7)
    assert peer.relative(forces, expected.forces) < 1e-4
    assert peer.relative(peer.virial(result, start, 300.0), expected.virial) < 1e-7


# -- molecules and triclinic boxes against LAMMPS

TRICLINIC = np.array([[2.2, 0.0, 0.0], [0.5, 2.3, 0.0], [-0.6, 0.4, 2.1]])
BOND, ANGLE, DIHEDRAL = (5000.0, 0.3), (120.0, 1.9), (12.0, 0.5)
ANGLES, DIHEDRALS = (1.0, 2.9), (-2.3, 2.7)  # of the chains: where the splines are harmonic


def grown(random, n_chains, n_links, box):
    """Positions of chains that grow from random points, by bond, angle and dihedral."""
    chains = []
    for _ in range(n_chains):
        chain = [random.random(3) @ box, None, None]
        axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
        chain[1] = chain[0] + 0.3 * axes[0]
        chain[2] = chain[1] + 0.3 * (0.5 * axes[0] + np.sqrt(0.75) * axes[1])
        for _ in range(n_links - 3):
            chain.append(next_site(chain, random))
        chains.append(chain)
    return np.array(chains).reshape(-1, 3)


def next_site(chain, random):
    """A site with a random bond, angle and dihedral after the last three."""
    r, angle, phi = (random.uniform(*span) for span in ((0.25, 0.35), ANGLES, DIHEDRALS))
    along = (chain[-1] - chain[-2]) / np.linalg.norm(chain[-1] - chain[-2])
    normal = np.cross(chain[-2] - chain[-3], along)
    normal /= np.linalg.norm(normal)
    side = np.cross(normal, along)
    turn = np.cos(phi) * side + np.sin(phi) * normal
    return chain[-1] + r * (-np.cos(angle) * along + np.sin(angle) * turn)


def chains(box, n_chains=12, n_links=5):
    """Chains A-B-B-B-A in a box, molecules across its faces."""
    rows = peer.box_rows(box)
    positions = grown(np.random.default_rng(5), n_chains, n_links, rows)
    bonds = np.array([(m * n_links + k, m * n_links + k + 1)
                      for m in range(n_chains) for k in range(n_links - 1)])  # fmt: skip
    ends = np.arange(n_links) % (n_links - 1) == 0
    types = np.tile(np.where(ends, 0, 1), n_chains)
    topology = Topology.from_bonds(types, np.where(types == 0, 15.0, 14.0), bonds)
    return Start(positions, box, None, topology)


def harmonic(basis, strength, middle, span):
    """Coefficients with which a basis is strength (x - middle)^2 over a span."""
    x = np.linspace(*span, 400)
    return strength * np.linalg.lstsq(basis.values(x), (x - middle) ** 2, rcond=None)[0]


def chain_model(exclude):
    """All terms of the chains, harmonic, and what they are for LAMMPS."""
    model_terms, lines = [], "pair_style harmonic/cut\n"
    for a, b, strength, r_cut in ((0, 0, 900.0, 0.6), (0, 1, 700.0, 0.55), (1, 1, 500.0, 0.5)):
        term, theta = peer.harmonic_term(("A", "B")[a] + ("A", "B")[b], r_cut)
        model_terms.append((term, strength * theta))
        lines += peer.harmonic_line(a + 1, b + 1, strength, r_cut)
    bond, angle, dihedral = BondBasis(0.2, 0.4, 12), AngleBasis(0.8, 40), PeriodicBasis(60)
    for sites, k in (("AB", 1.0), ("BB", 0.8)):
        theta = harmonic(bond, k * BOND[0], BOND[1], (0.2, 0.4))
        model_terms.append((BondTerm(tuple(sites), bond, 1), theta))
    for sites, k in (("ABB", 1.0), ("BBB", 0.8)):
        theta = harmonic(angle, k * ANGLE[0], ANGLE[1], (0.8, 3.0))
        model_terms.append((AngleTerm(tuple(sites), angle, 1), theta))
    theta = harmonic(dihedral, *DIHEDRAL, (-2.5, 2.8))
    model_terms.append((DihedralTerm(tuple("ABBB"), dihedral, 1), theta))
    terms, thetas = zip(*model_terms)
    model = Model(("A", "B"), terms, 300.0, 1.0, tuple(t[None] for t in thetas), exclude=exclude)
    degrees = 180.0 / np.pi
    lines += f"bond_coeff 1 {BOND[0]} {BOND[1]}\nbond_coeff 2 {0.8 * BOND[0]} {BOND[1]}\n"
    lines += f"angle_coeff 1 {ANGLE[0]} {ANGLE[1] * degrees:.17g}\n"
    lines += f"angle_coeff 2 {0.8 * ANGLE[0]} {ANGLE[1] * degrees:.17g}\n"
    lines += f"dihedral_coeff 1 {DIHEDRAL[0]} {DIHEDRAL[1] * degrees:.17g}\n"
    return model, lines


def lammps_styles(exclude):
    weights = " ".join(str(int(kind not in exclude)) for kind in ("1-2", "1-3", "1-4"))
    return (
        "bond_style harmonic\nangle_style harmonic\ndihedral_style quadratic\n"
        f"special_bonds lj {weights}\n"
    )


def types_of_groups(topology):
    """Types of bonds and angles for LAMMPS: 1 with an end A, else 2."""
    has_end = {name: (topology.site_types[getattr(topology, name)] == 0).any(axis=1)
               for name in ("bonds", "angles")}  # fmt: skip
    return {name: np.where(found, 1, 2) for name, found in has_end.items()}


@pytest.mark.parametrize("box", [np.array([2.1, 2.3, 2.2]), TRICLINIC], ids=["straight", "tilted"])
@pytest.mark.parametrize("exclude", [(), ("1-2",), ("1-2", "1-3"), ("1-2", "1-3", "1-4")], ids=len)
def test_chains_have_the_energy_forces_and_virial_of_lammps(box, exclude, tmp_path):
    start = chains(box)
    model, lines = chain_model(exclude)
    styles, types = lammps_styles(exclude), types_of_groups(start.topology)
    expected = peer.evaluate(tmp_path, start, lines, styles, types)
    assert min(abs(part) for part in expected.parts.values()) > 1.0
    result, forces = peer.engine(model, start)
    assert result["energy"][0] == pytest.approx(expected.energy, rel=1e-9)
    assert peer.relative(forces, expected.forces) < 1e-9
    virial = peer.molecular(expected, start)
    assert peer.relative(peer.virial(result, start, 300.0), virial) < 1e-9


def deformed(start, a, b, h):
    """The start with x_b + h x_a for the box and the centres of its molecules."""
    matrix = np.eye(3)
    matrix[a, b] += h
    centres = peer.centres(start)
    positions = start.positions - centres + centres @ matrix
    return replace(start, positions=positions, box=start.box @ matrix)


def test_the_pressure_tensor_is_the_slope_of_the_energy_with_the_box():
    start = chains(TRICLINIC)
    model, _ = chain_model(("1-2", "1-3"))
    virial = peer.virial(peer.engine(model, start)[0], start, 300.0)
    h = 1e-6
    for a, b in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)):
        ends = [peer.engine(model, deformed(start, a, b, x))[0]["energy"][0] for x in (h, -h)]
        assert virial[a, b] == pytest.approx((ends[1] - ends[0]) / (2.0 * h), rel=1e-6, abs=1e-3)


def test_molecules_without_pair_terms_are_an_ideal_gas():
    """Springs do not press: P V = N_mol kT in every sample, and p(V) is a Gamma distribution."""
    n_molecules, n_links = 50, 3
    volume = (n_molecules + 1) * KB * 300.0 / BAR
    box = np.full(3, volume ** (1.0 / 3.0))
    bond, angle = BondBasis(0.2, 0.4, 12), AngleBasis(0.8, 40)
    terms = BondTerm(("A", "B"), bond, 1), AngleTerm(("A", "B", "A"), angle, 1)
    thetas = harmonic(bond, *BOND, (0.2, 0.4)), harmonic(angle, *ANGLE, (0.8, 3.0))
    model = Model(("A", "B"), terms, 300.0, 1.0, tuple(theta[None] for theta in thetas))
    start = chains(box, n_molecules, n_links)
    settings = {"n_steps": 40000, "n_equilibration": 1000, "timestep": 0.002}
    settings |= {"barostat_interval": 1, "sample_interval": 40}
    result = quiet(model, start, 300.0, 1.0, seed_key=("trimers",), **settings)
    ideal = n_molecules * KB * 300.0 / result["volume"]
    np.testing.assert_allclose(result["pressure"], ideal, rtol=1e-7)
    law = stats.gamma(n_molecules + 1, scale=KB * 300.0 / BAR)
    lj.estimate(result["volume"]).assert_agrees(law.mean())
    lj.estimate((result["volume"] - law.mean()) ** 2).assert_agrees(law.var())


# -- pressure and volume


def bennett(forward, backward):
    """Free-energy difference in kT from works (kT) in both directions, equal numbers of them.

    Bennett, J. Comput. Phys. 22, 245 (1976).
    """

    def difference(f):
        return (1.0 / (1.0 + np.exp(forward - f))).sum() - (
            1.0 / (1.0 + np.exp(backward + f))
        ).sum()

    middle = 0.5 * (forward.mean() - backward.mean())
    return brentq(difference, middle - 20.0, middle + 20.0, xtol=1e-12)


def scaling_work(result, density, other, cutoff, temperature):
    """Work over kT to scale each kept configuration from a density to another one."""
    n_sites = result["trajectory"].shape[1]
    scale = (density / other) ** (1.0 / 3.0)
    change = []
    for positions, box in zip(result["trajectory"] / lj.SIGMA, result["trajectory_box"]):
        edges = box / lj.SIGMA
        after = lj.lfs_energy(positions * scale, edges * scale, cutoff)
        change.append(after - lj.lfs_energy(positions, edges, cutoff))
    return np.array(change) / temperature - n_sites * np.log(density / other)


def free_energy_and_pressure(densities, temperature, n_steps, n_sites, keep, n_blocks):
    """(A(V3) - A(V1))/kT by Bennett's method, and -integral of p dV/kT from three virial pressures.

    ``densities`` are those of volumes with equal spacing: Simpson's rule.
    """
    runs = []
    for k, density in enumerate(densities):
        start = lj.melt(2.5, density, temperature, n_sites, seed=k)
        settings = {"n_steps": n_steps, "n_equilibration": n_steps // 5, "keep": keep}
        key = ("free energy", density)
        runs.append(lj.simulate(2.5, start, temperature, seed_key=key, **settings))
    works = [
        scaling_work(runs[a], densities[a], densities[b], 2.5, temperature)
        for a, b in ((0, 1), (1, 0), (1, 2), (2, 1))
    ]
    blocks = np.array_split(np.arange(keep), n_blocks)

    def total(left_out):
        kept = np.setdiff1d(np.arange(keep), left_out)
        return sum(bennett(works[i][kept], works[i + 1][kept]) for i in (0, 2))

    parts = np.array([total(block) for block in blocks])
    error = np.sqrt((n_blocks - 1) * parts.var())
    free_energy = lj.Estimate(total([]), error, n_blocks - 1)
    span = n_sites * (1.0 / densities[2] - 1.0 / densities[0])
    pressures = [lj.estimate(run["pressure"] / lj.PRESSURE, n_blocks=n_blocks) for run in runs]
    weights = np.array([1.0, 4.0, 1.0]) / 6.0 * span / temperature
    integral = -sum(w * p.value for w, p in zip(weights, pressures))
    return (
        free_energy,
        integral,
        np.sqrt(sum((w * p.error) ** 2 for w, p in zip(weights, pressures))),
    )


VOLUMES = 1.0 / np.linspace(1.0 / 0.80, 1.0 / 0.76, 3)


def test_the_virial_pressure_is_the_slope_of_the_free_energy_with_volume():
    free_energy, integral, error = free_energy_and_pressure(
        VOLUMES, 1.0, n_steps=5000, n_sites=256, keep=250, n_blocks=25
    )
    assert error < 0.02 * abs(integral)
    free_energy.assert_agrees(integral, error)


def test_a_volume_term_of_second_order_sets_the_variance_of_the_volume():
    """psi_2 = (v0^2/2N) kT (1/Var - 1/Var_0) per molecule for a Gaussian p(V)."""
    n_sites, thermal = 1000, KB * 300.0
    start = lattice_start(10, thermal / BAR)
    v0 = start.volume / n_sites
    wanted = 0.4 * n_sites * v0**2
    psi = 0.5 * n_sites * v0**2 * thermal * (1.0 / wanted - 1.0 / (n_sites * v0**2))
    model = Model(("W",), (VolumeTerm(2, 1),), 300.0, v0, (np.array([[0.0, psi]]),))
    settings = {"n_steps": 40000, "n_equilibration": 1000, "timestep": 0.004}
    settings |= {"barostat_interval": 1, "sample_interval": 20}
    volume = quiet(model, start, 300.0, 1.0, seed_key=("psi2",), **settings)["volume"]
    x = (volume - volume.mean()) ** 2
    variance = lj.estimate(x)
    assert variance.error < 0.1 * wanted
    variance.assert_agrees(wanted, 0.01 * wanted)  # p(V) is Gaussian to 1/sqrt(N)


# -- dynamics


def drift(model, start, temperature, timestep, n_steps, seed):
    """Slope of the total energy without a thermostat, kT per site per ps, after 12 ps with one."""
    warm = {"n_steps": 3000, "n_equilibration": 0, "timestep": 0.004, "friction": 5.0}
    end = quiet(model, start, temperature, seed_key=("warm", seed), **warm)
    begin = replace(start, positions=end["positions"], velocities=end["velocities"])
    free = {"n_steps": n_steps, "n_equilibration": 0, "timestep": timestep, "friction": 0.0}
    result = quiet(model, begin, temperature, sample_interval=20, **free)
    n_sites = len(start.positions)
    total = result["energy"] + 1.5 * n_sites * KB * result["temperature"]
    time = 20 * timestep * np.arange(len(total))
    return np.polyfit(time, total / (n_sites * KB * temperature), 1)[0]


def test_the_energy_of_water_does_not_drift():
    """With 1 fs; with 4 fs the energy also diffuses, which takes the long test to average out."""
    model, start = water(7)
    assert abs(drift(model, start, 310.0, 0.001, 8000, 0)) < 1e-5


@njit(cache=True)
def force_and_laplacian(positions, box, table, r_min, spacing, r_cut):
    """|grad U|^2 and the Laplacian of U of one-site molecules, by a loop over all pairs.

    ``table`` (n_intervals, 4) is the potential as polynomials.
    """
    n_sites = positions.shape[0]
    force = np.zeros((n_sites, 3))
    step = np.empty(3)
    laplacian = 0.0
    for i in range(n_sites):
        for j in range(i):
            square = 0.0
            for d in range(3):
                step[d] = positions[i, d] - positions[j, d]
                step[d] -= box[d] * np.round(step[d] / box[d])
                square += step[d] * step[d]
            if square >= r_cut * r_cut:
                continue
            r = np.sqrt(square)
            x = max(r - r_min, 0.0) / spacing
            m = min(int(x), table.shape[0] - 1)
            x -= m
            _, c1, c2, c3 = table[m]
            slope = (c1 + x * (2.0 * c2 + x * 3.0 * c3)) / spacing
            bend = (2.0 * c2 + 6.0 * x * c3) / spacing**2 if r > r_min else 0.0
            laplacian += 2.0 * (bend + 2.0 * slope / r)
            for d in range(3):
                force[i, d] -= slope * step[d] / r
                force[j, d] += slope * step[d] / r
    return (force * force).sum(), laplacian


def configurational_temperature(model, result, temperature, n_blocks):
    """<|grad U|^2> / k<Laplacian of U>, K. Rugh, Phys. Rev. Lett. 78, 772 (1997)."""
    basis = model.pair_terms[0].basis
    table = basis.potential(model.term_theta(temperature)[0])
    square, laplacian = np.transpose(
        [
            force_and_laplacian(x, box, table, basis.r_min, basis.spacing, basis.r_cut)
            for x, box in zip(result["trajectory"], result["trajectory_box"])
        ]
    )
    found = lj.estimate(square / laplacian, np.log(laplacian), n_blocks)
    return lj.Estimate(found.value / KB, found.error / KB, found.dof)


def test_the_configurational_temperature_of_water_at_four_femtoseconds():
    model, start = water()
    settings = {"n_steps": 9000, "n_equilibration": 1000, "timestep": 0.004, "keep": 450}
    result = quiet(model, start, 310.0, friction=Sample().friction, **settings)
    found = configurational_temperature(model, result, 310.0, 90)
    assert found.error < 0.01 * 310.0
    found.assert_agrees(310.0)


# -- random streams


def test_streams_of_states_iterations_and_replicas_are_independent():
    keys = [(1, "water", *key) for key in product(("T280", "T310"), (0, 1, "predict"), range(3))]
    keys += [(2, "water", "T280", 0, 0), (1, "water", "T280", 10, 0), (1, "water", "T2801", 0, 0)]
    n = 20000
    noise = np.array([random_stream(key).standard_normal(n + 8) for key in keys])
    n_tests = 0
    worst = 0.0
    for lag in range(9):
        correlation = noise[:, : n + 8 - lag] @ noise[:, lag:].T / (n + 8 - lag)
        if lag == 0:
            correlation = correlation[np.triu_indices(len(keys), 1)]
        n_tests += correlation.size
        worst = max(worst, np.abs(correlation).max())
    assert worst < stats.norm.isf(0.5e-4 / n_tests) / np.sqrt(n)


def test_first_numbers_of_many_streams_are_uniform_and_uncorrelated():
    first = np.array([random_stream((1, "w", "T", 0, i)).random(2) for i in range(4000)])
    assert len(np.unique(first)) == first.size
    assert stats.kstest(first[:, 0], "uniform").pvalue > 1e-4
    next_to = np.corrcoef(first[:-1, 0], first[1:, 0])[0, 1]
    assert abs(next_to) < 4.0 / np.sqrt(4000)
    assert abs(np.corrcoef(first.T)[0, 1]) < 4.0 / np.sqrt(4000)


def test_replicas_draw_independent_velocities(soft_model, soft_start):
    settings = {"n_steps": 1, "n_equilibration": 0, "sample_interval": 1, "timestep": 1e-9}
    drawn = [
        quiet(soft_model, soft_start, 300.0, friction=0.0, seed_key=key, **settings)["velocities"]
        for key in product((1,), "ab", (0, 1), (0, 1))
    ]
    found = np.corrcoef([velocities.ravel() for velocities in drawn])
    found = found[np.triu_indices(len(drawn), 1)]
    limit = stats.norm.isf(0.5e-4 / found.size) / np.sqrt(3 * 125)
    assert np.abs(found).max() < limit
