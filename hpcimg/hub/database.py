"""The hub's database: accounts, logins, machine types, the signing key, and documents by digest.

The one place that knows SQL. All copies of the hub share it; threads may share one Database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, false, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from hpcimg.errors import SettingsError, StoreError, UsageError
from hpcimg.hub.account import Account, Login
from hpcimg.hub.change import Change, directory_of, inserting, put_row
from hpcimg.hub.directory import Directory
from hpcimg.hub.engine import make_engine, shown_url, writing
from hpcimg.hub.machine_type import MachineType
from hpcimg.hub.tables import (
    DOCUMENTS,
    METADATA,
    PROPOSALS,
    SCHEMA,
    STATE,
    TAGS,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Any number will do, that nobody else who uses the server chooses.
_LOCK = 0x68706369_6D672D68
_KEY_LENGTH = 32
_BATCH = 500


@dataclass(frozen=True)
class KeptDocument:
    """A manifest, an index or a config; `made` by the hub itself: nobody else has those bytes."""

    digest: str
    raw: bytes = field(repr=False)
    media_type: str
    made: bool = False


@dataclass(frozen=True)
class KeptTag:
    """What a tag stood for when its registry was last asked, in seconds since 1970."""

    digest: str
    checked: float


class Database:
    """One hub's database, by its URL; made ready for use by whoever comes first.

    Its methods raise StoreError when it does not answer.
    """

    def __init__(self, url: str) -> None:
        self.name = shown_url(url)
        self._engine = make_engine(url)
        try:
            with self._changing() as connection:
                self._prepare(connection)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def is_ready(self) -> None:
        """Raise StoreError when the database does not answer."""
        self.generation()

    def generation(self) -> int:
        """Return the number that each change of accounts, logins or types raises."""
        with self._reading() as connection:
            return int(connection.execute(select(STATE.c.generation)).scalar_one())

    def signing_key(self) -> bytes:
        """Return the key of tokens, which is the same for all copies."""
        with self._reading() as connection:
            return bytes(connection.execute(select(STATE.c.signing_key)).scalar_one())

    def directory(self) -> Directory:
        """Read all accounts, logins and types, as they were at one moment."""
        with self._reading() as connection:
            return directory_of(connection)

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Make several changes at once, or none of them; others who change have to wait.

        The generation is raised by one, if anything is changed.
        """
        with self._changing() as connection:
            # On PostgreSQL this row is the lock, on SQLite it is the transaction itself.
            connection.execute(select(STATE.c.generation).with_for_update())
            change = Change(connection)
            yield change
            if change.is_changed:
                connection.execute(update(STATE).values(generation=STATE.c.generation + 1))

    def put_account(self, account: Account) -> None:
        """Add or change an account."""
        with self.change() as change:
            change.put_account(account)

    def remove_account(self, name: str) -> None:
        """Remove an account with its types and logins."""
        with self.change() as change:
            change.remove_account(name)

    def put_type(self, machine_type: MachineType) -> None:
        """Add or change a machine type of an account that is there."""
        with self.change() as change:
            change.put_type(machine_type)

    def remove_type(self, full_name: str) -> None:
        """Remove a machine type with its login."""
        with self.change() as change:
            change.remove_type(full_name)

    def put_login(self, login: Login) -> None:
        """Add or change a login."""
        with self.change() as change:
            change.put_login(login)

    def remove_login(self, name: str) -> None:
        """Remove a login."""
        with self.change() as change:
            change.remove_login(name)

    def document(self, repository: str, digest: str) -> KeptDocument | None:
        """Find a document of a repository, HOST/REPOSITORY."""
        wanted = (DOCUMENTS.c.repository == repository) & (DOCUMENTS.c.digest == digest)
        with self._reading() as connection:
            row = connection.execute(select(DOCUMENTS).where(wanted)).one_or_none()
        if row is None:
            return None
        return KeptDocument(row.digest, bytes(row.raw), row.media_type, row.made)

    def put_document(self, repository: str, document: KeptDocument) -> None:
        """Keep a document; the bytes of a digest never change."""
        row = {
            "repository": repository,
            "digest": document.digest,
            "raw": document.raw,
            "media_type": document.media_type,
            "made": document.made,
        }
        with self._changing() as connection:
            insert = inserting(connection)(DOCUMENTS).values(row)
            # A document that was pushed as well as made is still one that the hub made.
            kept = {"made": insert.excluded.made | DOCUMENTS.c.made}
            names = ["repository", "digest"]
            connection.execute(insert.on_conflict_do_update(index_elements=names, set_=kept))

    def tag(self, repository: str, tag: str) -> KeptTag | None:
        """Find what a tag stood for."""
        wanted = (TAGS.c.repository == repository) & (TAGS.c.tag == tag)
        with self._reading() as connection:
            row = connection.execute(select(TAGS).where(wanted)).one_or_none()
        return None if row is None else KeptTag(row.digest, row.checked)

    def put_tag(self, repository: str, tag: str, kept: KeptTag) -> None:
        """Keep what a tag stands for."""
        row = {"repository": repository, "tag": tag, "digest": kept.digest, "checked": kept.checked}
        with self._changing() as connection:
            put_row(connection, TAGS, row)

    def tags(
        self, part: str, registries: Sequence[str], start: int, limit: int
    ) -> tuple[list[tuple[str, str]], int]:
        """List repositories with their tags that somebody asked for, and count all of these.

        `part` is in their names, `registries` are those that count.
        """
        name = TAGS.c.repository + ":" + TAGS.c.tag
        wanted = [
            TAGS.c.checked > 0,  # one that is gone at its registry is marked so
            ~TAGS.c.tag.contains(" "),  # no tag, but a question whose answer is kept
            name.contains(part, autoescape=True),
            or_(
                false(),
                *(TAGS.c.repository.startswith(f"{one}/", autoescape=True) for one in registries),
            ),
        ]
        listed = select(TAGS.c.repository, TAGS.c.tag).where(*wanted)
        listed = listed.order_by(TAGS.c.repository, TAGS.c.tag).offset(start).limit(limit)
        with self._reading() as connection:
            count = connection.execute(select(func.count()).select_from(TAGS).where(*wanted))
            rows = connection.execute(listed).all()
            return [(row.repository, row.tag) for row in rows], int(count.scalar_one())

    def proposals(self) -> list[dict[str, Any]]:
        """List what nodes propose: account, name, words, node."""
        with self._reading() as connection:
            rows = connection.execute(select(PROPOSALS).order_by(*PROPOSALS.primary_key)).all()
        return [{"account": row.account, "name": row.name, **json.loads(row.said)} for row in rows]

    def put_proposal(self, account: str, name: str, said: Mapping[str, Any], limit: int) -> None:
        """Keep one; UsageError where an account has `limit` of them."""
        row = {"account": account, "name": name, "said": json.dumps(said)}
        own = (PROPOSALS.c.account == account) & (PROPOSALS.c.name != name)
        with self._changing() as connection:
            count = connection.execute(select(func.count()).where(own)).scalar_one()
            if count >= limit:
                raise UsageError(f"account {account} has {count} proposals already", "remove some")
            put_row(connection, PROPOSALS, row)

    def remove_proposal(self, account: str, name: str) -> None:
        """Remove one, if it is there."""
        wanted = (PROPOSALS.c.account == account) & (PROPOSALS.c.name == name)
        with self._changing() as connection:
            connection.execute(delete(PROPOSALS).where(wanted))

    def prune(self, limit: int, size: int, before: float) -> int:
        """Remove the oldest documents until `limit` are left, of `size` bytes; say how many went.

        What the hub made is never removed, nor counted: no other place has it. What a tag stands
        for goes last. Tags that nobody asked for since `before` go too.
        """
        theirs = ~DOCUMENTS.c.made
        removed = 0
        with self._changing() as connection:
            connection.execute(delete(TAGS).where(TAGS.c.checked < before))
            total = select(func.count(), func.coalesce(func.sum(func.length(DOCUMENTS.c.raw)), 0))
            count, taken = connection.execute(total.where(theirs)).one()
            while count > limit or taken > size:
                over = count - limit if count > limit else _BATCH
                going = connection.execute(_oldest(min(over, _BATCH))).all()
                if not going:
                    break
                numbers = [row.number for row in going]
                connection.execute(delete(DOCUMENTS).where(DOCUMENTS.c.number.in_(numbers)))
                count, taken = count - len(going), taken - sum(row.size for row in going)
                removed += len(going)
        return removed

    def _prepare(self, connection: Connection) -> None:
        """Make the tables, once; another copy that starts now waits, and finds them."""
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        version = None
        if connection.dialect.has_table(connection, STATE.name):
            version = connection.execute(select(STATE.c.schema_version)).scalar_one_or_none()
        if version is not None and version > SCHEMA:
            raise SettingsError(
                f"database {self.name} is of schema {version}, which a newer hpcimg made;"
                f" this one knows {SCHEMA}",
                "install the newer hpcimg on all copies of the hub, or name another database",
            )
        METADATA.create_all(connection)
        if version is None:
            row = {
                "id": 1,
                "schema_version": SCHEMA,
                "generation": 0,
                "signing_key": os.urandom(_KEY_LENGTH),
            }
            connection.execute(inserting(connection)(STATE).values(row))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self._told(), writing(self._engine) as connection:
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            raise StoreError(
                f"could not use the hub's database {self.name}: {cause}",
                "see that it runs, and that this account may read and write it",
            ) from error


def _oldest(limit: int) -> Select[tuple[int, int]]:
    """Choose what goes next: what no tag stands for, the oldest first."""
    tagged = select(TAGS.c.digest).where(
        (TAGS.c.repository == DOCUMENTS.c.repository) & (TAGS.c.digest == DOCUMENTS.c.digest)
    )
    size = func.length(DOCUMENTS.c.raw).label("size")
    chosen = select(DOCUMENTS.c.number, size).where(~DOCUMENTS.c.made)
    return chosen.order_by(tagged.exists(), DOCUMENTS.c.number).limit(limit)
