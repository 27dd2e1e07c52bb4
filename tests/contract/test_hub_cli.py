"""`hub type`, `hub account`, `hub import` and `hub export` as administrators meet them."""

from __future__ import annotations

import io
import json
import os
import stat

import pytest

from hpcimg.cli import main
from hpcimg.hub.database import Database
from hpcimg.hub.password import verify_password


class Typed(io.TextIOWrapper):
    """Standard input that may be a terminal."""

    is_terminal = False

    def isatty(self):
        """Say so."""
        return self.is_terminal


class Console:
    """Runs a command and keeps what it printed."""

    def __init__(self, monkeypatch, capsys, url):
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.url = url
        self.out = self.err = ""

    def run(self, *words, stdin=""):
        """Run `hpcimg hub WORDS`; gives its exit code."""
        text = Typed(io.BytesIO(stdin.encode()))
        self._monkeypatch.setattr("sys.stdin", text)
        code = main(["hub", *words])
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *words):
        """Run it with --json."""
        assert self.run(*words, "--json") == 0
        return json.loads(self.out)

    def directory(self):
        """Read what is there."""
        database = Database(self.url)
        try:
            return database.directory()
        finally:
            database.close()


@pytest.fixture
def hub(monkeypatch, capsys, tmp_path):
    """Have an empty database, named by the environment, and an account."""
    url = f"sqlite:///{tmp_path}/hub.sqlite"
    monkeypatch.setenv("HPCIMG_HUB_DATABASE", url)
    monkeypatch.delenv("HPCIMG_DEBUG", raising=False)
    console = Console(monkeypatch, capsys, url)
    assert console.run("account", "add", "qnib") == 0
    return console


def test_a_type_gets_a_password_once(hub):
    """It is made up, printed, and kept as a hash alone."""
    assert hub.run("type", "add", "qnib/type4", "cpu:broadwell", "nvcap:5.2") == 0
    login, password = hub.out.splitlines()
    assert login == "login: qnib-type4"
    kept = hub.directory().logins["qnib-type4"].password_hash
    assert verify_password(password.removeprefix("password: "), kept)
    assert len(password) > 40
    hub.run("type", "show", "qnib/type4")
    assert password.split()[1] not in hub.out


def test_a_type_s_password_from_standard_input(hub):
    """Its first line, and nothing is printed."""
    words = ("type", "add", "qnib/type1", "cpu:broadwell", "--password-stdin")
    assert hub.run(*words, stdin="se cret \n") == 0
    assert (hub.out, hub.err) == ("", "")
    assert verify_password("se cret ", hub.directory().logins["qnib-type1"].password_hash)
    assert hub.run("type", "change", "qnib/type1", "--password-stdin", stdin="other") == 0
    assert verify_password("other", hub.directory().logins["qnib-type1"].password_hash)
    assert hub.run("type", "change", "qnib/type1", "--password-stdin", stdin="\n") == 2
    assert "the password is empty" in hub.err


def test_no_option_takes_a_password(hub):
    """Others of the machine would read it in its list of processes."""
    for words in (("type", "add", "qnib/x"), ("account", "add", "x")):
        assert hub.run(*words, "--password", "secret") == 2
    assert [*hub.directory().accounts] == ["qnib"]


def test_a_terminal_is_asked_twice(hub, monkeypatch):
    """What is typed is not shown, and a slip is found."""
    answers = ["secret", "secret", "one", "other"]
    monkeypatch.setattr("getpass.getpass", lambda _prompt: answers.pop(0))
    monkeypatch.setattr(Typed, "is_terminal", True)
    assert hub.run("account", "password", "qnib") == 0
    assert verify_password("secret", hub.directory().accounts["qnib"].password_hash)
    assert hub.run("account", "password", "qnib") == 2
    assert "the two passwords are not the same" in hub.err


def test_a_password_without_a_terminal(hub):
    """It is not waited for."""
    assert hub.run("account", "password", "qnib", stdin="secret\n") == 2
    assert "hint: use --password-stdin" in hub.err
    assert hub.run("account", "password", "qnib", "--password-stdin", stdin="secret\n") == 0
    assert verify_password("secret", hub.directory().accounts["qnib"].password_hash)


