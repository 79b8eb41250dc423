"""magic-llama from its layers: the same answer, bit for bit, until anything that a layer depends on changes."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from llama_command import found_in
from llama_fixtures import N_PIECES, random_weights, real_model_path, write_gguf, write_meta
from llama_layered import LAUNCHER, SAMPLED, ask, tiny  # noqa: F401
from running import TIMEOUT_S

LAYER_BYTES = 64 << 20  # more than an interpreter with the modules of an answer has written
# of SmolLM2's cache: layers, keys and values, heads, their width in 16 bits, a scale
TOKEN_BYTES = 30 * 2 * 3 * (64 * 2 + 4)
PERSONA = "You are a pirate, and you never say so. " + " ".join(map(str, range(40)))


# ---- the same answer ----


def test_each_layer_is_made_once_and_answers_as_if_there_were_none(ask):
    model, system = real_model_path(), ("--system", PERSONA)
    plain, _ = ask(model, *SAMPLED, *system, env={"MAGICHEAP_DISABLE": "1"})
    assert ask(model, *SAMPLED, *system) == (plain, ["made", "made", "made"])
    assert ask(model, *SAMPLED, *system) == (plain, ["resumed", "resumed", "resumed"])
    assert ask(model, *SAMPLED, *system, "-t", 1) == (plain, ["resumed", "resumed", "resumed"])
    assert ask(model, *SAMPLED, *system, "--no-snapshot")[0] == plain
    assert ask.layers()[0].name.startswith("llama-"), "the imports' snapshot is named after the package"
    alone, how = ask(model, *SAMPLED)
    assert how == ["resumed", "resumed"]
    assert ask(model, *SAMPLED, env={"MAGICHEAP_DISABLE": "1"})[0] == alone != plain


def test_layers_are_made_in_any_order(ask, tiny):
    for arguments, expected in (((), ["made", "made"]), (("--system", "a"), ["resumed", "resumed", "made"])):
        assert ask(tiny, *SAMPLED, *arguments)[1] == expected
        assert ask(tiny, *SAMPLED, *arguments)[1] == ["resumed"] * len(expected)


def test_python_m_llama_shares_the_layers_of_the_model(ask, tiny):
    answer, _ = ask(tiny, *SAMPLED, "--system", "a")
    python = (sys.executable, "-P", "-m", "llama")
    assert ask(tiny, *SAMPLED, "--system", "a", command=python) == (answer, ["resumed"] * 3)


def test_the_working_directory_does_not_matter(ask, tiny, tmp_path):
    (tmp_path / "jinja2.py").write_text("raise SystemExit('this is no jinja2')")
    answer, _ = ask(tiny, *SAMPLED, cwd=tmp_path)
    assert ask(tiny, *SAMPLED, cwd="/") == (answer, ["resumed", "resumed"])
    assert ask(tiny.name, *SAMPLED, cwd=tmp_path) == (answer, ["resumed", "resumed"])


def test_layers_are_made_once_where_there_is_no_locale(ask, tiny, monkeypatch):
    # as cron and containers have it; Python then sets one of them for itself
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    answer, how = ask(tiny, *SAMPLED, "--system", "a")
    assert how == ["made"] * 3
    assert ask.log.count("magicheap: committed") == 3
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * 3)


def test_meta_checkpoints_and_their_tokenizer_come_back(ask, tmp_path):
    model = write_meta(tmp_path / "7B", random_weights(N_PIECES), 2)
    answer, how = ask(model, *SAMPLED, "--quantize", "q8_0")
    assert how == ["made", "made"]
    assert ask(model, *SAMPLED, "--quantize", "q8_0") == (answer, ["resumed", "resumed"])


def test_every_run_has_its_own_prompt_input_and_seed(ask, tiny):
    ask(tiny, "--raw", "--prefix-file", "/dev/null", text=b"one")
    said = ("-n", 20, "--temp", 5, "--seed", 1)
    first, second = (ask(tiny, *said, text=text)[0] for text in (b"one", b"two"))
    assert ask(tiny, *said, "-p", "one")[0] == first != second
    random = ("-n", 20, "--temp", 5, "--top-k", 0, "--top-p", 1, "--min-p", 0)
    assert len({ask(tiny, *random)[0] for _ in range(4)}) == 4


# ---- what changes ----


def test_a_replaced_model_is_loaded_anew(ask, tiny):
    before, _ = ask(tiny, *SAMPLED, "--system", "a")
    write_gguf(tiny, random_weights(267, 2))
    after, how = ask(tiny, *SAMPLED, "--system", "a")
    assert how == ["resumed", "made", "made"]
    assert f"{tiny} has" in ask.log
    assert ask(tiny, *SAMPLED, "--system", "a") == (after, ["resumed"] * 3)
    assert before != after


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_layer_that_is_gone_is_made_anew_with_those_on_it(ask, tiny, lost):
    answer, _ = ask(tiny, *SAMPLED, "--system", "a")
    ask.layers()[lost].unlink()
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * lost + ["made"] * (3 - lost))
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * 3)


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_damaged_layer_is_made_anew(ask, tiny, damaged):
    answer, _ = ask(tiny, *SAMPLED, "--system", "a")
    with open(ask.layers()[damaged], "r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    assert ask(tiny, *SAMPLED, "--system", "a")[0] == answer
    assert "checksum" in ask.log
    assert ask(tiny, *SAMPLED, "--system", "a") == (answer, ["resumed"] * 3)


def test_one_snapshot_file_serves_whom_it_fits(ask, tmp_path):
    """With --snapshot, other settings or another model find files that are not theirs, and replace them."""
    first, second = write_gguf(tmp_path / "a.gguf"), write_gguf(tmp_path / "b.gguf")
    kept = ("--snapshot", tmp_path / "s", "--system", "a")
    runs = ((first,), (first, "--quantize", "q8_0"), (second,), (second,))
    assert [ask(*arguments, *kept)[1][1:] for arguments in runs] == [["made", "made"]] * 3 + [["resumed", "resumed"]]
    assert (tmp_path / "s").exists() and (tmp_path / "s.prefix").exists()
    assert len(ask.layers()) == 1, "imports"


def another_environment(path, *programs):
    """Make an environment with the same packages, and these of its programs; return its interpreter."""
    (path / "bin").mkdir()
    (path / "bin/python").symlink_to(os.path.realpath(sys.executable))
    for program in programs:
        shutil.copy(LAUNCHER.with_name(program), path / "bin")
    (path / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    packages = Path(sysconfig.get_path("purelib"))
    own = path / packages.relative_to(sys.prefix)
    own.mkdir(parents=True)
    for package in packages.iterdir():
        if package.name == "llama":
            shutil.copytree(package, own / "llama")  # a script of its own
        else:
            (own / package.name).symlink_to(package)
    return path / "bin/python"


def test_an_environment_without_the_command_has_the_launcher_of_the_package(ask, tiny, tmp_path):
    python = (another_environment(tmp_path), "-P", "-m", "llama")
    plain, _ = ask(tiny, *SAMPLED, "--system", "a", command=python, env={"MAGICHEAP_DISABLE": "1"})
    for how in ("made", "resumed"):
        assert ask(tiny, *SAMPLED, "--system", "a", command=python) == (plain, [how] * 3)


def test_where_there_is_no_launcher_every_run_loads_and_keeps_nothing(ask, tiny, tmp_path):
    python = another_environment(tmp_path)
    (own,) = tmp_path.glob("lib/python*/site-packages/magicheap")
    package = own.resolve()
    own.unlink()
    shutil.copytree(package, own, ignore=shutil.ignore_patterns("magic"))
    plain, _ = ask(tiny, *SAMPLED, "--system", "a", env={"MAGICHEAP_DISABLE": "1"})
    for _ in range(2):
        assert ask(tiny, *SAMPLED, "--system", "a", command=(python, "-P", "-m", "llama")) == (plain, ["made"] * 3)
        assert "the launcher in magicheap's package is missing" in ask.log and "committed" not in ask.log


# ---- what is not replaced ----


def refused(ask, model, path, *arguments):
    """Answer with this snapshot must be refused, and leave model and file as they were."""
    before = [file.read_bytes() for file in (model, path) if file.is_file()]
    ask(model, "--snapshot", path, *arguments, status=2)
    assert [file.read_bytes() for file in (model, path) if file.is_file()] == before
    assert "Traceback" not in ask.log
    return ask.log


@pytest.mark.parametrize("way", ["itself", "a link", "a hard link", "by another name"])
def test_a_snapshot_is_never_written_over_the_model(ask, tiny, tmp_path, way):
    path = tmp_path / "other"
    if way == "a link":
        path.symlink_to(tiny)
    elif way == "a hard link":
        path.hardlink_to(tiny)
    else:
        path = tiny if way == "itself" else tmp_path / "cache/.." / tiny.name
        (tmp_path / "cache").mkdir(exist_ok=True)
    assert "would be replaced: name another file" in refused(ask, tiny, path)


def test_a_snapshot_is_never_written_over_what_is_none(ask, tiny, tmp_path):
    (tmp_path / "notes").write_text("precious")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "notes")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("notes", "fifo", "directory", "link", "loop"):
        assert "is no snapshot, and would be replaced" in refused(ask, tiny, tmp_path / name)
    assert (tmp_path / "link").is_symlink()
    assert "is no snapshot" in refused(ask, tiny, Path("/dev/null"))


def test_the_prefix_of_a_snapshot_is_never_written_over_what_is_none(ask, tiny, tmp_path):
    (tmp_path / "s.prefix").write_text("precious")
    ask(tiny, "--snapshot", tmp_path / "s")
    ask(tiny, "--snapshot", tmp_path / "s", "--system", "a", status=2)
    ask(tiny, "--snapshot", tmp_path / "s", "--prefix-file", tmp_path / "s.prefix", status=2)
    assert (tmp_path / "s.prefix").read_text() == "precious"


def test_an_empty_file_and_a_snapshot_are_replaced(ask, tiny, tmp_path):
    (tmp_path / "s").touch()
    assert ask(tiny, "--snapshot", tmp_path / "s")[1] == ["made", "made"]
    assert ask(tiny, "--snapshot", tmp_path / "s", "--quantize", "q8_0")[1] == ["resumed", "made"]


# ---- where nothing can be kept ----


@pytest.mark.parametrize(
    "where",
    [
        {"XDG_CACHE_HOME": "", "HOME": "/proc/nonexistent"},
        {"XDG_CACHE_HOME": "/proc/nonexistent"},
        {"XDG_CACHE_HOME": "/dev/null"},
    ],
)
@pytest.mark.parametrize("disable", ["", "1"])
def test_a_cache_that_cannot_be_made_costs_the_speed_alone(ask, tiny, where, disable):
    plain, _ = ask(tiny, *SAMPLED, env={"MAGICHEAP_DISABLE": "1"})
    answer, how = ask(tiny, *SAMPLED, "--system", "", env={**where, "MAGICHEAP_DISABLE": disable})
    assert (answer, how[1:]) == (plain, ["made"])


def test_a_snapshot_in_a_directory_that_is_not_there_costs_the_speed_alone(ask, tiny):
    plain, _ = ask(tiny, *SAMPLED)
    assert ask(tiny, *SAMPLED, "--snapshot", "/proc/nonexistent/s") == (plain, ["resumed", "made"])


def can_mount():
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace")
@pytest.mark.parametrize("arguments", [(), ("--system", "a")])
def test_a_cache_that_forbids_to_execute_ends_in_an_answer(ask, tiny, arguments):
    """The snapshots are sound, and none can be resumed."""
    plain, _ = ask(tiny, *SAMPLED, *arguments)
    again = f'mount --bind {ask.cache} {ask.cache} && mount -o remount,bind,noexec {ask.cache} && exec "$@"'
    for _ in range(2):
        answer, _ = ask(tiny, *SAMPLED, *arguments, command=("unshare", "-m", "sh", "-c", again, "sh", LAUNCHER))
        assert answer == plain
        assert ask.log.count("magicheap: committed") <= 2
    assert ask(tiny, *SAMPLED, *arguments)[0] == plain


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace")
def test_a_model_snapshot_alone_on_such_a_file_system_ends_in_an_answer(ask, tiny, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    plain, _ = ask(tiny, *SAMPLED, "--snapshot", kept / "s")
    again = f'mount --bind {kept} {kept} && mount -o remount,bind,noexec {kept} && exec "$@"'
    for _ in range(2):
        answer, _ = ask(
            tiny, *SAMPLED, "--snapshot", kept / "s", command=("unshare", "-m", "sh", "-c", again, "sh", LAUNCHER)
        )
        assert answer == plain
        assert ask.log.count("magicheap: committed") <= 3


# ---- who else has one ----


def test_two_interpreters_keep_a_model_each(ask, tiny, tmp_path):
    other = (another_environment(tmp_path, "magic"), "-P", "-m", "llama")
    ways: tuple[dict[str, object], ...] = ({}, {"command": other})
    answers = {ask(tiny, *SAMPLED, **way)[0] for way in ways}
    assert len(answers) == 1
    kept = {path: path.stat().st_mtime_ns for path in ask.layers() if path.name.startswith("m-")}
    assert len(kept) == len(ways)
    for way in ways:
        assert ask(tiny, *SAMPLED, **way)[0] in answers
        assert "model   resumed" in ask.log
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_model_that_cannot_be_loaded_leaves_no_snapshot(ask, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    ask(tmp_path / "m.gguf", status=1)
    assert "ends too early" in ask.log
    assert len(ask.layers()) == 1, "imports"


# ---- what it costs ----


def test_a_layer_holds_what_it_adds(ask, tmp_path):
    model = tmp_path / "m.gguf"
    model.symlink_to(real_model_path())
    ask(model, "-n", 1, "--system", PERSONA)
    n_tokens = int(found_in(ask.log, r"prefix +(\d+) tokens"))
    imports, weights, prefix = (path.stat().st_blocks * 512 for path in ask.layers())
    model_bytes = real_model_path().stat().st_size
    assert imports < LAYER_BYTES
    assert model_bytes < weights < model_bytes + LAYER_BYTES
    assert prefix < n_tokens * TOKEN_BYTES + LAYER_BYTES


def test_answering_leaves_the_layers_as_they_were(ask, tiny):
    ask(tiny, *SAMPLED, "--system", "a")
    before = [path.read_bytes() for path in ask.layers()]
    assert ask(tiny, *SAMPLED, "--system", "a")[1] == ["resumed"] * 3
    assert [path.read_bytes() for path in ask.layers()] == before


# ---- together, and cut short ----


def test_two_at_once_answer_alike(ask, tiny):
    arguments = (*SAMPLED, "--system", "a", "-p", "Say anything.")
    for _ in range(3):  # the first pair finds no layer; of the last, both find all
        both = [ask.start(tiny, *arguments) for _ in range(2)]
        (first, _), (second, how) = (ask.end(process) for process in both)
        assert first == second
    assert how == ["resumed"] * 3


def test_ctrl_c_and_a_reader_that_goes_away_end_a_resumed_run_as_any(ask):
    arguments = ("--raw", "--temp", 0, "-n", 400, "--prefix-file", "/dev/null", "-p", "Once upon a time")
    model = real_model_path()
    ask(model, *arguments, "-n", 1)
    for end, status in (
        (lambda process: process.send_signal(signal.SIGINT), 130),
        (lambda process: process.stdout.close(), 141),
    ):
        process = ask.start(model, *arguments, stderr=subprocess.DEVNULL, env={"MAGICHEAP_LOG": ""})
        assert process.stdout.read(1) == b","
        end(process)
        assert process.wait(TIMEOUT_S) == status
