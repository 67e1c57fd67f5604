import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.skipif(sys.platform == "win32", reason="the harness forks")
def test_nothing_is_lost_or_done_twice_whatever_strikes():
    done = subprocess.run([sys.executable, str(HARNESS), "--short"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if " studies, " in line and line[0] != " "]
    rows = dict(line.split(": ", 1) for line in told)
    assert set(rows) == {"one process", "kill before a write", "disk full at a write", "second run of one directory"}
    assert all("0 lost, 0 duplicated, 0 different" in counts for counts in rows.values())
    assert rows["one process"].startswith("3 kills")
    assert rows["kill before a write"].startswith("2 kills")
