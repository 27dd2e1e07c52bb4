"""The only file that knows Slurm's command lines and variables.

It must not know images: it says which nodes there are and what a job was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcimg.errors import NotFoundError
from hpcimg.process import run
from hpcimg.quoting import quoted

_SECONDS = 60.0


def nodes_of_partition(partition: str) -> tuple[str, ...]:
    """List the partition's nodes, sorted; raises NotFoundError when Slurm knows no such one."""
    argv = ["sinfo", "--noheader", "--Node", "--format=%N", "--partition", partition]
    return _names(argv, f"Slurm has no node in partition {quoted(partition)}")


def nodes_of_list(names: str) -> tuple[str, ...]:
    """Expand a node list such as `bdw[1-4],gpu1` into names, also of nodes that there are not.

    Raises NotFoundError when it names none.
    """
    argv = ["scontrol", "show", "hostnames", names]
    return _names(argv, f"{quoted(names)} names no node")


def job_gpus(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Name the GPUs that Slurm gave this step or batch script here; None outside of a job.

    A step inherits the variable of the job's script, also when it got no GPU itself.
    """
    if "SLURM_JOB_ID" not in environment:
        return None
    is_step = "SLURM_STEP_ID" in environment
    return parse_gpus(environment.get("SLURM_STEP_GPUS" if is_step else "SLURM_JOB_GPUS", ""))


def node_name(environment: Mapping[str, str]) -> str:
    """Name the node as Slurm does; empty outside of a step."""
    return environment.get("SLURMD_NODENAME", "")


def is_first_task(environment: Mapping[str, str]) -> bool:
    """Tell whether this is the node's first task of its step, or no task at all."""
    return environment.get("SLURM_LOCALID", "0") == "0"


def parse_gpus(text: str) -> tuple[str, ...]:
    """Parse `0,1` or `2-3` or UUIDs as Slurm writes them; `none` and nothing mean no GPU."""
    found: list[str] = []
    for word in filter(None, text.split(",")):
        first, dash, last = word.partition("-")
        is_range = dash and first.isdecimal() and last.isdecimal()
        if is_range and 0 <= int(last) - int(first) < 1024:
            found += [str(number) for number in range(int(first), int(last) + 1)]
        elif word != "none":
            found.append(word)
    return tuple(found)


def run_argv(nodes: Sequence[str], words: Sequence[str]) -> list[str]:
    """Make the command line that runs `words` once on each of the nodes, as a job of its own."""
    listed = ",".join(nodes)
    size = f"--nodes={len(nodes)}"
    return ["srun", "--quiet", size, "--ntasks-per-node=1", f"--nodelist={listed}", *words]


def _names(argv: Sequence[str], none: str) -> tuple[str, ...]:
    done = run(argv, timeout=_SECONDS)
    names = sorted(set(done.stdout.decode(errors="replace").split()))
    if not names:
        raise NotFoundError(none, "`sinfo` shows what there is")
    return tuple(names)
