"""The benchmark's table: medians, ratios, and which targets are met."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

import inside
import table


def targets_of(results):
    """All targets that these results are about."""
    return table.targets(results) + inside.targets(results)


@pytest.fixture
def results():
    """Raw results whose medians are easy to see."""
    seconds = {
        "bare-1": 0.1,
        "container-1": 0.2,
        "apptainer-1": 0.25,
        "bare-64": 0.5,
        "container-64": 0.8,
        "apptainer-64": 6.4,
        "first-host": 0.2,
        "first-image": 0.6,
        "hello-host": 0.5,
        "hello-image": 0.75,
        "choose-python": 0.015,
        "choose-digest": 0.12,
        "choose-tag": 0.2,
    }
    raw = {name: {"seconds": [one, one * 9, one / 9], "rates": []} for name, one in seconds.items()}
    raw["pingpong-host"] = {"seconds": [1.0], "rates": [4.0, 2.0, 8.0]}
    raw["pingpong-image"] = {"seconds": [1.0], "rates": [3.6]}
    raw["choose-thousand"] = {"seconds": [1.0], "rates": [50.0]}
    inside = {"host": 100.0, "kernel": 120.0, "fuse": 300.0, "apptainer": 300.0}
    for kind, one in inside.items():
        for row, more in (("true", 0.1), ("many", 0.1), ("python", 0), ("import", 0)):
            seconds = 0.5 + (more if kind == "kernel" else 0)
            raw[f"inside-{row}-{kind}"] = {"seconds": [seconds], "rates": [one]}
    return raw


def test_rows_show_medians_and_ratios(results) -> None:
    """A row has the three medians, our time to bare srun's, and how often we are faster."""
    head, one, many = table.launch_rows(results, (1, 64))
    assert head[0] == "tasks"
    assert one == ("1", "0.100 s", "0.200 s", "0.250 s", "2.00x", "1.25x")
    assert many == ("64", "0.500 s", "0.800 s", "6.400 s", "1.60x", "8.00x")
    assert [row[1] for row in table.choosing_rows(results)[1:]] == ["15", "120", "200", "50"]
    assert table.pair_rows(results)[-1][1:] == ("4.00 GB/s", "3.60 GB/s", "0.90x")


def test_targets_on_their_limit_are_met(results) -> None:
    """A target is met on its very limit."""
    assert [target.met for target in targets_of(results)] == [True] * 12


@pytest.mark.parametrize(
    ("name", "kind", "value", "missed"),
    [
        pytest.param("apptainer-64", "seconds", 6.3, 0, id="not 8 times faster"),
        pytest.param("bare-64", "seconds", 0.4, 1, id="more than 1.6 of bare"),
        pytest.param("apptainer-1", "seconds", 0.19, 2, id="slower with one task"),
        pytest.param("pingpong-image", "rates", 3.3, 3, id="slower ping-pong"),
        pytest.param("choose-thousand", "rates", 50.1, 4, id="slow selection"),
        pytest.param("choose-digest", "seconds", 0.121, 5, id="slow resolve"),
        pytest.param("inside-import-kernel", "rates", 121.0, 8, id="slow imports"),
        pytest.param("inside-python-fuse", "rates", 301.0, 7, id="slower than Apptainer"),
        pytest.param("inside-many-kernel", "seconds", 0.61, 11, id="slow start"),
    ],
)
def test_missed_target_is_said(results, name, kind, value, missed) -> None:
    """One that is missed is named so, and only that one."""
    results[name] = {**results[name], kind: [value]}
    targets = targets_of(results)
    assert [number for number, target in enumerate(targets) if not target.met] == [missed]
    assert targets[missed].line().startswith("MISSED")
    assert table.document(results, {}, 3, targets)["targets"][missed]["met"] is False
