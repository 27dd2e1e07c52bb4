"""Reads what a doctor judges of one machine: Slurm's plugin, Apptainer, the kernel.

Nothing is changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from hpcimg import __version__, slurm_site
from hpcimg.doctor import machine, plugin
from hpcimg.doctor.finding import UNKNOWN, Finding
from hpcimg.doctor.plugin import PluginFacts, Program, StackLine
from hpcimg.elf import exported_number
from hpcimg.errors import RuntimeFailure
from hpcimg.runtime import apptainer, installation
from hpcimg.runtime.packer import SEARCH_PATH, find_packer
from hpcimg.settings import Settings
from hpcimg.store.faults import free_bytes, size_text

_SWITCHES = Path("/proc/sys")
_FUSE = Path("/dev/fuse")
_OFF = Path("/etc/hpcimg/off")
_RUN = Path("/run")
_BUILT = re.compile(
    rb"hpcimg-built version=([^ \0]*) python=([^ \0]+) apptainer=([^ \0]+) libexec=([^ \0]+)\0"
)
_SEARCHED = "binary path"
_DEEPEST = 8
"""Files of plugstack.conf's that include each other are not followed for ever."""

Look = Callable[[], Iterable[Finding]]


class Machine:
    """What one machine is looked at for: the findings so far, and the facts that are compared."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.environment = environment
        self.findings: list[Finding] = []
        self.facts: dict[str, str] = {"hpcimg": __version__}

    def look(self, *parts: tuple[str, Look]) -> None:
        """Read and judge parts by name; what cannot be read is a finding as well."""
        for check, part in parts:
            try:
                self.findings += part()
            except OSError as error:
                what = f"could not look at it: {error.strerror} ({error.filename})"
                self.findings.append(Finding(check, UNKNOWN, what, "run it as root"))

    def switch(self) -> list[Finding]:
        """Look for the file that switches the plugin off."""
        try:
            reason = _OFF.read_text(encoding="utf-8", errors="replace").partition("\n")[0][:200]
        except FileNotFoundError:
            return [machine.judge_switch(None, str(_OFF))]
        return [machine.judge_switch(reason, str(_OFF))]

    def plugin(self) -> list[Finding]:
        """Look at what Slurm loads, which root may read wherever it is."""
        folder = slurm_site.config_folder(self.environment)
        self.facts["slurm"] = slurm_site.slurm_version()
        if folder is None:
            what = "there is no slurm.conf here"
            change = "if this is one of Slurm's machines, name the file in SLURM_CONF"
            return [Finding("slurm", UNKNOWN, what, change)]
        facts = self._plugin_facts(folder)
        oci = folder / "oci.conf"
        return [
            *plugin.judge_plugin(facts),
            *plugin.judge_pyxis(facts.lines or ()),
            *plugin.judge_oci(str(oci), facts.lines or (), is_there=oci.exists()),
        ]

    def _plugin_facts(self, folder: Path) -> PluginFacts:
        stack = slurm_site.plugstack_path(folder)
        try:
            lines = tuple(_lines(stack))
        except OSError:
            return PluginFacts(str(stack), None)
        own = plugin.own_lines(lines)
        if not own:
            return PluginFacts(str(stack), lines)
        file = _program(own[-1].path)
        data = Path(file.path).read_bytes() if file.mode is not None else b""
        built = _BUILT.search(data)
        words = [word.decode(errors="replace") for word in built.groups()] if built else [""]
        known = dict(zip(("python", "apptainer", "libexec"), words[1:], strict=False))
        arguments = plugin.arguments_of(own[-1], known)
        libexec = arguments["libexec"]
        helpers = [_program(f"{libexec}/{name}") for name in plugin.HELPERS]
        self.facts["plugstack"] = " ".join((own[-1].word, own[-1].path, *own[-1].arguments))
        self.facts["plugin"] = _digest([Path(file.path)])
        self.facts["programs"] = _digest([Path(one.path) for one in helpers])
        return PluginFacts(
            str(stack),
            lines,
            file,
            exported_number(data, "plugin_version"),
            words[0],
            self.facts["slurm"],
            __version__,
            (*helpers, *(_program(arguments[name]) for name in ("python", "apptainer"))),
            self.settings.store.account,
        )

    def apptainer(self) -> list[Finding]:
        """Look at Apptainer, what it starts, and whether users may make user namespaces."""
        facts, found = read_apptainer(self.settings.apptainer)
        packer = find_packer(SEARCH_PATH)
        self.facts |= {
            "apptainer": facts.version,
            "squashfs-tools": packer.version if packer else "",
            "merger": _digest([Path(self.settings.merger)]) or "none",
        }
        # Root always may; it is still root where the store's account does not exist.
        refusal = installation.refusal_of_namespaces("nobody" if os.geteuid() == 0 else None)
        switches = {name: _read(_SWITCHES / name) for name in machine.SWITCHES}
        return [
            *machine.judge_apptainer(facts),
            *machine.judge_tools(found, self.settings.mount),
            machine.judge_namespaces(switches, refusal, is_setuid=facts.is_setuid),
        ]

    def kernel(self) -> list[Finding]:
        """Look at the devices and file systems that images are mounted with, and at /run."""
        mount = self.settings.mount
        mode, is_device = installation.device_mode(_FUSE)
        found = [machine.judge_fuse(mode, is_device=is_device, mount=mount)]
        if mount == "kernel":
            has_loop = Path("/dev/loop-control").exists()
            kinds = _read(Path("/proc/filesystems"))
            found += machine.judge_kernel_mount(os.uname().release, kinds, has_loop=has_loop)
        free, files = free_bytes(_RUN), os.statvfs(_RUN).f_favail
        space = machine.Space("run", str(_RUN), free, size_text(free), files)
        return [*found, machine.judge_space(space)]


def read_apptainer(program: str) -> tuple[machine.ApptainerFacts, dict[str, str]]:
    """Read what Apptainer is, and the programs that it and the conversion start."""
    try:
        version = apptainer.version(program)
        read = installation.read_installation(program)
    except RuntimeFailure as error:
        facts = machine.ApptainerFacts(failure=error.message)
        return facts, installation.find_programs(installation.Installation())
    directives = machine.parse_directives(read.text)
    searched = directives.get(_SEARCHED, "").replace("$path", "").strip(":")
    facts = machine.ApptainerFacts(program, version, "", read.is_setuid, read.conf, directives)
    return facts, installation.find_programs(read, searched)


def _lines(stack: Path, depth: int = _DEEPEST) -> Iterator[StackLine]:
    """Read plugstack.conf with what it includes, which may include more."""
    text = stack.read_text(encoding="utf-8", errors="replace")
    for line in plugin.parse_stack(text, str(stack)):
        if line.word != "include":
            yield line
        elif depth:
            for path in slurm_site.included(line.path, stack.parent):
                yield from _lines(path, depth - 1)


def _program(path: str) -> Program:
    try:
        found = Path(path).stat()
    except OSError:
        return Program(path)
    return Program(path, stat.S_IMODE(found.st_mode), found.st_uid)


def _digest(paths: list[Path]) -> str:
    """Name the content of files shortly; empty where one cannot be read."""
    together = hashlib.sha256()
    try:
        for path in paths:
            together.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return ""
    return together.hexdigest()[:12]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
