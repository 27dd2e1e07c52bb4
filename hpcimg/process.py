"""The only door to child processes: argument vectors, time limits, failures that can be replayed.

It must not know what the programs do.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import pwd
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from hpcimg.errors import RuntimeFailure

ERROR_LINES = 5
"""Last lines of a failed child's error stream that its error quotes."""

_REAP_SECONDS = 2.0
_TIDY_SECONDS = 20.0
_LINES_KEPT = 20
_CHUNK = 1 << 16
_SAID_BYTES = 1 << 20

Argument = str | os.PathLike[str]


class ProcessTimeoutError(RuntimeFailure):
    """The child ran into its time limit and was killed with its whole process group."""


@dataclass(frozen=True)
class Completed:
    """How a child ended: exit status (negative: minus the signal) and its two streams."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(
    argv: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Argument | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
    check: bool = True,
    account: str | None = None,
) -> Completed:
    """Run `argv` to its end and return what it wrote; `timeout` in seconds, `env` None inherits.

    `account` is whom root becomes for it, with that account's groups and no others.

    Raises:
        RuntimeFailure: it could not be started, or `check` and it did not exit with 0.
        ProcessTimeoutError: it ran longer than `timeout`.
    """
    child = _start(argv, env=env, cwd=cwd, account=account)
    done = _talk(argv, child, stdin, timeout)
    if check and done.returncode != 0:
        raise failure(argv, done.returncode, done.stderr)
    return done


def read_output(
    argv: Sequence[Argument], most: int, *, env: Mapping[str, str], timeout: float
) -> bytes:
    """Run `argv` and return what it wrote, which is `most` bytes at most: beyond them it fails.

    For what programs make of foreign files, which may be endless. Raises as `run` does.
    """
    with _bounded_file(most) as file:
        child = _start(argv, env=env, cwd=None, account=None, stdout=file)
        done = _talk(argv, child, b"", timeout)
        if done.returncode != 0:
            raise failure(argv, done.returncode, done.stderr)
        # The child has moved the place of both of us.
        return os.pread(file.fileno(), os.lseek(file.fileno(), 0, os.SEEK_CUR), 0)


def _talk(
    argv: Sequence[Argument], child: subprocess.Popen[bytes], stdin: bytes, timeout: float | None
) -> Completed:
    try:
        stdout, stderr = child.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _kill_group(child)
        message = f"{describe(argv)} did not end within {timeout:g} s"
        raise ProcessTimeoutError(message, "try again, or raise the time limit") from error
    except BaseException:
        _kill_group(child)
        raise
    return Completed(child.returncode, stdout, stderr)


@dataclass(frozen=True)
class Stage:
    """One program of a pipeline, and the descriptors that it gets besides the three streams."""

    argv: Sequence[Argument]
    descriptors: tuple[int, ...] = ()


class Pipeline:
    """Programs that run, each reading what the one before it writes; see `pipeline`."""

    def __init__(self) -> None:
        self._children: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def add(self, stage: Stage, env: Mapping[str, str], *, is_last: bool) -> None:
        """Start the next program."""
        said = _bounded_file()
        before = self._children[-1][0].stdout if self._children else None
        try:
            child = subprocess.Popen(
                [os.fspath(word) for word in stage.argv],
                env=dict(env),
                stdin=subprocess.DEVNULL if before is None else before,
                stdout=subprocess.DEVNULL if is_last else subprocess.PIPE,
                stderr=said,
                pass_fds=stage.descriptors,
                start_new_session=True,
            )
        except OSError as error:
            said.close()
            message = f"could not start {os.fspath(stage.argv[0])!r}: {error.strerror}"
            raise RuntimeFailure(message, "is it installed on this node?") from error
        if before is not None:
            before.close()  # or its writer would not notice the end of its reader
        self._children.append((child, said))

    def returncode(self, number: int) -> int:
        """Wait for one program and tell how it ended, from any thread."""
        return self._children[number][0].wait()

    def is_over(self, seconds: float) -> bool:
        """Wait for all programs, but no longer than this; tell whether they have ended."""
        deadline = time.monotonic() + seconds
        for child, _ in self._children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        return True

    def wait(self, number: int) -> Completed:
        """Wait for one program; what it wrote to its standard output went to the next one."""
        said = self._children[number][1]
        returncode = self.returncode(number)
        said.seek(0)
        return Completed(returncode, b"", said.read().rstrip(b"\0"))

    def kill(self) -> None:
        """End all programs at once; those that have ended stay as they are."""
        for child, _ in self._children:
            if child.poll() is None:
                _kill_group(child)

    def close(self) -> None:
        """End what still runs and let go of the rest."""
        self.kill()
        for child, said in self._children:
            said.close()
            if child.stdout is not None:
                child.stdout.close()


def _bounded_file(size: int = _SAID_BYTES) -> IO[bytes]:
    """Make a file in memory that takes no more than its size, whatever a program writes."""
    descriptor = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return os.fdopen(descriptor, "w+b")


@contextlib.contextmanager
def pipeline(stages: Sequence[Stage], env: Mapping[str, str]) -> Iterator[Pipeline]:
    """Start programs that are joined by pipes; what still runs at the end of the body is killed."""
    running = Pipeline()
    try:
        for number, stage in enumerate(stages, 1):
            running.add(stage, env, is_last=number == len(stages))
        yield running
    finally:
        running.close()


@dataclass(frozen=True)
class Ended:
    """How one of several children ended; `said` are the last lines that nobody took."""

    returncode: int
    said: tuple[str, ...]


def run_several(
    commands: Mapping[str, Sequence[Argument]],
    at_once: int,
    *,
    env: Mapping[str, str],
    on_start: Callable[[str], None],
    on_line: Callable[[str, str], bool],
    on_end: Callable[[str, Ended], None],
) -> None:
    """Run commands, named by their keys, `at_once` of them at a time; one that fails stops none.

    `on_line` is told each line of both streams, and says whether it took it. What is raised here,
    such as KeyboardInterrupt, interrupts all children, and waits until they have tidied up.
    """
    waiting = list(commands)
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                while waiting and len(selector.get_map()) < at_once:
                    name = waiting.pop(0)
                    on_start(name)
                    try:
                        talker = _Talker(name, commands[name], env)
                    except RuntimeFailure as error:
                        on_end(name, Ended(-1, (error.message,)))
                        continue
                    selector.register(talker.output, selectors.EVENT_READ, talker)
                for key, _ in selector.select():
                    if not key.data.read(on_line):
                        selector.unregister(key.fileobj)
                        on_end(key.data.name, key.data.end())
        except BaseException:
            _interrupt([key.data for key in selector.get_map().values()])
            raise


class _Talker:
    """A child whose streams are read as one, line by line."""

    def __init__(self, name: str, argv: Sequence[Argument], env: Mapping[str, str]) -> None:
        self.name = name
        self._rest = b""
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        try:
            self.child = subprocess.Popen(
                [os.fspath(word) for word in argv],
                env=dict(env),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            message = f"could not start {os.fspath(argv[0])!r}: {error.strerror}"
            raise RuntimeFailure(message, "is it installed on this node?") from error
        assert self.child.stdout is not None  # noqa: S101 - it is a pipe
        self.output: IO[bytes] = self.child.stdout

    def read(self, on_line: Callable[[str, str], bool]) -> bool:
        """Take what there is; False at the end."""
        chunk = os.read(self.output.fileno(), _CHUNK)
        *lines, self._rest = (self._rest + (chunk or b"\n")).split(b"\n")
        self._rest = self._rest[-_CHUNK:]
        for line in lines:
            text = line.decode(errors="replace")
            if text.strip() and not on_line(self.name, text):
                self._said.append(text)
        return bool(chunk)

    def end(self) -> Ended:
        """Tell how it ended."""
        self.output.close()
        return Ended(self.child.wait(), tuple(self._said))


def _interrupt(talkers: Sequence[_Talker]) -> None:
    """Interrupt as Ctrl-C does, so that nothing half-made stays; kill what does not end."""
    for talker in talkers:
        talker.child.send_signal(signal.SIGINT)
    for talker in talkers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            talker.child.communicate(timeout=_TIDY_SECONDS)
        _kill_group(talker.child)


def replace(argv: Sequence[Argument], env: Mapping[str, str]) -> NoReturn:
    """Become `argv`: same process, so exit code, signals and streams are the program's own."""
    words = [os.fspath(word) for word in argv]
    try:
        os.execvpe(words[0], words, dict(env))  # noqa: S606 - an argument vector, no shell
    except OSError as error:
        message = f"could not start {words[0]!r}: {error.strerror}"
        raise RuntimeFailure(message, f"is {words[0]!r} installed on this node?") from error


