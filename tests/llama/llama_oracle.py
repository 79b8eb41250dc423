"""A LLaMA forward pass in numpy, to judge the engine by: it reads as the papers do and shares no code with it.

RMSNorm (arXiv 1910.07467), rotary embedding (2104.09864), grouped queries (2305.13245), SwiGLU (2002.05202), put
together as in LLaMA (2302.13971). Weights are float32, read from GGUF by the gguf package.
"""

from contextlib import contextmanager

import gguf
import numpy as np

from llama._kernels import lib


@contextmanager
def exact_activations():
    """Let the engine's weights meet float32 activations, as the oracle's do, rather than activations rounded to 8
    bits."""
    lib.mk_exact_choose(True)
    try:
        yield
    finally:
        lib.mk_exact_choose(False)


class Oracle:
    """A model's weights by their GGUF names, and the numbers of its configuration."""

    def __init__(self, weights, *, n_heads, n_kv_heads, norm_eps, rope_theta):
        self.weights = weights
        self.n_heads, self.n_kv_heads, self.norm_eps, self.rope_theta = n_heads, n_kv_heads, norm_eps, rope_theta
        self.n_layers = sum(name.endswith("attn_q.weight") for name in weights)

    @classmethod
    def read(cls, path):
        """Return the oracle for a GGUF file, its weights dequantised."""
        reader = gguf.GGUFReader(path)
        field = {name: part.contents() for name, part in reader.fields.items() if name.startswith("llama.")}
        weights = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
        return cls(
            weights,
            n_heads=field["llama.attention.head_count"],
            n_kv_heads=field["llama.attention.head_count_kv"],
            norm_eps=field["llama.attention.layer_norm_rms_epsilon"],
            rope_theta=field["llama.rope.freq_base"],
        )

    def logits(self, tokens):
        """Return the (n_tokens, n_vocab) logits after each of the tokens, in one causal pass."""
        w = self.weights
        x = w["token_embd.weight"][np.asarray(tokens)]
        for i in range(self.n_layers):
            layer = {name: w[f"blk.{i}.{name}.weight"] for name in LAYER}
            x = x + self.attention(self.rms_norm(x, layer["attn_norm"]), layer)
            x = x + self.feed_forward(self.rms_norm(x, layer["ffn_norm"]), layer)
        x = self.rms_norm(x, w["output_norm.weight"])
        return x @ w.get("output.weight", w["token_embd.weight"]).T

    def rms_norm(self, x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self.norm_eps)) * weight

    def attention(self, x, layer):
        def heads(name, n):
            return (x @ layer[name].T).reshape(len(x), n, -1).swapaxes(0, 1)

        q = self.rotate(heads("attn_q", self.n_heads))
        k = self.rotate(heads("attn_k", self.n_kv_heads)).repeat(self.n_heads // self.n_kv_heads, axis=0)
        v = heads("attn_v", self.n_kv_heads).repeat(self.n_heads // self.n_kv_heads, axis=0)
        scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(q.shape[-1]))
        scores[:, ~np.tri(len(x), dtype=bool)] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ v).swapaxes(0, 1).reshape(len(x), -1) @ layer["attn_output"].T

    def rotate(self, heads):
        """Rotate the pairs (2i, 2i+1) of each head by position * theta^(-2i/d), computed in double."""
        n, dim = heads.shape[1:]
        divisors = np.ravel(self.weights.get("rope_freqs.weight", 1.0))
        angle = np.outer(np.arange(n), self.rope_theta ** (-np.arange(0, dim, 2) / dim) / divisors)
        turned = heads[..., ::2] + 1j * heads[..., 1::2]
        turned = turned * np.exp(1j * angle)
        return np.stack([turned.real, turned.imag], axis=-1).reshape(heads.shape).astype(np.float32)

    def feed_forward(self, x, layer):
        gate = x @ layer["ffn_gate"].T
        return (gate / (1 + np.exp(-gate)) * (x @ layer["ffn_up"].T)) @ layer["ffn_down"].T


LAYER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
