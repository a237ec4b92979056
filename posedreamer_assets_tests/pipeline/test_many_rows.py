"""The quality report holds as many images as it compares, however many rows there are."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_report_on_fifty_thousand_rows_stays_below_two_gigabytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "posedreamer_assets_tests.pipeline.many_rows", str(tmp_path), "50000"]
    found = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    measured = json.loads(found[1])
    assert json.loads(found[0]) == {}, "the first run only fills the tables"
    assert measured["images"] == measured["most_at_once"] == 24
    assert measured["peak_mb"] < 2048
