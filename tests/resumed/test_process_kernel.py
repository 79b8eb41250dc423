"""What the program changes that the kernel keeps, and no memory: each resumed run has it, or there is no snapshot, or
the run is cold."""

import os
import resource

import pytest

PROGRAM = """
import os
from magicheap import magic_transaction
{before}
with magic_transaction():
    import ctypes, resource, signal
    prctl = ctypes.CDLL(None).prctl
    print("body")
    {body}
{after}
"""

CARRIED = {
    "directory": ("os.chdir('/usr')", "print(os.getcwd(), os.path.abspath('x'))", "/usr /usr/x\n"),
    "directory by descriptor": (
        "fd = os.open('/usr', os.O_RDONLY); os.fchdir(fd); os.close(fd)",
        "print(os.getcwd())",
        "/usr\n",
    ),
    "umask": ("os.umask(0o053)", "print(oct(os.umask(0)))", "0o53\n"),
    "limit": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (70, 90))",
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))",
        "(70, 90)\n",
    ),
    "nice": ("os.setpriority(os.PRIO_PROCESS, 0, 19)", "print(os.nice(0))", "19\n"),
    "cpus": ("os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})", "print(len(os.sched_getaffinity(0)))", "1\n"),
    "closed stream": ("os.close(0)", "print(os.path.exists('/proc/self/fd/0'))", "False\n"),
}
REFUSED = {
    "os.setsid()": "the session",
    "signal.alarm(100)": "a timer runs",
    "signal.setitimer(signal.ITIMER_VIRTUAL, 100)": "a timer runs",
    "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))": "the scheduler",
    "prctl(1, 15, 0, 0, 0)": "the signal of its parent's death",
    "prctl(4, 0, 0, 0, 0)": "whether it can be dumped",
    "prctl(38, 1, 0, 0, 0)": "no_new_privs",
    "log = open('log', 'w'); os.dup2(log.fileno(), 1)": "standard output was redirected",
    "os.set_blocking(2, False)": "standard error has other status flags",
    "os.set_inheritable(0, False)": "standard input has another inheritance flag",
}


def write(life, after, before="", body=""):
    return life.write(PROGRAM.format(after=after, before=before, body=body))


@pytest.mark.parametrize(("change", "after", "expected"), CARRIED.values(), ids=CARRIED)
def test_what_the_body_changed_is_changed_in_every_resumed_run(life, change, after, expected):
    write(life, after, body=change)
    assert life.cold("magic", "program.py") == expected
    for how in ("magic", "python", "magic"):
        assert life.warm(how, "program.py") == expected


def test_what_was_changed_before_the_with_is_changed_where_no_python_comes_there(life):
    write(life, "print(os.getcwd())", before="os.chdir('/usr')")
    life.cold("magic", "program.py")
    assert life.warm("magic", "program.py") == life.warm("python", "program.py") == "/usr\n"


@pytest.mark.parametrize("change", REFUSED)
def test_what_can_not_be_changed_again_is_refused_by_name(life, change):
    write(life, "", body=change)
    ran = life.run("python", "program.py")
    assert not ran.has_committed and REFUSED[change] in ran.err + str(ran.log), ran


def test_a_directory_that_a_relative_name_led_to_is_for_runs_from_the_same_one(life):
    path = write(life, "print(os.getcwd())", body="os.chdir('..')")
    (life.directory / "other").mkdir()
    life.cold("magic", path)
    assert life.cold("magic", path, cwd=life.directory / "other") == f"{life.directory}\n"
    assert life.warm("magic", path) == f"{life.directory.parent}\n"


def test_a_link_that_led_to_the_directory_and_leads_elsewhere_makes_the_run_cold(life):
    link = life.directory / "link"
    link.symlink_to("/usr")
    write(life, "print(os.getcwd())", body=f"os.chdir({str(link)!r})")
    life.cold("magic", "program.py")
    assert life.warm("magic", "program.py") == "/usr\n"
    link.unlink()
    link.symlink_to("/tmp")
    for how in ("magic", "python"):
        assert "/tmp\n" in life.run(how, "program.py").out


def test_a_directory_that_is_gone_makes_the_run_cold(life):
    write(life, "print(os.getcwd())", body="os.makedirs('made', exist_ok=True); os.chdir('made')")
    life.run("magic", "program.py")
    (life.directory / "made").rmdir()
    assert life.run("magic", "program.py").out == f"body\n{life.directory}/made\n"


