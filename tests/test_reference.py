import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import mdtraj
import numpy as np
import openmm
import pandas as pd
import pytest
import yaml
from openmm import app, unit

import waters
from remcg import config
from remcg.config import ROOT
from remcg.errors import InputError
from remcg.reference import make_reference, simulate
from remcg.reference import openmm as reference_openmm
from remcg.reference.__main__ import main

RESOURCES = ROOT / "resources"
TOPOLOGY = RESOURCES / "spce" / "topology.pdb"
PEPTIDE = RESOURCES / "pentaalanine" / "topology.pdb"
PEPTIDE_FIELD = ["amber14/protein.ff14SB.xml", "implicit/obc2.xml"]
TRAPPE = RESOURCES / "hexane-trappe"
K = 0.00831446261815324  # kJ/mol in one kelvin


def run(folder, **settings):
    files = folder / "run.xtc", folder / "run.csv"
    simulate(TOPOLOGY, ["spce.xml"], 300.0, 1.0, *files, 1, **settings)
    return files


def run_peptide(folder, **settings):
    settings = {"cutoff": None, "equilibration": 0.0, "production": 0.3, "interval": 0.1} | settings
    files = folder / "run.xtc", folder / "run.csv"
    simulate(PEPTIDE, PEPTIDE_FIELD, 300.0, None, *files, 1, **settings)
    return files


def test_a_short_reference_has_its_frames_its_log_and_its_temperature(tmp_path):
    trajectory, log = run(tmp_path, equilibration=0.1, production=0.2, interval=0.1)
    frames, lines = mdtraj.load(str(trajectory), top=str(TOPOLOGY)), pd.read_csv(log)
    assert frames.n_frames == len(lines) == 2
    np.testing.assert_allclose(frames.unitcell_volumes, lines["volume_nm3"], rtol=1e-4)
    np.testing.assert_allclose(lines["time_ps"], [0.1, 0.2])
    np.testing.assert_allclose(frames.time, [0.1, 0.2])
    assert 150.0 < lines["temperature_K"].iloc[-1] < 400.0
    assert -60.0 < lines["potential_energy_kJ_mol"].iloc[-1] / 512 < -35.0
    assert set(tmp_path.iterdir()) == {trajectory, log}


def test_a_cut_off_beyond_half_the_box_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs a box of at least 3 nm"):
        run(tmp_path, cutoff=1.5)


