"""explain: every image behind a name, whether it is taken, and what decided."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hpcimg.cli.parser import Adder, add_profile_options

if TYPE_CHECKING:
    from hpcimg.node.profile import NodeProfile
    from hpcimg.selection import Candidate
    from hpcimg.workflow.explain import Explanation, Setting
    from hpcimg.workflow.resolve import Resolved

_MARKS = {"chosen": ("*", "green"), "fits": ("+", "yellow"), "rejected": ("-", "dim")}
_HEAD = (" ", "REQUIRES", "VERDICT", "WHY", "DIGEST")
_ALL_UP_TO = 40
"""So many entries are shown each; of a longer index those that fit, and the rest counted."""
_ALWAYS_TOLD = ("policy", "match")
_USUAL_SOURCES = {"annotation", "features"}
_KEY_WIDTH = 8
_PROBED = re.compile(r"(has no \w+ GPU) \((?:[^()]|\([^()]*\))*\)")
_WORD = re.compile(r"^needs ([a-z]+):\S+$")


def add(verbs: Adder) -> None:
    """Add the verb."""
    explain = verbs.add_parser("explain", help="show every image behind a name: taken or not, why")
    explain.add_argument("name", metavar="NAME")
    explain.add_argument("--json", action="store_true", help="print an object for programs")
    explain.add_argument(
        "--all",
        action="store_true",
        help="show each entry of a long index, not only those that fit",
    )
    explain.add_argument(
        "--why-not",
        metavar="IMAGE",
        help="say why not this one: a digest or its beginning, a tag, a name, an entry's words",
    )
    add_profile_options(explain)
    explain.set_defaults(call=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from hpcimg.cli.choose import answer
    from hpcimg.cli.output import print_json
    from hpcimg.errors import ExitCode
    from hpcimg.settings import read_settings
    from hpcimg.workflow.access import own_access
    from hpcimg.workflow.explain import explain
    from hpcimg.workflow.why_not import why_not

    settings = read_settings(os.environ)
    source = own_access(settings, os.environ).source
    answered = answer(arguments, settings, source)
    found = answered.resolved
    if arguments.why_not is not None:
        answers = why_not(arguments.why_not, found, settings, source)
        if arguments.json:
            told = [one.to_json() for one in answers]
            print_json({"image": str(found.reference), "answers": told})
        else:
            print("\n".join(one.answer for one in answers))
        return 0
    explanation = explain(arguments.name, answered, settings, os.environ, arguments.policy)
    if arguments.json:
        print_json(explanation.to_json())
    else:
        _print(explanation, show_all=arguments.all)
    return 0 if found.resolution.pick else int(ExitCode.NO_CANDIDATE)


def _print(explanation: Explanation, *, show_all: bool) -> None:
    from hpcimg.cli.output import paint, print_table

    resolved = explanation.resolved
    kind = "index" if resolved.is_index else "image"
    print(f"{paint(str(resolved.reference), 'bold')} ({kind} {resolved.digest})")
    lines = list(_head(explanation))
    width = max(_KEY_WIDTH, *(len(key) for key, _ in lines))
    for key, value in lines:
        print(f"{key:<{width}} {value}")
    print()
    candidates = resolved.resolution.candidates
    shown = candidates if show_all or len(candidates) <= _ALL_UP_TO else _worth_showing(candidates)
    rows = [_row(one, resolved) for one in shown]
    colours = [_MARKS.get(one.verdict, (" ", "dim"))[1] for one in shown]
    seen = set(map(id, shown))
    more = " more" if shown else ""
    rows += _counted((one for one in candidates if id(one) not in seen), more)
    print_table(_HEAD, rows, [*colours, *["dim"] * (len(rows) - len(shown))])
    print()
    pick = resolved.resolution.pick
    print(paint(_conclusion(explanation), "green" if pick else "red"))


def _head(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """Say what the choice was made from: keys and values."""
    profile = explanation.resolved.profile
    kernel = f", kernel {profile.kernel}" if profile.kernel else ""
    yield "node", f"{profile.node or '(words)'}, {profile.os}/{profile.architecture}{kernel}"
    yield "cpu", profile.target or "unknown"
    yield from (("gpu", line) for line in _gpus(profile))
    if profile.gpus.state == "present" and profile.gpus.driver:
        yield "driver", profile.gpus.driver
    told = [*profile.traits, *(word for word in profile.words if not profile.declared)]
    if told:
        yield "offers", ", ".join(dict.fromkeys(told))
    for setting in explanation.settings:
        value = _avoided(setting, profile) if setting.key == "avoid" else _value(setting)
        if value and (setting.source != "default" or setting.key in _ALWAYS_TOLD):
            yield setting.key, f"{value} ({setting.source})"


def _gpus(profile: NodeProfile) -> Iterator[str]:
    """Say what GPUs count, or why none do."""
    gpus = profile.gpus
    for kind, number in Counter(_gpu(one.vendor, one.name, one) for one in gpus.devices).items():
        yield f"{number} x {kind}" if number > 1 else kind
    if not gpus.devices:
        yield f"{gpus.state}{f': {gpus.reason}' if gpus.reason else ''}"


def _gpu(vendor: str, name: str, gpu: Any) -> str:
    what = f"capability {gpu.capability}" if gpu.capability else f"target {gpu.target}"
    return f"{name or vendor}, {what}"


def _value(setting: Setting) -> str:
    value = setting.value
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{word}={number:g}" for word, number in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _avoided(setting: Setting, profile: NodeProfile) -> str:
    """Say what is avoided on this node; empty where the rule is for other targets alone."""
    here = [one["feature"] for one in setting.value if not one["on"] or profile.target in one["on"]]
    return ", ".join(f"{feature} here" for feature in here)


def _row(candidate: Candidate, resolved: Resolved) -> tuple[str, ...]:
    from hpcimg.oci.digest import shortened

    mark = _MARKS.get(candidate.verdict, (" ", "dim"))[0]
    digest = shortened(candidate.descriptor.digest)
    path = "".join(f" in {shortened(one)}" for one in candidate.entry.path)
    reason = _reason(candidate, resolved.resolution.pick)
    requires = _requires(candidate, resolved.profile)
    return (mark, requires, candidate.verdict, reason, digest + path)


def _reason(candidate: Candidate, pick: Candidate | None) -> str:
    """Shorten a reason for its row; what a probe said stands in the head."""
    if candidate.verdict == "fits" and not candidate.features and pick and pick.features:
        return "but a build for this hardware fits"
    reason = candidate.reason.removeprefix("fits, ").removeprefix("and ")
    return _PROBED.sub(r"\1", reason)


def _requires(candidate: Candidate, profile: NodeProfile) -> str:
    """List an entry's words, each with its source where that is not the usual one."""
    sources: dict[str, str] = {}
    for one in candidate.entry.requirements:
        sources.setdefault(str(one.feature), one.source)
    words = [
        word if sources[word] in _USUAL_SOURCES else f"{word} (from its {sources[word]})"
        for word in candidate.features
    ]
    platform = candidate.descriptor.platform
    if platform is not None and platform.architecture not in {"", profile.architecture}:
        words.insert(0, f"{platform.os}/{platform.architecture}")
    return ", ".join(words) or "nothing (generic)"


