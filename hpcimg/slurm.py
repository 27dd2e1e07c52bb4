"""The only file that knows Slurm's command lines and variables.

It must not know images: it says which nodes there are and what a job was given.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcimg.errors import NotFoundError, RuntimeFailure, UsageError
from hpcimg.quoting import quoted

_SECONDS = 60.0
_DAY_SECONDS = 24 * 3600
_NODES_LIMIT = 1 << 17
_BRACKETS = 4
_NAME_LENGTH = 253
_LIST = re.compile(r"(?:[^][,\s]|\[[0-9,-]+\])+")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_FEATURE = re.compile(r"[A-Za-z0-9_.:+/-]+")
"""What a feature may be made of: Slurm reads `, & | * [ ] ( )`, and `=` and quotes, otherwise."""
_CONFIG = re.compile(r"^(ClusterName|PrivateData) *= *(\S*) *$", re.MULTILINE)
_NO_GPUS = frozenset({"none", "void"})
_TOLD_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})")


@dataclass(frozen=True)
class NodeFeatures:
    """The features that Slurm has of a node, in its order; `active` are some of the `available`."""

    available: tuple[str, ...] = ()
    active: tuple[str, ...] = ()


@dataclass(frozen=True)
class LiveJobs:
    """The jobs of one cluster that Slurm still knows, by number; each may use an image."""

    cluster: str
    numbers: frozenset[str]


def live_jobs(environment: Mapping[str, str], *, is_root: bool) -> LiveJobs:
    """Ask Slurm for all jobs of all users in this cluster, also those that have just ended.

    What the environment has to narrow Slurm's answers does not count.
    Raises RuntimeFailure where Slurm does not say, or not of everybody's jobs.
    """
    from hpcimg.process import run

    narrows = ("SQUEUE_", "SLURM_CLUSTERS")
    env = {name: text for name, text in environment.items() if not name.startswith(narrows)}
    asked = run(["scontrol", "show", "config"], env=env, timeout=_SECONDS)
    settings = asked.stdout.decode(errors="replace")
    found = dict(_CONFIG.findall(settings))
    cluster = found.get("ClusterName", "")
    if "jobs" in found.get("PrivateData", "").split(",") and not is_root:
        message = "Slurm hides other users' jobs from this account (PrivateData=jobs)"
        raise RuntimeFailure(message, "run it as root, which becomes the store's account")
    # A task of an array that was requeued has a number of its own, and is shown only on request.
    argv = ["squeue", "--local", "--all", "--array", "--noheader", "--states=all", "--format=%A"]
    numbers = run(argv, env=env, timeout=_SECONDS).stdout.decode(errors="replace").split()
    if not cluster or not all(map(str.isdecimal, numbers)):
        raise RuntimeFailure("could not read what squeue and scontrol say of the cluster's jobs")
    return LiveJobs(cluster, frozenset(numbers))


def nodes_of_partition(partition: str) -> tuple[str, ...]:
    """List the partition's nodes, sorted; raises NotFoundError when Slurm knows no such one."""
    argv = ["sinfo", "--noheader", "--Node", "--format=%N", "--partition", partition]
    return _names(argv, f"Slurm has no node in partition {quoted(partition)}")


def nodes_of_list(names: str) -> tuple[str, ...]:
    """Expand a node list such as `bdw[1-4],gpu1` into names, also of nodes that there are not.

    Raises UsageError for what is no list, and for an empty one.
    """
    # No call of scontrol, since each start of an image on several nodes comes by here.
    words = _LIST.findall(names)
    if ",".join(words) != names:
        raise UsageError(f"{quoted(names)} is no list of nodes", "write it as bdw[1-4],gpu1")
    if not words:
        raise UsageError("the list of nodes is empty", "write it as bdw[1-4],gpu1")
    found = sorted(set(itertools.islice(_expanded(words), _NODES_LIMIT + 1)))
    if len(found) > _NODES_LIMIT:
        raise UsageError(f"{quoted(names)} names more than {_NODES_LIMIT} nodes")
    return tuple(found)


def names_several(names: str) -> bool:
    """Tell from the text alone whether a list as Slurm writes it names more than one node."""
    return "," in names or "[" in names


