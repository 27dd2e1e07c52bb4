"""What a program that parses a user's bytes can still do when confine has started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import programs
import pytest
from processes import children, is_running

from hpcimg.runtime.confine import bonds, check

pytestmark = pytest.mark.skipif(not programs.has_compiler(), reason="there is no C compiler")
PYTHON = os.path.realpath(shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or "")
MEMORY = 1 << 30


@pytest.fixture(scope="module")
def confine(tmp_path_factory) -> Path:
    """Give the program, on a kernel that can do all that it asks for."""
    path = programs.build_confine(tmp_path_factory.mktemp("confine"))
    can = check(path)
    if not (can["files"] and can["calls"]):
        pytest.skip("this kernel has no Landlock or no seccomp")
    return path


def attempt(confine: Path, code: str, output: Path | None = None, **limits) -> str:
    """Run a line of Python that is confined; what it said."""
    words = bonds(confine, output=output, **{"file": 1000, "memory": MEMORY, **limits})
    done = subprocess.run(
        [*words, PYTHON, "-I", "-S", "-c", code], check=False, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_it_says_what_the_kernel_can_do(confine):
    """For doctor: files, network, calls."""
    assert set(check(confine)) == {"files", "network", "calls"}


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd', 'a')",
        "open('/etc/passwd')",
        "open('STORE/other')",
        "open('STORE/other', 'w')",
        "open('STORE/new', 'w')",
        "open('/proc/self/environ')",
        "import os; os.listdir('STORE')",
        "import os; os.chmod('STORE/other', 0o777)",
        "import os; os.unlink('STORE/other')",
        "import os; os.rename('STORE/image', 'STORE/moved')",
        "import os; os.link('STORE/image', 'STORE/linked')",
        "import os; os.utime('STORE/other')",
        "import socket; socket.socket()",
        "import socket; socket.socketpair()",
        "import os; os.fork()",
        "import os; os.kill(os.getppid(), 0)",
        "import os; os.setsid()",
        "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import resource as r; r.prlimit(PARENT, r.RLIMIT_NOFILE, (9, 9))",
        "import fcntl as f; f.fcntl(1, f.F_SETOWN, PARENT)",
        "import fcntl as f; f.fcntl(1, f.F_SETSIG, 9)",
        "import fcntl as f; f.ioctl(1, 0x8901, b'1234')",
        "import fcntl as f, termios as t; f.ioctl(0, t.TIOCSTI, b'x')",
        "import mmap; mmap.mmap(-1, 1 << 34)",
        "import os; os.memfd_create('x')",
    ],
)
def test_it_cannot(confine, tmp_path, code):
    """Neither read nor change other files, nor reach the network or another process."""
    for name in ("image", "other"):
        (tmp_path / name).write_text("before")
    code = code.replace("STORE", str(tmp_path)).replace("PARENT", str(os.getpid()))
    said = attempt(confine, code, tmp_path / "image")
    assert "PermissionError" in said, said
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "image": "before",
        "other": "before",
    }


@pytest.mark.parametrize(
    "call",
    ["prctl(1, 0)", "unshare(0x10000000)", "ptrace(16, 1, 0, 0)", "mount(0, b'/', 0, 32, 0)"],
)
def test_it_cannot_call(confine, call):
    """Not even take back that it ends with its parent."""
    code = f"import ctypes; c = ctypes.CDLL(None); print(c.{call})"
    assert attempt(confine, code) == "-1\n"


def test_it_can_write_its_output_up_to_a_limit(confine, tmp_path):
    """That file alone, and not more than it was given."""
    image = tmp_path / "image"
    image.touch()
    assert attempt(confine, f"open('{image}', 'w').write('1' * 1000)", image) == ""
    assert image.stat().st_size == 1000
    more = f"f = open('{image}', 'w'); f.write('1' * 1001); f.flush()"
    assert "File too large" in attempt(confine, more, image)
    assert "MemoryError" in attempt(confine, "bytearray(1 << 30)", memory=1 << 28)


def test_it_ends_with_its_parent(confine, tmp_path):
    """However that ends."""
    code = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from hpcimg.runtime.confine import bonds\n"
        "words = bonds(Path(sys.argv[1]), output=None, file=0, memory=1 << 30)\n"
        "subprocess.run([*words, sys.argv[2], '-ISc', 'import time; print(1, flush=True); "
        "time.sleep(600)'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, confine, PYTHON], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"1\n"
        (child,) = children(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        for _ in range(1000):
            if not is_running(child):
                break
            time.sleep(0.01)
        assert not is_running(child)


def test_it_does_not_start_for_a_parent_that_has_ended(confine):
    """Which is who it was told, not who took its place."""
    words = [str(confine), "1", "-", "0", str(MEMORY), "/bin/true"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (done.returncode, "the parent has ended" in done.stderr) == (1, True)
