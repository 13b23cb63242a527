"""Atoms come back exactly where the sites are, frame by frame, and into files others read."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import yaml

import test_backmap_checks
from remcg import backmap, mapping
from remcg.backmap import frames as frames_of
from remcg.backmap import output, posterior
from remcg.errors import InputError, SamplingError
from remcg.io import read_h5
from remcg.statistics import effective_number
from remcg.trajectory import Selection

MASSES = np.array([15.99943, 1.007947, 1.007947])
WATER = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [-0.0333314, 0.0942816, 0.0]])
N_SIDE, EDGE = 4, 1.25
RESOURCES = Path(__file__).parents[1] / "resources"
SETTINGS = backmap.Settings(draws=2, steps=40, sweeps=30, cutoff=0.6)
SKEW = np.array([[1.0, 0, 0], [0.3, 1.0, 0], [-0.2, 0.25, 1.0]])


def lattice(n_side, edge):
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), axis=-1)
    return (grid.reshape(-1, 3) + 0.5) * edge / n_side


def sites_of(topology, **sites):
    """The mapping of a topology of one residue: SITE=[atoms]."""
    names = {residue.name for residue in topology.residues}
    rules = tuple(mapping.SiteMap(name, name, atoms, "mass") for name, atoms in sites.items())
    return mapping.build_sites(topology, {name: mapping.ResidueMap(rules) for name in names})


CUBES = np.full((2, 3), EDGE)


def case(n=N_SIDE**3, boxes=CUBES, **changes):
    """The arguments of backmap for two frames of a few waters."""
    topology = mdtraj.load(str(RESOURCES / "spce" / "topology.pdb")).topology
    topology = topology.subset(np.arange(3 * n))
    rng = np.random.default_rng(3)
    sites = lattice(N_SIDE, 1.0)[:n]
    sites = sites @ (boxes[0] if np.ndim(boxes) == 3 else EDGE * np.eye(3))
    sites = sites + 0.01 * rng.normal(size=(2, n, 3))
    shapes = (np.tile(WATER, (n, 1)) + np.repeat(sites[0], 3, axis=0))[None]
    arguments = {
        "frames": sites,
        "boxes": boxes,
        "topology": topology,
        "mapped": sites_of(topology, W=["O", "H1", "H2"]),
        "templates": backmap.Frames(shapes, boxes[:1]),
        "force_field": ["spce.xml"],
        "temperature": 300.0,
        "seed": 7,
        "settings": SETTINGS,
    }
    return {**arguments, **changes}


@pytest.fixture(scope="module")
def water():
    return case()


@pytest.fixture(scope="module")
def found(water):
    return backmap.backmap(**water)


def water_distances(positions):
    frame = positions.reshape(-1, 3, 3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    return np.array([np.linalg.norm(frame[:, a] - frame[:, b], axis=-1) for a, b in pairs])


def assert_rigid(positions):
    for x in positions:
        assert np.abs(water_distances(x) - water_distances(WATER)).max() < 1e-6


def test_the_sites_of_the_result_are_the_given_sites(water, found):
    arrays = found.arrays
    assert arrays["frame"].tolist() == [0, 0, 1, 1] and arrays["draw"].tolist() == [0, 1, 0, 1]
    for x, k in zip(arrays["positions"], arrays["frame"]):
        difference = water["mapped"].matrix @ x - water["frames"][k]
        difference -= EDGE * np.round(difference / EDGE)
        assert np.abs(difference).max() < 1e-9
    assert arrays["residual"].max() < 1e-9
    assert arrays["positions"].dtype == np.float64
    assert_rigid(arrays["positions"])


def test_sampling_lowers_the_energy_of_a_random_placement(water, found):
    """Random orientations are near 0 kJ/mol per molecule, liquid water is near -45."""
    assert (found.arrays["energy"] / len(water["mapped"].atoms) < -25).all()


def test_draws_and_frames_differ_and_a_seed_fixes_them(water, found):
    x = found.arrays["positions"]
    assert np.abs(x[0] - x[1]).max() > 0.01
    one = {key: value[:1] for key, value in water.items() if key in ("frames", "boxes")}
    again = backmap.backmap(**{**water, **one})
    assert np.array_equal(again.arrays["positions"], x[:2])
    other = backmap.backmap(**{**water, **one, "seed": 8}).arrays["positions"]
    assert np.abs(other[0] - x[0]).max() > 0.01


def test_a_skew_box_works():
    skew = np.tile(1.25 * SKEW, (2, 1, 1))
    result = backmap.backmap(**case(boxes=skew, settings=replace(SETTINGS, draws=1, cutoff=0.5)))
    assert result.arrays["residual"].max() < 1e-9
    assert result.arrays["box"].shape == (2, 3, 3)
    assert_rigid(result.arrays["positions"])


def test_molecules_in_vacuum_need_no_box():
    given = case(n=8, settings=replace(SETTINGS, cutoff=None))
    given["templates"] = backmap.Frames(given["templates"].positions, None)
    result = backmap.backmap(**{**given, "boxes": None})
    assert "box" not in result.arrays
    assert result.arrays["residual"].max() < 1e-9
    assert_rigid(result.arrays["positions"])


NBFIX = """<ForceField>
 <AtomTypes><Type name="OW" class="OW" element="O" mass="15.99943"/>
  <Type name="HW" class="HW" element="H" mass="1.007947"/></AtomTypes>
 <Residues><Residue name="HOH">
  <Atom name="O" type="OW"/><Atom name="H1" type="HW"/><Atom name="H2" type="HW"/>
  <Bond from="0" to="1"/><Bond from="0" to="2"/>
 </Residue></Residues>
 <HarmonicBondForce><Bond class1="OW" class2="HW" length="0.1" k="1e5"/></HarmonicBondForce>
 <HarmonicAngleForce>
  <Angle class1="HW" class2="OW" class3="HW" angle="1.91061193216" k="800"/>
 </HarmonicAngleForce>
 <NonbondedForce coulomb14scale="1" lj14scale="1">
  <Atom type="OW" charge="-0.8476" sigma="1" epsilon="0"/>
  <Atom type="HW" charge="0.4238" sigma="1" epsilon="0"/>
 </NonbondedForce>
 <LennardJonesForce lj14scale="1">
  <Atom type="OW" sigma="0.3166" epsilon="0.65"/><Atom type="HW" sigma="1" epsilon="0"/>
  <NBFixPair type1="OW" type2="HW" sigma="0.1" epsilon="0.01"/>
 </LennardJonesForce>
