"""Chains of hydrogen bonds turn the other way round, and find networks that turns do not."""

import mdtraj
import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap import rebond
from remcg.backmap.polar import Polar, polar_atoms
from remcg.backmap.turns import Turns
from remcg.config import ROOT
from turning import CUBE, SKEW, WATER, WEIGHTS, atoms_of, waters

HOT = 1e9  # K: every chain that is found is turned
SPCE = [-0.8476, 0.4238, 0.4238]


def of_waters(x, n):
    """Turns of n waters by themselves."""
    parameters = SPCE * n, [0.3166, 0.1, 0.1] * n, [0.65, 0.0, 0.0] * n
    operator = csr_matrix(block_diag([WEIGHTS[None]] * n))
    return Turns(atoms_of(*parameters), operator, list(np.arange(3 * n).reshape(n, 3)))


def ring(n=6, r=0.28):
    """n waters in a ring, each giving its first hydrogen to the next, the second one outwards."""
    x = []
    for k in range(n):
        here, after = (
            0.5 * r / np.sin(np.pi / n) * np.array([np.cos(a), np.sin(a), 0.0])
            for a in 2 * np.pi * np.array([k, k + 1]) / n
        )
        along = (after - here) / r
        side = here - (here @ along) * along
        side /= np.linalg.norm(side)
        x += [here, here + 0.1 * along, here + 0.1 * (-0.333314 * along + 0.942816 * side)]
    return np.array(x)


def takers(x, n):
    """For each molecule the one that takes its hydrogen, -1 if none within 0.26 nm."""
    found = np.full(n, -1)
    for k in range(n):
        for hydrogen in (1, 2):
            away = np.linalg.norm(x[::3] - x[3 * k + hydrogen], axis=1)
            away[k] = np.inf
            if away.min() < rebond.BONDED:
                found[k] = away.argmin()
    return found


def prepared(chain, x, box=None):
    place = chain.prepare_to_cool(x, box)
    return place, polar_atoms(x, *place[:2], chain.charges)


