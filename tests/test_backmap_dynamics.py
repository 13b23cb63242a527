"""Draws at fixed sites have the distribution that they should have; minima are minima."""

import numpy as np
import openmm
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from remcg.backmap.constraints import Constraints, UnreachableError
from remcg.backmap.dynamics import Dynamics
from remcg.backmap.minimise import Reach, find_minimum, minimise
from remcg.errors import SamplingError
from remcg.units import KB
from toy_atoms import Toy, dimers

T = 300.0
KT = KB * T
WATER = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333314, 0.0942816, 0.0]])
WATER_MASSES = np.array([15.9994, 1.008, 1.008])
PAIRS = np.array([[0, 1], [0, 2], [1, 2]])


def start_dimers(n, r, rng):
    """Positions of dimers of length r, all along z, and their centres."""
    centres = rng.uniform(0, 5, (n, 3))
    arms = np.broadcast_to([0, 0, 0.5 * r], (n, 3))
    return np.stack([centres - arms, centres + arms], axis=1).reshape(-1, 3), centres


def draws(dynamics, count, every):
    """Positions (count, n_atoms, 3), each ``every`` steps after the last."""
    found = []
    for _ in range(count):
        dynamics.run(every)
        assert max(dynamics.constraints.residual(dynamics.positions, dynamics.sites)) < 1e-8
        found.append(dynamics.positions)
    return np.array(found)


def over_molecules(values):
    """Mean, standard error and effective number of draws (n_draws, n_molecules)."""
    means = values.mean(axis=0)
    se = means.std(ddof=1) / np.sqrt(len(means))
    return values.mean(), se, values.var() / se**2


def test_a_harmonic_dimer_at_a_fixed_centre_has_its_closed_form_distance():
    """p(r) ~ r^2 exp(-25 (r - 1)^2): mean 53/51 and variance 0.01924644, within 4 SE."""
    n, stiffness = 500, 50 * KT
    atoms, constraints = dimers(n, lambda r: (0.5 * stiffness * (r - 1) ** 2, stiffness * (r - 1)))
    assert constraints.degrees_of_freedom == 3 * n
    dynamics = Dynamics(atoms, constraints, timestep=0.015, friction=8.0)
    dynamics.start(*start_dimers(n, 1.0, np.random.default_rng(1)), T, np.random.default_rng(2))
    dynamics.run(150)
    x = draws(dynamics, 50, 20)
    arms = x[:, 1::2] - x[:, ::2]
    r = np.linalg.norm(arms, axis=-1)
    mean, se, n_eff = over_molecules(r)
    assert n_eff > 5000
    assert abs(mean - 1.0392157) < 4 * se
    variance, se, _ = over_molecules((r - 1.0392157) ** 2)
    assert abs(variance - 0.01924644) < 4 * se
    for direction in range(3):  # the cosine with any axis is uniform
        cosines = arms[-1, :, direction] / r[-1]
        counts = np.histogram(cosines, 10, (-1, 1))[0]
        assert chi2.sf(((counts - n / 10) ** 2 / (n / 10)).sum(), 9) > 1e-4


def double_well(r):
    """Minima near r = 1 and r = 2 (higher by about 0.8 kT), 3 kT between them."""
    u = r - 1.5
    depth = 48 * KT
    return depth * (u * u - 0.25) ** 2 + 0.8 * KT * u, 4 * depth * u * (u * u - 0.25) + 0.8 * KT


