"""The benchmark's group "many": what counts as fetched once, and which targets are met."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
NAMES = (
    "many-tasks",
    "many-tasks-apptainer",
    "many-builds",
    "many-builds-shared",
    "many-converted",
    "many-client",
    "many-clients",
    "many-clients-layers",
)


@pytest.fixture
def many(monkeypatch):
    """Import the group as the bench does, with the modules beside it."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield importlib.import_module("many")
    for name in {"many", "table"} - before:
        sys.modules.pop(name, None)


@pytest.fixture
def results():
    """Raw results that meet every target."""
    raw = {name: {"seconds": [2.0], "rates": [1.0]} for name in NAMES}
    raw["many-client"]["rates"] = raw["many-clients"]["rates"] = [6.0]
    return raw


def test_every_target_is_met_by_single_requests(many, results):
    """One fetch of each layer, one conversion of each build, the requests of one client."""
    assert all(target.met for target in many.targets(results))
    assert [row[0] for row in many.rows(results)][1].startswith("many tasks on 4 nodes")


@pytest.mark.parametrize("name", [NAMES[0], *NAMES[2:5], *NAMES[6:]])
def test_a_second_request_is_a_target_missed(many, results, name):
    """One more of anything is said, and only that."""
    results[name]["rates"] = [results[name]["rates"][0] + 1]
    missed = [target for target in many.targets(results) if not target.met]
    assert len(missed) == 1
    assert missed[0].line().startswith("MISSED")


def test_a_layer_that_was_never_asked_for_counts_as_nothing(many):
    """A warm store would look like a good result: then the number is 0, and no target is met."""
    counts = Counter({"/v2/a/blobs/sha256:1": 2})
    assert many._most((1.0, counts), ["sha256:1"]) == 2
    assert many._most((1.0, counts), ["sha256:1", "sha256:2"]) == 0
