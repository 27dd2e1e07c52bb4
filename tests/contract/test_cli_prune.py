"""`hpcimg cache prune` and `rm`, with Slurm's programs in place of Slurm."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest
from test_cli import call, site  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.cli import main
from hpcimg.errors import RuntimeFailure
from hpcimg.settings import read_settings
from hpcimg.slurm import LiveJobs, live_jobs
from hpcimg.store.store import site_store

DAY = 86_400.0
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a site's settings belong to root")


@pytest.fixture
def slurm(site, tmp_path, monkeypatch):  # noqa: F811
    """A site of the cluster `folder`, where job 7 lives, and runs the generic image since 40 d."""
    monkeypatch.setattr("hpcimg.settings.DEFAULT_PATH", site.settings)
    site.bin = tmp_path / "bin"
    site.config = "ClusterName = folder\\nPrivateData             = none\\n"
    write_program(site.bin / "scontrol", f"printf '{site.config}'\n")
    write_program(site.bin / "squeue", "echo 7\n")
    monkeypatch.setenv("PATH", f"{site.bin}:{os.environ['PATH']}")
    site.store = site_store(read_settings({}).store)
    site.get = lambda job, cluster="folder", at=0: main(
        ["get", "--job", job, "--cluster", cluster, "--uid", "1", f"tool@{site.digests[at]}"]
    )
    assert site.get("7") == 0
    age(site.store, 40)
    return site


def age(store, days):
    """Let all that is in the store be older."""
    before = time.time() - days * DAY
    for path in (*store.root.glob("leases/*/*/*"), *store.root.glob("entries/*/*")):
        os.utime(path, (before, before))


def leases(store):
    """Name the leases."""
    return sorted(path.name for path in store.root.glob("leases/*/*/*"))


def pruned(capsys, *words):
    """Run prune, and give what it says to programs."""
    capsys.readouterr()
    code, out, _ = call(capsys, "cache", "prune", "--json", *words)
    assert code == 0
    return json.loads(out)


def test_a_live_job_keeps_its_image(slurm, capsys):
    """Its age is nothing against the lease."""
    said = pruned(capsys, "--older", "1d")
    assert said["removed"] == []
    assert [one["in_use"] for one in said["kept"]] == ["job 7 of folder"]
    assert leases(slurm.store) == ["folder~7~1"]


def test_the_lease_of_a_job_that_slurm_forgot_is_dropped(slurm, capsys):
    """The image was in use until about now: the next prune of that kind removes it, a day later."""
    write_program(slurm.bin / "squeue", "exit 0\n")
    said = pruned(capsys, "--older", "1d")
    assert [one["job"] for one in said["leases_dropped"]] == ["7"]
    assert said["removed"] == []
    assert leases(slurm.store) == ["used"]
    age(slurm.store, 2)
    said = pruned(capsys, "--older", "1d")
    assert [(one["digest"], one["why"]) for one in said["removed"]] == [
        (slurm.digests[0], "not used for long")
    ]
    assert slurm.store.entries() == ()
    assert leases(slurm.store) == []


def test_a_lease_newer_than_slurm_s_answer_counts(slurm, capsys):
    """A job that started after Slurm was asked is not taken for one that has ended."""
    assert slurm.get("8") == 0
    assert pruned(capsys, "--older", "1d")["leases_dropped"] == []
    assert leases(slurm.store) == ["folder~7~1", "folder~8~1"]


@pytest.mark.parametrize("cluster", ["other", ""])
def test_another_cluster_s_lease_counts_for_a_month(slurm, capsys, cluster):
    """This cluster's Slurm does not know its jobs."""
    assert slurm.get("9", cluster) == 0
    age(slurm.store, 29)
    assert pruned(capsys)["leases_dropped"] == []
    age(slurm.store, 31)
    (dropped,) = pruned(capsys)["leases_dropped"]
    assert (dropped["cluster"], dropped["job"]) == (cluster or "_", "9")


