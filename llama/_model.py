"""A loaded model: the Python handle on the C structure that llama_kernels.h draws.

The structure holds the whole model: a handle copies nothing out of it and frees nothing by itself, so that a pointer
taken from a mapped heap becomes a Model as cheaply as one that was just loaded.
"""

from __future__ import annotations

from functools import cached_property

from llama._native import Handle, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from llama._kernels import mk_config
    from llama.text._tokenizer import Tokenizer


class Model(Handle):
    """A handle on `mk_model *pointer`, which the caller keeps alive until `close()`."""

    @property
    def config(self) -> mk_config:
        """The model's `mk_config`: dimensions and constants."""
        return self.pointer.config

    @property
    def name(self) -> str:
        return text_of(self.pointer.name)

    @property
    def chat_template(self) -> str:
        """jinja2 source, or "" when the model has none."""
        return text_of(self.pointer.chat_template)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The Tokenizer built from the model's own tables."""
        from llama.text._tokenizer import Tokenizer

        return Tokenizer(self)

    def __repr__(self) -> str:
        return f"<llama.Model {self.name!r}>" if self._pointer else "<llama.Model closed>"
