"""Build one mk_model from the tensors of a loader, through the kernels' constructors.

A loader knows its file; this module knows the structure: the tensors that a config demands and their shapes (`slots`),
their places (`reserve`), and how a tensor gets its bytes (`store`). It frees a model that cannot be finished.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, NamedTuple

from llama._kernels import ffi, lib
from llama._native import ModelError, check, set_string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llama._kernels import mk_model

    Config = dict[str, int | float]

TYPES = {  # names that --quantize takes
    "q8_0": lib.MK_Q8_0,
    "q4_0": lib.MK_Q4_0,
    "q4_1": lib.MK_Q4_1,
}
FLOATS = (lib.MK_F32, lib.MK_F16, lib.MK_BF16)
LARGEST = 1 << 24  # dimension, head or layer count: beyond any model, and rows * cols stays far below 2^63


class Slot(NamedTuple):
    """The place of a tensor: its C field, and the shape that the config demands."""

    place: Any  # mk_tensor *, or float ** for a vector (norms, RoPE divisors: float32)
    rows: int
    cols: int
    is_matrix: bool


@contextmanager
def building(config: Config, *, name: bytes, chat_template: bytes = b"") -> Iterator[mk_model]:
    """Yield an empty `mk_model *` for the fields of mk_config; check it at the end, free it on any error."""
    _check_config(config)
    out = ffi.new("mk_model **")
    check(lib.mk_model_new(out, ffi.new("mk_config *", config)))
    model = out[0]
    try:
        set_string(model, "name", name)
        set_string(model, "chat_template", chat_template)
        yield model
        what = ffi.new("char[160]")
        if lib.mk_model_check(model, what) != lib.MK_OK:
            raise ModelError(f"{ffi.string(what).decode()}: the checkpoint contradicts its own configuration")
    except BaseException:
        lib.mk_model_free(model)
        raise


def _check_config(config: Config) -> None:
    """Refuse numbers that no model has, before they become sizes."""
    for field, value in config.items():
        if isinstance(value, float):
            if not 0.0 < value < 1e12:  # also refuses NaN
                raise ModelError(f"{field} is {value}, expected a positive finite number")
        elif not (field == "rope_neox" or 0 < value <= LARGEST):
            raise ModelError(f"{field} is {value}, expected 1 to {LARGEST}")
    if config["n_heads"] % config["n_kv_heads"]:
        raise ModelError(f"{config['n_heads']} heads cannot share {config['n_kv_heads']} key-value heads")
    if config["rope_dim"] % 2 or config["rope_dim"] > config["head_dim"]:
        raise ModelError(f"RoPE over {config['rope_dim']} of {config['head_dim']} dimensions: expected an even part")


def slots(model: mk_model) -> dict[str, Slot]:
    """Return {name: Slot} of every tensor: embed, out_norm, output, rope_freqs, 0.attn_norm, 0.wq, ..."""
    c = model.config
    q_dim, kv_dim = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
    per_layer = {
        "attn_norm": (1, c.dim, False),
        "wq": (q_dim, c.dim, True),
        "wk": (kv_dim, c.dim, True),
        "wv": (kv_dim, c.dim, True),
        "wo": (c.dim, q_dim, True),
        "ffn_norm": (1, c.dim, False),
        "w_gate": (c.ffn_dim, c.dim, True),
        "w_up": (c.ffn_dim, c.dim, True),
        "w_down": (c.dim, c.ffn_dim, True),
    }
    found = {
        "embed": Slot(ffi.addressof(model, "embed"), c.n_vocab, c.dim, True),
        "out_norm": Slot(ffi.addressof(model, "out_norm"), 1, c.dim, False),
        "output": Slot(ffi.addressof(model, "output"), c.n_vocab, c.dim, True),
        "rope_freqs": Slot(ffi.addressof(model, "rope_freqs"), 1, c.rope_dim // 2, False),
    }
    for i in range(c.n_layers):
        for field, shape in per_layer.items():
            found[f"{i}.{field}"] = Slot(ffi.addressof(model.layers[i], field), *shape)
    return found


def reserve(model: mk_model, tensors: list[tuple[Slot, str, int]], quantize: int | None = None) -> None:
    """Allocate all matrices in one block. `tensors`: (slot, name, MK_* type in the file) of each.

    Float matrices become `quantize` (an MK_* type) if that is given. A matrix that is quantised already will be packed
    as mk_packed_type says. It is refused if `quantize` is another type: a second rounding would lose more.
    """
    matrices = [slot.place for slot, _, _ in tensors if slot.is_matrix]
    for slot, name, kind in tensors:
        packed = lib.mk_packed_type(kind)
        wanted = (quantize or packed) if slot.is_matrix else lib.MK_F32
        if kind not in FLOATS and wanted != packed:
            raise ModelError(f"{name} is quantised already (type {kind}): load it without quantize")
        for needed in (kind, wanted):
            if not lib.mk_row_bytes(needed, slot.cols):
                raise ModelError(f"{name} has rows of {slot.cols} values, which type {needed} cannot hold")
        if slot.is_matrix:
            slot.place.type, slot.place.rows, slot.place.cols = wanted, slot.rows, slot.cols
    check(lib.mk_weights_new(model, matrices, len(matrices)))


def store(slot: Slot, name: str, kind: int, read: Callable[[bytearray], object]) -> None:
    """Give a slot its values. `read(buffer)` fills a writable buffer with rows * cols values of type `kind`.

    A matrix has been reserved; vectors become float32.
    """
    source = bytearray(slot.rows * lib.mk_row_bytes(kind, slot.cols))
    read(source)
    pinned = ffi.from_buffer(source)
    not_finite = f"{name} holds a value that is not finite: the file is damaged"
    if not slot.is_matrix:
        check(lib.mk_vector_new(slot.place, slot.cols))
        check(lib.mk_read_floats(kind, pinned, slot.cols, slot.place[0]))
        if not all(map(math.isfinite, ffi.unpack(slot.place[0], slot.cols))):
            raise ModelError(not_finite)
    else:
        check(lib.mk_pack(slot.place, kind, pinned, 0, slot.rows), not_finite)


def scale_positions(model: mk_model, factor: float) -> None:
    """Divide positions by a factor, by means of the divisor that each pair's frequency has."""
    if factor != 1:
        if not model.rope_freqs:
            check(lib.mk_vector_new(ffi.addressof(model, "rope_freqs"), model.config.rope_dim // 2))
            for i in range(model.config.rope_dim // 2):
                model.rope_freqs[i] = 1
        for i in range(model.config.rope_dim // 2):
            model.rope_freqs[i] *= factor


def tie_output(model: mk_model) -> None:
    """Use the embedding as the head, as a checkpoint without an output matrix requires."""
    ffi.memmove(ffi.addressof(model, "output"), ffi.addressof(model, "embed"), ffi.sizeof("mk_tensor"))
