"""Judges Slurm's plugstack.conf and what it loads: our plugin, its programs, and Pyxis.

It must not know how a file is found or read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hpcimg.doctor.finding import FAIL, NOTE, OK, UNKNOWN, WARN, Finding
from hpcimg.quoting import quoted

OURS = "hpcimg.so"
PYXIS = "spank_pyxis.so"
DEFAULTS = MappingProxyType(
    {
        "account": "hpcimg",
        "prefix": "container",
        "python": "/opt/hpcimg/bin/python",
        "apptainer": "/usr/bin/apptainer",
        "libexec": "/usr/local/libexec/hpcimg",
        "pin": "submit",
    }
)
"""The plugin's arguments, and what counts where neither plugstack.conf nor its build says more."""
PINS = ("submit", "start", "always")
HELPERS = (
    *("starter", "holder", "joiner", "mounter", "finder", "saver", "hider", "commands/client"),
    *("prolog", "epilog"),
)
"""What is in the plugin's libexec; root starts all but the two that are in the container."""

_BUILD = "make -C spank install"
_HOST = "steps that ask for an image run on the host"


@dataclass(frozen=True)
class StackLine:
    """One plugin of plugstack.conf: `required` or `optional`, its path and arguments."""

    word: str
    path: str
    arguments: tuple[str, ...]
    place: str

    @property
    def name(self) -> str:
        """Name the file."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Program:
    """What is known of a file that is to be there; `mode` None: it is not, `uid` is its owner."""

    path: str
    mode: int | None = None
    uid: int = 0

    @property
    def is_safe(self) -> bool:
        """Whether root alone decides what is in it."""
        return self.mode is not None and self.uid == 0 and not self.mode & 0o022


@dataclass(frozen=True)
class PluginFacts:
    """What was read: `stack` is plugstack.conf's path, `lines` are those of it and its includes.

    `built_for` is the plugin's Slurm version as its number, `version` the package's that it came
    with, `slurm` the version of this machine's Slurm, as `24.11.5`.
    """

    stack: str
    lines: tuple[StackLine, ...] | None
    file: Program = Program("")
    built_for: int | None = None
    version: str = ""
    slurm: str = ""
    package: str = ""
    programs: tuple[Program, ...] = ()
    account: str = "hpcimg"


def parse_stack(text: str, place: str) -> Iterator[StackLine]:
    """Read lines of plugstack.conf; an `include` has the pattern as its path."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1 and words[0] in {"required", "optional", "include"}:
            yield StackLine(words[0], words[1], tuple(words[2:]), f"{place}:{number}")


def own_lines(lines: Iterable[StackLine]) -> list[StackLine]:
    """Give the lines that load our plugin."""
    return [line for line in lines if line.name == OURS]


def arguments_of(line: StackLine, built: Mapping[str, str] = DEFAULTS) -> dict[str, str]:
    """Give what the plugin's arguments come to; `built` are its own defaults."""
    given = dict(word.partition("=")[::2] for word in line.arguments)
    return {**DEFAULTS, **built, **{key: text for key, text in given.items() if key in DEFAULTS}}


def judge_plugin(facts: PluginFacts) -> list[Finding]:
    """Say whether Slurm loads our plugin here, and whether it can do its work."""
    if facts.lines is None:
        what = f"{facts.stack or 'plugstack.conf'} cannot be read: {_HOST}"
        return [Finding("plugin", FAIL, what, _line_wanted(facts.stack))]
    own = own_lines(facts.lines)
    if not own:
        what = f'no line of "{facts.stack}" loads {OURS}: {_HOST}'
        return [Finding("plugin", FAIL, what, _line_wanted(facts.stack))]
    found = [*_line(own), *_file(own[-1], facts), *_programs(facts.programs)]
    if all(one.state in {OK, NOTE} for one in found):
        what = f"{own[-1].path} is built for Slurm {_version(facts.built_for)} and required"
        return [Finding("plugin", OK, what), *found]
    return found


def judge_pyxis(lines: Sequence[StackLine]) -> list[Finding]:
    """Say whether Pyxis takes our options' names."""
    pyxis = [line for line in lines if line.name == PYXIS]
    own = own_lines(lines)
    if not pyxis:
        return [Finding("pyxis", OK, "Pyxis is not loaded")]
    if own and arguments_of(own[-1])["prefix"] != "container":
        what = f"Pyxis is loaded too ({pyxis[0].place}); ours are --{_prefix(own)}-image and so on"
        return [Finding("pyxis", OK, what)]
    what = f"Pyxis is loaded too ({pyxis[0].place}): both want --container-image, the first gets it"
    change = "give ours other names, `hpcimg.so prefix=hpc` makes --hpc-image, or take Pyxis out"
    return [Finding("pyxis", FAIL, what, change)]


