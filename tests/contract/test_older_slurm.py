"""The plugin in a Slurm before 23.11, which cannot put words before a command.

Debian 12, which runs these tests, has the headers of 22.05. Its slurmstepd is `stepd.c`; plugin,
starter, holder and joiner are the real ones. Kernels before 5.8 are seen here as well: these are
the tests that have all four without a cluster.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest

_HEADER = Path("/usr/include/slurm/slurm_version.h")
_HERE = Path(__file__).parent
_RUN_BY_NOBODY = "exec unshare --user --mount --map-current-user"
_PYTHON = "#!/bin/sh\nprintf 'image=/image.sif\\nticket=no\\n'\n"


def _release() -> tuple[int, ...]:
    """The Slurm whose headers are here, () for none."""
    text = _HEADER.read_text("utf-8") if _HEADER.exists() else ""
    found = re.search(r"SLURM_VERSION_NUMBER\s+(0x[0-9a-f]+)", text)
    number = int(found[1], 16) if found else 0
    return (number >> 16, number >> 8 & 0xFF) if number else ()


pytestmark = [
    pytest.mark.skipif(not _release(), reason="Slurm's headers are not installed"),
    pytest.mark.skipif(_release() >= (23, 11), reason="Slurm's headers are of 23.11 or later"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmstepd is root's"),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The plugin and its programs, and what stands for Python, Apptainer and Slurm."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        make = ["make", "-s", "-C", programs.SPANK, f"BUILD={place}"]
        subprocess.run([*make, "all", f"{place}/contract"], check=True)
        warnings = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
        for program, *flags in (("stepd", "-rdynamic", "-ldl"), ("oldkernel",)):
            source = [_HERE / f"{program}.c", *flags]
            subprocess.run(["gcc", *warnings, "-o", place / program, *source], check=True)
        apptainer = f"#!/bin/sh\nexport OF_IMAGE=yes\n{_RUN_BY_NOBODY} {place}/holder\n"
        for program, text in (("python", _PYTHON), ("apptainer", apptainer)):
            (place / program).write_text(text)
            (place / program).chmod(0o755)
        yield place


def run(folder: Path, side: str, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """Have Slurm's stand-in call the plugin's hooks."""
    programs_of = [f"{name}={folder}/{name}" for name in ("python", "apptainer")]
    site = ["account=nobody", *programs_of, f"libexec={variables.pop('libexec', folder)}"]
    kernel = variables.pop("kernel", "")
    older = [folder / "oldkernel", kernel] if kernel else []
    return subprocess.run(
        [*older, folder / "stepd", side, folder / "hpcimg.so", *site, "--", *command],
        env={"PATH": "/usr/bin:/bin", **variables},
        stdin=subprocess.DEVNULL,
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


SCRIPT = """
readlink /proc/self/ns/mnt; echo "$OF_IMAGE,$SLURM_HPCIMG_JOIN,$0"; id -u
readlink /proc/self/ns/user; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; exit 7
"""


@pytest.mark.parametrize("kernel", ["", "5.3", "4.18"], ids=["this", "5.3", "4.18"])
def test_tasks_run_inside(folder: Path, kernel: str) -> None:
    """Both tasks join one container by argv[0], with the image's environment and no trace of it."""
    words = ["/bin/sh", "-c", SCRIPT, "a b"]
    done = run(folder, "slurmstepd", *words, SLURM_HPCIMG_IMAGE="any", kernel=kernel)
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1:3] == ["yes,,a b", "65534"]
    assert lines[3] != str(Path("/proc/self/ns/user").readlink())
    assert lines[4:6] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    assert lines[:6] == lines[6:]
    assert lines[0] != str(Path("/proc/self/ns/mnt").readlink())


