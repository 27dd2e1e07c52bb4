"""The merger without memory: each allocation in turn fails, and no other tree comes of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import programs
import pytest
from layers import Row, diff_id, run_merger, tar_of

HEADERS = Path("/usr/include/openssl/evp.h"), Path("/usr/include/zlib.h")
pytestmark = pytest.mark.skipif(
    not programs.has_compiler() or not all(header.exists() for header in HEADERS),
    reason="there is no C compiler, or not the headers of OpenSSL and zlib",
)
LIMITS = (10**6, 10**9, 1000)
CALLS = ("calloc", "malloc", "realloc", "strdup", "strndup")
FAILING = """\
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static atomic_long calls;

static bool fails(void)
{
    const char *at = getenv("FAIL_AT");
    bool found = ++calls == (at != NULL ? atol(at) : 0);

    errno = found ? ENOMEM : errno;
    return found;
}

#define WRAP(type, name, parameters, arguments) \\
    type __real_##name parameters; \\
    type __wrap_##name parameters; \\
    type __wrap_##name parameters { return fails() ? NULL : __real_##name arguments; }
WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(char *, strdup, (const char *text), (text))
WRAP(char *, strndup, (const char *text, size_t size), (text, size))
"""
LOWER = [
    Row("kept", "f", "1"), Row("gone"), Row("d", "d"), Row("d/old"), Row("linked", "h", "gone"),
    Row("moved", "d"), Row("moved/x"),
]  # fmt: skip
UPPER = [
    Row(".wh.gone"), Row("d/.wh..wh..opq"), Row("d/new"), Row("moved", "l", "d"),
    Row("moved/more"), Row("hard", "h", "kept"), Row("x" * 150, "l", "y" * 150),
]  # fmt: skip
TWICE = [Row("again"), Row("again", "f", "2")]
"""What makes it read all layers once more."""


@pytest.fixture(scope="module")
def merger(tmp_path_factory) -> Path:
    """Build the program with allocations that fail when they are told to."""
    folder = tmp_path_factory.mktemp("merge")
    (folder / "failing.c").write_text(FAILING)
    sources = [str(path) for path in programs.MERGE.glob("*.c") if path.name != "confine.c"]
    wrapped = [f"-Wl,--wrap={call}" for call in CALLS]
    flags = ["-std=c11", "-O1", "-g", f"-I{programs.MERGE}", *wrapped]
    command = ["gcc", *flags, "-o", "merger", "failing.c", *sources, "-lz", "-lcrypto", "-lpthread"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "merger"


@pytest.mark.parametrize("lower", [LOWER, [*LOWER, *TWICE]], ids=["once", "twice"])
def test_no_other_tree_comes_of_it(merger, lower):
    """It ends with the whole image, or with an error; nothing that was deleted comes back."""
    layers = [tar_of(lower), tar_of(UPPER)]
    whole = run_merger(merger, layers, list(map(diff_id, layers)), LIMITS)
    assert whole.returncode == 0, whole.stderr
    failed = 0
    for at in range(1, 1000):
        done = run_merger(merger, layers, list(map(diff_id, layers)), LIMITS, FAIL_AT=str(at))
        assert done.returncode >= 0, (at, done.returncode)
        if done.returncode == 0:
            assert done.stdout == whole.stdout, at
        failed += done.returncode != 0
        if at > 100 and done.returncode == 0:
            break
    assert failed > 50
