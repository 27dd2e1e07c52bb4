"""Sums of events: by image, with classes of times, and the same whatever was summed up first."""

from __future__ import annotations

import json

import pytest

from hpcimg.tally import (
    BOUNDS,
    MOST_IMAGES,
    Count,
    Event,
    Times,
    bounded,
    joined,
    parse_event,
    parse_tally,
    tally,
)

EVENTS = (
    Event("built", "r/a:1", "sha256:x", 100, 7.0, 0.0, "1", 10),
    Event("hit", "r/a:1@sha256:y", "sha256:x", job="2", time=30),
    Event("waited", "r/a:1", "sha256:z", wait_seconds=0.25, time=20),
    Event("failed", "r/b:2", time=5),
)


def test_events_are_summed_by_name_and_by_digest():
    """A digest in the name does not make another image of it."""
    found = tally(EVENTS)
    assert found.by_name() == {
        "r/a:1": Count(1, 1, 1, 0, 100, 7.0, 0.25, 30),
        "r/b:2": Count(failed=1, last=5),
    }
    assert found.of_digest("sha256:x") == Count(1, 1, 0, 0, 100, 7.0, 0.0, 30)
    assert found.of_digest("sha256:none") == Count()


def test_times_fall_into_classes():
    """A bound belongs to its class; only builds and waits have times."""
    found = tally(EVENTS)
    assert (found.build.count, found.build.sum) == (1, 7.0)
    assert found.build.classes[BOUNDS.index(10.0)] == 1
    assert found.wait == Times((1, *[0] * len(BOUNDS)), 0.25)
    assert tally([Event("built", "a", build_seconds=10.0)]).build.classes == found.build.classes
    assert tally([Event("built", "a", build_seconds=9e9)]).build.classes[-1] == 1


def test_parts_add_up_to_the_whole():
    """What is summed up early, written and read back makes no difference."""
    first = parse_tally(json.loads(json.dumps(tally(EVENTS[:2]).to_fields())))
    assert joined([first, tally(EVENTS[2:])]) == tally(EVENTS)


def test_an_event_is_read_as_it_was_written():
    """Every field comes back."""
    assert parse_event(json.loads(json.dumps(EVENTS[0].to_fields()))) == EVENTS[0]


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {**EVENTS[0].to_fields(), "what": "eaten"}, {"what": "hit"}],
    ids=["null", "list", "empty", "unknown", "half"],
)
def test_what_is_no_event_is_none(document):
    """A half line, or one of a later hpcimg, is passed over."""
    assert parse_event(document) is None


def test_the_number_of_images_is_bounded():
    """Those asked for last stay apart; no request is lost."""
    many = [Event("hit", f"r/{at}", time=at) for at in range(MOST_IMAGES)]
    whole = bounded(joined([tally(many), tally([Event("hit", "r/new", time=10**6)])]))
    assert len(whole.images) == MOST_IMAGES + 1
    assert whole.images["", ""] == Count(hit=1, last=0)
    assert whole.images["r/new", ""].hit == 1
    assert tally([*many, Event("hit", "r/new")]).images["", ""].hit == 1
