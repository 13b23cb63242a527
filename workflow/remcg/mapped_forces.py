r"""Atomistic forces on sites: read from the trajectory, or computed anew with OpenMM.

.. math:: \mathbf{F}_I = \sum_i b_{Ii} \mathbf{f}_i, \qquad \sum_i b_{Ii} c_{Ji} = \delta_{IJ}

with the weights c of the mapping. The mean of such an F_I at fixed sites is minus the gradient of
the potential of mean force, where b is the same for all atoms that rigid bonds tie together, so
that the forces of these bonds cancel (Noid et al., J. Chem. Phys. 128, 244114 (2008); Ciccotti,
Kapral and Vanden-Eijnden, ChemPhysChem 6, 1809 (2005); Kraemer et al., J. Phys. Chem. Lett. 14,
3970 (2023)). The plain sum over the atoms of a site, b = 1, is such a choice for centres of mass of
atoms that no other site has, and over all atoms of a molecule for its only site.
"""

import numpy as np
from scipy.sparse import csr_array, csr_matrix
from scipy.sparse.csgraph import connected_components

from remcg.boxes import many, reduced
from remcg.errors import InputError
from remcg.mapping.whole import map_positions
from remcg.topology import members_of
from remcg.trajectory import has_forces, read_forces

VALID = 1e-6  # deviation of sum_i b_Ii c_Ji from 1 or 0


def open_forces(trajectory, state, force_field, cutoff, topology, sites, selection=None):
    """The source of forces of one state: its trajectory where that has them, else OpenMM.

    Which bonds were rigid is known where OpenMM computes the forces. A trajectory does not tell;
    there a molecule whose plain sums are not valid has its bonds to hydrogen taken as rigid.

    Parameters
    ----------
    trajectory : list of path
    state : str
    force_field : list of str
        XML files of OpenMM's ``ForceField``.
    cutoff : float or None
        nm, real-space cut-off where forces are computed.
    topology : mdtraj.Topology
    sites : remcg.mapping.Sites
    selection : remcg.trajectory.Selection, optional
        Frames that are used.

    Returns
    -------
    callable
        From the positions (n_frames, n_atoms, 3) of the next frames, molecules whole, and their
        boxes, (n_frames, 3) or (n_frames, 3, 3), to the forces on the sites (n_frames, n_sites, 3),
        kJ/mol/nm.
    """
    if all(has_forces(path) for path in trajectory):
        operator = force_operator(topology, sites)
        recorded = read_forces(trajectory, topology, state, selection=selection)
        return lambda positions, boxes: _mapped(operator, _next(recorded, len(positions), state))
    if force_field:
        return _Computed(topology, force_field, cutoff, sites)
    names = ", ".join(path.name for path in trajectory if not has_forces(path))
    raise InputError(
        f"{state}: forces on sites need atomistic forces, but {names} has none and there is no "
        "force field to compute them with; write a TRR with forces (GROMACS: nstfout = nstxout), "
        "or give system.force_field"
    )


def force_operator(topology, sites, rigid=None):
    """Matrix b, (n_sites, n_atoms), that makes forces on sites of those on atoms.

    Parameters
    ----------
    topology : mdtraj.Topology
    sites : remcg.mapping.Sites
    rigid : array_like of int, shape (n, 2), optional
        Pairs of atoms at fixed distances; by default those bonded to hydrogen, but only in
        molecules whose plain sums of forces are not valid.

    Returns
    -------
    csr_matrix
        The only site of a molecule has ones for all of its atoms. Several have ones for their
        atoms where that is valid, else the least b (the sum of its squares) that is.

    Raises
    ------
    InputError
        Where no b is valid, since rigid bonds tie sites together.
    """
    assumed = rigid is None
    pairs = np.asarray(_bonds_to_hydrogen(topology) if assumed else rigid, np.int64).reshape(-1, 2)
    tied = csr_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(topology.n_atoms,) * 2)
    groups = connected_components(tied, directed=False)[1]
    rows, columns, values, known = [], [], [], {}
    for members, atoms in zip(members_of(sites.molecule), sites.atoms):
        weights = sites.matrix[members][:, atoms].toarray()
        _, pattern = np.unique(groups[atoms], return_inverse=True)
        key = weights.shape, weights.tobytes(), pattern.tobytes()
        if key not in known:
            known[key] = _block(weights, pattern)
        if known[key] is None:
            raise _tied(topology, sites, members, atoms, pattern, assumed)
        i, k = known[key].nonzero()
        rows.append(members[i]), columns.append(atoms[k]), values.append(known[key][i, k])
    joined = [np.concatenate(parts) for parts in (values, rows, columns)]
    shape = len(sites.site_types), topology.n_atoms
    return csr_matrix((joined[0], (joined[1], joined[2])), shape=shape)


