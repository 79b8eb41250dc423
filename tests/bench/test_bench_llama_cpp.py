"""The comparison with llama.cpp: what of it can be tried without building llama.cpp or waiting for it."""

import os
import subprocess
import sys
from pathlib import Path

import bench_llama_cpp
import gguf
import numpy as np
import pytest
from llamacpp import build, contestants, machine, models
from llamacpp.contestants import Case, LlamaCpp
from llamacpp.table import Row, markdown
from spawn import memory, stopped

import llama

TINY = models.Shape(n_layers=2, dim=256, ffn_dim=512, n_heads=4, n_vocab=1200)
BENCH = """#!/bin/sh
echo '[{"n_prompt": 7, "n_gen": 0, "avg_ts": 20.5}, {"n_prompt": 0, "n_gen": 3, "avg_ts": 4.25}]'
"""
COMPLETION = """#!/bin/sh
echo "$@" >"$0.arguments"
echo answer
case "$*" in *"-n 64"*) while :; do :; done ;; esac
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return models.random_model(tmp_path_factory.mktemp("random") / "tiny.gguf", TINY)


# ---- models ----


def test_random_weights_keep_the_size_of_what_passes_through(tiny):
    for tensor in gguf.GGUFReader(tiny).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all()
        if values.ndim == 2:
            assert values.shape[1] == tensor.shape[0]
            assert values.std() * values.shape[1] ** 0.5 == pytest.approx(1, abs=0.1), tensor.name


def test_random_model_is_one_that_can_be_asked(tiny):
    model = llama.load(tiny)
    tokens = model.tokenizer.encode("what is asked", bos=True)
    assert tokens[0] == 1 and model.tokenizer.decode(tokens) == "what is asked"
    with llama.Session(model, n_threads=1) as session:
        session.feed(tokens)
        logits = np.frombuffer(session.logits, np.float32)
    assert 0.3 < logits.std() < 3


def test_vocabulary_holds_no_piece_twice():
    spellings, kinds = models.vocabulary(models.LLAMA_7B.n_vocab)
    assert len(set(spellings)) == len(kinds) == models.LLAMA_7B.n_vocab


def test_every_long_piece_can_be_made_of_two():
    spellings, kinds = models.vocabulary(models.LLAMA_7B.n_vocab)
    pieces = {spelling for spelling, kind in zip(spellings, kinds) if kind == gguf.TokenType.NORMAL}
    assert all(len(piece) == 1 or {piece[:-1], piece[-1]} <= pieces for piece in pieces)


def test_model_that_was_cut_short_is_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "add_fields", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        models.random_model(tmp_path / "tiny.gguf", TINY)
    assert not (tmp_path / "tiny.gguf").exists()


def test_weights_of_a_token_leave_out_an_embedding_that_is_no_head(tiny):
    found = machine.weights(tiny)
    layer = 4 * TINY.dim**2 + 3 * TINY.dim * TINY.ffn_dim
    head = TINY.n_vocab * TINY.dim
    assert found == (TINY.n_layers * layer * 18 // 32 + head * 210 // 256, 2 * TINY.n_layers * layer)


# ---- the machine ----


@pytest.fixture(scope="module")
def ceilings(tmp_path_factory):
    return machine.compile_ceilings(tmp_path_factory.mktemp("ceilings"))


def test_ceilings_are_measured(ceilings):
    found = machine.measure_ceilings(ceilings, Path(sys.executable), 2)
    assert found.read_file > 0 and found.read_huge > 0
    assert found.int8 is None or found.int8 > found.read_file


def test_ceilings_explain_themselves(ceilings):
    assert subprocess.run([ceilings, "/nowhere", "1"], capture_output=True).returncode == 1
    assert subprocess.run([ceilings, "/nowhere", "0"], capture_output=True).returncode == 2


def test_cpu_without_int8_dot_products_has_no_such_ceiling():
    assert machine.parse_ceilings("read_file 2.5\nread_huge 3\n") == (None, "int8", 2.5, 3.0)
    assert (
        machine.parse_ceilings("read_file 2.5\nread_huge 3\n").read
        == machine.parse_ceilings("read_file 3\nread_huge 2.5\n").read
        == 3.0
    )
    assert machine.parse_ceilings("int8_avx2 9\nread_file 2.5\nread_huge 3\n") == (9.0, "avx2", 2.5, 3.0)


def test_model_that_does_not_fit_is_left_out_and_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 5 << 30)
    monkeypatch.setattr(machine, "free_disk_bytes", lambda _: 100 << 30)
    assert bench_llama_cpp.affordable(["smollm2", "7b"], tmp_path) == ["smollm2"]
    assert "7b is left out: it needs 12.0 GiB of memory, 5.0 are free" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no model is left"):
        bench_llama_cpp.affordable(["7b"], tmp_path)


def test_machine_without_compiler_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"cc and c\+\+ not found"):
        bench_llama_cpp.affordable(["smollm2"], tmp_path)


# ---- magic-llama ----


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A MagicLlama whose command is the script that the test writes."""
    monkeypatch.setattr(contestants, "MAGIC_LLAMA", tmp_path / "magic-llama")
    return contestants.MagicLlama(tmp_path / "model.gguf", tmp_path / "cache")