def test_the_most_probable_conformer_need_not_be_the_one_of_most_draws():
    """The lower basin is the MAP; the other has more room (r^2) and more weight, by quadrature."""
    n = 400
    atoms, constraints = dimers(n, double_well)
    grid = np.linspace(0.3, 3.0, 20001)
    density = grid**2 * np.exp(-double_well(grid)[0] / KT)
    expected = density[grid > 1.5].sum() / density.sum()
    assert expected > 0.6
    rng = np.random.default_rng(3)
    energies = []
    for r in (1.2, 1.8):
        x, centres = start_dimers(n, r, rng)
        best = find_minimum(atoms, constraints, x, centres, tolerance=0.1, steps=500)
        assert best.is_converged
        found = np.linalg.norm(best.positions[1::2] - best.positions[::2], axis=1)
        assert np.abs(found - (1.0 if r < 1.5 else 2.0)).max() < 0.02
        energies.append(best.energy)
    assert energies[0] < energies[1]
    dynamics = Dynamics(atoms, constraints, timestep=0.01, friction=3.0)
    dynamics.start(x, centres, T, np.random.default_rng(4))
    dynamics.run(1500)
    x = draws(dynamics, 60, 50)
    far = np.linalg.norm(x[:, 1::2] - x[:, ::2], axis=-1) > 1.5
    mean, se, _ = over_molecules(far.astype(float))
    assert abs(mean - expected) < 4 * se < 0.1
    crossings = (far[1:] != far[:-1]).sum(axis=0)
    assert (crossings > 0).mean() > 0.9


def tethered_waters(n, weights):
    """n rigid waters, each atom drawn to a place in space: only turns about the site are free."""
    rng = np.random.default_rng(5)
    places = np.array([[0.05, 0.0, 0.0], [0.1, 0.15, 0.0], [-0.1, 0.0, 0.1]])
    stiffness = np.array([100.0, 300.0, 150.0])[:, None]
    centres = rng.uniform(0, 3, (n, 3))
    targets, strengths = (centres[:, None] + places).reshape(-1, 3), np.tile(stiffness, (n, 1))

    def potential(x):
        away = x - targets
        return 0.5 * (strengths * away**2).sum(), -strengths * away

    masses = np.tile(WATER_MASSES, n)
    weights = np.asarray(weights) / np.sum(weights)
    operator = csr_matrix(block_diag([weights[None]] * n))
    pairs = (3 * np.arange(n)[:, None, None] + PAIRS).reshape(-1, 2)
    lengths = np.linalg.norm(WATER[PAIRS[:, 0]] - WATER[PAIRS[:, 1]], axis=1)
    constraints = Constraints(operator, masses, pairs, np.tile(lengths, n))
    shape = WATER - weights @ WATER
    positions = (centres[:, None] + shape).reshape(-1, 3)
    return Toy(masses, potential), constraints, positions, centres, (shape, places, stiffness)


@pytest.mark.parametrize("weights", [WATER_MASSES, [1.0, 1.0, 1.0]])
def test_rigid_molecules_turn_about_their_sites_with_the_right_weights(weights):
    """Against uniform rotations weighted by exp(-U/kT); temperature within 4 SE.

    A site that is not the centre of mass changes the momentum of the molecule, not the measure of
    its orientations, which is the same at every point of the group.
    """
    n = 400
    atoms, constraints, x, centres, molecule = tethered_waters(n, weights)
    assert constraints.degrees_of_freedom == 3 * n
    shape, places, stiffness = molecule
    turned = np.einsum(
        "nij,aj->nai", Rotation.random(200_000, np.random.default_rng(6)).as_matrix(), shape
    )
    energies = 0.5 * (stiffness * (turned - places) ** 2).sum(axis=(1, 2)) / KT
    boltzmann = np.exp(-(energies - energies.min()))
    dynamics = Dynamics(atoms, constraints, timestep=0.002, friction=10.0)
    dynamics.start(x, centres, T, np.random.default_rng(7))
    dynamics.run(500)
    kept, temperatures = [], []
    for _ in range(40):
        dynamics.run(50)
        kept.append(dynamics.positions.reshape(n, 3, 3) - centres[:, None])
        temperatures.append(dynamics.kinetic_temperature)
        assert max(constraints.residual(dynamics.positions, centres)) < 1e-8
    kept = np.array(kept)
    for measure in (
        lambda y: 0.5 * (stiffness * (y - places) ** 2).sum(axis=(-2, -1)) / KT,
        lambda y: y[..., 1, 0] - y[..., 2, 0],
        lambda y: y[..., 1, 1] ** 2,
    ):
        mean, se, _ = over_molecules(measure(kept))
        values = measure(turned)
        expected = np.average(values, weights=boltzmann)
        spread = np.sqrt(np.sum(boltzmann**2 * (values - expected) ** 2)) / boltzmann.sum()
        assert abs(mean - expected) < 4 * np.hypot(se, spread)
    se = T * np.sqrt(2 / (3 * n * 40)) * 1.5  # successive values are nearly independent
    assert abs(np.mean(temperatures) - T) < 4 * se


