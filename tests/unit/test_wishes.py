"""What a user asks of a container: options, the environment's twins, and contradictions."""

from __future__ import annotations

import os
import pwd

import pytest

from hpcimg.bind import Bind
from hpcimg.errors import UsageError
from hpcimg.workflow.wishes import Wishes, read_wishes


def test_nothing_said_is_nothing_wished():
    """Site and image decide."""
    assert read_wishes({}, {"HPCIMG_CONTAINER_MOUNTS": ""}) == Wishes()


def test_every_word_is_read():
    """With the plugin's words and meanings."""
    words = {"mounts": "/a:/b:ro,tmpfs:/c", "workdir": "/b", "env": "A,B,A", "mount-home": "yes"}
    more = {"writable": "yes", "entrypoint": "yes", "platform": "linux/amd64", "match": "uniform"}
    assert read_wishes({**words, **more, "pull": "always"}, {}) == Wishes(
        mounts=(Bind("/a", "/b", ("ro",)), Bind("tmpfs", "/c")),
        workdir="/b",
        home=True,
        env=("A", "B"),
        writable=True,
        entrypoint=True,
        platform="linux/amd64",
        match="uniform",
        pull="always",
    )


def test_where_a_path_counts_from(tmp_path, monkeypatch):
    """From where the user stands, or from their home; words that are no path stay."""
    monkeypatch.chdir(tmp_path)
    home = pwd.getpwuid(os.geteuid()).pw_dir
    here = str(tmp_path)
    text = "data,~/in,tmpfs,~/a:/x:ro,./b:/y,tmpfs:/z,umount:/u"
    assert read_wishes({"mounts": text}, {}).mounts == (
        Bind(f"{here}/data", f"{here}/data"),
        Bind(f"{home}/in", f"{home}/in"),
        Bind(f"{here}/tmpfs", f"{here}/tmpfs"),
        Bind(f"{home}/a", "/x", ("ro",)),
        Bind(f"{here}/b", "/y"),
        Bind("tmpfs", "/z"),
        Bind("umount", "/u"),
    )


@pytest.mark.parametrize(
    ("environment", "workdir"),
    [
        ({"HPCIMG_CONTAINER_WORKDIR": "/h", "PYXIS_CONTAINER_WORKDIR": "/p"}, "/h"),
        ({"PYXIS_CONTAINER_WORKDIR": "/p"}, "/p"),
        ({"CONTAINER_WORKDIR": "/x"}, ""),
    ],
)
def test_each_option_has_its_twins(environment, workdir):
    """Ours comes before Pyxis's, which people have in their scripts."""
    assert read_wishes({}, environment).workdir == workdir


def test_the_command_line_wins():
    """Over the twin of the same word, and over that of its opposite."""
    environment = {"HPCIMG_CONTAINER_WORKDIR": "/h", "HPCIMG_CONTAINER_NO_MOUNT_HOME": "1"}
    words = {"workdir": "/w", "mount-home": "yes", "no-mount-home": "no"}
    found = read_wishes(words, environment)
    assert (found.workdir, found.home) == ("/w", True)


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({"PYXIS_CONTAINER_MOUNT_HOME": "1"}, True),
        ({"PYXIS_CONTAINER_MOUNT_HOME": "no"}, False),
        ({"PYXIS_CONTAINER_MOUNT_HOME": "on"}, True),
        ({"PYXIS_CONTAINER_MOUNT_HOME": "off"}, False),
        ({"HPCIMG_CONTAINER_NO_MOUNT_HOME": "True"}, False),
        ({"HPCIMG_CONTAINER_NO_MOUNT_HOME": "0"}, True),
        ({}, None),
    ],
)
def test_a_switch_is_on_or_off(environment, home):
    """Said by either of its words."""
    assert read_wishes({}, environment).home is home


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"workdir": "work"}, "the working directory 'work' is not absolute"),
        ({"env": "A,B=c"}, "'B=c' is no name of a variable"),
        ({"env": "A,"}, "'' is no name of a variable"),
        ({"mounts": "/a:b"}, "mount target 'b' is no path below / in the container"),
        ({"writable": "maybe"}, "'maybe' is neither yes nor no, for writable"),
        ({"writable": "yes", "readonly": "yes"}, "writable and readonly contradict each other"),
        ({"mount-home": "1", "no-mount-home": "1"}, "mount-home and no-mount-home contradict"),
    ],
)
def test_what_cannot_be_is_refused(words, message):
    """Before anything is fetched."""
    with pytest.raises(UsageError, match=message):
        read_wishes(words, {})
