"""What a node asks of a hub's REST API, whatever the hub answers."""

from __future__ import annotations

import pytest
from hub_api import Hub

from hpcimg.errors import AuthenticationError, HpcimgError, RegistryError
from hpcimg.oci.hosts import NOTHING_AROUND
from hpcimg.oci.transport import ONE_TRY
from hpcimg.workflow.autologin import Proposal
from hpcimg.workflow.hub_client import HubClient

TYPES = [{"account": "qnib", "name": "type1", "features": ["cpu:broadwell"], "new": "key"}]
LOGINS = {"qnib": "s3cret"}


@pytest.fixture
def hub():
    """A hub with one type and one login."""
    with Hub(TYPES, LOGINS) as found:
        yield found


def client(hub, password="s3cret"):
    """A client that asks once."""
    return HubClient(hub.url, ("qnib", password), None, NOTHING_AROUND, ONE_TRY)


def test_types_are_listed(hub):
    """Keys that only a later hub has change nothing."""
    (one,) = client(hub).types()
    assert (one.full_name, one.words) == ("qnib/type1", ("cpu:broadwell",))


def test_a_type_is_proposed(hub):
    """As the API's page has it."""
    client(hub).propose(Proposal("qnib", "type2", ("cpu:skylake",), "n1"))
    words = ["cpu:skylake"]
    assert hub.proposals == [{"account": "qnib", "name": "type2", "features": words, "node": "n1"}]


def test_a_wrong_password(hub):
    """The hub's own words are passed on, and not the password."""
    with pytest.raises(AuthenticationError, match="the password is not right") as error:
        client(hub, "wr0ng").types()
    assert "wr0ng" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {}, b"<html>"), "does a hub with this API stand there?"),
        ((301, {}, b""), "does a hub with this API stand there?"),
        ((200, {}, b"<html>"), "something else than JSON"),
        ((200, {}, b"{}"), "has another form"),
        ((200, {}, b"[1]"), "has another form"),
        ((200, {}, b'[{"account": "a", "name": "b", "features": "abc"}]'), "has another form"),
        ((200, {}, b'[{"account": "a", "name": "b", "features": [1]}]'), "has another form"),
        ((200, {}, b'[{"account": "a", "name": "../b", "features": []}]'), "has another form"),
        ((200, {}, b"[" * 100_000), "something else than JSON"),
        ((200, {}, b" " * 5_000_000), "more than"),
        ((200, {"Content-Encoding": "gzip"}, b"[]"), "encoded content"),
    ],
)
def test_an_answer_that_is_not_understood(hub, answer, says):
    """It is an error of the hub, for good."""
    hub.answer = answer
    with pytest.raises(RegistryError) as error:
        client(hub).types()
    assert says in f"{error.value.message} {error.value.hint}"
    assert not error.value.temporary


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_fails_may_do_better_later(hub, status):
    """So a timer tries again."""
    hub.answer = (status, {}, b"")
    with pytest.raises(RegistryError, match=f"HTTP status {status}") as error:
        client(hub).types()
    assert error.value.temporary


def test_a_hub_that_is_down():
    """The hint is about hubs, not about registries in the settings."""
    with Hub(TYPES, LOGINS) as gone:
        pass
    with pytest.raises(RegistryError, match="could not reach") as error:
        client(gone).types()
    assert (error.value.temporary, "--ca" in error.value.hint) == (True, True)


@pytest.mark.parametrize("status", [302, 307])
def test_no_other_host_is_asked(hub, status):
    """Neither with the password nor without."""
    with Hub(TYPES, LOGINS) as other:
        hub.answer = (status, {"Location": f"{other.url}/api/v1/types"}, b"")
        with pytest.raises(HpcimgError, match="redirects there"):
            client(hub).types()
        assert other.asked == []
