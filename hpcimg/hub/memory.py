"""A bounded memory that is read without a lock.

It must not know what it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Slot(Generic[Value]):
    __slots__ = ("is_used", "value", "weight")

    def __init__(self, value: Value, weight: int) -> None:
        self.value = value
        self.weight = weight
        self.is_used = False


class Memory(Generic[Key, Value]):
    """Holds so many things, and of so much weight together; the longest unused are forgotten.

    A reader only marks what it read, so that readers never wait: whoever makes room passes over
    each marked one once. In that moment a reader may miss it, as if it had been forgotten.
    """

    def __init__(self, count: int, weight: int | None = None) -> None:
        self._count = count
        self._limit = weight
        self._lock = threading.Lock()
        self._slots: dict[Key, _Slot[Value]] = {}
        self.weight = 0

    def __len__(self) -> int:
        return len(self._slots)

    def get(self, key: Key) -> Value | None:
        """Give what is remembered for a key."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        slot.is_used = True
        return slot.value

    def put(self, key: Key, value: Value, weight: int = 0) -> None:
        """Remember it in place of what was there; what alone is too heavy is not remembered."""
        with self._lock:
            if self._limit is not None and weight > self._limit:
                self._drop(key)
                return
            old = self._slots.get(key)
            self._slots[key] = _Slot(value, weight)
            self.weight += weight - (old.weight if old else 0)
            self._make_room(key)

    def drop(self, key: Key) -> None:
        """Forget a key."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self.weight -= slot.weight

    def _make_room(self, newest: Key) -> None:
        chances = len(self._slots)
        while self._is_over():
            key = next(iter(self._slots))
            slot = self._slots[key]
            if (slot.is_used or key == newest) and chances > 0:
                chances -= 1
                slot.is_used = False
                self._slots[key] = self._slots.pop(key)
            else:
                self._drop(key)

    def _is_over(self) -> bool:
        is_heavy = self._limit is not None and self.weight > self._limit
        return is_heavy or len(self._slots) > self._count
