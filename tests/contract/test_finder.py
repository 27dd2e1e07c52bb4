"""The finder and what named containers leave: whose directories are used, and which names."""

from __future__ import annotations

import os
import subprocess

import pytest
from programs import build, has_compiler

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not has_compiler(), reason="root makes the users' directories"
)

USER = 12345
NOTHING = 3
"""How the finder ends where there is nothing to be found."""


@pytest.fixture(scope="module")
def finder(tmp_path_factory):
    """The program with sanitizers, in a folder that users may enter."""
    folder = tmp_path_factory.mktemp("programs")
    return build(folder, sanitized=True) / "finder"


@pytest.fixture
def kept(tmp_path):
    """Root's directory with one of the user's in it, and a container that was kept."""
    own = tmp_path / "kept" / str(USER)
    layer = own / "always" / "one"
    (layer / "upper").mkdir(parents=True)
    (layer / "about").write_text("image=qnib/bench\nreference=\nstamp=\n")
    closed = layer / "upper" / "closed"
    (closed / "inner").mkdir(parents=True)
    for path in [own, *own.rglob("*")]:
        os.chown(path, USER, USER)
    closed.chmod(0)
    own.chmod(0o700)
    return tmp_path / "kept"


def run(finder, action, kept, folder, *more):
    """Start it as the plugin does."""
    words = [finder, action, "--uid", str(USER), "--gid", str(USER), "--path", kept]
    return subprocess.run(
        [*words, "--folder", folder, *more], capture_output=True, text=True, check=False
    )


def test_it_prints_what_is_kept(finder, kept):
    """What the layer lies on; nothing for a name that there is not."""
    done = run(finder, "look", kept, "always/one")
    assert (done.returncode, done.stdout) == (0, "image=qnib/bench\nreference=\nstamp=\n")
    assert run(finder, "look", kept, "always/two").returncode == NOTHING
    assert run(finder, "look", kept / "no", "always/one").returncode == NOTHING


def test_it_removes_what_its_owner_may_not_enter(finder, kept):
    """An overlay leaves directories of mode 0."""
    done = run(finder, "remove", kept, "always/one")
    assert (done.returncode, done.stderr) == (0, "")
    assert list((kept / str(USER)).rglob("*")) == [kept / str(USER) / "always"]


def test_it_follows_no_link_out(finder, kept, tmp_path):
    """To remove a layer leaves alone what the user's links point at."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("root's")
    (kept / str(USER) / "always/one/upper/link").symlink_to(precious)
    assert run(finder, "remove", kept, "always/one").returncode == 0
    assert (precious / "file").read_text() == "root's"


@pytest.mark.parametrize(
    "folder",
    [
        "always/../../x",
        "always/.one",
        "always/a/b",
        "jobs/1x",
        "jobs/1/../2",
        "jobs//x",
        "/etc",
        "",
    ],
)
def test_only_its_own_words_lead_somewhere(finder, kept, folder):
    """Root starts it: a folder is fixed words, numbers and a container's name."""
    done = run(finder, "look", kept, folder)
    assert (done.returncode, done.stderr) == (125, "hpcimg: finder: wrong arguments\n")


def test_a_directory_that_others_may_write(finder, kept):
    """Neither the site's nor the user's is used when it is not its owner's alone."""
    (kept / str(USER)).chmod(0o770)
    assert "Operation not permitted" in run(finder, "look", kept, "always/one").stderr
    (kept / str(USER)).chmod(0o700)
    kept.chmod(0o777)
    assert "Operation not permitted" in run(finder, "look", kept, "always/one").stderr


def test_a_directory_of_another_user(finder, kept):
    """Or a link to one in its place."""
    own, other = kept / str(USER), kept / "other"
    own.rename(other)
    own.symlink_to("other")
    done = run(finder, "look", kept, "always/one")
    assert (done.returncode, done.stdout) == (125, "")
    own.unlink()
    other.rename(own)
    os.chown(own, USER + 1, USER + 1)
    assert run(finder, "look", kept, "always/one").returncode == 125
