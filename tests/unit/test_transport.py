"""The parts of the registry client that need no network: waits, origins, words of failure."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from hpcimg.errors import AuthenticationError, NotFoundError, RegistryError
from hpcimg.oci.answer import Pace, Timeouts, stated_length
from hpcimg.oci.blob import is_range_from
from hpcimg.oci.diagnostics import diagnostics, escaped, failure, reason_of, shown_url
from hpcimg.oci.hosts import origin
from hpcimg.oci.transport import Patience, Request, Slots, may_pass, redirected, retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("120", 120.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after(value, seconds):
    """Retry-After is read as seconds or as a date; junk counts as nothing."""
    assert retry_after({"Retry-After": value}, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "length"), [("0", 0), ("12", 12), ("-1", None), ("9" * 5000, None), ("\u0663", None)]
)
def test_stated_length(value, length):
    """A length that is no number, or one that Python refuses to read, says nothing."""
    assert stated_length({"Content-Length": value}) == length


def test_pace():
    """A body drips when a whole window brought too little; each window counts for itself."""
    pace = Pace(Timeouts(window=60.0, slowest=1000.0))
    assert not pace.is_drip(1, 29.0)
    assert not pace.is_drip(60_000, 31.0)
    assert not pace.is_drip(1, 29.0)
    assert not pace.is_drip(1, 29.0)
    assert pace.is_drip(1, 29.0)


def test_waits_grow_with_jitter():
    """Waits double up to a cap, never above it, and end with the last try."""
    patience = Patience(attempts=4, first=1.0, longest=3.0)
    for attempt, cap in enumerate((1.0, 2.0, 3.0)):
        assert cap / 2 <= patience.wait(attempt, None) <= cap
    assert patience.wait(3, None) is None


def test_wait_that_the_server_asks_for():
    """The server's wait is a minimum; one beyond the longest means to give up."""
    patience = Patience(longest=30.0)
    assert patience.wait(0, 20.0) == 20.0
    assert patience.wait(0, 31.0) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, False), (404, False), (408, True), (429, True), (500, True), (501, False), (524, True)],
)
def test_statuses_that_may_pass(status, expected):
    """Time-outs, limits and server failures are asked again, what a server cannot do is not."""
    assert may_pass(status) is expected


def test_slots_bound_connections():
    """The third of two waits until one is done; another host has its own two."""
    slots, got = Slots(stall=60.0), threading.Event()
    one, other = ("https", "a", 443), ("https", "b", 443)
    for host in (one, one, other):
        slots.take(host, 2)
    third = threading.Thread(target=lambda: (slots.take(one, 2), got.set()), daemon=True)
    third.start()
    assert not got.wait(0.05)
    slots.free(one)
    assert got.wait(10)


def test_slots_give_way_when_nothing_moves():
    """Connections whose readers wait for us must not block us for ever."""
    slots = Slots(stall=0.0)
    slots.take(("https", "a", 443), 1)
    slots.take(("https", "a", 443), 1)


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://registry.example/other", True),
        ("https://registry.example:443/other", True),
        ("http://registry.example/other", False),
        ("https://registry.example:8443/other", False),
        ("https://cdn.example/other", False),
    ],
)
def test_credentials_stay_with_their_origin(target, kept):
    """Authorization follows a redirect only when scheme, host and port are the same."""
    request = Request("GET", "https://registry.example/v2/", {"authorization": "Bearer hush"})
    assert ("authorization" in redirected(request, target).headers) == kept


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/",
        "https://",
        "http://[::1",
        "http://a:70000/",
        "a",
        "https://user:hush@a/",
        "https://b\\@a/",
        "https://b\\@a",
        "https://b\t@a/",
        " https://a/",
        "https://a\u2024b/",
    ],
)
def test_no_http_address(url):
    """What is no http address has no origin."""
    with pytest.raises(RegistryError, match=r"is no http or https address"):
        origin(url)


def test_shown_url_holds_no_secret():
    """Users, passwords and queries are left out."""
    assert shown_url("https://u:hush@h.example:1/a?sig=hush#hush") == "https://h.example:1/a"


def test_request_shows_no_header():
    """A request's own text holds no header and no body."""
    assert "hush" not in repr(Request("GET", "https://a/", {"Authorization": "hush"}, b"hush"))


def test_escaped():
    """Control characters are written out, lines joined, long texts cut."""
    assert escaped("a\n b\x1b[1m\u202e") == "a b\\x1b[1m\\u202e"
    assert len(escaped("x" * 999)) == 203


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"errors":[{"code":"A","message":"b"},{"code":"C"}]}', "A: b; C: no message"),
        (b"<html>", ""),
        (b'{"errors":{"code":"A"}}', ""),
        (b'{"errors":[null]}', ""),
        (b"[]", ""),
        (b'{"errors":[]}', ""),
    ],
)
def test_diagnostics(body, expected):
    """The registry's codes and messages are read; other bodies say nothing."""
    assert diagnostics(body) == expected


@pytest.mark.parametrize(
    ("status", "kind", "temporary"),
    [
        (404, NotFoundError, None),
        (401, AuthenticationError, None),
        (403, AuthenticationError, None),
        (400, RegistryError, False),
        (429, RegistryError, True),
        (500, RegistryError, True),
    ],
)
def test_failure_kinds(status, kind, temporary):
    """The status decides who must act."""
    error = failure("r:1/a:b", "r:1", status, b"")
    assert type(error) is kind
    assert error.message.endswith(f": HTTP status {status}")
    assert error.hint
    if temporary is not None:
        assert (error.status, error.temporary) == (status, temporary)


def test_reason_is_found_below():
    """The root of a failure is found behind the exceptions that wrap it."""
    inner = socket.gaierror(-2, "Name or service not known")
    middle = RuntimeError(inner)
    outer = RuntimeError("https://h/?sig=hush")
    outer.__cause__ = middle
    assert reason_of(outer) == ("the host's name does not resolve", True)
    assert reason_of(ConnectionRefusedError(111, "Connection refused")) == (
        "connection refused",
        True,
    )
    assert reason_of(ssl.SSLEOFError(8, "EOF")) == ("it hung up in the middle of TLS", True)
    refused = OSError("Tunnel connection failed: 407 Proxy Authentication Required")
    assert reason_of(refused) == ("the proxy answers with HTTP status 407", False)
    assert reason_of(OSError("Tunnel connection failed: 503 Hush")) == (
        "the proxy answers with HTTP status 503",
        True,
    )
    assert reason_of(RuntimeError("hush")) == ("the connection broke", True)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 5-9/10", True),
        ("bytes 5-9/*", True),
        ("bytes 4-9/10", False),
        ("bytes 5-9/11", False),
        ("bytes " + "9" * 5000 + "-9/10", False),
        ("5-9/10", False),
        ("", False),
    ],
)
def test_content_range(header, expected):
    """A 206 counts only when it continues where the rest was asked from."""
    assert is_range_from(header, 5, 10) == expected