@pytest.mark.parametrize("kernel", ["", "4.18"], ids=["this", "4.18"])
def test_a_fetch_ends_with_slurmstepd(folder: Path, kernel: str) -> None:
    """Also where no pidfd tells its minder that it has ended, or that nobody waits for it."""
    slow = folder / f"slow{kernel}"
    slow.write_text(f"#!/bin/sh\necho $$ >{folder}/pids/{slow.name}; exec sleep 4716\n")
    slow.chmod(0o755)
    (folder / "pids").mkdir(exist_ok=True)
    (folder / "pids").chmod(0o777)
    older = [folder / "oldkernel", kernel] if kernel else []
    site = ["account=nobody", f"python={slow}", f"apptainer={slow}", f"libexec={folder}"]
    command = [*older, folder / "stepd", "slurmstepd", folder / "hpcimg.so", *site, "--", "true"]
    with subprocess.Popen(command, env={"SLURM_HPCIMG_IMAGE": "any"}, cwd="/") as stepd:
        pid = folder / "pids" / slow.name
        while not (pid.exists() and pid.read_text("ascii").endswith("\n")):
            assert stepd.poll() is None
            time.sleep(0.01)
        end = os.pidfd_open(int(pid.read_text("ascii")))
        stepd.kill()
    assert select.select([end], [], [], 30)[0], "the fetch goes on"
    os.close(end)


def test_a_command_of_the_search_path(folder: Path) -> None:
    """It is looked up inside; Slurm is given the joiner's whole path."""
    done = run(folder, "slurmstepd", "id", "-u", SLURM_HPCIMG_IMAGE="any")
    assert (done.returncode, done.stdout) == (0, "65534\n65534\n"), done.stderr


def test_without_an_image_nothing_is_touched(folder: Path) -> None:
    """The task runs on the host, its words as they were."""
    done = run(folder, "slurmstepd", "/bin/sh", "-c", "readlink /proc/self/ns/mnt; exit 3")
    assert done.returncode == 3
    assert set(done.stdout.split()) == {str(Path("/proc/self/ns/mnt").readlink())}


def test_nothing_runs_on_the_host(folder: Path, tmp_path: Path) -> None:
    """A name that is none is refused, and a joiner that is missing ends the task."""
    refused = run(folder, "slurmstepd", "echo", "ran", SLURM_HPCIMG_IMAGE="a b")
    assert (refused.returncode, refused.stdout) == (125, "")
    assert 'could not run "a b": that is not an image name' in refused.stderr
    missing = run(
        folder, "slurmstepd", "echo", "ran", SLURM_HPCIMG_IMAGE="any", libexec=str(tmp_path)
    )
    assert (missing.returncode, missing.stdout) == (125, "")
    assert f'"{tmp_path}/starter" cannot be started: No such file' in missing.stderr


def test_no_mixture_of_two_releases_runs(folder: Path) -> None:
    """Programs that speak another contract than the plugin are refused, and so are older ones."""
    contract = folder / "contract"
    number = int(contract.read_text("ascii"))
    for text, found in ((f"{number + 1}\n", number + 1), (None, 0)):
        contract.unlink()
        if text:
            contract.write_text(text)
        done = run(folder, "slurmstepd", "echo", "ran", SLURM_HPCIMG_IMAGE="any")
        assert (done.returncode, done.stdout) == (125, "")
        wrong = (
            f'the programs in "{folder}" are of another hpcimg than the plugin: contract {found}'
        )
        assert f"{wrong}, not {number}\n" in done.stderr
        assert "hint: install all of hpcimg on this node" in done.stderr
    contract.write_text(f"{number}\n")


