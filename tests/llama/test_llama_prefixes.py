"""Prefixes that are kept: the same tokens as without, and of a text that has grown only what is new is evaluated."""

import os
import re

import pytest
from llama_layered import SAMPLED, ask, tiny  # noqa: F401


def test_a_prefix_begins_the_first_prompt_as_it_is(ask, tiny, tmp_path):
    (tmp_path / "prefix").write_text("Q: 1 + 1\nA: 2\nQ: ")
    for raw in ((), ("--raw",)):
        written, _ = ask(tiny, *SAMPLED, *raw, "-p", "Q: 1 + 1\nA: 2\nQ: 2 + 2")
        for _ in range(2):
            assert ask(tiny, *SAMPLED, *raw, "--prefix-file", tmp_path / "prefix", "-p", "2 + 2")[0] == written


def test_a_prefix_that_merges_with_the_prompt_changes_no_token(ask, tiny, tmp_path):
    (tmp_path / "prefix").write_text("t")  # "the" is a token of this model only behind a space, "he" anywhere
    written, _ = ask(tiny, *SAMPLED, "--raw", "-p", "the 12")
    (tmp_path / "prefix").write_text("the 1")
    for _ in range(2):
        assert ask(tiny, *SAMPLED, "--raw", "--prefix-file", tmp_path / "prefix", "-p", "2")[0] == written


