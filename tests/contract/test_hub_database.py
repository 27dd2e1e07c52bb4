"""The hub's database, in a file of SQLite and in a PostgreSQL server alike."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from postgres import Postgres, programs
from sqlalchemy import create_engine, text

from hpcimg.errors import SettingsError, StoreError
from hpcimg.hub.account import Account, Login, Role
from hpcimg.hub.database import Database, KeptDocument, KeptTag
from hpcimg.hub.machine_type import MachineType

QNIB = Account("qnib", Role.OWNER, "hash")
TYPE = MachineType("qnib", "type1", ("cpu:broadwell",), "index", "exact", "Broadwell, no GPU")
LOGIN = Login("qnib-type1", "other hash", "qnib", "qnib/type1")
REPOSITORY = "docker.io/qnib/bench"


@pytest.fixture(scope="session")
def server():
    """Run a PostgreSQL server for all tests, where Debian's package `postgresql` is installed."""
    if programs() is None:
        pytest.skip("PostgreSQL is not on this machine (apt-get install postgresql)")
    running = Postgres()
    yield running
    running.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Name an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/hub.sqlite"
    return request.getfixturevalue("server").url()


@pytest.fixture
def database(url):
    """Open it."""
    opened = Database(url)
    yield opened
    opened.close()


def test_accounts_types_and_logins(database):
    """All that was put is there, each change is another generation."""
    assert database.generation() == 0
    database.put_account(QNIB)
    database.put_type(TYPE)
    database.put_login(LOGIN)
    found = database.directory()
    assert found.generation == database.generation() == 3
    assert found.accounts == {"qnib": QNIB}
    assert found.types == {"qnib/type1": TYPE}
    assert found.logins == {"qnib-type1": LOGIN}


def test_what_is_put_again_is_changed(database):
    """By its name."""
    database.put_account(QNIB)
    database.put_type(TYPE)
    database.put_login(LOGIN)
    account = Account("qnib", Role.PULLER, "new", disabled=True)
    machine_type = MachineType("qnib", "type1")
    login = Login("qnib-type1", "new", "qnib")
    database.put_account(account)
    database.put_type(machine_type)
    database.put_login(login)
    found = database.directory()
    assert [*found.accounts.values()] == [account]
    assert [*found.types.values()] == [machine_type]
    assert [*found.logins.values()] == [login]


def test_an_account_goes_with_all_that_it_has(database):
    """Its types, and their logins; nothing of others."""
    database.put_account(QNIB)
    database.put_account(Account("other", Role.ADMIN))
    database.put_type(TYPE)
    database.put_login(LOGIN)
    database.remove_account("qnib")
    found = database.directory()
    assert ([*found.accounts], [*found.types], [*found.logins]) == (["other"], [], [])


def test_a_type_goes_with_its_login(database):
    """Nobody can log in as what is not."""
    database.put_account(QNIB)
    database.put_type(TYPE)
    database.put_login(LOGIN)
    database.remove_type("qnib/type1")
    assert database.directory().logins == {}


def test_nothing_changes_no_generation(database):
    """Copies need not read what is the same."""
    database.remove_account("nobody")
    database.remove_type("nobody/type")
    database.remove_login("nobody-type")
    assert database.generation() == 0


def test_a_type_of_nobody(database):
    """An account comes first; what fails changes nothing."""
    with pytest.raises(StoreError, match="could not use the hub's database"):
        database.put_type(TYPE)
    assert database.generation() == 0


def test_several_changes_are_one(database):
    """One generation for all of them, or nothing at all."""
    with database.change() as change:
        change.put_account(QNIB)
        change.put_type(TYPE)
        assert [*change.directory().types] == ["qnib/type1"]
    assert database.generation() == 1
    with pytest.raises(KeyError), database.change() as change:
        [change.remove_account("qnib"), {}["nothing"]]
    assert database.generation() == 1
    assert [*database.directory().types] == ["qnib/type1"]


