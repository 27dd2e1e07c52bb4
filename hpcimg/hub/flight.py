"""Single flight: of those who want the same at the same time, one works and all get its result.

It must not know what is wanted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Flights(Generic[Key, Result]):
    """What is under way, by key; nothing is remembered of what has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Key, Future[Result]] = {}

    def run(self, key: Key, work: Callable[[], Result]) -> Result:
        """Give what `work` gives, or what it raises; wait for it where somebody is at it already.

        `work` must look itself whether the result is there: another flight may just have ended.
        """
        with self._lock:
            flight = self._under_way.get(key)
            if flight is None:
                mine = self._under_way[key] = Future()
        if flight is not None:
            return flight.result()
        try:
            mine.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is the result, for all that wait
            mine.set_exception(error)
        finally:
            with self._lock:
                del self._under_way[key]
        return mine.result()

    def count(self) -> int:
        """Tell how many are under way."""
        return len(self._under_way)
