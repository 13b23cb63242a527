"""The atomistic system: energies and forces of a force field, with OpenMM."""

import copy
from pathlib import Path
from typing import NamedTuple

import mdtraj
import numpy as np
import openmm
from openmm import app, unit
from scipy.sparse import csr_matrix, identity

from remcg.boxes import many, reduced
from remcg.errors import InputError

BONDED = 1  # force group
SOFT = "500*max(0, 1-r/c)^2*step(radius1*radius2-1e-9); c=radius1+radius2+1e-9"  # kJ/mol
RADIUS, RADIUS_H, HEAVY = 0.13, 0.06, 3.5  # nm, of heavy atoms and of hydrogen; amu
NONBONDED_FORCES = (
    openmm.NonbondedForce,
    openmm.CustomNonbondedForce,
    openmm.GBSAOBCForce,
    openmm.CustomGBForce,
)
LARGE, SMALL = 10.0, 0.01  # nm, see _split_geometric
AVERAGES = openmm.TwoParticleAverageSite, openmm.ThreeParticleAverageSite
GEOMETRIC = "A1*A2/r^12-C1*C2/r^6"  # 4 epsilon sigma^n = A^2 (n = 12), C^2 (n = 6)


class Nonbonded(NamedTuple):
    """Lennard-Jones and Coulomb parameters of a system.

    charges (n_atoms,) e, sigma (n_atoms,) nm, epsilon (n_atoms,) kJ/mol; exceptions (n, 2) pairs
    inside molecules that are left out or scaled, exception_charges (n,) e^2, exception_sigma and
    exception_epsilon (n,); geometric: whether sigma of a pair is the geometric mean (OPLS) rather
    than the arithmetic one (Lorentz); cutoff nm or None.
    """

    charges: np.ndarray
    sigma: np.ndarray
    epsilon: np.ndarray
    exceptions: np.ndarray
    exception_charges: np.ndarray
    exception_sigma: np.ndarray
    exception_epsilon: np.ndarray
    geometric: bool
    cutoff: float | None


