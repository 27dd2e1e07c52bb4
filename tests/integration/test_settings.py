"""A site's settings on a real cluster: drop-ins, aliases, and what all containers get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mishaps
import pytest

pytestmark = pytest.mark.integration

FOLDER = "/etc/hpcimg/settings.d"
BROADWELL = ">> This container is optimized for: cpu:broadwell\n"
BENCH = "qnib/bench"


@contextmanager
def drop_in(cluster, text: str, name: str = "50-test.yaml") -> Iterator[str]:
    """Settings with a drop-in of this text; its path."""
    path = f"{FOLDER}/{name}"
    mishaps.do(cluster, f"mkdir -p {FOLDER} && cat >{path} <<'END'\n{text}\nEND")
    try:
        yield path
    finally:
        mishaps.do(cluster, f"rm -r {FOLDER}")


@pytest.fixture(scope="module", autouse=True)
def warmed(cluster):
    """Have the bench's images in the site's store."""
    done = cluster.run("hpcimg", "cache", "warm", BENCH, user="root")
    assert done.returncode == 0, done.stderr


def test_a_generic_word_is_an_image(cluster):
    """Everywhere a user writes a name; explain says that an alias was applied, and where it is."""
    with drop_in(cluster, "aliases:\n  bench: registry:5000/qnib/bench") as path:
        done = cluster.shell(
            "srun -w bdw1 --container bench bench;"
            " srun -w bdw1 --container-image=bench:latest bench;"
            " srun -w bdw1 hpcimg run bench -- bench; hpcimg srun -w bdw1 --container bench bench;"
            " hpcimg resolve bench --node bdw1; hpcimg explain bench --node bdw1"
        )
        lines = done.stdout.splitlines()
        assert lines[:4] == [BROADWELL.strip()] * 4, done.stderr
        assert lines[4].startswith("registry:5000/qnib/bench@sha256:")
        words = ["alias", "bench", "->", "registry:5000/qnib/bench", f"({path}:2)"]
        assert words in [line.split() for line in lines]


def test_where_each_value_comes_from(cluster):
    """The main file's values and the drop-in's, and no mistake in either."""
    with drop_in(cluster, "pull: newer\nstore: {keep_hours: 12}") as path:
        done = cluster.shell("hpcimg config show store pull default_registry")
        shown = [tuple(line.split()) for line in done.stdout.splitlines()]
        assert ("store.keep_hours", "12", f"{path}:2") in shown
        assert ("pull", "newer", f"{path}:1") in shown
        assert ("default_registry", "registry:5000", "/etc/hpcimg/settings.yaml:1") in shown
        done = cluster.run("hpcimg", "config", "check", user="root")
        assert done.returncode == 0, done.stdout
        assert done.stdout == f"no mistake in /etc/hpcimg/settings.yaml, {path}\n"


def test_a_wrong_key_stops_a_launch_with_its_line(cluster):
    """Two lines for the step's user, and nothing has run; the check finds all mistakes at once."""
    with drop_in(cluster, "pull: newer\npolicyy: exact\nstore: {lock: soft}") as path:
        done = cluster.shell(f"srun -w bdw1 --container {BENCH} touch ~/wrong-key")
        assert done.returncode == 125
        assert (
            f'hpcimg: bdw1: {path}:2: "policyy" is no setting; did you mean policy?' in done.stderr
        )
        assert cluster.shell("test -e ~/wrong-key").returncode == 1
        done = cluster.run("hpcimg", "config", "check", user="root")
        assert done.returncode == 78
        assert f'{path}:2: error: "policyy" is no setting' in done.stdout
        assert f'{path}:3: error: "lock" is flock or' in done.stdout


def test_a_drop_in_that_others_may_write_is_refused(cluster):
    """Whoever may write it decides what every job runs."""
    with drop_in(cluster, "pull: newer") as path:
        mishaps.do(cluster, f"chmod 0666 {path}")
        done = cluster.shell(f"srun -w bdw1 --container {BENCH} true")
        assert done.returncode == 125
        assert f'settings file "{path}" is not safe' in done.stderr


