"""The cache of small documents: what it hands out, what it asks again, what it survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from attached import attach, described, put_image, put_index
from clients import client_for, reference_to
from registry import DOCKER_MANIFEST, Registry, digest_of

from hpcimg.errors import NotListedError, RegistryError
from hpcimg.metadata import COMPATIBILITY_TYPE
from hpcimg.registry_settings import RegistrySettings
from hpcimg.settings import Settings, StoreSettings
from hpcimg.store.documents import ANSWER_SECONDS, DocumentCache, Place, sweep
from hpcimg.workflow import access
from hpcimg.workflow.access import own_access, site_access
from hpcimg.workflow.source import CachedSource

RAW = b'{"a": "document"}'
DIGEST = digest_of(RAW)
IS_OWN = access._is_own


@pytest.fixture
def place(tmp_path):
    """A directory of this user's that is not made yet."""
    return Place(tmp_path / "store/documents", os.geteuid())


@pytest.fixture
def registry():
    """Run a registry with one index of one image."""
    with Registry() as running:
        put_index(
            running, "tool", "latest", described(put_image(running, "tool", "one"), "cpu:zen")
        )
        yield running


def cached(registry, place):
    """Make a source that asks this registry."""
    return CachedSource(DocumentCache((place,), place), lambda: client_for(registry))


def file_of(place, digest=DIGEST):
    """Name the file of a document."""
    return place.root / digest.replace(":", "/")


def test_a_digest_is_asked_for_once(registry, place):
    """What was fetched by tag is there by digest; the tag itself is asked for again."""
    reference = reference_to(registry, "tool:latest")
    found = cached(registry, place).fetch_document(reference)
    registry.seen.clear()
    assert cached(registry, place).fetch_document(reference.with_digest(found.digest)) == found
    assert registry.seen == []
    assert cached(registry, place).fetch_document(reference) == found
    assert len(registry.seen) == 1


def test_a_document_is_written_once(registry, place, tmp_path):
    """A tag that means the same again, or a document of another place, is not written anew."""
    reference = reference_to(registry, "tool:latest")
    found = cached(registry, place).fetch_document(reference)
    before = file_of(place, found.digest).stat()
    cached(registry, place).fetch_document(reference)
    after = file_of(place, found.digest).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    own = Place(tmp_path / "own", place.owner)
    source = CachedSource(DocumentCache((place, own), own), lambda: client_for(registry))
    source.fetch_document(reference)
    assert not file_of(own, found.digest).exists()


def test_changed_bytes_are_fetched_again(registry, place):
    """A file that does not have its digest any more is not used, and mended."""
    reference = reference_to(registry, "tool:latest")
    found = cached(registry, place).fetch_document(reference)
    file = file_of(place, found.digest)
    for bad in (b"", found.raw[:-1] + b" ", found.raw * 2):
        file.write_bytes(bad)
        pinned = reference.with_digest(found.digest)
        assert cached(registry, place).fetch_document(pinned) == found
        assert file.read_bytes() == found.raw


def test_configs_are_kept_and_layers_are_not(registry, place):
    """A config is asked for once; layers go to the store of images alone."""
    source = cached(registry, place)
    reference = reference_to(registry, "tool:one")
    manifest = source.fetch_document(reference)
    for _ in range(2):
        for blob in (manifest.config, manifest.layers[0]):
            assert len(b"".join(source.fetch_blob(reference, blob))) == blob.size
    asked = [line for line in registry.log() if "/blobs/" in line]
    assert [asked.count(f"GET /v2/tool/blobs/{one.digest} 200") for one in
            (manifest.config, manifest.layers[0])] == [1, 2]  # fmt: skip


def test_a_document_that_does_not_say_what_it_is(registry, place):
    """Bytes whose type only the answer's header told are not kept: read again they would differ."""
    document = json.loads(registry.documents["tool"]["one"].raw)
    del document["mediaType"]
    registry.put_document("tool", "old", DOCKER_MANIFEST, json.dumps(document).encode())
    found = cached(registry, place).fetch_document(reference_to(registry, "tool:old"))
    assert found.media_type == DOCKER_MANIFEST
    assert not place.root.exists()


@pytest.mark.parametrize("obstacle", ["file", "link"])
def test_a_cache_that_cannot_be_used(registry, tmp_path, obstacle):
    """Without a usable directory every document is fetched, and nobody is bothered."""
    place = Place(tmp_path / "documents", os.geteuid())
    if obstacle == "file":
        place.root.write_bytes(b"")
    if obstacle == "link":
        place.root.mkdir()
        (place.root / "sha256").symlink_to(tmp_path)
    reference = reference_to(registry, "tool:latest")
    for _ in range(2):
        found = cached(registry, place).fetch_document(reference)
        pinned = reference.with_digest(found.digest)
        assert cached(registry, place).fetch_document(pinned) == found
    assert len(registry.seen) == 4