@pytest.mark.parametrize(
    ("program", "text", "why"),
    [
        ("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1", "squeue exited with 1"),
        ("squeue", "echo 7 no-number", "could not read what squeue and scontrol say"),
        ("scontrol", "exit 0", "could not read what squeue and scontrol say"),
    ],
)
def test_while_slurm_does_not_say_all_leases_are_kept(slurm, capsys, program, text, why):
    """And the output says so."""
    write_program(slurm.bin / program, text + "\n")
    said = pruned(capsys, "--older", "1d")
    assert said["note"].startswith(f"all leases are kept: {why}")
    assert (said["removed"], said["leases_dropped"]) == ([], [])
    capsys.readouterr()
    _, out, _ = call(capsys, "cache", "prune", "--older", "1d")
    assert f"all leases are kept: {why}" in out


def test_a_dry_run_changes_nothing(slurm, capsys):
    """It says what would go."""
    write_program(slurm.bin / "squeue", "exit 0\n")
    assert slurm.get("7", at=1) == 0
    (slurm.store.root / "leases").rename(slurm.store.root / "aside")
    age(slurm.store, 2)
    said = pruned(capsys, "--keep-bytes", "1", "--dry-run")
    assert said["dry_run"]
    assert {one["digest"] for one in said["removed"]} == set(slurm.digests[:2])
    assert len(slurm.store.entries()) == 2


def test_what_went_is_a_table(slurm, capsys):
    """For people: digest, size, last use, reason and names, then the sums."""
    write_program(slurm.bin / "squeue", "exit 0\n")
    pruned(capsys)
    age(slurm.store, 2)
    capsys.readouterr()
    code, out, _ = call(capsys, "cache", "prune", "--older", "36h")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["DIGEST", "SIZE", "LAST", "USED", "WHY", "REFERENCE"]
    assert "not used for long" in lines[1]
    assert lines[2].startswith("removed 1 images, ")
    assert lines[3] == "0 stay, 0 B; 0 of them in use"


def test_settings_are_the_limits(slurm, capsys):
    """A timer needs no options."""
    document = json.loads(slurm.settings.read_text())
    document["store"] |= {"max_age_days": 10, "keep_hours": 1}
    slurm.settings.write_text(json.dumps(document))
    write_program(slurm.bin / "squeue", "exit 0\n")
    pruned(capsys)
    age(slurm.store, 11)
    assert [one["why"] for one in pruned(capsys)["removed"]] == ["not used for long"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--older", "1y"), "argument --older: an age is a number of days, or a text such as 12h"),
        (("--high", "2X"), "argument --high: a size is a number of bytes, or a text such as 500G"),
        (("--low", "2T"), "there is no high water mark, at which removing begins"),
        (("--high", "1T", "--low", "2T"), "the low water mark is above the high one, at which"),
    ],
)
def test_wrong_limits_are_refused(slurm, capsys, words, said):
    """Nothing is removed by a guess."""
    capsys.readouterr()
    code, _, errors = call(capsys, "cache", "prune", *words)
    assert code == 2
    assert errors[0].startswith(f"hpcimg: {said}")
    assert len(slurm.store.entries()) == 1


def test_private_jobs_are_asked_for_as_root(slurm):
    """An account that sees only its own jobs would take all others for ended."""
    config = slurm.config.replace("none", "accounts,jobs")
    write_program(slurm.bin / "scontrol", f"printf '{config}'\n")
    assert live_jobs(os.environ, is_root=True) == LiveJobs("folder", frozenset({"7"}))
    with pytest.raises(RuntimeFailure, match=r"other users' jobs .* \(PrivateData=jobs\)"):
        live_jobs(os.environ, is_root=False)


@pytest.mark.parametrize(
    ("program", "name"),
    [("squeue", "SQUEUE_USERS"), ("squeue", "SQUEUE_PARTITION"), ("scontrol", "SLURM_CLUSTERS")],
)
def test_an_administrator_s_variables_hide_no_job(slurm, capsys, monkeypatch, program, name):
    """Slurm's own variables narrow its answers: jobs that they hide would count as ended."""
    monkeypatch.setenv(name, "mine")
    path = slurm.bin / program
    write_program(path, f'[ -z "${name}" ] || exit 0\n' + path.read_text().partition("\n")[2])
    assert pruned(capsys, "--older", "1d")["note"] == ""
    assert leases(slurm.store) == ["folder~7~1"]


