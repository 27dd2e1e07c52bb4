"""The benchmark's group "steps": which targets are met by what was measured."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def steps(monkeypatch):
    """Import the group as the bench does, with the modules beside it."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield importlib.import_module("steps")
    for name in {"steps", "table"} - before:
        sys.modules.pop(name, None)


def _results(plain: float, grown: float) -> dict[str, dict[str, list[float]]]:
    return {
        "plain-without": {"seconds": [0.1]},
        "plain-with": {"seconds": [plain]},
        "many-steps": {"seconds": [0.2], "rates": [grown]},
    }


@pytest.mark.parametrize(
    ("plain", "grown", "met"),
    [
        pytest.param(0.104, 92, [True, True], id="both met"),
        pytest.param(0.107, 92, [False, True], id="plain steps wait"),
        pytest.param(0.104, 2000, [True, False], id="memory grows"),
    ],
)
def test_targets(steps, plain: float, grown: float, met: list[bool]) -> None:
    """A plugin that costs plain steps something, or slurmd memory, is said."""
    assert [target.met for target in steps.targets(_results(plain, grown))] == met


def test_rows_show_all_that_was_measured(steps) -> None:
    """Each in its unit."""
    values = [row[1] for row in steps.rows(_results(0.104, 92))]
    assert values == ["value", "100 ms", "104 ms", "200 ms", "92 kB"]
