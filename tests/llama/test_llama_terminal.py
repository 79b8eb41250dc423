"""magic-llama -i: turns that are typed at a terminal, remembered, evaluated once, and in the end forgotten, oldest
first."""

import os
import re
import signal
from argparse import Namespace

import pytest
from llama_command import Terminal, found_in, own_cache, run  # noqa: F401
from llama_fixtures import real_model_path, write_gguf

import llama
from llama.command._dialogue import Dialogue


def test_a_chat_remembers_and_evaluates_only_what_is_new():
    terminal = Terminal("--timings")
    terminal.wait_for_prompt()
    terminal.type("My name is Bob. Say hello.\n")
    terminal.wait_for_prompt()
    terminal.type("What is my name?\n")
    evaluated = int(found_in(terminal.wait_for_prompt(), r"prompt +(\d+) tokens"))
    out, status = terminal.end()
    assert status == 0
    assert "Bob" in out.splitlines()[-1]
    turn = "<|im_end|>\n<|im_start|>user\nWhat is my name?<|im_end|>\n<|im_start|>assistant\n"
    assert evaluated == n_tokens(turn)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of random weights, with a context of 256 and most tokens of one byte."""
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf")


FORGOTTEN = r"the context of (\d+) tokens is full: the oldest (\d+) of (\d+) turns are forgotten"


@pytest.mark.parametrize("way", [(), ("--raw",), ("--system", "Be brief."), ("--raw", "--prefix-file", "prefix")])
def test_a_chat_that_outgrows_its_context_goes_on_without_its_oldest_turns(tiny, tmp_path, way):
    (tmp_path / "prefix").write_text("A: b\n")
    way = [tmp_path / word if word == "prefix" else word for word in way]
    terminal = Terminal("-c", 160, "-n", 8, *way, model=tiny)
    terminal.wait_for_prompt()
    said = []
    for turn in range(12):
        terminal.type(f"turn {turn:02} xxxxxxxx\n")
        said.append(terminal.wait_for_prompt())
    _, status = terminal.end()
    assert status == 0
    lost = [re.search(FORGOTTEN, text) for text in said]
    assert not lost[0]
    assert any(lost)
    assert all(int(found[1]) == 160 and 0 < int(found[2]) <= int(found[3]) for found in lost if found)
    assert not all(lost[-4:]), "half of the context is free behind each time"


def test_what_is_forgotten_leaves_system_message_prefix_and_template_whole(tiny):
    model = llama.load(tiny)
    dialogue = Dialogue(model, Namespace(system="Be brief.", raw=False, ctx=200, cache_type="i16", n=8), "prefix ")
    dialogue._limit, dialogue._forgets = 8, True
    dialogue._script.turns = [(f"question {i}", f"answer {i}") for i in range(20)]
    turns, tokens = dialogue._fitted("last")
    assert 0 < len(turns) < 20
    assert turns == dialogue._script.turns[-len(turns) :]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nprefix " + "".join(
        f"{asked}<|im_end|>\n<|im_start|>assistant\n{answered}<|im_end|>\n<|im_start|>user\n"
        for asked, answered in turns
    )
    assert tokens == model.tokenizer.encode(f"{text}last<|im_end|>\n<|im_start|>assistant\n", special=True)
    assert len(tokens) <= 100
    dialogue.close()
    model.close()


def test_a_raw_text_forgets_what_is_between_its_prefix_and_its_latest_turns(tiny):
    model = llama.load(tiny)
    dialogue = Dialogue(model, Namespace(system="", raw=True, ctx=100, cache_type="i16", n=8), "prefix ")
    dialogue._limit, dialogue._forgets = 8, True
    encode, text = model.tokenizer.encode, "prefix "
    for i in range(9):
        turns, tokens = dialogue._fitted(f"turn {i} xxxxx")
        dialogue._script.add(turns, f"turn {i} xxxxx", tokens, encode(" and so on"), " and so on")
        text = text + f"turn {i} xxxxx" + " and so on"
    turns, tokens = dialogue._fitted("last")
    found = model.tokenizer.decode(tokens)
    assert found.startswith("prefix turn ")
    assert text.endswith(found.removeprefix("prefix ").removesuffix("last"))
    assert len(tokens) < 100
    dialogue.close()
    model.close()


def test_a_turn_that_never_fits_is_refused_and_the_chat_goes_on(tiny):
    terminal = Terminal("-c", 64, "-n", 2, "-p", "y" * 99, model=tiny)
    assert re.search(r"magic-llama: the prompt is \d+ tokens, the context holds 64:", terminal.wait_for_prompt())
    terminal.type("x" * 99 + "\n")
    assert re.search(r"magic-llama: the prompt is \d+ tokens, the context holds 64:", terminal.wait_for_prompt())
    terminal.type("hi\n")
    assert "prompt" not in terminal.wait_for_prompt()
    out, status = terminal.end()
    assert status == 0
    assert out


def test_bytes_that_are_typed_and_no_text_are_replaced(tiny):
    terminal = Terminal("-n", 2, model=tiny)
    terminal.wait_for_prompt()
    os.write(terminal.screen, b"\xff\xed\xa0\x80\n")
    terminal.wait_for_prompt()
    assert terminal.end()[1] == 0


def test_a_raw_text_goes_on_with_what_is_typed():
    terminal = Terminal("--timings", "--raw", "-n", 8)
    terminal.wait_for_prompt()
    terminal.type("Once upon a time\n")
    terminal.wait_for_prompt()
    terminal.type(" The end.\n")
    evaluated = int(found_in(terminal.wait_for_prompt(), r"prompt +(\d+) tokens"))
    terminal.end()
    assert evaluated == 1 + n_tokens(" The end."), "the eighth token of the answer was not evaluated yet"


def n_tokens(text):
    model = llama.load(real_model_path())
    try:
        return len(model.tokenizer.encode(text, special=True))
    finally:
        model.close()


def test_a_prefix_belongs_to_the_first_turn_only(tmp_path):
    (tmp_path / "prefix").write_text("My name is Bob. ")
    terminal = Terminal("--timings", "--prefix-file", tmp_path / "prefix", "-n", 4)
    assert "prefix " in terminal.wait_for_prompt()
    terminal.type("Say hello.\n")
    terminal.wait_for_prompt()
    terminal.type("Again.\n")
    evaluated = int(found_in(terminal.wait_for_prompt(), r"prompt +(\d+) tokens"))
    terminal.end()
    turn = "<|im_end|>\n<|im_start|>user\nAgain.<|im_end|>\n<|im_start|>assistant\n"
    assert evaluated == 1 + n_tokens(turn), "the fourth token of the answer was not evaluated yet"


@pytest.mark.parametrize("way", ["without snapshot", "from a snapshot"])
def test_ctrl_c_ends_an_answer_but_not_the_chat(way, tmp_path):
    snapshot = ("--snapshot", tmp_path / "s") if way == "from a snapshot" else ()
    if snapshot:
        run(real_model_path(), "-p", "Hello", "-n", 1, *snapshot)
    terminal = Terminal(*snapshot)
    terminal.wait_for_prompt()
    terminal.type("Count from one to a thousand in words.\n")
    assert os.read(terminal.process.stdout.fileno(), 1)
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for_prompt()
    _out, status = terminal.end()
    assert status == 0
