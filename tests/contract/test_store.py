"""A store on a real file system: what counts as an entry, and what a failure leaves behind."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
from pathlib import Path

import pytest
from sif import sif_bytes

from hpcimg.errors import SettingsError, StoreError
from hpcimg.progress import Progress
from hpcimg.settings import StoreSettings
from hpcimg.store.entry import Layer
from hpcimg.store.owner import current_owner
from hpcimg.store.store import Store, site_store, user_store
from hpcimg.store.workspace import BuiltImage, remove_tree

DIGEST = "sha256:" + "cd" * 32
CONVERTER = "fake-1.0-1"
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to chown and to mount")


def build(workspace):
    """Make a small image."""
    workspace.image.write_bytes(sif_bytes())
    return BuiltImage(
        references=("registry:5000/qnib/bench:latest",),
        features=("cpu:broadwell",),
        layers=(Layer("sha256:" + "11" * 32, 7),),
        documents={"manifest.json": b"{}"},
    )


@pytest.fixture
def store(tmp_path):
    """Give a store that this process may write."""
    return Store(tmp_path / "store", os.geteuid())


@pytest.fixture
def entry(store):
    """Give the store's one entry."""
    return store.ensure(DIGEST, CONVERTER, build)


def leftovers(store):
    """List what builders left behind."""
    return list((store.root / "tmp").iterdir())


def test_an_entry_is_found_again(store, entry):
    """What was built is found without building, with the record that the builder gave."""
    found = store.lookup(DIGEST, CONVERTER)
    assert found == entry
    assert found.image.read_bytes() == sif_bytes()
    assert found.record.references == ("registry:5000/qnib/bench:latest",)
    assert found.record.features == ("cpu:broadwell",)
    assert found.record.layers == (Layer("sha256:" + "11" * 32, 7),)
    assert (found.path / "manifest.json").read_bytes() == b"{}"
    assert store.ensure(DIGEST, CONVERTER, pytest.fail) == entry
    assert leftovers(store) == []


def test_another_converter_makes_another_entry(store, entry):
    """The converter's id is part of the key: a new version never serves the old one's bytes."""
    assert store.lookup(DIGEST, "fake-2.0-1") is None
    store.ensure(DIGEST, "fake-2.0-1", build)
    assert [one.record.converter for one in store.entries()] == [CONVERTER, "fake-2.0-1"]


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_a_site_store_is_readable_and_only_its_own_to_write(store, umask):
    """Whatever the umask of the builder: all may read what is published, nobody else may write."""
    before = os.umask(umask)
    try:
        entry = store.ensure(DIGEST, CONVERTER, build)
    finally:
        os.umask(before)
    for path in (store.root, entry.path.parent.parent, entry.path.parent, entry.path):
        assert path.stat().st_mode & 0o777 == 0o755
    for path in entry.path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o644


def test_nobody_else_can_hold_a_lock(store, entry):
    """Reading is enough for flock, so a lock file that others may open could delay every build."""
    assert entry.path.exists()
    assert (store.root / "locks").stat().st_mode & 0o777 == 0o700


def test_a_user_s_store_is_closed_to_others(tmp_path):
    """An image that only one user may read lies in a directory that only this user may enter."""
    store = user_store(tmp_path, os.geteuid(), StoreSettings())
    store.ensure(DIGEST, CONVERTER, build)
    assert store.root == tmp_path / ".local/share/hpcimg/store"
    assert store.root.stat().st_mode & 0o777 == 0o700


def move_behind_a_link(path):
    """Put a file or directory elsewhere, and a symbolic link to it in its place."""
    target = path.with_name(f"elsewhere-{path.name}")
    path.rename(target)
    path.symlink_to(target)


def replace_by_a_fifo(path):
    """Put a FIFO in a file's place: opening it to read would block."""
    path.unlink()
    os.mkfifo(path)


def change_record(entry, **fields):
    """Rewrite some fields of an entry's record."""
    record = entry.path / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **fields}))


