"""Launch without the plugin: become Apptainer, or srun with `hpcimg run` before the command."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcimg.bind import OPTIONAL, TMPFS, UMOUNT, Bind
from hpcimg.container_settings import is_the_jobs
from hpcimg.errors import RuntimeFailure, SettingsError, UsageError
from hpcimg.gpu_files import NUMBERED_VARIABLES, renumber
from hpcimg.progress import OnProgress, silent
from hpcimg.quoting import quoted
from hpcimg.runtime.apptainer import Inside, exec_argv, unsupported, variables
from hpcimg.runtime.convert import ApptainerConverter
from hpcimg.slurm import (
    has_node_numbers,
    job_gpus,
    job_match,
    job_name,
    job_nodes,
    job_pin,
    job_restarts,
)
from hpcimg.workflow.access import home_directory
from hpcimg.workflow.get import get_for_user, own_job, surroundings
from hpcimg.workflow.local import image_path
from hpcimg.workflow.match import together
from hpcimg.workflow.pin import read_pull
from hpcimg.workflow.profile import job_profile

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.settings import Settings
    from hpcimg.workflow.surroundings import Surroundings
    from hpcimg.workflow.wishes import Wishes

log = logging.getLogger(__name__)

SAY_ONCE = "--say-once"
"""The option of `hpcimg run` for tasks that would all say the same."""

_VALUES = ("mounts", "workdir", "env", "platform", "match", "pull")
_SWITCHES = ("mount-home", "writable", "readonly", "entrypoint")
_WORDS = {
    **{f"--container-{word}": f"--{word}" for word in (*_VALUES, *_SWITCHES)},
    "--no-container-mount-home": "--no-mount-home",
    "--no-container-entrypoint": "--no-entrypoint",
}
"""The plugin's options and those of `hpcimg run`."""
_WITH_VALUE = frozenset(f"--container-{word}" for word in _VALUES)
_PLUGIN_ONLY = frozenset(
    {
        "--container-name",
        "--container-save",
        "--container-remap-root",
        "--no-container-remap-root",
        "--container-entrypoint-log",
        "--container-unshare",
    }
)


@dataclass(frozen=True)
class Start:
    """What is to be started, and what its environment has beside the caller's."""

    argv: list[str]
    variables: Mapping[str, str]


def run_start(
    name: str,
    command: Sequence[str],
    wishes: Wishes,
    settings: Settings,
    environment: Mapping[str, str],
    on_progress: OnProgress = silent,
) -> Start:
    """Have the image ready and make the command line that runs `command` in it, on this node."""
    gpus = job_gpus(environment)
    nodes = job_nodes(environment)
    here = job_profile(settings, gpus, nodes=max(1, len(nodes)))
    path = image_path(name)
    if path is not None:
        around = surroundings((), here, gpus, settings, own_job(environment))
        return _start(path, command, around, wishes, settings, environment)
    cluster, number, started = job_name(environment)
    named = (cluster, number, str(os.geteuid()), started)
    # Words that stand for each node make all of them choose alike.
    match = "per-node" if wishes.platform else wishes.match or job_match(environment)
    job = together(match or settings.match, nodes, named)
    request = replace(
        job.request,
        name=job_pin(environment),
        is_again=job_restarts(environment) > 0,
        pull=read_pull(wishes.pull),
    )
    job = replace(job, request=request, step=environment.get("SLURM_STEP_ID", ""))
    profile = _profile(wishes.platform, here)
    ready = get_for_user(name, settings, environment, profile, job, on_progress)
    for text in filter(None, (ready.warning, ready.told)):
        log.warning("%s", text)
    return _start(ready.entry.image, command, ready.around, wishes, settings, environment)


