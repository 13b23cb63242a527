"""Every command of the tutorial and every cell of the notebook, on a small liquid of one's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import mdtraj
import numpy as np
import pytest

import tiny

pytestmark = pytest.mark.campaigns

PAGE = tiny.ROOT / "docs" / "tutorial.md"
NOTEBOOK = tiny.ROOT / "docs" / "explore.ipynb"
OWN = (".git", ".venv", ".snakemake", "results", "logs", "benchmarks")  # of a checkout
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
NAMED = re.compile(r"`([\w/.-]+\.yaml)`:\n\n\Z")
N_FRAMES, INTERVAL = 80, 50


def blocks(text):
    """(language, name of the file or None, content) of each fenced block of a page."""
    for found in FENCE.finditer(text):
        named = NAMED.search(text[: found.start()])
        yield found[1], named[1] if named else None, found[2]


def checkout(folder):
    """A folder that looks like a checkout with its environment: links to this one."""
    for item in tiny.ROOT.iterdir():
        if item.name not in OWN:
            (folder / item.name).symlink_to(item)
    environment = folder / ".venv"
    environment.mkdir()
    for item in Path(sys.prefix).iterdir():
        if not item.name.startswith("."):
            (environment / item.name).symlink_to(item)
    for name in (".installed", ".warm"):
        (environment / name).touch()


def write_own_trajectories(folder):
    """What a user of GROMACS (280, 320 K) and one of LAMMPS (300 K) would have."""
    folder.mkdir()
    model, topology = tiny.true_model(), tiny.topology()
    for seed, temperature in enumerate((280, 320, 300)):
        frames, boxes = tiny.sampled(model, temperature, N_FRAMES, seed, INTERVAL)
        angles = np.full((N_FRAMES, 3), 90.0)
        trajectory = mdtraj.Trajectory(frames, topology, np.arange(N_FRAMES), boxes, angles)
        if temperature == 300:
            trajectory.save_lammpstrj(str(folder / "T300.lammpstrj"))
        else:
            trajectory.save_xtc(str(folder / f"T{temperature}.xtc"))
    shutil.copy(folder / "T280.xtc", folder / "T290.xtc")  # only looked at
    trajectory[0].save_gro(str(folder / "conf.gro"))
    atoms = [f"{k + 1} {k + 1} 1 {x:.4f} {y:.4f} {z:.4f}" for k, (x, y, z) in
             enumerate(10.0 * trajectory.xyz[0])]  # fmt: skip
    edges = [f"0.0 {10.0 * edge:.4f} {a}lo {a}hi" for a, edge in zip("xyz", boxes[0])]
    head = ["LAMMPS data file", "", f"{len(atoms)} atoms", "1 atom types", "", *edges, ""]
    masses = ["Masses", "", "1 39.948  # AR", ""]
    lines = [*head, *masses, "Atoms  # molecular", "", *atoms]
    (folder / "system.data").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The folder in which a newcomer has followed the page, and what each command said."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("the commands of the page need the environment that make sets up")
    folder = tmp_path_factory.mktemp("tutorial")
    checkout(folder)
    write_own_trajectories(folder / "liquid")
    path = f"{folder / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OPENMM_CPU_THREADS": "2", "MAKEFLAGS": ""}
    said = {}
    for language, name, content in blocks(PAGE.read_text()):
        if name:
            (folder / name).write_text(content)
            continue
        command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": ["python", "-c"]}
        if language not in command:
            continue
        done = subprocess.run(
            [*command[language], content],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        assert done.returncode == 0, f"{content}\n{done.stdout}"
        said[content.strip().splitlines()[-1]] = done.stdout
    return folder, said


def output_of(said, command):
    return next(text for line, text in said.items() if line.startswith(command))


def test_the_commands_lead_from_trajectories_to_a_model_with_its_card(followed):
    folder, _ = followed
    results = folder / "results" / "liquid"
    card = (results / "model" / "README.md").read_text()
    assert "trained from 280 to 320 K" in card
    assert "| T300 | test | 300 | 1 |" in card
    assert (results / "report.html").stat().st_size > 100_000


def test_a_state_that_is_added_to_test_trains_nothing_again(followed):
    _, said = followed
    told = output_of(said, 'make run CONFIG=liquid/config.yaml ARGS="--dry-run"')
    plan = told.partition("\njob ")[2]
    for rule, number in {"map": 1, "predict": 1, "consistency": 1, "report": 1}.items():
        assert re.search(rf"^{rule} +{number}$", plan, re.M), plan
    assert not re.search("^(sample|update|model|guess) ", plan, re.M), plan


def test_a_run_ends_with_the_number_of_checks_that_hold(followed):
    _, said = followed
    assert re.search(r"checks: ✓ \d+ pass", output_of(said, "make run"))


def test_the_page_of_a_campaign_that_did_not_converge_says_so(followed):
    _, said = followed
    assert "NOT converged" in output_of(said, "make run")


def test_the_exported_model_runs_in_lammps_and_in_openmm(followed):
    _, said = followed
    told = output_of(said, "python results/liquid/export/openmm")
    assert "Loop time of" in told or "Total wall time" in told
    assert re.search(r"^200,-?\d", told, re.M), told


def test_inputs_are_unchanged_and_a_cluster_has_nothing_left_to_do(followed):
    _, said = followed
    assert "unchanged" in output_of(said, "remcg verify")
    assert "Nothing to be done" in output_of(said, "snakemake")


def test_every_cell_of_the_notebook_runs_on_the_finished_campaign(followed, monkeypatch):
    folder, _ = followed
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setenv("REMCG_RESULTS", str(folder / "results" / "liquid"))
    names = {}
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    for number, source in enumerate(code):
        exec(compile(source, f"cell {number}", "exec"), names)
    assert len(plt.get_fignums()) >= 4
    for number in plt.get_fignums():
        for axes in plt.figure(number).axes:
            assert axes.has_data() and axes.get_xlabel() and axes.get_ylabel()
    plt.close("all")
    assert list(names["states"].id) == ["T280", "T320", "T300"]


def test_every_block_of_the_page_is_a_file_a_command_or_a_rule():
    found = [(language, name) for language, name, _ in blocks(PAGE.read_text())]
    assert {language for language, _ in found} == {"bash", "python", "yaml", "snakemake"}
    assert all(name for language, name in found if language == "yaml")
