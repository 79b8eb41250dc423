"""Damaged checkpoints: a ModelError or a model, never a signal, a hang or another exception.

Files are cut at every boundary that matters and at random places, and bytes are overwritten at random where the
structure is. The damage reaches the parsers: GGUF has no checksum, and those of the zip are repaired. What still
loads is also used, since a lie that was believed shows there.
"""

import random
import struct
import subprocess
import sys
import textwrap
import zipfile

import pytest
from llama_fixtures import N_PIECES, meta_name, pickled, random_weights, text, write_gguf, write_meta, write_pth

import llama

SEED = 20240229  # arbitrary
FLIPS = 400


def attempt(path):
    """Load; if that works, compute with every part of the model. Return whether it loaded."""
    try:
        model = llama.load(path)
    except llama.ModelError:
        return False
    try:
        model.tokenizer.decode(model.tokenizer.encode("the end", special=True, bos=True))
        with llama.Session(model, n_ctx=8, n_threads=1) as session:
            session.feed([0, model.config.n_vocab - 1])
    finally:
        model.close()
    return True


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("whole") / "m.gguf", kind="Q8_0").read_bytes()


def structure_size(data):
    """Return how many bytes of a GGUF file come before the tensors' data."""
    return data.index(b"output.weight") + 64


def test_a_gguf_cut_anywhere_is_refused(tmp_path, gguf_bytes):
    rng = random.Random(SEED)
    places = {*range(64), *rng.sample(range(len(gguf_bytes)), 300), len(gguf_bytes) - 40}
    path = tmp_path / "m.gguf"
    for place in sorted(places):
        path.write_bytes(gguf_bytes[:place])
        assert not attempt(path), f"cut at {place}"


@pytest.mark.parametrize("value", [0, 0xFF, None], ids=["zeros", "ones", "random"])
def test_a_gguf_with_bytes_overwritten_does_no_harm(tmp_path, gguf_bytes, value):
    rng = random.Random(SEED)
    path = tmp_path / "m.gguf"
    for _ in range(FLIPS):
        data = bytearray(gguf_bytes)
        at, n = rng.randrange(structure_size(gguf_bytes)), rng.choice((1, 4, 8))
        data[at : at + n] = rng.randbytes(n) if value is None else bytes([value]) * n
        path.write_bytes(data)
        attempt(path)  # anything but True or False fails the test; a signal fails it more loudly


def test_a_gguf_that_claims_too_much_allocates_nothing(tmp_path):
    """Counts of 2^60 strings, pairs and tensors in a file of a few bytes."""
    head = b"GGUF" + struct.pack("<I", 3)
    many = 1 << 60
    key = struct.pack("<Q", 1) + b"k"
    path = tmp_path / "m.gguf"
    for lie in (
        struct.pack("<QQ", many, 0),
        struct.pack("<QQ", 0, many),
        struct.pack("<QQ", 0, 1) + struct.pack("<Q", many),
        struct.pack("<QQ", 0, 1) + key + struct.pack("<IIQ", 9, 8, many),
        struct.pack("<QQ", 0, 1) + key + struct.pack("<IIQ", 9, 4, many),
        struct.pack("<QQ", 0, 1) + key + struct.pack("<IIQ", 9, 9, many),
    ):
        path.write_bytes(head + lie + bytes(32))
        with pytest.raises(llama.ModelError):
            llama.load(path)


@pytest.fixture
def meta(tmp_path):
    weights = random_weights(N_PIECES)
    return write_meta(tmp_path / "meta", weights), {meta_name(name): weight for name, weight in weights.items()}


def test_a_pth_cut_anywhere_is_refused(meta):
    path, _ = meta
    shard = path / "consolidated.00.pth"
    data = shard.read_bytes()
    rng = random.Random(SEED)
    for place in [*range(40), *rng.sample(range(len(data)), 150)]:
        shard.write_bytes(data[:place])
        assert not attempt(path), f"cut at {place}"