def test_a_killed_run_goes_on_from_its_last_piece_and_ends_like_one_that_was_not(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(reference_openmm, "PIECE", 1)
    (tmp_path / "whole").mkdir()
    whole = run_peptide(tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(time):
        if time > 0.15:
            raise KilledError

    work = tmp_path / "work"
    with pytest.raises(KilledError):
        run_peptide(tmp_path, work=work, progress=kill)
    seen = []
    files = run_peptide(tmp_path, work=work, progress=seen.append)
    assert seen == pytest.approx([0.3])
    assert not work.exists()
    assert files[1].read_text() == whole[1].read_text()
    ours, theirs = (mdtraj.load(str(path), top=str(PEPTIDE)) for path in (files[0], whole[0]))
    np.testing.assert_array_equal(ours.xyz, theirs.xyz)
    np.testing.assert_array_equal(ours.time, theirs.time)


def test_the_log_may_have_more_lines_than_there_are_frames(tmp_path):
    trajectory, log = run_peptide(tmp_path, log_interval=0.02, production=0.2)
    frames, lines = mdtraj.load(str(trajectory), top=str(PEPTIDE)), pd.read_csv(log)
    assert frames.n_frames == 2
    np.testing.assert_allclose(lines["time_ps"], np.arange(1, 11) * 0.02)
    np.testing.assert_allclose(lines["volume_nm3"], 216.0, rtol=1e-6)


def test_a_log_interval_that_does_not_divide_the_interval_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"reference\.log_interval: 0\.03 ps does not divide"):
        run_peptide(tmp_path, log_interval=0.03)


def test_a_molecule_in_vacuum_has_no_pressure(tmp_path):
    with pytest.raises(InputError, match=r"null is for molecules in vacuum.*1 bar"):
        run(tmp_path, cutoff=None)


def test_a_start_without_a_box_is_refused(tmp_path):
    bare = tmp_path / "bare.pdb"
    bare.write_text("".join(PEPTIDE.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match=r"bare\.pdb has no box.*CRYST1"):
        files = tmp_path / "run.xtc", tmp_path / "run.csv"
        simulate(bare, PEPTIDE_FIELD, 300.0, None, *files, 1, cutoff=None)


OPLS_LIKE = """<ForceField{attribute}>
 {data}
 <AtomTypes>
  <Type name="CT" class="CT" element="C" mass="12.011"/>
  <Type name="HC" class="HC" element="H" mass="1.008"/>
 </AtomTypes>
 <Residues>
  <Residue name="C"><Atom name="C" type="CT"/></Residue>
  <Residue name="H"><Atom name="H" type="HC"/></Residue>
 </Residues>
 <NonbondedForce coulomb14scale="0.5" lj14scale="0.5">
  <Atom type="CT" charge="0" sigma="0.35" epsilon="0.276144"/>
  <Atom type="HC" charge="0" sigma="0.25" epsilon="0.12552"/>
 </NonbondedForce>
</ForceField>"""


@pytest.mark.parametrize(
    ("attribute", "data"),
    [
        (' combining_rule="geometric"', ""),
        ("", '<FFMetaData combiningRule="geometric"/>'),
    ],
)
def test_a_force_field_with_geometric_rules_is_not_run_with_openmm(tmp_path, attribute, data):
    path = tmp_path / "opls.xml"
    path.write_text(OPLS_LIKE.format(attribute=attribute, data=data))
    with pytest.raises(InputError, match=r"geometric combining rules, but OpenMM.*gromacs"):
        reference_openmm.check_force_field([path])


def test_openmm_would_give_a_mixed_pair_of_opls_another_energy(tmp_path):
    path, distance = tmp_path / "opls.xml", 0.29
    path.write_text(OPLS_LIKE.format(attribute="", data=""))
    topology = app.Topology()
    for name in "CH":
        residue = topology.addResidue(name, topology.addChain())
        topology.addAtom(name, app.Element.getBySymbol(name), residue)
    system = app.ForceField(str(path)).createSystem(topology, nonbondedMethod=app.NoCutoff)
    energy = potential(system, [[0, 0, 0], [distance, 0, 0]])
    epsilon = np.sqrt(0.276144 * 0.12552)

    def pair(sigma):
        return 4 * epsilon * ((sigma / distance) ** 12 - (sigma / distance) ** 6)

    assert energy == pytest.approx(pair(0.5 * (0.35 + 0.25)), rel=1e-5)
    assert energy > 1.5 * pair(np.sqrt(0.35 * 0.25))  # by the geometric mean


def test_gromacs_files_are_not_read_as_an_openmm_force_field():
    with pytest.raises(InputError, match=r"hexane\.itp is not XML.*engine: gromacs"):
        reference_openmm.check_force_field([RESOURCES / "hexane" / "hexane.itp"])


def potential(system, positions, force=None):
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(positions)
    groups = -1 if force is None else 1 << force
    return context.getState(getEnergy=True, groups=groups).getPotentialEnergy()._value


def trappe_hexane(seed):
    """One chain with random angles and torsions: (system, groups by class, positions)."""
    pdb = app.PDBFile(str(TRAPPE / "HXU.pdb"))
    system = app.ForceField(str(TRAPPE / "trappe-alkanes.xml")).createSystem(
        pdb.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds
    )
    groups = {}
    for i, force in enumerate(system.getForces()):
        force.setForceGroup(i)
        groups[type(force).__name__] = i
    rng = np.random.default_rng(seed)
    positions = np.array(pdb.positions.value_in_unit(unit.nanometer))
    return system, groups, positions + rng.normal(scale=0.05, size=positions.shape)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_trappe_torsions_and_angles_are_those_that_were_published(seed):
    system, groups, positions = trappe_hexane(seed)
    chain = mdtraj.Trajectory(positions, mdtraj.load_topology(str(TRAPPE / "HXU.pdb")))
    phi = mdtraj.compute_dihedrals(chain, [[i, i + 1, i + 2, i + 3] for i in range(3)])[0]
    theta = mdtraj.compute_angles(chain, [[i, i + 1, i + 2] for i in range(4)])[0]
    torsion = 355.03 * (1 + np.cos(phi)) - 68.19 * (1 - np.cos(2 * phi))
    torsion += 791.32 * (1 + np.cos(3 * phi))
    angle = 0.5 * 62500 * (theta - np.radians(114)) ** 2
    energies = [
        potential(system, positions, groups[name])
        for name in ("PeriodicTorsionForce", "HarmonicAngleForce")
    ]
    expected = [K * torsion.sum(), K * angle.sum()]
    np.testing.assert_allclose(energies, expected, rtol=2e-4)  # mdtraj works in single precision


def test_in_trappe_only_atoms_four_or_more_bonds_apart_attract_each_other():
    system, groups, positions = trappe_hexane(1)
    sigma = [0.375, 0.395, 0.395, 0.395, 0.395, 0.375]
    epsilon = [98, 46, 46, 46, 46, 98]
    expected = 0.0
    for i, j in ((0, 4), (0, 5), (1, 5)):
        s = 0.5 * (sigma[i] + sigma[j]) / np.linalg.norm(positions[i] - positions[j])
        expected += 4 * K * np.sqrt(epsilon[i] * epsilon[j]) * (s**12 - s**6)
    found = potential(system, positions, groups["NonbondedForce"])
    assert found == pytest.approx(expected, rel=1e-5)


CAMPAIGN = """
campaign: small
system: {{topology: {topology}, mapping: {mapping}, force_field: [spce.xml]}}
states: [{{id: a, temperature: 300, pressure: 1.0, trajectory: a.xtc}}]
model: {{temperature: constant, terms: [{{kind: pair, sites: [W, W], r_cut: 0.9, n_basis: 10}},
  {{kind: volume, order: 1}}]}}
reference: {reference}
"""


def campaign(folder, reference):
    path = folder / "small.yaml"
    mapping = ROOT / "config" / "mappings" / "water-1site.yaml"
    text = CAMPAIGN.format(topology=TOPOLOGY, mapping=mapping, reference=reference)
    path.write_text(text)
    return config.load(path, check_files=False)


def water_box(times):
    """A reference section with a small new box of water."""
    template = RESOURCES / "methanol-water" / "HOH.pdb"
    box = f"molecules: {{HOH: 64}}, templates: [{template}], density: 700, cutoff: 0.5"
    return f"{{{box}, {times}}}"


def test_a_reference_of_a_campaign_fills_its_own_box_and_cleans_up(tmp_path):
    times = "equilibration: 0.1, production: 0.2, interval: 0.1"
    files = [tmp_path / f"a.{suffix}" for suffix in ("xtc", "csv", "pdb")]
    make_reference(campaign(tmp_path, water_box(times)), "a", *files)
    frames = mdtraj.load(str(files[0]), top=str(files[2]))
    assert frames.n_atoms == 192 and frames.n_frames == 2
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{molecules: {HEX: 10}}", r"molecules: HEX has no template .*add HEX\.pdb"),
        (f"{{templates: [{TOPOLOGY}]}}", r"topology is not among reference\.molecules"),
        ("{molecules: 10}", r"reference\.molecules: found 10; give names"),
        ("{molecules: {HEX: 0}}", r"reference\.molecules\.HEX: 0 is out of range"),
        ("{include: [oplsaa.ff/forcefield.itp]}", r"read by engine: gromacs only.*geometrically"),
        ("{engine: gromacs}", r"reference\.include: is empty"),
        ("{engine: gromacs, include: [a.itp], cutoff: none}", r"none needs engine: openmm"),
        ("{engine: gromax}", r"did you mean 'gromacs'"),
        ("{density: 0.0001}", r"give kg/m³, not g/cm³"),
    ],
)
def test_what_does_not_go_together_in_the_reference_section_is_refused(
    tmp_path, reference, message
):
    with pytest.raises(InputError, match=message):
        campaign(tmp_path, reference)


