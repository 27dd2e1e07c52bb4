"""What a user asks of the container that `hpcimg run` starts, from options and the environment.

The words are those of the plugin's options without `container-`, and mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcimg.bind import Bind, parse_binds
from hpcimg.container_settings import VARIABLE
from hpcimg.errors import UsageError
from hpcimg.quoting import quoted
from hpcimg.workflow.access import home_directory

STARTS = ("HPCIMG_CONTAINER_", "PYXIS_CONTAINER_")
"""What an option's variables begin with; the second is what people have in their scripts."""
_YES = frozenset({"yes", "true", "1", "on"})
_NO = frozenset({"no", "false", "0", "off"})


@dataclass(frozen=True)
class Wishes:
    """What was said; None and empty leave it to the site and the image.

    `env` names variables whose values come from here and not from the image.
    """

    mounts: tuple[Bind, ...] = ()
    workdir: str = ""
    home: bool | None = None
    env: tuple[str, ...] = ()
    writable: bool = False
    entrypoint: bool = False
    platform: str = ""
    match: str = ""
    pull: str = ""


def read_wishes(words: Mapping[str, str], environment: Mapping[str, str]) -> Wishes:
    """Read the words of the command line, and for what it leaves out the environment's.

    `words` has an option's words joined with commas, a switch's as yes or no. Raises UsageError.
    """

    def said(name: str) -> str:
        return words.get(name) or next(
            (
                value
                for start in STARTS
                if (value := environment.get(start + name.upper().replace("-", "_")))
            ),
            "",
        )

    mounts, workdir, env = said("mounts"), said("workdir"), said("env")
    if workdir and not workdir.startswith("/"):
        raise UsageError(
            f"the working directory {quoted(workdir)} is not absolute",
            "write its path in the container, which begins with /",
        )
    names = tuple(dict.fromkeys(env.split(","))) if env else ()
    for name in names:
        if not VARIABLE.fullmatch(name):
            raise UsageError(
                f"{quoted(name)} is no name of a variable", "write names with commas, no values"
            )
    return Wishes(
        mounts=parse_binds(mounts, _absolute) if mounts else (),
        workdir=workdir,
        home=_switch("mount-home", said("mount-home"), "no-mount-home", said("no-mount-home")),
        env=names,
        writable=bool(_switch("writable", said("writable"), "readonly", said("readonly"))),
        entrypoint=bool(
            _switch("entrypoint", said("entrypoint"), "no-entrypoint", said("no-entrypoint"))
        ),
        platform=said("platform"),
        match=said("match"),
        pull=said("pull"),
    )


def _absolute(path: str) -> str:
    """Find what a user's path means from where they stand; no shell sees a tilde in a word."""
    if path.startswith("~/"):
        return f"{home_directory()}{path[1:]}"
    return str(Path(path).absolute())


def _switch(name: str, yes: str, other: str, no: str) -> bool | None:
    """Read two words that contradict each other, each of which may be switched on or off."""
    first, second = _truth(name, yes), _truth(other, no)
    if first is not None and second is not None and first == second:
        raise UsageError(f"{name} and {other} contradict each other", "leave one of them out")
    return first if first is not None else None if second is None else not second


def _truth(name: str, word: str) -> bool | None:
    if word.lower() in _YES:
        return True
    if word.lower() in _NO:
        return False
    if not word:
        return None
    raise UsageError(f"{quoted(word)} is neither yes nor no, for {name}", "write yes or no")
