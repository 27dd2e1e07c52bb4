"""What a doctor makes of what was read; the cluster's tests break the real things."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hpcimg.doctor import machine, registry, slurm_conf
from hpcimg.doctor.compare import MARK, compare
from hpcimg.doctor.finding import Finding, Report, is_fit, report_of, rows_of
from hpcimg.doctor.plugin import (
    DEFAULTS,
    HELPERS,
    PluginFacts,
    Program,
    arguments_of,
    judge_plugin,
    judge_pyxis,
    parse_stack,
)
from hpcimg.elf import exported_number

SPANK = Path(__file__).resolve().parents[2] / "spank"
SO = "/usr/local/lib/hpcimg/hpcimg.so"
SLURM = (24 << 16) + (11 << 8) + 5


def facts(line=f"required {SO}", **changes):
    """Give what is read of a plugin that is in order, with some of it changed."""
    known = {
        "file": Program(SO, 0o755),
        "built_for": SLURM,
        "version": "1",
        "slurm": "24.11.7",
        "package": "1",
        "programs": (Program("/x/starter", 0o755),),
    }
    return PluginFacts("plugstack.conf", tuple(parse_stack(line, "p")), **{**known, **changes})


def worst(findings):
    """Give the states and sentences that are not ok."""
    return [(one.state, one.what) for one in findings if one.state != "ok"]


def test_a_plugin_in_order():
    """A patch release of Slurm loads it as well."""
    assert worst(judge_plugin(facts())) == []


@pytest.mark.parametrize(
    ("line", "changes", "state", "what"),
    [
        ("# nothing", {}, "fail", "loads hpcimg.so"),
        (f"optional {SO}", {}, "warn", "says optional"),
        (f"required {SO}\nrequired {SO}", {}, "fail", "p:1 and p:2 both load"),
        (f"required {SO} pin=never", {}, "fail", "'pin=never'"),
        ("required hpcimg.so", {"file": Program("hpcimg.so")}, "warn", "names no directory"),
        (f"required {SO}", {"file": Program(SO)}, "fail", "is not on this machine"),
        (f"required {SO}", {"file": Program(SO, 0o775)}, "fail", "mode 0775"),
        (f"required {SO}", {"file": Program(SO, 0o755, 1000)}, "fail", "belongs to uid 1000"),
        (f"required {SO}", {"slurm": "25.05.1"}, "fail", "is built for Slurm 24.11.5"),
        (f"required {SO}", {"slurm": ""}, "unknown", "could not be found out"),
        (f"required {SO}", {"built_for": None}, "fail", "is it our plugin"),
        (f"required {SO}", {"package": "2"}, "fail", "is of hpcimg 1, the command line of 2"),
        (f"required {SO}", {"programs": (Program("/x/holder"),)}, "fail", "started: /x/holder"),
    ],
)
def test_a_plugin_that_is_not(line, changes, state, what):
    """One thing at a time, and each says what to change."""
    findings = judge_plugin(facts(line, **changes))
    ((found, said),) = worst(findings)
    assert found == state
    assert what in said
    assert all(one.change for one in findings if one.state != "ok")


def test_no_plugstack_conf_at_all():
    """Its place is named."""
    (found,) = judge_plugin(PluginFacts("/etc/slurm/plugstack.conf", None))
    assert found.state == "fail"
    assert "/etc/slurm/plugstack.conf cannot be read" in found.what


def test_arguments_of_a_line_go_before_those_that_were_built_in():
    """And those before ours."""
    (line,) = parse_stack(f"required {SO} libexec=/l", "p")
    found = arguments_of(line, {"libexec": "/built", "python": "/py"})
    assert (found["libexec"], found["python"], found["prefix"]) == ("/l", "/py", "container")


def test_pyxis_beside_ours_with_a_prefix():
    """Then there is no clash; a comment loads nothing."""
    lines = tuple(parse_stack(f"optional spank_pyxis.so\nrequired {SO} prefix=h # x", "p"))
    assert judge_pyxis(lines)[0].state == "ok"
    assert judge_pyxis(tuple(parse_stack("# optional spank_pyxis.so", "p")))[0].state == "ok"


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(90), bytes(100)])
def test_what_is_no_shared_object_exports_nothing(data):
    """Nor does a broken one, whatever stands in it."""
    assert exported_number(data, "plugin_version") is None
    head = b"\x7fELF\x02\x01" + b"\xff" * 58
    assert exported_number(head + data, "plugin_version") is None


def test_slurm_s_configuration_as_scontrol_prints_it():
    """Lists have numbers in their names, and (null) is nothing."""
    text = "Prolog[0]  = /a\nProlog[1] = /b\nPrologFlags = Alloc,X11\nEpilog = (null)\n"
    assert slurm_conf.parse_config(text) == {
        "Prolog": "/a,/b",
        "PrologFlags": "Alloc,X11",
        "Epilog": "",
    }


def test_an_epilog_that_kernel_mounts_need():
    """Without it mounts stay for good, which is worse than a missing record."""
    config = {"PrologFlags": "Contain", "AuthInfo": "cred_expire=600"}
    ours = (slurm_conf.Hook("Prolog", "/x/hpcimg/prolog", is_ours=True),)
    assert [s for s, _ in worst(slurm_conf.judge_config(config, ours, "fuse"))] == ["warn"]
    assert [s for s, _ in worst(slurm_conf.judge_config(config, ours, "kernel"))] == ["fail"]


def test_a_hook_that_cannot_be_read_is_unknown():
    """A site's own prolog may call ours."""
    hooks = tuple(slurm_conf.Hook(kind, "/x", is_ours=None) for kind in ("Prolog", "Epilog"))
    config = {"PrologFlags": "Alloc", "AuthInfo": "cred_expire=600"}
    assert {s for s, _ in worst(slurm_conf.judge_config(config, hooks, "fuse"))} == {"unknown"}


