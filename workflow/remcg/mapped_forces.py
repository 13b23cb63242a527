r"""Atomistic forces on sites: read from the trajectory, or computed anew with OpenMM.

.. math:: \mathbf{F}_I = \sum_{i \in I} \mathbf{f}_i

over the atoms that only site I owns. For a site at their centre of mass, and for the only site of a
molecule wherever it is, the mean of F_I at fixed sites is minus the gradient of the potential of
mean force; forces of rigid bonds inside a site cancel in the sum (Noid et al., J. Chem. Phys. 128,
244114 (2008); Ciccotti, Kapral and Vanden-Eijnden, ChemPhysChem 6, 1809 (2005)).
"""

import numpy as np
from scipy.sparse import csr_matrix

from remcg.errors import InputError
from remcg.trajectory import has_forces, read_forces

MASS_WEIGHTED = 1e-6  # relative deviation of weights from those of the masses


def open_forces(trajectory, state, force_field, cutoff, topology, sites):
    """The source of forces of one state: its trajectory where that has them, else OpenMM.

    Parameters
    ----------
    trajectory : list of path
    state : str
    force_field : list of str
        XML files of OpenMM's ``ForceField``.
    cutoff : float
        nm, real-space cut-off where forces are computed.
    topology : mdtraj.Topology
    sites : remcg.mapping.Sites

    Returns
    -------
    callable
        From the positions (n_frames, n_atoms, 3) of the next frames, molecules whole, and their
        boxes (n_frames, 3) to the forces on the sites (n_frames, n_sites, 3), kJ/mol/nm.
    """
    operator = force_operator(topology, sites)
    if all(has_forces(path) for path in trajectory):
        recorded = read_forces(trajectory, topology, state)
        return lambda positions, boxes: _mapped(operator, _next(recorded, len(positions), state))
    if force_field:
        computed = _Computed(topology, force_field, cutoff, operator)
        return lambda positions, boxes: _mapped(operator, computed(positions, boxes))
    names = ", ".join(path.name for path in trajectory if not has_forces(path))
    raise InputError(
        f"{state}: force matching needs atomistic forces, but {names} has none and there is no "
        "force field to compute them with; write a TRR with forces (GROMACS: nstfout = nstxout), "
        "or give system.force_field"
    )


def force_operator(topology, sites):
    """Matrix of ones, (n_sites, n_atoms): whose forces add up to that of a site.

    The only site of a molecule takes all of its atoms; several must be the centres of mass of
    atoms that none of the others has.
    """
    of_molecule = [np.flatnonzero(sites.molecule == m) for m in range(len(sites.atoms))]
    masses = np.array([atom.element.mass if atom.element else 0.0 for atom in topology.atoms])
    rows, columns = [], []
    for atoms, members in zip(sites.atoms, of_molecule):
        for site in members:
            owned = atoms if len(members) == 1 else _owned(sites, site, members, masses, topology)
            rows += [site] * len(owned)
            columns += list(owned)
    shape = len(sites.site_types), topology.n_atoms
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def _owned(sites, site, members, masses, topology):
    """Atoms of one of several sites of a molecule."""
    row = sites.matrix[site]
    atoms, weights = row.indices[row.data != 0], row.data[row.data != 0]
    name = sites.names[sites.site_types[site]]
    others = sites.matrix[[other for other in members if other != site]]
    shared = np.intersect1d(atoms, others.indices[others.data != 0])
    if len(shared):
        raise InputError(
            f"force matching: the atom {topology.atom(int(shared[0]))} belongs to the site {name} "
            "and to another, so its force belongs to none; give each atom to one site"
        )
    expected = masses[atoms] / masses[atoms].sum()
    if np.abs(weights - expected).max() > MASS_WEIGHTED:
        raise InputError(
            f"force matching: the site {name} is not the centre of mass of its atoms, so the "
            "forces of rigid bonds do not cancel in their sum; set weights: mass"
        )
    return atoms


def _mapped(operator, forces):
    return np.stack([operator @ frame for frame in forces])


def _next(recorded, n_frames, state):
    found = next(recorded, np.empty((0,)))
    if len(found) != n_frames:
        raise InputError(
            f"{state}: there are positions of {n_frames} frames but forces of {len(found)}; write "
            "forces with every frame (GROMACS: nstfout = nstxout)"
        )
    return found


class _Computed:
    """Forces of a force field on every atom; those of constraints are not among them."""

    def __init__(self, topology, force_field, cutoff, operator):
        self.arguments = topology, force_field, cutoff, operator
        self.context = None

    def __call__(self, positions, boxes):
        from openmm import unit

        if self.context is None:
            self._open(boxes[0])
        result = np.empty_like(positions)
        for frame, box, forces in zip(positions, boxes, result):
            self.context.setPeriodicBoxVectors(*np.diag(box))
            self.context.setPositions(frame)
            state = self.context.getState(getForces=True)
            forces[:] = state.getForces(asNumpy=True).value_in_unit(
                unit.kilojoule_per_mole / unit.nanometer
            )
        result[:, self.virtual] = 0.0  # already with the atoms that they hang on
        return result

    def _open(self, box):
        import openmm

        from remcg.backmap.sampling import build_system

        topology, force_field, cutoff, operator = self.arguments
        atoms = topology.to_openmm()
        atoms.setUnitCellDimensions(tuple(box))
        system = build_system(atoms, force_field, min(cutoff, 0.499 * box.min()))
        _check_constraints(system, operator, topology)
        count = system.getNumParticles()
        self.virtual = [i for i in range(count) if system.isVirtualSite(i)]
        integrator = openmm.VerletIntegrator(0.001)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(system, integrator, platform, {"Threads": "1"})


def _check_constraints(system, operator, topology):
    """A rigid bond between sites pulls on both of them, and that force is not known."""
    owner = np.full(operator.shape[1], -1)
    entries = operator.tocoo()
    owner[entries.col] = entries.row
    for k in range(system.getNumConstraints()):
        i, j, _ = system.getConstraintParameters(k)
        if owner[i] != owner[j]:
            raise InputError(
                f"force matching: the rigid bond of {topology.atom(i)} and {topology.atom(j)} ends "
                "in two sites, whose forces would lack its pull; put both atoms in one site"
            )
