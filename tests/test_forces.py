"""Forces of basis functions, their normal equations, and the mapped forces of the reference."""

import numpy as np
import pytest
from mdtraj.formats import TRRTrajectoryFile

import naive
import waters
from remcg import config, forces, mapping, target
from remcg.basis import SplineBasis
from remcg.errors import InputError
from remcg.io import read_h5
from remcg.model import PairTerm
from remcg.pairs import pair_sums
from remcg.trajectory import read_frames

NAMES = ("A", "B")
TERMS = [
    PairTerm(("A", "A"), SplineBasis(0.2, 0.6, 9), 1),
    PairTerm(("A", "B"), SplineBasis(0.25, 0.5, 5), 1),
]
EDGES = np.array([1.2, 1.4, 1.3])
SKEWED = np.array([[1.5, 0.0, 0.0], [0.4, 1.6, 0.0], [-0.3, 0.5, 1.55]])


def sites(n=40, seed=1):
    return np.random.default_rng(seed).uniform(-3.0, 5.0, (n, 3)), np.arange(n) % 2


def basis_forces(positions, box, types, terms=TERMS):
    return next(forces.basis_forces(positions[None], box[None], types, NAMES, terms)).copy()


@pytest.mark.parametrize("box", [EDGES, SKEWED], ids=["right angles", "skewed"])
def test_forces_of_a_model_are_those_of_a_plain_loop_wherever_the_images_are(box):
    positions, types = sites()
    thetas = [np.random.default_rng(2).normal(size=term.n_basis) for term in TERMS]
    found = basis_forces(positions, box, types) @ np.concatenate(thetas)
    expected = naive.forces(positions, box, types, NAMES, TERMS, thetas)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_the_force_of_a_basis_function_is_minus_the_gradient_of_its_sum():
    positions, types = sites(20)
    step, found = 1e-6, basis_forces(positions, EDGES, types)
    for site, axis in ((0, 0), (3, 1), (11, 2)):
        moved = np.repeat(positions[None], 2, axis=0)
        moved[:, site, axis] += (step, -step)
        sums = pair_sums(moved, np.tile(EDGES, (2, 1)), types, NAMES, TERMS)
        expected = -(sums[0] - sums[1]) / (2.0 * step)
        np.testing.assert_allclose(found[site, axis], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("r", [0.01, 0.15, 0.2, 0.33, 0.5999999, 0.6])
def test_two_sites_push_each_other_along_their_distance(r):
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]])
    found = basis_forces(positions, EDGES, np.zeros(2, int), TERMS[:1])
    np.testing.assert_allclose(found[1, 2], -TERMS[0].basis.values(r, 1), atol=1e-9)
    np.testing.assert_array_equal(found[0], -found[1])
    assert not found[:, :2].any()