def job_nodes(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Name all nodes of the job, of which a step may have some; empty outside of a job."""
    # Where srun joins a job from outside, the variable that names the job has the step's alone.
    listed = environment.get("SLURM_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    return nodes_of_list(listed) if listed else ()


def job_match(environment: Mapping[str, str]) -> str:
    """Give the environment's word for how a job's nodes choose; empty where it has none.

    The first variable is the user's, the second what the plugin makes of its option for steps.
    """
    return environment.get("HPCIMG_CONTAINER_MATCH") or environment.get("SLURM_HPCIMG_MATCH", "")


def job_name(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Name the job by cluster, number and start time; what is not known is empty.

    The components of a heterogeneous job share a number and a day, as the prolog has it.
    """
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_JOB_START_TIME")
    cluster, number, started = (environment.get(name, "") for name in names)
    leader = environment.get("SLURM_HET_JOB_ID", "")
    if leader and started.isdecimal():
        started = str(int(started) // _DAY_SECONDS * _DAY_SECONDS)
    return cluster, leader or number, started


def job_restarts(environment: Mapping[str, str]) -> int:
    """Count how often the job was started before."""
    count = environment.get("SLURM_RESTART_COUNT", "")
    return int(count) if count.isdecimal() else 0


def job_pin(environment: Mapping[str, str]) -> str:
    """Give the name and digest that sbatch pinned; empty where it did not."""
    return environment.get("SLURM_HPCIMG_PIN", "")


def named_nodes(partition: str | None, names: str | None) -> tuple[str, ...]:
    """Give the nodes that a command's `--partition` or `--nodes` means; without either, none."""
    if partition:
        return nodes_of_partition(partition)
    return () if names is None else nodes_of_list(names)


def folded(names: Iterable[str]) -> str:
    """Write node names as Slurm does, `bdw[1-3,7],gpu1`; `nodes_of_list` reads it."""
    found: dict[tuple[str, int], list[int]] = {}
    plain = []
    matches = {name: _NUMBERED.fullmatch(name) for name in sorted(set(names))}
    padded = {m[1] for m in matches.values() if m and m[2].startswith("0") and len(m[2]) > 1}
    for name, match in matches.items():
        if match is None:
            plain.append(name)
        else:
            width = len(match[2]) if match[1] in padded else 0
            found.setdefault((match[1], width), []).append(int(match[2]))
    groups = [_group(start, width, numbers) for (start, width), numbers in found.items()]
    return ",".join(sorted([*plain, *groups]))


def _group(start: str, width: int, numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [
        f"{run[0]:0{width}}-{run[-1]:0{width}}" if len(run) > 1 else f"{run[0]:0{width}}"
        for run in runs
    ]
    listed = ",".join(words)
    return f"{start}{listed}" if len(numbers) == 1 else f"{start}[{listed}]"


def is_feature(word: str) -> bool:
    """Tell whether Slurm can take a word as a node's feature."""
    return _FEATURE.fullmatch(word) is not None


def features_of_nodes() -> dict[str, NodeFeatures]:
    """Ask Slurm for the features of all its nodes."""
    from hpcimg.process import run

    argv = ["scontrol", "--oneliner", "show", "nodes"]

    return parse_features(run(argv, timeout=_SECONDS).stdout.decode(errors="replace"))


def parse_features(text: str) -> dict[str, NodeFeatures]:
    """Parse what `scontrol --oneliner show node` prints, for the features of each node."""
    found = {}
    for line in text.splitlines():
        words = dict(word.partition("=")[::2] for word in reversed(line.split()))
        if "NodeName" in words:
            lists = (words.get(f"{state}Features", "") for state in ("Available", "Active"))
            available, active = (
                tuple(filter(None, text.replace("(null)", "").split(","))) for text in lists
            )
            found[words["NodeName"]] = NodeFeatures(available, active)
    return found


def update_features_argv(names: Sequence[str], features: NodeFeatures) -> list[str]:
    """Make the command line that sets the features of nodes until Slurm reads its files again."""
    available, active = ",".join(features.available), ",".join(features.active)
    lists = [f"AvailableFeatures={available}", f"ActiveFeatures={active}"]
    return ["scontrol", "update", f"NodeName={folded(names)}", *lists]


def job_gpus(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Name the GPUs that Slurm gave this step or batch script here; None outside of a job.

    A step inherits the variable of the job's script, also when it got no GPU itself.
    """
    if "SLURM_JOB_ID" not in environment:
        return None
    is_step = "SLURM_STEP_ID" in environment
    given = parse_gpus(environment.get("SLURM_STEP_GPUS" if is_step else "SLURM_JOB_GPUS", ""))
    if environment.get("NVIDIA_VISIBLE_DEVICES") in _NO_GPUS:
        return ()
    # No number tells a MIG slice, of which Slurm tells programs the UUID.
    told = environment.get("CUDA_VISIBLE_DEVICES", "")
    return parse_gpus(told) if given and told.startswith("MIG-") else given


def has_node_numbers(environment: Mapping[str, str]) -> bool:
    """Tell whether programs are told the node's numbers: where others are denied, they are not."""
    given = environment.get("SLURM_STEP_GPUS") or environment.get("SLURM_JOB_GPUS", "")
    return bool(given) and given in {environment.get(name) for name in _TOLD_GPUS}


def node_name(environment: Mapping[str, str]) -> str:
    """Name the node as Slurm does; empty outside of a step."""
    return environment.get("SLURMD_NODENAME", "")


def place_in_step(environment: Mapping[str, str]) -> tuple[int, int]:
    """Tell this node's number among those of its step, and how many they are."""
    number, count = environment.get("SLURM_NODEID", ""), environment.get("SLURM_STEP_NUM_NODES", "")
    return place_of(f"{number}/{count}")


def place_of(text: str) -> tuple[int, int]:
    """Parse `3/100`, the fourth of a hundred nodes; what is none means a node alone."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        return 0, 1
    return int(number), int(count)


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


_USABLE = ("idle", "mix", "plnd", "comp", "alloc")
"""States of nodes that take jobs, now or later, best first."""


@dataclass(frozen=True)
class UsableNode:
    """A node that takes jobs; the lower the `rank`, the sooner. `memory` is in MB."""

    name: str
    rank: int
    memory: int


def usable_nodes(nodes: Sequence[str], partition: str = "") -> tuple[UsableNode, ...]:
    """Ask which of these nodes, or of all, take jobs in this partition or any; the freest first."""
    from hpcimg.process import run

    argv = ["sinfo", "--noheader", "--Node", "--format=%N %t %m"]
    argv += [f"--nodes={folded(nodes)}"] if nodes else []
    argv += [f"--partition={partition}"] if partition else []
    return parse_usable(run(argv, timeout=_SECONDS).stdout.decode(errors="replace"))


def parse_usable(text: str) -> tuple[UsableNode, ...]:
    """Parse lines of a node's name, state and memory; a star means that it does not answer."""
    found: dict[str, UsableNode] = {}
    for name, state, memory in (line.split() for line in text.splitlines() if line.strip()):
        # A sign behind the state tells of power saving: such a node takes a while to come.
        plain = state.rstrip("~#!%$@^-+")
        if plain in _USABLE:
            rank = 2 * _USABLE.index(plain) + (plain != state)
            found.setdefault(name, UsableNode(name, rank, int(memory) if memory.isdecimal() else 0))
    return tuple(sorted(found.values(), key=lambda node: (node.rank, node.name)))


_WARM_MEMORY = 2048
_WARM_MINUTES = 60


def warm_argv(node: UsableNode, image: str, *, partition: str, wait: int) -> list[str]:
    """Make the command line of the smallest job that makes a node fetch an image.

    It fails when the node is not free within `wait` seconds.
    """
    # Without it a job takes all memory of the node, where memory is something to allocate.
    memory = [f"--mem={_WARM_MEMORY}M"] if node.memory > _WARM_MEMORY else []
    return [
        "srun",
        "--quiet",
        "--quit-on-interrupt",
        "--job-name=hpcimg-warm",
        "--nodes=1",
        "--ntasks=1",
        f"--nodelist={node.name}",
        f"--immediate={wait}",
        *([f"--partition={partition}"] if partition else []),
        *memory,
        f"--container-image={image}",
        "true",
    ]


def warm_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what such an srun may know: inside of a job it shall make another, and not a step."""
    in_job = "SLURM_JOB_ID" in environment
    asked = ("SRUN_CONTAINER", "SLURM_CONTAINER", "SLURM_HPCIMG_", "HPCIMG_CONTAINER_")
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(asked)
        and not (in_job and name.startswith("SLURM_") and name != "SLURM_CONF")
    }
    # The plugin reads the second: its node then says its progress so that a program can read it.
    return {"SLURM_TIMELIMIT": str(_WARM_MINUTES), **kept, "SLURM_HPCIMG_REPORTS": "1"}


def pair_argv(nodes: Sequence[str], partition: str | None, words: Sequence[str]) -> list[str]:
    """Make the command line that runs `words` on two nodes at once, these or any of a partition.

    One name twice means two tasks on that node.
    """
    names = sorted(set(nodes))
    count = len(names) or 2
    where = [f"--nodelist={','.join(names)}"] if names else []
    where += ["--partition", partition] if partition else []
    tasks = [f"--nodes={count}", "--ntasks=2", f"--ntasks-per-node={2 // count}"]
    return ["srun", "--quiet", *tasks, *where, *words]


def task_rank(environment: Mapping[str, str]) -> int:
    """Number this task among those of its step; 0 outside of one."""
    text = environment.get("SLURM_PROCID", "0")
    return int(text) if text.isdecimal() else 0


def _expanded(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        # Odd places hold what stood in brackets.
        parts = re.split(r"\[([0-9,-]+)\]", word, maxsplit=_BRACKETS)
        if sum(map(len, parts[::2])) > _NAME_LENGTH:
            raise UsageError(f"{quoted(word)} is too long for the name of a node")
        choices = [_numbers(part) if at % 2 else (part,) for at, part in enumerate(parts)]
        yield from map("".join, itertools.product(*choices))


def _numbers(text: str) -> list[str]:
    """Expand `1-3,07`; the first number's width counts, as Slurm has it."""
    found: list[str] = []
    for word in text.split(","):
        match = _RANGE.fullmatch(word)
        first, last = (match[1], match[2] or match[1]) if match else ("1", "0")
        if not 0 <= int(last) - int(first) < _NODES_LIMIT:
            raise UsageError(f"{quoted(text)} is no range of numbers", "write it as bdw[1-4],gpu1")
        if len(found) > _NODES_LIMIT:
            break
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return found


def _names(argv: Sequence[str], none: str) -> tuple[str, ...]:
    # Launches come by here, and start no program.
    from hpcimg.process import run

    done = run(argv, timeout=_SECONDS)
    names = sorted(set(done.stdout.decode(errors="replace").split()))
    if not names:
        raise NotFoundError(none, "`sinfo` shows what there is")
    return tuple(names)
