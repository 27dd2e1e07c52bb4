"""The nodes of one job: each with its own build, or all with the best one that all of them run."""

from __future__ import annotations

import json
import shlex

import mishaps
import pytest

pytestmark = pytest.mark.integration

BENCH = "qnib/bench"
PARTS = "qnib/plain-featuretest"
BROADWELL, SKYLAKE = "cpu:broadwell", "cpu:skylake"
GENERIC = "not optimized for a specific microarchitecture"
TWO = ("-N2", "-w", "bdw1,skx1", "--mem=100")
OTHERS = ("-N2", "-w", "bdw1,zen1", "--mem=100")
JOBS = "/srv/hpcimg/store/jobs"


@pytest.fixture(scope="module", autouse=True)
def warmed(cluster):
    """Have the bench's images in the store, so that only the choice differs."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, user="root")
    assert done.returncode == 0, done.stderr


def builds(text):
    """Name the build that each task ran in, sorted."""
    said = [line for line in text.splitlines() if line.startswith(">> ")]
    return sorted(GENERIC if GENERIC in line else line.rsplit(": ", 1)[1] for line in said)


def step(cluster, *words, environment=""):
    """Run the bench in a step of a job of its own."""
    line = shlex.join(["srun", *words, f"--container-image={BENCH}", "bench"])
    return cluster.shell(f"cd; {environment} {line}")


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        pytest.param([*TWO], "", [BROADWELL, SKYLAKE], id="nothing said"),
        pytest.param([*TWO, "--container-match=per-node"], "", [BROADWELL, SKYLAKE], id="per-node"),
        pytest.param([*TWO, "--container-match=uniform"], "", [BROADWELL] * 2, id="uniform"),
        pytest.param(
            [*TWO, "--container-match=uniform-or-fail"], "", [BROADWELL] * 2, id="or fail"
        ),
        pytest.param([*OTHERS, "--container-match=uniform"], "", [GENERIC] * 2, id="two makers"),
        pytest.param(
            [*TWO, "--container-match=uniform", "--export=NONE"],
            "",
            [BROADWELL] * 2,
            id="no export",
        ),
        pytest.param([*TWO], "HPCIMG_CONTAINER_MATCH=uniform", [BROADWELL] * 2, id="variable"),
        pytest.param(
            [*TWO, "--container-match=per-node"],
            "HPCIMG_CONTAINER_MATCH=uniform",
            [BROADWELL, SKYLAKE],
            id="option wins",
        ),
        pytest.param(
            ["-N1", "-w", "skx1", "--container-match=uniform"], "", [SKYLAKE], id="one node"
        ),
    ],
)
def test_what_the_nodes_run(cluster, words, environment, expected):
    """As the command line says, else the variable."""
    done = step(cluster, *words, environment=environment)
    assert builds(done.stdout) == expected, done.stderr
    assert "warning" not in done.stderr


def test_the_first_step_finds_the_ticket(cluster):
    """Also with a word: the prolog asks, the step starts no Python, and neither does the next."""
    inner = "srun bench; srun bench"
    with mishaps.recorded_python(cluster, "skx1"):
        done = cluster.shell(
            f"salloc -Q {shlex.join(TWO)} --container-match=uniform --container-image={BENCH} "
            f"sh -c {shlex.quote(inner)}"
        )
        starts = mishaps.python_starts(cluster, "skx1")
    assert builds(done.stdout) == [BROADWELL] * 4, done.stderr
    assert starts == ["prefetch"]


def test_steps_inherit_and_overrule(cluster):
    """Of salloc and of sbatch, with all, nothing or one thing exported."""
    inner = "srun bench; srun --container-match=per-node bench"
    expected = sorted([BROADWELL] * 3 + [SKYLAKE])
    asked = f"{shlex.join(TWO)} --container-match=uniform"
    done = cluster.shell(f"salloc -Q {asked} --container-image={BENCH} sh -c {shlex.quote(inner)}")
    assert builds(done.stdout) == expected, done.stderr
    for export in ("", "--export=NONE", "--export-file=given"):
        done = cluster.shell(
            f"cd; printf 'A=b\\0' >given; rm -f said; sbatch -Q -W -o said {asked} {export} "
            f"--container={BENCH} --wrap {shlex.quote(inner)}; cat said"
        )
        assert builds(done.stdout) == expected, (export, done.stdout, done.stderr)


def test_the_word_alone_is_inherited(cluster):
    """A job that names no image says how its steps, which do, shall match."""
    inner = f"srun --container {BENCH} bench"
    done = cluster.shell(
        f"salloc -Q {shlex.join(TWO)} --container-match=uniform sh -c {shlex.quote(inner)}"
    )
    assert builds(done.stdout) == [BROADWELL] * 2, done.stderr


def test_a_step_on_one_node_runs_what_its_job_runs(cluster):
    """All nodes of the job count, not the step's, whichever way the step got there."""
    inner = f"srun -N1 -n1 -w skx1 --container {BENCH} bench"
    done = cluster.shell(
        f"salloc -Q {shlex.join(TWO)} --container-match=uniform sh -c {shlex.quote(inner)}"
    )
    assert builds(done.stdout) == [BROADWELL], done.stderr
    granted = cluster.run("salloc", "--no-shell", *TWO)
    job = granted.stderr.split("Granted job allocation ")[1].split()[0]
    try:
        done = step(
            cluster, f"--jobid={job}", "-N1", "-n1", "-w", "skx1", "--container-match=uniform"
        )
    finally:
        cluster.run("scancel", job)
    assert builds(done.stdout) == [BROADWELL], done.stderr


