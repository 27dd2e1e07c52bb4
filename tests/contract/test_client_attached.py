"""What is attached to an image, where mirrors stand before its registry."""

from __future__ import annotations

import pytest
from attached import attach
from clients import reference_to
from registry import digest_of
from test_client_mirrors import NAME, THERE, both, mirrored  # noqa: F401 - a fixture

from hpcimg.compatibility import COMPATIBILITY_TYPE


@pytest.fixture
def image(both):  # noqa: F811
    """Name the image by its digest."""
    registry, _ = both
    return reference_to(registry, f"{NAME}@{digest_of(registry.documents[NAME]['latest'].raw)}")


def ask(both, image, **others):  # noqa: F811
    """Ask what is attached to the image, by way of the mirror."""
    registry, mirror = both
    return mirrored(registry, mirror, **others).referrers(image, COMPATIBILITY_TYPE)


@pytest.mark.parametrize("knows", [True, False], ids=["an empty list", "no such API"])
def test_a_mirror_without_it_is_not_the_last_word(both, image, knows):  # noqa: F811
    """What the registry demands of an image's nodes holds, though a mirror knows nothing of it."""
    registry, mirror = both
    registry.has_referrers, mirror.has_referrers = True, knows
    artifact = attach(registry, NAME, image.digest, b"x")
    assert ask(both, image) == (artifact,)


def test_a_mirror_that_has_it_is_enough(both, image):  # noqa: F811
    """The registry is not asked."""
    registry, mirror = both
    mirror.has_referrers = True
    artifact = attach(mirror, THERE, image.digest, b"x")
    assert ask(both, image) == (artifact,)
    assert registry.seen == []


def test_nowhere_is_none(both, image):  # noqa: F811
    """Neither place has any."""
    assert ask(both, image) == ()


def test_a_registry_out_of_reach_leaves_the_mirror_s_none(both, image, caplog):  # noqa: F811
    """Nodes that reach the mirror alone can start: it is tried once, and said."""
    registry, _ = both
    registry.fail("", status=503, times=99)
    waits: list[float] = []
    assert ask(both, image, waits=waits) == ()
    assert waits == []
    assert "a mirror has nothing attached" in caplog.text