def test_types_are_listed(hub):
    """As a table, or for programs."""
    hub.run("type", "add", "qnib/type2", "linux/arm64", "neoverse_n1", "--no-login")
    hub.run(
        "type", "add", "qnib/type1", "cpu:broadwell", "ourOwn", "--policy", "exact",
        "--answer", "index", "--description", "the old ones",
    )  # fmt: skip
    assert hub.err == "hpcimg: qnib/type1: 'ourown' is unknown: it matches only itself\n"
    assert hub.run("type", "list") == 0
    assert hub.out.splitlines() == [
        "TYPE        FEATURES                  ANSWER    POLICY  LOGIN       DESCRIPTION",
        "qnib/type1  cpu:broadwell, ourOwn     index     exact   qnib-type1  the old ones",
        "qnib/type2  linux/arm64, neoverse_n1  manifest  hub     -",
    ]
    assert hub.json("type", "list", "--account", "qnib")[0] == {
        "name": "qnib/type1",
        "account": "qnib",
        "features": ["cpu:broadwell", "ourOwn"],
        "answer": "index",
        "policy": "exact",
        "description": "the old ones",
        "login": "qnib-type1",
        "notes": ["'ourown' is unknown: it matches only itself"],
    }
    assert hub.run("type", "list", "--account", "nobody") == 66


def test_a_type_is_shown(hub):
    """With what its words come to."""
    hub.run("type", "add", "qnib/type3", "cpu:coffelake", "nvcap:5.2", "--no-login")
    assert hub.run("type", "show", "qnib/type3") == 0
    assert hub.out.splitlines() == [
        "type:        qnib/type3",
        "login:       none",
        "features:    cpu:coffelake, nvcap:5.2",
        "answer:      manifest",
        "policy:      the hub's",
        "platform:    linux/amd64",
        "cpu:         skylake",
        "gpus:        nvcap:5.2",
        "offers:      cpu:skylake, nvcap:5.2",
    ]
    assert hub.json("type", "show", "qnib/type3")["profile"]["target"] == "skylake"


def test_a_type_is_changed(hub):
    """Only what is named; a word for the hub's own policy takes back another."""
    hub.run("type", "add", "qnib/t", "cpu:zen3", "--policy", "exact", "--no-login")
    assert hub.run("type", "change", "qnib/t", "cpu:zen4", "--answer", "index") == 0
    assert hub.run("type", "change", "qnib/t", "--policy", "hub") == 0
    kind = hub.directory().types["qnib/t"]
    assert (kind.words, kind.answer, kind.policy) == (("cpu:zen4",), "index", "")
    assert hub.run("type", "change", "qnib/t") == 2
    assert "nothing is to be changed" in hub.err


def test_a_type_s_login_comes_and_goes(hub):
    """A new password is printed once; without a login there is none."""
    hub.run("type", "add", "qnib/t", "--no-login")
    assert hub.json("type", "change", "qnib/t", "--new-password")["password"]
    assert [*hub.directory().logins] == ["qnib-t"]
    assert hub.run("type", "change", "qnib/t", "--no-login") == 0
    assert hub.directory().logins == {}
    assert hub.run("type", "change", "qnib/t", "--no-login", "--new-password") == 2
    assert hub.run("type", "add", "qnib/u", "--no-login", "--password-stdin") == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("type", "add", "type1"), 2, "'type1' is not the full name of a machine type"),
        (("type", "add", "qnib/T"), 2, "'T' is not the name of a machine type"),
        (("type", "add", "qnib/t", "cpu:nosuch"), 2, "is not a known amd64 target"),
        (("type", "add", "nobody/t"), 66, "there is no account 'nobody'"),
        (("type", "remove", "qnib/t"), 66, "there is no machine type 'qnib/t'"),
        (("type", "change", "qnib/t", "x"), 66, "there is no machine type 'qnib/t'"),
        (("type",), 2, "the following arguments are required: COMMAND"),
        (("account", "add", "qnib"), 2, "there is an account qnib already"),
        (("account", "change", "qnib"), 2, "nothing is to be changed"),
        (("account", "remove", "nobody"), 66, "there is no account 'nobody'"),
        (("import", "/nowhere/file"), 2, 'could not read "/nowhere/file": No such file'),
    ],
)
def test_mistakes_in_two_lines(hub, words, code, says):
    """What is wrong, and what to do; nothing has changed."""
    before = hub.directory()
    assert hub.run(*words) == code
    assert says in hub.err
    assert hub.err.count("\n") == 2
    assert hub.out == ""
    assert hub.directory() == before


