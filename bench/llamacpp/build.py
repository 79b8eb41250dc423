"""Build llama.cpp's own programs, once, from the sources that the source package of llama-cpp-python carries.

Everything is fetched through pip and kept in one directory of the user's cache; nothing is installed. The package is
the one whose SHA-256 stands here, or is refused. The programs get their name last: a build that was interrupted begins
anew.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.3.36"
PACKAGE = f"llama-cpp-python=={VERSION} --hash=sha256:832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
# the last, because pip asks the package for its name
TOOLS = ("cmake==4.4.4", "ninja==1.13.2", "scikit-build-core==1.1.2")
PROGRAMS = ("llama-bench", "llama-completion", "llama-quantize")
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "ON",  # for this very CPU: what its users are told to build
    "GGML_OPENMP": "ON",  # its default, and what its threads lose beside other work is less: without, they spin
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_UI": "OFF",
}
N_JOBS = str(len(os.sched_getaffinity(0)))


def programs(cache: Path) -> Path:
    """Return the directory of PROGRAMS, which is made below `cache` if it isn't there. CalledProcessError if that
    fails."""
    target = cache / "bin"
    if target.is_dir():
        return target
    scratch = cache / "build"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{scratch}/tools/bin:{os.environ['PATH']}"}
    fetch(scratch, environment)
    compile_programs(scratch, environment)
    collected = scratch / "collected"
    collected.mkdir()
    for name in PROGRAMS:
        shutil.move(scratch / "objects" / "bin" / name, collected)
    collected.rename(target)
    shutil.rmtree(scratch)
    return target


def fetch(scratch: Path, environment: dict[str, str]) -> None:
    """Make an environment with TOOLS in scratch/tools, and unpack llama.cpp into scratch/llama.cpp."""
    say("fetching cmake, ninja and the sources of llama.cpp (120 MB)")
    venv.create(scratch / "tools", with_pip=True)
    pip = [str(scratch / "tools/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", *TOOLS], environment)
    (scratch / "package.txt").write_text(PACKAGE)
    source = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    run([*pip, "download", *source, "--dest", str(scratch), "-r", str(scratch / "package.txt")], environment)
    (archive,) = scratch.glob("*.tar.gz")
    (scratch / "llama.cpp").mkdir()
    inside = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp"
    run(["tar", "-xzf", str(archive), "-C", str(scratch / "llama.cpp"), "--strip-components=3", inside], environment)


def compile_programs(scratch: Path, environment: dict[str, str]) -> None:
    say(f"compiling llama.cpp, for 10 minutes on two cores; {scratch}/log has the details")
    configure = ["cmake", "-G", "Ninja", "-S", str(scratch / "llama.cpp"), "-B", str(scratch / "objects")]
    build = ["nice", "ninja", "-C", str(scratch / "objects"), "-j", N_JOBS, *PROGRAMS]
    with open(scratch / "log", "wb") as log:
        run([*configure, *(f"-D{name}={value}" for name, value in OPTIONS.items())], environment, log)
        run(build, environment, log)


def run(command: list[str], environment: dict[str, str], log=None) -> None:
    subprocess.run(command, env=environment, check=True, stdout=log or sys.stderr, stderr=log)


def say(what: str) -> None:
    print(f"bench-llama: {what}", file=sys.stderr, flush=True)
