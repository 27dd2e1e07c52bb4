"""How the hub's database is opened: SQLite in one file, or PostgreSQL, as many copies share it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from hpcimg.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_HINT = "write sqlite:////DIRECTORY/hub.sqlite, or postgresql://USER@HOST/DATABASE"
_BUSY_SECONDS = 30
_WRITES = "hpcimg_writes"


def make_engine(url: str) -> Engine:
    """Make the connections to a database; raises SettingsError for a URL that cannot be meant."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    try:
        return create_engine(
            parsed,
            isolation_level="REPEATABLE READ",
            pool_pre_ping=True,
            max_overflow=5,
            connect_args={"connect_timeout": _BUSY_SECONDS},
        )
    except (NoSuchModuleError, ImportError) as error:
        raise SettingsError(
            f"the driver for {shown_url(url)} is not installed: {error}",
            "pip install 'psycopg[binary]', or apt-get install python3-psycopg",
        ) from error


def shown_url(url: str) -> str:
    """Write a database's URL without its password."""
    return _parsed(url).render_as_string(hide_password=True)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection with a transaction that may write, committed at the end."""
    if engine.dialect.name == "sqlite":
        options: dict[str, Any] = {_WRITES: True}
    else:
        # Who waited for a lock must see what was done meanwhile.
        options = {"isolation_level": "READ COMMITTED"}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # What is no URL may still have a password in it.
        raise SettingsError("the hub's database is not given as a URL", _HINT) from error
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    is_file = parsed.database not in {None, "", ":memory:"}
    if parsed.drivername == "postgresql+psycopg" or (parsed.drivername == "sqlite" and is_file):
        return parsed
    shown = parsed.render_as_string(hide_password=True)
    raise SettingsError(f"the hub's database cannot be {shown}", _HINT)


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_file(path)
        # SQLite does not wait for others when it changes to a write-ahead log.
        with _alone(path):
            connection = engine.raw_connection()
            connection.cursor().execute("PRAGMA journal_mode=WAL")
            connection.close()
    except (OSError, engine.dialect.dbapi.Error) as error:  # type: ignore[union-attr]
        engine.dispose()
        raise StoreError(
            f"could not make the hub's database {path}: {error}",
            "run the command as the account of the hub, or name another database",
        ) from error
    return engine


def _on_connect(connection: Any, _record: object) -> None:
    # Python's module begins transactions by itself, at other places than SQLAlchemy's.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=NORMAL")


def _on_begin(connection: Connection) -> None:
    # A reader that becomes a writer is refused at once where another one writes: so say it first.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_file(path: Path) -> None:
    """Make the file for its owner alone: it holds hashes and the key of all tokens.

    It gets its name when it is closed: closing a file would give up SQLite's locks on it.
    """
    if path.exists():
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o600)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    try:
        _give(name, path.parent)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other copies waiting; the lock's file stays, since others may wait on it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    try:
        _give(handle, path)
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _give(file: str | int, like: Path) -> None:
    """Give root's file to whom another one belongs: the hub's account, for whom root may work."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(file, owner.st_uid, owner.st_gid)
