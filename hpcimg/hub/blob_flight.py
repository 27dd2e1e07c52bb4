"""One blob on its way into a file: who brings it tells how far it is, who reads it waits for that.

It must not know where the bytes come from, nor what becomes of the file.
"""

from __future__ import annotations

import copy
import os
import threading
from dataclasses import dataclass

from hpcimg.errors import HpcimgError, StoreError


class StoppedError(StoreError):
    """Nobody wants the blob any more, or the hub is stopping."""


@dataclass(frozen=True)
class Wanted:
    """What is brought: the repository that it is read through, the blob's digest and its size."""

    repository: str
    digest: str
    size: int


class BlobFlight:
    """Shared by one who brings a blob and all who read it; the last to leave closes the file.

    The bringer counts as one of them from the start.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.descriptor = -1
        self.is_kept = False
        self._change = threading.Condition()
        self._users = 1
        self._received = 0
        self._is_begun = False
        self._is_whole = False
        self._is_stopped = False
        self._error: HpcimgError | None = None
        self._waited_for: list[int] = []

    def join(self) -> bool:
        """Become a reader; False when it is too late for that."""
        with self._change:
            is_open = self._error is None and not self._is_stopped and self._users > 0
            self._users += is_open
            return is_open

    def leave(self) -> bool:
        """Read no more, or bring no more; True for the last one, with whom the flight ends.

        No blob is brought for nobody; of one that is kept, the next reader goes on with it.
        """
        with self._change:
            self._users -= 1
            if self._users == 1 and not self._is_whole:
                self._is_stopped = True
            if self._users == 0 and self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1
            return self._users == 0

    def wait_begun(self) -> None:
        """Wait until there is something to read; raises what happened instead."""
        with self._change:
            self._change.wait_for(lambda: self._is_begun or self._is_whole or self._error)
            # Its bytes cannot be given any more, not even those that came in time.
            self._raise_error()

    def wait(self, end: int) -> None:
        """Wait until all bytes before `end` may be given: the last ones only when all are right."""
        with self._change:
            is_last = end >= self.wanted.size
            if not is_last:
                self._waited_for.append(end)
            try:
                self._change.wait_for(
                    lambda: self._is_whole or self._error or (self._received >= end and not is_last)
                )
            finally:
                if not is_last:
                    self._waited_for.remove(end)
            self._raise_error()

    def has(self, end: int) -> bool:
        """Tell whether `wait` would return, or raise, at once."""
        if self._is_whole or self._error is not None:
            return True
        return self._received >= end and end < self.wanted.size

    def open_with(self, descriptor: int) -> None:
        """Set the file that readers read; nobody has read another one, as nothing has begun."""
        with self._change:
            before, self.descriptor = self.descriptor, descriptor
        if before >= 0:
            os.close(before)

    def grow(self, received: int) -> None:
        """Tell how many bytes are in the file; raises StoppedError when no more are wanted."""
        with self._change:
            if self._is_stopped:
                raise StoppedError("the blob is not wanted any more")
            self._received = received
            is_waited_for = any(received >= end for end in self._waited_for)
            # A reader that starts with everything unverified could only be broken.
            if not self._is_begun and 0 < received < self.wanted.size:
                self._is_begun = is_waited_for = True
            if is_waited_for:
                self._change.notify_all()

    @property
    def is_begun(self) -> bool:
        """Whether somebody may have read something."""
        return self._is_begun

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are there, and are the right ones."""
        return self._is_whole

    def succeed(self) -> None:
        """Tell that all bytes are there, and are the right ones."""
        with self._change:
            self._received = self.wanted.size
            self._is_whole = True
            self._change.notify_all()

    def fail(self, error: HpcimgError) -> None:
        """Tell all who wait that there will be no more; what was whole before stays so."""
        with self._change:
            if not self._is_whole:
                self._error = error
            self._change.notify_all()

    def stop(self) -> None:
        """Have the bringer end at its next step, and the readers at once."""
        with self._change:
            self._is_stopped = True
        self.fail(StoppedError("the hub is stopping", "try again in a moment"))

    def _raise_error(self) -> None:
        if self._error is not None:
            # Of its own for each reader: tracebacks gather in one that many raise.
            raise copy.copy(self._error) from self._error