def test_the_batch_script_in_the_image(cluster):
    """The script's own node has the job's image too."""
    done = cluster.shell(
        f"cd; rm -f said; sbatch -Q -W -o said -N2 -w skx1,bdw1 --mem=100 "
        f"--container-match=uniform --container-image={BENCH} --wrap bench; cat said"
    )
    assert builds(done.stdout) == [BROADWELL], done.stderr + done.stdout


def test_components_match_together(cluster):
    """All nodes of a heterogeneous command are one job's; a word of one component is for all."""
    part = ["--mem=100", "-n1", "--container", BENCH]
    first, second = ["-w", "skx1", *part, "bench"], ["-w", "bdw1", *part, "bench"]
    done = cluster.run("srun", "--container-match=uniform", *first, ":", *second)
    assert builds(done.stdout) == [BROADWELL] * 2, done.stderr
    words = ["--container-match=uniform", *first, ":", "--container-match=per-node", *second]
    done = cluster.run("srun", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        'the components of one command differ in --container-match, one says "per-node"'
        in done.stderr
    )


def test_the_site_decides_where_nobody_says(cluster):
    """`match: uniform` in the settings is the default; the command line wins."""
    with mishaps.settings(cluster, match="uniform"):
        assert builds(step(cluster, *TWO).stdout) == [BROADWELL] * 2
        own = step(cluster, *TWO, "--container-match=per-node")
    assert builds(own.stdout) == [BROADWELL, SKYLAKE], own.stderr


@pytest.fixture(scope="module")
def split(cluster):
    """An index whose entries no two of the nodes have in common."""
    name = "qnib/split:latest"
    mishaps.push(
        cluster, name, (f"{PARTS}:cpu-broadwell", "cpu:broadwell"), (f"{PARTS}:generic", "cpu:zen3")
    )
    return name


def test_nothing_in_common_is_refused(cluster, split):
    """Each node says in two lines which node lacks what, and nothing has run."""
    done = cluster.run(
        "srun", *OTHERS, "--container-match=uniform-or-fail", "--container", split, "bench"
    )
    assert (done.returncode, done.stdout) == (125, ""), done.stderr
    for node in ("bdw1", "zen1"):
        said = [line for line in done.stderr.splitlines() if line.startswith(f"hpcimg: {node}: ")]
        assert len(said) == 2, done.stderr
        assert "bdw1,zen1 have no image in common" in said[0]
        assert "needs cpu:broadwell (zen1 is zen3)" in said[0]
        assert "needs cpu:zen3 (bdw1 is broadwell)" in said[0]
        assert "hint: leave each node its own: --container-match=per-node" in said[1]


def test_nothing_in_common_is_told(cluster, split):
    """With `uniform` each node runs its own, and says so in one line."""
    done = cluster.run("srun", *OTHERS, "--container-match=uniform", "--container", split, "bench")
    assert builds(done.stdout) == sorted([BROADWELL, GENERIC]), done.stderr
    for node in ("bdw1", "zen1"):
        said = [line for line in done.stderr.splitlines() if f": {node}: warning: " in line]
        assert len(said) == 1, done.stderr


def test_a_node_without_a_profile(cluster):
    """What it runs nobody knows: a warning, or a refusal."""
    profile = "/srv/hpcimg/store/nodes/skx1.json"
    with mishaps.missing(cluster, "login", profile):
        told = step(cluster, *TWO, "--container-match=uniform")
        refused = step(cluster, *TWO, "--container-match=uniform-or-fail")
    assert builds(told.stdout) == [BROADWELL, SKYLAKE], told.stderr
    assert 'node "skx1" has published no profile' in told.stderr
    assert (refused.returncode, refused.stdout) == (125, "")


