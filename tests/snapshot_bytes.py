"""Changes snapshot files as native/format.h draws them, with the checksums repaired, so that a change reaches what it
is meant for."""

import os
import struct
from typing import NamedTuple

HEADER_BYTES = 4096
N_TABLES_AT, TABLES_AT = 20, 96  # hd_n_tables, hd_tables
TABLE = struct.Struct("<5Q")  # kind, count, offset, bytes, checksum
INPUTS, STRINGS = 2, 5  # MHI_TABLE_*
INPUT_BYTES, NAME_AT, MTIME_AT, BUILD_ID_AT = 104, 8, 48, 64  # of mhi_file_input
SEED = 0x61642E636967616D  # MHI_CHECKSUM_SEED

_P1, _P2, _P3, _P4, _P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_MASK = (1 << 64) - 1


class Table(NamedTuple):
    at: int  # of its entry in the header
    offset: int
    size_bytes: int


def _rotate(value, bits):
    value &= _MASK
    return (value << bits | value >> (64 - bits)) & _MASK


def checksum(data, seed=SEED):
    """XXH64, as github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md has it."""
    whole = len(data) // 32 * 32
    words = struct.unpack(f"<{whole // 8}Q", data[:whole])
    if whole:
        lanes = [seed + _P1 + _P2, seed + _P2, seed, seed - _P1]
        for i, word in enumerate(words):
            lanes[i % 4] = _rotate(lanes[i % 4] + word * _P2, 31) * _P1 & _MASK
        total = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            total = ((total ^ _rotate(lane * _P2, 31) * _P1) * _P1 + _P4) & _MASK
    else:
        total = seed + _P5
    total += len(data)
    rest = data[whole:]
    for at in range(0, len(rest) // 8 * 8, 8):
        word = int.from_bytes(rest[at : at + 8], "little")
        total = _rotate(total ^ _rotate(word * _P2, 31) * _P1, 27) * _P1 + _P4
    rest = rest[len(rest) // 8 * 8 :]
    if len(rest) >= 4:
        total = _rotate(total ^ int.from_bytes(rest[:4], "little") * _P1, 23) * _P2 + _P3
        rest = rest[4:]
    for byte in rest:
        total = _rotate(total ^ byte * _P5, 11) * _P1
    total &= _MASK
    total = (total ^ total >> 33) * _P2 & _MASK
    total = (total ^ total >> 29) * _P3 & _MASK
    return total ^ total >> 32


class Snapshot:
    """The file at `path`; each change is written at once, in place."""

    def __init__(self, path):
        self.path = path
        self.data = bytearray(path.read_bytes())

    def table(self, kind):
        (n_tables,) = struct.unpack_from("<I", self.data, N_TABLES_AT)
        for at in range(TABLES_AT, TABLES_AT + n_tables * TABLE.size, TABLE.size):
            found, _, offset, size_bytes, _ = TABLE.unpack_from(self.data, at)
            if found == kind:
                return Table(at, offset, size_bytes)
        raise LookupError(f"no table of kind {kind}")

    def write(self):
        """Store the file, with the checksums of its tables and of its header repaired."""
        (n_tables,) = struct.unpack_from("<I", self.data, N_TABLES_AT)
        for at in range(TABLES_AT, TABLES_AT + n_tables * TABLE.size, TABLE.size):
            _, _, offset, size_bytes, _ = TABLE.unpack_from(self.data, at)
            struct.pack_into("<Q", self.data, at + 32, checksum(self.data[offset : offset + size_bytes]))
        struct.pack_into("<Q", self.data, HEADER_BYTES - 8, checksum(self.data[: HEADER_BYTES - 8]))
        with open(self.path, "r+b") as file:
            file.write(self.data)

    def replace(self, old, new):
        """Replace `old` in the strings by `new`, which is as long."""
        table = self.table(STRINGS)
        at = self.data.index(old, table.offset, table.offset + table.size_bytes)
        assert len(old) == len(new)
        self.data[at : at + len(old)] = new
        self.write()

    def replace_library(self, suffix):
        """Record another library, of another time and build-id, in the place of the input whose name ends with
        `suffix`."""
        inputs, strings = self.table(INPUTS), self.table(STRINGS)
        for at in range(inputs.offset, inputs.offset + inputs.size_bytes, INPUT_BYTES):
            (name,) = struct.unpack_from("<Q", self.data, at + NAME_AT)
            start = strings.offset + name
            if name < strings.size_bytes and self.data[start : self.data.index(0, start)].endswith(os.fsencode(suffix)):
                struct.pack_into("<q", self.data, at + MTIME_AT, 1)
                self.data[at + BUILD_ID_AT] ^= 1
                self.write()
                return
        raise LookupError(f"no input {suffix}")
