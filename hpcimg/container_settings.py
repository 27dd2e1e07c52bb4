"""What a site puts into all containers, read from its settings: mounts and variables.

`%u`, `%U` and `%j` in them stand for the job's user, its uid and the job: who knows these fills
them in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.bind import OPTIONAL, TMPFS, Bind, distinct, make_bind, parse_bind
from hpcimg.errors import UsageError
from hpcimg.quoting import is_one_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpcimg.sections import SectionReader

WORDS = {"u": "the job's user", "U": "its uid", "j": "the job's number"}
"""What may follow a `%`; `%%` is one."""
_PLACE = re.compile(r"%(.?)", re.DOTALL)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PERCENT = "write %u for the user, %U for the uid, %j for the job, %% for a percent sign"
JOBS_NAMES = frozenset(
    {
        "HOME", "PWD", "OLDPWD", "SHLVL", "_", "USER", "LOGNAME", "USER_PATH", "PS1", "TMPDIR",
        "PROMPT_COMMAND", "APPTAINER_BIND", "SINGULARITY_BIND", "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK",
    }
)  # fmt: skip
JOBS_STARTS = ("SLURM_", "SLURMD_", "PMI_", "PMI2_", "PMIX_", "SPANK_")
"""Variables that are the job's in every container: the joiner takes them from nothing else."""


@dataclass(frozen=True)
class MountSettings:
    """A mount written as a mapping, whose paths may hold what separates them in a text."""

    source: str = ""
    target: str = ""
    flags: tuple[str, ...] = ()
    optional: bool = False


def is_the_jobs(name: str) -> bool:
    """Tell whether a variable is the job's whatever site and image say."""
    return name in JOBS_NAMES or name.startswith(JOBS_STARTS)


def fill(text: str, words: Mapping[str, str]) -> str:
    """Put the words of one job into a text of the settings; KeyError for one that is not known."""
    return _PLACE.sub(lambda found: "%" if found[1] == "%" else words[found[1]], text)


def words_in(text: str) -> frozenset[str]:
    """Name the words that a text needs."""
    return frozenset(found[1] for found in _PLACE.finditer(text)) - {"%"}


def read_mounts(
    reader: SectionReader, value: Any, where: tuple[object, ...] = ("mounts",)
) -> tuple[Bind, ...]:
    """Read a list of texts and mappings."""
    binds: list[Bind] = []
    for at, one in enumerate(reader.sequence(value, where)):
        here = (*where, at)
        try:
            bind = parse_bind(one) if isinstance(one, str) else _from_mapping(reader, one, here)
            _check_mount(bind)
            binds = [*distinct([*binds, bind])]
        except UsageError as error:
            raise reader.error(here, error.message, error.hint) from error
    return tuple(binds)


def _from_mapping(reader: SectionReader, value: Any, at: tuple[object, ...]) -> Bind:
    given = reader.section(value, MountSettings, at)
    flags = reader.words(given.get("flags"), (*at, "flags"))
    extra = (OPTIONAL,) if given.get("optional") else ()
    source = given.get("source", "")
    return make_bind(source, given.get("target", source), (*flags, *extra))


def _check_mount(bind: Bind) -> None:
    if bind.source != TMPFS and not bind.source.startswith("/"):
        message = f"mount source {bind.source!r} is relative to no directory"
        raise UsageError(message, "write a path that begins with /, or tmpfs")
    for path in (bind.source, bind.target):
        _check_words(path)
        if "$" in path:
            raise UsageError(f"{path!r} holds a $, and no shell reads it", _PERCENT)


def _check_words(text: str) -> None:
    unknown = words_in(text) - set(WORDS)
    if unknown:
        raise UsageError(f"{text!r} holds %{min(unknown)}, which stands for nothing", _PERCENT)


def read_environment(
    reader: SectionReader, value: Any, where: tuple[object, ...] = ("environment",)
) -> MappingProxyType[str, str]:
    """Read a mapping of variables to values; numbers are taken as they are written."""
    found: dict[str, str] = {}
    for key, given in reader.mapping(value, where).items():
        here, name = (*where, key), str(key)
        if not VARIABLE.fullmatch(name):
            raise reader.error(here, f"{name!r} is no name of a variable")
        if is_the_jobs(name):
            hint = "leave it out; it is never the site's"
            raise reader.error(here, f'"{name}" is the job\'s own in every container', hint)
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise reader.error(
                here, f'"{name}" must be a text, not {given!r}', "put it into quotes"
            )
        text = given if isinstance(given, str) else reader.written(given, here)
        if not is_one_word(text):
            raise reader.error(here, f'"{name}" holds a tab or a line\'s end')
        try:
            _check_words(text)
        except UsageError as error:
            raise reader.error(here, error.message, error.hint) from error
        found[name] = text
    return MappingProxyType(found)
