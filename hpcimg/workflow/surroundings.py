"""What a node puts into the containers of a job beside the image: files, variables, what to hide.

`hpcimg get` prints it, line by line, and the plugin's starter and `hpcimg run` carry it out as the
user: nothing here gives a right that the user has not. Each part comes from a module of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcimg.errors import SettingsError
from hpcimg.quoting import is_one_word, quoted

if TYPE_CHECKING:
    from hpcimg.bind import Bind


@dataclass(frozen=True)
class Surroundings:
    """What is put around an image: binds, variables that win over the image's, hidden paths.

    `workdir` and `entrypoint` are what the image's own config says; empty where it says nothing.
    `renumbered` are Slurm's numbers of the GPUs that are seen alone, and so count from 0.
    Without `home` the user's home directory is not shown unless the user asks for it.
    `warnings` are for the job's user, once a job and node; they are no lines of their own.
    """

    binds: tuple[Bind, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    renumbered: str = ""
    home: bool = True
    warnings: tuple[str, ...] = ()

    def lines(self) -> str:
        """Write what `hpcimg get` prints: `bind=SOURCE TAB TARGET TAB FLAG,FLAG`, and so on."""
        found = [
            f"bind={_words(one.source, one.target, ','.join(one.flags))}" for one in self.binds
        ]
        found += [f"setenv={_words(f'{name}={value}')}" for name, value in self.variables]
        found += [f"hide={_words(path)}" for path in self.hidden]
        if self.workdir:
            found.append(f"workdir={_words(self.workdir)}")
        if self.entrypoint:
            found.append(f"entrypoint={_words(*self.entrypoint)}")
        if self.renumbered:
            found.append(f"renumber={_words(self.renumbered)}")
        if not self.home:
            found.append("home=no")
        return "".join(f"{line}\n" for line in found)


NOTHING = Surroundings()


def join(parts: Iterable[Surroundings]) -> Surroundings:
    """Put parts together; of two that say the same thing of one place the later one counts."""
    parts = tuple(parts)
    binds = {bind.target: bind for part in parts for bind in part.binds}
    variables = {name: value for part in parts for name, value in part.variables}
    hidden = dict.fromkeys(path for part in parts for path in part.hidden)
    return Surroundings(
        tuple(binds.values()),
        tuple(variables.items()),
        tuple(hidden),
        next((part.workdir for part in reversed(parts) if part.workdir), ""),
        next((part.entrypoint for part in reversed(parts) if part.entrypoint), ()),
        next((part.renumbered for part in reversed(parts) if part.renumbered), ""),
        all(part.home for part in parts),
        tuple(text for part in parts for text in part.warnings),
    )


def _words(*words: str) -> str:
    """Join words by tabs; one that holds a tab or a line's end could pass for others."""
    for word in words:
        if not is_one_word(word):
            raise SettingsError(
                f"{quoted(word)} cannot be put into a container: it holds a tab or a line's end",
                "use a path or a value without them",
            )
    return "\t".join(words)
