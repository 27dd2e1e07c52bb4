"""What the command line loads: a choice from the cache asks nobody and imports little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import WORDS, site  # noqa: F401 - a fixture

import hpcimg
from hpcimg.cli import main
from hpcimg.node.words import profile_from_words
from hpcimg.settings import read_settings
from hpcimg.store.profiles import publish_profile
from hpcimg.store.store import site_store
from hpcimg.workflow import access

SLOW = ("tomllib", "urllib3", "http", "ssl", "archspec", "rich", "spython", "subprocess")
PROGRAM = (
    "import pathlib, sys; from hpcimg.cli import main; from hpcimg.workflow import access\n"
    "from hpcimg.oci import registries_conf; registries_conf.SYSTEM = pathlib.Path(sys.argv[1])\n"
    "home = pathlib.Path(sys.argv[2]); access.home_directory = lambda: home\n"
    "code = main(sys.argv[3:])\n"
    f"print(code, [name for name in {SLOW} if name in sys.modules])\n"
)


@pytest.mark.parametrize("name", ["tool", "tool:part1"])
def test_a_cached_choice_asks_nobody(site, tmp_path, capsys, name):  # noqa: F811
    """By digest, with all documents in the cache, the registry is not asked, nor HTTP loaded."""
    publish_profile(
        site_store(read_settings(os.environ).store), profile_from_words(WORDS, node="bdw1")
    )
    tag = name.partition(":")[2] or "latest"
    repository = site.registry.documents["tool"]
    digest = next(key for key, found in repository.items() if found is repository[tag])
    words = ["resolve", f"tool@{digest}", "--node", "bdw1"]
    assert main(words) == 0
    expected = capsys.readouterr().out
    assert site.digests[1] in expected
    site.registry.seen.clear()
    (tmp_path / "registries.conf").write_text('# as shipped\n[aliases]\n"registry" = "a.b/c"\n')
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(access.home_directory()), *words],
        env={**os.environ, "PYTHONPATH": str(Path(hpcimg.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{expected}0 []\n"
    assert site.registry.seen == []
