"""The benchmark of the mapping runs and writes what it promises; its figures are not tested."""

import subprocess
import sys

from test_bench import BENCH, assert_valid


def test_quick_cases_run_and_write_their_result(tmp_path):
    output = tmp_path / "map.json"
    command = [sys.executable, str(BENCH / "map.py"), "--quick", "--output", str(output)]
    for case in ("memory-hexane", "reading", "reading-hexane"):
        command += ["--only", case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "add.reduceat" in done.stdout and "iterload alone" in done.stdout
    assert "XTC of 150 hexanes, three sites" in done.stdout
    assert_valid(output)
