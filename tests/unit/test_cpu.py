"""The CPU probe on recorded machines, in both formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import archspec
import pytest

from hpcimg import targets
from hpcimg.errors import UsageError
from hpcimg.node.cpu import parse_cpu, read_cpu
from hpcimg.vocabulary import facts

RECORDED = Path(archspec.__file__).parent / "json" / "tests" / "targets"
MACHINES = sorted(path.name for path in RECORDED.iterdir())
# Nothing in these two files says that the machine is big-endian; Linux on them rarely is.
OTHERWISE = {"linux-rhel8-power9": "power9le", "linux-unknown-power10": "power10le"}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_recorded_machine_is_told_by_its_name(machine):
    """The file name ends with the expected target: Linux, macOS's sysctl, answers of CPUID."""
    expected = OTHERWISE.get(machine, machine.rpartition("-")[2])
    found = targets.match(read_cpu(RECORDED / machine).facts)
    assert found.name == expected
    assert expected in found.compatible


def test_the_recorded_machines_are_there():
    """An empty folder must not pass for fifty machines."""
    assert len(MACHINES) >= 52


def as_lscpu(machine: str, **more: str) -> str:
    """Tell a recorded x86 machine again in lscpu's words."""
    text = (RECORDED / machine).read_text()
    (flags,) = set(re.findall(r"^flags\s*: (.*)$", text, re.MULTILINE))
    (vendor,) = set(re.findall(r"^vendor_id\s*: (.*)$", text, re.MULTILINE))
    fields = {"Architecture": "x86_64", "Vendor ID": vendor, "Flags": flags, **more}
    return "".join(f"{key + ':':<20}{value}\n" for key, value in fields.items())


@pytest.mark.parametrize("machine", ["linux-rhel7-broadwell", "linux-rhel7-zen"])
def test_lscpu_tells_the_same_as_cpuinfo(machine):
    """The format is told by the text itself."""
    text = as_lscpu(machine)
    assert parse_cpu(text).facts == read_cpu(RECORDED / machine).facts
    fields = [
        {"field": key, "data": value.strip()}
        for key, value in re.findall(r"^(.*?:)(.*)$", text, re.MULTILINE)
    ]
    nested = {"lscpu": [{**fields[0], "children": fields[1:]}]}
    assert parse_cpu(json.dumps(nested)).facts == read_cpu(RECORDED / machine).facts


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (
            "Architecture: ppc64le\nModel name: POWER9 (architected), altivec supported\n",
            "power9le",
        ),
        ("Architecture: riscv64\nModel name: Spacemit(R) X60\n", "x60"),
        ("Architecture: riscv64\nModel name: sifive,u74-mc\n", "u74mc"),
        ("Architecture: s390x\nVendor ID: IBM/S390\n", None),
        ("Architecture: x86_64\nVendor ID: GenuineIntel\n", "x86_64"),
    ],
)
def test_lscpu_of_other_families(text, target):
    """POWER by generation, RISC-V by name, the rest is generic or unknown."""
    assert targets.match(parse_cpu(text).facts).name == target


def test_lscpu_names_arm_cores_instead_of_their_part():
    """The name stands for the part number, which tells N2 from V2."""
    flags = (RECORDED / "linux-rhel9-neoverse_n2").read_text()
    (flags,) = set(re.findall(r"^Features\s*: (.*)$", flags, re.MULTILINE))
    text = f"Architecture: aarch64\nVendor ID: ARM\nModel name: Neoverse-N2\nFlags: {flags}\n"
    assert targets.match(parse_cpu(text).facts).name == "neoverse_n2"


def test_only_what_all_cores_have_counts():
    """A thread may be moved to any core of a hybrid processor."""
    big = "processor : 0\nvendor_id : GenuineIntel\nflags : lm sse2 avx512f\n"
    small = "processor : 1\nvendor_id : GenuineIntel\nflags : lm sse2\n"
    cpu = parse_cpu(f"{big}\n{small}\n")
    assert cpu.facts.flags == ("lm", "sse2")
    assert cpu.notes == ("its cores differ",)
    assert parse_cpu(f"{big}\n{big}\n").notes == ()


