"""Text to token ids and back, from the tables of a model alone, since a mapped heap has nothing else.

Encoding is byte-level BPE ("gpt2", _byte_pairs.py) or sentencepiece ("llama"), imported at first use. Decoding needs
neither: a token's bytes follow from its spelling. They are streamed as text in whole characters.
"""

from __future__ import annotations

import codecs
import re
from functools import cached_property, lru_cache

from llama._kernels import ffi, lib
from llama._native import ModelError, need, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from llama._kernels import mk_token
    from llama._native import Handle

WORD_START = "\u2581"  # sentencepiece's spelling of a space
SURROGATES = re.compile("[\ud800-\udfff]")
UNKNOWN_TEXT = " \u2047 "  # sentencepiece's spelling of what it has no token for


@lru_cache(1)
def _byte_alphabet() -> dict[str, int]:
    """Return {character: byte} of GPT-2's byte-level spelling (encoder.py, bytes_to_unicode, inverted)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def sentencepiece_processor(blob: bytes) -> Any:
    """Return a SentencePieceProcessor; ModelError if the bytes are no sentencepiece model."""
    need("sentencepiece")
    from sentencepiece import SentencePieceProcessor

    if not blob:  # sentencepiece would take it for a missing argument
        raise ModelError("no usable sentencepiece model: it is empty")
    try:
        return SentencePieceProcessor(model_proto=blob)
    except (RuntimeError, UnicodeDecodeError) as error:  # the message may quote bytes of the file that are not text
        raise ModelError(f"no usable sentencepiece model: {error!s:.200}") from None


class Tokenizer:
    """The tokenizer of a Model. Token ids are ints below config.n_vocab."""

    def __init__(self, model: Handle) -> None:
        self._model = model
        self._kind = text_of(model.pointer.tokenizer)
        self._bytes = lru_cache(None)(self._token_bytes)

    @property
    def bos_id(self) -> int:
        return self._model.pointer.bos_id

    @property
    def eos_id(self) -> int:
        return self._model.pointer.eos_id

    @property
    def unk_id(self) -> int:
        return self._model.pointer.unk_id

    @property
    def end_ids(self) -> set[int]:
        """Ids that end an answer."""
        pointer = self._model.pointer
        return {pointer.eos_id, pointer.eot_id} - {-1}

    def spelling(self, token_id: int) -> str:
        """Return a token as its file spells it, "" for -1."""
        if token_id == -1:
            return ""
        return self._bytes_of_spelling(token_id).decode("utf-8", "replace")

    @cached_property
    def special(self) -> dict[str, int]:
        """{spelling: id} of control and user-defined tokens."""
        wanted = (lib.MK_TOKEN_CONTROL, lib.MK_TOKEN_USER)
        found = {self.spelling(i): i for i, kind in enumerate(self._column("kind")) if kind in wanted}
        found.pop("", None)
        return found

    def _column(self, field: str) -> list[int]:
        """Return an int32 field of all tokens, as a list: without an object for each token."""
        pointer, size = self._model.pointer, ffi.sizeof("mk_token") // 4
        table = memoryview(ffi.buffer(pointer.tokens, pointer.config.n_vocab * 4 * size)).cast("i")
        return table[ffi.offsetof("mk_token", field) // 4 :: size].tolist()

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Matches every special token, the longest first."""
        longest_first = sorted(self.special, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @cached_property
    def longest_bytes(self) -> int | None:
        """The most bytes of text that a token stands for; None if there is no bound."""
        if self._kind == "llama" and lib.MK_TOKEN_BYTE not in self._column("kind"):
            return None  # any number of characters without a token becomes one
        spelled, longest = self._column("n_bytes"), 1
        for token_id in sorted(range(len(spelled)), key=spelled.__getitem__, reverse=True):
            if spelled[token_id] <= longest:  # a spelling is no shorter than what it spells
                break
            # spelled by a template, and without text
            is_control = self._token(token_id).kind == lib.MK_TOKEN_CONTROL
            longest = max(longest, spelled[token_id] if is_control else len(self._bytes(token_id)))
        return longest

    def encode(
        self, string: str, *, special: bool = False, bos: bool = False, restore: dict[int, str] | None = None
    ) -> list[int]:
        """Return the ids of a text.

        special: spellings of control and user-defined tokens in the text become those tokens; otherwise
            they are text like any other, so that what a user types cannot end his turn.
        bos: begin with bos_id if the model requires it and the text does not have it.
        restore: a str.translate table for the text between special tokens.
        Characters with a byte that a byte-level vocabulary lacks are left out, as the reference does. Surrogates, which
        are not text, become U+FFFD.
        """
        string = SURROGATES.sub("\ufffd", string)
        ids: list[int] = []
        at = 0
        for match in self.special_pattern.finditer(string) if special else ():
            ids += self._encode(string[at : match.start()], restore)
            ids.append(self.special[match.group()])
            at = match.end()
        ids += self._encode(string[at:], restore)
        if bos and self._model.pointer.add_bos and self.bos_id != -1 and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def _encode(self, string: str, restore: dict[int, str] | None) -> list[int]:
        string = string.translate(restore) if restore else string
        return self._encoder(string) if string else []

    @cached_property
    def _encoder(self) -> Callable[[str], list[int]]:
        pointer = self._model.pointer
        blob = ffi.buffer(pointer.tokenizer_blob, pointer.n_tokenizer_blob)
        if self._kind == "llama":
            encode: Callable[[str], list[int]] = sentencepiece_processor(blob[:]).encode
            return encode
        from llama.text._byte_pairs import BytePairs

        return BytePairs(blob, pointer.n_merges, self._bytes_of_spelling, text_of(pointer.pre_tokenizer)).encode

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids; control tokens have none, bytes that are not UTF-8 become U+FFFD."""
        stream = self.stream()
        return "".join([*map(stream.feed, ids), stream.finish()])

    def stream(self, *, continues: bool = False) -> TextStream:
        """Return a TextStream. continues: the text goes on from an earlier one, so a leading space is its own."""
        return TextStream(self._bytes, drop_space=bool(self._model.pointer.add_space_prefix) and not continues)

    def _bytes_of_spelling(self, token_id: int) -> bytes:
        token = self._token(token_id)
        return bytes(ffi.buffer(token.bytes, token.n_bytes))

    def _token(self, token_id: int) -> mk_token:
        if not 0 <= token_id < self._model.pointer.config.n_vocab:
            raise ValueError(f"token {token_id} is outside the vocabulary of {self._model.pointer.config.n_vocab}")
        token: mk_token = self._model.pointer.tokens[token_id]
        return token

    def _token_bytes(self, token_id: int) -> bytes:
        token = self._token(token_id)
        if token.kind == lib.MK_TOKEN_CONTROL:
            return b""
        spelling = self.spelling(token_id)
        if self._kind == "gpt2":
            if token.kind == lib.MK_TOKEN_USER:
                return spelling.encode()
            alphabet = _byte_alphabet()
            return b"".join(bytes([alphabet[c]]) if c in alphabet else c.encode() for c in spelling)
        if token.kind == lib.MK_TOKEN_BYTE and re.fullmatch("<0x[0-9A-F]{2}>", spelling):
            return bytes([int(spelling[3:5], 16)])
        if token.kind == lib.MK_TOKEN_UNKNOWN:
            return UNKNOWN_TEXT.encode()
        return spelling.replace(WORD_START, " ").encode()


class TextStream:
    """Turns tokens into text as they come, holding back the bytes of a character that is not complete."""

    def __init__(self, token_bytes: Callable[[int], bytes], drop_space: bool) -> None:
        self._token_bytes = token_bytes
        self._drop_space = drop_space
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def feed(self, token_id: int) -> str:
        """Return the text that this token completes, often "" for one that is part of a character."""
        data = self._token_bytes(token_id)
        if self._drop_space and data:
            self._drop_space = False
            data = data.removeprefix(b" ")
        return self._decode(data)

    def finish(self) -> str:
        """Return the held-back text: U+FFFD if a character was never completed."""
        return self._decode(b"", True)