def describe(argv: Sequence[Argument]) -> str:
    """Quote the command so that it can be pasted into a shell."""
    return shlex.join(os.fspath(word) for word in argv)


def failure(argv: Sequence[Argument], returncode: int, stderr: bytes) -> RuntimeFailure:
    """Build the error for a child that failed: how it ended, what it said, how to replay it."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    said = "; ".join(lines[-ERROR_LINES:]) or "it said nothing"
    name = os.path.basename(os.fspath(argv[0]))  # noqa: PTH119 - argv[0] is text, not a path to open
    return RuntimeFailure(f"{name} {_ending(returncode)}: {said}", f"replay: {describe(argv)}")


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"exited with {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal has no name
        return f"was killed by signal {-returncode}"


def _start(
    argv: Sequence[Argument],
    *,
    env: Mapping[str, str] | None,
    cwd: Argument | None,
    account: str | None,
    stdout: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    pipe: int | IO[bytes] = subprocess.PIPE
    identity = {} if account is None else _identity(account)
    try:
        return subprocess.Popen(
            [os.fspath(word) for word in argv],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=pipe,
            stdout=stdout or pipe,
            stderr=pipe,
            start_new_session=True,
            **identity,
        )
    except OSError as error:
        message = f"could not start {os.fspath(argv[0])!r}: {error.strerror}"
        raise RuntimeFailure(message, "is it installed on this node?") from error


def _identity(account: str) -> dict[str, Any]:
    try:
        entry = pwd.getpwnam(account)
    except KeyError as error:
        raise RuntimeFailure(
            f'the account "{account}" does not exist on this machine',
            "create it, or correct store: {account: ...} in the settings",
        ) from error
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child with all it started; a grandchild would keep the pipes open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    # A child stuck in a driver does not die; its reaping is not worth our caller's time limit.
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=_REAP_SECONDS)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