def test_a_site_that_couples_rigid_bonds_gives_draws_a_weight():
    """Three atoms, two rigid bonds, the middle one a site: the cosine of the angle is then uniform.

    In the reference it has the density of free rigid bonds, sqrt(det A_0), by quadrature.
    """
    n, masses = 3000, np.array([3.0, 1.0, 2.0])
    atoms = Toy(np.tile(masses, n), lambda x: (0.0, np.zeros_like(x)))
    operator = csr_matrix(block_diag([[[0.0, 1.0, 0.0]]] * n))
    pairs = (3 * np.arange(n)[:, None, None] + [[0, 1], [1, 2]]).reshape(-1, 2)
    constraints = Constraints(operator, atoms.masses, pairs, np.full(2 * n, 0.1))
    assert not constraints.is_exact
    rng = np.random.default_rng(21)
    arms = rng.normal(size=(2, n, 3))
    arms *= 0.1 / np.linalg.norm(arms, axis=-1, keepdims=True)
    x = np.stack([arms[0], np.zeros((n, 3)), arms[1]], axis=1).reshape(-1, 3)
    dynamics = Dynamics(atoms, constraints, timestep=0.004, friction=5.0)
    dynamics.start(x, np.zeros((n, 3)), T, rng)
    dynamics.run(200)
    ends = dynamics.positions.reshape(n, 3, 3)
    squares = ((ends[:, 0] * ends[:, 2]).sum(axis=1) / 0.01) ** 2
    assert squares.mean() == pytest.approx(1 / 3, abs=4 * np.sqrt(4 / 45 / n))
    single = Constraints(operator[:1, :3], masses, pairs[:2], [0.1, 0.1])
    weights = np.exp([single.log_weight(each) for each in ends])
    assert constraints.log_weight(dynamics.positions) == pytest.approx(np.log(weights).sum())
    cosines = np.linspace(-1, 1, 20001)
    density = np.sqrt((1 / 3 + 1) * (1 / 2 + 1) - cosines**2)
    expected = (density * cosines**2).sum() / density.sum()
    assert expected < 0.31
    assert np.average(squares, weights=weights) == pytest.approx(expected, abs=4 * 0.3 / n**0.5)
    assert tethered_waters(2, WATER_MASSES)[1].is_exact
    assert tethered_waters(2, WATER_MASSES)[1].log_weight(np.ones((6, 3))) == 0.0


def test_without_friction_the_energy_is_kept_to_second_order_in_the_timestep():
    atoms, constraints, x, centres, _ = tethered_waters(20, WATER_MASSES)
    worst = []
    for timestep, n_steps in ((0.002, 100), (0.001, 200)):
        dynamics = Dynamics(atoms, constraints, timestep, friction=0.0)
        dynamics.start(x, centres, 600.0, np.random.default_rng(8))
        energies = []
        for _ in range(n_steps):
            dynamics.run(1)
            kinetic = 0.5 * (atoms.masses[:, None] * dynamics.velocities**2).sum()
            energies.append(dynamics.potential + kinetic)
        worst.append(np.abs(np.array(energies) - energies[0]).max())
    assert 3.0 < worst[0] / worst[1] < 5.0


def test_a_seed_fixes_the_draws_and_runs_can_be_cut_into_pieces():
    atoms, constraints, x, centres, _ = tethered_waters(5, WATER_MASSES)
    ends = []
    for seed, pieces in ((1, [20]), (1, [7, 13]), (2, [20])):
        dynamics = Dynamics(atoms, constraints)
        dynamics.start(x, centres, T, np.random.default_rng(seed))
        for n_steps in pieces:
            dynamics.run(n_steps)
        assert dynamics.n_steps == 20
        ends.append(dynamics.positions)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[2] - ends[0]).max() > 1e-4


