"""How the doctor asks nodes through Slurm: what it starts, and what it makes of each answer."""

from __future__ import annotations

import json
import os
import time

import pytest
from test_convert import write_program

from hpcimg.workflow.doctor_nodes import ask_nodes

SINFO = """cat <<'END'
bdw1 idle long
bdw1 idle debug*
skx1 alloc debug*
gpu1 plnd gpu
zen1 drain debug*
END
"""
SRUN = """
echo "$*" >>{log}
case "$*" in *--nodelist={broken}*) echo "{words}" >&2; exit 1 ;; esac
for node in {nodes}; do case "$*" in *$node*) cat {folder}/$node ;; esac; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm of programs; `answer` writes what a node prints, `start` what srun does."""

    class Slurm:
        log = tmp_path / "srun.log"

        def answer(self, node, now=None, **fields):
            said = {"host": node, "findings": [], "facts": {}, **fields}
            said["now"] = time.time() if now is None else now
            text = f"Welcome!\nhpcimg-doctor:{json.dumps(said)}\n"
            (tmp_path / node).write_text(text)

        def start(self, nodes="bdw1 skx1 gpu1", broken="nobody", words=""):
            write_program(tmp_path / "bin" / "sinfo", SINFO)
            script = SRUN.format(
                log=self.log, folder=tmp_path, nodes=nodes, broken=broken, words=words
            )
            write_program(tmp_path / "bin" / "srun", script)
            monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

        def argvs(self):
            return [line.split() for line in self.log.read_text().splitlines()]

    return Slurm()


def states(reports):
    """Give the host, state and sentence of the first finding of each report."""
    return [(one.host, one.findings[0].state, one.findings[0].what) for one in reports]


def test_all_nodes_that_take_jobs_are_asked_once_in_a_partition_of_theirs(slurm):
    """In the default one where they are in it, also a node planned for another job.

    What else a job prints does not count.
    """
    for node in ("bdw1", "skx1", "gpu1"):
        slurm.answer(node)
    slurm.start()
    asked = ask_nodes(None, None, "token", {**os.environ, "PYXIS_CONTAINER_IMAGE": "x"})
    assert sorted(one.host for one in asked.reports) == ["bdw1", "gpu1", "skx1"]
    partitions = {word for argv in slurm.argvs() for word in argv if "--partition" in word}
    lists = sorted(word for argv in slurm.argvs() for word in argv if "--nodelist" in word)
    assert partitions == {"--partition=debug", "--partition=gpu"}
    assert lists == ["--nodelist=bdw1,skx1", "--nodelist=gpu1"]
    assert states(asked.silent) == [("zen1", "unknown", "not asked: Slurm has it as drain")]


def test_a_busy_node_is_unknown_and_asked_alone(slurm):
    """The others' answers are there all the same."""
    slurm.answer("bdw1")
    busy = "srun: error: Unable to allocate resources: Requested nodes are busy"
    slurm.start("bdw1", "skx1", busy)
    asked = ask_nodes("bdw1,skx1", None, "token", os.environ)
    assert [one.host for one in asked.reports] == ["bdw1"]
    assert states(asked.silent) == [("skx1", "unknown", "did not become free within 30 s")]
    assert len(slurm.argvs()) == 2


def test_a_node_that_talks_nonsense_did_not_answer(slurm, tmp_path):
    """Its words are quoted."""
    (tmp_path / "bdw1").write_text("hpcimg-doctor:{not json\nhpcimg-doctor:[]\n")
    slurm.start("bdw1")
    asked = ask_nodes("bdw1", None, "token", os.environ)
    ((host, state, what),) = states(asked.silent)
    assert (host, state) == ("bdw1", "fail")
    assert "did not answer: hpcimg-doctor:{not json" in what


def test_a_node_that_slurm_does_not_know(slurm):
    """Nothing is started for it."""
    slurm.start()
    asked = ask_nodes("bdw9", None, "token", os.environ)
    assert states(asked.silent) == [("bdw9", "fail", "Slurm knows no such node")]
    assert not slurm.log.exists()


def test_a_node_s_clock_is_compared_when_its_line_comes(slurm):
    """The line has the node's time at its very end."""
    slurm.answer("bdw1", now=time.time() - 1000)
    slurm.start()
    asked = ask_nodes("bdw1", None, "token", os.environ)
    ((_, state, what),) = states(asked.reports)
    assert state == "fail"
    assert "behind" in what


def test_slurm_that_does_not_answer_is_one_failure(slurm, tmp_path):
    """Nothing can be asked then."""
    slurm.start()
    write_program(tmp_path / "bin" / "sinfo", "echo no contact >&2; exit 1\n")
    asked = ask_nodes(None, None, "token", os.environ)
    assert asked.reports == asked.silent == ()
    assert "no contact" in asked.findings[0].what