def test_no_cut_off_is_spelt_none(tmp_path):
    assert campaign(tmp_path, "{cutoff: none}").reference.cutoff is None
    assert campaign(tmp_path, "{}").reference.cutoff == 0.9


@pytest.mark.parametrize("name", ["hexane", "hexane-trappe", "methanol-water", "pentaalanine"])
def test_the_campaigns_that_come_along_name_what_their_references_are_made_of(name):
    chosen = config.load(ROOT / "config" / f"{name}.yaml", check_files=False)
    own = [*chosen.reference.include, *chosen.system.force_field]
    assert chosen.reference.engine == "openmm" or any(isinstance(path, Path) for path in own)
    assert {state.use for state in chosen.states} == {"train", "test"}
    from remcg.mapping import sites_of

    for topology in {state.topology or chosen.system.topology for state in chosen.states}:
        sites = sites_of(topology, chosen.system.mapping)[1]
        named = {site for term in chosen.pair_terms for site in term.sites}
        assert set(sites.names) == named


def test_hexane_has_a_reference_without_gromacs(tmp_path):
    whole = config.load(ROOT / "config" / "hexane-trappe.yaml", check_files=False)
    times = {"equilibration": 0.02, "production": 0.1, "interval": 0.05}
    small = replace(whole.reference, molecules={"HXU": 20}, cutoff=0.6, **times)
    files = [tmp_path / f"T300.{suffix}" for suffix in ("xtc", "csv", "pdb")]
    make_reference(replace(whole, reference=small), "T300", *files)
    frames = mdtraj.load(str(files[0]), top=str(files[2]))
    assert frames.n_atoms == 120 and frames.n_frames == 2
    bonds = mdtraj.compute_distances(frames, [(b[0].index, b[1].index) for b in frames.top.bonds])
    assert bonds.shape[1] == 100 and abs(bonds.mean() - 0.154) < 0.003
    for state in whole.states:
        name = f"results/hexane-trappe/reference/{state.id}.xtc"
        assert [path.as_posix().endswith(name) for path in state.trajectory] == [True]