def spring_chain(n):
    """n chains of six atoms with springs of no length; two sites of three atoms each.

    The positions are Gaussian, so conditioned on the sites they are known in closed form.
    """
    springs = 3e5 * np.array([1.0, 0.8, 0.5, 1.2, 1.0])
    hessian = np.zeros((6, 6))
    for k, spring in enumerate(springs):
        hessian[k : k + 2, k : k + 2] += spring * np.array([[1, -1], [-1, 1]])
    masses = np.array([12.0, 14.0, 16.0, 12.0, 14.0, 12.0])
    mapping = np.zeros((2, 6))
    mapping[0, :3], mapping[1, 3:] = masses[:3] / 42, masses[3:] / 38

    def potential(x):
        forces = -np.einsum("ij,njk->nik", hessian, x.reshape(n, 6, 3)).reshape(-1, 3)
        return -0.5 * (x * forces).sum(), forces

    return Toy(np.tile(masses, n), potential), mapping, hessian


def bond_moments(mean, covariance):
    """Mean square of the bond between the sites, of a Gaussian in three dimensions."""
    d = np.array([0, 0, 1, -1, 0, 0])
    return 3 * d @ covariance @ d + ((d @ mean) ** 2).sum()


def test_exact_sites_are_the_limit_of_stiff_restraints_which_are_biased():
    """Where bonds are as stiff as the restraint it gives way, and projection does not mend that.

    The bond between two sites that are pulled apart by 0.1 nm, mean square against closed forms.
    """
    n = 300
    atoms, mapping, hessian = spring_chain(n)
    apart = np.array([[0.0, 0, 0], [0.1, 0, 0]])
    null = np.linalg.svd(mapping)[2][2:].T
    inside = null @ np.linalg.inv(null.T @ hessian @ null) @ null.T * KT  # exact sites
    lifted = np.linalg.pinv(mapping) @ apart
    mean = lifted - inside / KT @ hessian @ lifted
    exact = bond_moments(mean, inside)
    weights = (mapping / atoms.masses[:6]).T
    spread = weights @ np.linalg.inv(mapping @ weights)
    biases = []
    for stiffness in (5e5, 5e6, 5e7):
        soft = np.linalg.inv(hessian + stiffness * mapping.T @ mapping)
        centre = soft @ (stiffness * mapping.T @ apart)
        keep = np.eye(6) - spread @ mapping
        projected = keep @ centre + spread @ apart, keep @ (KT * soft) @ keep.T
        biases.append(bond_moments(*projected) / exact - 1)
    assert abs(biases[0]) > 0.1  # 5e5 kJ/mol/nm^2, projected onto the sites
    assert biases[1] / biases[2] == pytest.approx(10, rel=0.2)
    operator = csr_matrix(block_diag([mapping] * n))
    constraints = Constraints(operator, atoms.masses, [], [])
    dynamics = Dynamics(atoms, constraints, timestep=0.002, friction=30.0)
    dynamics.start(np.tile(mean, (n, 1)), np.tile(apart, (n, 1)), T, np.random.default_rng(9))
    dynamics.run(200)
    x = draws(dynamics, 40, 25).reshape(40, n, 6, 3)
    found, se, n_eff = over_molecules(((x[:, :, 2] - x[:, :, 3]) ** 2).sum(axis=-1))
    assert n_eff > 3000
    assert abs(found - exact) < 4 * se
    assert abs(found - exact * (1 + biases[0])) > 8 * se
    covariance = np.einsum("fnik,fnjk->ij", x - mean, x - mean) / (3 * 40 * n)
    np.testing.assert_allclose(covariance, inside, atol=0.05 * np.abs(inside).max())


def test_the_minimum_of_a_quadratic_potential_is_its_closed_form():
    atoms, mapping, hessian = spring_chain(2)
    rng = np.random.default_rng(10)
    sites = rng.normal(size=(4, 3)) * 0.1
    operator = csr_matrix(block_diag([mapping] * 2))
    constraints = Constraints(operator, atoms.masses, [], [])
    start = rng.normal(size=(12, 3))
    best = find_minimum(atoms, constraints, start, sites, tolerance=0.01, steps=3000)
    assert best.is_converged and best.force <= 0.01
    inside = np.linalg.inv(np.block([[hessian, mapping.T], [mapping, np.zeros((2, 2))]]))
    expected = np.concatenate([inside[:6, 6:] @ sites[:2], inside[:6, 6:] @ sites[2:]])
    np.testing.assert_allclose(best.positions, expected, atol=1e-6)
    assert constraints.residual(best.positions, sites)[0] < 1e-12
    few = find_minimum(atoms, constraints, start, sites, tolerance=0.01, steps=3)
    assert not few.is_converged and few.n_steps == 3
    assert few.energy < atoms.energy(constraints.project(start, sites))
    np.testing.assert_array_equal(
        minimise(atoms, constraints, start, sites, 0.01, 3), few.positions
    )