def test_the_job_keeps_what_was_agreed(cluster):
    """One record, the account's, of this job; a tag that moves does not split the steps."""
    name = "qnib/moving:latest"
    move = moving(cluster, name)
    inner = (
        f"srun -N1 -n1 -w bdw1 bench; {move}; "
        "srun -N1 -n1 -w skx1 bench; srun -N2 bench; echo job $SLURM_JOB_ID"
    )
    done = cluster.shell(
        f"cd; salloc -Q {shlex.join(TWO)} "
        f"--container-match=uniform --container-image={name} sh -c {shlex.quote(inner)}"
    )
    assert builds(done.stdout) == [BROADWELL] * 4, done.stderr
    records = agreed(cluster, done.stdout.splitlines()[-1].split()[1])
    assert [one["subject"]["nodes"] for one in records] == [["bdw1", "skx1"]] * len(records)


@pytest.mark.parametrize("match", ["uniform", "uniform-or-fail"])
def test_a_job_that_named_no_image_agrees(cluster, match):
    """Nothing is fetched ahead for it, and its steps know it by what the prolog was told."""
    name = f"qnib/moving-{match}:latest"
    move = moving(cluster, name)
    step = f"--container {name} bench"
    inner = (
        f"srun -N1 -n1 -w bdw1 {step}; {move}; srun -N1 -n1 -w skx1 {step}; srun -N2 {step}; "
        "echo job $SLURM_JOB_ID"
    )
    done = cluster.shell(
        f"cd; salloc -Q {shlex.join(TWO)} --container-match={match} sh -c {shlex.quote(inner)}"
    )
    assert builds(done.stdout) == [BROADWELL] * 4, done.stderr
    assert "warning" not in done.stderr
    steps = {one["subject"].get("step") for one in agreed(cluster, done.stdout.split()[-1])}
    assert steps >= {None, "0", "1"}, "a step agreed on nothing"


def test_components_agree(cluster):
    """By the number that they share, though each has one of its own, and one word of all nodes."""
    part = ["--mem=100", "-n1", "--container", BENCH, "sh", "-c", "bench; echo job $SLURM_JOB_ID"]
    words = ["--container-match=uniform-or-fail", "-w", "skx1", *part]
    done = cluster.run("srun", *words, ":", "-w", "bdw1", *part)
    assert builds(done.stdout) == [BROADWELL] * 2, done.stderr
    jobs = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("job ")}
    records = agreed(cluster, min(jobs))
    assert {tuple(one["subject"]["nodes"]) for one in records} == {("bdw1", "skx1")}


def test_without_the_prolog_s_word(cluster):
    """A node that does not know the job's start cannot agree: told, or refused."""
    inner = "srun -N2 --container-match={0} --container qnib/bench bench"
    both = f"{inner.format('uniform')}; {inner.format('uniform-or-fail')}"
    granted = cluster.run("salloc", "--no-shell", *TWO)
    job = granted.stderr.split("Granted job allocation ")[1].split()[0]
    try:
        for node in ("bdw1", "skx1"):
            mishaps.do(cluster, f"rm /run/hpcimg/tickets/{job}/.job", node)
        done = cluster.shell(both.replace("srun", f"srun --jobid={job} -w bdw1,skx1"))
    finally:
        cluster.run("scancel", job)
    assert builds(done.stdout) == [BROADWELL] * 2, done.stderr
    assert "may run different images: the job's cluster or start time" in done.stderr
    assert "hint: start it as a step of its job, on nodes with hpcimg's prolog" in done.stderr


def agreed(cluster, job):
    """Read what a job's nodes have agreed on to run; all of it is the account's."""
    found = mishaps.do(cluster, f"cd {JOBS}/folder; stat -c '%U %a' {job}-1001-*/*.json")
    assert set(found.splitlines()) == {"hpcimg 644"}
    flat = f"cd {JOBS}/folder; for one in {job}-1001-*/*.json; do tr -d '\\n' <$one; echo; done"
    records = [json.loads(line) for line in mishaps.do(cluster, flat).splitlines()]
    return [one for one in records if "tag" not in one["subject"]]


def moving(cluster, name):
    """Push an index; the words that push another one under its name."""
    both = [(f"{PARTS}:generic", ""), (f"{PARTS}:cpu-broadwell", "cpu:broadwell")]
    mishaps.push(cluster, name, *both)
    moved = [(f"{PARTS}:generic", ""), (f"{PARTS}:cpu-skylake", "cpu:haswell")]
    text = "image: {0}\nmanifests:\n" + "".join(
        f"  - image: {image}\n    platform: {{architecture: amd64, os: linux"
        + (f", features: [{words}]}}\n" if words else "}\n")
        for image, words in moved
    ).replace("{", "{{").replace("}", "}}").replace("{{0}}", "{0}")
    done = cluster.shell(f"cd; printf %s {shlex.quote(text.format(name))} >moved.yml")
    assert done.returncode == 0, done.stderr
    return "hpcimg index push moved.yml >/dev/null"


