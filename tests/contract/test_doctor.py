"""`hpcimg doctor --store`: two real processes try a directory, and what they saw is judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import call, site  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.settings import StoreSettings, read_settings
from hpcimg.store.owner import current_owner
from hpcimg.store.store import site_store
from hpcimg.store.trial import ROUNDS, Seen, play
from hpcimg.workflow.doctor_store import Trial, confinement, examine

HERE = Path(__file__).parent
# Two tasks of one step, without Slurm.
SRUN = """
echo "$*" >> "{log}"
while [ "${{1#-}}" != "$1" ]; do case $1 in --partition) shift ;; esac; shift; done
python=$1; shift 2  # not isolated: the tests' package is found by PYTHONPATH
SLURM_PROCID=1 "$python" "$@" & SLURM_PROCID=0 "$python" "$@" && wait $!
"""


@pytest.fixture
def ready(site, tmp_path, monkeypatch):  # noqa: F811
    """A site with an empty store, where Slurm starts two processes on this machine."""
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent.parent))
    site.store = site_store(read_settings(os.environ).store)
    site.store.prepare()
    site.bin = tmp_path / "bin"
    site.log = tmp_path / "srun.log"
    write_program(site.bin / "srun", SRUN.format(log=site.log))
    monkeypatch.setenv("PATH", f"{site.bin}:{os.environ['PATH']}")
    return site


def found(capsys, *words):
    """Run the doctor, and give its exit code and what it says to programs."""
    capsys.readouterr()
    code, out, _ = call(capsys, "doctor", "--json", "--store", *words)
    return code, json.loads(out)


def states(said, check):
    """List the states of one check."""
    return [one["state"] for one in said["checks"] if one["check"] == check]


@pytest.fixture
def roles(tmp_path):
    """Play both roles at once in processes of their own; gives what they saw."""
    folder = tmp_path / "trial"
    program = (
        "import json, sys; from pathlib import Path; from hpcimg.store.trial import play; "
        "print(json.dumps(play(Path(sys.argv[1]), int(sys.argv[2]), 'root').to_fields()))"
    )
    env = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder), role], env=env, stdout=subprocess.PIPE
        )
        for role in "01"
    ]
    seen = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert not folder.exists()
    return seen


def test_two_processes_see_all_that_a_good_file_system_does(roles):
    """Every try goes as it must, and each of the raced files was made once."""
    answers = {**roles[0]["answers"], **roles[1]["answers"]}
    useful = ("attributes", "verity")
    assert {name for name, answer in answers.items() if answer is not True} <= {*useful}
    assert set(answers) >= {
        "flock excludes",
        "flock comes back",
        "fcntl excludes",
        "fcntl comes back",
        "rename onto",
        "exclusive",
    }
    for name in ("exclusive", "link"):
        assert roles[0]["wins"][name] + roles[1]["wins"][name] == ROUNDS


def test_a_role_that_fails_lets_the_other_one_go(tmp_path):
    """Nobody waits for minutes, and nothing is left."""
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "failed-0").touch()
    with pytest.raises(Exception, match="the other node could not go on"):
        play(folder, 1, "root")


def test_where_the_account_may_not_write_that_is_said(tmp_path):
    """The error names the directory."""
    with pytest.raises(Exception, match=r'could not try what a store needs in ".*/missing"'):
        play(tmp_path / "missing" / "trial", 0, "root")


def trial(**changes) -> Trial:
    """Make what two nodes saw of a good file system, with some answers changed."""
    tries = "flock here,fcntl here,rename over,open file stays,rename directory,rename onto,fsync"
    names = [*tries.split(","), "attributes", "verity"]
    others = "flock excludes,fcntl excludes,exclusive,link,flock comes back,fcntl comes back"
    first = Seen(0, "bdw1", 0, os.geteuid(), 0.0, dict.fromkeys(names, True))
    second = Seen(1, "skx1", 0, os.geteuid(), 0.0, dict.fromkeys(others.split(","), True))
    first.wins = {"exclusive": ROUNDS, "link": 0}
    second.wins = {"exclusive": 0, "link": ROUNDS}
    for seen in (first, second):
        seen.answers.update({k: v for k, v in changes.items() if k in seen.answers})
    return Trial((first.to_fields(), second.to_fields()), is_between=True)


@pytest.fixture
def judge(tmp_path):
    """Judge a trial of a directory of this user's."""
    root = tmp_path / "store"
    root.mkdir(mode=0o755)
    account = "root" if os.geteuid() == 0 else os.environ["USER"]

    def judged(*trials, lock="flock"):
        health = examine(root, StoreSettings(str(root), account, lock), trials)
        return health, {one.check: one for one in health.findings}

    return judged


