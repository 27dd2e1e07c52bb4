"""Threads that wait for upstreams: so many for each, so that a slow one stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from hpcimg.errors import RegistryError

Result = TypeVar("Result")

THREADS = 24
"""How many questions an upstream may be asked at a time."""
QUEUE = 1000
"""How many more may wait for that; a client that is one too many is told to come again."""


class UpstreamThreads:
    """A pool of threads for each registry."""

    def __init__(self, registries: Iterable[str]) -> None:
        self._pools = {name: ThreadPoolExecutor(THREADS, f"ask {name}") for name in registries}
        self._waiting = dict.fromkeys(self._pools, 0)

    async def run(
        self, registry: str, call: Callable[..., Result], *words: object, **named: object
    ) -> Result:
        """Run what may wait for a registry; raises RegistryError where too many do already."""
        if self._waiting[registry] >= THREADS + QUEUE:
            raise RegistryError(
                f'too many wait for "{registry}"', "try again later", temporary=True
            )
        loop = asyncio.get_running_loop()
        self._waiting[registry] += 1
        try:
            return await loop.run_in_executor(self._pools[registry], partial(call, *words, **named))
        finally:
            self._waiting[registry] -= 1

    def waiting(self) -> int:
        """Count the questions that are not answered."""
        return sum(self._waiting.values())

    def close(self) -> None:
        """Begin nothing more."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