DAMAGES = {
    "truncated": (lambda e: os.truncate(e.image, 4000), "its image has 4000 bytes"),
    "no SIF": (lambda e: e.image.write_bytes(b"\0" * e.record.size), "no whole SIF file"),
    "image a link": (lambda e: move_behind_a_link(e.image), '"image.sif" is a link'),
    "image a FIFO": (lambda e: replace_by_a_fifo(e.image), '"image.sif" is not a regular file'),
    "entry a link": (lambda e: move_behind_a_link(e.path), "is a link"),
    "entry writable": (lambda e: e.path.chmod(0o777), "may be written by others (mode 0777)"),
    "image writable": (lambda e: e.image.chmod(0o664), "may be written by others (mode 0664)"),
    "no record": (lambda e: (e.path / "record.json").unlink(), "it is not complete"),
    "no image": (lambda e: e.image.unlink(), "it is not complete"),
    "broken record": (lambda e: (e.path / "record.json").write_text("{"), "cannot be read"),
    "old record": (lambda e: change_record(e, version=0), "it has another version"),
    "other digest": (lambda e: change_record(e, digest="sha256:00"), "its record is of sha256:00"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_bad_entry_is_not_used_but_moved_aside_and_built_again(
    store, entry, damage, reason, caplog
):
    """Each kind of damage is seen before use, said, kept for the administrator, and repaired."""
    damage(entry)
    with caplog.at_level(logging.WARNING):
        assert store.lookup(DIGEST, CONVERTER) is None
    assert reason in caplog.text
    assert store.entries() == ()
    assert store.ensure(DIGEST, CONVERTER, build).image.read_bytes() == sif_bytes()
    aside = list((store.root / "quarantine").iterdir())
    assert [path.name.rpartition(".")[0] for path in aside] == [entry.path.name]


@pytest.mark.parametrize(
    ("version", "more"),
    [(1, {}), (9, {"said_of_it": {"later": [1]}})],
    ids=["older", "newer"],
)
def test_an_entry_of_another_release_is_used(store, entry, version, more):
    """While a site is upgraded nodes of both share the store, and none throws the other's away."""
    change_record(entry, version=version, **more)
    assert store.lookup(DIGEST, CONVERTER) == entry
    assert store.ensure(DIGEST, CONVERTER, pytest.fail) == entry
    assert list(store.root.glob("quarantine/*")) == []


@needs_root
@pytest.mark.parametrize("part", [".", "image.sif", "record.json"])
def test_an_entry_of_another_user_is_not_used(store, entry, part):
    """Neither the directory nor a file in it may belong to somebody else than the account."""
    os.chown(entry.path / part, 12345, -1)
    assert store.lookup(DIGEST, CONVERTER) is None


@needs_root
def test_what_root_owns_is_used(tmp_path):
    """An administrator may restore entries: root's files count in the account's store."""
    Store(tmp_path / "store", 0).ensure(DIGEST, CONVERTER, build)
    assert Store(tmp_path / "store", 12345).lookup(DIGEST, CONVERTER) is not None


@pytest.mark.parametrize("part", ["", "entries", "entries/sha256"])
def test_a_directory_that_others_may_write_spoils_the_store(store, entry, part):
    """Who may write a directory on the way could swap the entry, so it does not count."""
    (store.root / part).chmod(0o777)
    assert store.lookup(DIGEST, CONVERTER) is None


def test_a_store_that_others_may_write_is_not_built_in(store):
    """Nothing is built in an unsafe store, and the error says how to make it safe."""
    store.prepare()
    store.root.chmod(0o777)
    with pytest.raises(StoreError, match=r"is not safe: .*mode 0777") as caught:
        store.ensure(DIGEST, CONVERTER, build)
    assert "chmod" in caught.value.hint


def test_only_the_account_writes_its_store(tmp_path):
    """Another user, root included, gets one clear refusal and makes nothing."""
    store = Store(tmp_path / "store", os.geteuid() + 12345)
    with pytest.raises(StoreError, match="is written only by uid"):
        store.ensure(DIGEST, CONVERTER, build)
    assert not store.root.exists()


def test_an_account_that_does_not_exist_is_a_settings_error():
    """The settings name an account that this machine does not know."""
    with pytest.raises(SettingsError, match='account "no-such-account" does not exist'):
        site_store(StoreSettings(account="no-such-account"))


@pytest.mark.parametrize("words", [("sha256:../../etc", CONVERTER), (DIGEST, "../x"), (DIGEST, "")])
def test_words_that_would_leave_the_store_are_refused(store, words):
    """Digest and converter become a path, so they are checked first."""
    with pytest.raises(StoreError, match="is not"):
        store.lookup(*words)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(store, error):
    """Whatever a builder raises comes out unchanged, and its directory is gone."""

    def fail(workspace):
        deep = workspace.work / "root/etc"
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
        deep.chmod(0o500)
        raise error

    with pytest.raises(type(error)):
        store.ensure(DIGEST, CONVERTER, fail)
    assert leftovers(store) == []
    assert store.lookup(DIGEST, CONVERTER) is None
    assert store.ensure(DIGEST, CONVERTER, build)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "made no image"), (b"", "made no whole SIF"), (sif_bytes()[:-1], "made no whole SIF")],
    ids=["missing", "empty", "truncated"],
)
def test_a_builder_without_a_whole_image_fails(store, content, reason):
    """The store checks the file before the rename: a truncated one is never published."""

    def lazy(workspace):
        if content is not None:
            workspace.image.write_bytes(content)
        return BuiltImage((), (), ())

    with pytest.raises(StoreError, match=reason):
        store.ensure(DIGEST, CONVERTER, lazy)
    assert store.lookup(DIGEST, CONVERTER) is None
    assert leftovers(store) == []


