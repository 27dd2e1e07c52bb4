"""`hpcimg doctor` on this machine: real files, a real registry, a Slurm of files and a program."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from registry import Registry
from test_cli import call, site  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.elf import exported_number
from hpcimg.oci.credentials import site_finder
from hpcimg.oci.greeting import greet
from hpcimg.oci.hosts import NOTHING_AROUND
from hpcimg.settings import RegistrySettings
from hpcimg.workflow.doctor import examine_machine

CONFIG = "PrologFlags = Alloc\nAuthInfo = cred_expire=600\nProlog[0] = {0}\nEpilog[0] = {0}\n"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm whose plugstack.conf includes other files, and whose controller answers."""
    folder = tmp_path / "slurm"
    (folder / "plugstack.conf.d").mkdir(parents=True)
    (folder / "slurm.conf").write_text(f"PlugStackConfig={folder}/stack.conf\n")
    (folder / "stack.conf").write_text("include plugstack.conf.d/*.conf\n")
    hook = folder / "hook"
    hook.write_text("#!/bin/sh\n/usr/local/libexec/hpcimg/prolog\n")
    write_program(tmp_path / "bin" / "scontrol", f"cat <<'END'\n{CONFIG.format(hook)}END\n")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return folder


def found(capsys):
    """Run the doctor; its exit code, and the findings by check."""
    capsys.readouterr()
    code, out, err = call(capsys, "doctor", "--json")
    assert out, err
    return code, {one["check"]: one for one in json.loads(out)["checks"]}


def test_a_machine_without_slurm_or_store(site, capsys, monkeypatch):  # noqa: F811
    """What is not there is said with what to change, worst first, and what is fine in one line."""
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    code, out, _ = call(capsys, "doctor")
    lines = out.splitlines()
    assert code == 73
    assert lines[0].split() == ["STATE", "CHECK", "NODES", "FOUND"]
    assert lines[1].startswith("fail")
    assert "cannot be used as the store: there is no store in it" in out
    assert "change: mount the site's file system here" in out
    assert "there is no slurm.conf here" in out
    assert "registry" in lines[-2], out
    assert lines[-2].startswith("in order: ")
    assert lines[-1].startswith("looked at 1: ")


def test_all_of_it_is_shown_on_request(site, capsys, monkeypatch):  # noqa: F811
    """With -v each check has a line."""
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    _, out, _ = call(capsys, "-v", "doctor")
    assert f"{site.registry.name} answers" in out, out
    assert "in order" not in out


def test_included_lines_of_plugstack_conf_are_read(site, slurm, capsys):  # noqa: F811
    """From the file that slurm.conf names; a hook that calls ours is ours."""
    own = slurm / "plugstack.conf.d/hpcimg.conf"
    own.write_text(f"required {slurm}/hpcimg.so\n")
    code, said = found(capsys)
    assert code == 73
    assert said["plugin"]["what"] == f'"{slurm}/hpcimg.so" is not on this machine'
    assert said["prolog"]["state"] == said["epilog"]["state"] == "ok"
    own.write_text("# nothing\n")
    assert f'no line of "{slurm}/stack.conf" loads' in found(capsys)[1]["plugin"]["what"]


def test_included_files_include_others(site, slurm, capsys):  # noqa: F811
    """As Slurm reads them: from beside the file that names them; no circle keeps the doctor."""
    folder = slurm / "plugstack.conf.d"
    (folder / "site").mkdir()
    (folder / "all.conf").write_text("include site/*\n")
    account = json.loads(site.settings.read_text())["store"]["account"]
    line = f"required {slurm}/hpcimg.so account={account}\n"
    (folder / "site" / "own").write_text(line)
    (folder / "site" / ".own").write_text(line)
    code, out, _ = call(capsys, "doctor", "--json")
    said = [one["what"] for one in json.loads(out)["checks"] if one["check"] == "plugin"]
    assert said == [f'"{slurm}/hpcimg.so" is not on this machine'], code
    (folder / "site" / "own").write_text("include own\n")
    assert "loads hpcimg.so" in found(capsys)[1]["plugin"]["what"]


def test_what_cannot_be_read_is_unknown(site, slurm, capsys):  # noqa: F811
    """It hides nothing else."""
    (slurm / "hpcimg.so").mkdir()
    (slurm / "stack.conf").write_text(f"required {slurm}/hpcimg.so\n")
    _, said = found(capsys)
    assert said["plugin"]["state"] == "unknown"
    assert "could not look at it: Is a directory" in said["plugin"]["what"]
    assert said["registry"]["state"] == "ok"


