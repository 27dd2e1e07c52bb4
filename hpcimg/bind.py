"""What is shown inside a container of the node's files: one mount, and its text form.

The form is that of `--container-mounts`, which the plugin's C reads by the same rules; nothing here
looks at a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hpcimg.errors import UsageError
from hpcimg.quoting import is_one_word, quoted

TMPFS = "tmpfs"
"""As a source: an empty directory in memory."""
UMOUNT = "umount"
"""As a source: what the image or the site shows there is taken away."""
OPTIONAL = "optional"
"""The flag of a mount that is left out where its source is missing."""
PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
FLAGS = ("ro", "rw", "nosuid", "nodev", "noexec", *PROPAGATIONS, OPTIONAL)
_HINT = "write SOURCE:TARGET[:FLAG+FLAG], for example /data:/data:ro, or tmpfs:TARGET"


@dataclass(frozen=True)
class Bind:
    """A file or directory of the node, shown at `target` with mount flags as `ro` or `nosuid`.

    `source` is an absolute path, or `tmpfs` for an empty directory in memory.
    """

    source: str
    target: str
    flags: tuple[str, ...] = ()


def parse_binds(text: str, absolute: Callable[[str], str] = str) -> tuple[Bind, ...]:
    """Parse mounts with commas between them; raises UsageError that quotes the wrong one."""
    return distinct(parse_bind(one, absolute) for one in text.split(","))


def parse_bind(text: str, absolute: Callable[[str], str] = str) -> Bind:
    """Parse `SOURCE[:TARGET[:FLAG+FLAG]]`; one path alone is shown at its own place.

    `absolute` gives what a source means that is a path.
    """
    source, *rest = text.split(":")
    if len(rest) > 2 or not source or "" in rest:
        raise UsageError(f"{quoted(text)} is no mount", _HINT)
    if not (rest and source in {TMPFS, UMOUNT}):
        source = absolute(source)
    target = rest[0] if rest else source
    flags = rest[1].split("+") if len(rest) == 2 else ()
    return make_bind(source, target, flags)


def make_bind(source: str, target: str, flags: Iterable[str] = ()) -> Bind:
    """Check the parts of a mount, which as parts may hold any character but a line's end."""
    for path in (source, target):
        if not (path and is_one_word(path)):
            raise UsageError(
                f"{quoted(path)} cannot be mounted: a path is not empty and has no tab or line end",
                _HINT,
            )
    parts = [part for part in target.split("/") if part not in {"", "."}]
    if not target.startswith("/") or not parts or ".." in parts:
        raise UsageError(
            f"mount target {quoted(target)} is no path below / in the container", _HINT
        )
    return Bind(source, "/" + "/".join(parts), _checked(tuple(dict.fromkeys(flags))))


def distinct(binds: Iterable[Bind]) -> tuple[Bind, ...]:
    """Take a mount that is repeated once; two different ones at one place are refused."""
    found: dict[str, Bind] = {}
    for bind in binds:
        other = found.setdefault(bind.target, bind)
        if other != bind:
            raise UsageError(
                f"{quoted(other.source)} and {quoted(bind.source)} are both mounted "
                f"at {quoted(bind.target)}, or with different flags",
                "leave one of them out",
            )
    return tuple(found.values())


def _checked(flags: tuple[str, ...]) -> tuple[str, ...]:
    for flag in flags:
        if flag not in FLAGS:
            raise UsageError(
                f"{quoted(flag)} is no flag of a mount",
                f"with + between them: {', '.join(FLAGS)}",
            )
    for kind in (("ro", "rw"), PROPAGATIONS):
        both = [flag for flag in flags if flag in kind]
        if len(both) > 1:
            raise UsageError(f"the flags of a mount contradict: {both[0]} and {both[1]}", _HINT)
    return flags