def test_forces_that_are_not_finite_stop_a_run_with_advice():
    atoms, constraints, x, centres, _ = tethered_waters(2, WATER_MASSES)
    broken = Toy(atoms.masses, lambda x: (0.0, np.full_like(x, np.nan)))
    with pytest.raises(SamplingError, match="step 0: forces are not finite; minimise longer"):
        Dynamics(broken, constraints).start(x, centres, T, np.random.default_rng(1))
    with pytest.raises(SamplingError, match="minimisation, step 0: forces are not finite"):
        minimise(broken, constraints, x, centres)
    violent = Toy(atoms.masses, lambda x: (0.0, 1e9 * np.ones_like(x) * np.arange(6)[:, None]))
    dynamics = Dynamics(violent, constraints)
    dynamics.start(x, centres, T, np.random.default_rng(1))
    with pytest.raises(SamplingError, match="step 1: rigid bonds cannot be kept"):
        dynamics.run(1)


def zigzag():
    """A system of six atoms with bonds of 0.15 nm and angles of 112 degrees, two sites."""
    system = openmm.System()
    bonds, angles = openmm.HarmonicBondForce(), openmm.HarmonicAngleForce()
    for k in range(6):
        system.addParticle(14.0)
        if k:
            bonds.addBond(k - 1, k, 0.15, 2e5)
        if k > 1:
            angles.addAngle(k - 2, k - 1, k, np.radians(112), 500.0)
    system.addForce(bonds)
    system.addForce(angles)
    operator = csr_matrix(np.kron(np.eye(2), np.ones(3) / 3))
    flat = np.radians(34)
    x = np.c_[
        0.15 * np.cos(flat) * np.arange(6), 0.15 * np.sin(flat) * (np.arange(6) % 2), np.zeros(6)
    ]
    return system, operator, x


class Opened(Toy):
    """Energies of an OpenMM system, with the system."""

    def __init__(self, system):
        self.system = system
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)

        def potential(x):
            context.setPositions(x)
            state = context.getState(energy=True, forces=True)
            return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value

        super().__init__([14.0] * system.getNumParticles(), potential)


def test_the_reach_of_two_sites_is_that_of_the_stretched_molecule():
    system, operator, stretched = zigzag()
    reach = Reach(system, operator)
    longest = np.linalg.norm(np.diff(operator @ stretched, axis=0))
    assert reach.pairs.tolist() == [[0, 1]]
    assert longest <= reach.limits[0] < 1.08 * longest
    reach.check(operator @ stretched)


def test_sites_too_far_apart_are_named_before_anything_is_minimised():
    system, operator, stretched = zigzag()
    atoms = Opened(system)
    constraints = Constraints(operator, atoms.masses, [], [])
    sites = operator @ stretched
    inside = find_minimum(atoms, constraints, stretched, sites, tolerance=1.0)
    assert inside.energy < 1.0
    calls = atoms.potential
    atoms.potential = None  # nothing is evaluated
    with pytest.raises(
        UnreachableError, match=r"sites 0 and 1 are 0.8\d\d nm apart, but their"
    ) as info:
        minimise(atoms, constraints, stretched, sites + np.outer([0, 1], [0.5, 0, 0]))
    assert set(info.value.atoms.tolist()) == set(range(6))
    atoms.potential = calls
    with pytest.raises(UnreachableError, match=r"bond of atoms 2 and 3 is stretched to 1.\d\d"):
        minimise(atoms, constraints, stretched, sites + np.outer([0, 1], [0.07, 0, 0]))