def test_normal_equations_are_those_of_all_rows_at_once():
    rng = np.random.default_rng(3)
    positions, types = rng.uniform(0.0, 1.2, (4, 30, 3)), np.arange(30) % 2
    boxes, reference = np.tile(EDGES, (4, 1)), rng.normal(size=(4, 30, 3))
    rows = np.concatenate([basis_forces(x, EDGES, types).reshape(90, -1) for x in positions])
    normal, right, square = forces.normal_equations(
        positions, boxes, reference, types, NAMES, TERMS
    )
    np.testing.assert_allclose(normal, rows.T @ rows, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(right, rows.T @ reference.ravel(), rtol=1e-10, atol=1e-8)
    assert square == pytest.approx(np.sum(reference**2))


def test_forces_of_other_frames_are_refused():
    positions, types = sites()
    with pytest.raises(InputError, match=r"forces of shape \(2, 40, 3\) do not fit"):
        forces.normal_equations(
            positions[None], EDGES[None], np.zeros((2, 40, 3)), types, NAMES, TERMS
        )


def campaign(folder, field=(), suffix="xtc", **options):
    """Three states of water for force matching; returns the config's path."""
    content = waters.content(rem={"method": "force_matching"})
    content["system"]["force_field"] = list(field)
    path = waters.write_campaign(folder, content, **options)
    if suffix != "xtc":
        path.write_text(path.read_text().replace(".xtc", f".{suffix}"))
    return path


def write_trr(folder, with_forces=True, n_molecules=27, n_frames=30):
    """The trajectories of a campaign as TRR; returns the forces of the first state."""
    first = None
    for seed, name in enumerate(("cold", "hot", "warm"), start=1):
        frames, _ = waters.trajectory(n_molecules, n_frames, seed=seed)
        pushes = np.random.default_rng(seed).normal(size=frames.xyz.shape).astype("f4")
        first = pushes if first is None else first
        with TRRTrajectoryFile(str(folder / f"{name}.trr"), "w") as file:
            time, steps = frames.time.astype("f4"), np.arange(n_frames, dtype="i4")
            boxes = np.ascontiguousarray(frames.unitcell_vectors, "f4")
            given = (np.zeros_like(pushes), pushes) if with_forces else (None, None)
            file._write(frames.xyz, time, steps, boxes, np.zeros(n_frames, "f4"), *given)
    return first


def mapped(path, state, folder):
    loaded = config.load(path)
    mapping.map_trajectory(loaded, state, folder / f"{state}.h5", folder / f"{state}.json")
    return read_h5(folder / f"{state}.h5")[0]


def test_forces_of_a_trajectory_are_summed_over_the_atoms_of_each_site(tmp_path):
    path = campaign(tmp_path, suffix="trr", field=["spce.xml"])
    atomistic = write_trr(tmp_path)
    found = mapped(path, "cold", tmp_path)["forces"]
    np.testing.assert_allclose(found, atomistic.reshape(30, 27, 3, 3).sum(axis=2), atol=1e-5)


def test_states_that_are_not_trained_on_need_no_forces(tmp_path):
    path = campaign(tmp_path, field=["spce.xml"])
    assert "forces" not in mapped(path, "warm", tmp_path)


def test_a_campaign_without_forces_and_force_field_is_refused_at_once(tmp_path):
    path = campaign(tmp_path)
    with pytest.raises(InputError, match=r"cold\.xtc of cold has none and system\.force_field is"):
        config.load(path)


def test_a_trajectory_whose_file_could_hold_forces_but_does_not_is_refused(tmp_path):
    path = campaign(tmp_path, suffix="trr")
    write_trr(tmp_path, with_forces=False)
    with pytest.raises(InputError, match=r"cold: forces on sites need .* cold\.trr has none"):
        mapped(path, "cold", tmp_path)


def test_sums_over_forces_that_were_never_mapped_are_refused(tmp_path):
    waters.write_campaign(tmp_path, n_frames=3)
    found = tmp_path / "campaign.yaml"
    mapped(found, "cold", tmp_path)
    with pytest.raises(InputError, match=r"cold: .* has no forces, which force matching needs"):
        target.compute(tmp_path / "cold.h5", [PairTerm(("W", "W"), TERMS[0].basis, 1)], forces=True)


def test_forces_that_openmm_computes_are_minus_the_slope_of_its_energy(tmp_path):
    """Moving a whole molecule changes the energy by the sum of the forces on its atoms."""
    import openmm
    from openmm import app, unit

    path = campaign(tmp_path, ["spce.xml"], n_molecules=27, n_frames=3)
    arrays = mapped(path, "cold", tmp_path)
    box = arrays["box"][0]
    topology, found = mapping.sites_of(tmp_path / "topology.pdb", tmp_path / "water.yaml")
    field = app.ForceField("spce.xml")
    atoms = topology.to_openmm()
    atoms.setUnitCellDimensions(tuple(box))
    system = field.createSystem(
        atoms, nonbondedMethod=app.PME, nonbondedCutoff=0.9, rigidWater=True
    )
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPeriodicBoxVectors(*np.diag(box))
    chunk = next(read_frames([tmp_path / "cold.xtc"], topology, "cold"))
    start = mapping.Unwrapper(topology, found.atoms)(chunk, "cold")[0]
    energies = []
    for step in (1e-4, -1e-4):
        moved = start.copy()
        moved[found.atoms[5], 0] += step
        context.setPositions(moved)
        energy = context.getState(getEnergy=True).getPotentialEnergy()
        energies.append(energy.value_in_unit(unit.kilojoule_per_mole))
    slope = (energies[0] - energies[1]) / 2e-4
    assert arrays["forces"][0, 5, 0] == pytest.approx(-slope, rel=2e-3, abs=1.0)
