"""A conversation as the tokens its model was trained to see, through the model's own jinja2 chat template
(_template.py).

A user's text cannot become a control token. Before rendering, a stand-in replaces the first character of every special
token that a message spells. The character is restored after the template's own special tokens have been found.
"""

from __future__ import annotations

from itertools import chain

from llama._native import ModelError
from llama.text._template import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Match

    from llama.text._tokenizer import Tokenizer

# Characters for stand-ins: private ones, which texts hardly use (Unicode's planes 15 and 16, and the first), then any
# other than ASCII.
STAND_INS = (
    range(0xF0000, 0xFFFFE),
    range(0x100000, 0x10FFFE),
    range(0xE000, 0xF900),
    range(0x80, 0xD800),
    range(0x10000, 0xF0000),
)
SLACK_BYTES = 1 << 20  # arbitrary: of a text too long for the context, a template may strip so much


def prompt_tokens(
    tokenizer: Tokenizer, template: str, messages: list[dict[str, str]], most_bytes: int | None = None
) -> list[int] | None:
    """Return the token ids of a conversation, ready for the assistant's answer.

    template: the model's, jinja2 source.
    messages: [{"role": "system" | "user" | "assistant", "content": str}, ...]
    most_bytes: None is returned, at once, if the rendered text is longer.
    Raises ModelError if the template raises, as some do for unknown roles.
    """
    contents = [message["content"] for message in messages]
    if _is_longer("".join(contents), most_bytes and 2 * most_bytes + SLACK_BYTES):
        return None
    shielded, restore = _shield(contents, tokenizer)
    messages = [{**message, "content": content} for message, content in zip(messages, shielded)]
    rendered = render(
        template,
        stand_ins="".join(map(chr, restore)),
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=True,
        bos_token=tokenizer.spelling(tokenizer.bos_id),
        eos_token=tokenizer.spelling(tokenizer.eos_id),
        unk_token=tokenizer.spelling(tokenizer.unk_id),
    )
    if _is_longer(rendered, most_bytes):
        return None
    return tokenizer.encode(rendered, special=True, restore=restore, bos=True)


def _is_longer(text: str, most_bytes: int | None) -> bool:
    """Tell whether a text has more bytes than that. A stand-in counts for its character, which is not longer."""
    return most_bytes is not None and len(text) > most_bytes // 4 and len(text.encode(errors="replace")) > most_bytes


def _shield(texts: list[str], tokenizer: Tokenizer) -> tuple[list[str], dict[int, str]]:
    """Return the texts without any special token's spelling, and the str.translate table that undoes it."""
    stand_ins: dict[str, str] = {}
    taken = set("".join(texts))
    free = (c for c in map(chr, chain(*STAND_INS)) if c not in taken)

    def stand_in(match: Match[str]) -> str:
        first, rest = match.group()[0], match.group()[1:]
        if first not in stand_ins:
            if (found := next(free, None)) is None:
                raise ModelError(
                    "the text uses every character there is, and none is left to shield its control tokens "
                    "with; try --raw"
                )
            stand_ins[first] = found
        return stand_ins[first] + rest

    pattern = tokenizer.special_pattern
    shielded = []
    for text in texts:
        apart = text
        while pattern.search(apart):  # spellings may overlap: breaking one can leave another
            apart = pattern.sub(stand_in, apart)
        shielded.append(apart)
    return shielded, {ord(stand): first for first, stand in stand_ins.items()}
