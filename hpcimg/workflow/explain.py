"""`explain`: a choice with all that went into it, the settings and their sources included."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcimg.oci.local_name import LayoutReference
from hpcimg.oci.reference import parse_reference
from hpcimg.policy import deciding_rules
from hpcimg.settings import places_of_settings
from hpcimg.workflow.resolve import site_policy

if TYPE_CHECKING:
    from hpcimg.oci.reference import Reference
    from hpcimg.policy import Policy
    from hpcimg.selection import Candidate
    from hpcimg.settings import Settings
    from hpcimg.workflow.asked import Answer
    from hpcimg.workflow.resolve import Resolved

VERSION = 1
"""Of the object that `explain --json` prints; explain.schema.json describes it."""
DEFAULT = "default"
_PLAIN = ("platform_features", "gpu_scope", "match")
_OF_THIS_MACHINE = ("platform_features",)


@dataclass(frozen=True)
class Setting:
    """One setting that took part in the choice, and where it comes from."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class Explanation:
    """A choice, the policy it was made by, and the settings that went into it.

    `nodes` are those that choose together; none where one chooses alone.
    """

    resolved: Resolved
    policy: Policy
    settings: tuple[Setting, ...]
    nodes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Write it as an object for programs."""
        resolved = self.resolved
        pick = resolved.resolution.pick
        return {
            "version": VERSION,
            "reference": str(resolved.reference),
            "index": resolved.digest if resolved.is_index else None,
            "profile": json.loads(resolved.profile.to_json()),
            "policy": _policy_json(self.policy),
            "settings": [vars(one) for one in self.settings],
            "pick": None if pick is None else _candidate_json(pick),
            "candidates": [_candidate_json(one) for one in resolved.resolution.candidates],
        }


def explain(
    name: str,
    answer: Answer,
    settings: Settings,
    environment: Mapping[str, str],
    kind: str | None = None,
) -> Explanation:
    """Add to a choice of `name` what decided; `kind` is this call's own policy."""
    resolved = answer.resolved
    policy = site_policy(settings, resolved.reference, resolved.profile, kind)
    found = _settings(name, answer, settings, places_of_settings(environment), kind)
    return Explanation(resolved, policy, tuple(found), answer.nodes)


def _settings(
    name: str,
    answer: Answer,
    settings: Settings,
    places: Mapping[tuple[object, ...], str],
    kind: str | None,
) -> Iterator[Setting]:
    resolved = answer.resolved
    rules = settings.policy_rules()
    for part, at in deciding_rules(rules, resolved.reference, resolved.profile).items():
        if part == "kind" and kind is not None:
            continue
        key = "policy" if part == "kind" else part
        value = getattr(rules[at], key)
        source = places.get(("policies", at - 1) if at else ("policy",), DEFAULT)
        yield Setting(key, _plain(value), source)
    if kind is not None:
        site = site_policy(settings, resolved.reference, resolved.profile).kind
        yield Setting("policy", kind, f"--policy; the site's is {site}")
    for key in _PLAIN:
        if key == "match" and answer.match:
            yield Setting(key, answer.match, answer.by)
            continue
        if key in _OF_THIS_MACHINE and not answer.is_here:
            continue
        yield Setting(key, _plain(getattr(settings, key)), places.get((key,), DEFAULT))
    alias = _alias(name, resolved.reference, settings)
    if alias is not None:
        value = f"{alias} -> {settings.aliases[alias]}"
        yield Setting("alias", value, places.get(("aliases", alias), DEFAULT))


def _alias(name: str, reference: Reference, settings: Settings) -> str | None:
    """Find the alias that made the name what it is; of several, the longest counts."""
    if isinstance(reference, LayoutReference):
        return None
    registry = settings.default_registry
    fitting = [
        key
        for key, value in settings.aliases.items()
        if parse_reference(name, default_registry=registry, aliases={key: value}) == reference
        and parse_reference(name, default_registry=registry) != reference
    ]
    return max(fitting, key=len, default=None)


def _policy_json(policy: Policy) -> dict[str, Any]:
    return {
        "kind": policy.kind,
        "allow_generic": policy.allow_generic,
        "strict": policy.strict,
        "avoid": _plain(policy.avoid),
        "prefer": _plain(policy.prefer),
        "weights": _plain(policy.weights),
    }


def _plain(value: Any) -> Any:
    """Make a setting's value one that JSON knows."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [
            {"feature": str(one.feature), "on": list(one.on)} if hasattr(one, "feature") else one
            for one in value
        ]
    return value


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "digest": candidate.descriptor.digest,
        "features": list(candidate.features),
        "requirements": [
            {"word": str(one.feature), "source": one.source} for one in candidate.entry.requirements
        ],
        "verdict": candidate.verdict,
        "reason": candidate.reason,
        "path": list(candidate.entry.path),
    }
