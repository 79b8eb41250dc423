"""What the packages promise to export is what they export, and every native status has its exception."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import magicheap
from magicheap import _errors
from magicheap._native import ffi, lib

HEADER = Path(__file__).parents[2] / "native/include/magicheap.h"


def test_all_is_sorted_and_names_every_public_thing():
    public = [name for name in vars(magicheap) if not name.startswith("_")]
    modules = [name for name in public if type(getattr(magicheap, name)) is type(magicheap)]
    assert magicheap.__all__ == sorted(magicheap.__all__)
    assert set(public) - set(modules) == set(magicheap.__all__)
    assert modules == [], "submodules are private"


def test_tracebacks_name_the_public_module():
    for name in magicheap.__all__:
        assert getattr(magicheap, name).__module__ == "magicheap"


def test_version_is_that_of_the_distribution_and_of_the_library():
    assert magicheap.__version__ == importlib.metadata.version("magicheap")
    with pytest.raises(ImportError, match=r"magicheap 9\.9\.9 found its native library at"):
        _errors.check_version("9.9.9")


def test_every_status_of_the_header_becomes_its_own_exception():
    statuses = re.findall(r"^ *(MH_ERR_[A-Z]+) = ", HEADER.read_text(), re.MULTILINE)
    assert len(statuses) == 10
    kinds = set()
    for name in statuses:

        def fail(err, name=name):
            err.sys_errno, err.detail = 13, b"found, expected, what to do"
            return getattr(lib, name)

        with pytest.raises(
            (magicheap.MagicHeapError, OSError, ValueError), match="found, expected, what to do"
        ) as raised:
            _errors.call(fail, path="/x")
        kinds.add(raised.type)
    assert len(kinds) == len(statuses)
    assert magicheap.MagicHeapError not in kinds


def test_a_system_error_has_errno_and_filename():
    def fail(err):
        err.sys_errno, err.detail = 13, b"cannot open it"
        return lib.MH_ERR_SYSTEM

    with pytest.raises(PermissionError) as raised:
        _errors.call(fail, path="/x")
    assert (raised.value.errno, raised.value.filename) == (13, "/x")


def test_a_status_without_detail_has_the_constant_sentence():
    with pytest.raises(magicheap.BusyError, match=re.escape(ffi.string(lib.mh_strerror(lib.MH_ERR_BUSY)).decode())):
        _errors.call(lambda err: lib.MH_ERR_BUSY)


def test_import_is_light():
    script = "import sys; before = set(sys.modules); import magicheap; print(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = set(out.split())
    assert loaded <= {"__future__", "_cffi_backend", "magicheap"} | {
        name for name in loaded if name.startswith("magicheap.")
    }
