"""The base of llama: statuses of the C half become results or exceptions, and strings cross between the two halves.

The binding itself is llama._kernels, made from native/kernels/llama_kernels.h; all other modules of llama use this one.
"""

from __future__ import annotations

from llama._kernels import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from llama._kernels import CData, mk_model


class LlamaError(Exception):
    """The base of all errors that llama defines; the text is for the user."""


class ModelError(LlamaError):
    """A model that cannot be used: what was found, what was expected, what to do."""


class ContextError(LlamaError):
    """More tokens than the session's context holds; the session is unchanged."""


def check(status: int, not_finite: str = "a value of the model is not finite") -> None:
    """Raise the exception of a negative MK_ERR_* status. not_finite: the ModelError's text, for MK_ERR_VALUE."""
    if status == lib.MK_OK:
        return
    if status == lib.MK_ERR_MEMORY:
        raise MemoryError("out of memory in the llama kernels")
    if status == lib.MK_ERR_CONTEXT:
        raise ContextError("the context is full: raise n_ctx or send fewer tokens")
    if status == lib.MK_ERR_VALUE:
        raise ModelError(not_finite)
    raise ValueError("a shape, type, token or position that the model does not have")


def need(package: str) -> None:
    """Raise ModelError where a package of the extra `llama`, which the caller is about to import, is not installed."""
    try:
        __import__(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModelError(f"this model needs {package}, not installed: pip install 'magicheap[llama]'") from None


class Handle:
    """An `mk_model *`, which the caller keeps alive until `close()`. Copies nothing out of it."""

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

    def close(self) -> None:
        """Free the C structure; objects made from this Model must not be used afterwards."""
        if self._pointer:
            lib.mk_model_free(self._pointer)
            self._pointer = ffi.NULL


def text_of(string: CData) -> str:
    """Return a C string as str; a checkpoint's bytes need not be UTF-8."""
    return ffi.string(string).decode("utf-8", "replace")


def copy_bytes(data: bytes) -> CData:
    """Return bytes as a C string from malloc."""
    copied = lib.mk_bytes_copy(data, len(data))
    check(lib.MK_OK if copied else lib.MK_ERR_MEMORY)
    return copied


def set_string(model: mk_model, field: str, value: bytes) -> None:
    """Set a `char *` field of an unfinished model, once."""
    if b"\0" in value:
        raise ModelError(f"{field} contains a NUL byte: expected text")
    setattr(model, field, copy_bytes(value))


def show(value: object) -> str:
    """Return a value of a file as messages quote it."""
    return repr(value.decode("utf-8", "replace") if type(value) is bytes else value)[:80]
