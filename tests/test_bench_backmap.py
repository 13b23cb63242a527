"""The benchmark of backmapping runs and writes what it promises; its figures are not tested."""

import subprocess
import sys

from test_bench import BENCH, assert_valid


def test_quick_cases_run_and_write_their_result(tmp_path):
    output = tmp_path / "backmap.json"
    command = [sys.executable, str(BENCH / "backmap.py"), "--quick", "--output", str(output)]
    for case in ("placement-hexane", "minimise-peptide", "gap-340"):
        command += ["--only", case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "restrained dynamics" in done.stdout and "restrained minimisation" in done.stdout
    assert_valid(output)
