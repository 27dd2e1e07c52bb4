"""What a site puts into all containers: how it is written, and what becomes of it for a job."""

from __future__ import annotations

import os
import pwd

import pytest

from hpcimg.bind import Bind
from hpcimg.errors import SettingsError
from hpcimg.settings import Settings, parse_settings
from hpcimg.workflow.site_mounts import site_mounts
from hpcimg.workflow.surroundings import NOTHING, Surroundings, join

ME = str(os.geteuid())
NAME = pwd.getpwuid(os.geteuid()).pw_name


def test_mounts_are_texts_or_mappings():
    """A mapping is for paths with a colon; both mean the same."""
    found = parse_settings(
        "mounts:\n- /data:/in:ro+nosuid\n- tmpfs:/x\n- /opt\n"
        "- {source: '/a:b', target: /c, flags: [ro], optional: true}\n- {source: /d}\n"
    )
    assert found.mounts == (
        Bind("/data", "/in", ("ro", "nosuid")),
        Bind("tmpfs", "/x"),
        Bind("/opt", "/opt"),
        Bind("/a:b", "/c", ("ro", "optional")),
        Bind("/d", "/d"),
    )


@pytest.mark.parametrize("text", ["mounts:", "mounts: []", "environment:", "environment: {}"])
def test_an_empty_list_is_none(text):
    """Nothing said is no mistake."""
    assert parse_settings(text) == Settings()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("mounts: /a:/b", 's.yaml:1: "mounts" must be a list', "correct"),
        ("mounts:\n- /a:/b\n- /c:d", "s.yaml:3: mount target 'd' is no path", "write SOURCE:"),
        ("mounts:\n- a:/b", "s.yaml:2: mount source 'a' is relative to no dir", "write a path"),
        ("mounts:\n- /a:/b:suid", "s.yaml:2: 'suid' is no flag of a mount", "with + between"),
        ("mounts:\n- /a:/b\n- /c:/b", "s.yaml:3: '/a' and '/c' are both mounted at '/b'", "leave"),
        ("mounts:\n- /s/$USER:/s", "s.yaml:2: '/s/$USER' holds a $, and no shell", "write %u for"),
        ("mounts:\n- /s/%x:/s", "s.yaml:2: '/s/%x' holds %x, which stands for nothing", "write %u"),
        ("mounts:\n- /s/%", "s.yaml:2: '/s/%' holds %, which stands for nothing", "write %u"),
        ("mounts:\n- {src: /a}", 's.yaml:2: "src" is no setting; did you mean source?', "correct"),
        ("mounts:\n- {target: /a}", "s.yaml:2: '' cannot be mounted: a path is not", "write SOU"),
        ("mounts:\n- 5", 's.yaml:2: "0" must be a mapping of keys to values', "correct"),
        ("environment: [a]", 's.yaml:1: "environment" must be a mapping', "correct"),
        ("environment:\n  A: x\n  B C: y", "s.yaml:3: 'B C' is no name of a variable", "correct"),
        ("environment: {A: true}", 's.yaml:1: "A" must be a text, not True', "put it into quotes"),
        ("environment: {A: [x]}", 's.yaml:1: "A" must be a text, not', "put it into quotes"),
        ("environment: {A: 50%}", "s.yaml:1: '50%' holds %, which stands for nothing", "write %u"),
        ('environment: {A: "x\\ny"}', 's.yaml:1: "A" holds a tab or a line\'s end', "correct"),
        ("environment: {SLURM_JOB_ID: 1}", '"SLURM_JOB_ID" is the job\'s own in ev', "leave it"),
        ("environment: {CUDA_VISIBLE_DEVICES: 0}", '"CUDA_VISIBLE_DEVICES" is the j', "leave it"),
        ("mount_home: 1", 's.yaml:1: "mount_home" must be true or false, not 1', "correct"),
        ("prolog: {prefetch: no}", "\"prefetch\" must be true or false, not 'no'", "correct"),
    ],
)
def test_a_mistake_in_them_is_named(text, message, hint):
    """With its line, as of all settings, and what to write."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, source="s.yaml")
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)


def test_a_number_is_taken_as_it_is_written():
    """YAML would make 8, 750 and 1.5 of these."""
    found = parse_settings("environment: {MASK: 010, AT: 12:30, V: 1.50, N: 4}").environment
    assert dict(found) == {"MASK": "010", "AT": "12:30", "V": "1.50", "N": "4"}


def test_the_words_of_a_job_are_filled_in():
    """User, uid and job are known on the node alone; a doubled percent sign is one."""
    settings = parse_settings(
        "mounts: ['/scratch/%u/%j:/scratch/%U:optional']\n"
        "environment: {WHERE: '/scratch/%u', HALF: 50%%, NUMBER: 5}\nmount_home: false"
    )
    assert site_mounts(settings, ME, "12") == Surroundings(
        binds=(Bind(f"/scratch/{NAME}/12", f"/scratch/{ME}", ("optional",)),),
        variables=(("WHERE", f"/scratch/{NAME}"), ("HALF", "50%"), ("NUMBER", "5")),
        home=False,
    )


def test_what_names_a_job_is_left_out_outside_of_one():
    """On a login node there is no job's directory; all else is there."""
    settings = parse_settings(
        "mounts: ['/j/%j:/j', /opt]\nenvironment: {JOB: 'x%j', USER_ID: '%U'}"
    )
    found = site_mounts(settings, ME, "")
    assert (found.binds, found.variables) == ((Bind("/opt", "/opt"),), (("USER_ID", ME),))


def test_a_user_without_a_name():
    """A name that the node does not know is no reason to mount another path."""
    settings = parse_settings("mounts: ['/s/%u:/s']")
    with pytest.raises(SettingsError, match='uid 3999999999 has no name on this node, and "mounts'):
        site_mounts(settings, "3999999999", "12")
    number = parse_settings("mounts: ['/s/%U:/s']")
    assert site_mounts(number, "3999999999", "1").binds == (Bind("/s/3999999999", "/s"),)


def test_what_get_prints_of_it():
    """A line each, in the form of which the plugin knows to carry it out."""
    settings = parse_settings(
        "mounts: [/a:/b:ro+noexec, tmpfs:/x]\nenvironment: {A: 'b c=d'}\nmount_home: false"
    )
    assert site_mounts(settings, ME, "1").lines() == (
        "bind=/a\t/b\tro,noexec\nbind=tmpfs\t/x\t\nsetenv=A=b c=d\nhome=no\n"
    )
    assert site_mounts(Settings(), ME, "1") == NOTHING
    assert NOTHING.lines() == ""


def test_one_part_without_a_home_is_enough():
    """What the site closes no other part opens."""
    assert not join([Surroundings(home=False), NOTHING]).home
    assert join([NOTHING, NOTHING]) == NOTHING