MOUNTS = """mounts:
- {source: "/srv/hpcimg/a:b,c", target: /site}
- /srv/hpcimg/scratch/%u:/scratch
- /nowhere:/nowhere:optional
- tmpfs:/run/site
- /opt:/host/opt:ro+noexec
environment: {SITE: 'x, "y" %u', PATH: /site/bin:/usr/bin:/bin}
mount_home: false"""
LOOK = (
    'cat /site/file; touch /scratch/mark; echo "$SITE"; echo $PATH; ls /nowhere; pwd;'
    " touch /host/opt/x || ls /home; grep -c /run/site.tmpfs /proc/mounts"
)


@pytest.fixture
def mounted(cluster):
    """A site with mounts and variables for all containers."""
    mishaps.do(
        cluster,
        "mkdir -p '/srv/hpcimg/a:b,c' /srv/hpcimg/scratch/alice && echo of the site "
        "> '/srv/hpcimg/a:b,c/file' && chown alice /srv/hpcimg/scratch/alice",
    )
    with drop_in(cluster, MOUNTS):
        yield
    mishaps.do(cluster, "rm -r '/srv/hpcimg/a:b,c' /srv/hpcimg/scratch")


@pytest.mark.parametrize("way", ["--container qnib/bench", "hpcimg run qnib/bench --"])
def test_a_site_s_mounts_and_variables(cluster, mounted, way):
    """With the plugin and without: any path, of the user's name, read-only, optional."""
    done = cluster.shell(f"cd; srun -w bdw1 {way} sh -c '{LOOK}'")
    assert done.stdout.splitlines() == [
        "of the site", 'x, "y" alice', "/site/bin:/usr/bin:/bin", "/", "1"
    ], done.stderr  # fmt: skip
    assert "/nowhere" in done.stderr
    assert "Read-only file system" in done.stderr
    assert mishaps.do(cluster, "ls /srv/hpcimg/scratch/alice") == "mark\n"


@pytest.mark.parametrize(
    ("home", "mounts"),
    [
        ("--container-mount-home", "--container-mounts=/etc:/scratch --container qnib/bench"),
        ("hpcimg run --mount-home", "--mounts /etc:/scratch qnib/bench --"),
    ],
    ids=["plugin", "run"],
)
def test_what_a_user_wants_counts_over_the_site(cluster, mounted, home, mounts):
    """The home directory, and another mount at the same place."""
    script = 'pwd; cat /scratch/hostname; ls /scratch/mark; echo "$SITE"'
    done = cluster.shell(f"cd; srun -w bdw1 {home} {mounts} sh -c '{script}'")
    assert done.stdout == '/home/alice\nbdw1\nx, "y" alice\n', done.stderr


def test_what_get_says_of_them(cluster):
    """The plugin is told, with the words of the job's user filled in."""
    text = "mounts: ['/scratch/%u/%j:/scratch:nosuid+optional']\nenvironment: {A: b}"
    with drop_in(cluster, f"{text}\nmount_home: false"):
        done = cluster.shell(
            f"setpriv --reuid hpcimg --regid hpcimg --clear-groups "
            f'hpcimg get --job 7 --uid "$(id -u alice)" {BENCH}',
            node="bdw1",
            user="root",
        )
        assert done.stdout.endswith(
            "bind=/scratch/alice/7\t/scratch\tnosuid,optional\nsetenv=A=b\nhome=no\n"
        ), done.stderr


def test_a_prolog_that_fetches_nothing(cluster):
    """The step does it all the same."""
    with drop_in(cluster, "prolog: {prefetch: false}"):
        with mishaps.recorded_python(cluster, "bdw1"):
            done = cluster.shell(f"srun -w bdw1 --container {BENCH} bench")
            assert done.stdout == BROADWELL, done.stderr
            starts = mishaps.python_starts(cluster, "bdw1")
        assert "get" in starts