def _block(weights, group):
    """b of one molecule from its weights (n_sites, n_atoms) and the rigid group of each atom."""
    plain = np.ones_like(weights) if len(weights) == 1 else (weights != 0).astype(float)
    belongs = np.eye(group.max() + 1)[group].T
    sizes = belongs.sum(axis=1)
    even = (plain @ belongs.T / sizes)[:, group]
    if np.allclose(even, plain) and _is_valid(plain, weights):
        return plain
    moved = belongs @ weights.T  # what a site moves when a rigid group does
    if np.linalg.matrix_rank(moved) < len(weights):
        return None
    scaled = moved.T / sizes
    return np.linalg.solve(scaled @ moved, scaled)[:, group]


def _is_valid(b, weights):
    return np.abs(b @ weights.T - np.eye(len(weights))).max() < VALID


def _tied(topology, sites, members, atoms, group, assumed):
    """The error of a molecule whose sites cannot move alone."""
    held = sites.matrix[members][:, atoms].toarray() != 0
    touched = np.array([[(held[i] & (group == g)).any() for g in group] for i in range(len(held))])
    k = int(np.argmax(touched.sum(axis=0)))
    names = [sites.labels[members[i]][1] for i in np.flatnonzero(touched[:, k])]
    ties = [str(topology.atom(int(atom))) for atom in atoms[group == group[k]]]
    how = "bonds to hydrogen, taken as rigid," if assumed else "rigid bonds"
    return InputError(
        f"forces on sites: the {how} of {', '.join(ties)} tie the sites {' and '.join(names)} "
        "together, so that no forces on these sites can be made of those on the atoms; put atoms "
        "that are bound rigidly in one site"
    )


def _bonds_to_hydrogen(topology):
    return [
        (first.index, second.index)
        for first, second in topology.bonds
        if "H" in (getattr(first.element, "symbol", ""), getattr(second.element, "symbol", ""))
    ]


def _mapped(operator, forces):
    return map_positions(operator, forces)


def _next(recorded, n_frames, state):
    found = next(recorded, np.empty((0,)))
    if len(found) != n_frames:
        raise InputError(
            f"{state}: there are positions of {n_frames} frames but forces of {len(found)}; write "
            "forces with every frame (GROMACS: nstfout = nstxout)"
        )
    return found


class _Computed:
    """Forces of a force field on sites; those of constraints are not among them."""

    def __init__(self, topology, force_field, cutoff, sites):
        self.arguments = topology, force_field, cutoff, sites
        self.context = None

    def __call__(self, positions, boxes):
        from openmm import unit

        boxes = many(boxes)
        if self.context is None:
            self._open(boxes[0])
        result = np.empty_like(positions)
        for frame, box, forces in zip(positions, boxes, result):
            self.context.setPeriodicBoxVectors(*reduced(box))
            self.context.setPositions(frame)
            state = self.context.getState(getForces=True)
            forces[:] = state.getForces(asNumpy=True).value_in_unit(
                unit.kilojoule_per_mole / unit.nanometer
            )
        result[:, self.virtual] = 0.0  # already with the atoms that they hang on
        return _mapped(self.operator, result)

    def _open(self, box):
        import openmm

        from remcg.backmap.atoms import build_system

        topology, force_field, cutoff, sites = self.arguments
        atoms = topology.to_openmm()
        atoms.setPeriodicBoxVectors(reduced(box) * openmm.unit.nanometer)
        if cutoff is not None:
            cutoff = min(cutoff, 0.499 * np.diag(box).min())
        system = build_system(atoms, force_field, cutoff)
        self.operator = force_operator(topology, sites, _rigid(system))
        count = system.getNumParticles()
        self.virtual = [i for i in range(count) if system.isVirtualSite(i)]
        integrator = openmm.VerletIntegrator(0.001)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(system, integrator, platform, {"Threads": "1"})


def _rigid(system):
    """Pairs of atoms that constraints or virtual sites tie together."""
    count = range(system.getNumConstraints())
    pairs = [tuple(system.getConstraintParameters(k)[:2]) for k in count]
    for i in range(system.getNumParticles()):
        if system.isVirtualSite(i):
            site = system.getVirtualSite(i)
            pairs += [(i, site.getParticle(k)) for k in range(site.getNumParticles())]
    return pairs
