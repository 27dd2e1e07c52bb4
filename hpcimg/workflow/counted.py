"""Tell the store what a request came to: found, built, waited for or failed, and how long it took.

Learns it from what is reported on the way, so no one on the way has to know of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hpcimg.errors import AuthenticationError, HpcimgError, NotListedError, UsageError
from hpcimg.progress import OnProgress, Progress
from hpcimg.store.events import note_event
from hpcimg.store.store import site_store
from hpcimg.tally import Event
from hpcimg.workflow.resolve import read_name

if TYPE_CHECKING:
    from hpcimg.settings import Settings
    from hpcimg.store.entry import Entry
    from hpcimg.store.store import Store


class Heard:
    """Passes reports on, and counts the seconds of waiting and of building."""

    def __init__(
        self, on_progress: OnProgress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = on_progress
        self._clock = clock
        self._began = clock()
        self._since = 0.0
        self._state = ""
        self._seconds: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        """Hear one report."""
        state = "waited" if progress.phase == "wait" else "built"
        if state != self._state:
            self.close()
            self._state, self._since = state, self._clock()
        self._tell(progress)

    def close(self) -> None:
        """Count what has gone on until now."""
        if self._state:
            gone = self._clock() - self._since
            self._seconds[self._state] = self._seconds.get(self._state, 0.0) + gone
            self._state = ""

    @property
    def source(self) -> str:
        """Built here, waited for another builder, or found in the store."""
        self.close()
        return next((one for one in ("built", "waited") if one in self._seconds), "store")

    @property
    def seconds(self) -> float:
        """How long it has taken until now."""
        return self._clock() - self._began

    def event(self, entry: Entry, reference: str, job: str) -> Event:
        """Say what having this entry has come to."""
        what = "hit" if self.source == "store" else self.source
        layers = {layer.digest: layer.size for layer in entry.record.layers}
        return Event(
            what=what,
            reference=reference,
            digest=entry.record.digest,
            bytes=sum(layers.values()) if what == "built" else 0,
            build_seconds=round(self._seconds.get("built", 0.0), 3),
            wait_seconds=round(self._seconds.get("waited", 0.0), 3),
            job=job,
            time=int(time.time()),
        )


def note_had(store: Store, heard: Heard, entry: Entry, reference: str, job: str) -> None:
    """Count a request that has its entry."""
    note_event(store, heard.event(entry, reference, job))


@contextmanager
def failures_noted(name: str, settings: Settings, scope: str, job: str) -> Iterator[None]:
    """Count a request of the site's that ends without an image.

    One that is handed on to its user, whose login may help, has not failed; nor has a misspelling.
    """
    try:
        yield
    except (AuthenticationError, UsageError) as error:
        if isinstance(error, NotListedError):
            _note_failed(name, settings, scope, job)
        raise
    except HpcimgError:
        _note_failed(name, settings, scope, job)
        raise


def _note_failed(name: str, settings: Settings, scope: str, job: str) -> None:
    if scope != "site":
        return
    with suppress(HpcimgError):
        reference = str(read_name(name, settings))
        failed = Event("failed", reference, job=job, time=int(time.time()))
        note_event(site_store(settings.store), failed)
