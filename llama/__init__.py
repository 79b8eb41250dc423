"""A LLaMA-family engine small enough to read.

A model is loaded, and a session on it is fed and asked:

    model = llama.load("model.gguf")
    with llama.Session(model) as session:
        session.feed(model.tokenizer.encode("Once upon a time", bos=True))
        print(model.tokenizer.decode(session.generate(llama.Sampler(seed=1), limit=40)))
"""

from llama._model import Model
from llama._native import ContextError, LlamaError, ModelError
from llama.engine._generate import Sampler, Session
from llama.loaders._load import load

__all__ = ["ContextError", "LlamaError", "Model", "ModelError", "Sampler", "Session", "load"]