def test_a_limit_that_is_another_to_begin_with_makes_the_run_cold(life):
    limit = "resource.RLIMIT_NOFILE"
    write(
        life,
        f"print(resource.getrlimit({limit})[0])",
        body=f"resource.setrlimit({limit}, (resource.getrlimit({limit})[0] // 2,) * 2)",
    )
    life.cold("magic", "program.py")
    for how in ("magic", "python"):
        ran = life.run(how, "program.py", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)))
        assert ran.out == "body\n50\n" and not ran.is_warm
        assert "RLIMIT_NOFILE" in ran.reason
    assert not life.run("magic", "program.py").reason


def test_what_nobody_changed_is_that_of_the_run(life):
    write(life, "print(oct(os.umask(0)), os.nice(0))")
    life.cold("magic", "program.py")

    def settle():
        os.umask(0o027)
        os.nice(2)

    assert life.warm("magic", "program.py", preexec_fn=settle) == f"0o27 {os.nice(0) + 2}\n"


def test_a_layer_has_what_both_bodies_changed(life):
    life.write(
        """
    import os
    from magicheap import magic_transaction
    with magic_transaction("a.magic"):
        os.chdir("/usr")
    with magic_transaction("DIRECTORY/b.magic"):
        os.umask(0o053)
    print(os.getcwd(), oct(os.umask(0)))
    """.replace("DIRECTORY", str(life.directory))
    )
    for how in ("magic", "magic", "magic", "python"):
        ran = life.run(how, "program.py")
        assert ran.out == "/usr 0o53\n"
    assert ran.is_warm


def test_the_time_zone_by_which_the_body_told_a_time_is_an_input(life):
    write(life, "print(hour)", body="import time; hour = time.localtime(0).tm_hour")
    for zone, hour in (("UTC", 0), ("XYZ-9", 9)):
        assert life.cold("magic", "program.py", env={"TZ": zone}) == f"{hour}\n"
    for zone, hour in (("UTC", 0), ("XYZ-9", 9)):
        for how in ("magic", "python"):
            assert life.warm(how, "program.py", env={"TZ": zone}) == f"{hour}\n"


def test_a_body_that_told_no_time_serves_every_time_zone(life):
    write(life, "import time; print(time.localtime(0).tm_hour)")
    life.cold("magic", "program.py", env={"TZ": "UTC"})
    assert life.warm("magic", "program.py", env={"TZ": "XYZ-9"}) == "9\n"


def test_files_that_the_body_made_are_made_by_its_umask(life):
    write(
        life,
        "file.close(); print(oct(os.stat('made').st_mode & 0o777)); os.remove('made')",
        body="os.umask(0o027); file = open('made', 'w')",
    )
    assert life.cold("magic", "program.py") == "0o640\n"
    assert life.warm("magic", "program.py") == life.warm("python", "program.py") == "0o640\n"


def test_a_temporary_directory_that_the_body_went_to_is_each_runs_own(life):
    body = "import tempfile; made = tempfile.TemporaryDirectory(); os.chdir(made.name)"
    write(life, "print(os.path.samefile('.', made.name)); os.chdir('/')", body=body)
    life.cold("magic", "program.py")
    assert life.warm("magic", "program.py") == life.warm("python", "program.py") == "True\n"


def test_a_file_named_relative_to_where_the_body_went_is_there(life):
    (life.directory / "logs").mkdir()
    body = f"os.chdir({str(life.directory / 'logs')!r}); log = open('log', 'w'); log.write('body ')"
    write(life, "log.write('behind'); log.close(); print(open('log').read())", body=body)
    life.cold("magic", "program.py")
    assert life.warm("magic", "program.py") == life.warm("python", "program.py") == "body behind\n"


def test_a_file_named_relative_to_where_the_run_began_is_another_in_another_directory(life):
    other = life.directory / "other"
    other.mkdir()
    path = write(life, "log.close()", body="log = open('log', 'w'); log.write('x'); os.chdir('/usr')")
    life.cold("magic", path)
    for how in ("magic", "python"):
        (life.directory / "log").unlink(missing_ok=True)
        assert not life.run(how, path, cwd=other).err
        assert (other / "log").read_text() == "x" and not (life.directory / "log").exists()
        (other / "log").unlink()