@pytest.mark.parametrize("words", [("prune",), ("rm", "tool")])
def test_a_user_is_refused(slurm, capsys, monkeypatch, words):
    """Before Slurm is asked, and with the account's name."""
    document = json.loads(slurm.settings.read_text())
    document["store"] |= {"account": "daemon"}
    write_program(slurm.bin / "scontrol", "exit 1\n")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder, "settings.yaml")
        settings.write_text(json.dumps(document))
        monkeypatch.setenv("HPCIMG_SETTINGS", str(settings))
        os.setresuid(54321, 54321, 0)
        try:
            capsys.readouterr()
            code, out, said = call(capsys, "cache", *words)
        finally:
            os.setresuid(0, 0, 0)
    assert (code, out) == (73, "")
    assert said == [
        f'hpcimg: only daemon and root remove images from "{slurm.store.root}"',
        "hpcimg: hint: run it as root, or as daemon",
    ]


@pytest.mark.parametrize("way", ["digest", "short", "name"])
def test_rm_removes_what_was_named(slurm, capsys, way):
    """By digest, by the beginning of one, by the name that was asked for."""
    write_program(slurm.bin / "squeue", "exit 0\n")
    digest = slurm.digests[0]
    word = {"digest": digest, "short": digest[7:19], "name": f"tool@{digest}"}[way]
    capsys.readouterr()
    code, out, _ = call(capsys, "cache", "rm", word)
    assert code == 0
    assert out.startswith(f"removed {digest}  ")
    assert slurm.store.entries() == ()


def test_rm_leaves_what_a_job_holds(slurm, capsys):
    """It names the job; nothing of the rest is removed either."""
    assert slurm.get("", at=1) == 0
    capsys.readouterr()
    code, out, said = call(capsys, "cache", "rm", *slurm.digests[:2])
    assert (code, out) == (73, "")
    assert said == [
        f"hpcimg: {slurm.digests[0]} is in use: job 7 of folder",
        "hpcimg: hint: wait for its jobs, or remove it all the same with --force: they may fail",
    ]
    assert len(slurm.store.entries()) == 2


def test_rm_by_force_warns_and_removes(slurm, capsys, caplog):
    """Whoever insists is told whose image it was."""
    capsys.readouterr()
    assert call(capsys, "cache", "rm", "--force", slurm.digests[0])[0] == 0
    assert f"removing {slurm.digests[0]}, which is in use: job 7 of folder" in caplog.text
    assert slurm.store.entries() == ()


def test_rm_of_nothing_says_so(slurm, capsys):
    """A name that the store has not is no success."""
    capsys.readouterr()
    code, _, said = call(capsys, "cache", "rm", "nosuch:1")
    assert code == 66
    assert said[0] == "hpcimg: the store has no image 'nosuch:1'"
    assert len(slurm.store.entries()) == 1


def test_what_is_kept_of_old_jobs_goes(slurm, capsys):
    """All of it, with how many there were; a job that still runs keeps what it agreed on."""
    folders = [slurm.store.root / "jobs" / name for name in ("folder/7-1-1", "x/7-1-1", "x/8-1-1")]
    ended = slurm.store.root / "jobs/folder/9-1-1"
    for folder in (*folders, ended):
        (folder / "steps").mkdir(parents=True)
    before = time.time() - 31 * DAY
    for folder in (*folders, ended):
        os.utime(folder, (before, before))
        if folder != ended:
            os.utime(folder / "steps", (before, before))
    assert pruned(capsys, "--dry-run")["jobs"] == 2
    assert folders[1].exists()
    assert main(["cache", "prune"]) == 0
    assert "\nwhat was kept of jobs from more than 30 days ago: 2\n" in capsys.readouterr().out
    assert [folder.exists() for folder in (*folders, ended)] == [True, False, False, True]
