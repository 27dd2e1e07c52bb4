"""What `get` tells the store of its requests: found, built, waited for, failed."""

from __future__ import annotations

import os

import pytest
from test_cli import call, site  # noqa: F401 - a fixture
from test_cli_get import job_site  # noqa: F401 - a fixture

from hpcimg.progress import Progress, silent
from hpcimg.settings import read_settings
from hpcimg.store.entry import Entry, Layer, Record
from hpcimg.store.events import read_events
from hpcimg.store.store import site_store
from hpcimg.workflow.counted import Heard

ENTRY = Entry(
    None,  # type: ignore[arg-type]
    Record("sha256:x", "c", (), (), 9, "", "", "", (Layer("a", 5), Layer("b", 6), Layer("a", 5))),
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ((), ("hit", 0, 0.0, 0.0)),
        (("fetch", "convert", "publish"), ("built", 11, 3.0, 0.0)),
        (("wait", "wait"), ("waited", 0, 0.0, 2.0)),
        (("wait", "fetch", "convert"), ("built", 11, 2.0, 1.0)),
    ],
    ids=["found", "built", "waited", "taken over"],
)
def test_reports_tell_how_an_image_was_had(phases, told):
    """A second goes by with each report; a layer that stands twice is fetched once."""
    clock = iter(range(100))
    now = [0.0]
    heard = Heard(lambda _: now.__setitem__(0, float(next(clock) + 1)), lambda: now[0])
    for phase in phases:
        heard(Progress(phase))
    event = heard.event(ENTRY, "r/a:1", "7")
    assert (event.what, event.bytes, event.build_seconds, event.wait_seconds) == told
    assert (event.reference, event.digest, event.job) == ("r/a:1", "sha256:x", "7")


def test_reports_are_passed_on():
    """Whoever shows progress sees all of it."""
    seen = []
    heard = Heard(seen.append)
    heard(Progress("wait"))
    heard(Progress("fetch", 1, 2))
    assert seen == [Progress("wait"), Progress("fetch", 1, 2)]
    Heard(silent).close()


@root_only
def test_a_job_s_requests_are_counted(job_site, capsys):  # noqa: F811
    """One built the image, two found it, one failed; each with its image."""
    for name in (job_site.generic, f"tool:latest@{job_site.digests[0]}", "tool:none"):
        call(capsys, "get", "--job", "12", name)
    counts = read_events(site_store(read_settings({}).store)).by_name()
    name = f"{job_site.registry.name}/tool"
    assert {key: (one.hit, one.built, one.failed) for key, one in counts.items()} == {
        name: (1, 1, 0),
        f"{name}:latest": (1, 0, 0),
        f"{name}:none": (0, 0, 1),
    }
    assert counts[name].bytes == len(b"layer 0")


@root_only
def test_what_the_user_will_fetch_has_not_failed(job_site, capsys):  # noqa: F811
    """A private image is handed on; a host that is not listed is a failure."""
    store = site_store(read_settings({}).store)
    before = read_events(store).by_name()
    job_site.registry.fail("/v2/", status=403, times=9)
    assert call(capsys, "get", "private:1")[0] == 80
    assert read_events(store).by_name() == before
    assert call(capsys, "get", "elsewhere.example.org/a:1")[0] == 77
    assert read_events(store).by_name()["elsewhere.example.org/a:1"].failed == 1
