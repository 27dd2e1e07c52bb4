"""A conversion whose process is killed leaves nothing that runs, and no file but in its folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
from processes import children, is_running
from test_stream import PATH

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    shutil.which("mksquashfs") is None or not programs.has_compiler(),
    reason="mksquashfs or a C compiler is not installed",
)
# Reads all and does not end.
SLOW = """\
#!{python} -IS
import sys, time
if sys.argv[1] == "-version":
    sys.exit(print("version 4.6.1"))
if sys.argv[1] == "-help":
    sys.exit(print("zstd"))
sys.stdin.buffer.read()
time.sleep(600)
"""


@pytest.fixture(scope="module")
def merger(tmp_path_factory) -> str:
    """Give the merger's path."""
    return str(programs.build_merger(tmp_path_factory.mktemp("merge"), sanitized=False))


@pytest.mark.parametrize(
    ("phase", "alive"), [("download", 2), ("convert", 2), ("compress", 1), ("wrap", 0)]
)
def test_nothing_is_left(merger, tmp_path, phase, alive):
    """In each phase; at the last one both programs have ended by themselves."""
    search_path = PATH
    if phase == "compress":
        place = tmp_path / "bin/mksquashfs"
        place.parent.mkdir()
        place.write_text(SLOW.format(python=shutil.which("python3", path=PATH)))
        place.chmod(0o755)
        search_path = f"{place.parent}:{PATH}"
    for name in ("work", "tmp"):
        (tmp_path / name).mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": f"{HERE}:{HERE.parents[1]}",
    }
    argv = [sys.executable, HERE / "killed.py", merger, search_path, tmp_path / "work", phase]
    with subprocess.Popen(
        argv, env=environment, cwd=tmp_path / "work", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"there\n"
        running = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(running) == alive
    for _ in range(2000):
        if not any(map(is_running, running)):
            break
        time.sleep(0.01)
    assert not any(map(is_running, running))
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["image.sif"]
