"""Errors as a registry tells them."""

from __future__ import annotations

import json

import pytest

from hpcimg.errors import (
    AuthenticationError,
    ContentError,
    DigestMismatchError,
    NoCandidateError,
    NotFoundError,
    NotListedError,
    RegistryError,
    SettingsError,
    StoreError,
    UsageError,
)
from hpcimg.hub.refusal import refusal_of, unauthorized, unsupported


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        (NotFoundError("no such tag"), "manifest", 404, "MANIFEST_UNKNOWN"),
        (NotFoundError("no such blob"), "blob", 404, "BLOB_UNKNOWN"),
        (NotFoundError("no such name"), "tags", 404, "NAME_UNKNOWN"),
        (NoCandidateError("no image of x runs on qnib/t"), "manifest", 404, "MANIFEST_UNKNOWN"),
        (UsageError("'A' is not part of a name"), "manifest", 400, "NAME_INVALID"),
        (UsageError("'x' is not a digest"), "blob", 400, "DIGEST_INVALID"),
        (AuthenticationError("refused"), "manifest", 403, "DENIED"),
        (NotListedError("not listed"), "manifest", 403, "DENIED"),
        (RegistryError("slow down", status=429, temporary=True), "blob", 429, "TOOMANYREQUESTS"),
        (RegistryError("it fell", status=500, temporary=True), "blob", 503, "UNAVAILABLE"),
        (RegistryError("no route", temporary=True), "manifest", 503, "UNAVAILABLE"),
        (RegistryError("odd", status=418), "manifest", 502, "UNKNOWN"),
        (ContentError("a bad manifest"), "manifest", 502, "UNKNOWN"),
        (DigestMismatchError("other bytes"), "blob", 502, "UNKNOWN"),
    ],
)
def test_every_error_has_its_status(error, kind, status, code):
    """And a document that says why."""
    refusal = refusal_of(error, kind)
    assert (refusal.status, refusal.code) == (status, code)
    (told,) = json.loads(refusal.body())["errors"]
    assert (told["code"], told["message"]) == (code, error.message)


def test_a_busy_upstream_says_when_to_come_again():
    """A client that is told to wait waits."""
    error = RegistryError("slow down", status=429, temporary=True)
    assert int(refusal_of(error, "manifest").headers["Retry-After"]) > 0
    error.retry_after = 7.5
    assert refusal_of(error, "manifest").headers["Retry-After"] == "8"


@pytest.mark.parametrize("error", [StoreError("db.internal is down"), SettingsError("/etc/x")])
def test_what_is_the_hubs_own_is_not_told(error):
    """Names of its machines and files are in its log alone."""
    refusal = refusal_of(error, "manifest")
    assert refusal.status in {500, 503}
    assert error.message.encode() not in refusal.body()


def test_hints_for_administrators_reach_no_client():
    """A hint may name files of the hub's machine."""
    error = NotListedError("not listed", "the administrator blocks it in /etc/containers")
    assert b"/etc" not in refusal_of(error, "manifest").body()


def test_a_login_is_asked_for_with_a_challenge():
    """The header without which no client tries again."""
    assert unauthorized("log in", 'Basic realm="x"').headers == {
        "WWW-Authenticate": 'Basic realm="x"'
    }
    assert unsupported("PUT").headers["Allow"] == "GET, HEAD"
