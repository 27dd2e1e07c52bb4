"""`hpcimg cache warm`, with Slurm's programs in place of Slurm: what is said of which node."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from registry import digest_of
from test_cli import WORDS, call, site  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.errors import RuntimeFailure
from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store
from hpcimg.workflow.warm import plan, warm


@pytest.fixture
def slurm(site, tmp_path, monkeypatch):  # noqa: F811
    """A site where bdw1 has published its profile, and where Slurm knows one node."""
    store = site_store(read_settings(os.environ).store)
    publish_profile(store, profile_from_words(WORDS, node="bdw1"))
    site.bin = tmp_path / "bin"
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
        (
            "hpcimg: nosuch: hint: publish it on that node with `hpcimg node publish`; "
            "published are bdw1"
        ),
    ]


def test_only_what_is_in_the_store_is_printed(slurm, capsys):
    """A variant that could not be fetched does not look warmed, nor do refused nodes get lost."""
    slurm.registry.fail(digest_of(b"layer 1"), status=500, times=99)
    code, out, said = call(capsys, "cache", "warm", "tool", "--nodes", "bdw1,nosuch")
    assert (code, out) == (75, "")
    starts = ["hpcimg: nosuch: node", "hpcimg: nosuch: hint", "hpcimg: reg", "hpcimg: hint"]
    assert [line[: len(start)] for line, start in zip(said, starts, strict=True)] == starts


@pytest.mark.skipif(os.geteuid() != 0, reason="root's files alone count in another's store")
def test_what_srun_said_stays_lines(slurm):
    """A user's warming that fails shows the node's own two lines, then what was asked of Slurm."""
    settings = read_settings(os.environ)
    # Like a user's, this process is not the store's account.
    settings = replace(settings, store=replace(settings.store, account="daemon"))
    said_by_node = ["hpcimg: bdw1: no space left", "hpcimg: bdw1: hint: make room"]
    script = "".join(f"echo '{line}' >&2\n" for line in said_by_node)
    write_program(slurm.bin / "srun", script + "exit 1\n")
    warmed, lines = [], []
    with pytest.raises(RuntimeFailure) as caught:
        warm(
            plan("tool", (), settings),
            settings,
            on_variant=warmed.append,
            on_srun_line=lines.append,
        )
    assert warmed == []
    assert lines == said_by_node
    assert caught.value.message.startswith(
        f"could not warm {slurm.digests[1]} through Slurm: srun ended with 1: srun "
    )
    assert "no space" not in caught.value.message
