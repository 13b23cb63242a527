"""Benchmarks run and write what they promise; their figures are not tested."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"
NUMBERS = {"ours", "peer", "ratio"}
TEXTS = {"case", "peer_name", "unit"}
AIM = {"sense", "target", "holds"}

sys.path.insert(0, str(BENCH))

from benchtools import big, systems, table  # noqa: E402
from benchtools.lammps import Lammps  # noqa: E402
from benchtools.openmm_peer import OpenMM  # noqa: E402


def assert_valid(path):
    """The format of the house for results of benchmarks."""
    content = json.loads(path.read_text())
    assert path.stem.startswith(content["name"])
    assert isinstance(content["machine"], str) and content["machine"]
    assert content["rows"]
    for row in content["rows"]:
        assert TEXTS | NUMBERS <= set(row) <= TEXTS | NUMBERS | AIM
        assert all(isinstance(row[key], str) and row[key] for key in TEXTS)
        assert all(isinstance(row[key], int | float) for key in NUMBERS)
        assert not AIM & set(row) or set(row) >= AIM
        if "target" in row:
            assert row["holds"] is table.SENSES[row["sense"]](row["ratio"], row["target"])


@pytest.mark.parametrize("path", sorted((BENCH / "results").glob("*.json")), ids=lambda p: p.stem)
def test_the_results_of_the_repository_have_the_format_of_the_house(path):
    assert_valid(path)


def test_a_quick_case_runs_and_writes_its_result(tmp_path):
    output = tmp_path / "engine.json"
    command = [sys.executable, str(BENCH / "engine.py"), "--quick", "--only", "water-512"]
    done = subprocess.run(
        [*command, "--output", str(output)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "LAMMPS' best" in done.stdout and "OpenMM" in done.stdout
    assert_valid(output)
    assert [path.name for path in tmp_path.iterdir()] == ["engine.json"]
    rows = json.loads(output.read_text())["rows"]
    assert [row["case"][:9] for row in rows] == ["512 sites"] * 3
    assert [row.get("target") for row in rows] == [2.0, None, None]


def with_random_start(system, spread):
    random = np.random.default_rng(1)
    start = system.start
    positions = start.positions + random.normal(0.0, spread, start.positions.shape)
    return replace(
        system, start=replace(start, positions=positions, velocities=np.zeros_like(positions))
    )


@pytest.mark.parametrize(
    "system", [systems.water(8, 0.9), systems.chains(6)], ids=["water", "chains"]
)
def test_the_peers_have_the_energy_of_the_model(system, tmp_path):
    system = with_random_start(system, 0.01)
    expected = systems.energy(system)
    assert Lammps(system, tmp_path).energy() == pytest.approx(expected, rel=1e-3)
    assert OpenMM(system).energy() == pytest.approx(expected, rel=1e-4)


def test_big_boxes_are_measured_in_both_programs():
    box = systems.water(10, big.R_CUT)
    ours, lammps = big.ours(box, 2), big.lammps(box, 2)
    assert ours["s_per_step"] > 0.0 and ours["peak_mib"] > 0.0
    assert lammps["s_per_step"] > 0.0 and lammps["s_per_sample"] > 0.0
    assert lammps["dump_mib"] == pytest.approx(1000 * 56 / 2**20, rel=0.1)


def test_a_row_holds_when_its_ratio_is_on_the_right_side_of_the_target():
    faster = table.row("a", 4.0, 2.0, "peer", "steps/s", 2.0, ">=", 2.0)
    dearer = table.row("b", 4.0, 5.0, "peer", "steps/s", 0.25, "<=", 0.15)
    plain = table.row("c", 4.0, 2.0, "peer", "steps/s", 2.0)
    assert faster["holds"] and not dearer["holds"]
    assert not AIM & set(plain)
