"""Challenges, scopes and tokens, without a network."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcimg.errors import RegistryError
from hpcimg.oci.auth import (
    Authenticator,
    Challenge,
    TokenRequest,
    merge_scopes,
    parse_challenges,
    parse_token,
    pull_access,
    push_access,
    token_request,
)
from hpcimg.oci.credentials import IDENTITY_TOKEN_USER, Credential, no_credential

BEARER = 'Bearer realm="https://auth.example/token",service="registry.example"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("Basic", [("basic", {})], id="scheme only"),
        pytest.param('Basic realm="a, b"', [("basic", {"realm": "a, b"})], id="comma in quotes"),
        pytest.param("basic Realm=x", [("basic", {"realm": "x"})], id="no quotes"),
        pytest.param(r'Basic realm="a\"b"', [("basic", {"realm": 'a"b'})], id="escaped quote"),
        pytest.param(
            'Bearer realm="https://a/t",scope="repository:a:pull,push"',
            [("bearer", {"realm": "https://a/t", "scope": "repository:a:pull,push"})],
            id="comma in scope",
        ),
        pytest.param(
            'Basic realm="x", Bearer realm="https://a", service=s',
            [("basic", {"realm": "x"}), ("bearer", {"realm": "https://a", "service": "s"})],
            id="two challenges",
        ),
        pytest.param(
            'Negotiate abc==, NTLM, Basic realm="x"',
            [("negotiate", {}), ("ntlm", {}), ("basic", {"realm": "x"})],
            id="token68 and bare schemes",
        ),
        pytest.param(
            'Bearer realm = "x" , , a=b', [("bearer", {"realm": "x", "a": "b"})], id="lax"
        ),
        pytest.param('Bearer realm="open', [("bearer", {}), ("realm", {})], id="open quote"),
    ],
)
def test_parse_challenges(header, expected):
    """Every challenge of a header is found with its parameters."""
    assert [(c.scheme, c.parameters) for c in parse_challenges(header)] == expected


@given(st.text(max_size=200))
def test_parse_challenges_survives_anything(header):
    """No header makes the parser fail or hang."""
    parse_challenges(header)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["realm", "scope", "x"]), st.text('ab,= "\\', max_size=9)),
        max_size=3,
    )
)
def test_challenges_round_trip(parameters):
    """What is written with quotes is read back."""

    def quote(value: str) -> str:
        return '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"'

    header = ", ".join(
        "Bearer " + ", ".join(f"{key}={quote(value)}" for key, value in each.items())
        for each in parameters
    )
    assert [c.parameters for c in parse_challenges(header)] == parameters


def test_merge_scopes():
    """Scopes of one repository unite; a host with a port and actions keep their order."""
    merged = merge_scopes(
        ["repository:a:push", "repository:b:pull", "repository:a:pull", "registry:catalog:*", ""]
    )
    assert merged == ("repository:a:pull,push", "repository:b:pull", "registry:catalog:*")


def test_mount_access_to_the_same_repository():
    """Mounting within one repository asks for it once."""
    assert push_access("r:1", "a", "a").scopes == ("repository:a:pull,push",)


def test_token_request_keeps_the_realms_query():
    """The realm's own query stays, and the challenge's scope is asked for too."""
    challenge = Challenge(
        "bearer", {"realm": "https://a.example/t?x=1", "service": "s", "scope": "repository:b:pull"}
    )
    request = token_request(challenge, ("repository:a:pull",), Credential("alice", "hush"))
    query = parse_qs(urlsplit(request.url).query)
    assert query["scope"] == ["repository:a:pull", "repository:b:pull"]
    assert (query["x"], query["service"], query["account"]) == (["1"], ["s"], ["alice"])
    assert "hush" not in request.url


@pytest.mark.parametrize(
    "realm", ["", "token", "file:///etc/passwd", "https:///x", "https://[x/", "https://a/\u00e9"]
)
def test_realm_that_is_no_address(realm):
    """A realm that is no http address is the registry's fault."""
    with pytest.raises(RegistryError, match=r"as its token service"):
        token_request(Challenge("bearer", {"realm": realm}), (), None)


@pytest.mark.parametrize(
    ("raw", "text", "life"),
    [
        (b'{"token": "a"}', "a", 60),
        (b'{"access_token": "a", "expires_in": 300}', "a", 300),
        (b'{"token": "a", "access_token": "b", "expires_in": 1}', "a", 60),
        (b'{"token": "a", "expires_in": "soon"}', "a", 60),
        (b'{"token": "a", "expires_in": NaN}', "a", 60),
        (b'{"token": "a", "expires_in": 1' + b"0" * 400 + b"}", "a", 60),
    ],
)
def test_parse_token(raw, text, life):
    """`token` comes before `access_token`; a life below a minute counts as a minute."""
    token = parse_token(raw)
    assert (token.text, token.life) == (text, life)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nX: y"}', b'{"token": "\\u00e9"}']
)
def test_unusable_token(raw):
    """What is no token, or would break a header, is refused without being quoted."""
    with pytest.raises(RegistryError, match=r"^the token service answered with"):
        parse_token(raw)


def test_token_expires():
    """A token is kept for its life, and then asked for anew."""
    now = [0.0]
    sent: list[TokenRequest] = []

    def send(request: TokenRequest) -> bytes:
        sent.append(request)
        return b'{"token": "t", "expires_in": 100}'

    auth = Authenticator(no_credential, send, lambda: now[0])
    access = pull_access("registry.example", "a")
    assert auth.value(access) is None
    assert auth.answer(access, BEARER) == "Bearer t"
    now[0] = 94.0
    assert auth.value(access) == "Bearer t"
    now[0] = 96.0
    assert auth.value(access) is None
    assert auth.value(pull_access("registry.example", "b")) is None
    assert len(sent) == 1


def test_nothing_shows_a_secret():
    """No text made of these objects holds a secret."""
    credential = Credential("alice", "hush")
    token = Credential(IDENTITY_TOKEN_USER, "hush")
    challenge = parse_challenges(BEARER)[0]
    shown = [credential, token, parse_token(b'{"token": "hush"}')]
    shown += [token_request(challenge, (), each) for each in (credential, token)]
    assert "hush" not in repr(shown)
    assert "aHVzaA" not in repr(shown)
