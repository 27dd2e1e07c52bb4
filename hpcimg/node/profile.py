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
from hpcimg.features import Feature, parse_feature, parse_platform_words, variant_word
from hpcimg.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_VERSION = 1
_HINT = "make the profile with `hpcimg node show --json`"
_PROFILE_LIMIT = 256 * 1024
_CAPABILITY = re.compile(r"[0-9]{1,3}\.[0-9]")


@dataclass(frozen=True)
class Gpu:
    """One GPU. Of NVIDIA's it tells the `capability`, of the others' the code's `target`.

    `target` is AMD's as `gfx90a:sramecc+:xnack-`, Intel's device name as `pvc`. `slices` are the
    UUIDs of an NVIDIA GPU's MIG slices, which have its capability. Slurm counts by `index`.
    """

    index: int
    uuid: str
    name: str
    capability: str = ""
    mig: bool = False
    slices: tuple[str, ...] = ()
    vendor: str = "nvidia"
    target: str = ""


@dataclass(frozen=True)
class GpuFacts:
    """What is known of the GPUs; `reason` says why they are none or unknown.

    `driver` and `cuda`, which it speaks, are NVIDIA's; `amd_driver` is the amdgpu module's version.
    `wanted` says that the job asked for GPUs, so that not knowing them is a refusal.
    """

    state: str = "none"
    reason: str = ""
    driver: str | None = None
    cuda: str | None = None
    devices: tuple[Gpu, ...] = ()
    wanted: bool = False
    amd_driver: str | None = None

    def of(self, vendor: str) -> tuple[Gpu, ...]:
        """Give one vendor's devices: `nvidia`, `amd` or `intel`."""
        return tuple(gpu for gpu in self.devices if gpu.vendor == vendor)


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
        """Restrict the GPUs to those of a job of `nodes` nodes, by index, UUID or MIG UUID.

        None: nobody manages the GPUs, so all count. Empty: the job has no GPU.
        """
        if gpu_ids is None or self.declared:
            return replace(self, job_nodes=nodes)
        return replace(self, gpus=_allocated(self.gpus, gpu_ids), job_nodes=nodes)

    def offered(self) -> tuple[str, ...]:
        """List the canonical words that policy `exact` compares: CPU target, GPUs, own words."""
        if self.declared:
            return self.words
        found = {f"nvcap:{gpu.capability}" for gpu in self.gpus.devices} | set(self.words)
        return tuple(sorted(found | ({f"cpu:{self.target}"} if self.target else set())))

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
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=2, sort_keys=True) + "\n"

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


def profile_from_words(text: str, *, node: str = "", kernel: str = "") -> NodeProfile:
    """Make a profile of `linux/amd64:broadwell:nv-compute-5-2`: the words say what is offered.

    GPUs named so are allocated ones. Raises UsageError for a word that nothing can offer.
    """
    os, architecture, variant, features = parse_platform_words(text)
    if variant is not None:
        features = (*features, *parse_feature(variant_word(architecture, variant), architecture))
    cpus = [name for f in features if f.kind == "cpu" for name in _single(f, text)]
    target, compatible, flags = _cpu_of(architecture, cpus, _values(features, "cpuflag"), text)
    return NodeProfile(
        node=node,
        os=os,
        architecture=architecture,
        target=target,
        compatible=compatible,
        flags=flags,
        gpus=_gpus_of(features, text),
        kernel=kernel,
        words=tuple(sorted({str(f) for f in features})),
        declared=True,
        sources={"all": "words"},
    )


def _allocated(gpus: GpuFacts, ids: tuple[str, ...]) -> GpuFacts:
    if not ids:
        return GpuFacts("none", "the job has no GPU", gpus.driver, gpus.cuda)
    if gpus.state != "present":
        return replace(gpus, wanted=True)
    named: dict[str, Gpu] = {}
    for gpu in gpus.devices:
        named.update(dict.fromkeys((str(gpu.index), gpu.uuid, *gpu.slices), gpu))
    missing = [word for word in ids if word not in named]
    if missing:
        reason = f"the job has GPU {quoted(missing[0])}, which detection did not see"
        return replace(gpus, state="unknown", reason=reason, devices=(), wanted=True)
    chosen = {named[word].index: named[word] for word in ids}
    return replace(gpus, devices=tuple(chosen.values()), wanted=True)


def _values(features: Iterable[Feature], kind: str) -> tuple[str, ...]:
    return tuple(f.value for f in features if f.kind == kind)


def _single(feature: Feature, text: str) -> tuple[str, ...]:
    if len(feature.alternatives) > 1 or feature.comparator:
        raise UsageError(
            f"{quoted(str(feature))} in {quoted(text)} is a requirement, not what a node offers",
            "name what the node has, one value for each word",
        )
    return feature.alternatives


def _cpu_of(
    architecture: str, names: list[str], flags: tuple[str, ...], text: str
) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """Return target, compatible targets and flags of a CPU that is only named."""
    from hpcimg import targets

    family = targets.family_of(architecture)
    compatible: set[str] = set()
    offered = set(flags)
    for name in names or ([family] if family else []):
        if not targets.is_known(name) or not targets.is_of(name, architecture):
            raise UsageError(
                f"cpu {quoted(name)} in {quoted(text)} is not a known {architecture} target",
                "use archspec's names, as in broadwell or zen3",
            )
        facts = targets.facts_of(name, architecture)
        offered.update(facts.flags)
        compatible.update((name, *targets.ancestors(name)))
        compatible.update(targets.match(facts).compatible)
    ranked = targets.ranked(compatible)
    return (ranked[0] if ranked else None), ranked, tuple(sorted(offered))


def _gpus_of(features: Iterable[Feature], text: str) -> GpuFacts:
    features = tuple(features)
    capabilities = [v for f in features if f.kind == "nvcap" for v in _single(f, text)]
    drivers = [v for f in features if f.kind == "nvdrv" for v in _single(f, text)]
    if any(not _CAPABILITY.fullmatch(value) for value in capabilities):
        raise UsageError(f"{quoted(text)} offers a GPU without a capability MAJOR.MINOR")
    if not capabilities and not drivers:
        return GpuFacts("none", "no GPU is named")
    devices = tuple(Gpu(at, "", "", value) for at, value in enumerate(capabilities))
    return GpuFacts(
        "present", driver=drivers[-1] if drivers else None, devices=devices, wanted=True
    )


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