</ForceField>"""


CUSTOM_ANGLE = """<CustomAngleForce energy="0.0*theta">
  <Angle class1="HW" class2="OW" class3="HW"/>
 </CustomAngleForce>"""


def test_molecules_whose_pairs_follow_no_rule_are_sampled_by_dynamics_and_that_is_said(tmp_path):
    (tmp_path / "nbfix.xml").write_text(NBFIX)
    given = case(n=8, settings=replace(SETTINGS, cutoff=None), force_field=[tmp_path / "nbfix.xml"])
    given["templates"] = backmap.Frames(given["templates"].positions, None)
    lines = []
    result = backmap.backmap(**{**given, "boxes": None}, progress=lines.append)
    assert "8 molecules of one site do not turn" in lines[0] and "NBFIX" in lines[0]
    assert backmap.summarise(result)["unturned_molecules"] == 8
    assert result.arrays["residual"].max() < 1e-9
    assert_rigid(result.arrays["positions"])


def test_the_linear_inverse_needs_no_force_field_and_puts_atoms_at_their_site(water):
    linear = replace(SETTINGS, method="pseudoinverse")
    result = backmap.backmap(**{**water, "settings": linear, "force_field": []})
    x = result.arrays["positions"].reshape(2, -1, 3, 3)
    assert np.abs(x - result.arrays["sites"][:, :, None]).max() < 1e-12
    assert result.arrays["residual"].max() < 1e-12
    numbers = backmap.summarise(result)
    missing = {"clashes", "inversions", "unturned_molecules", "n_eff_draws", "offending_frames"}
    assert numbers.keys() & missing == set()


def test_map_keeps_the_best_of_several_tries(water):
    energies = []
    for draws in (1, 3):
        settings = replace(SETTINGS, method="map", draws=draws)
        result = backmap.backmap(**{**water, "settings": settings})
        assert result.arrays["draw"].tolist() == [0, 0]
        assert result.arrays["residual"].max() < 1e-9
        energies.append(result.arrays["energy"])
    assert (energies[1] <= energies[0] + 1e-6).all()


def test_molecules_that_were_turned_fall_into_lower_minima(water):
    means = []
    for sweeps in (0, 80):
        settings = replace(SETTINGS, method="map", draws=1, sweeps=sweeps)
        energies = [
            backmap.backmap(**{**water, "settings": settings, "seed": seed}).arrays["energy"]
            for seed in range(4)
        ]
        means.append(np.mean(energies) / N_SIDE**3)
    assert means[1] < means[0] - 0.5  # kJ/mol per molecule


def test_finished_frames_are_kept_and_not_made_again(water, found, tmp_path):
    lines = []
    for _ in range(2):
        result = backmap.backmap(**water, folder=tmp_path / "frames", progress=lines.append)
        assert np.array_equal(result.arrays["positions"], found.arrays["positions"])
    assert [line for line in lines if "kept" in line] == lines[2:]
    warmer = {**water, "temperature": 310.0}
    backmap.backmap(**warmer, folder=tmp_path / "frames", progress=lines.append)
    assert "belongs to another" in lines[4]
    backmap.remove_frames(tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


DIMER = """<ForceField>
 <AtomTypes><Type name="D" class="D" element="C" mass="12.0"/></AtomTypes>
 <Residues><Residue name="DIM">
  <Atom name="C1" type="D"/><Atom name="C2" type="D"/><Bond from="0" to="1"/>
 </Residue></Residues>
 <HarmonicBondForce><Bond class1="D" class2="D" length="0.15" k="2e5"/></HarmonicBondForce>
 <NonbondedForce coulomb14scale="1" lj14scale="1">
  <Atom type="D" charge="0" sigma="0.2" epsilon="0.1"/>
 </NonbondedForce>
