"""Energies of molecules by themselves are those of the force field, and choose their conformers."""

from pathlib import Path
from types import SimpleNamespace

import mdtraj
import numpy as np
import pytest

from remcg.backmap import isolated, packing
from remcg.backmap.atoms import Atoms
from remcg.backmap.isolated import Isolated, describable
from remcg.errors import SamplingError
from remcg.units import COULOMB, KB

RESOURCES = Path(__file__).parents[1] / "resources"
HEXANE = [RESOURCES / "hexane" / "oplsaa-hexane.xml"]
PEPTIDE = ["amber14/protein.ff14SB.xml"]


def hexanes(n):
    """Topology and shaken positions of n hexanes, 20 nm from one another, and their atoms."""
    one = mdtraj.load(str(RESOURCES / "hexane" / "HEX.pdb"))
    topology, x = one.topology, one.xyz[0].astype(float)
    for _ in range(n - 1):
        topology = topology.join(one.topology)
    rng = np.random.default_rng(1)
    frames = [x + [20.0 * k, 0, 0] + 0.005 * rng.normal(size=x.shape) for k in range(n)]
    return topology, np.concatenate(frames), list(np.arange(n * len(x)).reshape(n, -1))


def test_molecules_far_apart_have_the_energy_of_the_force_field():
    """OPLS hexane, pairs of geometric sigma; the sum over molecules and each of them."""
    topology, x, molecules = hexanes(3)
    atoms = Atoms(topology, HEXANE, None)
    found = Isolated(atoms, molecules)
    assert describable(atoms, molecules)
    energies = found.energies(x)
    assert energies.sum() == pytest.approx(atoms.energy(x), rel=1e-4)
    assert energies.sum() == pytest.approx(found.atoms.energy(x), rel=1e-4)
    one = Atoms(topology.subset(molecules[1]), HEXANE, None)
    assert energies[1] == pytest.approx(one.energy(x[molecules[1]]), rel=1e-4)
    assert np.ptp(energies) > 1.0


def test_a_peptide_has_the_energy_of_the_force_field():
    """Amber: improper and proper dihedrals with phases, scaled 1-4 pairs."""
    frame = mdtraj.load(str(RESOURCES / "pentaalanine" / "topology.pdb"))
    x = frame.xyz[0] + 0.005 * np.random.default_rng(2).normal(size=(frame.n_atoms, 3))
    atoms = Atoms(frame.topology, PEPTIDE, None)
    found = Isolated(atoms, [np.arange(frame.n_atoms)])
    assert found.energies(x)[0] == pytest.approx(atoms.energy(x), rel=1e-4)


def test_molecules_do_not_feel_one_another():
    topology, x, molecules = hexanes(2)
    found = Isolated(Atoms(topology, HEXANE, None), molecules)
    before, near = found.energies(x), x.copy()
    near[molecules[1]] -= [19.9, 0, 0]
    assert found.energies(near) == pytest.approx(before, rel=1e-6)
    assert found.atoms.energy(near) == pytest.approx(found.atoms.energy(x), rel=1e-4)


def test_a_force_that_is_not_known_is_not_described():
    import openmm

    topology, _, molecules = hexanes(1)
    atoms = Atoms(topology, HEXANE, None)
    atoms.system.addForce(openmm.CustomTorsionForce("k*theta"))
    assert not describable(atoms, molecules)


class Pairs(Isolated):
    """Pairs of charges, 10 nm from other pairs; each is a molecule with energies of its own."""

    def __init__(self, n, energies, charge):
        self.n_molecules, self.owner = 2 * n, np.arange(2 * n)
        self.atoms, self.own = None, energies
        self.molecules = list(np.arange(2 * n)[:, None])
        zero, one = np.zeros(2 * n), np.ones(2 * n)
        self.nonbonded = SimpleNamespace(
            charges=charge * one, sigma=0.1 * one, epsilon=zero, geometric=False
        )

    def energies(self, positions):
        """The first or the second of its own energies, by where the atom is."""
        return self.own[(np.round(10 * positions[:, 2]) == 1).astype(int)]