def test_accounts(hub):
    """They are added, listed, changed and removed."""
    assert hub.run("account", "add", "ann", "--role", "admin", "--password-stdin", stdin="x") == 0
    hub.run("type", "add", "qnib/t")
    assert hub.run("account", "change", "ann", "--role", "puller", "--disable") == 0
    assert hub.run("account", "list") == 0
    assert hub.out.splitlines() == [
        "ACCOUNT  ROLE    STATE     PASSWORD  TYPES",
        "ann      puller  disabled  yes       0",
        "qnib     owner   active    no        1",
    ]
    assert hub.run("account", "change", "ann", "--enable") == 0
    assert hub.json("account", "list")[0] == {
        "name": "ann",
        "role": "puller",
        "disabled": False,
        "password": True,
        "types": 0,
    }
    assert hub.run("account", "remove", "qnib") == 0
    found = hub.directory()
    assert ([*found.accounts], found.types, found.logins) == (["ann"], {}, {})
    assert hub.run("type", "remove", "qnib/t") == 66


def test_a_file_is_imported_and_exported(hub, tmp_path):
    """MetaHub's, then our own of it, into another hub."""
    metahub = "user: cloud\npassword: secret\ntypes: [{name: c5, features: [instType:c5]}]"
    assert hub.run("import", "-", "--dry-run", stdin=metahub) == 0
    told = hub.out
    assert told.splitlines() == [
        "account cloud: added as owner",
        "machine type cloud/c5: added: instType:c5",
        "login cloud-c5: added",
    ]
    assert [*hub.directory().accounts] == ["qnib"]
    assert hub.run("import", "-", stdin=metahub) == 0
    assert hub.out == told
    assert hub.run("import", "-", stdin=metahub) == 0
    assert (hub.out, hub.err) == ("", "hpcimg: nothing changes\n")
    assert hub.run("export") == 0
    exported = hub.out
    file = tmp_path / "hub.yaml"
    file.write_text(exported)
    other = ("--database", f"sqlite:///{tmp_path}/other.sqlite")
    assert hub.run("import", str(file), *other) == 0
    assert hub.run("export", *other) == 0
    assert hub.out == exported
    assert hub.json("import", str(file), "--remove-others") == []


def test_a_mistake_in_a_file(hub, tmp_path):
    """It is told with its line, and nothing is done."""
    file = tmp_path / "hub.yaml"
    file.write_text("accounts:\n- name: new\n- name: bad\n  rol: admin\n")
    assert hub.run("import", str(file)) == 2
    assert f'{file}:4: "rol" is no setting; did you mean role?' in hub.err
    assert [*hub.directory().accounts] == ["qnib"]


def test_which_database(hub, monkeypatch, tmp_path):
    """The option, then the environment, then the settings, and then the usual one."""
    settings = tmp_path / "hub.yaml"
    settings.write_text(f"database: sqlite:///{tmp_path}/settings.sqlite")
    named = ("--settings", str(settings))
    hub.run("account", "add", "a", *named, "--database", f"sqlite:///{tmp_path}/option.sqlite")
    hub.run("account", "add", "b", *named)
    monkeypatch.delenv("HPCIMG_HUB_DATABASE")
    hub.run("account", "add", "c", *named)
    monkeypatch.setattr(
        "hpcimg.cli.hub_database.DEFAULT_DATABASE", f"sqlite:///{tmp_path}/usual.sqlite"
    )
    monkeypatch.setattr("hpcimg.hub.settings.DEFAULT_PATH", tmp_path / "none.yaml")
    hub.run("account", "add", "d")
    found = {}
    for name in ("option", "hub", "settings", "usual"):
        database = Database(f"sqlite:///{tmp_path}/{name}.sqlite")
        found[name] = [*database.directory().accounts]
        database.close()
    assert found == {"option": ["a"], "hub": ["b", "qnib"], "settings": ["c"], "usual": ["d"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who works for the hub's account")
def test_root_works_for_the_hub_s_account(hub, tmp_path):
    """What root makes in the account's folder is the account's, so that the hub can go on."""
    folder = tmp_path / "lib"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    url = f"sqlite:///{folder}/hub.sqlite"
    database = Database(url)
    assert hub.run("account", "add", "ann", "--database", url) == 0
    owners = {file.name: file.stat().st_uid for file in folder.iterdir()}
    assert {"hub.sqlite", "hub.sqlite.lock", "hub.sqlite-wal"} <= set(owners)
    assert set(owners.values()) == {65534}
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    database.close()


def test_a_database_that_cannot_be(hub):
    """It is told with what can be."""
    assert hub.run("type", "list", "--database", "mysql://u:secret@db/hub") == 78
    assert "hint: write sqlite:////DIRECTORY/hub.sqlite" in hub.err
    assert "secret" not in hub.err
