"""A registry that fails: asked again where that helps, resumed by range, else one clear error."""

from __future__ import annotations

import json

import mishaps
import pytest
from faulty import REGISTRY, running_front
from shared_store import IMAGE, SharedStore
from test_failure import refused

pytestmark = pytest.mark.integration

NODE = "skx1"
NAME = f"{REGISTRY}/{IMAGE}"
PLACE = "/srv/hpcimg/test-registry"
ROOT = f"{PLACE}/store"
BLOB = "/blobs/"
CUT = 500_000
DENIED = json.dumps({"errors": [{"code": "DENIED", "message": "not on a Tuesday"}]})
BUSY = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "come back later"}]})
BROKEN = json.dumps({"errors": [{"code": "UNKNOWN", "message": "the disk fell off"}]})
GONE = json.dumps({"errors": [{"code": "BLOB_UNKNOWN", "message": "it was here"}]})


@pytest.fixture(scope="module")
def front(cluster):
    """Run the front; the site's store is one of these tests' own, so that every launch is cold."""
    with running_front(cluster, store={"path": ROOT}) as front:
        yield front


@pytest.fixture
def shared(cluster):
    """Give an empty store, which is the site's while these tests run."""
    shared = SharedStore(cluster, ROOT)
    mishaps.do(cluster, f"rm -rf {PLACE}; install -d -o hpcimg {PLACE}")
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def layer(cluster):
    """Name the image's large layer."""
    done = cluster.shell(
        f"skopeo inspect --raw --tls-verify=false docker://registry:5000/{IMAGE}", user="root"
    )
    layers = json.loads(done.stdout)["layers"]
    return max(layers, key=lambda one: one["size"])


# What happens to the large layer, and how often it is asked for until it is whole.
PASSING = {
    "500 twice": ({"times": 2, "status": 500, "body": BROKEN}, 3),
    "503 with Retry-After": ({"times": 1, "status": 503, "headers": {"Retry-After": "1"}}, 2),
    "reset before the answer": ({"times": 1, "then": "reset"}, 2),
    "time-out": ({"times": 1, "delay": 2.0}, 2),
}


@pytest.mark.parametrize("case", PASSING)
def test_a_failure_that_passes_is_asked_again(shared, front, layer, case):
    """The image is had, with as many requests as there were failures, and one."""
    rule, requests = PASSING[case]
    front.obey({"path": layer["digest"], **rule})
    shared.ask(NODE, NAME, read=0.5).image()
    assert front.counts()[layer["digest"]] == requests
    assert shared.check() == 1


@pytest.mark.parametrize("what", ["manifests/generic", BLOB])
def test_too_many_requests_is_obeyed(shared, front, what):
    """After 429 nothing is asked before the time that Retry-After says."""
    limit = {"status": 429, "headers": {"Retry-After": "1"}, "body": BUSY}
    front.obey({"path": what, "times": 1, **limit})
    shared.ask(NODE, NAME).image()
    refused_one = next(at for at, one in enumerate(front.requests()) if one["rule"])
    first, second = (one["time"] for one in front.requests()[refused_one : refused_one + 2])
    assert second - first >= 1.0
    assert shared.check() == 1


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_a_broken_transfer_is_resumed(shared, front, layer, how):
    """The second request asks for the rest only, and the result is whole."""
    front.obey({"path": layer["digest"], "times": 1, "after": CUT, "then": how})
    shared.ask(NODE, NAME).image()
    first, second = (one["range"] for one in front.requests(layer["digest"]))
    assert first == ""
    # A reset may throw away what was under way.
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= CUT if how == "reset" else start == CUT
    assert shared.check() == 1


def test_a_slow_drip_is_resumed(shared, front, layer):
    """A body that comes by ten bytes is given up after the window, and asked for from there."""
    front.obey({"path": layer["digest"], "times": 1, "then": "drip"})
    shared.ask(NODE, NAME, window=0.5).image()
    first, second = (one["range"] for one in front.requests(layer["digest"]))
    assert first == ""
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 0
    assert shared.check() == 1


def test_a_registry_without_ranges_is_read_from_the_start(shared, front, layer):
    """What came before is passed over, byte by byte, and the result is whole."""
    front.obey(
        {"path": layer["digest"], "times": 1, "after": CUT, "then": "cut"},
        {"path": layer["digest"], "no_range": True},
    )
    shared.ask(NODE, NAME).image()
    assert front.counts()[layer["digest"]] == 2
    assert shared.check() == 1


