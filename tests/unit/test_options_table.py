"""The plugin's options are in the reference, with their twins, and each is tried on the cluster."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = re.findall(
    r'^    \{"([a-z-]+)",', (ROOT / "spank" / "options.c").read_text("utf-8"), re.MULTILINE
)
PAGE = (ROOT / "docs" / "reference" / "options.md").read_text("utf-8")
_ROW = r"^\| \[`(--[a-z-]+)`\]\(#[a-z-]+\) \|[^|]*\| `(\w+)(?:=no)?` \|"
ROWS = re.findall(_ROW, PAGE, re.MULTILINE)


def typed(name: str) -> str:
    """How an option is typed where the site gives no other prefix."""
    return f"--no-container-{name[3:]}" if name.startswith("no-") else f"--container-{name}"


def test_each_option_has_a_row() -> None:
    """In the order of `srun --help`, with the variable that says the same."""
    assert len(OPTIONS) > 15
    expected = [
        (typed(name), f"HPCIMG_CONTAINER_{name.removeprefix('no-').replace('-', '_').upper()}")
        for name in OPTIONS
    ]
    assert expected == ROWS


def test_each_option_is_tried() -> None:
    """A test on the cluster types it."""
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests/integration").glob("*.py"))
    untried = [name for name in OPTIONS if typed(name) not in tests]
    assert untried in ([], ["name", "save"]), untried