def test_changes_of_many_threads(database):
    """Each is counted, none is lost, and none fails for another."""
    database.put_account(QNIB)

    def put(number):
        database.put_type(MachineType("qnib", f"type{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(40)))
    assert database.generation() == 41
    assert len(database.directory().types) == 40


def test_documents(database):
    """By repository and digest, bytes as they were."""
    kept = KeptDocument("sha256:a", b"\0\xff{}", "application/json")
    database.put_document(REPOSITORY, kept)
    database.put_document(REPOSITORY, kept)
    assert database.document(REPOSITORY, "sha256:a") == kept
    assert database.document(REPOSITORY, "sha256:b") is None
    assert database.document("docker.io/other", "sha256:a") is None


def test_what_the_hub_made_stays_so(database):
    """Also if an upstream has the same bytes."""
    made = KeptDocument("sha256:a", b"{}", "application/json", made=True)
    theirs = KeptDocument("sha256:a", b"{}", "application/json")
    for order, repository in (((made, theirs), "a"), ((theirs, made), "b")):
        for one in order:
            database.put_document(repository, one)
        assert database.document(repository, "sha256:a") == made


def test_tags(database):
    """The newest word counts; what is no tag is not listed."""
    database.put_tag(REPOSITORY, "latest", KeptTag("sha256:a", 1.5))
    database.put_tag(REPOSITORY, "latest", KeptTag("sha256:b", 1_700_000_000.123))
    database.put_tag(REPOSITORY, "text/plain sha256:b", KeptTag("sha256:c sha256:d", 3.0))
    database.put_tag("docker.io/a", "v1", KeptTag("sha256:a", 4.0))
    database.put_tag("docker.io/a", "gone", KeptTag("sha256:a", 0.0))
    assert database.tag(REPOSITORY, "latest") == KeptTag("sha256:b", 1_700_000_000.123)
    assert database.tag(REPOSITORY, "other") is None
    both = [("docker.io/a", "v1"), (REPOSITORY, "latest")]
    assert database.tags("", ["docker.io"], 0, 10) == (both, 2)
    assert database.tags("", ["docker.io"], 1, 1) == (both[1:], 2)
    assert database.tags("h:lat", ["docker.io"], 0, 10) == (both[1:], 1)
    for part, registries in (("", []), ("", ["docker"]), ("%", ["docker.io"]), ("a_v", ["x"])):
        assert database.tags(part, registries, 0, 10) == ([], 0)


def test_prune(database):
    """The oldest go, what a tag stands for last, and nothing that the hub made."""
    for number in range(6):
        made = number == 1
        kept = KeptDocument(f"sha256:{number}", b"{}", "application/json", made=made)
        database.put_document(REPOSITORY, kept)
    database.put_tag(REPOSITORY, "latest", KeptTag("sha256:0", 1.0))
    database.put_tag("docker.io/other", "latest", KeptTag("sha256:2", 1.0))
    assert database.prune(5, 1 << 30, 0.5) == 0
    assert database.prune(3, 1 << 30, 0.5) == 2
    assert numbers(database) == [0, 1, 4, 5]
    assert database.prune(1, 1 << 30, 0.5) == 2
    assert numbers(database) == [0, 1]
    assert database.prune(0, 1 << 30, 0.5) == 1
    assert numbers(database) == [1]


def numbers(database):
    """Which of the documents there are."""
    return [n for n in range(6) if database.document(REPOSITORY, f"sha256:{n}")]


def test_everything_is_there_after_a_restart(url):
    """The key of tokens as well."""
    first = Database(url)
    first.put_account(QNIB)
    key = first.signing_key()
    first.close()
    second = Database(url)
    assert second.signing_key() == key
    assert len(key) == 32
    assert [*second.directory().accounts] == ["qnib"]
    second.close()


def test_keys_are_not_the_same(tmp_path):
    """Another hub's tokens are of no use here."""
    found = [Database(f"sqlite:///{tmp_path}/{name}") for name in "ab"]
    assert found[0].signing_key() != found[1].signing_key()


def test_threads_that_start_at_once(url):
    """All copies find one key, and none fails."""
    together = Barrier(8)

    def start(_):
        together.wait()
        opened = Database(url)
        try:
            return opened.signing_key()
        finally:
            opened.close()

    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(start, range(8)))
    assert len(keys) == 1


def test_processes_that_start_at_once(url):
    """The same where they share no memory."""
    program = (
        "import sys; from hpcimg.hub.database import Database; sys.stdin.read();"
        " print(Database(sys.argv[1]).signing_key().hex())"
    )
    command = [sys.executable, "-c", program, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for one in started:
        one.stdin.close()
    keys = {one.stdout.read() for one in started}
    assert [one.wait() for one in started] == [0] * 4
    for one in started:
        one.stdout.close()
    assert len(keys) == 1


def test_a_newer_schema_is_refused(url):
    """Nothing is done to what this release does not know."""
    Database(url).close()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE hub_state SET schema_version = 2"))
    engine.dispose()
    with pytest.raises(SettingsError, match="is of schema 2, which a newer hpcimg made") as caught:
        Database(url)
    assert caught.value.hint.startswith("install the newer hpcimg on all copies")


def test_sqlite_is_for_its_account_alone(tmp_path):
    """It holds hashes and a key; also one that others could read before, and what is beside it."""
    path = tmp_path / "hub.sqlite"
    path.touch(0o644)
    opened = Database(f"sqlite:///{path}")
    opened.put_account(QNIB)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"hub.sqlite", "hub.sqlite-wal"} < set(modes)
    opened.close()


def test_sqlite_file_is_made_for_its_account_alone(tmp_path):
    """Whatever the umask, and no other file is left."""
    before = os.umask(0)
    try:
        Database(f"sqlite:///{tmp_path}/hub.sqlite").close()
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"hub.sqlite": 0o600, "hub.sqlite.lock": 0o600}