@pytest.mark.parametrize("box", [None, np.full(3, 2000.0)])
def test_neighbours_choose_their_placements_together(monkeypatch, box):
    """Two charges at z = 0 or 0.1 nm each: four states with weights in closed form; 4 SE."""
    n, temperature, own = 1500, 300.0, KB * 300.0 * np.array([0.0, 0.7])
    monkeypatch.setattr(isolated, "relaxed", lambda _, __, x, *___, **____: x)
    monkeypatch.setattr(packing, "HOTTEST", temperature)
    monkeypatch.setattr(packing, "SWEEPS", 12)
    corner = np.repeat(np.arange(n), 2)[:, None] * [1.2, 0, 0]
    middle = corner + np.tile([[0, 0, 0], [0.25, 0, 0]], (n, 1))
    if box is not None:  # the second charge of each pair in another image
        middle[1::2] += [2000.0, -2000.0, 0]

    def place(sites, rng, is_varied):
        return middle + np.array([0, 0, 0.1 * is_varied])

    charge = 0.15
    found = Pairs(n, own, charge)
    x = found.choose(place, None, None, box, temperature, np.random.default_rng(3), tries=2)
    states = np.round(10 * x[:, 2]).astype(int).reshape(n, 2)
    near, far = (
        COULOMB * charge**2 * (1 / r - 1 / packing.REACH) for r in (0.25, np.hypot(0.25, 0.1))
    )
    energies = np.array([[near, far + own[1]], [far + own[1], near + 2 * own[1]]])
    weights = np.exp(-energies / (KB * temperature))
    expected = weights / weights.sum()
    for a in (0, 1):
        for b in (0, 1):
            share = ((states == [a, b]).all(axis=1)).mean()
            se = np.sqrt(expected[a, b] * (1 - expected[a, b]) / n)
            assert abs(share - expected[a, b]) < 4 * se
    alone = np.outer(*[np.exp([0, -0.7]) / (1 + np.exp(-0.7))] * 2)
    assert np.abs(expected - alone).max() > 0.05


def test_a_try_that_fails_counts_for_nothing(monkeypatch):
    monkeypatch.setattr(isolated, "relaxed", lambda _, __, x, *___, **____: x)
    found, calls = Pairs(1, np.zeros(2), 0.0), []

    def place(sites, rng, is_varied):
        calls.append(is_varied)
        if len(calls) != 2:
            raise SamplingError(f"try {len(calls)}")
        return np.array([[0, 0, 0], [0.3, 0, 0]])

    arguments = place, None, None, None, 300.0, np.random.default_rng(1)
    assert found.choose(*arguments, tries=3).shape == (2, 3)
    assert calls == [False, True, True]
    with pytest.raises(SamplingError, match="try 4"):
        found.choose(*arguments, tries=1)


def test_pairs_have_the_core_and_the_rule_of_combination():
    """Lennard-Jones of single atoms against its formula, soft below 0.8 sigma."""
    for is_geometric, sigma in ((False, 0.35), (True, np.sqrt(0.3 * 0.4))):
        size = np.sqrt([0.3, 0.4]) if is_geometric else 0.5 * np.array([0.3, 0.4])
        own, other = np.array([np.zeros(2), size, 2 * np.sqrt([0.5, 0.8])], np.float32).T
        for r in (0.1, 0.3, 0.4, 0.81):
            around = np.concatenate([[r, 0, 0], other]).astype(np.float32)[:, None]
            found = packing._energy(np.zeros(3), own, around, 1, is_geometric)
            t = (sigma / max(r, 0.8 * sigma)) ** 6
            expected = 4 * np.sqrt(0.5 * 0.8) * (t * t - t) if r < packing.REACH else 0.0
            assert found == pytest.approx(expected, rel=1e-5)
