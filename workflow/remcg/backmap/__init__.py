"""Atomistic configurations for given sites: placement, minimisation, restrained sampling."""

import mdtraj
import numpy as np

from remcg.backmap import checks
from remcg.backmap.linear import Projector
from remcg.backmap.placement import check_shapes, make_whole, place
from remcg.errors import InputError
from remcg.io import replacing, write_h5

CUTOFF = 0.9  # nm
N_BLOCKS = 10
ROUNDS = 100
CLOSE = 1e-9  # nm


def backmap(
    sites,
    boxes,
    topology,
    operator,
    molecules,
    templates,
    force_field,
    temperature,
    seed,
    steps=500,
    stiffness=5e5,
    cutoff=CUTOFF,
    progress=None,
):
    """Draw an atomistic configuration for each coarse-grained frame.

    Template placement with exact sites, minimisation and restrained Langevin sampling (2 fs, the
    first half annealed), then an exact projection onto the sites. The draws aim at
    p(x | M x = y), but a hydrogen-bonded liquid started from random orientations stays above its
    equilibrium energy for much longer than such runs last: see :func:`summarise`, energy_gap.

    Parameters
    ----------
    sites : ndarray, shape (n_frames, n_sites, 3)
        nm; need not be wrapped.
    boxes : ndarray, shape (n_frames, 3)
        Edge lengths, nm.
    topology : path
        Atomistic topology with bonds, anything mdtraj reads.
    operator : sparse matrix, shape (n_sites, n_atoms)
        Mapping, rows that sum to one.
    molecules : sequence of ndarray
        Atom indices of each molecule.
    templates : ndarray, shape (n_templates, n_atoms, 3)
        Reference configurations with whole molecules, nm (see :func:`read_templates`).
    force_field : sequence of str
        XML files that OpenMM's ``ForceField`` reads.
    temperature : float
        K.
    seed : int
        The streams of all frames derive from it.
    steps : int
        Restrained steps per frame.
    stiffness : float
        kJ/mol/nm^2; the bias of the sampling is of order kT/stiffness.
    cutoff : float
        Of PME's direct space, nm.
    progress : callable, optional
        Called with the number of finished frames.

    Returns
    -------
    dict
        Arrays of ``backmap/<state>.h5``: positions (n_frames, n_atoms, 3) nm, whole molecules; box
        (n_frames, 3) nm; sites (n_frames, n_sites, 3) nm, the wrapped targets; residual
        (n_frames,) nm; energy (n_frames,) kJ/mol without restraints; clashes (n_frames,);
        inversions (n_frames,) where there are stereocentres; temperature (K).
    """
    from remcg.backmap.sampling import Sampler  # OpenMM is loaded only by who samples

    atomistic = load_topology(topology)
    sites, boxes = np.asarray(sites, float), np.asarray(boxes, float)
    templates = np.asarray(templates, float)
    check_shapes(sites, boxes, operator, templates, atomistic.n_atoms, topology)
    sites = _wrapped(sites, boxes)
    streams = np.random.SeedSequence(seed).spawn(len(sites) + 1)
    sampler = Sampler(
        atomistic.to_openmm(),
        force_field,
        operator,
        boxes,
        temperature,
        stiffness,
        _openmm_seed(np.random.default_rng(streams[-1])),
        cutoff,
    )
    projector = Projector(operator, sampler.masses)
    species = [_species(atomistic, atoms) for atoms in molecules]
    positions, energies = [], []
    for target, box, stream in zip(sites, boxes, streams):
        rng = np.random.default_rng(stream)
        placed = place(templates, species, molecules, target, projector, rng)
        sampler.start(placed, target, box)
        sampler.minimise()
        sampler.sample(steps, _openmm_seed(rng))
        positions.append(_settle(sampler, projector, target))
        energies.append(sampler.energy(positions[-1]))
        if progress is not None:
            progress(len(positions))
    arrays = {
        "positions": np.array(positions),
        "box": boxes,
        "sites": sites,
        "energy": np.array(energies),
        "temperature": float(temperature),
    }
    residuals = [projector.residual(*frame) for frame in zip(positions, sites, boxes)]
    arrays["residual"] = np.array(residuals)
    arrays.update(_checks(atomistic, molecules, species, templates, positions, boxes))
    return arrays