def test_all_kinds_are_safe_on_a_good_file_system(judge):
    """The setting is compared with them."""
    health, found_ = judge(trial())
    assert health.safe == ("flock", "fcntl", "link", "none")
    assert found_["lock"].state == "ok"
    assert health.where == "tried between bdw1 and skx1"


@pytest.mark.parametrize(
    ("changes", "safe"),
    [
        ({"flock excludes": False}, ("fcntl", "link", "none")),
        ({"flock here": "Function not implemented"}, ("fcntl", "link", "none")),
        ({"flock comes back": False}, ("fcntl", "link", "none")),
        ({"flock excludes": False, "fcntl here": "Function not implemented"}, ("link", "none")),
    ],
)
def test_a_lock_that_does_not_exclude_is_not_safe(judge, changes, safe):
    """The setting that says so is a failure, another one is none."""
    health, found_ = judge(trial(**changes))
    assert health.safe == safe
    assert not health.is_fit
    assert found_["lock"].what == (
        f"store: {{lock: flock}} is not safe here; safe: {', '.join(safe)}"
    )
    assert judge(trial(**changes), lock="link")[1]["lock"].state == "ok"


def test_one_pair_of_nodes_is_enough_to_refuse(judge):
    """A node with other mount options than the rest spoils the lock for all."""
    assert judge(trial(), trial(**{"flock excludes": False}))[0].safe == ("fcntl", "link", "none")


def test_files_that_two_nodes_made_at_once_are_no_lock(judge):
    """More wins than files: O_EXCL means nothing there."""
    both = trial()
    both.seen[1]["wins"]["exclusive"] = 3
    health, found_ = judge(both, lock="link")
    assert "link" not in health.safe
    assert found_["exclusive"].what.endswith(f"({ROUNDS + 3} of {ROUNDS} were made)")
    assert not health.is_fit


@pytest.mark.parametrize("name", ["rename over", "rename directory", "rename onto", "fsync"])
def test_without_renames_and_syncs_there_is_no_store(judge, name):
    """An entry is whole or absent by these alone, whatever the lock."""
    health, found_ = judge(trial(**{name: False}))
    assert found_[name].state == "fail"
    assert not health.is_fit


@pytest.mark.parametrize("name", ["attributes", "verity", "open file stays"])
def test_what_is_only_useful_fails_nothing(judge, name):
    """It is noted."""
    health, found_ = judge(trial(**{name: False}))
    assert found_[name].state == "note"
    assert health.is_fit


def test_another_uid_on_a_node_is_a_failure(judge):
    """There the account could not write, or somebody else could."""
    both = trial()
    both.seen[1]["account"] = 12345
    health, _ = judge(both)
    assert "has not the same uid everywhere" in str(health.findings)
    assert not health.is_fit


def test_clocks_far_apart_are_a_warning(judge):
    """Ages are compared over hours."""
    both = trial()
    both.seen[1]["clock"] = -60.0
    assert judge(both)[1]["clocks"].state == "warn"


def test_who_else_may_write_the_way_to_the_store_is_a_failure(judge, tmp_path):
    """Whoever may rename a directory above it can put another store there."""
    tmp_path.chmod(0o777)
    health, _ = judge(trial())
    assert f'"{tmp_path}" may be written by others (mode 0777)' in str(health.findings)
    assert not health.is_fit
    tmp_path.chmod(0o1777)
    assert judge(trial())[0].is_fit


def test_a_directory_of_entries_that_others_may_write_is_a_failure(judge, tmp_path):
    """No image of it would be used."""
    place = tmp_path / "store/entries/sha256"
    place.mkdir(parents=True)
    place.chmod(0o777)
    assert f'"{place}" may be written by others' in str(judge(trial())[0].findings)