def write_command(path, body):
    path.write_text(f'#!/bin/sh\nmkdir -p "$XDG_CACHE_HOME" && cd "$XDG_CACHE_HOME" && echo run >>runs\n{body}\n')
    path.chmod(0o755)


def test_first_sample_makes_the_snapshot_and_later_ones_use_it(ours, tmp_path):
    write_command(tmp_path / "magic-llama", "[ -e a.magic ] || echo >a.magic")
    assert ours.start_s(1) > 0 and ours.start_s(1) > 0
    assert (ours.cache / "runs").read_text().split() == ["run"] * 3
    ours.forget()
    assert not ours.cache.exists()


@pytest.mark.parametrize("body", [":", "echo >part && mv part a.magic"], ids=["commits nothing", "commits every time"])
def test_sample_that_did_not_start_from_a_snapshot_is_an_error(ours, tmp_path, body):
    write_command(tmp_path / "magic-llama", body)
    with pytest.raises(RuntimeError, match="loaded its model anew"):
        ours.start_s(1)


# ---- llama.cpp ----


def pretend_to_compile(scratch, _):
    objects = scratch / "objects" / "bin"
    objects.mkdir(parents=True)
    for name in build.PROGRAMS:
        (objects / name).touch()


def test_build_that_failed_begins_anew_and_a_complete_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "fetch", lambda *_: None)
    monkeypatch.setattr(build, "compile_programs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build.programs(tmp_path)
    assert not (tmp_path / "bin").exists()
    monkeypatch.setattr(build, "compile_programs", pretend_to_compile)
    assert sorted(os.listdir(build.programs(tmp_path))) == sorted(build.PROGRAMS)
    assert os.listdir(tmp_path) == ["bin"]
    monkeypatch.setattr(build, "fetch", lambda *_: 1 / 0)
    assert build.programs(tmp_path) == tmp_path / "bin"


@pytest.fixture
def contestant(tmp_path):
    for name, source in {"llama-bench": BENCH, "llama-completion": COMPLETION}.items():
        (tmp_path / name).write_text(source)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "model.gguf").touch()
    return LlamaCpp("theirs", tmp_path, tmp_path / "model.gguf", ("--fast",))


def test_rates_are_taken_from_llama_bench(contestant):
    assert contestant.rates(Case("tiny", 7, 3), 1) == (20.5, 4.25)


def test_start_runs_one_token_with_the_best_flags(contestant, tmp_path):
    assert contestant.start_s(2) > 0
    arguments = (tmp_path / "llama-completion.arguments").read_text()
    assert "-n 1 -t 2" in arguments and arguments.endswith("--fast\n")


def test_memory_is_that_of_all_processes(contestant):
    one, four = contestant.memory(1), contestant.memory(4)
    assert one["Private_Dirty"] > 0 and four["Private_Dirty"] > 3 * one["Private_Dirty"]


def test_process_is_stopped_whichever_thread_wrote(program):
    path = program(
        "import threading, time\nthreading.Thread(target=print, args=('here',)).start()\ntime.sleep(60)"
    ).path
    with stopped([sys.executable, "-u", str(path)], 2) as pids:
        assert all(memory(pid)["Rss"] > 0 for pid in pids)
        assert [Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in pids] == ["T", "T"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_process_that_wrote_nothing_is_an_error():
    with pytest.raises(RuntimeError, match="had written nothing"), stopped(["/bin/true"]):
        pass


# ---- the table ----


def test_ratio_is_the_median_of_the_rounds_against_the_best_of_theirs():
    samples = {"a": [10.0, 20.0, 40.0], "b": [1.0, 1.0, 1.0], "ours": [20.0, 30.0, 40.0]}
    table = markdown(
        "t", ["a", "b", "ours"], [Row("rate", samples, 0, True, (40.0, 40.0, 40.0)), Row("time", samples, 1, False)]
    )
    assert table.splitlines()[2:] == ["| rate | 20 | 1 | 30 | 1.50 | 75% |", "| time | 20.0 | 1.0 | 30.0 | 30.00 |  |"]


def test_contestant_without_samples_has_an_empty_cell():
    rows = [Row("ours only", {"ours": [3.0]}, 0, False), Row("theirs only", {"a": [3.0]}, 0, False)]
    assert markdown("t", ["a", "ours"], rows).splitlines()[2:] == [
        "| ours only |  | 3 |  |  |",
        "| theirs only | 3 |  |  |  |",
    ]


class Recorder:
    """A contestant that notes when its turn was."""

    file = None

    def __init__(self, name, turns):
        self.name, self.turns = name, turns

    def start_s(self, n_threads):
        self.turns.append(self.name)
        return 0.5


def test_every_round_begins_with_another_contestant():
    turns: list[str] = []
    recorders = [Recorder("a", turns), Recorder("ours", turns)]
    (row,) = bench_llama_cpp.Comparison(Case("tiny", 7, 3), recorders, Path("ceilings"), [1], 3).start()
    assert turns == ["a", "ours", "ours", "a", "a", "ours"]
    assert row.samples == {"a": [500.0] * 3, "ours": [500.0] * 3}
