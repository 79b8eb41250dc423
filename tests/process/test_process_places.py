"""Places where a snapshot can't be kept, can't be resumed, or must not be made: it costs nothing but the speed, and the
reason names the place.

Mounts and namespaces are this process's own (unshare), for which root is needed.
"""

import os
import pwd
import shutil
import sys
import venv
from pathlib import Path

import pytest

import magicheap

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")

PROGRAM = """
    from magicheap import magic_transaction
    with magic_transaction() as magic:
        print("body")
    print(magic.was_committed, magic.committed)
"""


@pytest.fixture
def alone(life):
    """A life with the program, and a way to run commands after others in a shell, in namespaces of their own."""
    life.write(PROGRAM)

    def run(options, prepare, *command, **more):
        words = ["unshare", *options, "sh", "-c", f'{prepare} && exec "$@"', "sh", *command]
        names = {"python": sys.executable, "magic": str(Path(sys.executable).with_name("magic"))}
        return life.run(*[names.get(word, word) for word in words], **more)

    life.unshared = run
    return life


# ---- mounted noexec ----

NOEXEC = "mkdir -p cache && mount -t tmpfs -o noexec none cache"


@as_root
@pytest.mark.parametrize("how", ["python", "magic"])
def test_where_nothing_may_be_executed_no_snapshot_is_begun(alone, how):
    ran = alone.unshared(["-m"], NOEXEC, how, "program.py")
    assert ran.out == "body\nFalse False\n" and "noexec" in ran.reason
    assert ran.err.count("MagicHeapWarning") == 1 and "noexec" in ran.err


@as_root
def test_doctor_names_a_directory_where_nothing_may_be_executed(alone):
    ran = alone.unshared(["-m"], NOEXEC, sys.executable, "-P", "-m", "magicheap", "doctor", "cache", status=1)
    assert "noexec" in ran.out


@as_root
@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_good_snapshot_that_can_not_be_resumed_here_is_kept(alone, how):
    alone.cold("python", "program.py")
    before = alone.snapshot().stat()
    for _ in range(2):
        ran = alone.unshared(
            ["-m"], "mount --bind cache cache && mount -o remount,bind,noexec cache", how, "program.py"
        )
        assert ran.out == "body\nFalse False\n" and "noexec" in ran.reason
        assert ran.err.count("MagicHeapWarning") == 1 and "is kept" in ran.err
    assert os.path.samestat(alone.snapshot().stat(), before)
    alone.warm(how, "program.py")


# ---- full ----


@as_root
def test_where_there_is_too_little_room_nothing_is_written(alone):
    ran = alone.unshared(["-m"], "mkdir -p cache && mount -t tmpfs -o size=3m none cache", "python", "program.py")
    assert ran.out == "body\nFalse False\n" and ran.err.count("MagicHeapWarning") == 1 and "bytes are free" in ran.err


# ---- no home ----


def test_the_directory_is_that_of_the_list_of_users_where_there_is_no_home(life):
    life.write("from magicheap._paths import cache_directory; print(cache_directory())", "where.py")
    expected = f"{pwd.getpwuid(os.geteuid()).pw_dir}/.cache/magicheap\n"
    for home in (None, "", "~", "relative"):
        assert life.run("python", "where.py", env={"XDG_CACHE_HOME": "", "HOME": home}).out == expected
    assert not list(life.directory.glob("~*"))


@as_root
def test_without_a_home_python_and_magic_find_one_place(alone):
    home = alone.directory / "home"
    home.mkdir()
    (alone.directory / "users").write_text(f"root:x:0:0::{home}:/bin/sh\n")
    nobody = {"XDG_CACHE_HOME": None, "HOME": None}
    list_users = "mount --bind users /etc/passwd"
    assert alone.unshared(["-m"], list_users, "magic", "program.py", env=nobody).has_committed
    assert (home / ".cache/magicheap").is_dir()
    for how in ("magic", "python"):
        assert alone.unshared(["-m"], list_users, how, "program.py", env=nobody).is_warm