</ForceField>"""


def dimers(folder, distances):
    """One molecule of two atoms, a site each, at a distance per frame."""
    (folder / "dimer.xml").write_text(DIMER)
    topology = mdtraj.Topology()
    residue = topology.add_residue("DIM", topology.add_chain())
    topology.add_bond(*[topology.add_atom(f"C{k}", mdtraj.element.carbon, residue) for k in (1, 2)])
    sites = np.zeros((len(distances), 2, 3))
    sites[:, 1, 0] = distances
    return {
        "frames": sites,
        "boxes": np.full((len(distances), 3), 1.5),
        "topology": topology,
        "mapped": sites_of(topology, A=["C1"], B=["C2"]),
        "templates": backmap.Frames(np.array([[[0, 0, 0], [0.15, 0, 0]]]), None),
        "force_field": [folder / "dimer.xml"],
        "temperature": 300.0,
        "seed": 1,
        "settings": SETTINGS,
    }


def test_a_frame_that_cannot_be_met_is_named_and_the_others_are_kept(tmp_path):
    result = backmap.backmap(**dimers(tmp_path, [0.15, 0.7, 0.151]))
    assert np.unique(result.arrays["frame"]).tolist() == [0, 2]
    assert result.arrays["residual"].max() < 1e-9
    (failure,) = result.failures
    assert failure["frame"] == 1
    assert "molecule 0 (DIM0): sites 0 and 1 are 0.700 nm apart" in failure["reason"]
    numbers = backmap.summarise(result)
    assert numbers["failed_frames"] == 1 and numbers["n_frames"] == 2
    assert numbers["offending_frames"] == [1] and numbers["inefficiency_ps"] > 0


def test_a_frame_in_a_box_smaller_than_the_cutoff_does_not_lose_the_others(tmp_path):
    given = dimers(tmp_path, [0.15, 0.151])
    given["boxes"] = np.array([[1.1, 1.5, 1.5], [1.5, 1.5, 1.5]])
    result = backmap.backmap(**given)
    assert np.unique(result.arrays["frame"]).tolist() == [1]
    assert "the narrowest frame has 1.1 nm" in result.failures[0]["reason"]


def test_without_any_good_frame_there_is_an_error(tmp_path):
    with pytest.raises(backmap.NoStructureError, match=r"none of the 2 frames of T300 .* 0.700 nm"):
        backmap.backmap(**dimers(tmp_path, [0.7, 0.8]), where="T300")


@pytest.mark.parametrize("extra", ["", CUSTOM_ANGLE])
def test_many_molecules_of_several_sites_choose_conformers_or_say_why_not(tmp_path, extra):
    """Waters of two sites, flexible; a force that is not known to the choice is said."""
    field = NBFIX.split(" <LennardJonesForce")[0] + extra + "</ForceField>"
    field = field.replace('"-0.8476" sigma="1" epsilon="0"', '"-0.8476" sigma="0.3" epsilon="0.6"')
    (tmp_path / "own.xml").write_text(field.replace("HOH", "FLX"))
    given = case(n=40, settings=replace(SETTINGS, cutoff=None, method="map", draws=1))
    for residue in given["topology"].residues:
        residue.name = "FLX"  # else OpenMM makes it rigid
    mapped = sites_of(given["topology"], A=["O", "H1"], B=["H2"])
    x = given["templates"].positions[0]
    change = {
        "mapped": mapped,
        "frames": (mapped.matrix @ x)[None],
        "boxes": None,
        "templates": backmap.Frames(x[None], None),
        "force_field": [tmp_path / "own.xml"],
    }
    lines = []
    result = backmap.backmap(**{**given, **change}, progress=lines.append)
    assert result.failures == [] and result.arrays["residual"].max() < 1e-9
    assert any("by their sites alone" in line for line in lines) == bool(extra)


HALOFORM = """<ForceField>
 <AtomTypes>{types}</AtomTypes>
 <Residues><Residue name="HAL">{atoms}{bonds}</Residue></Residues>
 <HarmonicBondForce>{lengths}</HarmonicBondForce>
 <NonbondedForce coulomb14scale="1" lj14scale="1">
  <UseAttributeFromResidue name="charge"/>{pairs}
 </NonbondedForce>