def test_a_bad_word_is_refused_where_it_is_typed(cluster):
    """By srun, sbatch and salloc, before anything is allocated."""
    for command in (["srun"], ["sbatch", "--wrap"], ["salloc"]):
        done = cluster.run(
            command[0], "--container-match=same", f"--container-image={BENCH}", *command[1:], "true"
        )
        assert done.returncode == 1
        assert 'this is no way to match the nodes of a job: "same"' in done.stderr
        assert "hint: write per-node, uniform or uniform-or-fail" in done.stderr


def test_a_bad_variable_holds_up_nobody_else(cluster):
    """A command without image runs; one with an image is told."""
    done = cluster.shell("HPCIMG_CONTAINER_MATCH=same srun -w bdw1 hostname")
    assert (done.returncode, done.stdout) == (0, "bdw1\n")
    done = step(cluster, *TWO, environment="HPCIMG_CONTAINER_MATCH=same")
    assert (done.returncode, done.stdout) == (1, "")


HOSTILE = {
    "newline": ("uniform\nhpcimg: all is well", "uniform?hpcimg: all is well"),
    "quotes": ("uniform\"';touch /tmp/x;'", "uniform\"';touch /tmp/x;'"),
    "long": ("u" * 10000, "u" * 64),
    "option": ("--store=own", "--store=own"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_forged_word_is_refused_on_the_node(cluster, case):
    """What srun never saw reaches the node in the step's environment, and stops there."""
    value, shown = HOSTILE[case]
    forged = shlex.quote(f"--export=ALL,SLURM_HPCIMG_MATCH={value}")
    done = cluster.shell(f"srun -w bdw1 {forged} --container-image={BENCH} bench")
    assert (done.returncode, done.stdout) == (125, ""), done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("hpcimg: bdw1: ")]
    assert said == [
        f'hpcimg: bdw1: could not run "{BENCH}": "{shown}" is no way to match the nodes of a job',
        "hpcimg: bdw1: hint: write per-node, uniform or uniform-or-fail",
    ]


@pytest.mark.parametrize(
    "nodes",
    [
        "../../x",
        "bdw1\nskx1",
        "x" * 70000,
        "n[1-999999999]",
        "x[1-3000][1-3000][1-2]",
        "--store=own",
        "$(id)",
    ],
)
def test_a_forged_list_of_nodes_hurts_its_own_job_alone(cluster, nodes):
    """Refused, told or taken for one node: the store keeps nothing outside of the user's job."""
    once = f"--container-match=uniform --container={PARTS}:generic bench"
    assert builds(cluster.shell(f"srun -N2 -w bdw1,skx1 {once}").stdout) == [GENERIC] * 2
    before = _kept_elsewhere(cluster)
    forged = shlex.quote(f"--export=ALL,SLURM_NODELIST={nodes},SLURM_CLUSTER_NAME=../../../tmp")
    done = cluster.shell(f"srun -N2 -w bdw1,skx1 {forged} {once}")
    assert builds(done.stdout) in ([], [GENERIC] * 2), done.stderr
    assert len(done.stderr.splitlines()) < 12
    assert len(done.stderr) < 3000
    assert _kept_elsewhere(cluster) <= before


def _kept_elsewhere(cluster):
    """Name the store's files of jobs that are not the user's; ended jobs' own may go meanwhile."""
    found = f"find {JOBS} -ignore_readdir_race -path '*-1001-*' -prune -o -print"
    return set(mishaps.do(cluster, f"{found}; ls -A /tmp").splitlines())


def test_without_the_plugin(cluster):
    """`hpcimg srun` and `hpcimg run` match as well."""
    words = ["hpcimg", "srun", *TWO, "--container-match=uniform", "--container", BENCH, "bench"]
    done = cluster.run(*words)
    assert builds(done.stdout) == [BROADWELL] * 2, done.stderr
    done = cluster.shell(
        f"srun {shlex.join(TWO)} hpcimg run --match uniform {BENCH} -- bench; "
        f"HPCIMG_CONTAINER_MATCH=uniform srun {shlex.join(OTHERS)} hpcimg run {BENCH} -- bench"
    )
    assert builds(done.stdout) == sorted([BROADWELL] * 2 + [GENERIC] * 2), done.stderr
