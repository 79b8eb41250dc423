"""The command `magicheap` on snapshots of processes: what it prints, what it removes, what it tries."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
    import sys
    from magicheap import magic_transaction
    with magic_transaction({path}) as magic:
        print("body")
        reads = open("data.txt")
        loaded = list(range(1_000_000))
    if sys.argv[1:]:
        with magic_transaction("layer.magic"):
            layer = len(loaded)
        sys.stdin.readline()
"""


@pytest.fixture
def made(life, magicheap):
    """A directory with a program that has committed to the cache, and the command that looks there."""
    (life.directory / "data.txt").write_text("data")
    life.env = {**os.environ, **life.env}  # as `magicheap` has it, or it would find variables changed
    life.write(PROGRAM.format(path=""))
    life.cold("python", "program.py")

    def command(*arguments, **options):
        return magicheap(
            *arguments, env={"XDG_CACHE_HOME": str(life.directory / "cache"), **options.pop("env", {})}, **options
        )

    return life, command


@pytest.fixture
def layers(life, magicheap):
    """A directory with base.magic, and layer.magic on top of it."""
    (life.directory / "data.txt").write_text("data")
    life.env = {**os.environ, **life.env}  # as `magicheap` has it, or it would find variables changed
    life.write(PROGRAM.format(path="'base.magic'"))
    life.cold("python", "program.py")
    assert life.run("python", "program.py", "layer").has_committed
    return life.directory


def rows(text):
    return dict(line.split("\t") for line in text.splitlines())


def test_info_says_what_a_process_holds_and_which_command_it_answers_to(made):
    life, command = made
    shown = rows(command("info", life.snapshot()))
    assert shown["kind"].startswith("process, format ")
    assert shown["answers to"].endswith(f"/magic script {life.directory}/program.py")
    assert shown["layer on"] == "nothing" and shown["carries"].startswith("1 open file, ")
    assert shown["written by every run"].endswith(("KiB", "MiB"))
    assert {part.split()[2] for part in shown["memory"].split(", ")} == {"memory", "file", "zero"}
    assert "library" in shown["depends on"] and "arena" not in shown
    assert shown["state"] == "a run here and now would take it, given the same directory"


def test_info_says_why_a_process_is_stale(made):
    life, command = made
    life.write(PROGRAM.format(path="") + "# edited\n")
    assert rows(command("info", life.snapshot()))["state"].startswith(f"stale: {life.directory}/program.py has changed")


def test_info_json_holds_everything(made):
    life, command = made
    report = json.loads(command("info", life.snapshot(), "--json"))
    assert report["info"]["kind"] == "process" and report["parent"] == "" and report["stale"] == ""
    assert report["process"]["n_descriptors"] == 1 and report["process"]["program"].startswith("/")
    files = [each["name"] for each in report["inputs"] if each["kind"] in ("file", "library")]
    assert len(set(files)) == len(files)  # each is examined once at every start
    memory = sum(segment["size_bytes"] for segment in report["segments"] if segment["kind"] == "memory")
    assert 8_000_000 < memory < report["info"]["file_bytes"]
    files = [segment for segment in report["segments"] if segment["kind"] == "file"]
    assert all(report["inputs"][segment["input"]]["kind"] in ("file", "library") for segment in files)


