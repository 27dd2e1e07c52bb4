"""How a site wants the choice made, and which of its rules hold for one image on one node."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpcimg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hpcimg.features import Feature
    from hpcimg.node.profile import NodeProfile
    from hpcimg.oci.reference import Reference

KINDS = ("compatible", "exact")


@dataclass(frozen=True)
class Avoid:
    """Images that require `feature` stand last on nodes of these CPU targets (all, when empty)."""

    feature: Feature
    on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Policy:
    """How the choice is made for one image on one node.

    Of kind `exact` it takes an entry only when its words are just those that the node offers.
    `strict` refuses a single image that does not fit; otherwise it is taken with a warning.
    `prefer` are canonical words, the most wanted first; `weights` are measured, by digest or by
    an entry's canonical words joined with commas, more is better.
    """

    kind: str = "compatible"
    allow_generic: bool = True
    strict: bool = False
    avoid: tuple[Avoid, ...] = ()
    prefer: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"policy {self.kind!r} is not known", "use compatible or exact")


@dataclass(frozen=True)
class PolicyRule:
    """One of the site's rules: for which images and nodes, and what it changes.

    `repository` and `nodes` are shell patterns of `REGISTRY/REPOSITORY` and of node names,
    `targets` CPU targets; what is left out holds for all. None changes nothing.
    """

    repository: str = "*"
    nodes: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    policy: str | None = None
    allow_generic: bool | None = None
    strict: bool | None = None
    avoid: tuple[Avoid, ...] | None = None
    prefer: tuple[str, ...] | None = None
    weights: Mapping[str, float] | None = field(default=None, hash=False)

    def holds(self, reference: Reference, profile: NodeProfile) -> bool:
        """Tell whether the rule is for this image on this node."""
        return (
            fnmatchcase(reference.name, self.repository)
            and (not self.nodes or any(fnmatchcase(profile.node, one) for one in self.nodes))
            and (not self.targets or profile.target in self.targets)
        )


CHANGES = {
    "policy": "kind",
    "allow_generic": "allow_generic",
    "strict": "strict",
    "avoid": "avoid",
    "prefer": "prefer",
    "weights": "weights",
}


def policy_for(
    rules: Iterable[PolicyRule],
    reference: Reference,
    profile: NodeProfile,
    *,
    kind: str | None = None,
) -> Policy:
    """Combine the rules that hold, a later one over an earlier; `kind` is this call's own word."""
    found: dict[str, Any] = {}
    for rule in rules:
        if rule.holds(reference, profile):
            changes = {name: getattr(rule, key) for key, name in CHANGES.items()}
            found.update({name: value for name, value in changes.items() if value is not None})
    if kind is not None:
        found["kind"] = kind
    return Policy(**found)


def deciding_rules(
    rules: Iterable[PolicyRule], reference: Reference, profile: NodeProfile
) -> dict[str, int]:
    """Tell for each part of the policy which rule, by its place, has the last word on it."""
    found: dict[str, int] = {}
    for at, rule in enumerate(rules):
        if rule.holds(reference, profile):
            stated = (name for key, name in CHANGES.items() if getattr(rule, key) is not None)
            found.update(dict.fromkeys(stated, at))
    return found
