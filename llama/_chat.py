"""A conversation as the tokens its model was trained to see, through the model's own jinja2 chat template.

Templates come with the model and run in jinja2's immutable sandbox, with the settings and helpers that Hugging Face's
apply_chat_template gives them. What a user writes cannot become a control token: before rendering, every special
token that a message spells loses its first character to a stand-in, which is put back after the special tokens that
the template wrote have been found.
"""

from __future__ import annotations

import time
from functools import lru_cache

from llama._model import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from llama._model import Model

STAND_INS = 0xF0000  # first of 65,534 private characters that no text has a use for (Unicode, plane 15)


def prompt_tokens(model: Model, messages: list[dict[str, str]]) -> list[int]:
    """Return the token ids of a conversation, ready for the assistant's answer.

    messages: [{"role": "system" | "user" | "assistant", "content": str}, ...]
    Raises ModelError when the template does, which some do for roles they do not know.
    """
    tokenizer = model.tokenizer
    shielded, restore = _shield([message["content"] for message in messages], tokenizer)
    messages = [{**message, "content": content} for message, content in zip(messages, shielded)]
    pointer = model.pointer
    rendered = _render(
        model.chat_template,
        messages=messages,
        add_generation_prompt=True,
        bos_token=tokenizer.spelling(pointer.bos_id),
        eos_token=tokenizer.spelling(pointer.eos_id),
        unk_token=tokenizer.spelling(pointer.unk_id),
    )
    return tokenizer.encode(rendered, special=True, restore=restore, bos=True)


def _shield(texts, tokenizer):
    """Return the texts without any special token's spelling, and the str.translate table that undoes it."""
    stand_ins = {}
    taken = set("".join(texts))

    def stand_in(match):
        first, rest = match.group()[0], match.group()[1:]
        if first not in stand_ins:
            stand_ins[first] = next(c for c in map(chr, range(STAND_INS, 0xFFFFE)) if c not in taken)
            taken.add(stand_ins[first])
        return stand_ins[first] + rest

    pattern = tokenizer.special_pattern
    shielded = []
    for text in texts:
        while pattern.search(text):  # spellings may overlap: taking one apart can leave another
            text = pattern.sub(stand_in, text)
        shielded.append(text)
    return shielded, {ord(stand): first for first, stand in stand_ins.items()}


def _render(template, **variables):
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(**variables)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"the chat template refuses this conversation: {error!s:.200}; try --raw") from None


@lru_cache(1)  # what is compiled when a model is committed need not be compiled again
def _compiled(template):
    import json

    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message):
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda pattern: time.strftime(pattern)
    return environment.from_string(template)
