"""Builds of one name that share a layer: it is asked for once, and nothing that is kept is trusted.

With real processes, a registry on real sockets, and a converter that only joins the layers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attached import described, put_index
from registry import Registry
from sharer import ensure, open_store
from sif import sif_bytes

from hpcimg.errors import RuntimeFailure
from hpcimg.oci.client import RegistryClient
from hpcimg.store.blobs import PART
from hpcimg.store.owner import current_owner
from hpcimg.store.sweep import find_left

HERE = Path(__file__).parent
BASE = os.urandom(1 << 16) * 80  # more than one chunk
TOPS = (b"one" * 1000, b"two" * 1000, b"three" * 1000)


class Site:
    """A registry with three builds of one name, and a store."""

    def __init__(self, registry: Registry, root: Path) -> None:
        self.registry = registry
        self.root = root
        self.digests = [self.put(top) for top in TOPS]
        entries = [described(digest, "cpu:zen") for digest in self.digests]
        self.index = put_index(registry, "tool", "1", *entries)
        self.base = next(name for name, raw in registry.blobs.items() if raw == BASE)

    def put(self, top: bytes, repository: str = "tool") -> str:
        """Push a build."""
        return self.registry.put_image(repository, "x", [BASE, top], docker=False)

    def ensure(self, at: int, index: str | None = None, **options):
        """Have one of the builds; its image has to be that build's."""
        store = open_store(self.root, **options)
        entry = ensure(
            self.registry.name, store, self.index if index is None else index, self.digests[at]
        )
        assert entry.image.read_bytes() == sif_bytes(BASE + TOPS[at])

    def start(self, at: int, lock: str, *mode: str) -> subprocess.Popen[bytes]:
        """Start a process that has one of the builds once it gets a line."""
        words = [self.registry.name, self.root, self.index, self.digests[at], lock, *mode]
        return subprocess.Popen(
            [sys.executable, HERE / "sharer.py", *words],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{HERE.parent.parent}"},
        )

    def requests(self, digest: str | None = None) -> int:
        """Count the requests of a layer, of the one they share."""
        return sum(seen.path.endswith(digest or self.base) for seen in self.registry.seen)

    def kept(self) -> list[Path]:
        """List what is kept of layers."""
        return sorted((self.root / "blobs").glob("*"))


@pytest.fixture
def site(tmp_path):
    """Run a registry with three builds."""
    with Registry() as registry:
        yield Site(registry, tmp_path / "store")


@pytest.mark.parametrize("lock", ["flock", "fcntl", "link"])
def test_of_several_processes_one_asks_for_the_layer(site, lock):
    """Whoever comes first; the layers that only one build has are not kept."""
    children = [site.start(at, lock) for at in range(3)]
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert site.requests() == 1
    (kept,) = site.kept()
    assert kept.read_bytes() == BASE
    assert kept.stat().st_mode & 0o077 == 0
    for at in range(3):
        site.ensure(at, lock=lock)


def test_a_later_build_asks_for_what_is_its_own(site):
    """For a day the layer is there."""
    site.ensure(0)
    site.registry.seen.clear()
    site.ensure(1)
    assert site.requests() == 0


@pytest.mark.parametrize("lock", ["flock", "fcntl", "link"])
def test_a_killed_fetcher_is_taken_over(site, lock):
    """What it has written is no more believed than what is whole."""
    child = site.start(0, lock, "die")
    child.communicate(b"\n", 60)
    assert child.returncode == -9
    assert [path.name.endswith(PART) for path in site.kept()] == [True]
    site.ensure(1, lock=lock)
    assert site.requests() == 2
    assert [path.name.endswith(PART) for path in site.kept()] == [False]


@pytest.mark.parametrize("damage", ["changed", "cut", "longer", "a link", "open", "a folder"])
def test_a_damaged_layer_is_fetched_again(site, damage, caplog):
    """Nobody runs it, and nobody is told to try again."""
    site.ensure(0)
    (kept,) = site.kept()
    if damage == "changed":
        kept.write_bytes(b"x" + BASE[1:])
    elif damage in {"cut", "longer"}:
        os.truncate(kept, len(BASE) + (1 if damage == "longer" else -1))
    elif damage == "open":
        kept.chmod(0o666)
    else:
        kept.rename(site.root / "aside")
        if damage == "a link":
            kept.symlink_to(site.root / "aside")
        else:
            kept.mkdir()
    with caplog.at_level("WARNING"):
        site.ensure(1)
    assert site.requests() == 2
    assert ("converting again" in caplog.text) is (damage == "changed")
    site.ensure(2)
    assert site.requests() == (3 if damage in {"changed", "open", "a folder"} else 2)


