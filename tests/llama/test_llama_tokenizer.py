"""Token ids against a byte-pair oracle that is as dumb as the definition, Hugging Face's BPE, and sentencepiece."""

import itertools
import re
import unicodedata

import pytest
import sentencepiece
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llama_fixtures import SENTENCEPIECE, byte_alphabet, random_weights, real_model_path, write_gguf
from tokenizers import pre_tokenizers

import llama
from llama._kernels import ffi
from llama.loaders._gguf import Header

TEXTS = (
    "Hello, world!",
    "It's 2024: we've 1234567 reasons, don't we?",
    "   leading,  double   and trailing spaces   ",
    "tabs\tand\n\nnewlines\r\n  \n x",
    "def f(x):\n    return x**2 + 0x1F  # comment\n",
    "naïve café, Größe, señor, Ελληνικά, русский, 日本語, 한국어, العربية",
    "emoji 👩‍👩‍👧‍👦 🇫🇷 and ½ ² Ⅷ ٣",
    "<|im_start|>user\nnot a control token<|im_end|>",
    "a\u00a0b\u3000c\u2028d",
    "control \x04\x06 bytes of which the vocabulary has no token",
    "'s 'S 're're' ' '''",
    "x" * 300,
)
# Without surrogates, which are no text, and code points that Python's tables do not know but newer ones may.
ANY_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=60)
WHITE_SPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


class DumbBytePairs:
    """GPT-2's encoder over a model's own tokens and its file's merges: cut, spell, merge the best pair until there is
    none."""

    def __init__(self, model, path):
        pointer = model.pointer
        self.alphabet = byte_alphabet()
        spell = [ffi.string(pointer.tokens[i].bytes).decode() for i in range(pointer.config.n_vocab)]
        self.ids = {spelling: i for i, spelling in enumerate(spell)}
        with open(path, "rb") as file:
            merges = Header(file).get("tokenizer.ggml.merges", list)
        self.ranks = {tuple(merge.decode().split(" ")): rank for rank, merge in enumerate(merges)}

    def encode(self, text):
        return [self.ids[unit] for word in self.cut(text) for unit in self.merge(word)]

    def merge(self, word):
        units = [self.alphabet[byte] for byte in word.encode()]
        units = [unit for unit in units if unit in self.ids]
        while True:
            pairs = [(self.ranks.get(pair, 1 << 30), i) for i, pair in enumerate(itertools.pairwise(units))]
            rank, i = min(pairs, default=(1 << 30, 0))
            if rank == 1 << 30:
                return units
            units[i : i + 2] = [units[i] + units[i + 1]]

    def cut(self, text):
        """Digits one by one, the rest as GPT-2's pattern does, here over one letter per kind of character."""
        for piece in re.findall("N|[^N]+", "".join(map(kind, text))):
            part, text = text[: len(piece)], text[len(piece) :]
            at = 0
            while at < len(part):
                found = re.compile("'(?:s|t|re|ve|m|ll|d)").match(part, at)
                found = found or re.compile(r" ?L+| ?N+| ?O+|[ \t]+(?![^ \t])|[ \t]+").match(piece, at)
                assert found
                yield part[at : found.end()]
                at = found.end()


def kind(character):
    if ord(character) in WHITE_SPACE:
        return " " if character == " " else "\t"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "O"


@pytest.fixture(scope="module")
def model():
    model = llama.load(real_model_path())
    yield model
    model.close()


@pytest.fixture(scope="module")
def dumb(model):
    return DumbBytePairs(model, real_model_path())


@pytest.mark.parametrize("text", TEXTS)
def test_byte_pairs_are_the_dumb_oracles(model, dumb, text):
    assert model.tokenizer.encode(text) == dumb.encode(text)


@settings(max_examples=400, deadline=None)
@given(ANY_TEXT)
def test_byte_pairs_of_any_text_are_the_dumb_oracles(model, dumb, text):
    assert model.tokenizer.encode(text) == dumb.encode(text)


@pytest.fixture(scope="module")
def hugging_face(dumb):
    """The same tables in Hugging Face's BPE, cut as SmolLM2's tokenizer.json says."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(dumb.ids, sorted(dumb.ranks, key=dumb.ranks.get)))
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    return tokenizer


@settings(max_examples=400, deadline=None)
@given(st.one_of(ANY_TEXT, st.text("aeinrst h", max_size=300), st.text("\n\t =-#'", max_size=100)))
def test_byte_pairs_of_any_text_are_hugging_faces(model, hugging_face, text):
    assert model.tokenizer.encode(text) == hugging_face.encode(text).ids


def test_a_word_of_any_length_is_merged_in_good_time(model, hugging_face):
    """As many steps as letters, not their square: a minified file on stdin must not look like a hang."""
    text = "ab" * 100_000
    assert model.tokenizer.encode(text) == hugging_face.encode(text).ids


@settings(max_examples=400, deadline=None)
@given(ANY_TEXT)
def test_decoding_gives_back_what_was_encoded(model, dumb, text):
    """As far as the vocabulary has a token for each byte: SmolLM2's lacks 21, most of which no text contains."""
    text = "".join(c for c in text if all(dumb.alphabet[byte] in dumb.ids for byte in c.encode()))
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text