def summarise(arrays, n_molecules, reference_energy=None):
    """Entry of ``summary.json`` for one state.

    Parameters
    ----------
    arrays : dict
        From :func:`backmap`.
    n_molecules : int
    reference_energy : ndarray, shape (n_frames,), optional
        Potential energies of the reference log at this state, kJ/mol.

    Returns
    -------
    dict
        max_residual_nm, clashes (sum over frames), n_eff_draws (independent draws: one per frame),
        inversions where there are stereocentres; with a reference energy_gap_kJ_mol, the mean
        potential energy per molecule above that of the reference, and energy_gap_se.
    """
    n_frames = len(arrays["positions"])
    result = {
        "max_residual_nm": float(np.max(arrays["residual"])),
        "clashes": int(np.sum(arrays["clashes"])),
        "n_eff_draws": n_frames,
    }
    if "inversions" in arrays:
        result["inversions"] = int(np.sum(arrays["inversions"]))
    if reference_energy is not None:
        ours = np.asarray(arrays["energy"]) / n_molecules
        theirs = np.asarray(reference_energy, float) / n_molecules
        spread = np.std(ours, ddof=1) if n_frames > 1 else np.std(theirs)
        result["energy_gap_kJ_mol"] = float(ours.mean() - theirs.mean())
        result["energy_gap_se"] = float(np.hypot(spread / np.sqrt(n_frames), _block_se(theirs)))
    return result


def evenly_spaced(n_frames, count):
    """Indices of at most ``count`` frames, in the middle of as many equal parts of a trajectory."""
    count = min(count, n_frames)
    return ((np.arange(count) + 0.5) * n_frames / count).astype(int)


def load_topology(path):
    """The mdtraj topology of a file."""
    try:
        return mdtraj.load_topology(str(path))
    except Exception as error:
        raise InputError(
            f"backmap: the topology {path} cannot be read: {error}. Give a file with atoms, "
            "residues and bonds that mdtraj reads, for instance a PDB."
        ) from error


def read_templates(trajectory, topology, molecules, n_frames=5):
    """First frames of an atomistic trajectory, molecules whole, (n_frames, n_atoms, 3) nm."""
    try:
        frames = next(mdtraj.iterload(str(trajectory), top=load_topology(topology), chunk=n_frames))
    except (OSError, ValueError, RuntimeError, StopIteration) as error:
        raise InputError(
            f"backmap: no template molecules can be read from {trajectory} with {topology}: "
            f"{error}. Give the reference trajectory of a training state and its own topology."
        ) from error
    if frames.unitcell_lengths is None:
        raise InputError(
            f"backmap: {trajectory} has no box, so molecules cannot be made whole; write the "
            "trajectory with its unit cell."
        )
    return make_whole(frames.xyz, frames.unitcell_lengths, molecules)


def write_backmapped(path, arrays, topology, state):
    """Write ``backmap/<state>.h5`` and, beside it, a PDB view of the first frame."""
    write_h5(path, arrays, {"state": state, "temperature": arrays["temperature"]})
    with replacing(str(path).removesuffix(".h5") + ".pdb") as temporary:
        with mdtraj.formats.PDBTrajectoryFile(str(temporary), "w") as view:
            view.write(
                10.0 * arrays["positions"][0],  # Angstrom
                load_topology(topology),
                unitcell_lengths=tuple(10.0 * arrays["box"][0]),
                unitcell_angles=(90.0, 90.0, 90.0),
            )


def _settle(sampler, projector, sites):
    """Positions that fulfil rigid bonds and exact sites: alternate both, the sites last."""
    positions = sampler.positions()
    for _ in range(ROUNDS):
        projected = projector.project(positions, sites)
        positions = sampler.constrained(projected)
        if np.abs(projector.map(positions) - sites).max() < CLOSE:
            break
    return projector.project(positions, sites)


def _wrapped(sites, boxes):
    return sites - boxes[:, None, :] * np.floor(sites / boxes[:, None, :])


def _species(topology, atoms):
    """What makes two molecules exchangeable: residue and atom names in order."""
    return tuple((topology.atom(i).residue.name, topology.atom(i).name) for i in atoms)


def _openmm_seed(rng):
    return int(rng.integers(1, 2**31 - 1))


def _checks(topology, molecules, species, templates, positions, boxes):
    """Clashes and, where there are stereocentres, inversions of each frame."""
    elements = [atom.element.symbol if atom.element else "" for atom in topology.atoms]
    molecule = np.zeros(topology.n_atoms, int)
    for index, atoms in enumerate(molecules):
        molecule[atoms] = index
    frames = list(zip(positions, boxes))
    result = {
        "clashes": np.array([checks.count_clashes(x, box, elements, molecule) for x, box in frames])
    }
    bonds = [(a.index, b.index) for a, b in topology.bonds]
    centres = checks.stereocentres(elements, bonds)
    if len(centres):
        kinds = [
            (species[molecule[atom]], int(atom - molecules[molecule[atom]][0]))
            for atom in centres[:, 0]
        ]
        result["inversions"] = np.array(
            [checks.count_inversions(x, templates, centres, kinds) for x in positions]
        )
    return result


def _block_se(values):
    """Standard error of a mean from blocks of consecutive values."""
    blocks = [block.mean() for block in np.array_split(values, min(N_BLOCKS, len(values)))]
    return float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else 0.0
