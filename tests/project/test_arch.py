"""What is particular of a CPU stands in a folder of its own, and nowhere else."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
CONTRACT = NATIVE / "arch/arch.h"
FOLDERS = sorted(path for path in (NATIVE / "arch").iterdir() if path.is_dir())
KERNELS = sorted(path for path in (NATIVE / "kernels").iterdir() if path.is_dir())
ROOMS = [*FOLDERS, *KERNELS, *(ROOT / "bench" / path.name for path in FOLDERS)]  # that may name a CPU
CHOICES = {NATIVE / "arch/meson.build", NATIVE / "kernels/meson.build"}  # and where one is chosen

TELLS = ROOT / "magicheap/_surroundings.py"  # which machines are supported

# Comments are read, too: a sentence about one CPU is wrong on the next. Each pattern is of whole words.
NAMES = {
    "register": r"[re](?:[abcd]x|[sd]i|[bs]p|ip)|r(?:[89]|1[0-5])[bwd]?|[xyz]mm\d*|mxcsr|x87\w*|[fg]s_base|tpidr\w*",
    "instruction": r"asm|__asm|__asm__|endbr64|cpuid\w*|xgetbv|rdtscp?|rdrand|rdseed|(?:movs|stos)[bwdq]|mrs|svc",
    "intrinsic": r"\w+intrin|arm_neon|__builtin_(?:ia32|arm|aarch64)_\w+|_mm\d*_\w+|__m(?:128|256|512)\w*",
    "feature": r"-?m?(?:avx|sse)\w*|xsave\w*|shstk|-fcf-protection\S*",
    "machine": r"__x86_64__|__amd64__|__aarch64__|x86(?:[-_]64)?|amd64|aarch64|arm64|EM_[A-Z]\w+",
    "relocation": r"R_(?:X86_64|386|AARCH64|RISCV)_\w+",
    "call of few kernels": r"arch_prctl|ARCH_[SG]ET_[FG]S|__vdso_\w+|__kernel_\w+|"
    r"SYS_(?:access|chmod|chown|creat|dup2|epoll_create|fork|getdents|link|lstat|mkdir|open|pipe|poll|readlink|rename|"
    r"rmdir|select|stat|symlink|time|unlink|utimes|vfork)",
    "number of a call": r"__NR_\w+|syscall_(?:32|64)\w*|(?:SYS_\w+|_?FUTEX\w*) = \d+|syscall\(\d+",
    "size of a page": r"4096|4095|0x1000|0xfff|PAGE_(?:SIZE|SHIFT|MASK)|getpagesize|>> 12",
    "size of an address": r"[<>]{2} 47|47[- ]bits?|0x7fff\w{8}(?:ull)?",
}
SAMPLES = {
    "register": ("%rsp", "mov %r12d, 0(%edi)", "thread->fs_base", "ldmxcsr, mxcsr"),
    "instruction": ('__asm__ volatile("")', "rep movsb", "#include <cpuid.h>", "(rdrand)"),
    "intrinsic": ("#include <immintrin.h>", "_mm_pause()", "__m128i x"),
    "feature": ("'-mavx512vl'", "the XSAVE area", "an AVX register"),
    "machine": ("#if defined(__x86_64__)", "on x86-64"),
    "relocation": ("R_X86_64_64",),
    "call of few kernels": ("SYS_stat,", "syscall(SYS_arch_prctl, ARCH_GET_FS)", '"__vdso_time"'),
    "number of a call": ("syscall(202, word)", "_FUTEX = 202", "asm/syscall_64.tbl", "__NR_futex"),
    "size of a page": ("[4096]", "& ~0xfff", "page >> 12"),
    "size of an address": ("word >> 47", "a 47-bit space", "0x7ffffffff000ull"),
}
HARMLESS = "SYS_statx SYS_newfstatat mhi_arch_leads_to 1 << 12 address 40960 \\x87 respite sysconf 0x10000 4 << 10"


def pattern(kind):
    return re.compile(rf"(?<![\w\\])(?:{NAMES[kind]})(?!\w)", re.IGNORECASE if kind == "feature" else 0)


def sources(*tops):
    files = [path for top in tops for path in (ROOT / top).rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix in (".c", ".h", ".S", ".build", ".py")]
    return [path for path in files if not is_in_a_room(path) and path not in CHOICES]


def allowed(path, kind):
    """Python and the benchmarks may know the size of a page: they ask, or measure on this machine."""
    return (path == TELLS and kind == "machine") or (NATIVE not in path.parents and kind == "size of a page")


def is_in_a_room(path):
    return any(room in path.parents for room in ROOMS)


@pytest.mark.parametrize("kind", NAMES)
def test_no_other_file_names_what_only_some_cpus_have(kind):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in sources("native", "magicheap", "llama", "bench")
        if not allowed(path, kind)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in pattern(kind).finditer(line)
    ]
    assert found == []


def test_no_other_folder_has_assembly():
    assert [path for path in ROOT.glob("[!.]*/**/*.S") if path.parent not in FOLDERS] == []


def test_others_reach_a_cpu_by_the_contract_alone():
    headers = "|".join(path.name for folder in FOLDERS for path in folder.glob("*.h"))
    include = re.compile(rf'#\s*include\s+".*\b(?:{headers})"')
    assert [path for path in sources("native") if include.search(path.read_text())] == [CONTRACT]


@pytest.mark.parametrize("kind", NAMES)
def test_each_name_is_seen_where_it_stands(kind):
    assert [sample for sample in SAMPLES[kind] if pattern(kind).search(sample) is None] == []
    assert pattern(kind).search(HARMLESS) is None


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_cpu_has_the_files_that_the_contract_names(folder):
    named = re.findall(r"^ \*     (\w+\.\w+) ", CONTRACT.read_text(), re.MULTILINE)
    there = [path.name for path in folder.iterdir()]
    assert sorted(named) == sorted(there)
