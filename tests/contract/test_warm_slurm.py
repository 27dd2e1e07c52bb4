"""Warming as an ordinary user, with programs in place of Slurm's: what is asked, what counts."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from test_cli import site  # noqa: F401 - a fixture
from test_cli_warm import slurm  # noqa: F401 - a fixture
from test_convert import write_program

from hpcimg.progress import Progress
from hpcimg.settings import read_settings
from hpcimg.workflow.warm import Hardware, plan
from hpcimg.workflow.warming import Way, fetch_one, warm

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="root's files alone count in another's store"
)
SINFO = 'echo "bdw1 mix 64000"; echo "bdw2 idle 64000"; echo "gpu1 idle 64000"\n'


@pytest.fixture
def asked(slurm):  # noqa: F811
    """A user's warming: this process is not the store's account."""
    return Asked(slurm)


class Asked:
    """Warms `tool` for bdw1 through an srun that the test writes; notes what it is told."""

    def __init__(self, slurm):  # noqa: F811
        self.slurm = slurm
        self.own = read_settings(os.environ)
        self.settings = replace(self.own, store=replace(self.own.store, account="daemon"))
        self.outcomes, self.progress = [], []
        write_program(slurm.bin / "sinfo", SINFO)

    def warm(self, script, hardware=None, **way):
        """Run it with this srun; the outcomes."""
        srun = f'echo "$*" >>{self.slurm.bin}/srun.log\n{script}\n'
        write_program(self.slurm.bin / "srun", srun)
        plans, _ = plan(["tool"], hardware or Hardware(), self.settings)
        warm(
            [variant for each in plans for variant in each.variants],
            self.settings,
            Way(**way),
            on_progress=lambda _, progress: self.progress.append(progress),
            on_outcome=self.outcomes.append,
        )
        return self.outcomes

    def sruns(self):
        """The command lines of srun."""
        log = self.slurm.bin / "srun.log"
        return log.read_text().splitlines() if log.exists() else []


def test_what_counts_is_the_sites_store(asked):
    """A job that did well without an image there is no success, and the reason is guessed."""
    (outcome,) = asked.warm("exit 0")
    assert (outcome.state, outcome.code) == ("failed", 73)
    assert "is not in the site's store" in outcome.said[-1]
    assert "it is private and now in your own store" in outcome.said[-1]


def test_an_image_that_is_there_counts_whatever_the_job_did(asked):
    """An image without `true`, or for another CPU, ends its job badly and is warm all the same."""
    reference = f"{asked.slurm.registry.name}/tool"
    fetch_one(reference, asked.slurm.digests[1], (), "", asked.own, lambda _: None)
    entries = asked.slurm.store.root / "entries"
    entries.rename(f"{entries}.away")
    (outcome,) = asked.warm(f"mv {entries}.away {entries}; exit 132")
    assert (outcome.state, outcome.code) == ("fetched", 0)
    assert outcome.size > 0


def test_what_a_failing_node_said_stays_lines(asked):
    """The node's own two lines, and srun's code where it is one of ours."""
    said = ("hpcimg: bdw1: no space left", "hpcimg: bdw1: hint: make room")
    (outcome,) = asked.warm("".join(f"echo '{line}' >&2\n" for line in said) + "exit 125")
    assert (outcome.said, outcome.code, outcome.state) == (said, 125, "failed")
    asked.outcomes.clear()
    (outcome,) = asked.warm("exit 1")
    assert outcome.code == 125


def test_the_nodes_progress_is_the_users(asked):
    """Its lines are reports, and not what failed."""
    lines = (
        "hpcimg: bdw1: converting registry:5000/tool: 50% of 400.0 MB, 55.0 MB/s, 4 s left",
        "hpcimg: bdw1: registry:5000/tool is ready after 8.3 s: 442.0 MB, zen3 build",
    )
    (outcome,) = asked.warm("".join(f"echo '{line}' >&2\n" for line in lines) + "exit 1")
    assert asked.progress == [Progress("wait"), Progress("convert", 200_000_000, 400_000_000)]
    assert outcome.said == ()


def test_the_job_is_small_and_its_wait_is_bounded(asked):
    """One task on a node that picks the image, by name, in the partition."""
    asked.warm("exit 0", partition="debug", wait=7)
    (srun,) = asked.sruns()
    assert {"--ntasks=1", "--nodelist=bdw1", "--immediate=7", "--partition=debug"} <= {
        *srun.split()
    }
    assert srun.endswith(f"--container-image={asked.slurm.registry.name}/tool:latest true")


def test_no_node_that_takes_jobs(asked):
    """Nothing is started, and it says where to look."""
    write_program(asked.slurm.bin / "sinfo", 'echo "bdw1 drain 64000"\n')
    (outcome,) = asked.warm("exit 0")
    assert (outcome.state, outcome.code, asked.sruns()) == ("failed", 75, [])
    assert outcome.said == (
        "hpcimg: no node of bdw1 takes jobs now: `sinfo --list-reasons` says why",
    )


def test_hardware_that_is_not_there_is_fetched_by_digest_on_the_freest_node(asked):
    """No node would pick it by name."""
    asked.warm("exit 0", Hardware(types=("linux/amd64:skylake_avx512",)))
    (srun,) = asked.sruns()
    assert "--nodelist=bdw2" in srun
    assert srun.endswith(f"tool@{asked.slurm.digests[2]} true")


def test_a_dry_run_asks_slurm_for_no_job(asked):
    """Nor is anything stored."""
    (outcome,) = asked.warm("exit 0", dry_run=True)
    assert (outcome.state, asked.sruns()) == ("planned", [])


def test_a_private_image_is_refused_with_the_reason(asked):
    """The site asks without anybody's login; no job is made that would fill the user's store."""
    asked.slurm.registry.auth = "basic"
    plans, _ = plan(["tool"], Hardware(), asked.settings)
    error = plans[0].error
    assert plans[0].variants == ()
    assert error is not None
    assert "login" in error.message
    assert error.hint == (
        "only the site's images are warmed; a job, or `hpcimg run`, fetches yours for you"
    )
