"""Compare lines of text, by a transformer that torch runs on the CPU.

magic examples/torch_module.py "the cat sat" "the cat sits" "4 + 4"
"""

import sys

from magicheap import magic_transaction

with magic_transaction():
    import torch

    print("making the model", file=sys.stderr)
    torch.manual_seed(1)  # stands for torch.load of a checkpoint
    layer = torch.nn.TransformerEncoderLayer(d_model=512, nhead=8, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, num_layers=6, enable_nested_tensor=False).eval()
    bytes_to_vectors = torch.nn.Embedding(256, 512)


@torch.inference_mode()
def embed(line: str) -> torch.Tensor:
    """Return the mean of the encoder's outputs for the bytes of `line`, float32[512]."""
    return encoder(bytes_to_vectors(torch.tensor([list(line.encode())]))).mean(dim=1)[0]


first, *others = map(embed, sys.argv[1:])
for line, vector in zip(sys.argv[2:], others):
    print(f"{torch.cosine_similarity(first, vector, dim=0):.3f} {line}")
