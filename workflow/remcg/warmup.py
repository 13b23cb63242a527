"""``python -m remcg.warmup``: compile the kernels into their cache before they are needed."""

from types import SimpleNamespace

import numpy as np
from scipy.sparse import block_diag, csr_matrix, identity

from remcg import pairs
from remcg.backmap.constraints import Constraints
from remcg.backmap.packing import packed
from remcg.backmap.rebond import cooled
from remcg.backmap.turns import Turns
from remcg.basis import SplineBasis
from remcg.engine.replica import Start
from remcg.mapping import Mapper
from remcg.model import Model, PairTerm, VolumeTerm
from remcg.sample import sample
from remcg.topology import Topology
from remcg.trajectory import Chunk

N_SIDE = 4
EDGE = 2.0  # nm
RANGE = 0.6  # nm


def warm_up():
    """Go once through the public functions that need kernels, on 64 sites without energy."""
    basis = SplineBasis(0.25, RANGE, 6)
    terms = (PairTerm(("W", "W"), basis, 1), VolumeTerm(1, 1))
    model = Model(("W",), terms, 300.0, EDGE**3 / N_SIDE**3, (np.zeros((1, 6)), np.zeros((1, 1))))
    axis = (np.arange(N_SIDE) + 0.5) * EDGE / N_SIDE
    positions = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    types = np.zeros(len(positions), np.int64)
    topology = Topology(types, np.full(len(positions), 18.0))
    start = Start(positions, np.full(3, EDGE), None, topology)
    edges = np.linspace(0.0, RANGE, 61)
    for pressure in (None, 1.0):
        sample(
            model, start, 300.0, pressure, n_steps=20, n_equilibration=20, timestep=0.002,
            rdf_edges=edges, keep=1,
        )  # fmt: skip
    frames, boxes = positions[None], np.full((1, 3), EDGE)
    _warm_up_mapping(frames, boxes)
    pairs.pair_sums(frames, boxes, types, ("W",), model.pair_terms, excluded=[(0, 1)])
    pairs.rdf(frames, boxes, types, [(0, 0)], edges, 1)
    pairs.onset(frames, boxes, types, [(0, 0)])
    _warm_up_backmapping()


def _warm_up_mapping(frames, boxes):
    """Map single atoms to themselves, as precise as most trajectories are."""
    import mdtraj

    n_atoms, atoms = frames.shape[1], mdtraj.Topology()
    residue = atoms.add_residue("AR", atoms.add_chain())
    for _ in range(n_atoms):
        atoms.add_atom("AR", mdtraj.element.argon, residue)
    sites = SimpleNamespace(
        atoms=list(np.arange(n_atoms)[:, None]), matrix=identity(n_atoms, "d", "csr")
    )
    chunk = Chunk(frames.astype(np.float32), boxes, np.zeros(1), 0)
    Mapper(atoms, sites)(chunk, "warm-up")


def _warm_up_backmapping():
    """Turn two rigid dumb-bells about their middles and project them, in a box."""
    x = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.5, 0, 0], [0.6, 0, 0]])
    middles = csr_matrix(block_diag([[[0.5, 0.5]]] * 2))
    pairs_of_atoms = np.arange(4).reshape(2, 2)
    rigid = Constraints(middles, np.ones(4), pairs_of_atoms, np.full(2, 0.1))
    rigid.project(x, middles @ x)
    rigid.project(x, middles @ x, x)
    rigid.project_velocities(x, x)
    charges = np.array([-1.0, 1.0, -1.0, 1.0])
    numbers = SimpleNamespace(charges=charges, sigma=np.full(4, 0.1), epsilon=np.ones(4))
    turns = Turns(SimpleNamespace(nonbonded=lambda: numbers), middles, list(pairs_of_atoms))
    cooled(turns, x, np.full(3, EDGE), 300.0, 60, np.random.default_rng(1))
    energies = np.zeros((2, len(pairs_of_atoms)))
    around = list(pairs_of_atoms), numbers, np.full(3, EDGE), 300.0, np.random.default_rng(1)
    packed(np.array([x, x]), energies, *around)


if __name__ == "__main__":
    warm_up()
