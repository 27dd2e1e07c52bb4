"""Our C sources build where the C library and the kernel's headers are those of EL 8."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import programs
import pytest

pytestmark = pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler")

# glibc 2.28 and Linux 4.18: what came later is as if it were not there.
_FIRST_LATER = 424
_LATER_CALLS = (
    *("close_range", "execveat", "fsmount", "fsopen", "getdents64", "gettid", "mount_setattr"),
    *("move_mount", "open_tree", "pidfd_getfd", "pidfd_open", "pidfd_send_signal", "strlcpy"),
    *("closefrom", "posix_spawn_file_actions_addclosefrom_np", "arc4random", "_Fork"),
)
_EMPTY = ("linux/close_range.h", "linux/mount.h", "linux/openat2.h", "linux/pidfd.h", "sys/pidfd.h")


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    """A folder of headers that go before the machine's own."""
    numbers = subprocess.run(
        ["gcc", "-E", "-dM", "-x", "c", "-include", "sys/syscall.h", "/dev/null"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    listed = [line.split() for line in numbers.splitlines() if line.startswith("#define __NR_")]
    later = [row[1][5:] for row in listed if row[2].isdigit() and int(row[2]) >= _FIRST_LATER]
    assert "pidfd_open" in later
    after = {
        "sys/syscall.h": "".join(f"#undef SYS_{n}\n#undef __NR_{n}\n" for n in later),
        "linux/loop.h": "#undef LOOP_CONFIGURE\n#define loop_config later_loop_config\n",
    }
    texts = {name: f"#include_next <{name}>\n{text}" for name, text in after.items()}
    for name, text in {**texts, **dict.fromkeys(_EMPTY, "")}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("part", ["spank", "merge"])
def test_they_build(headers: Path, part: str) -> None:
    """Without a warning: numbers and structures that are missing are our own."""
    sources = sorted((programs.SPANK.parent / part).glob("*.c"))
    if not Path("/usr/include/slurm/spank.h").exists():
        sources = [one for one in sources if "spank_t" not in one.read_text("utf-8")]
    places = [f'-D{name}="/"' for name in ("LIBEXEC", "PYTHON", "APPTAINER", "VERSION")]
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wundef", "-Werror", "-fsyntax-only"]
    line = ["gcc", *warnings, f"-I{headers}", *places, *sources]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = re.compile(rf"(?<!SYS_)\b({'|'.join(_LATER_CALLS)})\((?!2)")
    assert [one.name for one in sources if calls.search(one.read_text("utf-8"))] == []
