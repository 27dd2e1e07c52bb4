"""What the hub counts, for Prometheus: no names of images or people among the labels."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from hpcimg.prometheus import Metric, Sample, exposition, histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

_BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class Metrics:
    """Counts requests of one process."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._identities: Counter[str] = Counter()
        self._choices: Counter[str] = Counter()
        self._classes = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0
        self.blob_bytes = 0

    def count(self, kind: str, status: int, seconds: float) -> None:
        """Count one answer and its time."""
        self._requests[kind, status] += 1
        self._classes[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def count_identity(self, how: str) -> None:
        """Count how a machine type was told."""
        self._identities[how or "none"] += 1

    def count_choice(self, words: tuple[str, ...] | None) -> None:
        """Count whether an image for some hardware was given, or the generic one."""
        if words is not None:
            self._choices["specific" if words else "generic"] += 1

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Write all, with gauges by name, each what it is and its value."""
        requests = tuple(
            Sample(number, {"kind": kind, "status": str(status)})
            for (kind, status), number in sorted(self._requests.items())
        )
        about = "Requests that were answered."
        metrics = [
            Metric("hpcimg_hub_requests_total", "counter", about, requests),
            _counter("identities", "How machine types were told.", "how", self._identities),
            _counter("choices", "Images that were chosen.", "build", self._choices),
            Metric(
                "hpcimg_hub_blob_bytes_total",
                "counter",
                "Bytes of blobs that were sent.",
                (Sample(self.blob_bytes),),
            ),
            histogram(
                "hpcimg_hub_request_seconds",
                "Time until an answer was ready.",
                _BOUNDS,
                self._classes,
                self._seconds,
            ),
        ]
        metrics += [
            Metric(f"hpcimg_hub_{name}", "gauge", what, (Sample(value),))
            for name, (what, value) in sorted(gauges.items())
        ]
        return exposition(metrics)


def _counter(name: str, about: str, label: str, found: Counter[str]) -> Metric:
    samples = tuple(Sample(number, {label: key}) for key, number in sorted(found.items()))
    return Metric(f"hpcimg_hub_{name}_total", "counter", about, samples)