def test_a_redirect_is_followed(shared, front, layer):
    """A blob may lie on another host that the settings list."""
    path = f"/v2/{IMAGE.partition(':')[0]}/blobs/{layer['digest']}"
    there = {"Location": f"http://registry:5000{path}"}
    front.obey({"path": layer["digest"], "status": 307, "headers": there})
    shared.ask(NODE, NAME).image()
    assert front.counts()[layer["digest"]] == 1
    assert shared.check() == 1


def test_a_tag_that_moves_meanwhile_splits_nothing(shared, front):
    """The image is that of the digest which the tag named at first, whatever it names later."""
    moved = {"to": "/v2/qnib/plain-featuretest/manifests/cpu-broadwell"}
    front.obey({"path": BLOB, "after": CUT, "then": "hold"})
    asking = shared.ask(NODE, NAME)
    front.wait_until_held()
    front.obey({"path": "manifests/generic", **moved})
    front.release()
    said = shared.run(f"apptainer --quiet exec --userns {asking.image()} bench", NODE).stdout
    assert "not optimized for a specific" in said
    later = shared.ask(NODE, NAME).image()
    said = shared.run(f"apptainer --quiet exec --userns {later} bench", NODE).stdout
    assert "cpu:broadwell" in said
    assert shared.check() == 2


# What the front does, and what the launch's first line says of it.
FINAL = {
    "401": (
        {
            "path": "/manifests/",
            "status": 401,
            "body": DENIED,
            "headers": {"WWW-Authenticate": 'Basic realm="site"'},
        },
        'registry "registry:5002" wants a login for',
    ),
    "403": ({"path": "/manifests/", "status": 403, "body": DENIED}, "DENIED: not on a Tuesday"),
    "404": ({"path": BLOB, "status": 404, "body": GONE}, "BLOB_UNKNOWN: it was here"),
    "429 for an hour": (
        {"path": BLOB, "status": 429, "body": BUSY, "headers": {"Retry-After": "3600"}},
        "TOOMANYREQUESTS: come back later",
    ),
    "500 for good": ({"path": BLOB, "status": 500, "body": BROKEN}, "UNKNOWN: the disk fell off"),
    "reset for good": ({"path": BLOB, "then": "reset"}, "connection reset by peer"),
    "wrong bytes": ({"path": BLOB, "flip": 400}, "has the digest sha256:"),
    "another length": (
        {"path": BLOB, "headers": {"Content-Length": "100"}},
        "has 100 bytes, its descriptor says",
    ),
}


@pytest.mark.parametrize("case", FINAL)
def test_a_failure_that_stays_is_one_clear_error(cluster, shared, front, case):
    """The launch ends with two lines that have the registry's own words; nothing is left."""
    rule, words = FINAL[case]
    front.obey(rule)
    ((what, hint),) = refused(cluster, NAME, "-n2", nodes=(NODE,))
    assert words in what, what
    assert "plain-featuretest" in what, what
    assert hint
    assert shared.temporaries() == []
    assert shared.check() == 0


def test_a_failure_that_stays_is_asked_four_times(shared, front):
    """There is one limit for a request, not a limit of limits."""
    front.obey(FINAL["500 for good"][0])
    shared.ask(NODE, NAME).error()
    assert list(front.counts().values()) == [4]


def test_an_hour_is_not_asked_away(shared, front):
    """A registry that wants an hour's peace is not asked a second time."""
    front.obey(FINAL["429 for an hour"][0])
    shared.ask(NODE, NAME).error()
    assert list(front.counts().values()) == [1]


def test_a_401_without_a_challenge_has_the_registrys_words(cluster, shared, front):
    """Nobody can log in there, so its words are all that there is to know."""
    front.obey({"path": "/manifests/", "status": 401, "body": DENIED})
    ((what, _),) = refused(cluster, NAME, nodes=(NODE,))
    assert "DENIED: not on a Tuesday" in what


def test_a_range_that_lies_is_refused(shared, front, layer):
    """The rest of a blob from another place than asked for is never taken for the rest."""
    front.obey(
        {"path": layer["digest"], "times": 1, "after": CUT, "then": "cut"},
        {"path": layer["digest"], "headers": {"Content-Range": f"bytes 0-9/{layer['size']}"}},
    )
    assert "another range" in shared.ask(NODE, NAME).error()
    assert shared.temporaries() == []
    assert shared.check() == 0
