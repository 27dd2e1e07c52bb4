"""Who a request is from: a password or a token is proven once, and remembered for a while.

Knows logins alone; which machine type they mean is identity.py's matter.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from hpcimg.hub.directory import Directory
from hpcimg.hub.identity import account_of, login_name
from hpcimg.hub.password import verify_password
from hpcimg.hub.token import verify

PROOF_SECONDS = 60.0
"""How long a password that was right needs not be hashed again."""
_PROOFS_KEPT = 10_000
_FAILURES_KEPT = 20_000
_LOGINS_AN_ADDRESS = 20
"""How many times the failures of one login an address may have for all logins."""
_WINDOW = 60.0
_HASHES_AT_ONCE = 4
"""Each takes some 16 MiB for some 50 ms."""
_HEADER_LIMIT = 8192
_NAME_LIMIT = 128

InThread = Callable[..., Awaitable[bool]]


class LoginError(Exception):
    """The login is not right; `retry_after` are seconds, where there were too many such.

    `login` is the name that was tried, for the audit log.
    """

    def __init__(self, why: str, retry_after: float = 0.0, login: str = "") -> None:
        super().__init__(why)
        self.retry_after = retry_after
        self.login = login


@dataclass(frozen=True)
class Proof:
    """A login that was proven; `repositories` are those of its token, None means all."""

    login: str = ""
    repositories: tuple[str, ...] | None = None


NOBODY = Proof()


class LoginDesk:
    """Proves what stands in Authorization headers, for one event loop."""

    def __init__(
        self, key: bytes, failures: int, in_thread: InThread, now: Callable[[], float]
    ) -> None:
        self._key = key
        self._failures = failures
        self._in_thread = in_thread
        self._now = now
        self._secret = os.urandom(32)
        self._proofs: OrderedDict[bytes, tuple[float, Proof]] = OrderedDict()
        self._failed: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._guessing: OrderedDict[tuple[str, str], list[float]] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Proof]] = {}
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)

    async def prove(self, authorization: str, address: str, directory: Directory) -> Proof:
        """Prove one header; an empty one is nobody's. Raises LoginError."""
        if not authorization:
            return NOBODY
        if len(authorization) > _HEADER_LIMIT:
            raise LoginError("the Authorization header is too long")
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._of_token(value.strip(), directory)
        if scheme.lower() != "basic":
            raise LoginError("log in with a name and a password, or with a token of this hub")
        # The header itself, which is a password, is not kept.
        raw = authorization.encode("utf-8", "surrogateescape")
        now_valid = str(directory.generation).encode()
        # A password that was changed meanwhile is another key.
        key = hashlib.blake2b(raw + now_valid, key=self._secret).digest()
        until, proof = self._proofs.get(key, (0.0, NOBODY))
        if self._now() < until:
            return proof
        # Nodes that start together say the same: it is hashed once for all of them.
        hashing = self._pending.get(key)
        if hashing is None:
            hashing = asyncio.ensure_future(self._of_password(value.strip(), address, directory))
            self._pending[key] = hashing
            hashing.add_done_callback(lambda _: self._pending.pop(key, None))
        proof = await asyncio.shield(hashing)
        self._proofs[key] = (self._now() + PROOF_SECONDS, proof)
        while len(self._proofs) > _PROOFS_KEPT:
            self._proofs.popitem(last=False)
        return proof

    async def check(self, written: str, password: str, address: str, directory: Directory) -> Proof:
        """Prove a name with its password; raises LoginError, after too many failures unseen."""
        name = login_name(written)[:_NAME_LIMIT]
        address = _network_of(address)
        self._refuse_busy(address, name)
        hashed = _hash_of(name, directory)
        async with self._hashing:
            self._refuse_busy(address, name)
            # A name that is not there costs as much time as one that is.
            is_right = await self._in_thread(verify_password, password, hashed)
        if not is_right or account_of(name, directory) is None:
            for failed, key in ((self._failed, (address, name)), (self._guessing, (address, ""))):
                failed.setdefault(key, []).append(self._now())
                while len(failed) > _FAILURES_KEPT:
                    failed.popitem(last=False)
            raise LoginError("the name or the password is not right", login=name)
        return Proof(name)

    def _of_token(self, text: str, directory: Directory) -> Proof:
        claims = verify(self._key, text, self._now())
        if claims is None:
            raise LoginError("the token is none of this hub's, or its time is over")
        if not claims.subject:
            return Proof("", claims.repositories)
        login = directory.logins.get(claims.subject)
        bound_to = login.machine_type if login else ""
        if account_of(claims.subject, directory) is None or bound_to != claims.machine_type:
            raise LoginError("the login of this token is no longer what it was")
        return Proof(claims.subject, claims.repositories)

    async def _of_password(self, value: str, address: str, directory: Directory) -> Proof:
        try:
            name, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError as error:  # of base64, and of UTF-8
            raise LoginError("the Authorization header is not base64") from error
        if not colon:
            raise LoginError("the Authorization header has no password")
        return await self.check(name, password, address, directory)

    def _refuse_busy(self, address: str, name: str) -> None:
        """Refuse who guesses before anything is hashed: one login, or many from one address.

        Behind one address there may be many nodes, of which one has an old password.
        """
        now = self._now()
        for failed, key, limit in (
            (self._failed, (address, name), 1),
            (self._guessing, (address, ""), _LOGINS_AN_ADDRESS),
        ):
            recent = [at for at in failed.get(key, ()) if now - at < _WINDOW]
            if recent:
                failed[key] = recent
            else:
                failed.pop(key, None)
            if len(recent) >= self._failures * limit:
                wait = max(1.0, _WINDOW - (now - recent[0]))
                raise LoginError("too many failed logins from this address", wait, name)


def _network_of(address: str) -> str:
    """Take an IPv6 client for its network: it has more addresses than it could have names."""
    found = ip_address(address) if address else None
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address


def _hash_of(name: str, directory: Directory) -> str:
    login = directory.logins.get(name)
    if login is not None:
        return login.password_hash
    account = directory.accounts.get(name)
    return account.password_hash if account is not None else ""