def test_a_controller_that_does_not_answer(site, slurm, capsys, tmp_path):  # noqa: F811
    """That is no failure of this machine."""
    write_program(tmp_path / "bin" / "scontrol", "echo no contact >&2; exit 1\n")
    _, said = found(capsys)
    assert said["slurm"]["state"] == "unknown"
    assert "no contact" in said["slurm"]["what"]


def test_settings_that_cannot_be_parsed_leave_the_rest(site, capsys, monkeypatch):  # noqa: F811
    """Store and registries are then nobody's."""
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    site.settings.write_text("shop: {}\n")
    code, said = found(capsys)
    assert code == 73
    assert "settings.yaml:1: " in said["settings"]["what"]
    assert "fuse" in said
    assert "registry" not in said


def test_an_account_that_is_not_here(site, capsys, tmp_path, monkeypatch):  # noqa: F811
    """It is said, and what else is asked of it ends nothing."""
    monkeypatch.setenv("SLURM_CONF", "/nonexistent/slurm.conf")
    text = json.loads(site.settings.read_text())
    text["store"]["account"] = "hpcimg-nobody"
    text["stage"] = {"path": str(tmp_path)}
    site.settings.write_text(json.dumps(text))
    _, said = found(capsys)
    assert "is not the account's: no copies are kept" in said["stage"]["what"]
    assert said["registry"]["state"] == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")
def test_drop_ins_alone_are_settings(site, tmp_path, monkeypatch):  # noqa: F811
    """They are read as a launch reads them: what an editor leaves there makes no difference."""
    monkeypatch.delenv("HPCIMG_SETTINGS")
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", tmp_path / "main.yaml")
    folder = tmp_path / "main.d"
    folder.mkdir(mode=0o755)
    (folder / "a.yaml").write_text(site.settings.read_text())
    first = examine_machine(os.environ, "1.x.y.z")
    (folder / ".a.yaml").write_text("broken: [")
    again = examine_machine(os.environ, "1.x.y.z")
    assert "the settings can be read" in [one.what for one in first.findings]
    assert first.facts["settings"] == again.facts["settings"]


def test_a_choice_of_nodes_and_all_of_them(capsys):
    """The two contradict each other."""
    for words in (("--nodes", "a"), ("--partition", "p"), ("--store",)):
        code, _, err = call(capsys, "doctor", "--all", *words)
        assert code == 2
        assert "--all goes with no choice of nodes, and not with --store" in err[0]


def test_a_role_needs_its_doctor_s_token(capsys):
    """Nobody starts one by hand, with a path in its token."""
    code, _, err = call(capsys, "doctor", "--role", "node", "--token", "../x")
    assert code == 2
    assert "a role comes with its doctor's token" in err[0]


def test_a_number_that_a_shared_object_exports(tmp_path):
    """Slurm looks for its version there."""
    source = tmp_path / "x.c"
    source.write_text("const unsigned plugin_version = 0x180b05; const char name[] = {1};\n")
    target = tmp_path / "x.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", target, source], check=True)
    assert exported_number(target.read_bytes(), "plugin_version") == 0x180B05
    assert exported_number(target.read_bytes(), "plugin_versio") is None
    assert exported_number(target.read_bytes()[:300], "plugin_version") is None


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize(("secret", "is_good"), [("hush", True), ("old", False)])
def test_the_site_s_login_is_tried(tmp_path, auth, secret, is_good):
    """For a repository that it is for; without one the registry just answers."""
    with Registry(auth=auth, users={"site": "hush"}) as registry:
        file = Path(tmp_path / "auth.json")
        login = base64.b64encode(f"site:{secret}".encode()).decode()
        file.write_text(json.dumps({"auths": {registry.name: {"auth": login}}}))
        file.chmod(0o400)
        listed = {
            registry.name: RegistrySettings(
                plain_http=True, credentials=str(file), readable=("private/*",)
            )
        }
        find = site_finder(listed)
        greeting = greet(registry.name, listed, find, NOTHING_AROUND, "private/x")
        assert greeting.has_login
        assert (greeting.status == 200 and not greeting.failure) == is_good, greeting
        assert "hush" not in repr(greeting)
        anonymous = greet(registry.name, listed, find, NOTHING_AROUND)
        assert (anonymous.status, anonymous.has_login) == (401, False)
        assert anonymous.apart is None or abs(anonymous.apart) < 30


def test_a_registry_that_nobody_runs():
    """The failure is told, and nothing is tried twice."""
    with Registry() as registry:
        name = registry.name
    greeting = greet(
        name, {name: RegistrySettings(plain_http=True)}, lambda *_: None, NOTHING_AROUND
    )
    assert greeting.status == 0
    assert name in greeting.failure