def test_a_writer_waits_for_another(tmp_path):
    """And reads meanwhile what was there."""
    opened = Database(f"sqlite:///{tmp_path}/hub.sqlite")
    with ThreadPoolExecutor(1) as threads:
        with opened.change() as change:
            change.put_account(QNIB)
            waiting = threads.submit(opened.put_account, Account("other", Role.PULLER))
            assert opened.directory().accounts == {}
            assert not waiting.done()
        waiting.result()
    assert [*opened.directory().accounts] == ["other", "qnib"]
    opened.close()


def test_a_file_that_is_no_database(tmp_path):
    """It is said with its name, and what to do."""
    (tmp_path / "hub.sqlite").write_text(
        "this is a text, and long enough to be read as a header " * 9
    )
    with pytest.raises(StoreError, match=r"hub.sqlite: file is not a database") as caught:
        Database(f"sqlite:///{tmp_path}/hub.sqlite")
    assert caught.value.hint


def test_a_folder_that_cannot_be(tmp_path):
    """As where a file has its name."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="could not make the hub's database"):
        Database(f"sqlite:///{tmp_path}/file/hub.sqlite")


def test_a_table_that_is_gone(tmp_path):
    """A failure later has the same two lines."""
    opened = Database(f"sqlite:///{tmp_path}/hub.sqlite")
    opened.is_ready()
    with sqlite3.connect(tmp_path / "hub.sqlite") as other:
        other.execute("DROP TABLE hub_state")
    other.close()
    with pytest.raises(StoreError, match=r"hub.sqlite: no such table: hub_state"):
        opened.is_ready()
    opened.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "the hub's database is not given as a URL"),
        ("/var/lib/hub.sqlite", "the hub's database is not given as a URL"),
        ("sqlite://", "the hub's database cannot be sqlite://"),
        ("sqlite:///:memory:", "cannot be sqlite:///%3Amemory%3A"),
        ("mysql://u:secret@db/hub", r"cannot be mysql://u:\*\*\*@db/hub"),
    ],
)
def test_urls_that_cannot_be(url, says):
    """The hint shows both kinds, and no password is told."""
    with pytest.raises(SettingsError, match=says) as caught:
        Database(url)
    assert caught.value.hint.startswith("write sqlite:////DIRECTORY/hub.sqlite")
    assert "secret" not in caught.value.message


def test_a_server_that_is_not_there(tmp_path):
    """It is told without the password."""
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=r"postgresql\+psycopg://u:\*\*\*@/hub") as caught:
        Database(f"postgresql://u:secret@/hub?host={tmp_path}")
    assert "secret" not in caught.value.message


def test_a_server_that_comes_back(server):
    """Nothing has to be started again after it."""
    opened = Database(server.url())
    opened.put_account(QNIB)
    server.stop()
    with pytest.raises(StoreError):
        opened.is_ready()
    server.start()
    opened.is_ready()
    assert [*opened.directory().accounts] == ["qnib"]
    opened.close()
