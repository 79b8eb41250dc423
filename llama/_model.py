"""A loaded model: the Python handle on the C structure that llama_kernels.h draws.

The structure is all there is: a handle copies nothing out of it and frees nothing by itself, so that a pointer
taken from a mapped heap becomes a Model as cheaply as one that was just loaded.
"""

from __future__ import annotations

from functools import cached_property

from llama._kernels import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from llama._kernels import CData, mk_config, mk_model
    from llama.text._tokenizer import Tokenizer


class ModelError(Exception):
    """A model that cannot be used: what was found, what was expected, what to do."""


class ContextError(Exception):
    """More tokens than the session's context holds; the session is unchanged."""


def check(status: int) -> None:
    """Raise what a negative MK_ERR_* status stands for."""
    if status == lib.MK_OK:
        return
    if status == lib.MK_ERR_MEMORY:
        raise MemoryError("out of memory in the llama kernels")
    if status == lib.MK_ERR_CONTEXT:
        raise ContextError("the context is full: raise n_ctx or send fewer tokens")
    raise ValueError("a shape, type, token or position that the model does not have")


def text(string: CData) -> str:
    """Return a C string as str; a checkpoint's bytes need not be UTF-8."""
    return ffi.string(string).decode("utf-8", "replace")


class Model:
    """A handle on `mk_model *pointer`, which the caller keeps alive until `close()`."""

    def __init__(self, pointer: CData) -> None:
        self._pointer: mk_model = ffi.cast("mk_model *", pointer)
        if not self._pointer:
            raise ValueError("a Model needs an mk_model, got a NULL pointer")

    @property
    def pointer(self) -> mk_model:
        """The `mk_model *`; ValueError after close()."""
        if not self._pointer:
            raise ValueError("the model is closed")
        return self._pointer

    @property
    def config(self) -> mk_config:
        """The model's `mk_config`: dimensions and constants."""
        return self.pointer.config

    @property
    def name(self) -> str:
        return text(self.pointer.name)

    @property
    def chat_template(self) -> str:
        """jinja2 source, or "" when the model has none."""
        return text(self.pointer.chat_template)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The Tokenizer built from the model's own tables."""
        from llama.text._tokenizer import Tokenizer

        return Tokenizer(self)

    def close(self) -> None:
        """Free the C structure; what was made from this Model must not be used afterwards."""
        if self._pointer:
            lib.mk_model_free(self._pointer)
            self._pointer = ffi.NULL

    def __repr__(self) -> str:
        return f"<llama.Model {self.name!r}>" if self._pointer else "<llama.Model closed>"
