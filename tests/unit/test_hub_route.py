"""Paths of the distribution specification, and what a repository is at its upstream."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.errors import UsageError
from hpcimg.hub.route import Route, parse_route, upstream_reference

DIGEST = f"sha256:{'a' * 64}"
UPSTREAMS = {"hub": "docker.io", "own": "registry.site:5000"}


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2", Route("ping")),
        ("/v2/", Route("ping")),
        ("/v2/_catalog", Route("catalog")),
        ("/v2/qnib/bench/manifests/latest", Route("manifest", "qnib/bench", "latest")),
        (f"/v2/a/b/c/manifests/{DIGEST}", Route("manifest", "a/b/c", DIGEST)),
        (f"/v2/a/blobs/{DIGEST}", Route("blob", "a", DIGEST)),
        ("/v2/manifests/manifests/blobs", Route("manifest", "manifests", "blobs")),
        ("/v2/a/manifests/manifests/x", Route("manifest", "a/manifests", "x")),
        ("/v2/a/b/tags/list", Route("tags", "a/b")),
        (f"/v2/a/referrers/{DIGEST}", Route("referrers", "a", DIGEST)),
        ("/v2/a/blobs/uploads/", Route("upload", "a")),
        ("/v2/a/blobs/uploads", Route("upload", "a")),
        ("/v2/a/blobs/uploads/0-1", Route("upload", "a")),
        ("/type/qnib/type1/v2/", Route("ping", machine_type="qnib/type1")),
        ("/type/qnib/t/v2/a/manifests/x", Route("manifest", "a", "x", "qnib/t")),
        ("/", None),
        ("/v2/a", None),
        ("/v2/a/manifests/", None),
        ("/v2//manifests/x", None),
        ("/v2/a/blobs/sha256:../../x", None),
        ("/type/qnib/v2/a/manifests/x", None),
    ],
)
def test_paths(path, route):
    """Each path is one question, whatever the parts of a repository are called."""
    assert parse_route(path) == route


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../x/manifests/latest",
        "/v2/A/manifests/latest",
        "/v2/a/manifests/.x",
        "/v2/a/manifests/sha256:abc",
        "/v2/a/blobs/latest",
        "/v2/a/blobs/sha256:..",
        "/v2/a\n/manifests/latest",
        f"/v2/{'a/' * 200}b/manifests/latest",
    ],
)
def test_what_is_no_name_is_refused(path):
    """No path of a file or of another API is ever made of it."""
    with pytest.raises(UsageError):
        parse_route(path)


@given(st.text(max_size=80))
def test_any_path_is_parsed_or_refused(rest):
    """No other error, whatever comes."""
    for path in (f"/v2/{rest}", f"/v2/{rest}/manifests/{rest}", f"/type/{rest}"):
        with suppress(UsageError):
            parse_route(path)


@pytest.mark.parametrize(
    ("repository", "namespace", "name"),
    [
        ("qnib/bench", "", "docker.io/qnib/bench:x"),
        ("debian", "", "docker.io/library/debian:x"),
        ("own/qnib/bench", "", "registry.site:5000/qnib/bench:x"),
        ("own", "", "docker.io/library/own:x"),
        ("docker.io/qnib/bench", "", "docker.io/qnib/bench:x"),
        ("qnib/bench", "registry.site:5000", "registry.site:5000/qnib/bench:x"),
        ("own/bench", "docker.io", "docker.io/own/bench:x"),
    ],
)
def test_repositories_of_upstreams(repository, namespace, name):
    """By the upstream's name or host, else the default one; a mirror's namespace says it all."""
    found = upstream_reference(repository, "x", UPSTREAMS, "hub", namespace)
    assert str(found) == name


@pytest.mark.parametrize(
    "namespace", ["evil.example.org", "docker.io.", "docker.io:80", "hub", "x"]
)
def test_a_namespace_is_the_clients_word(namespace):
    """Only a host that is an upstream is asked."""
    with pytest.raises(UsageError, match="is no upstream of this hub"):
        upstream_reference("qnib/bench", "x", UPSTREAMS, "hub", namespace)


def test_a_digest_stays_a_digest():
    """What is asked for by digest is named by it."""
    assert upstream_reference("a/b", DIGEST, UPSTREAMS, "hub").digest == DIGEST
