"""Launch without the plugin: become Apptainer, or srun with `hpcimg run` before the command."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hpcimg.errors import RuntimeFailure, UsageError
from hpcimg.progress import OnProgress, silent
from hpcimg.quoting import quoted
from hpcimg.runtime.apptainer import exec_argv
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.slurm import job_gpus
from hpcimg.workflow.get import get_for_user
from hpcimg.workflow.profile import job_profile

if TYPE_CHECKING:
    from hpcimg.settings import Settings

SAY_ONCE = "--say-once"
"""The option of `hpcimg run` for tasks that would all say the same."""


def run_argv(
    name: str,
    command: Sequence[str],
    settings: Settings,
    environment: Mapping[str, str],
    on_progress: OnProgress = silent,
) -> list[str]:
    """Have the image ready and make the command line that runs `command` in it, on this node."""
    profile = job_profile(settings, job_gpus(environment))
    ready = get_for_user(name, settings, environment, profile, on_progress)
    program = str(ApptainerConverter(settings.apptainer).program)
    has_gpu = profile.gpus.state == "present"
    return exec_argv(program, ready.entry.image, command, nv=has_gpu)


def srun_argv(words: Sequence[str]) -> list[str]:
    """Turn `[OPTIONS] --container NAME COMMAND...` into an srun that starts us on each node.

    srun's own options are not known here, so the name must be the last of them: what follows is
    the command. Raises UsageError without it, or where an option of srun's follows.
    """
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option not in {"--container", "--container-image"}:
            continue
        rest = words[at + 1 :] if equals else words[at + 2 :]
        name = value if equals else words[at + 1] if at + 1 < len(words) else ""
        if not name or not rest:
            break
        if rest[0].startswith("-"):
            raise UsageError(
                f"{quoted(rest[0])} comes after the image's name, where the command begins",
                f"put {option} NAME last of srun's options",
            )
        srun, ours = _program("srun"), _program("hpcimg")
        return [srun, *words[:at], ours, "run", SAY_ONCE, name, "--", *rest]
    raise UsageError(
        "hpcimg srun needs an image and a command",
        "write: hpcimg srun [srun's options] --container NAME COMMAND [ARGUMENT...]",
    )


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeFailure(f'"{name}" is not on this machine\'s PATH', "is it installed here?")
    return found