@as_root
@pytest.mark.parametrize("how", ["python", "magic"])
def test_without_any_home_it_runs_cold_and_says_so(alone, how):
    (alone.directory / "users").write_text("other:x:1:1::/home/other:/bin/sh\n")
    for home in (None, "~"):
        ran = alone.unshared(
            ["-m"], "mount --bind users /etc/passwd", how, "program.py", env={"XDG_CACHE_HOME": None, "HOME": home}
        )
        assert ran.out == "body\nFalse False\n" and "neither XDG_CACHE_HOME, HOME nor /etc/passwd" in ran.reason
    assert sorted(os.listdir(alone.directory)) == ["program.py", "users"]


# ---- somebody else's home, or none that can be made ----


@as_root
@pytest.mark.parametrize("how", ["python", "magic"])
@pytest.mark.parametrize("given", [".", ".cache"])
def test_root_makes_nothing_in_a_users_home(life, how, given):
    life.write(PROGRAM)
    home = life.directory / "home"
    (home / given).mkdir(parents=True)
    for path in {home, home / given}:
        os.chown(path, 65534, 65534)
    ran = life.run(how, "program.py", env={"XDG_CACHE_HOME": None, "HOME": str(home)})
    assert ran.out == "body\nFalse False\n" and "belongs to user 65534" in ran.reason
    assert [path for path in home.rglob("*") if path.stat().st_uid == 0] == []


@pytest.mark.parametrize("how", ["python", "magic"])
def test_a_home_that_is_not_there_is_named(life, how):
    life.write(PROGRAM)
    ran = life.run(how, "program.py", env={"XDG_CACHE_HOME": None, "HOME": "/proc/nowhere"})
    assert ran.out == "body\nFalse False\n" and "home /proc/nowhere" in ran.reason


# ---- no /proc, or another one ----


@as_root
@pytest.mark.parametrize("how", ["python", "magic"])
def test_without_proc_it_runs_cold(alone, how):
    for _ in range(2):
        ran = alone.unshared(["-m"], "umount -l /proc", how, "program.py")
        assert ran.out == "body\nFalse False\n" and "no /proc" in ran.reason and ran.err == ""


@as_root
def test_without_proc_the_launcher_finds_itself_behind_links(alone):
    (alone.directory / "bin").mkdir()
    (alone.directory / "bin/first").symlink_to("second")
    (alone.directory / "bin/second").symlink_to(Path(sys.executable).with_name("magic"))
    ran = alone.unshared(["-m"], "umount -l /proc", "bin/first", "program.py")
    assert ran.out == "body\nFalse False\n" and "no /proc" in ran.reason


@as_root
def test_in_a_pid_namespace_with_the_old_proc_it_commits_and_resumes(alone):
    assert alone.unshared(["-p", "-f"], "true", "python", "program.py").has_committed
    assert alone.unshared(["-p", "-f"], "true", "python", "program.py").is_warm


# ---- installed elsewhere than beside the interpreter ----


@pytest.fixture
def apart(life):
    """An interpreter that has magicheap not beside it, but in a prefix of its own, as pip --user and Debian's pip put
    it."""
    life.write(PROGRAM)
    venv.create(life.directory / "venv", with_pip=False)
    python, prefix = life.directory / "venv/bin/python", life.directory / "prefix"
    site, ours = prefix / "lib/site-packages", Path(magicheap.__file__).parent
    shutil.copytree(ours, site / "magicheap", ignore=shutil.ignore_patterns("__pycache__"))
    for found in (*ours.parent.glob("_cffi_backend*"), *ours.parent.glob("threadpoolctl.py")):
        shutil.copy(found, site)
    info = site / f"magicheap-{magicheap.__version__}.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(
        "magicheap/magic,sha256=x,1\n../../commands/magic,sha256=x,1\n../../commands/magicheap,,\n"
    )
    (prefix / "commands").mkdir()
    shutil.copy(ours / "magic", prefix / "commands")
    (prefix / "commands/magicheap").write_text(f"#!{python}\nimport sys\n")
    life.env["PYTHONPATH"] = str(site)
    return life, python, prefix / "commands/magic"


