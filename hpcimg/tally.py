"""What requests of a store came to: counted by image, with how long building and waiting took.

Pure; it knows neither where events are kept nor how the sums are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

RESULTS = ("hit", "built", "waited", "failed")
"""How a request ended: the image was there, was made, was made by another one, is not there."""

BOUNDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of the times' classes in seconds; one more class has no bound."""

MOST_IMAGES = 500
"""How many are kept apart; what comes after them is counted under one empty name."""

_TEXT = 1024


@dataclass(frozen=True)
class Event:
    """One request: `what` is of RESULTS, `bytes` came from the registry, `time` is since 1970."""

    what: str
    reference: str
    digest: str = ""
    bytes: int = 0
    build_seconds: float = 0.0
    wait_seconds: float = 0.0
    job: str = ""
    time: int = 0

    @property
    def image(self) -> str:
        """The name without a digest: those are countless."""
        return self.reference.partition("@")[0]

    def to_fields(self) -> dict[str, Any]:
        """Give the event as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Count:
    """The sums of one image."""

    hit: int = 0
    built: int = 0
    waited: int = 0
    failed: int = 0
    bytes: int = 0
    build_seconds: float = 0.0
    wait_seconds: float = 0.0
    last: int = 0

    def plus(self, other: Count) -> Count:
        """Add two; `last` is the later one."""
        mine, others = asdict(self), asdict(other)
        sums = {key: mine[key] + others[key] for key in mine}
        return Count(**{**sums, "last": max(self.last, other.last)})


@dataclass(frozen=True)
class Times:
    """How many took how long: a number for each class of BOUNDS and one beyond, and the sum."""

    classes: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    sum: float = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.classes)

    def plus(self, other: Times) -> Times:
        """Add two."""
        both = zip(self.classes, other.classes, strict=True)
        return Times(tuple(a + b for a, b in both), self.sum + other.sum)


@dataclass(frozen=True)
class Tally:
    """The sums of many events, by image name and digest."""

    images: Mapping[tuple[str, str], Count] = field(default_factory=dict)
    build: Times = Times()
    wait: Times = Times()

    def by_name(self) -> dict[str, Count]:
        """Add up the digests of each image name, in the order of the names."""
        found: dict[str, Count] = {}
        for (image, _), count in sorted(self.images.items()):
            found[image] = found.get(image, Count()).plus(count)
        return found

    def of_digest(self, digest: str) -> Count:
        """Add up what one digest came to, by whatever name."""
        found = Count()
        for (_, one), count in self.images.items():
            found = found.plus(count) if one == digest else found
        return found

    def to_fields(self) -> dict[str, Any]:
        """Give all of it as a JSON object."""
        images = [
            {"image": image, "digest": digest, **asdict(count)}
            for (image, digest), count in self.images.items()
        ]
        return {"images": images, "build": asdict(self.build), "wait": asdict(self.wait)}


def tally(events: Iterable[Event]) -> Tally:
    """Sum up events."""
    images: dict[tuple[str, str], Count] = {}
    build, wait = Times(), Times()
    for event in events:
        key = (event.image, event.digest)
        key = key if key in images or len(images) < MOST_IMAGES else ("", "")
        images[key] = images.get(key, Count()).plus(_count(event))
        if event.what == "built":
            build = build.plus(_time(event.build_seconds))
        if event.wait_seconds:
            wait = wait.plus(_time(event.wait_seconds))
    return Tally(images, build, wait)


def joined(parts: Iterable[Tally]) -> Tally:
    """Add tallies up."""
    images: dict[tuple[str, str], Count] = {}
    build, wait = Times(), Times()
    for part in parts:
        for key, count in part.images.items():
            images[key] = images.get(key, Count()).plus(count)
        build, wait = build.plus(part.build), wait.plus(part.wait)
    return Tally(images, build, wait)


def bounded(whole: Tally) -> Tally:
    """Keep the images that were asked for last apart, and put the others together."""
    last = sorted(whole.images, key=lambda key: whole.images[key].last, reverse=True)
    kept = set(last[:MOST_IMAGES])
    images: dict[tuple[str, str], Count] = {}
    for key, count in whole.images.items():
        place = key if key in kept else ("", "")
        images[place] = images.get(place, Count()).plus(count)
    return replace(whole, images=images)


def parse_event(document: Any) -> Event | None:
    """Read an event back; None for what is none."""
    try:
        event = Event(
            what=str(document["what"]),
            reference=str(document["reference"])[:_TEXT],
            digest=str(document["digest"])[:_TEXT],
            bytes=max(0, int(document["bytes"])),
            build_seconds=max(0.0, float(document["build_seconds"])),
            wait_seconds=max(0.0, float(document["wait_seconds"])),
            job=str(document["job"])[:_TEXT],
            time=int(document["time"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return event if event.what in RESULTS else None


def parse_tally(document: Any) -> Tally:
    """Read a tally back; raises KeyError, TypeError or ValueError."""
    images = {}
    for one in document["images"]:
        numbers = {key: type(value)(one[key]) for key, value in asdict(Count()).items()}
        images[str(one["image"]), str(one["digest"])] = Count(**numbers)
    return Tally(images, _times(document["build"]), _times(document["wait"]))


def _times(document: Any) -> Times:
    classes = tuple(int(number) for number in document["classes"])
    if len(classes) != len(BOUNDS) + 1:
        raise ValueError("other classes of times")
    return Times(classes, float(document["sum"]))


def _count(event: Event) -> Count:
    numbers = Count(
        bytes=event.bytes,
        build_seconds=event.build_seconds,
        wait_seconds=event.wait_seconds,
        last=event.time,
    )
    return replace(numbers, **{event.what: 1})


def _time(seconds: float) -> Times:
    place = bisect_left(BOUNDS, seconds)
    return Times(tuple(int(at == place) for at in range(len(BOUNDS) + 1)), seconds)
