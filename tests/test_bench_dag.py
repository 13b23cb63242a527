"""The benchmark of the DAG runs and writes what it promises; its figures are not tested."""

import subprocess
import sys

from test_bench import BENCH, assert_valid


def test_a_made_up_campaign_has_nothing_to_do_and_the_result_is_written(tmp_path):
    output = tmp_path / "dag.json"
    command = [sys.executable, str(BENCH / "dag.py"), "--quick", "--output", str(output)]
    done = subprocess.run(
        [*command, "--only", "batched"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 iterations on disk: time" in done.stdout
    assert_valid(output)
