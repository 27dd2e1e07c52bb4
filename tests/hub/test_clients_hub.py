"""Each real client through the hub: the image of its machine type, and the digest promised."""

from __future__ import annotations

import pytest
from client import PullError
from docker_client import Docker
from hub import Hub

pytestmark = pytest.mark.integration

TYPES = {
    "qnib-type1": "cpu:broadwell",
    "qnib-type2": "cpu:skylake",
    "qnib-type3": "cpu:skylake",  # a Coffee Lake has the same core
    "qnib-type4": "cpu:broadwell,nvcap:5.2",
    "qnib-zen": "",  # no build is for it
}
"""The announcement's machine types and one more, and what the image of each was made for."""
REFUSED = r"(?i)unauthorized|authentication required|invalid username/password|no basic auth"


@pytest.fixture(scope="module")
def hub(room, upstream):
    """Start a hub before the registry."""
    with Hub(room, upstream, 5080) as started:
        started.add_type("qnib/zen", "cpu:zen3")
        started.add_type("qnib/whole", "cpu:skylake", "--answer=index")
        yield started


def test_each_machine_type_gets_its_image(client, hub, upstream):
    """One name is another image for each login, with the digest that the index promises."""
    name = f"{hub.name}/qnib/bench:latest"
    seen = {}

    for login in TYPES:
        client.login(hub.name, login, login)
        pulled = client.pull(name)
        line = client.run(name) if client.can_run else None
        seen[login] = (pulled.digest, pulled.config, line)

    builds = {login: upstream.builds[words] for login, words in TYPES.items()}
    assert seen == {
        login: (build.digest, build.config, build.line if client.can_run else None)
        for login, build in builds.items()
    }


def test_a_login_is_also_written_as_a_kind_and_its_name(client, hub, upstream):
    """`qnib/type#type2` is the login `qnib-type2`, by the same password."""
    client.login(hub.name, "qnib/type#type2", "qnib-type2")

    assert (
        client.pull(f"{hub.name}/qnib/bench:latest").digest == upstream.builds["cpu:skylake"].digest
    )


def test_a_digest_stands_for_itself_whatever_the_type(client, hub, upstream):
    """Who pulls by digest gets that image, also one that is for other machines."""
    build = upstream.builds[TYPES["qnib-type4"]]
    name = f"{hub.name}/qnib/bench@{build.digest}"
    client.login(hub.name, "qnib-type2", "qnib-type2")

    pulled = client.pull(name)

    assert (pulled.digest, pulled.config) == (build.digest, build.config)
    if client.can_run:
        assert client.run(name) == build.line


def login_and_pull(client, name, login, password):
    """Do both: some clients ask the registry at the login, others at the pull."""
    client.login(name.partition("/")[0], login, password)
    client.pull(name)


def test_a_wrong_password_is_refused(client, hub):
    """Nothing comes for a login that is wrong, and nothing without one."""
    name = f"{hub.name}/qnib/bench:latest"
    with pytest.raises(PullError, match=REFUSED):
        client.pull(name)

    with pytest.raises(AssertionError, match=REFUSED):
        login_and_pull(client, name, "qnib-type1", "qnib-type2")


def test_an_index_of_one_image_is_found_by_its_digest_after_a_restart(client, hub, upstream):
    """A type that is answered with an index gets its image; a new hub still knows that index."""
    name = f"{hub.name}/qnib/bench:latest"
    build = upstream.builds["cpu:skylake"]
    client.login(hub.name, "qnib-whole", "qnib-whole")

    pulled = client.pull(name)
    assert pulled.config == build.config

    hub.restart()
    again = client.pull(f"{hub.name}/qnib/bench@{pulled.digest}")
    assert (again.digest, again.config) == (pulled.digest, build.config)


def test_docker_says_that_another_type_has_a_newer_image(room, hub, upstream):
    """As announced: the second login's image is downloaded as a newer one, and is run."""
    name = f"{hub.name}/qnib/bench"
    first, second = (upstream.builds[TYPES[login]] for login in ("qnib-type1", "qnib-type2"))

    with Docker(room, room.folder / "announced") as docker:
        docker.login(hub.name, "qnib-type1", "qnib-type1")
        docker.pull(name)
        assert docker.run(name) == first.line
        assert "Image is up to date" in docker.pull(name).said

        docker.login(hub.name, "qnib-type2", "qnib-type2")
        assert docker.run(name) == first.line
        assert "Downloaded newer image" in docker.pull(name).said
        assert docker.run(name) == second.line
