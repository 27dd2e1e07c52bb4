"""What shells complete is what the command line has."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_docs_reference import DOCS

sys.path.insert(0, str(DOCS))

from make_completion import DATA, scripts


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_scripts_are_up_to_date(shell):
    """The file is what docs/make_completion.py writes today."""
    path = DATA / f"completion.{shell}"
    assert path.read_text("utf-8") == scripts()[path], "run docs/make_completion.py"


def complete(*words: str) -> list[str]:
    """What bash offers after these words."""
    script = (
        f"source {DATA / 'completion.bash'}; COMP_WORDS=({' '.join(words)} '');"
        f" COMP_CWORD={len(words)}; COMP_LINE='{' '.join(words)} ';"
        " _shtab_hpcimg hpcimg '' x; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_bash_completes_verbs():
    """Those that people type, and none that only hooks call."""
    offered = complete("hpcimg")
    assert {"run", "explain", "cache", "doctor", "completion"} <= set(offered)
    assert not {"get", "prefetch", "pin", "record"} & set(offered)
    assert "warm" in complete("hpcimg", "cache")


def test_bash_completes_words_of_options():
    """Where an option or an argument has few words."""
    assert complete("hpcimg", "explain", "--policy") == ["compatible", "exact"]
    assert complete("hpcimg", "completion") == ["bash", "zsh"]