def _start(
    image: Path,
    command: Sequence[str],
    around: Surroundings,
    wishes: Wishes,
    settings: Settings,
    environment: Mapping[str, str],
) -> Start:
    words = (*around.entrypoint, *command) if wishes.entrypoint else command
    program = str(ApptainerConverter(settings.apptainer).program)
    argv = exec_argv(program, image, words, inside=_inside(around, wishes))
    hider = Path(settings.merger).with_name("hider")
    hidden = [path for path in around.hidden if os.path.lexists(path)]
    if hidden and hider.exists():
        argv = [str(hider), *hidden, "--", *argv]
    elif hidden:
        log.warning('GPUs that are not the job\'s are seen in the container: no "%s"', hider)
    return Start(argv, variables(_values(around, wishes, environment)))


def _profile(platform: str, here: NodeProfile) -> NodeProfile:
    """Choose for words in place of this node; another architecture cannot run here."""
    if not platform:
        return here
    from hpcimg.node.words import profile_from_words

    found = profile_from_words(platform, node=here.node)
    if found.architecture != here.architecture:
        raise UsageError(
            f"platform {quoted(platform)} is of {found.architecture}, this node of "
            f"{here.architecture}",
            "name the node's own architecture",
        )
    return found


def _inside(around: Surroundings, wishes: Wishes) -> Inside:
    """Join what the node puts around the image with what its user wants, whose word is last."""
    site = [_without_unsupported(bind) for bind in around.binds]
    binds = {bind.target: bind for bind in (*site, *wishes.mounts)}
    there = tuple(one for one in binds.values() if _is_there(one, is_users=one in wishes.mounts))
    home = around.home if wishes.home is None else wishes.home
    # Apptainer shows the caller's directory as well, which may be all of the home.
    is_lost = not home and home_directory().is_relative_to(Path.cwd())
    workdir = wishes.workdir
    if is_lost and not any(Path.cwd().is_relative_to(bind.target) for bind in there):
        workdir = workdir or around.workdir or "/"
    return Inside(
        there,
        workdir,
        (() if home else ("home",)) + (("cwd",) if is_lost else ()),
        wishes.writable,
    )


def _is_there(bind: Bind, *, is_users: bool) -> bool:
    """Look as the user whether a mount's source is there; one that may be missing is left out."""
    if bind.source == UMOUNT:
        raise UsageError(
            f"{quoted(f'{UMOUNT}:{bind.target}')} needs the plugin", "leave it out, or use srun"
        )
    if bind.source == TMPFS or Path(bind.source).exists():
        return True
    if OPTIONAL in bind.flags:
        log.info("not mounted, since it is not on this node: %s", bind.source)
        return False
    message = f"mount source {quoted(bind.source)} is not on this node, or not for you to see"
    if is_users:
        raise UsageError(message, f'correct the path, or add the flag "{OPTIONAL}"')
    raise SettingsError(message, "the site's settings want it: tell its administrator")


def _without_unsupported(bind: Bind) -> Bind:
    """Make a site's mount one that Apptainer can make, as it is without the plugin."""
    wrong = unsupported(bind)
    if wrong:
        log.info("mounted without %s: %s", ", ".join(wrong), bind.source)
    return replace(bind, flags=tuple(flag for flag in bind.flags if flag not in wrong))


def _values(
    around: Surroundings, wishes: Wishes, environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Give the variables that win over the image's: the node's, and those of the user's choice."""
    for name, value in around.variables:
        if not (is_the_jobs(name) and name in environment):
            yield name, value
    # The image may have said something of them; and here only the job's GPUs are seen.
    is_anew = around.renumbered and has_node_numbers(environment)
    numbers = renumber(environment, around.renumbered) if is_anew else {}
    for name in (*NUMBERED_VARIABLES, "NVIDIA_VISIBLE_DEVICES"):
        if name in environment:
            yield name, numbers.get(name, environment[name])
    for name in wishes.env:
        if name in environment:
            yield name, environment[name]


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
        if option in _PLUGIN_ONLY:
            raise UsageError(f"{option} needs the plugin", "leave it out, or use srun with it")
        if option in _WORDS and option not in _WITH_VALUE and not equals:
            words_of_run.append(_WORDS[option])
            continue
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
