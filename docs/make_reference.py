#!/usr/bin/env python3
"""Writes docs/reference/cli.md, features.md and exit-codes.md from the code that they describe.

Run it after a change of the command line; a test compares the pages with what it would write.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hpcimg.errors
import hpcimg.vocabulary
from hpcimg.cli import VERBS
from hpcimg.cli.parser import make_parser

REFERENCE = Path(__file__).resolve().parent / "reference"
_TABLE = "<!-- The table is written by docs/make_reference.py from settings.schema.json. -->\n"
_END = "<!-- Here it ends. -->\n"
_NOTE = "<!-- Written by docs/make_reference.py; change the code, then run it. -->"


def pages() -> dict[Path, str]:
    """Each page's path and text."""
    return {
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "features.md": features_page(),
        REFERENCE / "exit-codes.md": exit_codes_page(),
        REFERENCE / "settings.md": settings_page(),
    }


def cli_page() -> str:
    """One section for each verb, from the parser itself."""
    modules = [import_module(f"hpcimg.cli.{name}") for name in dict.fromkeys(VERBS.values())]
    parser = make_parser(modules)
    lines = [
        "# Command line",
        "",
        _NOTE,
        "",
        "Standard output is the result and nothing else; all talk goes to standard error.",
        "`hpcimg -v COMMAND` says what is decided, `-v -v` also why.",
        "`HPCIMG_DEBUG=1` in the environment shows a failure's full trace.",
        "`HPCIMG_SETTINGS=FILE` names other [settings](settings.md) for a user's own commands.",
        "`HPCIMG_CONTAINER_MOUNTS`, and after it `PYXIS_CONTAINER_MOUNTS`, is what `run --mounts`",
        "says where the command line does not, and so on for its options that tell of a container.",
        "How commands end is listed under [exit codes](exit-codes.md).",
        "",
        *_verbs(parser, "hpcimg"),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _verbs(parser: argparse.ArgumentParser, name: str) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its verbs
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            continue
        helps = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
        for verb, child in action.choices.items():
            if any(isinstance(a, argparse._SubParsersAction) for a in child._actions):  # noqa: SLF001
                yield from _verbs(child, f"{name} {verb}")
            else:
                yield from _section(f"{name} {verb}", helps.get(verb, ""), child)


def _section(name: str, about: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    hidden = (argparse.SUPPRESS, "help")
    actions = [a for a in parser._actions if not {a.help, a.dest} & {*hidden}]  # noqa: SLF001
    # Options first: after a command's first word everything is the command's.
    words = [_words(action) for action in sorted(actions, key=lambda a: not a.option_strings)]
    usage = parser.usage or f"{name} {' '.join(words)}".rstrip()
    about = about if about.startswith("srun ") else f"{about[:1].upper()}{about[1:]}"
    yield from (f"## {name}", "", f"{about}.", "")
    yield from (f"    {usage}", "")
    options = [action for action in actions if action.option_strings and action.help]
    if options:
        yield from ("| option | means |", "| --- | --- |")
        for action in options:
            yield f"| `{_option(action)}` | {action.help} |"
        yield ""


def _option(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(action.choices) if action.choices else "")
    return (
        f"{', '.join(action.option_strings)} {value}".strip()
        if action.nargs != 0
        else (", ".join(action.option_strings))
    )


def _words(action: argparse.Action) -> str:
    if action.option_strings:
        return f"[{_option(action)}]"
    name = str(action.metavar or action.dest.upper())
    many = f"{name}..." if action.nargs in {argparse.REMAINDER, "+", "*"} else name
    return f"[{many}]" if action.nargs == "*" else many


def features_page() -> str:
    """The vocabulary, from the data file that the code reads."""
    path = Path(hpcimg.errors.__file__).parent / "data" / "features.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "# Features",
        "",
        _NOTE,
        "",
        "A feature is one word that an image requires and a node offers: `KIND:VALUE`.",
        "All words of an index entry must hold; inside one value `|` means any of them.",
        "A value may begin with `>=` or `=` in place of its kind's own comparison.",
        "A word of no known kind, or `site.KEY:VALUE`, is opaque: it only equals itself.",
        "A node offers such words where its [settings](settings.md) say so (`platform_features`).",
        "Which of several fitting entries is best: see [selection](../concepts/selection.md).",
        "",
        "| kind | is | holds when |",
        "| --- | --- | --- |",
        *(
            f"| `{kind}` | {row['about']} | {row['holds']} |"
            for kind, row in facts["kinds"].items()
        ),
        "",
        "The kinds of GPUs hold only where the job has a GPU of that vendor, and no other one.",
        "",
        "## Spellings",
        "",
        "Upper case is lower case; `-`, `_`, `=`, `#` and `/` do for the colon after a known word.",
        "A processor may be named without `cpu:`.",
        "These words are other spellings of the kinds:",
        "",
        ", ".join(f"`{word}`" for word in sorted(facts["kind_words"])) + ".",
        "",
        "These are other names of CPU targets.",
        "An approximate one stands for the nearest target that archspec knows.",
        "",
        "| name | means |",
        "| --- | --- |",
        *(
            f"| `{name}` | `{' '.join(row['features'])}`{_approximate(row)} |"
            for name, row in sorted(facts["cpu_aliases"].items())
        ),
        "",
        "## A site's own words",
        "",
        "Files `/etc/hpcimg/features.d/*.json` add rows to tables of `hpcimg/data/features.json`.",
        "Like the settings they are root's, and the same on all nodes.",
        "These tables take rows:",
        "",
        ", ".join(f"`{name}`" for name in sorted(hpcimg.vocabulary.ADDABLE)) + ".",
        "",
        "```json",
        '{"cpu_aliases": {"ourpartition": {"features": ["cpu:zen3"]}},',
        ' "rocm_drivers": {"6.2": "6.8.5"}}',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _approximate(row: dict[str, object]) -> str:
    return ", approximate" if "approximate" in row else ""


def settings_page() -> str:
    """The page as it is, with its table from the schema that editors use as well."""
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    path = Path(hpcimg.errors.__file__).parent / "data" / "settings.schema.json"
    rows = _rows(json.loads(path.read_text(encoding="utf-8")), "")
    table = ["| key | default | means |", "| --- | --- | --- |", *rows]
    start, _, rest = page.partition(_TABLE)
    return f"{start}{_TABLE}\n{chr(10).join(table)}\n\n{_END}{rest.partition(_END)[2]}"


def _rows(schema: dict[str, Any], start: str) -> Iterator[str]:
    """One row for each key that has no keys of its own."""
    for key, one in schema["properties"].items():
        inner = one.get("additionalProperties") or {}
        if "properties" in one:
            yield from _rows(one, f"{start}{key}.")
        elif "properties" in inner:
            yield from _rows(inner, f"{start}{key}.{one['x-name']}.")
        else:
            yield f"| `{start}{key}` | {_default(one)} | {one['description']}{_see(one)} |"


def _default(one: dict[str, Any]) -> str:
    if "x-default" in one or "default" not in one:
        return str(one.get("x-default", "none"))
    value = one["default"]
    text = json.dumps(int(value) if isinstance(value, float) else value).strip('"')
    return f"`{text}`"


def _see(one: dict[str, Any]) -> str:
    return f"; [more]({one['x-see']})" if "x-see" in one else ""


def exit_codes_page() -> str:
    """The codes before launch, each with the errors that end so."""
    errors = [value for value in vars(hpcimg.errors).values() if isinstance(value, type)]
    lines = [
        "# Exit codes",
        "",
        _NOTE,
        "",
        "After launch the code is the application's own, since hpcimg becomes the application.",
        "Before it, the command line ends with one of these; 0 means done, 130 interrupted.",
        "",
        "| code | name | when |",
        "| --- | --- | --- |",
    ]
    for code in hpcimg.errors.ExitCode:
        whens = [
            (error.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")
            for error in errors
            if issubclass(error, hpcimg.errors.HpcimgError)
            and error.exit_code is code
            and "exit_code" in vars(error)
        ]
        when = (
            "Something that hpcimg did not expect" if code.name == "INTERNAL" else "; ".join(whens)
        )
        lines.append(f"| {int(code)} | {code.name.lower().replace('_', ' ')} | {when} |")
    lines += [
        "",
        "A task whose container could not start ends with 125, as with container engines.",
        "`hpcimg get --store site` ends with 80, in silence, where the user's own credentials may",
        "help: see the [hooks' contract](hook-contract.md).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
