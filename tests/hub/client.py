"""What a client of images can do, the same for all of them; each has a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from room import Room


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: the digest that the name stood for, and the image's config by digest."""

    digest: str
    config: str
    said: str = ""


class PullError(AssertionError):
    """The client refused or could not pull; the text is what it said."""


class Client:
    """One client with a store of its own in ``folder``; use it as a context.

    A name is `HOST:PORT/REPOSITORY[:TAG|@DIGEST]`, and its registry speaks plain http.
    """

    can_run = True

    def __init__(self, room: Room, folder: Path) -> None:
        self.room, self.folder = room, folder
        folder.mkdir()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon, if it has one."""

    def stop(self) -> None:
        """End the daemon, if it has one."""

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in for the pulls that follow; a later login replaces this one."""
        raise NotImplementedError(registry)

    def pull(self, name: str) -> Pulled:
        """Pull an image, new if the registry says so; raise PullError."""
        raise NotImplementedError(name)

    def run(self, name: str) -> str:
        """Run the image's own command as it was pulled last; give what it printed."""
        raise NotImplementedError(name)

    def _pull(self, *command: str | Path) -> str:
        done = self.room.run(*command, check=False)
        if done.returncode != 0:
            raise PullError(done.stdout + done.stderr)
        return done.stdout + done.stderr