def test_what_is_installed_apart_commits_and_resumes_by_python_and_by_magic(apart):
    life, python, magic = apart
    life.cold(magic, "program.py")
    assert life.warm(magic, "program.py") == life.warm(python, "program.py") == "True False\n"


@pytest.mark.parametrize(
    "line", ["#!/bin/sh\n'''exec' {} \"$0\" \"$@\"\n' '''\n", "#!/bin/sh\n'''exec' \"{}\" \"$0\" \"$@\"\n' '''\n"]
)
def test_the_interpreter_of_a_long_first_line_is_found(apart, line):
    life, python, magic = apart
    magic.with_name("magicheap").write_text(line.format(python))
    life.write("import sys; print(sys.executable)", "who.py")
    assert life.run(magic, "who.py").out == f"{python}\n"


@pytest.mark.parametrize(
    "line", ["", "#!", "#!relative\n", "#!/nowhere/python\n", "#!/" + "x" * 9000, "#!/bin/sh\n'''exec' ", "\0\0"]
)
def test_a_first_line_that_names_no_interpreter_is_passed_over(apart, line):
    life, python, magic = apart
    magic.with_name("magicheap").write_text(line)
    life.write("import sys; print(sys.executable)", "who.py")
    assert life.run(magic, "who.py", env={"PATH": str(python.parent)}).out == f"{python.with_name('python3')}\n"


def test_magic_of_another_interpreter_serves_no_program_of_this_one(apart):
    life, python, magic = apart
    magic.with_name("magicheap").write_text(f"#!{sys.executable}\n")
    life.cold(python, "program.py")
    assert not (life.cache / "commands").exists()
    life.warm(python, "program.py")


def test_without_a_launcher_nothing_is_committed(apart):
    life, python, magic = apart
    magic.unlink()
    Path(life.env["PYTHONPATH"], "magicheap/magic").chmod(0o644)
    ran = life.run(python, "program.py")
    assert ran.out == "body\nFalse False\n" and "can't be executed" in ran.reason and ran.err == ""


def test_a_frozen_program_runs_cold_and_commits_nothing(life):
    life.write("""
        import sys; sys.frozen = True
        from magicheap import magic_transaction
        with magic_transaction() as magic:
            pass
        print(magic.committed)
    """)
    ran = life.run("python", "program.py")
    assert ran.out == "False\n" and "frozen" in ran.reason and ran.err == ""


@pytest.mark.parametrize("options", ["", ", process=False"])
def test_a_free_threaded_python_is_refused_by_name(life, options):
    life.write(f"""
        import sys; sys.abiflags += "t"
        from magicheap import magic_transaction
        with magic_transaction("x.magic"{options}) as magic:
            magic.root = [1]
        print(magic.was_committed, magic.committed, magic.root)
    """)
    for _ in range(2):
        ran = life.run("python", "program.py")
        assert ran.out == "False False [1]\n" and "free-threaded" in ran.reason and ran.err == ""


def test_tools_that_freeze_programs_see_what_the_compiled_half_needs():
    assert "_cffi_backend" in compile(Path(magicheap.__file__).read_text(), "x", "exec").co_names


# ---- a subinterpreter ----

REFUSING = """
    import sys
    class Refusing:
        def find_spec(self, name, path=None, target=None):
            if name == "{name}":
                raise ImportError("module {name} does not support loading in subinterpreters")
    sys.meta_path.insert(0, Refusing())
    import magicheap
    for options in {{}}, {{"process": False, "capacity": 1 << 20, "key": "x"}}:
        with magicheap.magic_transaction("x.magic", **options) as magic:
            magic.root = 7
        print(magic.was_committed, magic.committed, magic.root, magic.commit_progress(), magic.path, magic.reason)
    assert isinstance(magic, magicheap.MagicTransaction) and issubclass(magicheap.StaleError, magicheap.MagicHeapError)
"""