def test_the_schema_accepts_the_campaigns_that_come_along():
    validator = jsonschema.Draft202012Validator(config.schema())
    for path in sorted((ROOT / "config").glob("*.yaml")):
        assert not list(validator.iter_errors(yaml.safe_load(path.read_text()))), path.name


def test_a_reference_is_made_outside_the_workflow(tmp_path, capsys):
    campaign(tmp_path, water_box("equilibration: 0.01, production: 0.02, interval: 0.01"))
    arguments = str(tmp_path / "small.yaml"), str(tmp_path / "out")
    with pytest.raises(SystemExit, match="1"):
        main([arguments[0], "b", arguments[1]])
    assert "there is no state b; give one of a" in capsys.readouterr().err
    main([arguments[0], "a", arguments[1]])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "a.xtc",
        "a.csv",
        "a.pdb",
        *(f"a.{kind}.sha256" for kind in ("xtc", "csv", "pdb")),
    }


@pytest.mark.campaigns
def test_a_reference_is_not_made_again_for_what_is_read_of_it(tmp_path):
    waters.write_campaign(tmp_path)
    made = "results/small/reference/a.xtc"
    reference = "{equilibration: 0.1, production: 0.2, interval: 0.1, cutoff: 0.4}"
    path = campaign(tmp_path, reference).source
    text = path.read_text().replace(str(TOPOLOGY), str(tmp_path / "topology.pdb"))
    told = []
    for trajectory, more in ((made, made), (f"{made}, stride: 2", "--dry-run")):
        path.write_text(text.replace("trajectory: a.xtc", f"trajectory: {trajectory}"))
        command = [sys.executable, "-m", "remcg.launch", "--configfile", str(path), "--", more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        told.append(done.stdout)
    assert (tmp_path / made).exists()
    assert "map" in told[1] and "reference" not in told[1].replace(made, "")
