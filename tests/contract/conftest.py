"""What holds for every contract test, nobody's cache is read or written, and a site of nodes."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from kept import Kept
from three_nodes import BDW1, KEY, NODES, SKX1, ZEN1

from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store
from hpcimg.workflow.access import site_access
from hpcimg.workflow.match import Together, resolve_in_job
from hpcimg.workflow.pin import PinRequest
from hpcimg.workflow.resolve import read_name


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Let each test start with an empty cache of its own, root's too, who has none but at home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr("hpcimg.workflow.access.home_directory", lambda: home)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """On a busy machine a fetch may take seconds: whether it is spoken of is no matter here."""
    monkeypatch.setattr("hpcimg.cli.progress_lines.PATIENCE_SECONDS", float("inf"))


@pytest.fixture
def kept(tmp_path):
    """Give an empty store, whose entries are numbers."""
    return Kept(tmp_path / "store")


@pytest.fixture
def nodes(site):
    """A site whose three nodes have published; `resolve` is what one of them does in a job."""
    settings = read_settings(os.environ)
    store = site_store(settings.store)
    for one in (BDW1, SKX1, ZEN1):
        publish_profile(store, one)
    site.store = store

    def resolve(one, match="uniform", on=NODES, key=KEY, name="tool", step="0", **changes):
        used = replace(settings, **changes)
        reference = read_name(name, used)
        job = Together(match, on, PinRequest(key), step)
        answer = resolve_in_job(reference, one, site_access(used), used, job)
        site.answer = answer
        return answer.resolved.require().descriptor.digest, answer.warning

    site.resolve = resolve
    return site
