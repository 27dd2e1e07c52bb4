"""Of all that would ask a registry the same at once, one does, by the store's kind of lock."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace

import pytest
from clients import client_for, reference_to
from registry import Registry
from test_documents import cached

from hpcimg.store.documents import DocumentCache, Place
from hpcimg.workflow.source import CachedSource


@pytest.fixture
def place(tmp_path):
    """A directory of this user's that is not made yet."""
    return Place(tmp_path / "store/documents", os.geteuid())


@pytest.fixture
def registry():
    """Run a registry with one image."""
    with Registry() as running:
        running.put_image("tool", "latest", [b"layer"])
        yield running


@pytest.mark.parametrize("kind", ["flock", "fcntl", "link"])
def test_all_that_ask_at_once_ask_once(registry, place, monkeypatch, kind):
    """One asks for a tag while the others wait for it; what it was told is theirs as well."""
    place = replace(place, lock=kind)
    waiting: set[int] = set()
    all_wait = threading.Event()

    def sleep(_: float) -> None:
        waiting.add(threading.get_ident())
        if len(waiting) == 3:
            all_wait.set()

    class Slow:
        """A registry client whose answer comes when all others wait."""

        def fetch_document(self, reference):
            assert all_wait.wait(30)
            return client_for(registry).fetch_document(reference)

    monkeypatch.setattr("hpcimg.store.documents.time.sleep", sleep)
    reference = reference_to(registry, "tool:latest")
    found = []

    def ask() -> None:
        source = CachedSource(DocumentCache((place,), place), Slow)
        found.append(source.fetch_document(reference).digest)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(registry.seen) == 1


def test_who_waits_too_long_asks(registry, place, monkeypatch):
    """A lock only saves requests: one that nobody gives back holds nobody up."""
    monkeypatch.setattr("hpcimg.store.documents.ALONE_SECONDS", 0.0)
    reference = reference_to(registry, "tool:latest")
    stop, held = threading.Event(), threading.Event()

    def hold() -> None:
        with DocumentCache((place,), place).alone(reference.name):
            held.set()
            stop.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    assert cached(registry, place).fetch_document(reference)
    stop.set()
    thread.join()


def test_without_locks_nobody_waits(place):
    """A site whose file system can lock nothing asks as often as it has nodes."""
    cache = DocumentCache((place,), replace(place, lock="none"))
    with cache.alone("tool"), cache.alone("tool"):
        assert [path.name for path in (place.root.parent / "locks").iterdir()] == []


def test_a_lock_that_nobody_gives_back_is_passed_over(place, monkeypatch):
    """Without a kernel that frees it, it is there for good: half of the wait is for its holder."""
    monkeypatch.setattr("hpcimg.store.documents.ALONE_SECONDS", 0.2)
    linked = replace(place, lock="link")
    with DocumentCache((), linked).alone("tool"):
        (path,) = (place.root.parent / "locks").iterdir()
        elsewhere = re.sub(rb'"host": "[^"]*"', b'"host": "gone"', path.read_bytes())
        path.write_bytes(elsewhere)
        with DocumentCache((), linked).alone("tool"):
            assert b'"gone"' not in path.read_bytes()


def test_who_comes_late_does_not_ask_again(registry, place, monkeypatch):
    """Between looking and locking, another one asked, and has gone."""
    reference = reference_to(registry, "tool:latest")
    alone = DocumentCache.alone

    def late(self, subject):
        monkeypatch.setattr(DocumentCache, "alone", alone)
        assert cached(registry, place).fetch_document(reference)
        return alone(self, subject)

    monkeypatch.setattr(DocumentCache, "alone", late)
    assert cached(registry, place).fetch_document(reference)
    assert len(registry.seen) == 1
