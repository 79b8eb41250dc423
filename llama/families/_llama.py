"""LLaMA as GGUF files have it: architecture "llama", which is also Mistral 7B's, SmolLM's and others'.

Meta's own layout holds no other family, so its properties are in its loader.
"""

from __future__ import annotations

from array import array

from llama._native import ModelError, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Fields(Protocol):
        """The metadata of a file, by key."""

        fields: dict[str, Any]

        def get(self, key: str, kind: type[Any], *default: Any) -> Any:
            """Return a field of that type; ModelError if it is missing without default, or of another."""

        def number(self, key: str, *default: Any) -> Any:
            """Return a whole number, or the common value of all elements of an array."""


ARCHITECTURE = b"llama"
LAYER_TENSORS = {
    "attn_norm": "attn_norm",
    "wq": "attn_q",
    "wk": "attn_k",
    "wv": "attn_v",
    "wo": "attn_output",
    "ffn_norm": "ffn_norm",
    "w_gate": "ffn_gate",
    "w_up": "ffn_up",
    "w_down": "ffn_down",
}
TENSORS = {"embed": "token_embd", "out_norm": "output_norm", "output": "output", "rope_freqs": "rope_freqs"}
OPTIONAL = ("output", "rope_freqs")  # tied head; plain RoPE

# The architecture's own keys that a file may have: those that are read here, and those that do not concern the forward
# pass.
READ = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
}
SILENT = {
    "vocab_size",
    "tensor_data_layout",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "attention.layer_norm_epsilon",
}
NEUTRAL = {  # values of other keys that change nothing, besides zero, "" and "none"
    "logit_scale": (1.0,),
    "embedding_scale": (1.0,),
    "residual_scale": (1.0,),
    "rope.scaling.attn_factor": (1.0,),
    "use_parallel_residual": (True,),  # read only by the GPT-NeoX family
}


def check(header: Fields) -> None:
    """Refuse a file of another architecture, and a key that asks for a missing feature of the engine."""
    arch = header.get("general.architecture", bytes)
    if arch != ARCHITECTURE:
        raise ModelError(f"architecture {show(arch)}: this engine runs 'llama'")
    for key, value in header.fields.items():
        own = key.removeprefix("llama.")
        if own != key and own not in READ | SILENT and not _is_neutral(own, value):
            shown = show(list(value) if type(value) is array else value)
            raise ModelError(f"{key} is {shown}: this engine does not do that, and would answer wrongly without")


def _is_neutral(key: str, value: Any) -> bool:
    if key == "attention.causal":
        return value is True
    return not value or value in (b"none", *NEUTRAL.get(key, ())) or (type(value) is array and not any(value))


def rope_factor(header: Fields) -> float:
    """Return the divisor of positions in linear scaling (Chen et al. 2023, "position interpolation"); 1: no scaling.

    As llama.cpp reads these keys: the factor's older name, and linear where a factor has no type.
    """
    kind = header.get("llama.rope.scaling.type", bytes, b"linear")
    older = header.get("llama.rope.scale_linear", float, 0.0)
    factor: float = header.get("llama.rope.scaling.factor", float, older)
    if kind == b"none" or (factor in (0.0, 1.0) and kind == b"linear"):
        return 1.0
    if kind != b"linear":
        raise ModelError(f"llama.rope.scaling.type is {show(kind)}: this engine does 'linear' and 'none'")
    if not 0.0 < factor < 1e6:
        raise ModelError(f"llama.rope.scaling.factor is {factor}, expected a positive number")
    return factor


def config(header: Fields, n_tensors: int, n_vocab: int) -> dict[str, int | float]:
    """Return the fields of mk_config.

    n_tensors: of the file, which has at least one for each layer.
    """
    dim = header.get("llama.embedding_length", int)
    n_heads = header.number("llama.attention.head_count")
    head_dim = header.get("llama.attention.key_length", int, dim // max(n_heads, 1))
    if header.get("llama.attention.value_length", int, head_dim) != head_dim:
        raise ModelError("keys and values differ in length: this engine needs them equal")
    n_layers = header.get("llama.block_count", int)
    if n_layers > n_tensors:
        raise ModelError(f"{n_layers} layers, but only {n_tensors} tensors in the file")
    return {
        "n_layers": n_layers,
        "dim": dim,
        "n_heads": n_heads,
        "n_kv_heads": header.number("llama.attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "ffn_dim": header.number("llama.feed_forward_length"),
        "n_vocab": n_vocab,
        "n_ctx_train": header.get("llama.context_length", int),
        "rope_dim": header.get("llama.rope.dimension_count", int, head_dim),
        "rope_neox": 0,
        "rope_theta": header.get("llama.rope.freq_base", float, 10000.0),
        "norm_eps": header.get("llama.attention.layer_norm_rms_epsilon", float),
    }


def tensor_name(slot_name: str) -> str:
    """Return the file's name of the tensor for a slot (_build.slots)."""
    layer, dot, field = slot_name.partition(".")
    return f"blk.{layer}.{LAYER_TENSORS[field]}.weight" if dot else f"{TENSORS[slot_name]}.weight"