class Atoms:
    """Energies and forces of a molecular system.

    Rigid are the bonds of hydrogen and water, as in the reference runs. Periodic systems have
    particle-mesh Ewald and Lennard-Jones up to the cut-off; systems without a box have all pairs,
    and the solvent that the force field describes, if it does.

    Parameters
    ----------
    topology : path, mdtraj.Topology or openmm.app.Topology
        With bonds; a path is read by mdtraj.
    force_field : sequence of str
        XML files that OpenMM's ``ForceField`` reads, or one Amber ``.prmtop``, or one GROMACS
        ``.top`` and then, if needed, the folders of its include files.
    boxes : array_like, shape (n_frames, 3) or (n_frames, 3, 3), optional
        Edges or vectors of all frames to come, nm; None in vacuum.
    cutoff : float
        nm, not more than half the smallest height of any box.
    threads : int
    platform : str
        Of OpenMM. CPU has forces in single precision, Reference in double precision.

    Attributes
    ----------
    n_atoms : int
    masses : ndarray, shape (n_atoms,)
        amu; 0 for virtual sites.
    rigid, rigid_lengths : ndarray, shape (n_rigid, 2) and (n_rigid,)
        Pairs of atoms at a fixed distance, nm.
    virtual : ndarray of int
        Virtual sites.
    elements : list of str
        Chemical symbols, "" for particles without one.
    """

    def __init__(self, topology, force_field, boxes=None, cutoff=0.9, threads=1, platform="CPU"):
        topology = _openmm_topology(topology)
        self.cutoff = None if boxes is None else float(cutoff)
        if boxes is not None:
            boxes = np.array([reduced(box) for box in many(boxes)])
            self._check_boxes(boxes)
            largest = boxes[boxes.diagonal(axis1=1, axis2=2).prod(axis=1).argmax()]
            topology.setPeriodicBoxVectors(largest * unit.nanometer)
        else:
            topology.setPeriodicBoxVectors(None)
        self.system = build_system(topology, force_field, self.cutoff)
        self._nonbonded = _nonbonded(self.system, self.cutoff)
        _split_geometric(self.system, self._nonbonded)
        self.n_atoms = self.system.getNumParticles()
        self.elements = [atom.element.symbol if atom.element else "" for atom in topology.atoms()]
        everyone = range(self.n_atoms)
        self.masses = np.array([self.system.getParticleMass(i)._value for i in everyone])
        self.virtual = np.array([i for i in everyone if self.system.isVirtualSite(i)], int)
        self.rigid, self.rigid_lengths = _rigid_bonds(self.system)
        for force in self.system.getForces():
            force.setForceGroup(0 if isinstance(force, NONBONDED_FORCES) else BONDED)
        self._settings = platform, threads
        self._softened = None
        self.context = self._open()
        self.box = None if boxes is None else largest

    def set_box(self, box):
        """Edges (3,) or vectors (3, 3), nm, of the frames from now on; None in vacuum."""
        if (box is None) != (self.cutoff is None):
            raise InputError(
                "a system built for vacuum was given a box, or one built for boxes none; build"
                " another system of atoms for these frames"
            )
        if box is not None:
            vectors = reduced(box)
            self._check_boxes(vectors[None])
            self.context.setPeriodicBoxVectors(*vectors)
            self.box = vectors

    def energy(self, positions):
        """Potential energy, kJ/mol, of positions (n_atoms, 3), nm."""
        self._place(positions)
        return self.context.getState(energy=True).getPotentialEnergy()._value

    def energy_and_forces(self, positions):
        """Potential energy, kJ/mol, and forces (n_atoms, 3), kJ/mol/nm.

        Virtual sites are put where they belong, and their forces passed on to the atoms that they
        hang on.
        """
        return self._evaluate(positions, -1)

    def forces(self, positions):
        """Forces (n_atoms, 3), kJ/mol/nm, without the energy, which costs a little more."""
        self._place(positions)
        state = self.context.getState(forces=True)
        return self._on_atoms(state)

    def bonded_energy_and_forces(self, positions):
        """As :meth:`energy_and_forces`, of bonds, angles and dihedrals alone."""
        return self._evaluate(positions, 1 << BONDED)

    def with_virtual_sites(self, positions):
        """The same positions with virtual sites where they belong, nm."""
        if len(self.virtual) == 0:
            return np.array(positions, float)
        self._place(positions)
        return self.context.getState(positions=True).getPositions(asNumpy=True)._value

    def fold(self, operator):
        """A mapping (n_sites, n_atoms) with the weight of virtual sites on their parent atoms."""
        operator = csr_matrix(operator, dtype=float)
        weighted = self.virtual[operator[:, self.virtual].getnnz(axis=0) > 0]
        if len(weighted) == 0:
            return operator
        parents = identity(self.n_atoms, format="lil")
        for i in weighted.tolist():
            site = self.system.getVirtualSite(i)
            if not isinstance(site, AVERAGES):
                raise InputError(
                    f"the mapping puts a weight on virtual site {i}, which is not an average of"
                    " atoms; map atoms with mass instead"
                )
            parents[i, i] = 0.0
            for k in range(site.getNumParticles()):
                parents[i, site.getParticle(k)] = site.getWeight(k)
        return (operator @ parents.tocsr()).tocsr()

    def nonbonded(self):
        """:class:`Nonbonded`, or None where that does not describe the force field.

        None are pairs that follow no rule of combination (NBFIX, Amber's own pairs), and forms
        other than Lennard-Jones and Coulomb. Energies and forces are those of the force field
        nevertheless; only :class:`remcg.backmap.turns.Turns` cannot be used.
        """
        return self._nonbonded

    def softened(self):
        """The same system with its bonded forces and, for the others, a soft repulsion of overlaps.

        Its energy is finite and smooth for atoms on top of one another, and it costs little: what
        :func:`remcg.backmap.minimise.minimise` begins with.
        """
        if self._softened is None:
            self._softened = copy.copy(self)
            self._softened.system = _soft_system(self.system, self.masses)
            self._softened.context = self._softened._open()
        self._softened.set_box(self.box)
        return self._softened

    def state(self, positions, velocities=None):
        """OpenMM's State with positions, velocities (nm/ps; zero if none) and the present box."""
        self._place(positions)
        self.context.setVelocities(
            np.zeros((self.n_atoms, 3)) if velocities is None else velocities
        )
        return self.context.getState(positions=True, velocities=True, energy=True, forces=True)

    def _open(self):
        platform, threads = self._settings
        settings = {"Threads": str(threads), "DeterministicForces": "true"}
        return openmm.Context(
            self.system,
            openmm.VerletIntegrator(0.001),
            openmm.Platform.getPlatformByName(platform),
            settings if platform == "CPU" else {},
        )

    def _place(self, positions):
        self.context.setPositions(np.ascontiguousarray(positions, float))
        if len(self.virtual):
            self.context.computeVirtualSites()

    def _evaluate(self, positions, groups):
        self._place(positions)
        state = self.context.getState(energy=True, forces=True, groups=groups)
        return state.getPotentialEnergy()._value, self._on_atoms(state)

    def _on_atoms(self, state):
        forces = state.getForces(asNumpy=True)._value
        forces[self.virtual] = 0.0
        return forces

    def _check_boxes(self, boxes):
        least = boxes.diagonal(axis1=1, axis2=2).min()
        if 2.0 * self.cutoff > least:
            raise InputError(
                f"backmap: the cut-off of {self.cutoff:g} nm needs boxes at least"
                f" {2 * self.cutoff:g} nm wide, but the narrowest frame has {least:.4g} nm; set"
                f" backmap.cutoff to {0.5 * least:.3g} nm or less, or use a larger box"
            )