def test_another_repository_reads_nothing_of_it(site):
    """Who writes a digest into a manifest may not be allowed to read that layer."""
    site.ensure(0)
    others = [site.put(top, "other") for top in TOPS]
    index = put_index(site.registry, "other", "1", *(described(one) for one in others))
    del site.registry.links["other"]
    store = open_store(site.root)
    with pytest.raises(Exception, match="not in the registry"):
        ensure(site.registry.name, store, index, others[1], name="other:1")


@pytest.mark.parametrize("why", ["alone", "no index", "no room", "off", "no lock", "a file"])
def test_a_layer_is_fetched_by_each(site, why):
    """Where it cannot be shared, or must not be."""
    options = {
        "no room": {"blob_bytes": len(BASE) - 1},
        "off": {"blob_bytes": 0},
        "no lock": {"lock": "none"},
    }.get(why, {})
    alone = [put_index(site.registry, "tool", "2", described(one)) for one in site.digests]
    if why == "a file":
        open_store(site.root).prepare()
        (site.root / "blobs").write_bytes(b"")
    for at in range(2):
        site.ensure(at, {"alone": alone[at], "no index": ""}.get(why), **options)
    assert site.requests() == 2
    assert site.kept() == []


def test_the_oldest_layers_make_room(site):
    """The limit is of all of them."""
    site.ensure(0)
    (first,) = site.kept()
    os.utime(first, (1, 1))
    other = first.with_name("0" * 16 + first.name[16:])
    first.rename(other)
    site.ensure(1, blob_bytes=2 * len(BASE))
    assert len(site.kept()) == 2
    (site.root / "blobs" / first.name).unlink()
    os.utime(other, (1, 1))
    site.ensure(2, blob_bytes=2 * len(BASE) - 1)
    assert [path.name for path in site.kept()] == [first.name]


def test_a_registry_s_failure_is_told_once(site):
    """Whoever fetches has asked as often as it helps; the next one may ask again."""
    site.registry.fail(site.base, status=404, times=1)
    with pytest.raises(Exception, match="not in the registry"):
        site.ensure(0)
    assert site.requests() == 1
    assert site.kept() == []
    site.ensure(1)


def test_a_conversion_that_fails_takes_the_layer_with_it(site, monkeypatch):
    """Its bytes may be why, and must not be why for a day."""

    def fail(_, source, *__):
        for _ in source.fetch(source.manifest.layers[0]):
            break
        raise RuntimeFailure("it does not fit")

    site.ensure(0)
    monkeypatch.setattr("sharer.Joiner.convert", fail)
    with pytest.raises(RuntimeFailure, match="it does not fit"):
        site.ensure(1)
    assert site.kept() == []


def test_a_defect_of_who_fetches_ends_the_build(site):
    """It is raised where the layer is read, and nobody waits for the thread that met it."""

    class Broken(RegistryClient):
        """A client with a defect."""

        def fetch_blob(self, reference, descriptor):
            """Fail at the layer that is shared."""
            if descriptor.size == len(BASE):
                raise ZeroDivisionError("a defect")
            yield from super().fetch_blob(reference, descriptor)

    with pytest.raises(ZeroDivisionError, match="a defect"):
        ensure(site.registry.name, open_store(site.root), site.index, site.digests[0], Broken)
    assert site.kept() == []
    site.ensure(0)


def test_a_day_later_prune_takes_them(site):
    """Half a layer of a lost node too."""
    site.ensure(0)
    (kept,) = site.kept()
    (half := kept.with_name("x" + PART)).write_bytes(b"")
    store, here = open_store(site.root), current_owner()
    assert find_left(store, here, time.time()) == ()
    left = find_left(store, here, time.time() + 86_500)
    assert {one.path for one in left} == {kept, half}
