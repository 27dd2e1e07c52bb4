"""The cold starts' rows and targets."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def cold(monkeypatch):
    """Give the module, which lies beside those it imports."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("cold")
    for name in ("cold", "table"):
        sys.modules.pop(name, None)


@pytest.fixture
def results():
    """Raw results that meet each target on its very limit."""
    seconds = {
        "big-ours": 13.0,
        "big-pull": 156.0,
        "big-build": 28.6,
        "big-pipe": 10.0,
        "small-ours": 2.0,
        "small-pull": 6.0,
        "small-build": 3.0,
        "small-pipe": 1.0,
    }
    takes = {"ours": 120.0, "pull": 1000.0, "build": 900.0, "pipe": 100.0}
    return {
        f"cold-{name}": {
            "seconds": [one, one * 9, one / 9],
            "cpu": [one],
            "memory": [takes[name.partition("-")[2]]],
            "disk": [takes[name.partition("-")[2]]],
            "result": [400.0],
        }
        for name, one in seconds.items()
    }


def test_a_row_has_all_figures_of_a_way(cold, results):
    """Wall and CPU seconds, memory, disk, and the result's size."""
    head, first, *rest = cold.rows(results)
    assert len(rest) == 7
    assert head[1:] == ("wall s", "CPU s", "peak memory MiB", "peak disk MiB", "result MiB")
    assert first[1:] == ("13.0", "13.0", "120", "120", "400")


def test_targets_on_their_limit_are_met(cold, results):
    """Seven of them: five of the large image, two of the small files."""
    assert [target.met for target in cold.targets(results)] == [True] * 7


@pytest.mark.parametrize(
    ("name", "kind", "value", "missed"),
    [
        ("big-pull", "seconds", 155.0, 0),
        ("big-build", "seconds", 28.0, 1),
        ("big-pipe", "seconds", 9.9, 2),
        ("big-pipe", "memory", 99.0, 3),
        ("big-pipe", "disk", 99.0, 4),
        ("small-pull", "seconds", 5.9, 5),
        ("small-build", "seconds", 2.9, 6),
    ],
)
def test_a_missed_target_is_said(cold, results, name, kind, value, missed):
    """And only that one."""
    results[f"cold-{name}"][kind] = [value]
    targets = cold.targets(results)
    assert [at for at, target in enumerate(targets) if not target.met] == [missed]
    assert targets[missed].line().startswith("MISSED")