def test_mixed_arm_cores_have_no_common_part():
    """The first core's part number would be a lie about the others."""
    core = "processor : {}\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : {}\n"
    cpu = parse_cpu(core.format(0, "0xd0c") + "\n" + core.format(1, "0xd05"))
    assert (cpu.facts.part, cpu.facts.vendor) == ("", "ARM")
    assert cpu.notes == ("its cores differ",)


def test_an_unknown_arm_implementer_stays_a_number():
    """It matches no vendor's target, so the machine is a generic one."""
    text = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x6d\nCPU architecture: 8\n"
    cpu = parse_cpu(text)
    assert cpu.facts.vendor == "0x6d"
    assert targets.match(cpu.facts).name == "aarch64"


def test_a_hypervisor_is_noted():
    """Its flags are true, but may be slow or change with a migration."""
    text = "processor : 0\nvendor_id : GenuineIntel\nflags : lm hypervisor\n"
    assert parse_cpu(text).notes == ("it runs under a hypervisor",)
    assert parse_cpu(text, hypervisor="VMware").notes == ("it runs under a hypervisor: VMware",)
    lscpu = as_lscpu("linux-rhel7-broadwell", **{"Hypervisor vendor": "KVM"})
    assert parse_cpu(lscpu).notes == ("it runs under a hypervisor: KVM",)
    bare = text.replace(" hypervisor", "")
    assert parse_cpu(bare, hypervisor="VMware").notes == ()


def test_an_emulated_cpu_is_called_so():
    """QEMU without KVM has every flag that it promises, and is slow."""
    text = "processor : 0\nmodel name : QEMU TCG CPU version 2.5+\nflags : lm hypervisor\n"
    assert parse_cpu(text, hypervisor="QEMU").notes == ("it is emulated: QEMU TCG",)
    lscpu = as_lscpu("linux-rhel7-broadwell", **{"Hypervisor vendor": "TCG"})
    assert parse_cpu(lscpu).notes == ("it is emulated: QEMU TCG",)


@pytest.mark.parametrize(
    ("text", "threads"),
    [
        ("processor : 0\nflags : lm\nsiblings : 16\ncpu cores : 8\n", 2),
        ("processor : 0\nflags : lm\nsiblings : 8\ncpu cores : 8\n", 1),
        ("processor : 0\nflags : lm\n", 0),
        ("Architecture: ppc64le\nThread(s) per core: 8\n", 8),
    ],
)
def test_the_text_may_tell_the_threads_of_a_core(text, threads):
    """The last place to look for SMT; 0 says that it is silent."""
    assert parse_cpu(text).threads == threads


def test_an_apple_processor_that_says_no_model_is_the_first():
    """A later one than archspec knows is a plain Arm processor."""
    text = "machdep.cpu.brand_string: Apple {}\nhw.optional.arm64: 1\n"
    assert targets.match(parse_cpu(text.format("processor")).facts).name == "m1"
    assert targets.match(parse_cpu(text.format("M99 Max")).facts).name == "aarch64"


def test_a_hidden_flag_costs_the_name_but_not_what_runs():
    """Milan without pku: archspec names an older host, the compatible list stays legal."""
    cpu = read_cpu(RECORDED / "linux-ubuntu20.04-zen3").facts
    fewer = tuple(flag for flag in cpu.flags if flag != "pku")
    found = targets.match(targets.CpuFacts(cpu.architecture, cpu.vendor, fewer))
    assert "zen2" in found.compatible
    assert "zen3" not in found.compatible


