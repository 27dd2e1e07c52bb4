"""What the command line does about a defect of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def run_defect(tmp_path, **variables):
    """Run a command whose code divides by zero: an error that nobody foresaw."""
    script = "import hpcimg.cli.node as n; n._show = lambda a: 1 / 0; "
    script += "from hpcimg.cli import main; import sys; sys.exit(main(['node', 'show']))"
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_defect_is_two_lines(tmp_path):
    """An exception that is no error of ours ends in two lines and the code for it."""
    done = run_defect(tmp_path, PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 70
    assert done.stderr.splitlines() == [
        "hpcimg: unexpected ZeroDivisionError: division by zero",
        "hpcimg: hint: run it again with HPCIMG_DEBUG=1 and report what it prints",
    ]


def test_debug_shows_the_traceback(tmp_path):
    """With HPCIMG_DEBUG the same shows where it comes from."""
    done = run_defect(tmp_path, PYTHONPATH=os.pathsep.join(sys.path), HPCIMG_DEBUG="1")
    assert "Traceback" in done.stderr