</ForceField>"""


def haloform_field():
    """A force field of CHFClBr with bonds alone."""
    symbols, lengths = ["C", "H", "F", "Cl", "Br"], [0.0, 0.109, 0.136, 0.176, 0.194]
    parts = {name: "" for name in ("types", "atoms", "bonds", "lengths", "pairs")}
    for k, symbol in enumerate(symbols):
        kind = f'name="{symbol}" class="{symbol}" element="{symbol}" mass="{10 + k}"'
        parts["types"] += f"<Type {kind}/>"
        parts["atoms"] += f'<Atom name="{symbol.upper()}" type="{symbol}" charge="0"/>'
        parts["pairs"] += f'<Atom type="{symbol}" sigma="0.2" epsilon="0.1"/>'
    for k, symbol in enumerate(symbols[1:], start=1):
        parts["bonds"] += f'<Bond from="0" to="{k}"/>'
        bond = f'class1="C" class2="{symbol}" length="{lengths[k]}" k="2e5"'
        parts["lengths"] += f"<Bond {bond}/>"
    return HALOFORM.format(**parts)


def test_molecules_of_a_racemic_mixture_get_conformers_of_their_own_hand(tmp_path):
    (tmp_path / "haloform.xml").write_text(haloform_field())
    topology, shape = test_backmap_checks.haloform(8)
    hands = [1, -1, 1, 1, -1, -1, 1, -1]
    x = np.concatenate([shape * [1, 1, hand] + [2 * k, 0, 0] for k, hand in enumerate(hands)])
    mapped = sites_of(topology, A=["C", "H", "F"], B=["CL", "BR"])
    settings = backmap.Settings(method="map", draws=1, cutoff=None)
    result = backmap.backmap(
        np.tile(mapped.matrix @ x, (3, 1, 1)), None, topology, mapped,
        backmap.Frames(x[None], None), [tmp_path / "haloform.xml"], 300.0, 1, settings,
    )  # fmt: skip
    assert "inversions" in result.checked and result.offending == result.failures == []
    centres = np.array([[5 * k, 5 * k + 1, 5 * k + 2, 5 * k + 3, 5 * k + 4] for k in range(8)])
    found = backmap.checks.handedness(result.arrays["positions"], centres)
    assert (found == backmap.checks.handedness(x, centres)).all()


@pytest.mark.parametrize("what", ["coordinates", "box", "flat"])
def test_a_frame_that_has_blown_up_does_not_lose_the_others(tmp_path, what):
    given = dimers(tmp_path, [0.15, 0.151])
    if what == "coordinates":
        given["frames"][0, 1] = np.inf
    else:
        given["boxes"][0, 2] = np.nan if what == "box" else 0.0
    result = backmap.backmap(**given)
    assert np.unique(result.arrays["frame"]).tolist() == [1]
    assert "has blown up there" in result.failures[0]["reason"]


def test_structures_that_are_not_finite_are_a_failure_of_their_frame(tmp_path, monkeypatch):
    """And so is what OpenMM itself refuses; the other frame stays."""
    from openmm import OpenMMException

    plain, calls = backmap.Workshop._draws, []

    def spoilt(self, sites, *rest):
        calls.append(sites)
        found = plain(self, sites, *rest)
        if len(calls) == 1:
            found["positions"][0, 0] = np.nan
        if len(calls) == 2:
            raise OpenMMException("Particle coordinate is NaN")
        return found

    monkeypatch.setattr(backmap.Workshop, "_draws", spoilt)
    result = backmap.backmap(**dimers(tmp_path, [0.15, 0.151, 0.15]))
    assert np.unique(result.arrays["frame"]).tolist() == [2]
    reasons = [failure["reason"] for failure in result.failures]
    assert "not finite" in reasons[0] and "coordinate is NaN" in reasons[1]


@pytest.mark.parametrize("method", ["posterior", "map"])
def test_a_draw_that_fails_does_not_lose_the_others_of_its_frame(tmp_path, monkeypatch, method):
    plain, calls = backmap.Workshop._placed, []
    n_failing = posterior.MOST_TRIES if method == "posterior" else 1  # of the first draw

    def fragile(self, *arguments):
        calls.append(1)
        if len(calls) <= n_failing:
            raise SamplingError("no start")
        return plain(self, *arguments)

    monkeypatch.setattr(backmap.Workshop, "_placed", fragile)
    given = dimers(tmp_path, [0.15])
    given["settings"] = replace(SETTINGS, method=method, draws=2)
    for _ in range(2):  # the second time from disk
        result = backmap.backmap(**given, folder=tmp_path / "frames")
        assert result.failures == [] and len(result.arrays["positions"]) == 1
        lost = [{"frame": 0, "draw": 1, "what": "no structure: no start"}]
        assert result.offending == (lost if method == "posterior" else [])


def test_map_prefers_a_structure_without_a_defect_and_says_what_did_not_converge(
    water, monkeypatch
):
    """The first of three tries has least energy and a clash."""
    given = {**water, "frames": water["frames"][:1], "boxes": CUBES[:1]}
    given["settings"] = replace(SETTINGS, method="map", draws=3)
    plain, made = backmap.Workshop._minimum, []

    def minimum(self, *arguments):
        found = plain(self, *arguments)
        if not made:
            found = found._replace(energy=-1e9, is_defective=True)
        made.append(found.energy)
        return found._replace(is_minimum=False)

    monkeypatch.setattr(backmap.Workshop, "_minimum", minimum)
    result = backmap.backmap(**given)
    assert result.arrays["energy"] == min(made[1:]) > -1e9
    assert backmap.summarise(result)["unconverged_minima"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "Posterior"}, "there is no method 'Posterior'; choose pseudoinverse, map"),
        ({"draws": 0}, "draws is 0, .* give at least one draw"),
        ({"steps": -1}, "steps -1, .* no negative number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        backmap.Settings(**change)


def test_defects_are_listed_with_their_frame(water, found):
    checker = backmap.checks.Checker(
        water["topology"], water["mapped"].atoms, water["templates"].positions, water["boxes"][:1]
    )
    workshop = type("W", (), {"checker": checker, "unturned": 0, "state": lambda self, *_: None})()
    arrays = {**found.arrays, "positions": found.arrays["positions"].copy()}
    arrays["positions"][2, 3:6] = arrays["positions"][2, :3] + 0.02
    result = backmap._checked(arrays, [], {}, workshop, 1)
    (defect,) = result.offending
    assert (defect["frame"], defect["draw"]) == (1, 0)
    assert "clashes (at most 0 are usual)" in defect["what"]
    assert backmap.summarise(result)["defective_structures"] == 1


def test_the_written_files_can_be_read_again(water, found, tmp_path):
    path = tmp_path / "T300.h5"
    backmap.write_backmapped(path, found.arrays, water["topology"], "T300", found.start)
    arrays, attributes = read_h5(path)
    x = found.arrays["positions"]
    assert np.array_equal(arrays["positions"], x) and attributes["state"] == "T300"
    view = mdtraj.load(str(tmp_path / "T300.pdb"))
    assert np.abs(view.xyz[0] - x[0]).max() < 1e-3
    assert view.unitcell_lengths[0] == pytest.approx(EDGE)
    assert view.topology.n_bonds == water["topology"].n_bonds
    ensemble = mdtraj.load(str(tmp_path / "T300.xtc"), top=str(tmp_path / "T300.pdb"))
    assert np.abs(ensemble.xyz - x).max() < 1e-3
    assert ensemble.unitcell_lengths == pytest.approx(EDGE)


def test_mdanalysis_reads_what_was_written(water, found, tmp_path):
    """Positions and boxes of the ensemble, in Angstrom."""
    universe = pytest.importorskip("MDAnalysis").Universe
    output.write_backmapped(tmp_path / "T300.h5", found.arrays, water["topology"], "T300")
    read = universe(str(tmp_path / "T300.pdb"), str(tmp_path / "T300.xtc"))
    x = found.arrays["positions"]
    assert len(read.trajectory) == len(x) and read.atoms.n_atoms == x.shape[1]
    assert read.residues.resnames.tolist() == [r.name for r in water["topology"].residues]
    for frame, expected in zip(read.trajectory, x):
        assert np.abs(frame.positions / 10 - expected).max() < 1e-3
        np.testing.assert_allclose(frame.dimensions, [10 * EDGE] * 3 + [90] * 3, rtol=1e-5)


def test_a_peptide_in_vacuum_keeps_its_centres_and_amides(monkeypatch):
    """Every structure over sites of its own dynamics passes the gates; all of them are watched."""
    import openmm
    from openmm import app, unit

    loaded = mdtraj.load(str(RESOURCES / "pentaalanine" / "topology.pdb"))
    names = ["amber14/protein.ff14SB.xml"]
    system = app.ForceField(*names).createSystem(
        loaded.topology.to_openmm(), constraints=app.HBonds
    )
    integrator = openmm.LangevinMiddleIntegrator(400 * unit.kelvin, 5.0, 0.002)
    integrator.setRandomNumberSeed(5)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, integrator, platform, {"Threads": "1"})
    context.setPositions(loaded.xyz[0].astype(float))
    x = []
    for _ in range(40):
        integrator.step(50)
        x.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    rules = mapping.read_mapping(RESOURCES.parent / "config/mappings/pentaalanine-1site.yaml")
    mapped = mapping.build_sites(loaded.topology, rules)
    sites = np.array([mapped.matrix @ each for each in x[5::15]])
    templates = backmap.Frames(np.array(x), None)
    settings = backmap.Settings(draws=2, steps=60, cutoff=None)
    monkeypatch.setattr(posterior, "MOST_TRIES", 3)
    result = backmap.backmap(
        sites, None, loaded.topology, mapped, templates, names, 400.0, 3, settings
    )
    assert result.failures == [] and result.offending == []
    assert result.checked == ("clashes", "inversions", "cis_trans")
    assert result.arrays["residual"].max() < 1e-9
    assert len(result.arrays["positions"]) == 6


def test_openmm_goes_on_from_the_written_state(water, found, tmp_path):
    import openmm
    from openmm import app, unit

    output.write_state(tmp_path / "state.xml", found.start)
    atoms = water["topology"].to_openmm()
    atoms.setPeriodicBoxVectors(np.diag(water["boxes"][0]) * unit.nanometer)
    system = app.ForceField("spce.xml").createSystem(
        atoms, nonbondedMethod=app.PME, nonbondedCutoff=0.6, constraints=app.HBonds
    )
    integrator = openmm.VerletIntegrator(0.001)
    simulation = app.Simulation(atoms, system, integrator)
    simulation.loadState(str(tmp_path / "state.xml"))
    state = simulation.context.getState(energy=True, velocities=True)
    assert state.getPotentialEnergy()._value == pytest.approx(found.arrays["energy"][0], rel=1e-4)
    v = state.getVelocities(asNumpy=True)._value
    kinetic = 0.5 * (np.tile(MASSES, 64)[:, None] * v**2).sum()
    expected = 0.5 * 6 * 64 * 0.00831446 * 300
    assert abs(kinetic / expected - 1) < 4.5 * np.sqrt(2 / (6 * 64))
    simulation.step(5)


def test_structures_in_skew_boxes_and_in_vacuum_can_be_read_again(tmp_path):
    topology = mdtraj.load(str(RESOURCES / "hexane" / "HEX.pdb")).topology
    x = np.random.default_rng(1).uniform(0, 1, (3, topology.n_atoms, 3))
    output.write_xtc(tmp_path / "skew.xtc", x, np.tile(2 * SKEW, (3, 1, 1)))
    output.write_pdb(tmp_path / "skew.pdb", topology, x[0], 2 * SKEW)
    for frames in (
        mdtraj.load(str(tmp_path / "skew.xtc"), top=str(tmp_path / "skew.pdb")),
        mdtraj.load(str(tmp_path / "skew.pdb")),
    ):
        assert np.abs(frames.unitcell_vectors[0] - 2 * SKEW).max() < 1e-3
        assert np.abs(frames.xyz[0] - x[0]).max() < 1e-3
    output.write_xtc(tmp_path / "vacuum.xtc", x)
    output.write_pdb(tmp_path / "vacuum.pdb", topology, x[0])
    frames = mdtraj.load(str(tmp_path / "vacuum.xtc"), top=str(tmp_path / "vacuum.pdb"))
    assert np.abs(frames.xyz - x).max() < 1e-3


@pytest.mark.parametrize("box", [None, np.array([2.0, 2.1, 2.2]), 2 * SKEW])
def test_mmcif_holds_what_pdb_has_no_columns_for(tmp_path, box):
    from openmm import app

    topology = mdtraj.load(str(RESOURCES / "hexane" / "HEX.pdb")).topology
    x = np.random.default_rng(1).uniform(0, 1, (topology.n_atoms, 3))
    output.write_mmcif(tmp_path / "first.cif", topology, x, box)
    view = mdtraj.load(str(tmp_path / "first.cif"))
    assert np.abs(view.xyz[0] - x).max() < 1e-3 and view.n_residues == topology.n_residues
    read = app.PDBxFile(str(tmp_path / "first.cif"))
    assert np.abs(read.getPositions(asNumpy=True)._value - x).max() < 1e-3
    assert read.topology.getNumBonds() == topology.n_bonds
    vectors = read.topology.getPeriodicBoxVectors()
    assert (vectors is None) == (box is None)
    if box is not None:
        expected = np.diag(box) if box.ndim == 1 else box
        assert np.abs(np.array(vectors._value) - expected).max() < 1e-3


def test_the_summary_has_only_quantities_that_exist(found):
    numbers = backmap.summarise(found)
    assert "clashes" in numbers and "inversions" not in numbers and "piercings" not in numbers
    assert numbers["n_structures"] == 4 and numbers["n_frames"] == 2
    assert numbers["max_residual_nm"] < 1e-9


@pytest.mark.parametrize(
    ("gaps", "apart", "is_posterior"),
    [([0.2, -0.1, 0.1], 0, True), ([6.0, -6.0, 0.0], 2, False), ([0.5, 0.6, 0.5], 0, False)],
)
def test_gaps_of_frames_do_not_cancel_in_the_verdict(gaps, apart, is_posterior):
    numbers = backmap._agreement(np.array(gaps), np.full(3, 0.2))
    assert numbers["two_sided_gap_kJ_mol"] == pytest.approx(np.mean(gaps))
    assert numbers["annealed_frames"] == apart
    assert numbers["is_posterior"] is is_posterior


def test_weights_of_draws_lower_their_effective_number(tmp_path):
    """A rigid molecule about another point than its centre of mass: all have the same weight."""
    assert effective_number(np.zeros(5)) == pytest.approx(5)
    assert effective_number(np.log([1.0, 1.0, 1e-9])) == pytest.approx(2)
    assert backmap._spread(np.array([0.0, 2.0, 7.0]), np.array([0, 0, 1])) == pytest.approx(2**0.5)
    given = case(n=1, settings=replace(SETTINGS, cutoff=None, draws=3))
    rule = mapping.ResidueMap((mapping.SiteMap("W", "W", ["O", "H1", "H2"], "geometric"),))
    given["mapped"] = mapping.build_sites(given["topology"], {"HOH": rule})
    given["templates"] = backmap.Frames(given["templates"].positions, None)
    result = backmap.backmap(**{**given, "boxes": None})
    assert result.arrays["log_weight"].shape == (6,)
    numbers = backmap.summarise(result)
    assert numbers["n_eff_draws"] == pytest.approx(6) and numbers["log_weight_sd"] < 1e-6
    result.arrays["log_weight"][:3] += [0.0, 0.0, 3.0]
    assert backmap.summarise(result)["log_weight_sd"] == pytest.approx(1.5**0.5)


def test_chosen_frames_are_spread_over_the_trajectory():
    assert backmap.evenly_spaced(100, 4).tolist() == [12, 37, 62, 87]
    assert backmap.evenly_spaced(2, 4).tolist() == [0, 1]


def test_reference_frames_come_whole_and_as_chosen(tmp_path):
    spce = RESOURCES / "spce"
    frames = mdtraj.load(str(spce / "T310.xtc"), top=str(spce / "topology.pdb"), stride=100)
    frames.save_xtc(str(tmp_path / "few.xtc"))
    mapped = sites_of(frames.topology, W=["O", "H1", "H2"])
    arguments = [tmp_path / "few.xtc"], frames.topology, mapped.atoms, "T310"
    found = backmap.read_reference(*arguments, [1, 3])
    assert len(found) == 2 and found.is_rounded
    assert np.abs(water_distances(found.positions[1]) - water_distances(WATER)).max() < 3e-3
    offset = (found.positions[1] - frames.xyz[3]) / found.boxes[1]
    assert np.abs(offset - np.round(offset)).max() < 1e-5
    vacuum = backmap.read_reference(*arguments, [0], Selection(stride=2), in_vacuum=True)
    assert vacuum.boxes is None and vacuum.box(0) is None
    with pytest.raises(InputError, match=r"T310: its trajectory has 5 frames, but .* number 7"):
        backmap.read_reference(*arguments, [1, 7])


def test_sites_of_a_molecule_across_the_box_are_made_whole():
    topology = mdtraj.load(str(RESOURCES / "hexane" / "HEX.pdb")).topology
    with open(Path(__file__).parents[1] / "config" / "mappings" / "hexane-3site.yaml") as file:
        names = yaml.safe_load(file)["HEX"]["sites"]
    mapped = sites_of(topology, **{name: site["atoms"] for name, site in names.items()})
    sites = np.array([[[0.9, 0.9, 0.9], [1.15, 0.9, 0.9], [1.4, 0.9, 0.9]]])
    for box in (np.ones(3), SKEW):
        torn = sites - np.floor(sites @ np.linalg.inv(frames_of.vectors(box))) @ (
            np.diag(box) if box.ndim == 1 else box
        )
        whole, _ = frames_of.prepare_sites(torn, box[None], mapped, topology, "T")
        np.testing.assert_allclose(np.diff(whole[0], axis=0), [[0.25, 0, 0]] * 2, atol=1e-12)


WATERS = case()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"force_field": ["no-such.xml"]}, r"cannot read the force field \['no-such.xml'\]"),
        ({"force_field": []}, "system.force_field is empty"),
        ({"force_field": ["amber14/protein.ff14SB.xml"]}, "does not fit the topology"),
        ({"topology": WATERS["topology"].subset(range(30))}, "the topology of the state has 30"),
        ({"templates": backmap.Frames(np.zeros((1, 9, 3)), None)}, "the state have 9 atoms"),
        ({"templates": backmap.Frames(np.zeros((0, 9, 3)), None)}, "the state have 0 atoms"),
        (
            {"starts": WATERS["templates"]},
            r"starts of the state have shape \(1, 192, 3\), where \(2",
        ),
        ({"frames": np.zeros((2, 3, 3))}, "have 3 sites, but the mapping .* makes 64"),
        ({"frames": np.zeros((0, 64, 3)), "boxes": np.zeros((0, 3))}, "at least one frame of"),
        ({"boxes": np.full((1, 3), EDGE)}, "1 boxes for 2 coarse-grained frames"),
        ({"boxes": np.full((2, 3), np.nan)}, "not finite"),
        ({"boxes": None}, "have no box, but there is a cut-off of 0.6 nm"),
        (
            {"settings": replace(SETTINGS, cutoff=0.9)},
            "narrowest frame has 1.25 nm; set backmap.cu",
        ),
    ],
)
def test_input_that_does_not_belong_together_is_refused(water, change, message):
    with pytest.raises(InputError, match=message):
        backmap.backmap(**{**water, **change})


def test_importing_the_package_and_its_exports_does_not_load_openmm():
    code = "import sys, remcg, remcg.export, remcg.backmap; sys.exit('openmm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