def build_system(topology, force_field, cutoff):
    """OpenMM system as the reference runs use it; errors of the user are named.

    Parameters
    ----------
    topology : openmm.app.Topology
        With box vectors if there is a cut-off.
    force_field : sequence of str
        See :class:`Atoms`.
    cutoff : float or None
        nm; None: the atoms are in vacuum, or in what the force field has as solvent.
    """
    files = [str(name) for name in force_field]
    if not files:
        raise InputError(
            "system.force_field is empty, but atoms need one; list the OpenMM XML files of"
            " the force field that made the reference, for instance [spce.xml]."
        )
    field, what = _read_force_field(files, topology)
    arguments = {
        "nonbondedMethod": app.NoCutoff if cutoff is None else app.PME,
        "nonbondedCutoff": (cutoff or 1.0) * unit.nanometer,
        "constraints": app.HBonds,
        "rigidWater": True,
        "removeCMMotion": False,
    }
    try:
        if isinstance(field, app.ForceField):
            return field.createSystem(topology, **arguments)
        return field.createSystem(**arguments)
    except Exception as error:
        raise InputError(
            f"the force field {what} does not fit the topology: {error}. Check that "
            "residue and atom names agree and that the topology has bonds (CONECT records)."
        ) from error


def _read_force_field(files, topology):
    """ForceField, AmberPrmtopFile or GromacsTopFile, and its name for messages."""
    suffix, box = Path(files[0]).suffix.lower(), topology.getPeriodicBoxVectors()
    try:
        if suffix in (".prmtop", ".parm7"):
            field, what = app.AmberPrmtopFile(files[0], periodicBoxVectors=box), files[0]
        elif suffix == ".top":
            field, what = _GromacsTopology(files[0], files[1:], box), files[0]
        else:
            field, what = app.ForceField(*files), files
    except Exception as error:
        raise InputError(
            f"OpenMM cannot read the force field {files}: {error}. Give files that "
            "come with OpenMM (spce.xml, amber14-all.xml) or paths of your own XML files, one "
            "Amber .prmtop, or one GROMACS .top and the folders of its include files."
        ) from error
    if not isinstance(field, app.ForceField):
        _check_same_atoms(topology, field.topology, what)
    return field, what


class _GromacsTopology(app.GromacsTopFile):
    """As its parent, with any number of folders to look for include files in."""

    def __init__(self, path, folders, box):
        self._folders = tuple(folders)
        super().__init__(path, periodicBoxVectors=box)

    @property
    def _includeDirs(self):  # noqa: N802, the name that the parent reads
        return self._folders + self._found

    @_includeDirs.setter
    def _includeDirs(self, found):  # noqa: N802
        self._found = found


def _openmm_topology(topology):
    """OpenMM's topology of a path or of a topology of mdtraj, always a copy."""
    if isinstance(topology, app.Topology):
        return app.Modeller(
            topology, np.zeros((topology.getNumAtoms(), 3)) * unit.nanometer
        ).topology
    if not isinstance(topology, mdtraj.Topology):
        try:
            topology = mdtraj.load_topology(str(topology))
        except Exception as error:
            raise InputError(
                f"backmap: the topology {topology} cannot be read: {error}. Give a file with "
                "atoms, residues and bonds that mdtraj reads, for instance a PDB."
            ) from error
    return topology.to_openmm()


def _check_same_atoms(ours, theirs, path):
    """Refuse a force field that lists other atoms than the topology."""
    counts = ours.getNumAtoms(), theirs.getNumAtoms()
    if counts[0] != counts[1]:
        raise InputError(
            f"system.topology has {counts[0]} atoms, but {path} has {counts[1]}; give the pair of"
            " files that the reference was run with"
        )
    for ours_, theirs_ in zip(ours.atoms(), theirs.atoms()):
        if None not in (ours_.element, theirs_.element) and ours_.element is not theirs_.element:
            names = [f"{atom.residue.name}-{atom.name}" for atom in (ours_, theirs_)]
            raise InputError(
                f"atom {ours_.index} is {names[0]} in system.topology, but {names[1]} in {path};"
                " give the pair of files that the reference was run with"
            )


