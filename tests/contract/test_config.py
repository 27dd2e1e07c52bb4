"""`hpcimg config`: where each value comes from, and every mistake with its place."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys

import pytest

from hpcimg.cli import main

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Give a function that writes the settings that count here."""
    path = tmp_path / "settings.yaml"
    monkeypatch.setenv("HPCIMG_SETTINGS", str(path))
    for name in (*os.environ,):
        if name.lower().endswith("_proxy") or name.startswith("HPCIMG_CONTAINER_"):
            monkeypatch.delenv(name)

    def write(text):
        path.write_text(text)
        return path

    return write


def show_json(capsys, *words):
    """What `config show --json` prints, the settings by their keys."""
    assert main(["config", "show", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    return {one["key"]: (one["value"], one["source"]) for one in found["settings"]}, found


def test_each_value_has_its_source(settings, capsys):
    """A line of the file, or the default."""
    path = settings("policy: exact\nstore:\n  path: /x\nplatform-features: [a.b]\n")
    found, _ = show_json(capsys)
    assert found["policy"] == ("exact", f"{path}:1")
    assert found["store.path"] == ("/x", f"{path}:3")
    assert found["store.account"] == ("hpcimg", "default")
    assert found["platform_features"] == (["a.b"], f"{path}:4")
    assert found["mount_home"] == (True, "default")


def test_what_the_environment_says_in_place_of_a_setting(settings, capsys, monkeypatch):
    """A user's own variable counts over the file, and is named."""
    path = settings("match: per-node\npull: always\nproxy: http://p:1\nno_proxy: [a]")
    monkeypatch.setenv("HPCIMG_CONTAINER_MATCH", "uniform")
    monkeypatch.setenv("https_proxy", "http://q:2")
    monkeypatch.setenv("no_proxy", "b,c")
    found, _ = show_json(capsys)
    assert found["match"] == ("uniform", "HPCIMG_CONTAINER_MATCH in the environment")
    assert found["pull"] == ("always", f"{path}:2")
    assert found["proxy"] == ("http://q:2", "https_proxy in the environment")
    assert found["no_proxy"] == (["b", "c"], "no_proxy in the environment")


@pytest.mark.parametrize("login", ["u:hush", "u:a@hush", "u:a/hush"], ids=["plain", "at", "slash"])
def test_no_login_is_shown(settings, capsys, monkeypatch, login):
    """Of a proxy only its host is anybody's matter, wherever it stands."""
    settings("proxy: http://u:hush@p:1\nregistries: {a.b: {proxy: 'http://u:hush@q:2'}}")
    assert main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert ("http://***@p:1" in out, "http://***@q:2" in out, "hush" in out) == (True, True, False)
    for url in (f"http://{login}@r:3", f"{login}@r:3"):
        monkeypatch.setenv("https_proxy", url)
        found, _ = show_json(capsys, "proxy")
        value, source = found["proxy"]
        assert source == "https_proxy in the environment"
        assert value.removeprefix("http://") == "***@r:3"


def test_no_login_is_in_an_error(settings, capsys):
    """Whatever stands in a proxy's place is not repeated."""
    settings("proxy: ['http://u:hush@p:1']")
    assert main(["config", "show"]) == 78
    said = capsys.readouterr().err
    assert '"proxy" must be a text\n' in said
    assert "hush" not in said


def test_what_jobs_may_use_is_said_plainly(settings, capsys):
    """Each listed registry with its repositories, and that there are no others."""
    settings("registries:\n  a.b:\n  c.d: {repositories: [x/*, y]}\n  e.f: {repositories: []}")
    assert main(["config", "show"]) == 0
    assert capsys.readouterr().out.endswith(
        "\njobs may use these registries and no other one:\n"
        "  a.b: all repositories\n  c.d: x/*, y\n  e.f: no repository\n"
    )
    _, found = show_json(capsys)
    assert found["allowed"] == {"a.b": None, "c.d": ["x/*", "y"], "e.f": []}
    settings("")
    assert main(["config", "show"]) == 0
    said = capsys.readouterr().out
    assert said.endswith('jobs may use no registry: none is under "registries"\n')


def test_some_keys_alone(settings, capsys):
    """A key with all below it; what is none is refused with the one that was meant."""
    path = settings("aliases: {bench: a.b/q/bench}\nmounts: ['/s/%u:/s:ro']\nregistries: {A.b: }")
    assert main(["config", "show", "aliases", "mounts", "registries.a.b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["KEY", "VALUE", "FROM"],
        ["aliases.bench", "a.b/q/bench", f"{path}:1"],
        ["mounts.0", "/s/%u:/s:ro", f"{path}:2"],
        ["registries.a.b.repositories", "all", f"{path}:3"],
    ]
    assert main(["config", "show", "alias"]) == 2
    assert "'alias' is no setting; did you mean aliases?" in capsys.readouterr().err


def check(*words, **environment):
    """Run `config check` in a process of its own, which root leaves for the account's."""
    argv = [sys.executable, "-m", "hpcimg", "config", "check", *map(str, words)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout.splitlines()


def test_every_mistake_is_found_at_once(settings, tmp_path):
    """What is wrongly written and what means nothing, in the order of the lines."""
    key = tmp_path / "key.pub"
    key.write_text("no key")
    key.chmod(0o644)
    path = settings(
        "policyy: exact\n"
        "default_registry: a.b\n"
        "registries:\n"
        f"  a.b: {{plain_http: 1, ca_file: {tmp_path}/ca.pem}}\n"
        f"  c_d: {{signatures: ['{key}']}}\n"
        "aliases:\n"
        "  bench: e.f/qnib/bench\n"
        "  Tool: a.b/tool\n"
        "  mpi: a.b/mpi:1.0\n"
        "policies:\n"
        "- {targets: [zen33], policy: exact}\n"
        "- {repository: 'g.h/*', policy: exact}\n"
        f"store: {{path: {tmp_path}/none, account: {ME}}}\n"
        "mounts:\n"
        "- /a:/b:suid\n"
        f"- {tmp_path}/missing:/m\n"
        f"- {tmp_path}/missing:/o:optional\n"
        "- /scratch/%u:/scratch\n"
        "apptainer: /nonexistent/apptainer\n"
    )
    code, lines = check()
    found = [line.removeprefix(f"{path}:") for line in lines if not line.startswith("    ")]
    assert code == 78
    assert found == [
        '1: error: "policyy" is no setting; did you mean policy?',
        '4: error: "plain_http" must be true or false, not 1',
        f'4: error: "ca_file": could not read "{tmp_path}/ca.pem": No such file or directory',
        '5: error: "c_d" is no registry\'s host',
        f'5: error: could not use the public key "{key}": it is not one public key in PEM form',
        '7: error: alias "bench" leads to "e.f", which is not under "registries"',
        "8: error: alias 'Tool' stands for no name: none begins so",
        "9: error: alias 'mpi' stands for 'a.b/mpi:1.0', which is not a name",
        "11: error: 'zen33' is no known CPU target; did you mean zen3?",
        '12: warning: "g.h/*" is of "g.h", which is not under "registries"',
        f'13: warning: the store "{tmp_path}/none" is no directory on this machine',
        "15: error: 'suid' is no flag of a mount",
        f'16: warning: "{tmp_path}/missing" is not on this machine: its containers fail',
        '19: warning: "/nonexistent/apptainer" is no program on this machine',
        f"10 errors and 4 warnings in {path}",
    ]
    assert "    add e.f: {} there, or jobs are refused" in lines


def test_warnings_alone_are_no_failure(settings):
    """What may be right on another machine stops nobody."""
    path = settings(f"default_registry: a.b\nstore: {{path: /nonexistent, account: {ME}}}")
    code, lines = check()
    assert code == 0
    assert f"{path}:1: warning: " in lines[0]
    assert lines[-1].endswith(f" warnings in {path}")


def test_an_account_that_is_nobody(settings):
    """Nothing can be kept without it."""
    path = settings("store: {account: nobody-of-this-name}")
    code, lines = check()
    what = 'error: account "nobody-of-this-name" does not exist on this machine'
    assert (code, f"{path}:1: {what}" in lines) == (78, True)


def test_one_file_before_it_is_installed(settings, tmp_path):
    """A named file is looked at alone, whatever counts here."""
    settings("policyy: exact")
    other = tmp_path / "new.yaml"
    other.write_text("a: 1\nb: ]\n")
    code, lines = check(other)
    assert code == 78
    assert lines[0].startswith(f"{other}:2: error: not YAML: ")
    assert lines[-1] == f"1 error in {other}"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files the site's are")
def test_all_files_of_a_site(tmp_path):
    """Each drop-in's mistakes, those that are not safe, and what does not count among them."""
    folder = tmp_path / "settings.d"
    folder.mkdir(mode=0o755)
    (tmp_path / "settings.yaml").write_text("policy: exact\n")
    for name, text in (
        ("a.yaml", "x: 1"),
        ("b.yaml", "pull: newer"),
        ("c.yml", ""),
        ("d.yaml", "]"),
    ):
        (folder / name).write_text(text)
    (folder / "b.yaml").chmod(0o666)
    code = (
        "import sys, pathlib, hpcimg.settings as s; "
        f"s.DEFAULT_PATH = pathlib.Path('{tmp_path}/settings.yaml'); "
        "from hpcimg.cli import main; sys.exit(main(['config', 'check']))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "HPCIMG_SETTINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 78, done.stderr
    assert f'{folder}/a.yaml:1: error: "x" is no setting' in done.stdout
    assert f'{folder}/b.yaml: error: settings file "{folder}/b.yaml" is not safe' in done.stdout
    assert f"{folder}/c.yml: warning: this file does not count" in done.stdout
    assert f"{folder}/d.yaml:1: error: not YAML: " in done.stdout


def test_the_schema_is_printed(capsys):
    """Editors read it from a file beside the settings."""
    assert main(["config", "schema"]) == 0
    assert "aliases" in json.loads(capsys.readouterr().out)["properties"]
