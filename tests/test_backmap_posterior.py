"""Chains of a frame draw from the posterior, and say so only where two sides agree."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix

from remcg.backmap import validation
from remcg.backmap.constraints import Constraints
from remcg.backmap.posterior import (
    Agreement,
    Chain,
    Draws,
    Protocol,
    System,
    chosen_start,
    draw,
    tries_for,
    two_sided,
)
from remcg.backmap.turns import Turns
from remcg.errors import SamplingError
from remcg.units import COULOMB, KB
from toy_atoms import Toy, dimers

T = 300.0
KT = KB * T


def two_basins(r):
    """Energies and slopes of a distance: wells at 0.6 and 1.2 nm, the near one 1.5 kT deeper."""
    a, depth, tilt = 0.3, 3.0 * KT, 1.5 * KT / 0.6
    u = (r - 0.9) / a
    return depth * (u**2 - 1) ** 2 + tilt * r, depth * 4 * u * (u**2 - 1) / a + tilt


def placed_dimers(n, curve=two_basins, spread=0.6):
    """A system of n dimers over their centres, always placed at the distance ``spread``."""

    def place(sites, rng, is_varied=False):
        arms = rng.standard_normal((n, 3))
        arms *= 0.5 * spread / np.linalg.norm(arms, axis=1, keepdims=True)
        return np.stack([sites - arms, sites + arms], axis=1).reshape(-1, 3)

    return System(*dimers(n, curve), None, place, n)


def weight_of_far_basin():
    r = np.linspace(1e-3, 2.5, 20001)
    p = r**2 * np.exp(-two_basins(r)[0] / KT)
    return p[r > 0.9].sum() / p.sum()


PROTOCOL = Protocol(draws=6, starts=2, sweeps=0, steps=1000, hot=600.0)


@pytest.fixture(scope="module")
def drawn():
    system, sites = placed_dimers(400), np.random.default_rng(1).uniform(0, 5, (400, 3))
    return system, sites, draw(system, sites, None, T, np.random.default_rng(2), PROTOCOL)


def distances(x):
    return np.linalg.norm(x[:, 1::2] - x[:, ::2], axis=2)


def test_both_conformers_are_visited_with_their_weights(drawn):
    """The most probable one is near, most of the probability is not; within 4 SE of 400 dimers."""
    _, _, draws = drawn
    found = (distances(draws.positions) > 0.9).mean(axis=0)
    expected = weight_of_far_basin()
    r = np.linspace(0.3, 1.6, 2001)
    assert r[two_basins(r)[0].argmin()] < 0.9
    assert 0.1 < expected < 0.9
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(found))


def test_every_draw_is_over_its_sites(drawn):
    system, sites, draws = drawn
    assert draws.positions.shape == (6, 800, 3)
    for x, energy in zip(draws.positions, draws.energies):
        assert np.abs(system.constraints.operator @ x - sites).max() < 1e-10
        assert energy == pytest.approx(system.atoms.energy(x), rel=1e-9)


def test_draws_of_one_chain_and_of_different_chains_differ(drawn):
    r = distances(drawn[2].positions)
    assert all(np.abs(r[i] - r[j]).max() > 0.05 for i in range(6) for j in range(i))


def test_two_sides_that_agree_are_called_posterior(drawn):
    """Own atoms from a long chain at other random numbers."""
    system, sites, draws = drawn
    own = draw(system, sites, None, T, np.random.default_rng(5), Protocol(1, 1, 0, 1500)).positions[
        0
    ]
    side = two_sided(system, draws, own, sites, None, T, np.random.default_rng(6), PROTOCOL)
    assert side.verdict == "posterior"
    assert abs(side.gap) < 3 * side.se < 0.1 * KT
    assert side.energy - side.own_energy == pytest.approx(side.gap)
    assert side.arrays()["is_posterior"]


def coordinates(x):
    """Distance and three direction cosines of each dimer, (n_draws, 4, n)."""
    arms = x[:, 1::2] - x[:, ::2]
    r = np.linalg.norm(arms, axis=2)
    return np.stack([r, *np.moveaxis(arms / r[..., None], 2, 0)], axis=1)


@pytest.mark.parametrize(("steps", "is_right"), [(1500, True), (20, False)])
def test_ranks_of_own_atoms_among_draws_are_uniform_for_the_right_sampler(steps, is_right):
    """Simulation-based calibration of the whole chain; too short ones stay in the far well."""
    rng, n = np.random.default_rng(11), 400
    r = np.linspace(1e-3, 2.5, 20001)
    p = np.cumsum(r**2 * np.exp(-two_basins(r)[0] / KT))
    arms = rng.standard_normal((n, 3))
    arms *= (0.5 * np.interp(rng.random(n), p / p[-1], r) / np.linalg.norm(arms, axis=1))[:, None]
    own = np.stack([-arms, arms], axis=1).reshape(1, -1, 3)
    system = placed_dimers(n, spread=1.2)
    draws = draw(system, np.zeros((n, 3)), None, T, rng, Protocol(3, None, 0, steps)).positions
    found = validation.ranks(coordinates(own)[0], coordinates(draws), rng)
    p = [validation.uniformity(each) for each in found]
    assert min(p[1:]) > 1e-4
    assert (p[0] > 1e-4) == is_right


def test_chains_too_short_to_cross_a_barrier_are_called_annealed():
    """All molecules are put into the upper well; nothing takes them over 30 kT."""

    def steep(r):
        u = (r - 0.9) / 0.3
        tilt = 5.0 * KT / 0.6
        return 30 * KT * (u**2 - 1) ** 2 + tilt * r, 120 * KT * u * (u**2 - 1) / 0.3 + tilt

    wrong, right = placed_dimers(100, steep, spread=1.2), placed_dimers(100, steep, spread=0.6)
    sites = np.random.default_rng(1).uniform(0, 5, (100, 3))
    protocol, rng = Protocol(2, 2, 0, 600), np.random.default_rng(2)
    own = right.place(sites, rng)
    draws = draw(wrong, sites, None, T, rng, protocol)
    side = two_sided(wrong, draws, own, sites, None, T, rng, protocol)
    assert side.verdict == "annealed"
    assert abs(side.gap / KT - 5.0) < 1.5


def test_molecules_of_one_site_are_turned_before_anything_else():
    """Rigid dipoles beside fixed charges are near their lowest energy with one step of dynamics."""
    n, q, half = 20, 0.5, 0.05
    centres = np.arange(n)[:, None] * [3.0, 0, 0]
    charges = centres + np.array([0, 0, 0.3])

    def potential(x):
        forces, energy = np.zeros_like(x), 0.0
        for k, sign in ((0, -1), (1, 1)):
            d = x[k : 2 * n : 2] - x[2 * n :]
            r = np.linalg.norm(d, axis=1, keepdims=True)
            energy += COULOMB * sign * q * (1 / r).sum()
            forces[k : 2 * n : 2] = COULOMB * sign * q * d / r**3
        return energy, forces

    values = [np.tile([-q, q], n), np.full(2 * n, 0.1), np.zeros(2 * n)]
    extra = [np.ones(n), np.full(n, 0.1), np.zeros(n)]
    charge, sigma, epsilon = (np.concatenate(pair) for pair in zip(values, extra))
    nonbonded = SimpleNamespace(charges=charge, sigma=sigma, epsilon=epsilon)
    atoms = Toy(np.full(3 * n, 10.0), potential, nonbonded)
    operator = csr_matrix(block_diag([[[0.5, 0.5]]] * n + [[[1.0]]] * n))
    pairs = np.arange(2 * n).reshape(n, 2)
    molecules = [*pairs, *(2 * n + np.arange(n))[:, None]]
    arms = np.tile([[0, 0, -half], [0, 0, half]], (n, 1))
    wrong = np.concatenate([np.repeat(centres, 2, axis=0) + arms, charges])  # + towards +
    constraints = Constraints(operator, atoms.masses, pairs, np.full(n, 2 * half))
    system = System(
        atoms, constraints, Turns(atoms, operator, molecules), lambda sites, rng: wrong.copy(), n
    )
    sites = np.concatenate([centres, charges])
    protocol = Protocol(1, 1, 100, 2, interval=1)
    draws = draw(system, sites, None, T, np.random.default_rng(3), protocol)
    best = -COULOMB * q * (1 / (0.3 - half) - 1 / (0.3 + half))
    assert potential(wrong)[0] / n == pytest.approx(-best)
    assert draws.energies[0] / n < 0.85 * best


def test_a_seed_fixes_the_draws():
    system, sites = placed_dimers(5), np.zeros((5, 3))
    short = Protocol(2, 2, 0, 40)
    a, b, c = (
        draw(system, sites, None, T, np.random.default_rng(seed), short).positions
        for seed in (1, 1, 2)
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def a_dimer(temperature=T):
    """One dimer that a varied placement puts into either well; its energies at both minima."""
    near, far = placed_dimers(1), placed_dimers(1, spread=1.2)

    def place(sites, rng, is_varied=False):
        return (far if is_varied and rng.random() < 0.5 else near).place(sites, rng)

    r = np.linspace(0.3, 1.6, 20001)
    u = two_basins(r)[0] / (KB * temperature)
    return near._replace(place=place), u[r < 0.9].min(), u[r > 0.9].min()


def test_a_start_is_one_of_several_minima_by_its_energy():
    """Of two tries, each in either well: far with 1/4 + w/2, w its weight beside the near one."""
    system, low, high = a_dimer()
    sites, rng, n = np.zeros((1, 3)), np.random.default_rng(7), 400
    x = np.array([chosen_start(system, sites, T, rng, 2) for _ in range(n)])
    expected = 0.25 + 0.5 / (1 + np.exp(high - low))
    far = (distances(x) > 0.9).mean()
    assert abs(far - expected) < 4 * np.sqrt(expected * (1 - expected) / n)
    assert expected < 0.45
    one = np.array([chosen_start(system, sites, T, rng, 1) for _ in range(20)])
    assert (distances(one) < 0.9).all()


def test_a_start_is_sound_where_any_try_is():
    system, _, _ = a_dimer()
    sites, rng = np.zeros((1, 3)), np.random.default_rng(8)
    for is_far in (True, False):
        sound = system._replace(
            is_sound=lambda x, is_far=is_far: (distances(x[None])[0] > 0.9) == is_far
        )
        x = np.array([chosen_start(sound, sites, T, rng, 12) for _ in range(40)])
        assert ((distances(x) > 0.9) == is_far).all()
    none = system._replace(is_sound=lambda x: False)
    assert chosen_start(none, sites, T, rng, 4).shape == (2, 3)


def test_conformers_that_are_varied_are_chosen_by_their_energy():
    """From the well of higher energy to the lower one and back, as Metropolis between minima."""
    _, low, high = a_dimer()
    near, far = placed_dimers(1), placed_dimers(1, spread=1.2)
    sites, rng, n = np.zeros((1, 3)), np.random.default_rng(9), 300

    def vary(positions, sites, rng):
        return (near if distances(positions[None])[0] > 0.9 else far).place(sites, rng)

    hops = far._replace(vary=vary)
    x = np.array([chosen_start(hops, sites, T, rng, 16) for _ in range(n)])
    chance = np.array([[1.0, 0.0], [0.0, 1.0]])
    up = np.exp(-max(high - low, 0.0)), np.exp(-max(low - high, 0.0))
    step = np.array([[1.0 - up[0], up[1]], [up[0], 1.0 - up[1]]])  # columns: near, far before
    expected = (np.linalg.matrix_power(step, 12) @ chance[:, 1])[1]
    assert abs((distances(x) > 0.9).mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_a_start_needs_one_try_that_succeeds():
    system, _, _ = a_dimer()
    calls = []

    def fragile(sites, rng, is_varied=False):
        calls.append(1)
        if len(calls) != 3:
            raise SamplingError(f"try {len(calls)}")
        return system.place(sites, rng)

    arguments = system._replace(place=fragile), np.zeros((1, 3)), T, np.random.default_rng(1)
    assert chosen_start(*arguments, 4).shape == (2, 3) and len(calls) == 4
    with pytest.raises(SamplingError, match="try 5"):
        chosen_start(*arguments, 2)


def test_few_molecules_have_many_starts_to_choose_from():
    assert [tries_for(n, 60) for n in (1, 4, 32, 500)] == [32, 8, 1, 1]
    assert [tries_for(1, n_atoms) for n_atoms in (2000, 10**5)] == [10, 1]


def test_draws_count_as_independent_only_as_far_as_their_chain_is():
    x = np.zeros((3, 2, 3))
    series = np.zeros(10)
    slow, fast = (Chain(x, np.zeros(3), series, 2, n) for n in (1.5, 40.0))
    assert Draws([slow, fast], 0.1).n_eff == 4.5
    assert Draws([slow], 0.1).discarded == pytest.approx(0.2)


@pytest.mark.parametrize(("gap", "verdict"), [(0.29, "posterior"), (-0.31, "annealed")])
def test_the_verdict_is_at_three_standard_errors(gap, verdict):
    assert Agreement(gap, 0.0, gap, 0.1).verdict == verdict
