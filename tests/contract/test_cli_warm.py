"""`hpcimg cache warm`, with Slurm's programs in place of Slurm: what is said of which node."""

from __future__ import annotations

import os

import pytest
from test_cli import WORDS, call, site  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.node.profile import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store


@pytest.fixture
def slurm(site, tmp_path, monkeypatch):  # noqa: F811
    """A site where bdw1 has published its profile, and where Slurm knows how to expand a list."""
    store = site_store(read_settings(os.environ).store)
    publish_profile(store, profile_from_words(WORDS, node="bdw1"))
    site.bin = tmp_path / "bin"
    expand = 'test "$1 $2" = "show hostnames"; echo "$3" | tr , "\\n"\n'
    write_program(site.bin / "scontrol", expand)
    write_program(site.bin / "sinfo", "echo bdw1\n")
    monkeypatch.setenv("PATH", f"{site.bin}:{os.environ['PATH']}")
    return site


def test_every_named_node_is_warmed_or_refused(slurm, capsys):
    """A node that Slurm does not know is not dropped in silence."""
    code, out, said = call(capsys, "cache", "warm", "tool", "--nodes", "bdw1,nosuch")
    assert code == 69
    assert out == f"{slurm.digests[1]}  cpu:broadwell  for bdw1\n"
    assert said[-2:] == [
        'hpcimg: nosuch: node "nosuch" has published no profile',
        "hpcimg: nosuch: hint: publish it on that node with `hpcimg node publish`; "
        "published are bdw1",
    ]
