"""The manual pages: groff takes them without a word, and man finds what they are about."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile

import pytest
from conftest import COMMAND, Cluster

pytestmark = pytest.mark.integration

DOCS = COMMAND.parents[2] / "docs"
_READ = """\
set -e
cd $(mktemp -d)
tar -x
for page in man?/*; do groff -ww -man -Tutf8 "$page" >/dev/null; lexgrog "$page"; done
MANWIDTH=80 man -l man1/hpcimg.1
"""


def test_pages_can_be_read(cluster: Cluster, tmp_path):
    """Each is valid, has a subject for apropos, and tells the commands."""
    subprocess.run([sys.executable, DOCS / "make_man.py", tmp_path], check=True)
    pack = io.BytesIO()
    with tarfile.open(fileobj=pack, mode="w") as archive:
        archive.add(tmp_path, ".")
    done = subprocess.run(
        [COMMAND, "exec", "-u", "root", "--", "sh", "-c", _READ],
        input=pack.getvalue(),
        check=False,
        capture_output=True,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert "hpcimg-settings - the site's settings of hpcimg\"" in said
    assert "hpcimg cache warm [--file LIST]" in said
    assert cluster is not None
