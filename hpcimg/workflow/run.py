"""Launch without the plugin: become Apptainer, or srun with `hpcimg run` before the command."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcimg.errors import RuntimeFailure, UsageError
from hpcimg.progress import OnProgress, silent
from hpcimg.quoting import quoted
from hpcimg.runtime.apptainer import exec_argv
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.slurm import job_gpus, job_match, job_name, job_nodes, job_pin, job_restarts
from hpcimg.workflow.get import get_for_user
from hpcimg.workflow.local import image_path
from hpcimg.workflow.match import together
from hpcimg.workflow.pin import read_pull
from hpcimg.workflow.profile import job_profile

if TYPE_CHECKING:
    from hpcimg.settings import Settings

log = logging.getLogger(__name__)

SAY_ONCE = "--say-once"
"""The option of `hpcimg run` for tasks that would all say the same."""

_WORDS = {"--container-match": "--match", "--container-pull": "--pull"}
"""The plugin's options of one word, and those of `hpcimg run`."""


def run_argv(
    name: str,
    command: Sequence[str],
    settings: Settings,
    environment: Mapping[str, str],
    on_progress: OnProgress = silent,
    *,
    match: str = "",
    pull: str = "",
) -> list[str]:
    """Have the image ready and make the command line that runs `command` in it, on this node."""
    program = str(ApptainerConverter(settings.apptainer).program)
    path = image_path(name)
    if path is not None:
        # No profile is made of a file's node: whether there are GPUs is all that counts.
        has_gpu = job_profile(settings, job_gpus(environment)).gpus.state == "present"
        return exec_argv(program, path, command, nv=has_gpu)
    nodes = job_nodes(environment)
    cluster, number, started = job_name(environment)
    named = (cluster, number, str(os.geteuid()), started)
    said = match or job_match(environment) or settings.match
    job = together(said, nodes, named)
    request = replace(
        job.request,
        name=job_pin(environment),
        is_again=job_restarts(environment) > 0,
        pull=read_pull(pull),
    )
    job = replace(job, request=request, step=environment.get("SLURM_STEP_ID", ""))
    profile = job_profile(settings, job_gpus(environment), nodes=max(1, len(nodes)))
    ready = get_for_user(name, settings, environment, profile, job, on_progress)
    for text in filter(None, (ready.warning, ready.notice)):
        log.warning("%s", text)
    has_gpu = profile.gpus.state == "present"
    return exec_argv(program, ready.entry.image, command, nv=has_gpu)


def srun_argv(words: Sequence[str]) -> list[str]:
    """Turn `[OPTIONS] --container NAME COMMAND...` into an srun that starts us on each node.

    srun's own options are not known here, so the name must be the last of them: what follows is
    the command. Raises UsageError without it, or where an option of srun's follows.
    """
    srun_words: list[str] = []
    words_of_run: list[str] = []
    rest = list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option not in {"--container", "--container-image", *_WORDS}:
            srun_words.append(f"{option}{equals}{value}")
            continue
        if not equals:
            value = rest.pop(0) if rest else ""
        if option in _WORDS:
            words_of_run += [_WORDS[option], value]
            continue
        if not value or not rest:
            break
        _check_command(rest[0], option)
        srun, ours = _program("srun"), _program("hpcimg")
        return [srun, *srun_words, ours, "run", SAY_ONCE, *words_of_run, value, "--", *rest]
    raise UsageError(
        "hpcimg srun needs an image and a command",
        "write: hpcimg srun [srun's options] --container NAME COMMAND [ARGUMENT...]",
    )


def _check_command(word: str, option: str) -> None:
    if word.startswith("-"):
        raise UsageError(
            f"{quoted(word)} comes after the image's name, where the command begins",
            f"put {option} NAME last of srun's options",
        )


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeFailure(f'"{name}" is not on this machine\'s PATH', "is it installed here?")
    return found