def test_the_best_level_does_not_hide_older_targets():
    """A virtual Genoa: named by its level, yet all of Zen 2 is there."""
    cpu = read_cpu(RECORDED / "linux-rocky8.5-zen4").facts
    fewer = tuple(flag for flag in cpu.flags if flag not in {"pku", "flush_l1d"})
    found = targets.match(targets.CpuFacts(cpu.architecture, cpu.vendor, fewer))
    assert found.name == "x86_64_v4"
    assert found.compatible[:3] == ("zen2", "zen", "x86_64_v4")


@pytest.mark.parametrize("text", ["", "hello\n", "{", '{"lscpu": [3]}', "a : b\n"])
def test_what_describes_no_cpu_is_refused(text, tmp_path):
    """The message names the file and the formats that it could be."""
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    with pytest.raises(UsageError, match="neither a /proc/cpuinfo nor an lscpu text") as caught:
        read_cpu(path)
    assert str(path)[:40] in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    """As every path in a message."""
    with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
        read_cpu(tmp_path / "none")


A78 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp ssbs"
)
COBALT = A78 + (
    " jscvt fcma sha3 sha512 sve asimdfhm uscat ilrcpc flagm sb dcpodp sve2 flagm2 frint svei8mm "
    "svebf16 i8mm bf16"
)
LEVELS = "armv8.6a armv8.5a armv8.4a armv8.3a armv8.2a"
NAMELESS = COBALT.replace(" sha3", "")
ARM_CORES = {
    "Cortex-A78": ("0x41", A78, "neoverse_n1 armv8.2a cortex_a72 armv8.1a aarch64"),
    "Cobalt": ("0x6d", COBALT, f"armv9.0a {LEVELS} armv8.1a aarch64"),
    "needs the lower ones": ("0x6d", COBALT.replace(" dcpop ", " "), "armv8.1a aarch64"),
    "the vendor's target leads": (
        "0x41", NAMELESS, f"neoverse_n1 armv9.0a {LEVELS} cortex_a72 armv8.1a aarch64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("core", ARM_CORES)
def test_arm_s_levels_follow_from_flags(core):
    """A core whose part number archspec does not know, runs the levels whose flags it shows."""
    implementer, flags, compatible = ARM_CORES[core]
    text = f"Features : {flags}\nCPU implementer : {implementer}\nCPU part : 0xd41\n"
    found = targets.match(parse_cpu(text).facts)
    assert " ".join(found.compatible) == compatible
    assert found.name == found.compatible[0]


def test_every_level_of_arm_s_has_its_flags():
    """One without a row would be offered by no CPU whose part number archspec does not know."""
    rows = facts()["arm_levels"]["flags"]
    assert sorted(rows) == [
        name for name in facts()["cpu_targets"] if re.fullmatch(r"armv.*a", name)
    ]
    for machine in MACHINES:
        cpu = read_cpu(RECORDED / machine).facts
        target = targets.match(cpu)
        if cpu.architecture == "arm64" and cpu.flags:
            unnamed = targets.match(targets.CpuFacts("arm64", "0x6d", cpu.flags))
            levels = {name for name in target.compatible if name.startswith("armv")}
            assert levels <= set(unnamed.compatible), machine


ARM_32 = {
    "processor : 0\nFeatures : half\nCPU architecture: 5TEJ\n": "armv5 arm",
    "model name : ARMv6-compatible processor rev 7 (v6l)\nFeatures : vfp\nCPU architecture: 7\n":
        "armv6 armv5 arm",
    "model name : ARMv7 Processor\nFeatures : neon\nCPU architecture: 7\n":
        "armv7 armv6 armv5 arm",
    "Architecture: armv7l\nVendor ID: ARM\n": "armv7 armv6 armv5 arm",
}  # fmt: skip


@pytest.mark.parametrize("text", ARM_32)
def test_32_bit_arm_runs_the_versions_below_its_own(text):
    """As the kernel tells it, which misnames the processor of the first Raspberry Pi."""
    facts = parse_cpu(text).facts
    assert facts.architecture == "arm"
    assert " ".join(targets.match(facts).compatible) == ARM_32[text]


def test_a_32_bit_kernel_on_64_bit_arm_runs_32_bit_images():
    """Only uname tells; the processor is one of version 8."""
    text = "Features : half neon\nCPU implementer : 0x41\nCPU architecture: 8\n"
    facts = parse_cpu(text, "armv8l").facts
    assert (facts.architecture, targets.match(facts).name) == ("arm", "armv8")
    assert parse_cpu(text, "aarch64").facts.architecture == "arm64"


def test_32_bit_x86_is_judged_by_flags():
    """Whoever made the processor; one without cmov is of the family alone."""
    flags = ("cmov", "mmx", "sse", "sse2")
    found = targets.match(targets.CpuFacts("386", "AuthenticAMD", flags))
    assert found.compatible == ("pentium4", "pentium3", "pentium2", "i686", "x86")
    newer = targets.match(targets.CpuFacts("386", "GenuineIntel", (*flags, "pni")))
    assert newer.name == "prescott"
    assert targets.match(targets.CpuFacts("386", "", ("mmx",))).compatible == ("x86",)


U74 = "processor : {}\nisa : rv64imafdc\nuarch : sifive,u74-mc\n"


@pytest.mark.parametrize(
    "other", [("u74-mc", "s7"), ("rv64imafdc", "rv64imac")], ids=["uarch", "isa"]
)
def test_riscv_cores_that_differ_are_of_the_family(other):
    """The first core's name would promise what another does not have."""
    same = parse_cpu(U74.format(0) + "\n" + U74.format(1))
    assert (same.facts.name, same.notes) == ("u74mc", ())
    mixed = parse_cpu(U74.format(0) + "\n" + U74.format(1).replace(*other))
    assert targets.match(mixed.facts).name == "riscv64"
    assert mixed.notes == ("its cores differ",)


def test_cores_of_different_implementers_are_of_neither():
    """Even where both chose the same part number."""
    core = "processor : {}\nFeatures : fp asimd\nCPU implementer : {}\nCPU part : 0xd0c\n"
    cpu = parse_cpu(core.format(0, "0x41") + "\n" + core.format(1, "0xc0"))
    assert (cpu.facts.vendor, cpu.notes) == ("generic", ("its cores differ",))


def test_a_later_core_that_has_more_is_noted():
    """Nothing is lost then, and yet they differ."""
    cpu = parse_cpu("processor : 0\nflags : lm\n\nprocessor : 1\nflags : lm avx\n")
    assert (cpu.facts.flags, cpu.notes) == (("lm",), ("its cores differ",))


BIG_LITTLE = [
    ("Architecture", "aarch64"),
    ("Vendor ID", "ARM"),
    ("Model name", "Cortex-A72"),
    ("Flags", "fp asimd crc32 aes"),
    ("Model name", "Cortex-A53"),
    ("Flags", "fp asimd crc32"),
]


def test_lscpu_describes_each_kind_of_core():
    """In text and in JSON: neither the last one's name nor its flags stand for all."""
    text = "".join(f"{key}: {value}\n" for key, value in BIG_LITTLE)
    tree = json.dumps({"lscpu": [{"field": f"{k}:", "data": v} for k, v in BIG_LITTLE]})
    for form in (text, tree):
        cpu = parse_cpu(form)
        assert cpu.facts == targets.CpuFacts("arm64", "ARM", ("asimd", "crc32", "fp"))
        assert (cpu.model, cpu.notes) == ("Cortex-A72, Cortex-A53", ("its cores differ",))


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("", "amd64"), ("x86_64", "amd64"), ("i686", "386"), ("i586", "386")],
)
def test_a_32_bit_kernel_runs_32_bit_images(machine, architecture):
    """Whatever the hardware could; a recorded file has no word of the kernel's."""
    facts = parse_cpu("processor : 0\nflags : lm cmov sse2\n", machine).facts
    assert facts.architecture == architecture
