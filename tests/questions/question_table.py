"""The questions that a body may ask of the world, each as code that asks it and as worlds (question_worlds.py) that
answer differently: a row for each way to ask.

What C asks is asked by one library of functions that take a text and return one (question_library.c).
"""

import os
import subprocess
from typing import NamedTuple

from question_worlds import (
    ARGUMENTS,
    COUNTED,
    OPTIONS,
    VARIABLE,
    ZONES,
    beside,
    dangling,
    database,
    emptied,
    gone,
    group,
    groups,
    host,
    installed,
    kind,
    leading_nowhere,
    length,
    linked,
    listed,
    log_of_database,
    mode,
    on_path,
    place,
    set_to,
    sized,
    terminal,
    text,
    there,
    upgraded,
    zone_directory,
    zone_file,
)

MODULES = [
    "ctypes",
    "glob",
    "importlib",
    "importlib.metadata",
    "importlib.util",
    "locale",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "sqlite3",
    "sys",
    "time",
    "zoneinfo",
]


class Question(NamedTuple):
    """One question, how to ask it, and how the world comes to answer otherwise."""

    name: str
    asks: str  # lines of Python that set `answer`
    world: object  # world(directory, number) makes it, and returns a Start or None; number: 0, 1, 2
    needs: str = ""  # what must be there: root, zones


def c(function, argument="''"):
    return (
        f"asker = ctypes.CDLL(ASKER); asker.{function}.restype = ctypes.c_char_p; answer = "
        f"asker.{function}(os.fsencode({argument}))"
    )


def tried(expression):
    return f"try:\n    answer = {expression}\nexcept Exception as error:\n    answer = type(error).__name__"


QUERY = (
    'connection = sqlite3.connect(D + "/d.sqlite"); '
    'answer = connection.execute("select count(*) from t").fetchone(); connection.close()'
)
FIND = tried("importlib.import_module('extra').VALUE")

