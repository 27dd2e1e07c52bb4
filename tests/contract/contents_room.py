"""A registry, what is kept of it, a clock, and the contents of copies of the hub over them."""

from __future__ import annotations

from clients import client_for, reference_to

from hpcimg.hub.contents import Contents

TAG_SECONDS = 60.0
STALE_AGE = 3600.0


class Kept:
    """Keeps documents and tags in dictionaries; `error` is what all methods raise."""

    def __init__(self) -> None:
        self.documents = {}
        self.kept_tags = {}
        self.error = None

    def document(self, repository, digest):
        """Give a document."""
        self._fail()
        return self.documents.get((repository, digest))

    def put_document(self, repository, document):
        """Keep a document."""
        self._fail()
        self.documents[repository, document.digest] = document

    def tag(self, repository, tag):
        """Give a tag."""
        self._fail()
        return self.kept_tags.get((repository, tag))

    def put_tag(self, repository, tag, kept):
        """Keep a tag."""
        self._fail()
        self.kept_tags[repository, tag] = kept

    def _fail(self):
        if self.error is not None:
            raise self.error


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.time


class Room:
    """A registry with one image, a keep, a clock, and the contents of one copy of the hub."""

    def __init__(self, registry) -> None:
        self.registry = registry
        self.digest = registry.put_image("qnib/bench", "1.0", [b"layer"])
        self.keep = Kept()
        self.clock = Clock()
        self.tag = reference_to(registry, "qnib/bench:1.0")
        self.by_digest = self.tag.with_digest(self.digest)
        self.contents = self.copy()

    def copy(self) -> Contents:
        """Start another copy of the hub on the same keep, or the same one again."""
        return Contents(
            client_for(self.registry),
            self.keep,
            tag_seconds=TAG_SECONDS,
            stale_age=STALE_AGE,
            now=self.clock,
        )

    def move(self, *layers) -> str:
        """Push another image under the tag."""
        return self.registry.put_image("qnib/bench", "1.0", list(layers or [b"newer"]))

    def asked(self) -> list[str]:
        """Say what the registry was asked since the last time, by method and status."""
        seen = [f"{one.method} {one.status}" for one in self.registry.seen if one.path != "/v2/"]
        self.registry.seen.clear()
        return seen

    def out(self, status=503, **fault) -> None:
        """Let the registry fail from now on."""
        self.registry.fail("/manifests/", status=status, times=10_000, **fault)

    def back(self) -> None:
        """Let it work again."""
        self.registry.faults.clear()