def test_a_forged_variable_is_no_way_in(folder: Path) -> None:
    """What a user puts into the joiner's variable is replaced."""
    forged = {"SLURM_HPCIMG_IMAGE": "any", "SLURM_HPCIMG_JOIN": "0 1 2 touch"}
    done = run(folder, "slurmstepd", "id", "-u", **forged)
    assert (done.returncode, done.stdout) == (0, "65534\n65534\n"), done.stderr


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        pytest.param({"CONTAINER": "any", "MULTI_PROG": "1"}, 1, id="inside"),
        pytest.param({"CONTAINER": "any"}, 0, id="one program"),
        pytest.param({"MULTI_PROG": "1"}, 0, id="on the host"),
        pytest.param({"SLURM_HPCIMG_IMAGE": "none", "MULTI_PROG": "1"}, 0, id="none"),
    ],
)
def test_multi_prog_is_refused(folder: Path, variables: dict[str, str], code: int) -> None:
    """It is refused with an image, and only then: its tasks have other words than the job."""
    done = run(folder, "srun", "-n2", **variables)
    assert done.returncode == code
    refusal = 'this release of Slurm cannot start --multi-prog in "any"'
    assert (refusal in done.stderr) == bool(code), done.stderr
    assert ("HPCIMG_IMAGE=any" in done.stderr) == (not code and "CONTAINER" in variables)


def test_what_is_too_long_is_refused_and_not_cut(folder: Path) -> None:
    """Of a list that is cut a part would be missing without a word, or be another's."""
    many = folder / "many"
    many.write_text(
        "#!/bin/sh\necho image=/image.sif; seq 4000 | sed 's,.*,bind=/usr/lib\\t/lib/&,'\n"
    )
    many.chmod(0o755)
    usual = (folder / "python").rename(folder / "usual")
    many.rename(folder / "python")
    done = run(folder, "slurmstepd", "echo", "ran", SLURM_HPCIMG_IMAGE="any")
    usual.rename(folder / "python")
    assert (done.returncode, done.stdout) == (125, "")
    assert "this node puts more files around an image than a launch can carry" in done.stderr
    twin = run(folder, "srun", "-n2", CONTAINER="any", HPCIMG_CONTAINER_ENV="A" * 20_000)
    assert twin.returncode == 1, twin.stderr
    assert 'this is no name of a variable: "AAAA' in twin.stderr


IN_A_GROUP = """
mkdir -p {place}/group && mount -t cgroup2 none {place}/group || exit 77
step={place}/group/hpcimg-test/job_1/step_0; mkdir -p $step/slurm $step/user
(echo $(exec sh -c 'echo $PPID') >$step/slurm/cgroup.procs; exec "$@"); code=$?
cat $step/slurm/cgroup.procs; echo 1 >$step/cgroup.kill
for i in $(seq 200); do rmdir $step/slurm 2>/dev/null && break; sleep 0.05; done
rmdir $step/user $step {place}/group/hpcimg-test/job_1 {place}/group/hpcimg-test; exit $code
"""


def test_nothing_is_left_in_the_group_of_slurmstepd(folder: Path) -> None:
    """With cgroup/v2 Slurm ends the tasks' groups, and not what an entrypoint has started."""
    usual = (folder / "apptainer").rename(folder / "usual")
    crowd = "for i in $(seq 60); do setsid sleep 4718 </dev/null >/dev/null 2>&1 & done"
    (folder / "apptainer").write_text(f"#!/bin/sh\n{crowd}\n{_RUN_BY_NOBODY} {folder}/holder\n")
    (folder / "apptainer").chmod(0o755)
    site = [f"{name}={folder}/{name}" for name in ("python", "apptainer")]
    stepd = [folder / "stepd", "slurmstepd", folder / "hpcimg.so", "account=nobody", *site]
    script = ["unshare", "-m", "sh", "-c", IN_A_GROUP.format(place=folder), "sh"]
    command = [*script, *stepd, f"libexec={folder}", "--", "echo", "ran"]
    environment = {"PATH": os.environ["PATH"], "SLURM_HPCIMG_IMAGE": "any"}
    done = subprocess.run(
        command, env=environment, cwd="/", check=False, capture_output=True, text=True, timeout=60
    )
    usual.rename(folder / "apptainer")
    if done.returncode == 77:
        pytest.skip("control groups cannot be mounted here")
    assert (done.returncode, done.stdout) == (0, "ran\nran\n"), done.stderr
