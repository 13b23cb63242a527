"""Chains of hydrogen bonds turn the other way round, and find networks that turns do not."""

import mdtraj
import numpy as np
import pytest
from scipy.sparse import block_diag, csr_matrix
from scipy.spatial.transform import Rotation

from remcg.backmap import rebond, turns
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


def givers(x, n):
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
    place = chain._prepare(x, box, turns.ANNEALING_CUTOFF, turns.ANNEALING_DAMPING)
    return place, chain._polar(x, place)


def test_a_ring_of_waters_gives_its_hydrogens_the_other_way_round():
    n, after = 6, (np.arange(6) + 1) % 6
    x, directions = ring(n), set()
    chain = of_waters(x, n)
    place, polar = prepared(chain, x)
    assert np.array_equal(givers(x, n), after)
    rng, turned = np.random.default_rng(2), 0
    for _ in range(20):
        y = x.copy()
        turned += rebond.rebond(y, *place, polar, [HOT], rng)[1]
        found = givers(y, n)
        if np.array_equal(found, (np.arange(n) - 1) % n):
            directions.add("back")
            assert chain.energy(y, None) < chain.energy(x, None)  # relaxed
    assert turned and "back" in directions


def test_chains_stay_over_their_sites_and_keep_their_shapes():
    chain, x, _, molecules = waters(40, CUBE, 3)
    place, polar = prepared(chain, x, CUBE)
    y = x.copy()
    tried, done = rebond.rebond(
        y, *place, polar, np.geomspace(2000.0, 300.0, 500), np.random.default_rng(4)
    )
    assert 0 < done <= tried <= 500
    assert np.abs(chain._operator @ y - chain._operator @ x).max() < 1e-12
    for atoms in molecules[:40]:
        old, new = (z[atoms] - z[atoms[0]] for z in (x, y))
        assert np.allclose(old @ old.T, new @ new.T, atol=1e-12)
    assert np.array_equal(x[120:], y[120:])  # ions
    assert chain.energy(y, CUBE) < chain.energy(x, CUBE)


@pytest.mark.parametrize("geometric", [False, True])
@pytest.mark.parametrize("box", [CUBE, SKEW], ids=["cube", "skew"])
def test_torques_are_derivatives_of_the_energy_of_the_turns(box, geometric):
    chain, x, _, _ = waters(30, box, 5, geometric=geometric)
    (groups, neighbours, potential), polar = prepared(chain, x, box)
    slopes = rebond.slopes_of(potential)
    around = np.empty((7, np.diff(neighbours.bounds[:, [0, 4]]).max()), np.float32)
    ones, torque = np.ones(len(x), np.float32), np.zeros(3)

    def energy(y, group, inside):
        state = y, groups, neighbours, potential, slopes, polar.owner, around, ones
        return rebond._torque(group, state, inside, torque)

    everything, nothing = np.ones(30, bool), np.zeros(30, bool)
    total = sum(energy(x, group, everything) for group in range(30))
    assert total == pytest.approx(chain._total(x, (groups, neighbours, potential)), rel=1e-5)
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
    x = np.concatenate([WATER, np.add(alcohol, 0.4), np.add(heavy, 0.8), [[1.2, 1.2, 1.2]]])
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
    neutral = Turns(atoms_of([0.0] * 9, [0.3] * 9, [0.5] * 9), chain._operator, molecules)
    assert prepared(neutral, x, np.full(3, 3.0))[1] is None


def test_a_turned_molecule_gives_its_hydrogen_and_keeps_the_other_where_it_was():
    x, rng = WATER - WEIGHTS @ WATER, np.random.default_rng(6)
    chain = of_waters(x, 1)
    (groups, *_), polar = prepared(chain, x)
    for opposite in (False, True):
        for _ in range(10):
            y = Rotation.random(random_state=rng).apply(x)
            target = -y[1] if opposite else rng.standard_normal(3)
            z = y.copy()
            rebond._given(0, 0, target, (z, groups), polar)
            first, aim = z[1] / np.linalg.norm(z[1]), target / np.linalg.norm(target)
            assert first == pytest.approx(aim, abs=1e-6)
            angles = np.linspace(-np.pi, np.pi, 721)[:, None] * aim
            others = Rotation.from_rotvec(angles).apply(z[2]) @ y[2]
            assert z[2] @ y[2] == pytest.approx(others.max(), abs=1e-5)


def test_chains_of_bonds_find_lower_networks_than_single_turns_in_as_many_sweeps(monkeypatch):
    """512 SPC/E waters at the sites of a frame at 280 K; the reference's own atoms lie below."""
    folder = ROOT / "resources" / "spce"
    frame = mdtraj.load_frame(str(folder / "T280.xtc"), 100, top=str(folder / "topology.pdb"))
    frame.make_molecules_whole()
    x, box = frame.xyz[0].astype(float), frame.unitcell_lengths[0].astype(float)
    n, rng = frame.n_residues, np.random.default_rng(7)
    chain, energies = of_waters(x, n), {}
    for turned in (1.0, turns.TURNED):
        monkeypatch.setattr(turns, "TURNED", turned)
        y = chain.anneal(x, box, 280.0, 500, rng).positions
        energies[turned] = chain.run(y, box, 280.0, 60, rng).energies[20:].mean() / n
    own = chain.run(x, box, 280.0, 60, rng).energies[20:].mean() / n
    assert own < energies[turns.TURNED] < energies[1.0] - 0.2