def test_slurm_s_default_credentials_are_short():
    """A site that never wrote AuthInfo has two minutes; no limit of a prolog is no fault."""
    config = {"PrologFlags": "Alloc", "PrologEpilogTimeout": "65534"}
    said = [what for _, what in worst(slurm_conf.judge_config(config, (), "fuse"))]
    assert any("cred_expire is 120 s" in what for what in said)
    assert not any("PrologEpilogTimeout" in what for what in said)


@pytest.mark.parametrize(
    ("switches", "refusal", "state", "change"),
    [
        ({"user/max_user_namespaces": "15000"}, "", "ok", ""),
        ({"user/max_user_namespaces": "0"}, "", "fail", "max_user_namespaces=15000"),
        ({"kernel/unprivileged_userns_clone": "0"}, "no", "fail", "userns_clone=1"),
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "", "ok", ""),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            "no",
            "fail",
            "unprivileged_userns=0",
        ),
        ({}, "unshare failed", "fail", "chroot"),
    ],
)
def test_user_namespaces(switches, refusal, state, change):
    """What a real try says counts most; the switch that forbids them is named."""
    found = machine.judge_namespaces(switches, refusal, is_setuid=False)
    assert found.state == state
    assert change in found.change


def test_fuse_matters_less_where_the_kernel_mounts():
    """Steps need it then only when a mount fails."""
    closed = [machine.judge_fuse(0o600, is_device=True, mount=one) for one in ("fuse", "kernel")]
    assert [one.state for one in closed] == ["fail", "warn"]
    assert machine.judge_fuse(0o644, is_device=False, mount="fuse").what.endswith("is no device")


def test_an_old_apptainer():
    """It cannot mount what hpcimg makes."""
    (found, _) = machine.judge_apptainer(machine.ApptainerFacts("/a", "1.0.3"))
    assert "1.0.3 cannot mount images without setuid" in found.what


def test_directives_of_apptainer_conf():
    """The last one counts; comments and empty values are none that hurt."""
    text = "# mount proc = no\nmount proc = no\nmount proc = yes\nimage driver =\n"
    assert machine.parse_directives(text) == {"mount proc": "yes", "image driver": ""}


@pytest.mark.parametrize(
    ("release", "kinds", "has_loop", "lacks"),
    [
        ("6.1.0-44-amd64", "nodev squashfs", True, "Linux 6.2"),
        ("6.12.1", "ext4", True, "squashfs (modprobe squashfs)"),
        ("6.12.1", "squashfs", False, "/dev/loop-control"),
    ],
)
def test_what_kernel_mounts_lack(release, kinds, has_loop, lacks):
    """One thing at a time."""
    (found,) = machine.judge_kernel_mount(release, kinds, has_loop=has_loop)
    assert found.state == "warn"
    assert lacks in found.what
    assert machine.judge_kernel_mount("6.12", "squashfs", has_loop=True)[0].state == "ok"


@pytest.mark.parametrize(
    ("what", "free", "files", "state"),
    [
        ("store", 10**11, None, "ok"),
        ("store", 10**10, None, "warn"),
        ("store", 10**8, None, "fail"),
        ("store", 10**11, 3, "fail"),
        ("run", 10**8, 10**4, "ok"),
        ("run", 10**7, 10**4, "warn"),
        ("run", 10**5, 10**4, "fail"),
        ("own", 10**10, None, "ok"),
    ],
)
def test_room(what, free, files, state):
    """Each place has needs of its own; without inodes there is no room either."""
    assert machine.judge_space(machine.Space(what, "/p", free, "x", files)).state == state


@pytest.mark.parametrize(
    ("apart", "state", "word"),
    [(1.0, "ok", ""), (-9.0, "warn", "behind"), (90.0, "fail", "ahead"), (None, "unknown", "")],
)
def test_clocks(apart, state, word):
    """Munge bears five minutes; tokens and leases do not."""
    found = machine.judge_clock(apart, "login")
    assert found.state == state
    assert word in found.what