def test_modes(tmp_path):
    """The site's documents are for all to read, a user's own for that user, under any umask."""
    before = os.umask(0o077)
    try:
        for private, modes in ((False, (0o755, 0o755, 0o644)), (True, (0o700, 0o700, 0o600))):
            place = Place(tmp_path / str(private) / "documents", os.geteuid(), private)
            DocumentCache((place,), place).keep_document(DIGEST, RAW)
            paths = (place.root, file_of(place).parent, file_of(place))
            assert tuple(path.stat().st_mode & 0o777 for path in paths) == modes
    finally:
        os.umask(before)


def test_two_processes_write_one_document(place):
    """Writers do not disturb each other; what they leave is whole, and nothing else is there."""
    program = (
        "import sys; from pathlib import Path; from hpcimg.store.documents import *\n"
        f"place = Place(Path(sys.argv[1]), {place.owner})\n"
        "cache = DocumentCache((place,), place)\n"
        "blind = DocumentCache((), place)\n"
        f"for _ in range(200): blind.keep_document({DIGEST!r}, {RAW!r})\n"
        f"assert cache.document({DIGEST!r}) == {RAW!r}\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(place.root)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert DocumentCache((place,)).document(DIGEST) == RAW
    assert [path.name for path in file_of(place).parent.iterdir()] == [DIGEST.split(":")[1]]


@pytest.mark.parametrize(("digest", "raw"), [("sha256:../x", RAW), (DIGEST, b"other")])
def test_only_what_has_its_digest_is_kept(place, digest, raw):
    """A name that is no digest never becomes a path, and no wrong bytes are written."""
    cache = DocumentCache((place,), place)
    cache.keep_document(digest, raw)
    assert cache.document(digest) is None
    assert not place.root.exists()


def test_an_answer_is_good_for_an_hour(place):
    """What has no digest is asked again after a while; clocks of nodes may differ."""
    now = [1_000_000.0]
    cache = DocumentCache((place,), place, clock=lambda: now[0])
    assert cache.answer("who?") is None
    cache.keep_answer("who?", "you\nand me")
    assert cache.answer("whom?") is None
    for shift, answer in ((-60, "you\nand me"), (ANSWER_SECONDS - 1, "you\nand me"), (1e4, None)):
        now[0] = 1_000_000.0 + shift
        assert cache.answer("who?") == answer


def test_while_the_registry_fails(registry, place, caplog):
    """An image that is known runs on while its registry is down, with a warning."""
    now = [1_000_000.0]
    cache = DocumentCache((place,), place, clock=lambda: now[0])
    image = reference_to(registry, "tool").with_digest(DIGEST)
    registry.has_referrers = True
    attached = attach(registry, "tool", DIGEST, RAW)
    source = CachedSource(cache, lambda: client_for(registry))
    assert source.referrers(image, COMPATIBILITY_TYPE) == (attached,)
    now[0] += 2 * ANSWER_SECONDS
    registry.fail("/referrers/", status=503, times=99)
    assert source.referrers(image, COMPATIBILITY_TYPE) == (attached,)
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert record.getMessage().endswith("503; counting on what was attached before")
    with pytest.raises(RegistryError, match="HTTP status 503"):
        source.referrers(image.with_digest("sha256:" + "0" * 64), COMPATIBILITY_TYPE)


def test_an_answer_of_somebody_else_does_not_count(place):
    """No digest protects it, so only the place's own writer and root are believed."""
    DocumentCache((place,), place).keep_answer("who?", "you")
    (file,) = (place.root / "answers").iterdir()
    file.chmod(0o666)
    assert DocumentCache((place,)).answer("who?") is None


def test_sweep_takes_the_oldest(place):
    """Beyond a number of files or of bytes the oldest ones go."""
    cache = DocumentCache((place,), place)
    files = []
    for at in range(6):
        raw = b"%d" % at * 100
        cache.keep_document(digest_of(raw), raw)
        files.append(file_of(place, digest_of(raw)))
        os.utime(files[-1], (at, at))
    sweep(place.root, most_files=5)
    assert [file.exists() for file in files] == [False, *[True] * 5]
    sweep(place.root, most_bytes=250)
    assert [file.exists() for file in files] == [*[False] * 4, True, True]


def settings_of(registry, tmp_path):
    """Make settings with a store of this user's."""
    import pwd

    account = pwd.getpwuid(os.geteuid()).pw_name
    return Settings(
        registries={registry.name: RegistrySettings(plain_http=True)},
        store=StoreSettings(path=str(tmp_path / "site"), account=account),
    )


def test_a_cached_document_of_an_unlisted_registry(registry, tmp_path):
    """For a job only listed registries count, whatever the cache has."""
    settings = settings_of(registry, tmp_path)
    reference = reference_to(registry, "tool:latest")
    found = site_access(settings).source.fetch_document(reference)
    other = replace(reference, registry="other.example", tag=None, digest=found.digest)
    with pytest.raises(NotListedError, match=r'"other.example" is not listed'):
        site_access(settings).source.fetch_document(other)
    with pytest.raises(NotListedError, match=r'"other.example" is not listed'):
        own_access(settings, {}, listed_only=True).source.fetch_document(other)


def test_what_the_site_has_read_all_may_read(registry, tmp_path):
    """A user reads the site's documents, and writes what it reads itself into its own cache."""
    settings = settings_of(registry, tmp_path)
    reference = reference_to(registry, "tool:latest")
    found = site_access(settings).source.fetch_document(reference)
    registry.seen.clear()
    own = own_access(settings, {}).source
    assert own.fetch_document(reference.with_digest(found.digest)) == found
    assert registry.seen == []
    image = own.fetch_document(reference.with_digest(found.manifests[0].digest))
    name = image.digest.replace(":", "/")
    kept = access.home_directory() / ".cache/hpcimg/documents" / name
    assert kept.read_bytes() == image.raw
    assert not (tmp_path / "site/documents" / name).exists()


def _cache(settings, named, uid, monkeypatch):
    """Give the directory of the documents that `uid` writes, with this XDG_CACHE_HOME."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    source = own_access(settings, {"XDG_CACHE_HOME": str(named)}).source
    return source._documents._writable.root


def test_the_user_s_own_cache_is_written(registry, tmp_path, monkeypatch):
    """XDG_CACHE_HOME says where it is, but not to root, whom sudo left a user's."""
    settings = settings_of(registry, tmp_path)
    own = tmp_path / "own"
    own.mkdir(mode=0o755)
    uid = own.stat().st_uid
    monkeypatch.setattr(access, "_is_own", lambda path, _: IS_OWN(path, uid))
    assert _cache(settings, own, 4711, monkeypatch).is_relative_to(own)
    assert _cache(settings, own, 0, monkeypatch).is_relative_to(access.home_directory())


@pytest.mark.parametrize("case", ["open", "link", "file", "long", "nul", "absent", "another's"])
def test_no_other_cache_is_written(registry, tmp_path, monkeypatch, case):
    """One that others may write, that is none, or that may not even be looked at, stops nobody."""
    settings = settings_of(registry, tmp_path)
    place = tmp_path / "place"
    if case in {"open", "another's"}:
        place.mkdir()
        place.chmod(0o775 if case == "open" else 0o755)
    elif case == "link":
        place.symlink_to(tmp_path)
    elif case == "file":
        place.write_text("")
    named = {"long": tmp_path / ("x" * 5000), "nul": f"{tmp_path}/\0"}.get(case, place)
    if case != "another's":
        monkeypatch.setattr(access, "_is_own", lambda path, _: IS_OWN(path, tmp_path.stat().st_uid))
    assert _cache(settings, named, 4711, monkeypatch).is_relative_to(access.home_directory())


def test_a_time_of_many_digits_is_none(place):
    """Python refuses to read such a number."""
    cache = DocumentCache((place,), place)
    cache.keep_answer("who", "me")
    assert cache.answer("who") == "me"
    (path,) = (place.root / "answers").iterdir()
    path.write_text("9" * 5000 + "\nme")
    assert cache.answer("who") is None


def test_that_the_site_found_nothing_answers_for_itself_alone(place, tmp_path):
    """It may have been refused what a user with credentials can read."""
    own = Place(tmp_path / "own/documents", os.geteuid(), private=True)
    site = DocumentCache((place,), place)
    site.keep_answer("what", "")
    site.keep_answer("who", "me")
    user = DocumentCache((place, own), own)
    assert (site.answer("what"), user.answer("what"), user.answer("who")) == ("", None, "me")
    user.keep_answer("what", "")
    assert user.answer("what") == ""


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_an_answer_that_others_could_write_counts_as_none(place, what):
    """An answer has no digest to check it by: only its owner and mode speak for it."""
    cache = DocumentCache((place,), place)
    cache.keep_answer("attached?", "no")
    assert cache.answer("attached?") == "no"
    (path,) = (place.root / "answers").iterdir()
    if what == "file":
        path.chmod(0o666)
    elif what == "folder":
        path.parent.chmod(0o777)
    else:
        path.rename(place.root / "aside")
        path.symlink_to(place.root / "aside")
    assert cache.answer("attached?") is None
