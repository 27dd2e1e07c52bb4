"""The manual pages, which groff takes without a word, and what a real zsh completes."""

from __future__ import annotations

import io
import shlex
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
_COMPLETE = r"""
zmodload zsh/zpty
zpty shell TERM=dumb zsh -f -i
type() { zpty -w -n shell $1; zpty -r -m shell said "*$2*" && print -r -- "${said##*$'\n'}" }
type $'autoload -Uz compinit && compinit -u -D && eval "$(hpcimg completion zsh)"\n' ''
type $'hpcimg() { print -r "r""an: $*." }; print load""ed\n' loaded
type $'hpcimg expl\t--policy ex\tNAME\n' 'ran: *.'
type $'hpcimg cache wa\tNAME\n' 'ran: *.'
"""
"""Types half words and tabs into an interactive shell, in which hpcimg prints its words."""


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


def test_zsh_completes_verbs_and_words(cluster: Cluster):
    """Of the line that loads the completion, a verb, a verb of a verb, and an option's word."""
    done = cluster.shell(f"timeout 60 zsh -f -c {shlex.quote(_COMPLETE)}")
    said = [line.strip() for line in done.stdout.splitlines() if line.startswith("ran: ")]
    assert said == ["ran: explain --policy exact NAME.", "ran: cache warm NAME."], done.stderr
