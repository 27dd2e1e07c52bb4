"""The client and logins, on real sockets: challenges answered, refused, renewed, kept secret."""

from __future__ import annotations

import io

import pytest
from clients import client_for, login, reference_to
from registry import Registry, digest_of

from hpcimg.errors import AuthenticationError, RegistryError
from hpcimg.oci.credentials import IDENTITY_TOKEN_USER
from hpcimg.oci.model import Descriptor

USERS = {"alice": "hush"}


def image(registry: Registry) -> None:
    """Store the one image of these tests."""
    registry.put_image("qnib/bench", "latest", [b"layer"])


def test_anonymous_token():
    """Without a login a token is asked for anonymously, with service and scope."""
    with Registry(auth="token") as registry:
        image(registry)
        client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
        token = registry.seen[1]
        assert token.query["scope"] == ["repository:qnib/bench:pull"]
        assert token.query["service"] == ["tests"]
        assert "Authorization" not in token.headers


def test_token_with_a_login():
    """With a login the token is asked for with Basic, and the registry sees the token only."""
    with Registry(auth="token", users=USERS) as registry:
        image(registry)
        client = client_for(registry, find=login("alice", "hush"))
        client.fetch_document(reference_to(registry, "qnib/bench"))
        assert registry.seen[1].headers["Authorization"].startswith("Basic ")
        assert registry.seen[1].query["account"] == ["alice"]
        assert registry.seen[2].headers["Authorization"].startswith("Bearer ")


def test_token_is_used_again():
    """A second request of the same repository needs no second token."""
    with Registry(auth="token") as registry:
        image(registry)
        client = client_for(registry)
        for _ in range(2):
            client.fetch_document(reference_to(registry, "qnib/bench"))
        assert [seen.status for seen in registry.seen] == [401, 200, 200, 200]


def test_identity_token():
    """An identity token is exchanged by POST, and never goes into a URL."""
    with Registry(auth="token", users=USERS) as registry:
        image(registry)
        registry.identity_tokens.add("long-lived")
        client = client_for(registry, find=login(IDENTITY_TOKEN_USER, "long-lived"))
        assert client.fetch_document(reference_to(registry, "qnib/bench"))
        assert registry.seen[1].method == "POST"
        assert b"grant_type=refresh_token" in registry.seen[1].body
        assert registry.seen[1].query == {}


def test_revoked_token_is_renewed_once():
    """A token that the registry no longer takes is replaced, once for a request."""
    with Registry(auth="token") as registry:
        image(registry)
        client = client_for(registry)
        client.fetch_document(reference_to(registry, "qnib/bench"))
        registry.tokens.clear()
        client.fetch_document(reference_to(registry, "qnib/bench"))
        assert [seen.status for seen in registry.seen[3:]] == [401, 200, 200]


def test_token_that_is_never_enough():
    """When a fresh token gets 401 again, the error is AuthenticationError, not a loop."""
    with Registry(auth="token") as registry:
        image(registry)
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{registry.name}/token"'}
        registry.fail("/v2/", status=401, headers=challenge, times=99)
        with pytest.raises(AuthenticationError, match=r'refuses access to ".*/qnib/bench:latest"'):
            client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
        assert len(registry.seen) == 3


def test_basic():
    """A registry that speaks Basic only gets the login, after its challenge."""
    with Registry(auth="basic", users=USERS) as registry:
        image(registry)
        client = client_for(registry, find=login("alice", "hush"))
        client.fetch_document(reference_to(registry, "qnib/bench"))
        assert "Authorization" not in registry.seen[0].headers
        assert registry.seen[1].status == 200


def test_basic_without_a_login():
    """Without a login the error names registry and repository, and the command to log in."""
    with Registry(auth="basic", users=USERS) as registry:
        with pytest.raises(AuthenticationError) as caught:
            client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
        assert caught.value.message == f'registry "{registry.name}" wants a login for "qnib/bench"'
        assert f"podman login {registry.name}" in caught.value.hint


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_wrong_password_stays_secret(auth, caplog):
    """A refused login is AuthenticationError; the password is in no message and no log."""
    with Registry(auth=auth, users=USERS) as registry, caplog.at_level("DEBUG"):
        client = client_for(registry, find=login("alice", "wrong-secret"))
        with pytest.raises(AuthenticationError, match=r"refuses (access|the login)") as caught:
            client.fetch_document(reference_to(registry, "qnib/bench"))
        shown = caplog.text + caught.value.message + caught.value.hint + repr(client)
        assert "wrong-secret" not in shown
        assert "Basic " not in shown


def test_forbidden():
    """A 403 is AuthenticationError with the registry's words."""
    with Registry() as registry:
        body = b'{"errors":[{"code":"DENIED","message":"not yours"}]}'
        registry.fail("GET", status=403, body=body)
        with pytest.raises(AuthenticationError, match=r"DENIED: not yours"):
            client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))


def test_unauthorized_without_a_challenge():
    """Nobody can log in there: the registry's words are all that there is to know."""
    with Registry() as registry:
        body = b'{"errors":[{"code":"DENIED","message":"not on a Tuesday"}]}'
        registry.fail("GET", status=401, body=body)
        with pytest.raises(AuthenticationError) as caught:
            client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
        assert caught.value.message == (
            f'registry "{registry.name}" refuses "qnib/bench" and offers no way to log in: '
            "DENIED: not on a Tuesday"
        )


def test_unlisted_token_service():
    """The store's account asks no token service at a host that the settings do not list."""
    with Registry(auth="token") as registry, Registry() as elsewhere:
        registry.realm = f"http://{elsewhere.name}/token"
        client = client_for(registry, find=login("alice", "hush"))
        with pytest.raises(AuthenticationError, match=rf'"{elsewhere.name}" is not listed'):
            client.fetch_document(reference_to(registry, "qnib/bench"))
        assert elsewhere.seen == []


def test_plain_http_token_service():
    """A login goes to no token service by plain http that the settings do not allow."""
    with Registry(auth="token") as registry, Registry() as elsewhere:
        registry.realm = f"http://{elsewhere.name}/token"
        client = client_for(registry, find=login("alice", "hush"), listed_only=False)
        with pytest.raises(RegistryError, match=r"uses plain http"):
            client.fetch_document(reference_to(registry, "qnib/bench"))
        assert elsewhere.seen == []


def test_token_service_failure():
    """A token service that is broken is a temporary failure after the usual tries."""
    with Registry(auth="token") as registry:
        registry.fail("/token", status=500, times=99)
        with pytest.raises(RegistryError, match=r'token service "127.0.0.1" failed') as caught:
            client_for(registry).fetch_document(reference_to(registry, "qnib/bench"))
        assert caught.value.temporary


def test_upload_with_tokens():
    """An upload asks for push, and the body is sent whole after a token was missing."""
    with Registry(auth="token") as registry:
        client, reference = client_for(registry), reference_to(registry, "qnib/new")
        descriptor = Descriptor("application/octet-stream", digest_of(b"new"), 3)
        client.put_blob(reference, descriptor, io.BytesIO(b"new"))
        assert registry.seen[1].query["scope"] == ["repository:qnib/new:pull,push"]
        registry.tokens.clear()
        registry.fail("PUT", status=401, headers={"WWW-Authenticate": registry_challenge(registry)})
        client.put_blob(reference, descriptor, io.BytesIO(b"new"))
        assert registry.blobs[descriptor.digest] == b"new"


def registry_challenge(registry: Registry) -> str:
    """Write the challenge that this registry sends."""
    return f'Bearer realm="http://{registry.name}/token",service="tests"'