def test_a_builder_reports_its_phases(store):
    """Whoever asks sees the builder's own reports, and then the publishing."""
    seen = []

    def reporting(workspace):
        workspace.report(Progress("convert", 1, 2))
        return build(workspace)

    store.ensure(DIGEST, CONVERTER, reporting, on_progress=seen.append)
    assert seen == [Progress("convert", 1, 2), Progress("publish")]


def test_only_what_surely_died_is_swept(store):
    """The sweep takes workspaces of ended processes of this node, and leaves all others."""
    here = current_owner()
    store.prepare()
    temporary = store.root / "tmp"
    keep = {
        "alive": here.token("aa"),
        "another node": here.token("bb").replace(here.host, "elsewhere", 1),
        "not ours": "README",
    }
    gone = here.token("cc").replace(here.boot_id, "0" * 8 + here.boot_id[8:], 1)
    for name in (*keep.values(), gone):
        (temporary / name).mkdir()
    store.ensure(DIGEST, CONVERTER, build)
    assert {path.name for path in leftovers(store)} == set(keep.values())


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400, 0o500])
def test_a_closed_directory_of_an_image_is_removed(tmp_path, mode):
    """Images hold directories that even their owner may not enter; nothing of one is left."""
    if os.geteuid() == 0:
        os.chown(tmp_path, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        is_left = True
        try:
            os.chdir(tmp_path)
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, NOBODY)
            closed = Path("left/rootfs/closed")
            (closed / "below").mkdir(parents=True)
            closed.chmod(mode)
            remove_tree(Path("left"))
            is_left = Path("left").exists()
        finally:
            os._exit(is_left)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 192 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k,mode=755", "tmpfs", str(place)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@needs_root
def test_a_full_disk_is_said_and_nothing_is_left(small_disk):
    """The error names the path and its free space; other entries stay usable."""
    store = Store(small_disk / "store", 0)
    store.ensure("sha256:" + "01" * 32, CONVERTER, build)

    def large(workspace):
        workspace.image.write_bytes(sif_bytes(b"x" * 300_000))
        return BuiltImage((), (), ())

    with pytest.raises(StoreError) as caught:
        store.ensure(DIGEST, CONVERTER, large)
    assert f'in "{store.root}": no space left; ' in caught.value.message
    assert " free" in caught.value.message
    assert leftovers(store) == []
    assert store.lookup("sha256:" + "01" * 32, CONVERTER) is not None


@needs_root
def test_a_read_only_store_serves_but_does_not_build(small_disk):
    """A file system that became read-only: what is there is found, a build fails and says why."""
    store = Store(small_disk / "store", 0)
    store.ensure("sha256:" + "01" * 32, CONVERTER, build)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert store.lookup("sha256:" + "01" * 32, CONVERTER) is not None
    with pytest.raises(StoreError, match=r"[Rr]ead-only file system"):
        store.ensure(DIGEST, CONVERTER, build)


def test_a_quota_is_said(store):
    """EDQUOT of any step is told as what it is."""

    def over(workspace):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with pytest.raises(StoreError, match=r"disk quota exceeded; .* free"):
        store.ensure(DIGEST, CONVERTER, over)


def test_a_store_without_entries_is_empty(tmp_path):
    """A store that nobody has used yet has no entries, which is no error."""
    store = Store(tmp_path / "never", os.geteuid())
    assert store.entries() == ()
    assert store.lookup(DIGEST, CONVERTER) is None


def test_a_strange_name_among_the_entries_is_passed_over(store, entry):
    """A file that is not an entry does not stop the list."""
    Path(entry.path.parent, "lost+found").mkdir()
    assert store.entries() == (entry,)