def scattered(x, box, rng):
    """Each molecule in an image of its own."""
    cell = np.diag(box) if np.ndim(box) == 1 else box
    return x + np.repeat(rng.integers(-1, 2, (len(x) // 3, 3)), 3, axis=0) @ cell


@pytest.mark.parametrize("box", [None, CUBE, SKEW], ids=["vacuum", "cube", "skew"])
def test_a_ring_of_waters_gives_its_hydrogens_the_other_way_round(box):
    """Whatever image each of them is in."""
    n, after, turned = 6, (np.arange(6) + 1) % 6, 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = ring(n) if box is None else scattered(ring(n), box, rng)
        chain = of_waters(x, n)
        place, polar = prepared(chain, x, box)
        y = x.copy()
        _, done = rebond.rebond(y, *place, polar, HOT, HOT, 1, rng)
        found, before = (takers(z - (x - ring(n)), n) for z in (y, x))
        assert np.array_equal(before, after)
        if done and np.array_equal(found, (np.arange(n) - 1) % n):
            turned += 1
            assert chain.energy(y, box) < chain.energy(x, box)  # relaxed
    assert turned >= 2


def test_an_open_chain_shifts_its_hydrogens_by_one_molecule():
    """0 gives to 1, 1 to 2; afterwards 0 gives to 3 beside it, 1 to 0, and 2 has lost one."""
    along = np.array([[0.0, 0, 0], [0.28, 0, 0], [0.56, 0, 0], [-0.16, -0.23, 0]])
    body = WATER - WEIGHTS @ WATER
    outward = np.array(
        [[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]
    )  # the last one's hydrogens, off the row
    x = np.concatenate(
        [body + along[0], body + along[1], body @ outward + along[2], body + along[3]]
    )
    chain, seen = of_waters(x, 4), []
    place, polar = prepared(chain, x)
    for seed in range(60):
        y = x.copy()
        rebond.rebond(y, *place, polar, HOT, HOT, 1, np.random.default_rng(seed))
        found = takers(y, 4)
        seen.append((int(found[0]), int(found[1])))
    assert takers(x, 4)[:2].tolist() == [1, 2]
    assert (3, 0) in seen


def test_chains_stay_over_their_sites_and_keep_their_shapes():
    chain, x, _, molecules = waters(40, CUBE, 3)
    place, polar = prepared(chain, x, CUBE)
    y, z = x.copy(), x.copy()
    for moved in (y, z):
        rng = np.random.default_rng(4)
        tried, done = rebond.rebond(moved, *place, polar, 2000.0, 300.0, 500, rng)
        assert 5 < done < tried
    assert np.array_equal(y, z)  # a seed fixes them
    assert np.abs(chain._operator @ y - chain._operator @ x).max() < 1e-12
    for atoms in molecules[:40]:
        old, new = (z[atoms] - z[atoms[0]] for z in (x, y))
        assert np.allclose(old @ old.T, new @ new.T, atol=1e-12)
    assert np.array_equal(x[120:], y[120:])  # ions


def test_in_the_cold_a_chain_is_turned_only_if_the_minimum_does_not_rise():
    """Minima of all molecules; one trial relaxes only those around its chain, to 5 kJ/mol/rad."""
    chain, x, _, _ = waters(40, CUBE, 3)
    place, polar = prepared(chain, x, CUBE)
    rebond.rebond(x, *place, polar, 900.0, 300.0, 1000, np.random.default_rng(4))
    for seed in range(60):
        y, z = x.copy(), x.copy()
        none = rebond.rebond(z, *place, polar, 1.0, 1.0, 0, np.random.default_rng(seed))
        rebond.rebond(y, *place, polar, 1.0, 1.0, 1, np.random.default_rng(seed))
        assert none == (0, 0)
        assert chain._total(y, place) < chain._total(z, place) + 0.5


@pytest.mark.parametrize("geometric", [False, True])
@pytest.mark.parametrize("box", [CUBE, SKEW], ids=["cube", "skew"])
def test_torques_are_derivatives_of_the_energy_of_the_turns(box, geometric):
    chain, x, _, _ = waters(30, box, 5, geometric=geometric)
    (groups, neighbours, potential), polar = prepared(chain, x, box)
    everything, nothing, torque = np.ones(30, bool), np.zeros(30, bool), np.zeros(3)

    def energy(y, group, inside):
        state = rebond.state_of(y, groups, neighbours, potential, polar.owner)
        return rebond._torque(group, state, inside, torque)

    total = sum(energy(x, group, everything) for group in range(30))
    assert total == pytest.approx(chain._total(x, (groups, neighbours, potential)), rel=1e-5)
    some = np.arange(30) < 7  # when they turn the energy of all changes as theirs does
    y = x.copy()
    for group in range(7):
        rebond._turn(group, np.array([0.1, -0.2, 0.3]), y, groups)
    before, after = (sum(energy(z, group, some) for group in range(7)) for z in (x, y))
    changed = chain._total(y, (groups, neighbours, potential)) - total
    assert after - before == pytest.approx(changed, abs=0.02)
    for group in (0, 17):
        energy(x, group, nothing)
        exact, turned = torque.copy(), []
        for axis in np.eye(3) * 2e-3:
            for turn in (axis, -axis):
                y = x.copy()
                rebond._turn(group, turn, y, groups)
                turned.append(energy(y, group, nothing))
        numeric = -(np.array(turned[::2]) - turned[1::2]) / 4e-3
        assert np.abs(exact - numeric).max() < 2e-3 * np.abs(exact).max() + 0.2


def test_hydrogens_that_can_be_given_and_their_takers_are_found_by_charge():
    """Water, an alcohol of three atoms, a dipole of heavy atoms, and a standing ion."""
    alcohol = [[0.0, 0, 0], [0.143, 0, 0], [0.17, 0.09, 0]]
    heavy = [[0.0, 0, 0], [0.16, 0, 0]]
    x = np.concatenate([WATER, np.add(alcohol, 0.2), np.add(heavy, 0.5), [[0.9, 0.9, 0.9]]])
    charges = [*SPCE, 0.265, -0.7, 0.435, 0.5, -0.5, -1.0]
    weights = [WEIGHTS[None], [[1.0, 0, 0]], [[0.5, 0.5]], [[1.0]]]
    molecules = [np.arange(3), np.arange(3, 6), np.arange(6, 8), np.arange(8, 9)]
    atoms = atoms_of(charges, [0.3] * 9, [0.5] * 9)
    chain = Turns(atoms, csr_matrix(block_diag(weights)), molecules)
    polar = prepared(chain, x, np.full(3, 3.0))[1]
    assert polar.hydrogen.tolist() == [1, 2, 5] and polar.giver.tolist() == [0, 0, 4]
    assert polar.start.tolist() == [0, 2, 3, 3]
    assert np.flatnonzero(polar.accepts).tolist() == [0, 4, 7]
    assert polar.owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, -1]
    assert polar.nearest[:, :2].tolist() == [[1, -1], [0, 2], [1, -1]]  # within the cut-off
    assert polar.share == pytest.approx(2 / 3)
    far = x + np.repeat([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [3, 3, 2, 1], axis=0)
    assert prepared(chain, far, np.full(3, 3.0))[1].share == 0  # nobody to give them to


@pytest.mark.parametrize(
    ("shape", "charges"),
    [
        ([[-0.116, 0, 0], [0, 0, 0], [0.116, 0, 0]], [-0.35, 0.7, -0.35]),
        ([[-0.055, 0, 0], [0, 0, 0], [0.055, 0, 0]], [-0.482, 0.964, -0.482]),
    ],
    ids=["carbon dioxide", "nitrogen"],
)
def test_carbon_dioxide_and_nitrogen_give_no_hydrogens(shape, charges):
    x = np.concatenate([shape, np.add(shape, [0, 0.3, 0])])
    weights = [[[0.25, 0.5, 0.25]]] * 2
    atoms = atoms_of(charges * 2, [0.3] * 6, [0.5] * 6)
    chain = Turns(atoms, csr_matrix(block_diag(weights)), list(np.arange(6).reshape(2, 3)))
    assert prepared(chain, x, np.full(3, 3.0))[1].share == 0


def test_a_turned_molecule_gives_its_hydrogen_and_keeps_the_other_where_it_was():
    x, rng, owner = WATER - WEIGHTS @ WATER, np.random.default_rng(6), np.zeros(3, int)
    place = of_waters(x, 1).prepare_to_cool(x, None)
    both = np.array([1, 2]), np.array([0, 0]), np.array([True, False, False])
    polar = Polar(np.array([0, 2]), *both, owner, np.full((1, 5), -1))
    for opposite in (False, True):
        for _ in range(10):
            y = Rotation.random(random_state=rng).apply(x)
            target = -y[1] if opposite else rng.standard_normal(3)
            z = y.copy()
            rebond._given(0, 0, target, rebond.state_of(z, *place, owner), polar)
            first, aim = z[1] / np.linalg.norm(z[1]), target / np.linalg.norm(target)
            assert first == pytest.approx(aim, abs=1e-6)
            angles = np.linspace(-np.pi, np.pi, 721)[:, None] * aim
            others = Rotation.from_rotvec(angles).apply(z[2]) @ y[2]
            assert z[2] @ y[2] == pytest.approx(others.max(), abs=1e-5)


def test_where_nothing_freezes_or_gives_hydrogens_cooling_is_that_of_turns():
    chain, x, _, _ = waters(30, CUBE, 8)
    arguments = x, CUBE, 2000.0, 30
    plain = chain.anneal(*arguments, np.random.default_rng(1)).positions
    assert np.array_equal(rebond.cooled(chain, *arguments, np.random.default_rng(1)), plain)
    cold = x, CUBE, 30.0, 60
    plain = chain.anneal(*cold, np.random.default_rng(1)).positions
    assert not np.array_equal(rebond.cooled(chain, *cold, np.random.default_rng(1)), plain)


def test_chains_of_bonds_find_lower_networks_than_single_turns_in_as_many_sweeps():
    """512 SPC/E waters over a frame at 280 K: 0.4 kJ/mol per molecule; runs are 0.08 apart."""
    folder = ROOT / "resources" / "spce"
    frame = mdtraj.load_frame(str(folder / "T280.xtc"), 100, top=str(folder / "topology.pdb"))
    frame.make_molecules_whole()
    x, box = frame.xyz[0].astype(float), frame.unitcell_lengths[0].astype(float)
    n, chain = frame.n_residues, of_waters(x, frame.n_residues)

    def energy(y):
        rng = np.random.default_rng(8)
        return chain.run(y, box, 280.0, 60, rng).energies[20:].mean() / n

    arguments = x, box, 280.0, 500
    chains = rebond.cooled(chain, *arguments, np.random.default_rng(7))
    plain = chain.anneal(*arguments, np.random.default_rng(7)).positions
    assert energy(x) < energy(chains) < energy(plain) - 0.1
