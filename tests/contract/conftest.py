"""What holds for every contract test: nobody's cache is read or written."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Let each test start with an empty cache of its own, root's too, who has none but at home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr("hpcimg.workflow.access.home_directory", lambda: home)
