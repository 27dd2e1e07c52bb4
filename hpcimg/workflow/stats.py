"""The store in figures: what it holds, what requests came to, how long they took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.prometheus import Metric, Sample, exposition, histogram
from hpcimg.store.events import read_events
from hpcimg.store.faults import free_bytes
from hpcimg.store.store import QUARANTINE
from hpcimg.tally import BOUNDS, RESULTS, Count, Tally, Times
from hpcimg.workflow.holdings import Holding, holdings

if TYPE_CHECKING:
    from hpcimg.store.store import Store


@dataclass(frozen=True)
class Stats:
    """`entry_bytes` are those of the image files.

    `leases` and `quarantined` are None for who may not look.
    """

    entries: int
    entry_bytes: int
    leases: int | None
    free_bytes: int
    quarantined: int | None
    tally: Tally

    @property
    def whole(self) -> Count:
        """The sums of all images."""
        whole = Count()
        for count in self.tally.by_name().values():
            whole = whole.plus(count)
        return whole

    def to_fields(self) -> dict[str, Any]:
        """Give all figures as a JSON object."""
        return {
            "entries": self.entries,
            "entry_bytes": self.entry_bytes,
            "leases": self.leases,
            "free_bytes": self.free_bytes,
            "quarantined": self.quarantined,
            "requests": asdict(self.whole),
            "build_seconds": _histogram_fields(self.tally.build),
            "wait_seconds": _histogram_fields(self.tally.wait),
            "images": [
                {"image": name, **asdict(count)} for name, count in self.tally.by_name().items()
            ],
        }


def read_stats(store: Store) -> Stats:
    """Look at the store and at what its hosts counted; raises StoreError."""
    held = holdings(store)
    return Stats(
        entries=len(held),
        entry_bytes=sum(one.entry.record.size for one in held),
        leases=_leases(held),
        free_bytes=free_bytes(store.root),
        quarantined=_quarantined(store),
        tally=read_events(store),
    )


def prometheus_text(stats: Stats) -> str:
    """Write the figures for Prometheus: seconds and bytes, counters that end in _total."""
    start = "hpcimg_store"
    gauges = [
        ("entries", "Images in the store.", stats.entries),
        ("entry_bytes", "Size of the image files in the store.", stats.entry_bytes),
        ("leases", "Leases of jobs on images in the store.", stats.leases),
        ("free_bytes", "Free space on the store's file system.", stats.free_bytes),
        ("quarantined_entries", "Bad entries that were moved aside.", stats.quarantined),
    ]
    metrics = [
        Metric(f"{start}_{name}", "gauge", about, (Sample(value),))
        for name, about, value in gauges
        if value is not None
    ]
    build, wait = stats.tally.build, stats.tally.wait
    about_build = "Time to fetch and convert an image."
    about_wait = "Time that a request waited for another one's build."
    return exposition(
        (
            *metrics,
            *_by_image(start, stats.tally.by_name()),
            histogram(f"{start}_build_seconds", about_build, BOUNDS, build.classes, build.sum),
            histogram(f"{start}_wait_seconds", about_wait, BOUNDS, wait.classes, wait.sum),
        )
    )


def _by_image(start: str, counts: dict[str, Count]) -> list[Metric]:
    requests = tuple(
        Sample(getattr(count, result), {"image": image, "result": result})
        for image, count in counts.items()
        for result in RESULTS
    )
    sums = (
        ("fetched_bytes", "bytes", "Bytes of layers that registries sent."),
        ("image_build_seconds", "build_seconds", "Time spent on building, by image."),
        ("image_wait_seconds", "wait_seconds", "Time spent on waiting, by image."),
    )
    about = "Requests for an image: found (hit), built, waited for, failed."
    return [
        Metric(f"{start}_requests_total", "counter", about, requests),
        *(
            Metric(
                f"{start}_{name}_total",
                "counter",
                about,
                tuple(Sample(getattr(each, key), {"image": i}) for i, each in counts.items()),
            )
            for name, key, about in sums
        ),
    ]


def _histogram_fields(times: Times) -> dict[str, Any]:
    return {
        "count": times.count,
        "sum": round(times.sum, 3),
        "bounds": list(BOUNDS),
        "classes": list(times.classes),
    }


def _quarantined(store: Store) -> int | None:
    try:
        return sum(1 for _ in (store.root / QUARANTINE).iterdir())
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _leases(held: tuple[Holding, ...]) -> int | None:
    counts = [len(one.leases) for one in held if one.leases is not None]
    return sum(counts) if len(counts) == len(held) else None
