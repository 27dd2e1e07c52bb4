"""What one node offers: the frozen profile that selection judges by, its JSON and its digest.

Knows no probe and no file; unknown stays unknown.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from hpcimg.errors import UsageError
from hpcimg.features import canonical_words
from hpcimg.node.gpus import Gpu, GpuFacts
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Gpu", "GpuFacts", "NodeProfile"]

_VERSION = 1
_HINT = "make the profile with `hpcimg node show --json`"
_PROFILE_LIMIT = 256 * 1024
_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")


@dataclass(frozen=True)
class NodeProfile:
    """What one node offers.

    `compatible` are the CPU targets whose code it runs, best first, computed at detection.
    `traits` are canonical words that were found and are compared for equality: `smt:on`,
    `fabric:ib`, `inst:c5`, `os:debian:12`. `words` are further ones that it was told to offer; a
    `declared` profile was told, not found. `glibc` is the host's, `injected_glibc` the version
    that the GPU libraries bound into containers need. `unknowns` begin with a kind, as `smt: why`.
    `job_nodes` is how many nodes the job spans, where there is a job.
    """

    node: str
    os: str
    architecture: str
    target: str | None = None
    compatible: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    gpus: GpuFacts = field(default_factory=GpuFacts)
    kernel: str = ""
    boot_id: str = ""
    vendor: str = ""
    model: str = ""
    words: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    glibc: str = ""
    injected_glibc: str = ""
    job_nodes: int = 1
    declared: bool = False
    notes: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, hash=False)

    def allocated(self, gpu_ids: tuple[str, ...] | None, *, nodes: int = 1) -> NodeProfile:
        """Restrict the GPUs to those of a job that spans `nodes` nodes.

        They are named by Slurm's number, UUID or MIG UUID. None: nobody manages the GPUs, so all
        count. Empty: the job has no GPU.
        """
        if gpu_ids is None or self.declared:
            return replace(self, job_nodes=nodes)
        return replace(self, gpus=self.gpus.allocated(gpu_ids), job_nodes=nodes)

    def offered(self) -> tuple[str, ...]:
        """List the canonical words that policy `exact` compares: CPU target, GPUs, own words."""
        if self.declared:
            return self.words
        # An image for several kinds of GPUs names them in one word: it must run on each.
        values: dict[str, set[str]] = {"cpu": {self.target}} if self.target else {}
        for gpu in self.gpus.devices:
            kind, _, value = gpu.word.partition(":")
            values.setdefault(kind, set()).add(value)
        found = [f"{kind}:{'|'.join(sorted(ones))}" for kind, ones in values.items()]
        return canonical_words([*found, *self.words], self.architecture)

    def facts_digest(self) -> str:
        """Name the facts that decide a selection; nodes of one type have the same digest."""
        facts = {
            "version": _VERSION,
            "platform": [self.os, self.architecture, self.target, self.kernel],
            "compatible": self.compatible,
            "flags": sorted(self.flags),
            "words": sorted(self.words),
            "traits": sorted(self.traits),
            "injected_glibc": self.injected_glibc,
            "job_nodes": self.job_nodes > 1,
            "declared": self.declared,
            "gpus": [self.gpus.state, self.gpus.driver, self.gpus.cuda, self.gpus.wanted],
            "amd_driver": self.gpus.amd_driver,
            "capabilities": sorted(gpu.capability or gpu.target for gpu in self.gpus.devices),
        }
        raw = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    def to_json(self) -> str:
        """Write the profile as one JSON object, readable and stable."""
        document = {"version": _VERSION, **asdict(self)}
        for device in document["gpus"]["devices"]:
            if not device["instances"]:
                del device["instances"]  # a release before it refuses what it does not know
        return json.dumps(document, indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> NodeProfile:
        """Read what `to_json` wrote; raise UsageError that says what is wrong with it."""
        if len(text) > _PROFILE_LIMIT:
            raise _wrong(f"it is longer than {_PROFILE_LIMIT} bytes")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _wrong(f"not JSON: {quoted(error)}") from error
        if not isinstance(document, dict) or document.get("version") != _VERSION:
            raise _wrong(f"not an object of version {_VERSION}")
        gpus = _parse(GpuFacts, document.get("gpus", {}), "gpus", skip=("devices",))
        devices = _list(document.get("gpus", {}).get("devices", []), "gpus.devices")
        parsed = tuple(Gpu(**_parse(Gpu, device, "gpus.devices")) for device in devices)
        if gpus.get("state", "none") not in {"none", "present", "unknown"}:
            raise _wrong(f"gpus.state is {quoted(gpus['state'])}")
        if not all(_is_told(gpu) for gpu in parsed):
            raise _wrong("a GPU's capability is not MAJOR.MINOR, or it has no target")
        rest = _parse(NodeProfile, document, "it", skip=("gpus", "version"))
        return NodeProfile(gpus=GpuFacts(devices=parsed, **gpus), **rest)


def _is_told(gpu: Gpu) -> bool:
    if gpu.vendor == "nvidia":
        return _CAPABILITY.fullmatch(gpu.capability) is not None
    return gpu.vendor in {"amd", "intel"} and bool(gpu.target)


def _wrong(what: str) -> UsageError:
    return UsageError(f"the node profile cannot be used: {what}", _HINT)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(f"{where} is not a list")
    return value


def _parse(kind: Any, document: Any, where: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check an object's fields against a dataclass of texts, numbers, truths and text lists."""
    if not isinstance(document, dict):
        raise _wrong(f"{where} is not an object")
    known = {f.name: f for f in fields(kind)}
    result: dict[str, Any] = {}
    for key, value in document.items():
        if key in skip:
            continue
        if key not in known:
            raise _wrong(f"{where} has an unknown field {quoted(key)}")
        result[key] = _checked(str(known[key].type), value, f"{where}.{key}")
    for f in fields(kind):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in result:
            raise _wrong(f"{where} lacks {f.name!r}")
    return result


def _checked(annotation: str, value: Any, where: str) -> Any:
    if annotation.startswith("tuple["):
        words = _list(value, where)
        if all(isinstance(word, str) for word in words):
            return tuple(words)
    elif annotation.startswith("Mapping["):
        if isinstance(value, dict) and all(isinstance(word, str) for word in value.values()):
            return value
    elif annotation in {"bool", "int"}:
        if type(value).__name__ == annotation:
            return value
    elif isinstance(value, str) or (value is None and annotation.endswith("| None")):
        return value
    raise _wrong(f"{where} is {quoted(value)}")