def test_a_zip_with_bytes_overwritten_does_no_harm(meta):
    path, _ = meta
    shard = path / "consolidated.00.pth"
    whole = shard.read_bytes()
    rng = random.Random(SEED)
    directory = whole.index(b"PK\1\2")
    for i in range(FLIPS):
        data = bytearray(whole)
        at = rng.randrange(directory, len(data)) if i % 2 else rng.randrange(200)
        data[at] = rng.randrange(256)
        shard.write_bytes(data)
        attempt(path)


def test_a_pickle_with_bytes_overwritten_does_no_harm(meta):
    path, tensors = meta
    program = pickled(tensors)
    rng = random.Random(SEED)
    for _ in range(FLIPS):
        data = bytearray(program)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        write_pth(path / "consolidated.00.pth", tensors, program=bytes(data))
        attempt(path)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.", "names 'os system'"),
        (b"\x80\x02c__builtin__\neval\n" + text("1") + b"\x85R.", "names '__builtin__ eval'"),
        (b"\x80\x02ctorch\nLongStorage\n.", "names 'torch LongStorage'"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "uses opcode"),
        (
            b"\x80\x02}(" + text("a") + b"ccollections\nOrderedDict\n)Ru.",
            "has no tensors but a: save the dict of tensors",
        ),
        (b"\x80\x02)" + b"\x85" * 100_000 + b".", "holds a tuple"),
        (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.", "has a key that is no text"),
        (b"\x80\x02", "ends too early"),
        (b"\x80\x02R.", "is damaged"),
        (b"\x80\x02h\x07.", "is damaged"),
        (b"\x80\x02r\xff\xff\xff\xff.", "is damaged"),
        (b"\x80\x02t.", "is damaged"),
    ],
)
def test_a_pickle_that_is_no_dict_of_tensors_is_refused(meta, program, message):
    path, tensors = meta
    write_pth(path / "consolidated.00.pth", tensors, program=program)
    with pytest.raises(llama.ModelError, match=message):
        llama.load(path)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"offset": 1}, "reaches past its storage of 20480 elements"),
        ({"n_items": 20481}, "is missing or not 20481 elements long"),
        ({"n_items": 20479}, "is missing or not 20479 elements long"),
        ({"strides": (65, 1)}, "reaches past"),
        ({"strides": (1, 320)}, "transposed"),
        ({"strides": (-64, 1)}, "no positive numbers"),
        ({"shape": (0, 64)}, "no positive numbers"),
        ({"shape": (320, 64, 1), "strides": (64, 1, 1)}, "neither a vector nor a matrix"),
        ({"shape": (160, 64)}, r"has shapes \[\(160, 64\)\] in 1 shards, expected \(320, 64\)"),
        ({"offset": -1}, "no positive numbers"),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(meta, view, message):
    path, tensors = meta
    program = pickled(tensors, views={"tok_embeddings.weight": view})
    write_pth(path / "consolidated.00.pth", tensors, program=program)
    with pytest.raises(llama.ModelError, match=message):
        llama.load(path)


def test_a_flipped_weight_is_noticed(meta):
    path, _ = meta
    shard = path / "consolidated.00.pth"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(llama.ModelError, match="is damaged or missing: Bad CRC-32"):
        llama.load(path)


def test_a_big_endian_archive_is_refused(meta):
    path, tensors = meta
    write_pth(path / "consolidated.00.pth", tensors, byteorder="big")
    with pytest.raises(llama.ModelError, match="is big-endian"):
        llama.load(path)


def test_a_compressed_archive_is_refused(meta):
    path, tensors = meta
    with zipfile.ZipFile(path / "consolidated.00.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickled(tensors))
    with pytest.raises(llama.ModelError, match="is compressed"):
        llama.load(path)


def test_a_damaged_tokenizer_model_ends_in_no_signal(meta):
    """sentencepiece parses it in C++: in a process of its own, so that a crash would be seen."""
    path, _ = meta
    program = """
        import random, sys, llama
        from pathlib import Path
        path = Path(sys.argv[1])
        whole = (path / "tokenizer.model").read_bytes()
        rng = random.Random(int(sys.argv[2]))
        for i in range(60):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 4))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            (path / "tokenizer.model").write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
            try:
                llama.load(path).close()
            except llama.ModelError:
                pass
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path), str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path, timeout=120)
    assert done.returncode == 0, done.stderr
