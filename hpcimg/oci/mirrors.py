"""The order in which the places of one image's content are asked, and when the next one is.

It must not know what is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from hpcimg.errors import (
    AuthenticationError,
    ContentError,
    DigestMismatchError,
    HpcimgError,
    NotFoundError,
    RegistryError,
)
from hpcimg.oci.hosts import Endpoint, Hosts
from hpcimg.oci.reference import Reference
from hpcimg.oci.transport import ONE_TRY, Patience

log = logging.getLogger(__name__)

DOWN_SECONDS = 60.0
"""How long a mirror that failed is asked after the registry instead of before it."""

Found = TypeVar("Found")


class Mirrors:
    """Remembers which mirrors failed, so that not every request waits for them."""

    def __init__(self, hosts: Hosts, clock: Callable[[], float]) -> None:
        self._hosts = hosts
        self._clock = clock
        self._down: dict[Endpoint, float] = {}

    def first(
        self, reference: Reference, ask: Callable[[Endpoint, Patience | None], Found]
    ) -> Found:
        """Return what the first place has that answers; what the registry itself said is raised.

        Wrong bytes end it at once: who sends them is broken or hostile, and must be heard of.
        """
        *mirrors, origin = self._hosts.endpoints(reference)
        down = [place for place in mirrors if self._down.get(place, 0.0) > self._clock()]
        for place in (one for one in mirrors if one not in down):
            try:
                return ask(place, ONE_TRY)
            except (DigestMismatchError, ContentError):
                raise
            except (NotFoundError, AuthenticationError, RegistryError) as error:
                self.pass_over(reference, place, error)
        try:
            return ask(origin, None)
        except RegistryError as error:
            if not (down and error.temporary):
                raise
            for place in down:
                try:
                    return ask(place, ONE_TRY)
                except (NotFoundError, AuthenticationError, RegistryError) as other:
                    self.pass_over(reference, place, other)
            raise

    def pass_over(self, reference: Reference, place: Endpoint, error: HpcimgError) -> None:
        """Note how a mirror failed; one that merely lacks something is not down."""
        if place == self._hosts.origin(reference):
            return
        if isinstance(error, RegistryError) and place not in self._down:
            log.warning('mirror "%s" is passed over: %s', place.registry, error.message)
        if isinstance(error, RegistryError):
            self._down[place] = self._clock() + DOWN_SECONDS
        log.debug('"%s/%s": %s', place.registry, place.repository, error.message)