def _split_geometric(system, found):
    """Geometric Lennard-Jones as two plain forces, which takes 0.7 of the time of a custom one.

    Its terms 4 epsilon sigma^n / r^n are products over atoms, and so are those of atoms of one
    sigma S, whatever the rule: with a large S only r^-12 is left, with a small one only r^-6. What
    is neglected of the other term is below 1e-8 of it.
    """
    if found is None or not found.geometric:
        return
    forces = system.getForces()
    plain = next(force for force in forces if isinstance(force, openmm.NonbondedForce))
    place = [isinstance(force, openmm.CustomNonbondedForce) for force in forces].index(True)
    custom = forces[place]
    if custom.getUseSwitchingFunction() or custom.getNumInteractionGroups():
        return
    attraction = openmm.NonbondedForce()
    periodic = custom.usesPeriodicBoundaryConditions()
    kind = "CutoffPeriodic" if periodic else "NoCutoff"
    attraction.setNonbondedMethod(getattr(openmm.NonbondedForce, kind))
    attraction.setCutoffDistance(custom.getCutoffDistance())
    for force in (plain, attraction):
        force.setUseDispersionCorrection(custom.getUseLongRangeCorrection())
    for i, (charge, sigma, epsilon) in enumerate(zip(found.charges, found.sigma, found.epsilon)):
        plain.setParticleParameters(i, charge, LARGE, epsilon * (sigma / LARGE) ** 12)
        attraction.addParticle(0.0, SMALL, epsilon * (sigma / SMALL) ** 6)
    for i, j in found.exceptions.tolist():
        attraction.addException(i, j, 0.0, 1.0, 0.0)
    system.removeForce(place)
    system.addForce(attraction)


def bonded_only(system):
    """A copy of an OpenMM System without :data:`NONBONDED_FORCES`."""
    copied = copy.deepcopy(system)
    removed = [k for k, f in enumerate(copied.getForces()) if isinstance(f, NONBONDED_FORCES)]
    for k in reversed(removed):
        copied.removeForce(k)
    return copied


def _soft_system(system, masses):
    """Bonded forces, and a repulsion of atoms closer than the sum of their radii."""
    soft = bonded_only(system)
    plain = [force for force in system.getForces() if isinstance(force, openmm.NonbondedForce)]
    force = openmm.CustomNonbondedForce(SOFT)
    force.addPerParticleParameter("radius")
    for mass in masses:
        radius = 0.0 if mass == 0 else RADIUS_H if mass < HEAVY else RADIUS
        force.addParticle([radius])
    periodic = system.usesPeriodicBoundaryConditions()
    kind = "CutoffPeriodic" if periodic else "CutoffNonPeriodic"
    force.setNonbondedMethod(getattr(openmm.CustomNonbondedForce, kind))
    force.setCutoffDistance(2.0 * RADIUS)
    for each in plain[:1]:
        for k in range(each.getNumExceptions()):
            force.addExclusion(*each.getExceptionParameters(k)[:2])
    soft.addForce(force)
    return soft


def _rigid_bonds(system):
    """Pairs of atoms (n, 2) and lengths (n,), nm, of the constraints of a system."""
    found = [system.getConstraintParameters(k) for k in range(system.getNumConstraints())]
    pairs = np.array([each[:2] for each in found], int).reshape(-1, 2)
    return pairs, np.array([each[2]._value for each in found], float)


def _nonbonded(system, cutoff):
    forces = system.getForces()
    plain = [force for force in forces if isinstance(force, openmm.NonbondedForce)]
    custom = [force for force in forces if isinstance(force, openmm.CustomNonbondedForce)]
    if len(plain) != 1 or len(custom) > 1:
        return None
    force = plain[0]
    n = range(force.getNumParticles())
    charges, sigma, epsilon = (
        np.array([[value._value for value in force.getParticleParameters(i)] for i in n])
        .reshape(-1, 3)
        .T
    )
    if custom:
        if custom[0].getEnergyFunction().replace(" ", "") != GEOMETRIC or epsilon.any():
            return None
        names = [custom[0].getPerParticleParameterName(k) for k in range(2)]
        values = np.array([custom[0].getParticleParameters(i) for i in n])
        c, a = values[:, names.index("C")], values[:, names.index("A")]
        sigma = np.cbrt(np.divide(a, c, out=np.ones_like(a), where=c > 0))
        epsilon = np.divide(c**2, 2 * a, out=np.zeros_like(a), where=a > 0) ** 2
    n = range(force.getNumExceptions())
    found = [force.getExceptionParameters(k) for k in n]
    pairs = np.array([each[:2] for each in found], int).reshape(-1, 2)
    values = np.array([[value._value for value in each[2:]] for each in found]).reshape(-1, 3)
    return Nonbonded(charges, sigma, epsilon, pairs, *values.T, bool(custom), cutoff)