@pytest.mark.parametrize("name", ["magicheap._native", "_cffi_backend"])
def test_where_the_compiled_half_is_refused_to_a_subinterpreter_it_runs_cold(life, name):
    life.write(REFUSING.format(name=name))
    reason = f"module {name} does not support loading in subinterpreters"
    expected = [f"False False {root} (0, 0) {life.directory}/x.magic {reason}" for root in (7, 7)]
    ran = life.run("python", "-m", "program")  # which nobody has loaded the package for
    assert ran.out.splitlines() == expected and ran.err == "" and not (life.directory / "x.magic").exists()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older subinterpreters share the lock, and load it")
def test_in_a_real_subinterpreter_it_runs_cold(life):
    life.write("""
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        text = "import os; from magicheap import magic_transaction\\n"
        text += "with magic_transaction('x.magic') as magic: pass\\nos.write(1, magic.reason.encode())"
        assert interpreters.run_string(interpreters.create(), text) is None
    """)
    assert "subinterpreter" in life.run("python", "program.py").out


# ---- mapped files ----

MAPPED_BYTES = 4 << 20  # more than is stored of a file that a later run finds
# It inherits the file, so that no question about it is recorded: only the mapping tells of it.
MAPPER = f"""
    import ctypes, os
    from magicheap import magic_transaction
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with magic_transaction() as magic:
        print("body")
        address = libc.mmap(None, {MAPPED_BYTES}, 1, 2, 9, 0)  # PROT_READ, MAP_PRIVATE
        seen = ctypes.string_at(address, {MAPPED_BYTES})[:: {MAPPED_BYTES} - 1]
        os.system(os.environ["AFTER"])
    print(seen, ctypes.string_at(address, {MAPPED_BYTES})[:: {MAPPED_BYTES} - 1])
"""
TWICE = "body\nb'aa' b'aa'\nb'aa' b'aa'\n"  # a cold run, and a warm one
FILL = f"mkdir -p place && mount -t tmpfs none place && head -c {MAPPED_BYTES} /dev/zero | tr '\\0'"


@pytest.fixture
def mapper(alone):
    """A way to run, twice, a program that maps a file, and then has a shell do something."""
    alone.write(MAPPER)

    def run(prepare, file, after=":"):
        twice = f'set -e; {prepare}; exec 9< {file}; "$@"; "$@"'
        return alone.run("unshare", "-m", "sh", "-c", twice, "sh", sys.executable, "program.py", env={"AFTER": after})

    alone.run_twice = run
    return alone


def is_stored(life):
    """Tell whether the snapshot has the mapped file's bytes, which are letters."""
    return b"aa" * 4096 in life.snapshot().read_bytes()


@as_root
def test_a_mapped_file_that_a_mount_hides_is_stored_even_if_the_other_has_its_inode(mapper):
    """Each tmpfs numbers its files anew."""
    ran = mapper.run_twice(f"{FILL} a > place/file", "place/file", after=f"{FILL} b > place/file")
    assert ran.out == TWICE and ran.has_committed and is_stored(mapper)


@as_root
@pytest.mark.skipif("overlay" not in Path("/proc/filesystems").read_text(), reason="the kernel has no overlayfs")
def test_a_mapped_file_is_not_stored_where_stat_and_mappings_tell_different_devices(mapper):
    layers = "lowerdir=place,upperdir=upper/a,workdir=upper/b"
    overlay = (
        f"mkdir upper over; mount -t tmpfs none upper; mkdir upper/a upper/b; mount -t overlay -o {layers} none over"
    )
    ran = mapper.run_twice(f"{FILL} a > place/file; {overlay}", "over/file")
    assert ran.out == TWICE and ran.has_committed and not is_stored(mapper)