def test_special_tokens_are_read_in_templates_only(model):
    text = "<|im_start|>user"
    assert model.tokenizer.encode(text, special=True)[0] == model.tokenizer.special["<|im_start|>"]
    assert not set(model.tokenizer.encode(text)) & set(model.tokenizer.special.values())


def test_control_tokens_have_no_text(model):
    assert model.tokenizer.decode(model.tokenizer.encode("<|im_start|>a<|im_end|>", special=True)) == "a"


def test_a_token_outside_the_vocabulary_is_the_callers_mistake(model):
    for token_id in (-1, model.config.n_vocab):
        with pytest.raises(ValueError, match="outside the vocabulary of 49152"):
            model.tokenizer.decode([token_id])


@pytest.mark.parametrize("text", ["日本語", "👩‍👩‍👧‍👦", "é", "a語b"])
def test_a_stream_never_shows_half_a_character(model, text):
    stream = model.tokenizer.stream()
    shown = [stream.feed(token_id) for token_id in model.tokenizer.encode(text)]
    assert "\ufffd" not in "".join(shown)
    assert "".join(shown) == text
    assert stream.finish() == ""


def test_a_character_that_never_ends_is_replaced_at_the_end(model):
    first_byte = next(i for i in range(model.config.n_vocab) if model.tokenizer.spelling(i) == byte_alphabet()[0xE6])
    stream = model.tokenizer.stream()
    assert (stream.feed(first_byte), stream.finish()) == ("", "\ufffd")


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["1", "2", "3", "4", "5", "Ċ", "Ċ", "'", "S", "Ġ", "1"]),
        ("gpt-2", ["12", "34", "5", "Ċ", "Ċ", "'", "S", "Ġ1"]),
        ("llama-bpe", ["123", "45", "ĊĊ", "'S", "Ġ", "1"]),
    ],
)
def test_pre_tokenizers_cut_as_their_models_do(tmp_path, pre, expected):
    """The pairs would merge further than the cuts allow; only llama-bpe takes a whole word that is a token."""
    pairs = ["1 2", "3 4", "4 5", "Ċ Ċ", "' S", "5 Ċ", "Ġ 1"]
    tokens = [*byte_alphabet(), *(pair.replace(" ", "") for pair in pairs), "123"]
    changes = {"tokens": tokens, "merges": pairs, "token_type": [1] * len(tokens), "pre": pre}
    changes = {f"tokenizer__ggml__{name}": value for name, value in changes.items()}
    model = llama.load(write_gguf(tmp_path / "m.gguf", **changes))
    tokenizer = model.tokenizer
    assert [tokenizer.spelling(i) for i in tokenizer.encode("12345\n\n'S 1")] == expected
    model.close()


@pytest.fixture(scope="module")
def pieces():
    return sentencepiece.SentencePieceProcessor(model_proto=SENTENCEPIECE)


@pytest.fixture(scope="module")
def spm(tmp_path_factory, pieces):
    """A GGUF file with the tables of a sentencepiece model, as converters write them."""
    ids = range(pieces.get_piece_size())
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
    changes = {
        "model": "llama",
        "pre": None,
        "merges": None,
        "tokens": [pieces.id_to_piece(i) for i in ids],
        "scores": [pieces.get_score(i) for i in ids],
        "token_type": kinds,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    changes = {f"tokenizer__ggml__{name}": value for name, value in changes.items()}
    path = tmp_path_factory.mktemp("spm") / "m.gguf"
    model = llama.load(write_gguf(path, random_weights(len(ids)), tokenizer__chat_template=None, **changes))
    yield model
    model.close()


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT.filter(lambda text: "\0" not in text))
@example("  leading,  double and trailing  ")
def test_a_gguf_without_sentencepiece_model_encodes_as_sentencepiece(spm, pieces, text):
    ids = spm.tokenizer.encode(text)
    assert ids == pieces.encode(text)
    assert spm.tokenizer.decode(ids) == text == pieces.decode(ids)


def test_sentencepiece_begins_with_bos_once(spm):
    once = spm.tokenizer.encode("the end", bos=True)
    assert once[0] == 1
    assert spm.tokenizer.encode("<s>the end", special=True, bos=True) == once


def test_a_sentence_that_goes_on_keeps_its_space(spm):
    ids = spm.tokenizer.encode("the end")
    assert "".join(map(spm.tokenizer.stream().feed, ids)) == "the end"
    assert "".join(map(spm.tokenizer.stream(continues=True).feed, ids)) == " the end"
