"""The layers, read from the imports: arrows point downward only."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hpcimg

PACKAGE = Path(hpcimg.__file__).parent
MODULES = {
    ".".join(("hpcimg", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py" or path.parent.name == "cli"
}

CORE = {
    "hpcimg.amounts",
    "hpcimg.bind",
    "hpcimg.description",
    "hpcimg.errors",
    "hpcimg.quoting",
    "hpcimg.compatibility",
    "hpcimg.contradictions",
    "hpcimg.doctor.compare",
    "hpcimg.doctor.finding",
    "hpcimg.doctor.machine",
    "hpcimg.doctor.plugin",
    "hpcimg.doctor.registry",
    "hpcimg.doctor.slurm_conf",
    "hpcimg.document",
    "hpcimg.elf",
    "hpcimg.features",
    "hpcimg.gpu_files",
    "hpcimg.gpu_rules",
    "hpcimg.linker_cache",
    "hpcimg.ranking",
    "hpcimg.library",
    "hpcimg.lint",
    "hpcimg.metadata",
    "hpcimg.policy",
    "hpcimg.prometheus",
    "hpcimg.requirements",
    "hpcimg.vocabulary",
    "hpcimg.satisfaction",
    "hpcimg.selection",
    "hpcimg.tally",
    "hpcimg.targets",
    "hpcimg.node.gpus",
    "hpcimg.template",
    "hpcimg.node.meet",
    "hpcimg.variant",
    "hpcimg.node.profile",
    "hpcimg.node.words",
    "hpcimg.hub.account",
    "hpcimg.hub.directory",
    "hpcimg.hub.identity",
    "hpcimg.hub.machine_type",
    "hpcimg.hub.password",
    "hpcimg.hub.refusal",
    "hpcimg.hub.rewrite",
    "hpcimg.hub.route",
    "hpcimg.hub.token",
    "hpcimg.hub.hosts_table",
    "hpcimg.hub.login_files",
    "hpcimg.oci.digest",
    "hpcimg.oci.local_name",
    "hpcimg.oci.model",
    "hpcimg.oci.reference",
}
FLOOR = {
    "hpcimg.gpu_settings",
    "hpcimg.hub.settings",
    "hpcimg.container_settings",
    "hpcimg.host_mpi_settings",
    "hpcimg.rules",
    "hpcimg.sections",
    "hpcimg.process",
    "hpcimg.registry_settings",
    "hpcimg.settings",
    "hpcimg.settings_files",
    "hpcimg.progress",
    "hpcimg.progress_text",
}
ADAPTERS = (
    "hpcimg.hub",
    "hpcimg.node",
    "hpcimg.oci",
    "hpcimg.store",
    "hpcimg.runtime",
    "hpcimg.slurm",
    "hpcimg.slurm_site",
)
HARMLESS = {
    "__future__", "bisect", "collections", "contextlib", "dataclasses", "enum", "fnmatch",
    "functools", "hashlib", "ipaddress", "itertools", "json", "math", "re", "struct", "types",
    "typing",
}  # fmt: skip
# The vocabulary is a data file of the package; reading it depends on no machine.
READS_ITS_DATA = {"hpcimg.vocabulary"}
# Run by their path as children; their output is their result.
PROGRAMS = {"hpcimg.node.nvml", "hpcimg.runtime.spython_build"}


def layer(module: str) -> str:
    """Name the layer of a module; an adapter's layer is its own name."""
    if module in CORE:
        return "core"
    if module in FLOOR:
        return "floor"
    for adapter in ADAPTERS:
        if module == adapter or module.startswith(adapter + "."):
            return adapter
    return "workflow" if module.startswith("hpcimg.workflow") else "edge"


def imports(path: Path) -> set[str]:
    """Name what a module imports, anywhere in it."""
    found: set[str] = set()
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path}: relative import"
            base = statement.module or ""
            inner = {f"{base}.{alias.name}" for alias in statement.names}
            modules = {name for name in inner if name in MODULES}
            found |= modules
            if modules != inner:
                found.add(base)
    return found


def ours(path: Path) -> set[str]:
    """Name the modules of this package that a module imports."""
    return {name for name in imports(path) if name.startswith("hpcimg.")}


def test_the_modules_are_there():
    """An empty table must not pass for a clean one."""
    assert set(MODULES) >= CORE