def test_verify_reads_all_that_is_in_the_file(made):
    life, command = made
    path = life.snapshot()
    assert command("verify", path) == f"{path}: ok\n"
    report = json.loads(command("info", path, "--json"))
    sound = path.read_bytes()
    memory = [segment for segment in report["segments"] if segment["kind"] == "memory"]
    for segment in (memory[0], memory[len(memory) // 2], memory[-1]):
        damaged = bytearray(sound)
        damaged[segment["file_offset"] + segment["size_bytes"] - 1] ^= 1
        path.write_bytes(damaged)
        assert "CorruptError" in command("verify", path, status=1)


def test_ls_shows_layers_below_their_parents(layers, magicheap):
    _, base, layer, _ = magicheap("ls", layers).splitlines()
    assert base.startswith(f"{layers}/base.magic\tprocess\t") and layer.startswith(f"  {layers}/layer.magic\tprocess\t")
    assert base.endswith("\tfresh") and layer.endswith("\tfresh")
    parents = {os.path.basename(each["path"]): each["parent"] for each in json.loads(magicheap("ls", layers, "--json"))}
    assert parents == {"base.magic": "", "layer.magic": f"{layers}/base.magic"}
    assert rows(magicheap("info", layers / "layer.magic"))["layer on"] == f"{layers}/base.magic"


def test_a_layer_whose_parent_is_gone_is_listed_as_stale_and_cleaned(layers, magicheap):
    (layers / "base.magic").unlink()
    _, line, _ = magicheap("ls", layers).splitlines()
    assert line.startswith(f"{layers}/layer.magic\t") and "base.magic no longer exists" in line
    assert rows(magicheap("info", layers / "layer.magic"))["layer on"] == "a snapshot that no longer exists"
    assert "removed " in magicheap("clean", layers)
    assert not (layers / "layer.magic").exists()


def test_a_resumed_process_is_among_those_that_use_it(layers, life, magicheap):
    with life.start("magic", "program.py", "stay", stdin=subprocess.PIPE, env={"MAGICHEAP_LOG": ""}) as process:
        users: list[dict[str, object]] = []
        while not users and process.poll() is None:
            users = json.loads(magicheap("info", layers / "layer.magic", "--json"))["processes"]
        assert [use["pid"] for use in users] == [process.pid]
        process.communicate("\n", timeout=60)


def test_clean_removes_links_that_lead_nowhere(made):
    life, command = made
    (link,) = (life.cache / "commands").iterdir()
    assert command("clean") == "0 snapshots, 0 bytes\n" and link.is_symlink()
    life.snapshot().unlink()
    assert f"would remove {link}" in command("clean", "--dry-run") and link.is_symlink()
    assert command("clean") == f"removed {link}: the snapshot it leads to is gone\n0 snapshots, 0 bytes\n"
    assert not link.is_symlink()
    life.cold("magic", "program.py")
    assert command("clean", "--all").count("removed ") == 2
    assert not life.cache.exists(), "nothing is left"


def test_nothing_of_ours_is_left_when_all_is_removed(life, magicheap, tmp_path):
    """Snapshots, links, what is noted beside them, and in each place in which it may be noted what was told."""
    places = {"XDG_CACHE_HOME": "cache", "XDG_RUNTIME_DIR": "runtime", "TMPDIR": "temporary"}
    for place in places.values():
        (tmp_path / place).mkdir(exist_ok=True)
    env = {name: str(tmp_path / place) for name, place in places.items()}
    life.write(
        "import os\nfrom magicheap import magic_transaction\nwith magic_transaction():\n    print('body')\n"
        "    os.environ.get('WHICH')\n"
    )
    for which in range(12):  # more than there are places for
        life.run("python", "program.py", env={**env, "WHICH": str(which)})
    life.write(
        (
            "import os\nfrom magicheap import magic_transaction\nwith magic_transaction():\n"
            "    held = os.popen('cat', 'w')\n"
        ),
        "warns.py",
    )
    life.run("python", "warns.py", env={**env, "MAGICHEAP_LOG": ""})
    assert {"commands", "warned"} < set(os.listdir(life.cache)) and list(life.cache.glob("*.seen"))
    for path in ("runtime/magicheap-warned", f"temporary/magicheap-warned-{os.geteuid()}"):
        (tmp_path / path).mkdir(mode=0o700)
        (tmp_path / path / "0123456789abcdef01234567").touch()
    said = magicheap("clean", "--all", env=env)
    assert said.count("record of warnings") == 3 and "removed " in said
    assert [os.listdir(tmp_path / place) for place in places.values()] == [[], [], []]


def test_what_is_not_ours_stays_among_what_was_told(life, magicheap):
    warned = life.cache / "warned"
    warned.mkdir(parents=True, mode=0o700)
    (warned / "theirs").touch()
    magicheap("clean", "--all", env={"XDG_CACHE_HOME": str(life.cache.parent)})
    assert os.listdir(warned) == ["theirs"]


ASKS = """
    import os, sys
    from magicheap import magic_transaction
    with magic_transaction():
        print("body")
        import helper
        os.path.exists("/nowhere/at/all"), os.path.isdir("seen"), os.listdir("seen"), os.getcwd(), os.getuid()
        os.uname().nodename, len(sys.argv)
        os.isatty(1), os.system("true"), os.readlink("link")
        try:
            os.get_terminal_size(2)
        except OSError:
            pass
"""


def test_info_tells_each_question_by_name_and_in_words(life, magicheap):
    (life.directory / "seen").mkdir()
    (life.directory / "link").symlink_to("elsewhere")
    (life.directory / "helper.py").write_text("")
    life.write(ASKS)
    life.cold("python", "program.py", stdout=subprocess.PIPE)
    lines = magicheap("info", life.snapshot(), env=life.env).splitlines()
    here = life.directory
    assert {
        "absent\t/nowhere", f"listing\t{here}/seen: all names", f"listing\t{here}: what could be imported",
        f"place\t{here}",
        f"user\t{os.getuid()}", "terminal\tstandard output: no terminal", "size\tstandard error: no terminal",
        f"present\t{here}/link: a link",
        "note\ta child process (true)",
    } <= set(lines)  # fmt: skip
    for start in ("host\tname and kernel, digest ", "arguments\tdigest ", "directory\t/", "names\t__future__, "):
        assert [line for line in lines if line.startswith(start)], start
    (counts,) = (line for line in lines if line.startswith("depends on\t"))
    assert "1 place" in counts and "1 note" in counts and " kind " not in counts


def test_ls_tells_in_which_answers_variants_differ(life, magicheap):
    life.write(
        "import sys\nfrom magicheap import magic_transaction\nwith magic_transaction():\n"
        "    print('body', file=open('/dev/stdout', 'w'))\n    len(sys.argv)\n"
        "    import os; os.getcwd()\n"
    )
    (life.directory / "b").mkdir()
    life.cold("python", "program.py")
    life.cold("python", "../program.py", cwd=life.directory / "b")
    life.cold("python", "program.py", "more")
    variants = [line.split("\t")[3] for line in magicheap("ls", env=life.env).splitlines()[1:-1]]
    assert (
        f"run from {life.directory}/b" in variants[1]
        and "run from" in variants[0]
        and "arguments digest " in variants[2]
    ), variants


def test_doctor_makes_the_users_cache_and_succeeds(magicheap, tmp_path):
    said = magicheap("doctor", env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert "commit and resume of a small process\tok" in said and os.listdir(tmp_path / "cache/magicheap") == []


def test_doctor_commits_and_resumes_a_process(magicheap, tmp_path):
    probes = json.loads(magicheap("doctor", tmp_path, "--json"))
    tried = {probe["name"]: probe for probe in probes if probe["kind"] == "process"}
    assert {"interpreter with its launcher", "commit and resume of a small process", "vdso that can be moved"} <= set(
        tried
    )
    assert not any(probe["obstacle"] for probe in probes) and os.listdir(tmp_path) == []


def test_doctor_says_what_is_missing(tmp_path):
    frozen = "import sys; sys.frozen = True; from magicheap._cli import main; sys.exit(main(['doctor', sys.argv[1]]))"
    done = subprocess.run([sys.executable, "-P", "-c", frozen, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "interpreter with its launcher\tthe program is frozen" in done.stdout
    assert "commit and resume" not in done.stdout, "it is not tried where it can't work"


def test_a_locale_that_python_chose_itself_changes_nothing(life):
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    life.write('from magicheap import magic_transaction\nwith magic_transaction("x.magic"):\n    pass\n')
    subprocess.run([sys.executable, "-P", "program.py"], cwd=life.directory, env=bare, check=True)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "magicheap", "info", life.directory / "x.magic"],
        env=bare,
        capture_output=True,
        text=True,
    )
    assert (
        "environment\tLC_CTYPE" not in done.stdout
        and "LC_CTYPE" not in rows(done.stdout)["state"]
        and done.returncode == 0
    )