def test_open_locks_are_a_failure(judge, tmp_path):
    """Who may open a lock may hold it."""
    (tmp_path / "store/locks").mkdir(mode=0o755)
    assert '/locks" is open to others (mode 0755)' in str(judge(trial())[0].findings)


def test_the_doctor_tries_between_two_tasks_of_a_step(ready, capsys):
    """It starts itself through srun, and leaves nothing in the store."""
    code, said = found(capsys, str(ready.store.root), "--partition", "debug")
    assert code == 0, said
    assert said["fit"]
    assert said["lock"] == {"setting": "flock", "safe": ["flock", "fcntl", "link", "none"]}
    assert said["where"].startswith("tried between ")
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 --partition debug" in ready.log.read_text()
    assert list((ready.store.root / "tmp").iterdir()) == []


def test_where_srun_fails_that_is_a_failure(ready, capsys):
    """Two processes here are no substitute for two nodes, and it says so."""
    write_program(ready.bin / "srun", "echo 'srun: error: no nodes' >&2; exit 1\n")
    code, said = found(capsys, str(ready.store.root))
    assert code == 73
    assert "srun: error: no nodes" in str(said["checks"])
    assert states(said, "lock") == ["unknown"]


def test_a_pair_that_could_not_be_tried_makes_no_lock_unsafe(judge):
    """A typing error in --nodes, or a node that is down; what is between the others is known."""
    health, found_ = judge(trial(), Trial(is_between=True, why="srun exited with 1: no such node"))
    assert not health.is_fit
    assert health.safe == ("flock", "fcntl", "link", "none")
    assert (found_["trial"].state, found_["lock"].state) == ("fail", "unknown")


def test_what_both_processes_said_is_said_once(ready, capsys):
    """The reason, then what to look at; not srun's two lines about exit codes."""
    says = "hpcimg: no file appeared\nhpcimg: hint: is it shared?\n"
    end = "srun: error: bdw1: task 0: Exited with exit code 73\n"
    write_program(ready.bin / "srun", f"printf '{says}{says}{end}' >&2; exit 73\n")
    _, said = found(capsys, str(ready.store.root))
    said_of = [one["what"] for one in said["checks"] if one["check"] == "trial"]
    assert said_of[0] == "no file appeared; is it shared?"


@pytest.mark.parametrize("token", ["", "x", "../x", "a/" + current_owner().token("00")])
def test_a_role_takes_no_path(ready, capsys, token):
    """The word becomes a name in the store: it has to be one of ours."""
    words = ("doctor", "--store", str(ready.store.root), "--role", "0", "--token", token)
    capsys.readouterr()
    code, out, said = call(capsys, *words)
    assert (code, out) == (2, "")
    assert said[0] == "hpcimg: a role comes with its doctor's token"


def test_what_is_no_directory_is_no_store(capsys, ready):
    """The first question of a new site."""
    capsys.readouterr()
    code, _, said = call(capsys, "doctor", "--store", str(ready.store.root / "missing"))
    assert code == 73
    assert said[0].endswith('/missing" is no directory')


def test_a_mark_above_the_disk_is_a_warning(judge, tmp_path):
    """Prune would never begin."""
    root = tmp_path / "store"
    settings = StoreSettings(str(root), "root", high_water=10**18)
    assert judge(trial())[0].is_fit
    health = examine(root, settings, (trial(),))
    assert "prune never begins" in str(health.findings)


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("files=yes network=yes calls=yes", "ok", "is kept from other files (Landlock), other sy"),
        ("files=yes network=no calls=yes", "note", "does not keep what parses layers from the net"),
        ("files=no network=yes calls=yes", "warn", "from other files (Landlock); from other sys"),
        ("files=no network=no calls=no", "warn", "by a namespace of its own; from nothing it doe"),
        ("", "warn", "which is not confined"),
    ],
    ids=["all", "no network", "no Landlock", "nothing", "not installed"],
)
def test_it_says_what_the_kernel_keeps_converters_from(tmp_path, said, state, words):
    """A site should know that its nodes are too old for a part of it."""
    if said:
        write_program(tmp_path / "confine", f"printf '%s\\n' {said}")
        write_program(tmp_path / "merger", "true")
    found = confinement(str(tmp_path / "merger"))
    assert (found.check, found.state) == ("confinement", state)
    assert words in found.what