def _worth_showing(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Keep of a long index the chosen entry and the first of those that fit as well."""
    fitting = [one for one in candidates if one.verdict == "fits"][: _ALL_UP_TO - 1]
    return [one for one in candidates if one.verdict == "chosen" or one in fitting]


def _counted(hidden: Iterable[Candidate], more: str) -> Iterator[tuple[str, ...]]:
    """Count what is not shown, by why it is not taken."""
    kinds = Counter((one.verdict, _kind_of_reason(one.reason)) for one in hidden)
    for (verdict, reason), number in kinds.most_common():
        entries = f"{number}{more} {'entry' if number == 1 else 'entries'}"
        why = reason.removeprefix("fits, ")
        yield (_MARKS.get(verdict, (" ", ""))[0], entries, verdict, why, "see --all")


def _kind_of_reason(reason: str) -> str:
    """Bring rejections for one fact together, whatever word each entry needs instead."""
    need, mark, fact = reason.partition("; ")
    match = _WORD.match(need)
    return f"needs another {match[1]}; {fact}" if mark and match else reason


def _conclusion(explanation: Explanation) -> str:
    from hpcimg.oci.digest import shortened

    resolved = explanation.resolved
    pick = resolved.resolution.pick
    if pick is not None:
        because = pick.reason if pick.reason.startswith("fits") else f"is {pick.reason}"
        digest = shortened(pick.descriptor.digest)
        return f"chosen: {pick.label} ({digest}), because it {because}"
    if explanation.nodes:
        what = (
            "nothing fits all of them: with uniform-or-fail the job is refused, "
            "with uniform each node takes its own"
        )
    else:
        what = "nothing fits: a job with this name is refused on this node"
    return f"{what}\n{_way_out(explanation)}"


def _way_out(explanation: Explanation) -> str:
    from hpcimg.variant import exact_words

    profile = explanation.resolved.profile
    if profile.gpus.state == "unknown" and profile.gpus.wanted:
        return "the job's GPUs must be readable first: look at `hpcimg node show` on the node"
    words = ",".join(exact_words(profile))
    requires = f" that requires {words}" if words else ""
    what = "these nodes" if explanation.nodes else "it"
    generic = "or a generic one, " if explanation.policy.allow_generic else ""
    return (
        f"to serve {what}, build an image for {profile.os}/{profile.architecture}{requires}, "
        f"{generic}and add it with `hpcimg index push`"
    )
