"""Chat templates: jinja2 source of a model, rendered as by Hugging Face's apply_chat_template.

A template is a program by the author of the model.

C1  It runs in jinja2's immutable sandbox, with the settings, tags, filters and globals that Hugging Face gives it.
C2  Each turn of a loop and each call of a macro counts, and after 200,000 the template is refused; so is a text, a
    number or a width larger than a conversation needs. A text that a template doubles repeatedly is bounded by memory
    alone.
C3  Each of its exceptions becomes a ModelError.
"""

from __future__ import annotations

import json
import re
import time
from functools import lru_cache

from llama._native import ModelError, need

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from jinja2 import Environment, Template, nodes
    from jinja2.parser import Parser
    from jinja2.runtime import Context

MOST_STEPS = 200_000  # arbitrary: long conversations take thousands
MOST_CHARACTERS = 1 << 28  # arbitrary: of the result of one multiplication
MOST_BITS = 1 << 16  # arbitrary: of a power
MOST_WIDTH = 10_000  # arbitrary: of a formatted column


def render(template: str, *, stand_ins: str = "", **variables: object) -> str:
    """Return the template rendered with the variables. stand_ins: characters that must not be spelled as escapes."""
    need("jinja2")
    try:
        return _compiled(template).render(**variables, **{STAND_INS: stand_ins}, **{STEPS: [0]})
    except MemoryError:
        raise
    except Exception as error:  # any: SyntaxError of a break outside a loop, AttributeError, RecursionError, ...
        raise ModelError(f"the chat template refuses this conversation: {_one_line(error)}; try --raw") from None


def _one_line(error: Exception) -> str:
    return " ".join(f"{error!s:.200}".split()) or type(error).__name__


STAND_INS, STEPS, STEP = "_llama_stand_ins", "_llama_steps", "_llama_step"  # names that no template uses


@lru_cache(1)  # a template that is compiled before a model's commit need not be compiled again
def _compiled(template: str) -> Template:
    from jinja2 import nodes

    environment = _environment()
    tree = environment.parse(template)
    repeated: list[Any] = list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)))
    for loop in repeated:
        call = nodes.Call(nodes.Name(STEP, "load"), [nodes.Name(STEPS, "load")], [], None, None)
        loop.body.insert(0, nodes.ExprStmt(call).set_lineno(loop.lineno))
        loop.body[0].set_environment(environment)
    return environment.from_string(tree)


def _environment() -> Environment:
    from jinja2 import TemplateError, nodes, pass_context
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """{% generation %}, which marks the text that a model is trained to generate, and has no effect here."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "%"])

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "%" and isinstance(left, str):
                check_widths(left)
            elif operator == "*" and (_is_sequence(left) or _is_sequence(right)):
                times, sequence = (left, right) if _is_sequence(right) else (right, left)
                if isinstance(times, int) and times * len(sequence) > MOST_CHARACTERS:
                    raise TemplateError(f"it makes {times * len(sequence)} characters")
            elif (
                operator == "**"
                and isinstance(left, int)
                and isinstance(right, int)
                and left.bit_length() * right > MOST_BITS
            ):
                raise TemplateError(f"it raises to the power of {right}")
            return super().call_binop(context, operator, left, right)

        def call(self, context: Context, function: Any, *arguments: Any, **named: Any) -> Any:
            owner = getattr(getattr(function, "__wrapped__", function), "__self__", None)  # format is wrapped
            if isinstance(owner, str) and function.__name__ in ("format", "format_map"):
                check_widths(owner)
            elif isinstance(owner, str):
                check_numbers((*arguments, *named.values()))
            return super().call(context, function, *arguments, **named)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def step(steps: list[int]) -> None:
        steps[0] += 1
        if steps[0] > MOST_STEPS:
            raise TemplateError(f"it does not end within {MOST_STEPS} steps")

    def check_widths(pattern: str) -> None:
        if any(int(digits[:9]) > MOST_WIDTH for digits in re.findall("[0-9]{5,}", pattern)) or re.search(
            r"%[^%a-zA-Z]*\*|:[^}]*\{", pattern
        ):
            raise TemplateError(f"it formats into a width beyond {MOST_WIDTH}, or a computed one")

    def check_numbers(arguments: tuple[Any, ...]) -> None:
        if large := [number for number in arguments if isinstance(number, int) and abs(number) > MOST_WIDTH]:
            raise TemplateError(f"it formats into a width of {large[0]:.9g}")

    @pass_context
    def tojson(
        context: Context,
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        for stand_in in context.get(STAND_INS, "") if ensure_ascii else "":
            text = text.replace(json.dumps(stand_in)[1:-1], stand_in)
        return text

    def limited(function: Callable[..., Any], at: int) -> Callable[..., Any]:
        """Return a filter whose argument at this place is a width or count."""

        def limit(*arguments: Any, **named: Any) -> Any:
            check_numbers((*arguments[at:], *named.values()))
            return function(*arguments, **named)

        return limit

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    plain_format = environment.filters["format"]

    def format_(pattern: Any, *arguments: Any, **named: Any) -> Any:
        check_widths(str(pattern))
        return plain_format(pattern, *arguments, **named)

    environment.filters["tojson"] = tojson
    environment.filters["format"] = format_
    environment.filters["center"] = limited(environment.filters["center"], 1)
    environment.filters["indent"] = limited(environment.filters["indent"], 1)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda pattern: time.strftime(pattern)
    environment.globals[STEP] = step
    return environment


def _is_sequence(value: object) -> bool:
    return isinstance(value, str | bytes | list | tuple)
