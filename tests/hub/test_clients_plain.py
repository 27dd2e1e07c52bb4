"""Each real client against a plain registry: what it makes of an index without the hub."""

from __future__ import annotations

import pytest
from client import PullError
from upstream import ALICE, Upstream

pytestmark = pytest.mark.integration


def test_a_client_takes_the_first_image_of_an_index_and_runs_it(client, upstream):
    """Whatever the machine is, an unmodified client pulls the generic build."""
    name = f"{upstream.name}/qnib/bench"
    generic = upstream.builds[""]

    pulled = client.pull(f"{name}:latest")

    assert pulled.config == generic.config
    assert pulled.digest in {generic.digest, upstream.index}
    if client.can_run:
        assert client.run(f"{name}:latest") == generic.line


def test_a_client_pulls_a_build_by_its_digest(client, upstream):
    """A digest stands for itself, whatever the index says of its hardware."""
    build = upstream.builds["cpu:broadwell,nvcap:5.2"]
    name = f"{upstream.name}/qnib/bench@{build.digest}"

    pulled = client.pull(name)

    assert (pulled.digest, pulled.config) == (build.digest, build.config)
    if client.can_run:
        assert client.run(name) == build.line


def test_a_client_sees_that_a_tag_was_moved(client, upstream):
    """A second pull of the same tag brings the image that it stands for now."""
    name = f"{upstream.name}/qnib/moved:latest"
    seen = []

    for words in ("cpu:skylake", "cpu:broadwell"):
        build = upstream.builds[words]
        upstream.tag(build, "qnib/moved:latest")
        seen.append((client.pull(name).config, client.run(name) if client.can_run else build.line))

    expected = [upstream.builds[words] for words in ("cpu:skylake", "cpu:broadwell")]
    assert seen == [(build.config, build.line) for build in expected]


@pytest.fixture(scope="module")
def guarded(room, upstream):
    """Start a second registry over the same content that wants a login."""
    started = Upstream(room, 5001, login=ALICE).start()
    yield started
    started.stop()


def test_a_client_pulls_with_its_login_only(client, upstream, guarded):
    """Without a login the registry refuses, with one the image comes."""
    name = f"{guarded.name}/qnib/bench:latest"
    with pytest.raises(PullError, match=r"(?i)unauthorized|authentication required|no basic auth"):
        client.pull(name)

    client.login(guarded.name, "alice", "hush")

    assert client.pull(name).config == upstream.builds[""].config