@pytest.mark.parametrize(
    ("status", "has_login", "failure", "state"),
    [
        (200, False, "", "ok"),
        (200, True, "", "ok"),
        (401, False, "", "note"),
        (401, True, "", "fail"),
        (500, False, "", "warn"),
        (0, False, "could not be reached", "fail"),
    ],
)
def test_registries(status, has_login, failure, state):
    """A registry that wants a login is no failure, one that refuses ours is."""
    answered = registry.Answered("r:1", status, failure, "", has_login)
    assert registry.judge_registry(answered).state == state


def test_a_default_registry_that_is_not_listed():
    """A new site without settings is warned; one that lists others made a mistake."""
    assert [one.state for one in registry.judge_listed("docker.io", ())] == ["warn"]
    assert [one.state for one in registry.judge_listed("docker.io", ("r",))] == ["fail"]
    assert list(registry.judge_listed("r", ("r",))) == []


def test_the_same_finding_of_many_machines_is_one_row():
    """Worst first; what failed makes the whole unfit."""
    bad, good = Finding("fuse", "fail", "x", "y"), Finding("fuse", "ok", "z")
    rows = rows_of([Report("a", (good,)), Report("b", (bad,)), Report("c", (good, good))])
    assert [(row.finding, row.hosts) for row in rows] == [(bad, ("b",)), (good, ("a", "c"))]
    assert not is_fit(rows)
    assert is_fit(rows[1:])


def test_a_node_s_words_can_drive_no_terminal():
    """What a node of another version says is kept as far as it is understood."""
    fields = {"host": "a\x1b[2J", "findings": [{"check": "x\n", "state": "new"}, 3], "more": 1}
    report = report_of(fields)
    assert report == Report("a [2J", (Finding("x ", "unknown", ""),))
    assert report_of([]) is None
    assert report_of({"host": 3}) is None
    whole = Report("a", (Finding("x", "ok", "y"),), {"slurm": "24"})
    assert report_of(json.loads(json.dumps(whole.to_fields()))) == whole


def test_what_differs_is_said_of_those_that_are_not_as_most():
    """With both values."""
    reports = [Report(host, (), {"apptainer": "1.4"}) for host in "abc"]
    found = list(compare([*reports, Report("d", (), {"apptainer": "1.3"})]))
    ((host, finding),) = [(one.host, one.findings[0]) for one in found]
    assert host == "d"
    assert finding.what == "apptainer differs: 1.3 here, 1.4 on a"
    assert list(compare(reports)) == []
    assert list(compare(reports[:1])) == []


def marked(host, *seen):
    """Make the report of a machine that saw these marks besides its own."""
    return Report(host, (), {MARK: json.dumps([f"{host}.1", *(f"{one}.1" for one in seen)])})


def test_machines_that_share_a_store_see_each_other_s_marks():
    """The first sees only its own; one that nobody sees and that sees nobody has another store."""
    shared = [marked("a"), marked("b", "a"), marked("c", "b", "a")]
    assert {one.findings[0].state for one in compare(shared)} == {"ok"}
    found = list(compare([*shared, marked("d"), Report("e")]))
    assert [(one.host, one.findings[0].state) for one in found] == [("d", "fail")]
    assert "another store than a" in found[0].findings[0].what


def test_the_doctor_knows_the_plugin_s_arguments_and_programs():
    """Those that the plugin takes, and those that its Makefile installs, where it puts them."""
    code = (SPANK / "plugin.c").read_text("utf-8")
    assert set(re.findall(r'\{"(\w+)=",', code)) == set(DEFAULTS)
    makefile = (SPANK / "Makefile").read_text("utf-8")
    helpers = makefile.partition("\nHELPERS = ")[2].partition("\n")[0].split()
    hooks = re.findall(r"\.\./prolog/(\w+)", makefile.partition("\ninstall: ")[2])
    assert "put,$(BUILD)/client,$(LIBEXEC)/commands," in makefile
    assert {*helpers, *hooks} - {"client"} | {"commands/client"} == set(HELPERS)


def test_the_switch_is_shown_with_its_words():
    """Who wonders why nothing starts is told how to switch it on."""
    assert machine.judge_switch(None, "/off").state == "ok"
    found = machine.judge_switch("until noon", "/off")
    assert (found.state, found.change) == ("warn", "to switch it on: rm /off")
    assert found.what == "hpcimg is switched off: 'until noon'"
    assert machine.judge_switch("", "/off").what == "hpcimg is switched off"


@pytest.mark.parametrize(("owner", "state"), [(None, "note"), (0, "warn"), (980, "ok")])
def test_where_copies_go(owner, state):
    """Login nodes need no such place."""
    assert machine.judge_stage("/var/cache/hpcimg", owner, 980).state == state
