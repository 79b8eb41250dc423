"""Every value that the parser of options takes can be used: no option ends in a traceback, whatever number it is
given."""

import math
import shlex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llama_fixtures import write_gguf

import llama
from llama._kernels import lib
from llama.command._dialogue import Dialogue
from llama.command._options import parser

LARGEST = (2 - 2**-23) * 2.0**127
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64, 0, -1, 1, -2]).map(str),
    st.floats().map(repr),
    st.sampled_from(
        [
            "1e39",
            "1e300",
            "1e-46",
            "1e-320",
            "nan",
            "inf",
            "-inf",
            "-0.0",
            repr(LARGEST),
            "1_0",
            "٣",
            "",
            " 1 ",
            "0x1",
            "9" * 5000,
        ]
    ),
)


def parse(words):
    """Return the options, or None where they are refused with status 2."""
    try:
        return parser().parse_args(["-m", "m", "-p", "x", *words])
    except SystemExit as end:
        assert end.code == 2  # noqa: PT017 - the other end of an option is to be accepted
        return None


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    model = llama.load(write_gguf(tmp_path_factory.mktemp("model") / "m.gguf"))
    with llama.Session(model, n_ctx=16) as session:
        session.feed([5, 6, 7])
        yield session
    model.close()


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(["--temp", "--top-k", "--top-p", "--min-p", "--seed", "-n"]),
    NUMBERS,
    st.sampled_from(["0.8", "0", "5"]),
)
@example("--top-p", "0", "0.8")
@example("--temp", "1e39", "0.8")
@example("--temp", repr(LARGEST), "0.8")
@example("--seed", str(2**64 - 1), "0.8")
def test_whatever_the_parser_takes_the_sampler_takes(session, option, number, temp):
    words = [f"{option}={number}"] + ([f"--temp={temp}"] if option != "--temp" else [])
    if (args := parse(words)) is None:
        return
    dialogue = object.__new__(Dialogue)
    dialogue.session = session
    dialogue.set_options(args)
    assert 0 <= dialogue._sampler.pick(session) < session.model.config.n_vocab
    assert len(list(session.generate(dialogue._sampler, min(args.n, 1)))) <= session.n_ctx
    session.rewind_to([5, 6, 7, 8])
    session.feed([8])
    session.rewind_to([5, 6, 7])
    session.feed([7])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["-c", "-t"]), NUMBERS)
@example("-c", str(2**31 - 1))
@example("-t", str(2**31 - 1))
def test_whatever_context_and_threads_the_parser_takes_a_session_takes_or_memory_ends(session, option, number):
    # what a machine may hold or not
    if (args := parse([f"{option}={number}"])) is None or ((args.ctx or 1) > 1 << 20 and args.ctx < 1 << 30):
        return
    try:
        with llama.Session(session.model, n_ctx=args.ctx, n_threads=args.threads) as other:
            other.feed([5])
            assert lib.mk_pool_threads(other._pool) >= 1
    except MemoryError:
        assert args.ctx > 1 << 20


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("--seed -1", -1),
        (f"--seed {2**64 - 1}", 2**64 - 1),
        ("--seed 0", 0),
        ("--top-p 0", 0.0),
        ("--temp 1e-300", 1e-300),
    ],
)
def test_edges_that_users_give_are_taken(words, kept):
    args = parse(shlex.split(words))
    assert kept in (args.seed, args.top_p, args.temp)


@pytest.mark.parametrize(
    "words",
    [
        "--seed -2",
        f"--seed {2**64}",
        "--temp 1e39",
        "--top-p 1.0000001",
        "--min-p -1e-300",
        "-n 2147483648",
        "--temp -1",
    ],
)
def test_what_no_sampler_takes_is_refused_by_the_parser(words):
    assert parse(shlex.split(words)) is None


def test_a_seed_of_64_bits_is_used_whole(session):
    assert llama.Sampler(seed=5)._state.rng != llama.Sampler(seed=5 + 2**32)._state.rng
    assert len({llama.Sampler()._state.rng for _ in range(9)}) > 1
    assert math.isfinite(LARGEST)
