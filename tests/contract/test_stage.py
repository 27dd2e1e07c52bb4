"""What the plugin passes on of a stage's words, which go to the user's srun and slurmd's log."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from programs import SPANK

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler"),
    pytest.mark.skipif(
        not Path("/usr/include/slurm/spank.h").exists(), reason="there are no Slurm headers"
    ),
]
DRIVER = """\
#include "stage.c"
#include <stdarg.h>

void slurm_spank_log(const char *format, ...)
{
    va_list words;

    va_start(words, format);
    (void)vprintf(format, words);
    va_end(words);
    (void)putchar('\\n');
}

int main(void)
{
    static struct line line;
    char text[4096];

    for (ssize_t count; (count = read(0, text, sizeof(text))) > 0;)
        say(&line, text, (size_t)count);
    say(&line, "\\n", 1);
    return 0;
}
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """Pass a stage's words on; the lines that come of them."""
    folder = tmp_path_factory.mktemp("stage")
    (folder / "driver.c").write_text(DRIVER)
    files = ("driver.c", str(SPANK / "common.c"), str(SPANK / "asker.c"))
    flags = ("-std=c11", "-fsanitize=address,undefined", f"-I{SPANK}", "-D_GNU_SOURCE")
    subprocess.run(["gcc", *flags, "-o", "driver", *files], cwd=folder, check=True)

    def call(words):
        done = subprocess.run([folder / "driver"], input=words, stdout=subprocess.PIPE, check=True)
        return done.stdout.split(b"\n")[:-1]

    return call


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (b"one\ntwo\n\n", [b"one", b"two"]),
        (b"a\x1b[31mb\x07\rc\x7f", [b"a[31mbc"]),
        (b"a\xc2\x9b31mb \x9bc", [b"a\xc231mb c"]),
        ("Größe: 3 µs, 日本, é".encode(), ["Größe: 3 µs, 日本, é".encode()]),
        (b"x" * 1500, [b"x" * 1023, b"x" * 477]),
    ],
    ids=["lines", "controls", "others' controls", "letters", "long"],
)
def test_a_terminal_is_not_driven(stage, words, shown):
    """Whole lines of characters that it shows, whatever their language."""
    assert stage(words) == shown


def test_a_log_is_not_flooded(stage):
    """Of very many lines a few go out, however a user makes them."""
    began = time.time()
    found = stage(b"x\n" * 1_000_000)
    assert 0 < len(found) <= 200 * (time.time() - began + 2)
