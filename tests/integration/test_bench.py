"""`make bench` measures everything that its table promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BENCH = Path(__file__).resolve().parents[1] / "bench" / "bench.py"


def test_bench_prints_a_table_and_keeps_the_raw_times(cluster, tmp_path: Path) -> None:
    """One quick run gives every row, a verdict for every target, and the raw times."""
    output = tmp_path / "bench.json"
    # The cold starts take minutes, and have a test of their own.
    names = ("launch", "first", "nodes", "choosing", "pingpong", "inside", "many", "steps")
    groups = [f"--only={name}" for name in names]
    done = subprocess.run(
        [sys.executable, BENCH, "--quick", *groups, "--output", output],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text("utf-8"))
    verdicts = [line for line in done.stdout.splitlines() if line.startswith(("met ", "MISSED "))]
    assert len(verdicts) == len(document["targets"]) == 20
    for size in (1, 16, 64):
        for kind in ("bare", "container", "apptainer"):
            assert len(document["raw"][f"{kind}-{size}"]["seconds"]) == 1
    assert document["raw"]["pingpong-image"]["rates"][0] > 0
    assert document["raw"]["choose-thousand"]["rates"][0] > 0
    for kind in ("host", "kernel", "fuse", "apptainer"):
        assert document["raw"][f"inside-import-{kind}"]["rates"][0] > 0
    assert document["raw"]["many-tasks"]["rates"] == [1]
    assert len(document["raw"]["plain-without"]["seconds"]) == 1
    assert document["machine"]["slurm"].startswith("slurm")
