"""`hpcimg -v`: what is decided, and given twice also why, on standard error alone."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from test_cli import WORDS, site  # noqa: F401 - a fixture

from hpcimg.cli import start
from hpcimg.cli.parser import make_parser
from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store


def hpcimg(*words):
    """Run a command in a process of its own, whose standard error is the real one."""
    return subprocess.run(
        [sys.executable, "-m", "hpcimg", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def short(digest):
    """The first digits, by which people tell images apart."""
    return digest[:19]


@pytest.mark.parametrize(
    "words",
    [("-v", "resolve"), ("resolve", "-v"), ("resolve", "--verbose")],
    ids=" ".join,
)
def test_once_says_what_is_decided(site, words):  # noqa: F811
    """Name, image and node, in one line; the result is the same."""
    done = hpcimg(*words, "tool", "--platform", WORDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{site.registry.name}/tool@{site.digests[1]}\n"
    assert done.stderr == (
        f"hpcimg: {site.registry.name}/tool:latest: {short(site.digests[1])} (cpu:broadwell) "
        "for the node that the words describe\n"
    )


@pytest.mark.parametrize(
    "words",
    [("-v", "-v", "resolve"), ("-v", "resolve", "-v"), ("resolve", "-vv")],
    ids=" ".join,
)
def test_twice_says_why(site, words):  # noqa: F811
    """Every image behind the name with its verdict and reason."""
    done = hpcimg(*words, "tool", "--platform", WORDS)
    lines = done.stderr.splitlines()
    told = [line.split(": ", 3)[1:3] for line in lines[-4:-1]]
    verdicts = ("fits", "chosen", "rejected")
    assert told == [list(pair) for pair in zip(map(short, site.digests), verdicts, strict=True)]
    assert "needs cpu:skylake_avx512" in lines[-2]
    assert ": fits: but cpu:broadwell" in lines[-4]


def test_it_is_said_whether_an_image_was_there(site):  # noqa: F811
    """Built and where the first time, found and where the second."""
    store = site_store(read_settings(os.environ).store)
    publish_profile(store, profile_from_words(WORDS, node="bdw1"))
    words = ("cache", "warm", "-v", "tool")
    first, second = hpcimg(*words), hpcimg(*words)
    (entry,) = store.entries()
    assert f'hpcimg: built and kept: "{entry.path}"' in first.stderr.splitlines()
    assert f'hpcimg: found in the store: "{entry.path}"' in second.stderr.splitlines()


def test_of_a_command_s_words_none_is_ours(site):  # noqa: F811
    """After the image's name of run, and anywhere after srun, -v is another program's."""
    parser = make_parser([start])
    assert parser.parse_args(["run", "tool", "echo", "-v"]).command == ["echo", "-v"]
    assert parser.parse_args(["srun", "-v", "--container", "x"]).words[0] == "-v"
    assert logging.getLogger("hpcimg").level == logging.NOTSET


def test_without_it_nothing_is_said(site):  # noqa: F811
    """A result and no talk."""
    assert hpcimg("resolve", "tool", "--platform", WORDS).stderr == ""