QUESTIONS = [
    # files that are opened
    Question("open r", "answer = open(F).read()", text),
    Question("open r+", "with open(F, 'r+') as file:\n    answer = file.read()", text),
    Question("open a+", "with open(F, 'a+') as file:\n    file.seek(0); answer = file.read()", text),
    Question("os.open O_RDWR", "fd = os.open(F, os.O_RDWR); answer = os.read(fd, 100); os.close(fd)", text),
    Question(
        "os.open dir_fd",
        (
            "d = os.open(D, os.O_RDONLY); fd = os.open('f.txt', os.O_RDONLY, dir_fd=d); answer = os.read(fd, "
            "100); os.close(fd); os.close(d)"
        ),
        text,
    ),
    Question("read_text", "answer = pathlib.Path(F).read_text()", text),
    Question("relative open", "answer = open('f.txt').read()", text),
    Question("C open", c("ask_open", "F"), text),
    Question("C open O_RDWR", c("ask_open_read_write", "F"), text),
    Question("C open O_RDWR O_CREAT", c("ask_open_create", "F"), text),
    Question("C openat", c("ask_openat", "'f.txt'"), text),
    Question("C fopen r", c("ask_fopen", "F"), text),
    Question("C fopen r+", c("ask_fopen_read_write", "F"), text),
    Question("C fopen a+", c("ask_fopen_append", "F"), text),
    Question("C freopen", c("ask_freopen", "F"), text),
    Question("sqlite", QUERY, database(False)),
    Question("sqlite wal", QUERY, database(True)),
    Question("sqlite wal left over", QUERY, log_of_database),
    # files that are examined
    Question("os.stat", "answer = os.stat(F).st_size", length),
    Question("os.lstat", "answer = os.lstat(F).st_size", length),
    Question("getsize", "answer = os.path.getsize(F)", length),
    Question("exists, then gone", "answer = os.path.exists(F)", gone),
    Question("access, then gone", "answer = os.access(F, os.R_OK)", gone),
    Question("isdir", "answer = os.path.isdir(F)", kind),
    Question("access X_OK", "answer = os.access(F, os.X_OK)", mode),
    Question("realpath", "answer = os.path.realpath(D + '/link/f.txt')", linked),
    Question("resolve", "answer = str(pathlib.Path(D, 'link').resolve())", linked),
    Question("readlink", "answer = os.readlink(D + '/link')", linked),
    Question("C stat", c("ask_stat", "F"), length),
    Question("C lstat", c("ask_lstat", "F"), length),
    Question("C fstatat", c("ask_fstatat", "F"), length),
    Question("C statx", c("ask_statx", "F"), length),
    Question("C access, then gone", c("ask_access", "F"), gone),
    Question("C access X_OK", c("ask_executable", "F"), mode),
    Question("C realpath", c("ask_realpath", "D + '/link/f.txt'"), linked),
    Question("C readlink", c("ask_readlink", "D + '/link'"), linked),
    # files that are looked for in vain
    Question("open in vain", tried("open(F).read()"), there("f.txt")),
    Question("open r+ in vain", tried("open(F, 'r+').read()"), there("f.txt")),
    Question("stat in vain", tried("os.stat(F).st_size"), there("f.txt")),
    Question("exists in vain", "answer = os.path.exists(F)", there("f.txt")),
    Question("access in vain", "answer = os.access(F, os.R_OK)", there("f.txt")),
    Question("in a missing directory", "answer = os.path.exists(D + '/missing/f.txt')", there("missing/f.txt")),
    Question("open in a missing directory", tried("open(D + '/missing/f.txt').read()"), there("missing/f.txt")),
    Question("a dangling link", "answer = os.path.exists(D + '/link')", dangling),
    Question("open of a dangling link", tried("open(D + '/link').read()"), dangling),
    Question("lexists in vain", "answer = os.path.lexists(F)", leading_nowhere),
    Question("islink in vain", "answer = os.path.islink(F)", leading_nowhere),
    Question("realpath in vain", "answer = os.path.realpath(F)", leading_nowhere),
    Question("readlink in vain", tried("os.readlink(F)"), leading_nowhere),
    Question("C open in vain", c("ask_open", "F"), there("f.txt")),
    Question("C fopen in vain", c("ask_fopen", "F"), there("f.txt")),
    Question("C stat in vain", c("ask_stat", "F"), there("f.txt")),
    Question("C access in vain", c("ask_access", "F"), there("f.txt")),
    Question("C access in a missing directory", c("ask_access", "D + '/missing/f.txt'"), there("missing/f.txt")),
    Question("C stat of a dangling link", c("ask_stat", "D + '/link'"), dangling),
    # directories
    Question("listdir", "answer = sorted(os.listdir(D + '/d'))", listed),
    Question("listdir, then emptied", "answer = sorted(os.listdir(D + '/d'))", emptied),
    Question(
        "listdir of a descriptor",
        "fd = os.open(D + '/d', os.O_RDONLY); answer = sorted(os.listdir(fd)); os.close(fd)",
        listed,
    ),
    Question("scandir", "answer = sorted(each.name for each in os.scandir(D + '/d'))", listed),
    Question("glob", "answer = sorted(glob.glob(D + '/d/*.txt'))", listed),
    Question("iterdir", "answer = sorted(str(each) for each in pathlib.Path(D, 'd').iterdir())", listed),
    Question("walk", "answer = sorted(each[2] for each in os.walk(D + '/d'))", listed),
    Question(
        "listdir in vain",
        tried("sorted(os.listdir(D + '/d'))"),
        lambda directory, number: listed(directory, number) if number else None,
    ),
    Question("C opendir", c("ask_opendir", "D + '/d'"), listed),
    Question("C fdopendir", c("ask_fdopendir", "D + '/d'"), listed),
    Question("C scandir", c("ask_scandir", "D + '/d'"), listed),
    Question("C glob", c("ask_glob", "D + '/d/*.txt'"), listed),
    # imports
    Question(
        "a module that shadows the standard library's",
        "import colorsys; answer = colorsys.__file__",
        beside("colorsys.py"),
    ),
    Question(
        "a module that shadows another",
        "import helper; answer = helper.VALUE",
        on_path(["first/helper.py"], ["second/helper.py"]),
    ),
    Question(
        "an __init__ is added",
        "import space; answer = str(space.__file__)",
        on_path(["first/space/__init__.py"], ["first/space/part.py"]),
    ),
    Question("an optional import", FIND, beside("extra.py")),
    Question("an optional import on the path", FIND, on_path(["second/extra.py", "first/extra.py"])),
    Question("an optional package", FIND, on_path(["second/extra/__init__.py", "first/extra/__init__.py"])),
    Question("find_spec", "answer = importlib.util.find_spec('extra') is None", beside("extra.py")),
    Question(
        "an optional part of a package",
        "try:\n    import pack.extra\n    answer = 1\nexcept ImportError:\n    answer = 0",
        on_path(["first/pack/extra.py"], ["first/pack/__init__.py"]),
    ),
    Question(
        "a module that was edited",
        "import helper; answer = helper.VALUE",
        lambda directory, number: (directory / "helper.py").write_text(f"VALUE = {number}\n") and None,
    ),
    Question(
        "sitecustomize",
        "answer = getattr(sys.modules.get('sitecustomize'), 'VALUE', 0)",
        on_path(["second/sitecustomize.py", "first/sitecustomize.py"]),
    ),
    Question(
        "entry points",
        "answer = sorted(each.name for each in importlib.metadata.entry_points(group='questions'))",
        installed,
    ),
    Question("a version", "answer = importlib.metadata.version('plugin')", upgraded),
    # the environment
    Question("environ[]", tried("os.environ['ASKED_FOR']"), VARIABLE),
    Question("environ.get", "answer = os.environ.get('ASKED_FOR')", VARIABLE),
    Question("in environ", "answer = 'ASKED_FOR' in os.environ", VARIABLE),
    Question("getenv", "answer = os.getenv('ASKED_FOR')", VARIABLE),
    Question("environb", "answer = os.environb.get(b'ASKED_FOR')", VARIABLE),
    Question("getenvb", "answer = os.getenvb(b'ASKED_FOR')", VARIABLE),
    Question("expandvars", "answer = os.path.expandvars('$ASKED_FOR/x')", VARIABLE),
    Question("expanduser", "answer = os.path.expanduser('~/x')", set_to("HOME", "/one", "/two", "/three")),
    Question("which", "answer = shutil.which('sh')", set_to("PATH", "/usr/bin", "/bin:/usr/bin", "/nowhere")),
    Question("C getenv", c("ask_getenv", "'ASKED_FOR'"), VARIABLE),
    Question("C secure_getenv", c("ask_secure_getenv", "'ASKED_FOR'"), VARIABLE),
    # arguments
    Question("argv[1]", "answer = sys.argv[1]", ARGUMENTS),
    Question("argv[1:]", "answer = sys.argv[1:]", ARGUMENTS),
    Question("len(argv)", "answer = len(sys.argv)", COUNTED),
    Question("orig_argv", "answer = sys.orig_argv[-1]", ARGUMENTS),
    Question(
        "argparse",
        (
            "import argparse; parser = argparse.ArgumentParser(); parser.add_argument('--size'); answer = "
            "parser.parse_args().size"
        ),
        OPTIONS,
    ),
    # the working directory
    Question("getcwd", "answer = os.getcwd()", place),
    Question("getcwdb", "answer = os.getcwdb()", place),
    Question("abspath", "answer = os.path.abspath('x')", place),
    Question("Path.cwd", "answer = str(pathlib.Path.cwd())", place),
    Question("relative open elsewhere", "answer = open('f.txt').read()", place),
    Question("relative stat elsewhere", "answer = os.path.exists('f.txt'), os.stat('f.txt').st_ino", place),
    Question("C getcwd", c("ask_getcwd"), place),
    Question("C get_current_dir_name", c("ask_current_directory"), place),
    # terminals
    Question("stdin.isatty", "answer = sys.stdin.isatty()", terminal(0)),
    Question("stdout.isatty", "answer = sys.stdout.isatty()", terminal(1)),
    Question("stderr.isatty", "answer = sys.stderr.isatty()", terminal(2)),
    Question("os.isatty", "answer = os.isatty(1)", terminal(1)),
    Question("get_terminal_size", "answer = shutil.get_terminal_size()", sized(1)),
    Question("os.get_terminal_size", "answer = os.get_terminal_size(2)", sized(2)),
    Question("C isatty", c("ask_isatty", "'1'"), terminal(1)),
    Question("C tcgetattr", c("ask_settings", "'0'"), terminal(0)),
    Question("C TIOCGWINSZ", c("ask_size", "'2'"), sized(2)),
    # host and user
    Question("uname", "answer = os.uname().nodename", host, "root"),
    Question("platform.node", "import platform; answer = platform.node()", host, "root"),
    Question("socket.gethostname", "answer = socket.gethostname()", host, "root"),
    Question("C gethostname", c("ask_gethostname"), host, "root"),
    Question("C uname", c("ask_uname"), host, "root"),
    Question("getgid", "answer = os.getgid()", group, "root"),
    Question("C getgid", c("ask_group"), group, "root"),
    Question("getgroups", "answer = os.getgroups()", groups, "root"),
    # locale and time zone
    Question("setlocale", "answer = locale.setlocale(locale.LC_ALL, '')", set_to("LC_ALL", "C", "C.UTF-8", "POSIX")),
    Question("C nl_langinfo", c("ask_codeset"), set_to("LC_ALL", "C", "C.UTF-8", "POSIX")),
    Question(
        "tzname", "answer = time.tzname", set_to("TZ", "Europe/Berlin", "Asia/Tokyo", "America/New_York"), "zones"
    ),
    Question("a file of a time zone", "answer = time.strftime('%Z', time.localtime(1700000000))", zone_file, "zones"),
    Question(
        "a time zone in TZDIR", "answer = time.strftime('%Z', time.localtime(1700000000))", zone_directory, "zones"
    ),
    Question(
        "zoneinfo",
        "answer = str(zoneinfo.ZoneInfo('Mine').utcoffset(__import__('datetime').datetime(2020, 1, 1)))",
        zone_directory,
        "zones",
    ),
    Question("C localtime", c("ask_zone"), zone_file, "zones"),
]


def imports_of(question):
    """The modules that it asks by, in one statement; never more, since each takes its time."""
    return (
        f"import os, {', '.join(name for name in MODULES if name + '.' in question.asks and name != 'os')}".rstrip(", ")
        + "\n"
    )


def is_missing(need):
    """Return why a question can't be asked here, or None."""
    if need == "root" and (
        os.geteuid() != 0 or subprocess.run(["unshare", "-u", "true"], capture_output=True).returncode != 0
    ):
        return "takes root, and namespaces"
    return "there are no time zones" if need == "zones" and not (ZONES / "Asia/Tokyo").exists() else None
