"""The workflow as a module of another one, in another folder, with a config of its own."""

import subprocess
import sys

import mdtraj
import numpy as np
import pytest

import tiny
from remcg.io import read_json

N_FRAMES = 30
SNAKEFILE = """\
module remcg:
    snakefile: "{root}/Snakefile"
    config: {{"config_file": "data/config.yaml"}}

use rule * from remcg as cg_*

rule mine:
    default_target: True
    input: rules.cg_all.input

rule facts:
    input: "results/tiny/map/warm.json"
    output: "facts.txt"
    shell: "cp {{input}} {{output}}"
"""


def write_inputs(folder):
    """A config with trajectories of sites on a shaken lattice: enough to be mapped."""
    config = tiny.yaml.safe_load(CONFIG)
    random = np.random.default_rng(0)
    positions, box = tiny.lattice(tiny.N_SITES * tiny.V0)
    folder.mkdir()
    for name in tiny.TEMPERATURES:
        frames = positions + random.normal(0.0, 0.02, (N_FRAMES, tiny.N_SITES, 3))
        edges, angles = np.tile(box, (N_FRAMES, 1)), np.full((N_FRAMES, 3), 90.0)
        frames = mdtraj.Trajectory(frames, tiny.topology(), np.arange(N_FRAMES), edges, angles)
        frames.save_xtc(str(folder / f"{name}.xtc"))
    frames[0].save_pdb(str(folder / "topology.pdb"))
    (folder / "mapping.yaml").write_text("AR:\n  sites:\n    AR: {atoms: [AR]}\n")
    (folder / "config.yaml").write_text(tiny.yaml.safe_dump(config))


CONFIG = """\
campaign: tiny
system: {topology: topology.pdb, mapping: mapping.yaml}
states:
  - {id: cold, temperature: 280, trajectory: cold.xtc}
  - {id: warm, temperature: 300, trajectory: warm.xtc, use: test}
  - {id: hot, temperature: 320, trajectory: hot.xtc}
model:
  terms: [{kind: pair, sites: [AR, AR], r_cut: 0.6, n_basis: 8}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("another folder")
    write_inputs(folder / "data")
    (folder / "Snakefile").write_text(SNAKEFILE.format(root=tiny.ROOT))
    return folder


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nolock", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_a_module_plans_the_whole_campaign_under_the_names_it_was_given(folder):
    code, told = snakemake(folder, "--dry-run")
    assert code == 0, told
    for rule in ("map", "sample", "update", "predict", "consistency", "report", "verdict"):
        assert f"\ncg_{rule} " in told


def test_rules_of_the_importing_workflow_use_results_of_the_module(folder):
    code, told = snakemake(folder, "facts.txt")
    assert code == 0, told
    facts = read_json(folder / "results/tiny/map/warm.json")
    assert (folder / "facts.txt").read_text() == (folder / "results/tiny/map/warm.json").read_text()
    assert facts["n_frames"] == N_FRAMES
    assert (folder / "logs/tiny/map/warm.log").exists()


def test_a_module_without_a_campaign_says_what_to_give_it(tmp_path):
    text = SNAKEFILE.format(root=tiny.ROOT).replace('{"config_file": "data/config.yaml"}', "{}")
    (tmp_path / "Snakefile").write_text(text)
    code, told = snakemake(tmp_path, "--dry-run")
    assert code != 0
    assert "give a module `config: {'config_file': 'config/mine.yaml'}`" in told