def test_what_a_prefix_says_counts_not_where_it_is_written(ask, tiny, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("one two three")
    second.write_text("one two three")
    assert ask(tiny, "--prefix-file", first)[1][2] == "made"
    assert ask(tiny, "--prefix-file", second)[1][2] == "resumed"
    second.write_text("one two four")
    assert ask(tiny, "--prefix-file", second)[1][2] == "made"
    assert ask(tiny, "--prefix-file", first)[1][2] == "resumed"


@pytest.mark.parametrize(
    "changed", [("--system", "b"), ("-c", 200), ("--cache-type", "q8_0"), ("--quantize", "q8_0"), ("--raw",)]
)
def test_a_prefix_is_evaluated_anew_for_other_settings(ask, tiny, tmp_path, changed):
    (tmp_path / "prefix").write_text("one two three")
    arguments = ("--prefix-file", tmp_path / "prefix", *SAMPLED)
    ask(tiny, *arguments)
    plain, _ = ask(tiny, *arguments, *changed, env={"MAGICHEAP_DISABLE": "1"})
    assert ask(tiny, *arguments, *changed) == (
        plain,
        ["resumed", "made" if "--quantize" in changed else "resumed", "made"],
    )
    assert ask(tiny, *arguments, *changed) == (plain, ["resumed"] * 3)
    assert ask(tiny, *arguments)[1] == ["resumed"] * 3


def test_a_prefix_that_cannot_be_used_is_said(ask, tiny, tmp_path):
    ask(tiny, "--prefix-file", tmp_path / "none", status=1)
    assert "No such file" in ask.log
    (tmp_path / "long").write_text("x" * 300)
    ask(tiny, "--raw", "--prefix-file", tmp_path / "long", "-c", 64, status=2)
    assert "tokens, the context holds 64" in ask.log
    assert len(ask.layers()) == 2, "imports and model"


# ---- a text that grows ----


def prefixes(ask):
    return sorted(
        path.name.removesuffix(".magic").endswith(".more") for path in ask.layers() if "-prefix-" in path.name
    )


@pytest.mark.parametrize("way", [("--raw",), (), ("--system", "Be brief."), ("--cache-type", "q8_0"), ("-c", 200)])
def test_a_history_that_grows_is_evaluated_line_by_line_and_answered_as_ever(ask, tiny, tmp_path, way):
    history = tmp_path / "history"
    history.write_text("<bob> the first line\n")
    arguments = (*SAMPLED, *way, "-p", "<bot>", "-n", 8)
    for turn in range(5):
        plain, _ = ask(tiny, *arguments, "--prefix-file", history, env={"MAGICHEAP_DISABLE": "1"})
        assert ask(tiny, *arguments, "--prefix-file", history) == (
            plain,
            ["resumed" if turn else "made"] * 2 + ["made"],
        )
        found = re.search(r"prefix +(\d+) tokens extended by (\d+), evaluated", ask.log)
        assert bool(found) == (turn > 0)
        if found:
            assert 0 < int(found[2]) < 30 <= int(found[1])
        assert ask(tiny, *arguments, "--prefix-file", history) == (plain, ["resumed"] * 3)
        assert prefixes(ask) == [False, True][: 1 + bool(turn)], "the first, and the latest"
        with open(history, "a") as file:
            file.write(f"<bob> line {turn}, thé\n")


def test_texts_of_which_one_begins_another_keep_one_each(ask, tiny, tmp_path):
    texts = ["abc ", "abc def ", "abc def ghi "]
    for i, text in enumerate(texts):
        (tmp_path / str(i)).write_text(text)
    answers = [ask(tiny, *SAMPLED, "--prefix-file", tmp_path / str(i))[0] for i in range(3)]
    for _ in range(2):
        assert [ask(tiny, *SAMPLED, "--prefix-file", tmp_path / str(i))[0] for i in range(3)] == answers
    assert [ask(tiny, *SAMPLED, "--prefix-file", tmp_path / str(i))[1][2] for i in range(3)] == ["resumed"] * 3


def test_texts_that_begin_anew_are_kept_up_to_a_bound_those_used_last(ask, tiny, tmp_path):
    def evaluated(text):
        (tmp_path / "prefix").write_text(text)
        return ask(tiny, "--prefix-file", tmp_path / "prefix", "-n", 0)[1][2]

    for i in range(20):
        assert evaluated(f"{i} is where this begins") == "made"
        assert evaluated("the one that is used again and again") == ("resumed" if i else "made")
    assert prefixes(ask) == [False] * 16
    assert evaluated("19 is where this begins") == "resumed"
    assert evaluated("3 is where this begins") == "made"
    assert ask(tiny, "--system", "other settings", "-n", 0)[1][2] == "made"
    assert len(prefixes(ask)) == 17


def test_a_text_that_only_looks_alike_takes_nothing(ask, tiny, tmp_path):
    (tmp_path / "a").write_text("one two three")
    (tmp_path / "b").write_text("one two thref and more")
    ask(tiny, "--prefix-file", tmp_path / "a")
    ask(tiny, "--prefix-file", tmp_path / "b")
    assert "extended" not in ask.log
    ask(tiny, "--prefix-file", tmp_path / "b", "--raw")
    assert "extended" not in ask.log, "other settings"


def test_a_prefix_from_a_pipe_is_read_once_and_grows_as_well(ask, tiny, tmp_path):
    plain = []
    for text in ("one two", "one two three"):
        (tmp_path / "prefix").write_text(text)
        plain.append(ask(tiny, *SAMPLED, "--prefix-file", tmp_path / "prefix", env={"MAGICHEAP_DISABLE": "1"})[0])
    for text, answer in zip(("one two", "one two three"), plain):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        assert ask(tiny, *SAMPLED, "--prefix-file", f"/dev/fd/{reader}", pass_fds=[reader])[0] == answer
        os.close(reader)
    assert "extended" in ask.log
    os.mkfifo(tmp_path / "fifo")
    arguments = (*SAMPLED, "--prefix-file", tmp_path / "fifo", "-p", "Say anything.")
    process = ask.start(tiny, *arguments)
    with open(tmp_path / "fifo", "w") as fifo:
        fifo.write("one two three four")
    assert ask.end(process)[1] == ["resumed", "resumed", "made"]
    assert "extended" in ask.log


@pytest.mark.parametrize("damage", ["truncated", "no snapshot", "unreadable"])
def test_a_shorter_prefix_that_cannot_be_resumed_is_done_without(ask, tiny, tmp_path, damage):
    (tmp_path / "a").write_text("one two three")
    (tmp_path / "b").write_text("one two three four")
    plain, _ = ask(tiny, *SAMPLED, "--prefix-file", tmp_path / "b", env={"MAGICHEAP_DISABLE": "1"})
    ask(tiny, "--prefix-file", tmp_path / "a")
    (kept,) = (path for path in ask.layers() if "-prefix-" in path.name)
    if damage == "truncated":
        os.truncate(kept, 5000)
    elif damage == "no snapshot":
        kept.write_bytes(b"not a snapshot")
    else:
        kept.unlink()
        kept.mkdir()
    assert ask(tiny, *SAMPLED, "--prefix-file", tmp_path / "b") == (plain, ["resumed", "resumed", "made"])
    assert "extended" not in ask.log
    assert ask(tiny, *SAMPLED, "--prefix-file", tmp_path / "b") == (plain, ["resumed"] * 3)


def test_a_prefix_of_a_replaced_model_is_not_taken_over(ask, tiny, tmp_path):
    from llama_fixtures import random_weights, write_gguf

    (tmp_path / "a").write_text("one two three")
    (tmp_path / "b").write_text("one two three four")
    ask(tiny, "--prefix-file", tmp_path / "a")
    write_gguf(tiny, random_weights(267, 2))
    plain, _ = ask(tiny, *SAMPLED, "--prefix-file", tmp_path / "b", env={"MAGICHEAP_DISABLE": "1"})
    assert ask(tiny, *SAMPLED, "--prefix-file", tmp_path / "b") == (plain, ["resumed", "made", "made"])
    assert "extended" not in ask.log


def test_a_prefix_without_end_is_refused(ask, tiny):
    ask(tiny, "--prefix-file", "/dev/zero", status=2)
    assert "/dev/zero is longer than" in ask.log