def judge_oci(path: str, lines: Sequence[StackLine], *, is_there: bool) -> list[Finding]:
    """Say whether Slurm has a container runtime of its own, from which our plugin saves names."""
    if not is_there:
        return [Finding("oci.conf", OK, "Slurm has no oci.conf")]
    change = f"remove {path}, unless users run OCI bundles by their path"
    if own_lines(lines):
        what = f'"{path}" gives paths after --container to a runtime of Slurm\'s own'
        return [Finding("oci.conf", WARN, what, change)]
    what = f'"{path}" gives names and paths after --container to a runtime of Slurm\'s own'
    return [Finding("oci.conf", FAIL, what, change)]


def _prefix(own: Sequence[StackLine]) -> str:
    return arguments_of(own[-1])["prefix"]


def _line_wanted(stack: str) -> str:
    place = stack or "plugstack.conf beside slurm.conf"
    return f"write `required /usr/local/lib/hpcimg/{OURS}` into {place} on this machine"


def _line(own: Sequence[StackLine]) -> Iterator[Finding]:
    line = own[-1]
    if len(own) > 1:
        what = f"{own[0].place} and {line.place} both load {OURS}"
        yield Finding("plugin", FAIL, what, "keep one of the lines")
    if line.word != "required":
        what = f"{line.place} says {line.word}: where it does not load, {_HOST}"
        yield Finding("plugin", WARN, what, "write `required` there")
    for word in line.arguments:
        key, is_pair, value = word.partition("=")
        if not is_pair or key not in DEFAULTS:
            what = f"{line.place} has the unknown argument {quoted(word)}"
            yield Finding("plugin", FAIL, what, f"the plugin knows {', '.join(DEFAULTS)}")
        elif key == "pin" and value not in PINS:
            what = f"{line.place} has {quoted(word)}"
            yield Finding("plugin", FAIL, what, f"pin={'|'.join(PINS)}")


def _file(line: StackLine, facts: PluginFacts) -> Iterator[Finding]:
    account = arguments_of(line)["account"]
    if account != facts.account:
        what = f"{line.place} names the account {quoted(account)}, the settings {facts.account!r}"
        yield Finding("plugin", FAIL, what, "write the same account= and store: {account: ...}")
    if "/" not in line.path:
        what = f"{line.place} names no directory: what Slurm's PluginDir has was not looked at"
        yield Finding("plugin", WARN, what, "write its whole path there")
        return
    if facts.file.mode is None:
        what = f'"{line.path}" is not on this machine'
        yield Finding("plugin", FAIL, what, f"install it: {_BUILD}")
        return
    if not facts.file.is_safe:
        yield _unsafe("plugin", facts.file)
    yield from _build(line, facts)


def _build(line: StackLine, facts: PluginFacts) -> Iterator[Finding]:
    if facts.built_for is None:
        what = f'"{line.path}" does not say for which Slurm it was built: is it our plugin?'
        yield Finding("plugin", FAIL, what, f"install it again: {_BUILD}")
        return
    built = _version(facts.built_for)
    if not facts.slurm:
        what = f"{OURS} is built for Slurm {built}; which Slurm is here could not be found out"
        yield Finding("plugin", UNKNOWN, what, "is slurmd, scontrol or srun installed?")
    elif built.split(".")[:2] != facts.slurm.split(".")[:2]:
        what = f"{OURS} is built for Slurm {built}, this machine has {facts.slurm}: it cannot load"
        change = f"build it again with the headers of Slurm {facts.slurm}: {_BUILD}"
        yield Finding("plugin", FAIL, what, change)
    if facts.version and facts.version != facts.package:
        what = f"{OURS} is of hpcimg {facts.version}, the command line of {facts.package}"
        yield Finding("plugin", FAIL, what, f"install both from one release: {_BUILD}")


def _programs(programs: Iterable[Program]) -> Iterator[Finding]:
    missing = [one.path for one in programs if one.mode is None or not one.mode & 0o001]
    if missing:
        what = f"cannot be started: {', '.join(missing)}"
        change = f"install hpcimg and Apptainer ({_BUILD}), or name them in plugstack.conf"
        yield Finding("programs", FAIL, what, change)
    else:
        yield Finding("programs", OK, "what the plugin starts is there")
    for one in programs:
        if one.mode is not None and not one.is_safe:
            yield _unsafe("programs", one)


def _unsafe(check: str, file: Program) -> Finding:
    what = f'"{file.path}" belongs to uid {file.uid} (mode {(file.mode or 0) & 0o7777:04o})'
    change = f"root starts it: chown root {file.path} && chmod go-w {file.path}"
    return Finding(check, FAIL, what, change)


def _version(number: int | None) -> str:
    """Write Slurm's number as people do: 24.11.5."""
    if number is None:
        return "unknown"
    return f"{number >> 16 & 255}.{number >> 8 & 255:02d}.{number & 255}"