@pytest.mark.parametrize("module", sorted(CORE))
def test_the_core_is_pure(module):
    """No files, processes, sockets, environment or clock: only core and harmless modules."""
    found = imports(MODULES[module])
    allowed = CORE | HARMLESS
    if module in READS_ITS_DATA:
        allowed = allowed | {"pathlib"}
    if module == "hpcimg.amounts":
        allowed = allowed | {"time"}  # to write one: it is told which
    if module == "hpcimg.elf":
        allowed = allowed | {"mmap", "struct"}  # a file that others mapped
    if module == "hpcimg.document":
        allowed = allowed | {"yaml"}
    if module == "hpcimg.amounts":
        allowed = allowed | {"time"}  # to write a time that it is given
    if module == "hpcimg.hub.login_files":
        allowed = allowed | {"base64"}
    if module == "hpcimg.hub.token":
        allowed = allowed | {"base64", "binascii", "hmac"}
    if module == "hpcimg.hub.password":
        allowed = allowed | {"bcrypt", "hmac", "secrets"}  # a salt of its own, if none is given
    if module == "hpcimg.targets":
        allowed = allowed | {"archspec.cpu", "archspec.cpu.detect", "archspec.cpu.schema"}
    assert {
        name for name in found if name not in allowed and name.split(".")[0] not in allowed
    } == (set())


ALLOWED = {"workflow": {"core", "floor", "workflow", *ADAPTERS}, "floor": {"core", "floor"}}


@pytest.mark.parametrize("module", sorted(set(MODULES) - CORE))
def test_imports_point_downward(module):
    """Adapters know the core, the floor and themselves; only use cases join them."""
    own = layer(module)
    if own == "edge":
        return
    allowed = ALLOWED.get(own, {"core", "floor", own})
    assert {name: layer(name) for name in ours(MODULES[module]) if layer(name) not in allowed} == {}


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("subprocess", {"hpcimg.process"}),
        ("archspec", {"hpcimg.targets"}),
        ("pynvml", {"hpcimg.node.nvml"}),
        ("urllib3", {"hpcimg.oci.transport", "hpcimg.oci.answer"}),
        ("tomllib", {"hpcimg.oci.registries_conf", "hpcimg.workflow.autologin_files"}),
        ("bcrypt", {"hpcimg.hub.password"}),
        (
            "sqlalchemy",
            {"hpcimg.hub.database", "hpcimg.hub.engine", "hpcimg.hub.tables", "hpcimg.hub.change"},
        ),
    ],
)
def test_each_library_has_one_door(library, doors):
    """What one module hides, no other one may know."""
    users = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users == doors


def test_nothing_prints_or_exits_but_the_edges():
    """The library raises; the command line speaks."""
    guilty = {
        module
        for module, path in MODULES.items()
        if layer(module) != "edge" and module not in PROGRAMS and _speaks(path)
    }
    assert guilty == set()


def _speaks(path: Path) -> bool:
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(ast.unparse(call.func) in {"print", "sys.exit"} for call in calls)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_and_functions_stay_small(module):
    """400 lines a file, 50 a function."""
    text = MODULES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (function.end_lineno or 0) - function.lineno + 1
            assert length <= 50, f"{module}.{function.name} has {length} lines"


def test_the_launch_path_imports_nothing_heavy():
    """A node resolves by JSON and data only: archspec alone costs 50 ms."""
    modules = ", ".join(sorted(CORE - {"hpcimg.targets"} | {"hpcimg.node.detect"}))
    heavy = "archspec urllib3 ssl tomllib yaml rich spython cpuinfo pynvml"
    assert _loaded(modules, heavy) == "[]\n"


def test_a_launch_imports_only_what_it_does():
    """Copies on nodes, GPUs, layouts, a site's MPI and jobs that agree are of some launches."""
    some = ["stage", "local", "host_mpi", "uniform"]
    parts = " ".join(f"hpcimg.workflow.{one}" for one in some)
    others = "hpcimg.gpu_files hpcimg.node.gpu_files hpcimg.linker_cache hpcimg.runtime.image_file"
    assert _loaded("hpcimg.workflow.get", f"{parts} {others}") == "[]\n"


def _loaded(modules, heavy):
    """Say which of the heavy ones the modules have imported."""
    program = f"import sys, {modules}; print([n for n in {heavy.split()} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
