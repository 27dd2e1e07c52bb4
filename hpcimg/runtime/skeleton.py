"""The files that Apptainer expects in every image: what the image's config says, as scripts.

Pure: config in, texts out. They have the meaning of those that `apptainer pull` makes; a test
compares both at run time.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOME = ".singularity.d"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = "#!/bin/sh\n"
_LABEL = "org.label-schema."
_GO_ESCAPES = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
    '"': r"\"", "\\": r"\\",
}  # fmt: skip

_ENVIRONMENT = """\
for file in /.singularity.d/env/*.sh; do
    [ ! -f "$file" ] || . "$file"
done
"""
_LIBRARIES = """\
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/.singularity.d/libs"
PS1="${PS1:-Apptainer> }"
export LD_LIBRARY_PATH PS1
"""
_USER_PATH = """\
PATH="${SING_USER_DEFINED_PREPEND_PATH:+$SING_USER_DEFINED_PREPEND_PATH:}$PATH"
PATH="$PATH${SING_USER_DEFINED_APPEND_PATH:+:$SING_USER_DEFINED_APPEND_PATH}"
PATH="${SING_USER_DEFINED_PATH:-$PATH}"
unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
export PATH
"""
_RUN = """\
[ -x /.singularity.d/runscript ] && exec /.singularity.d/runscript "$@"
echo "this image has no runscript: running /bin/sh" >&2
exec /bin/sh "$@"
"""
_SHELL_ACTION = """\
[ -n "$SINGULARITY_SHELL" ] && [ -x "$SINGULARITY_SHELL" ] && exec $SINGULARITY_SHELL "$@"
if [ -x /bin/bash ]; then
    export SHELL=/bin/bash PS1="Apptainer $APPTAINER_NAME:\\\\w> "
    exec /bin/bash --norc "$@"
fi
export SHELL=/bin/sh
exec /bin/sh "$@"
"""
# What starts an instance waits for this signal.
_START = f"kill -CONT 1\n{_ENVIRONMENT}exec /.singularity.d/startscript\n"
_TEST = """\
[ -x /.singularity.d/test ] && exec /.singularity.d/test "$@"
echo "this image has no test"
exec /bin/sh -c true
"""
_RUNSCRIPT = """\
if [ -n "$SINGULARITY_NO_EVAL" ]; then
    # As OCI has it: arguments take the command's place, and the shell reads none of them.
    {default}{entrypoint}exec "$@"
fi
# As Apptainer has it: all words go through the shell once more.
words=
for word in "$@"; do
    words="$words \\"$word\\""
done
[ $# -gt 0 ] || words="$OCI_CMD"
eval "set -- $OCI_ENTRYPOINT $words"
exec "$@"
"""


@dataclass(frozen=True)
class ImageConfig:
    """What is used of an image's config; `created` in whole seconds since the epoch."""

    architecture: str
    created: int
    diff_ids: tuple[str, ...]
    settings: Mapping[str, Any]

    def words(self, key: str) -> list[str]:
        """Give a setting that is a list of words: Env, Entrypoint, Cmd."""
        found = self.settings.get(key) or []
        return [str(word) for word in found] if isinstance(found, list) else [str(found)]

    @property
    def labels(self) -> dict[str, str]:
        """The image's own labels."""
        found = self.settings.get("Labels") or {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def parse_config(raw: bytes) -> ImageConfig:
    """Parse a config blob, leniently: what is missing or odd is as good as empty."""
    document = json.loads(raw)
    document = document if isinstance(document, dict) else {}
    layers = document.get("rootfs")
    ids = layers.get("diff_ids") if isinstance(layers, dict) else None
    settings = document.get("config")
    return ImageConfig(
        architecture=str(document.get("architecture") or ""),
        created=_seconds(str(document.get("created") or "")),
        diff_ids=tuple(str(one) for one in ids) if isinstance(ids, list) else (),
        settings=settings if isinstance(settings, dict) else {},
    )


@dataclass(frozen=True)
class Skeleton:
    """The texts of one image: `files` are those under /.singularity.d, by name."""

    files: Mapping[str, str]
    labels: Mapping[str, str]

    def inspect_json(self) -> bytes:
        """Write what `apptainer inspect` reads instead of mounting the image."""
        scripts = ("env/10-docker2singularity.sh", "env/90-environment.sh")
        attributes = {
            "environment": {f"/{HOME}/{name}": self.files[name] for name in scripts},
            "labels": self.labels,
            "runscript": self.files["runscript"],
            "deffile": self.files["Singularity"].strip(),
            "startscript": self.files["startscript"],
        }
        document = {"data": {"attributes": attributes}, "type": "container"}
        return json.dumps(document, indent="\t").encode()


def skeleton(config: ImageConfig, digest: str, converter: str) -> Skeleton:
    """Make the texts of one image; nothing but the image and the converter decides them."""
    labels = {
        **config.labels,
        f"{_LABEL}build-arch": config.architecture,
        f"{_LABEL}schema-version": "1.0",
        f"{_LABEL}usage.hpcimg.converter": converter,
        f"{_LABEL}usage.singularity.deffile.bootstrap": "docker",
        f"{_LABEL}usage.singularity.deffile.from": digest,
    }
    files = {
        "actions/exec": f'{_SHELL}{_ENVIRONMENT}exec "$@"\n',
        "actions/run": _SHELL + _ENVIRONMENT + _RUN,
        "actions/shell": _SHELL + _ENVIRONMENT + _SHELL_ACTION,
        "actions/start": _SHELL + _START,
        "actions/test": _SHELL + _ENVIRONMENT + _TEST,
        "env/01-base.sh": _SHELL,
        "env/10-docker2singularity.sh": _exports(config.words("Env")),
        "env/90-environment.sh": f"{_SHELL}# Custom environment shell code should follow\n",
        "env/94-appsbase.sh": "",
        "env/95-apps.sh": _SHELL,
        "env/99-base.sh": _SHELL + _LIBRARIES,
        "env/99-runtimevars.sh": _SHELL + _USER_PATH,
        "runscript": _runscript(config.words("Entrypoint"), config.words("Cmd")),
        "startscript": _SHELL,
        "Singularity": f"bootstrap: docker\nfrom: {digest}\n",
        "labels.json": json.dumps(labels, indent="\t"),
    }
    return Skeleton(files, labels)


def upper_layer(made: Skeleton, time: int) -> bytes:
    """Pack what stands in every image, whatever its own layers have in that place."""
    names = (HOME, *(f"{HOME}/{name}" for name in ("actions", "env", "libs")))
    with io.BytesIO() as raw, _archive(raw) as archive:
        for name in names:
            _add(archive, name, time, tarfile.DIRTYPE, 0o755)
        for name, text in made.files.items():
            mode = 0o644 if name in {"Singularity", "labels.json"} else 0o755
            _add(archive, f"{HOME}/{name}", time, tarfile.REGTYPE, mode, text)
        for name in ("etc/hosts", "etc/resolv.conf"):  # Apptainer binds the node's over them
            _add(archive, name, time, tarfile.REGTYPE, 0o644)
        archive.close()
        return raw.getvalue()


def lower_layer(time: int) -> bytes:
    """Pack what stands in an image that does not have it itself."""
    links = {
        "singularity": "runscript", ".run": "actions/run", ".exec": "actions/exec",
        ".test": "actions/test", ".shell": "actions/shell",
        "environment": "env/90-environment.sh",
    }  # fmt: skip
    with io.BytesIO() as raw, _archive(raw) as archive:
        for name in ("dev", "proc", "root", "var", "var/tmp", "tmp", "etc", "sys", "home"):
            _add(archive, name, time, tarfile.DIRTYPE, 0o755)
        for name, target in links.items():
            _add(archive, name, time, tarfile.SYMTYPE, 0o777, f"{HOME}/{target}")
        archive.close()
        return raw.getvalue()


def _archive(raw: io.BytesIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT)


def _add(
    archive: tarfile.TarFile, name: str, time: int, kind: bytes, mode: int, text: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, time
    if kind == tarfile.SYMTYPE:
        member.linkname = text
        archive.addfile(member)
        return
    content = text.encode(errors="replace")  # JSON may hold half a character
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _exports(environment: list[str]) -> str:
    lines = [_SHELL]
    for word in environment:
        name, equals, value = word.partition("=")
        if not _NAME.fullmatch(name):
            continue
        quoted = _go_quoted(_escaped(value))
        if not equals:
            lines.append(f'export {name}="${{{name}:-}}"\n')
        elif name == "PATH":
            lines.append(f"export PATH={quoted}\n")
        else:
            lines.append(f'export {name}="${{{name}:-{quoted}}}"\n')
    return "".join(lines)


def _runscript(entrypoint: list[str], command: list[str]) -> str:
    default = _set(command)
    default = f"[ $# -gt 0 ] || {default}\n    " if default else ""
    first = _set(entrypoint)
    body = _RUNSCRIPT.format(default=default, entrypoint=f"{first}\n    " if first else "")
    return f"{_SHELL}OCI_ENTRYPOINT={_words(entrypoint)}\nOCI_CMD={_words(command)}\n{body}"


def _set(words: list[str]) -> str:
    return f'set -- {" ".join(map(_single, words))} "$@"' if words else ""


def _words(words: list[str]) -> str:
    """Quote each word for the shell's second reading, and all of them for its first."""
    return _single(" ".join(f'"{_escaped(word)}"' for word in words))


def _single(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _escaped(text: str) -> str:
    return re.sub(r'[\\"`$]', r"\\\g<0>", text)


def _go_quoted(text: str) -> str:
    """Quote as Apptainer does, which writes values of variables as Go's strings."""
    return '"' + "".join(_GO_ESCAPES.get(one) or _go_character(one) for one in text) + '"'


def _go_character(one: str) -> str:
    if one.isprintable():
        return one
    code = ord(one)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 1 << 16 else one


def _seconds(text: str) -> int:
    """Read RFC 3339 as far as whole seconds; what is none, or before the epoch, is the epoch."""
    from datetime import datetime, timezone

    found = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text)
    zone = re.search(r"([+-])(\d\d):(\d\d)$", text)
    if found is None:
        return 0
    try:
        moment = datetime.strptime(found[0] + "+0000", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return 0
    seconds = int(moment.astimezone(timezone.utc).timestamp())
    if zone is not None:
        shift = 60 * (60 * int(zone[2]) + int(zone[3]))
        seconds += -shift if zone[1] == "+" else shift
    return min(max(seconds, 0), 2**32 - 1)
