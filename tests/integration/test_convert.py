"""What our converter makes is what `apptainer pull` makes, for images made to be nasty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
MAKE_IMAGES = "/usr/local/lib/cluster/images/make_images.py"
NAMES = ("whiteouts", "opaque", "links", "changes", "parents", "outside", "twice", "long-pax",
         "long-gnu", "modes", "sparse", "sparse-0", "members", "plain", "hundred", "empty",
         "zstd", "many",
         )  # fmt: skip
NODE = "bdw1"


def shell(cluster, script, user="alice"):
    """Run a script that must end well; what it printed."""
    done = cluster.shell(script, node=NODE, user=user, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def images(cluster):
    """Push the images, and put the describing script where the user can run it."""
    script = (HERE / "nasty_images.py").read_text()
    place = "/run/nasty_images.py"
    done = cluster.shell(
        f"cat >{place} <<'END'\n{script}END\npython3 {place} {MAKE_IMAGES} registry:5000",
        user="root",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [f"nasty/{name}" for name in NAMES] == done.stdout.split()
    describe = (HERE / "describe_sif.py").read_text()
    shell(cluster, f"mkdir -p ~/nasty; cat >~/nasty/describe.py <<'END'\n{describe}END")
    yield cluster
    shell(cluster, "chmod -R u+rwX ~/nasty; rm -rf ~/nasty ~/.local/share/hpcimg")


def both(cluster, name):
    """Have an image converted in both ways; the two SIFs' paths."""
    pull = "apptainer -q pull --no-https --disable-cache --force"
    script = f"cd ~/nasty; {pull} {name}.sif docker://registry:5000/nasty/{name}; "
    shell(cluster, script)
    said = shell(cluster, f"hpcimg run --dry-run nasty/{name} -- true")
    ours = next(word for word in said.split() if word.endswith("/image.sif"))
    assert ".stream-" in ours, "the fall-back was used"
    return f"~/nasty/{name}.sif", ours


@pytest.mark.parametrize("name", NAMES)
def test_the_tree_is_that_of_apptainer_pull(images, name):
    """Names, types, modes, contents, targets, hard links, times of files, attributes."""
    theirs, ours = both(images, name)
    expected, found = (
        json.loads(shell(images, f"python3 ~/nasty/describe.py {sif}")) for sif in (theirs, ours)
    )
    assert {p: (expected.get(p), found.get(p)) for p in {*expected, *found}
            if expected.get(p) != found.get(p)} == {}  # fmt: skip


def test_environment_runscript_and_labels_are_those_of_apptainer_pull(images):
    """Whatever quotes, dollars and spaces the image's config has."""
    theirs, ours = both(images, "modes")
    for command in (
        "exec {} env | grep -vE '^(APPTAINER|SINGULARITY|PWD|OLDPWD|SHLVL|_=|PS1)' | sort",
        "exec --cleanenv {} sh -c 'echo \"$QUOTED|$PLAIN|$EMPTY|$PATH|$LD_LIBRARY_PATH\"'",
        "exec --env PLAIN=other {} sh -c 'echo \"$PLAIN\"'",
        "run {}",
        "run {} 'one two' \"it's\" '$HOME'",
        "run --env SINGULARITY_NO_EVAL=1 {} 'one two' '$HOME'",
        "shell {} <<<'echo $0; pwd'",
        "test {} >/dev/null",
        "inspect {} | grep -v 'org.label-schema.\\(build-date\\|usage\\)'",
        "inspect --environment {} | grep QUOTED",
    ):
        first, second = (
            images.shell(f"cd /tmp; apptainer -q {command.format(sif)}", node=NODE)
            for sif in (theirs, ours)
        )
        assert (second.returncode, second.stdout) == (first.returncode, first.stdout), command


def test_the_same_image_gives_the_same_bytes(images):
    """Twice, and on another node: nothing of the day or the machine is in it."""
    sums = set()
    for node in (NODE, "skx1", NODE):
        script = (
            "rm -rf ~/.local/share/hpcimg; hpcimg run --dry-run nasty/links -- true >/dev/null; "
            "sha256sum ~/.local/share/hpcimg/store/entries/*/*/image.sif | cut -d' ' -f1"
        )
        done = images.shell(script, node=node)
        assert done.returncode == 0, done.stderr
        sums.add(done.stdout)
    assert len(sums) == 1
