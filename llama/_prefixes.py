"""Which prefix is kept where, and what a text that has grown takes from the prefix that it grew from.

A prefix is a dialogue that has evaluated a text, kept as a layer on its model. Its file is named after the text, so that whoever looks
for a text finds those that it begins with, the longest of which saves most:

    MODEL-prefix-<settings>-<characters, hex>-<their digest>[.more].magic

    base     evaluated from its first token on; stays
    .more    took over what a shorter one had evaluated; goes when a longer one has taken over from it

So a history that grows line by line keeps two files, and of texts that begin each other each keeps its own.

X1  The shorter prefix is resumed in a second process of the same command, which hands over tokens and cache through memory and ends;
    what else it has loaded this process has, too. If that fails, for whatever reason, all is evaluated here.
X2  The cache is copied byte by byte: tokens to come are the same, bit for bit, as if all had been evaluated here.
X3  Only files of these names, in the directory of default snapshots, are ever removed.
"""

import contextlib
import mmap
import os
import re
import struct
from array import array

from llama import _layers

MORE = ".more"
HAND_OVER = "MAGIC_LLAMA_HAND_OVER"  # of the second process: descriptor to write to, characters of its prefix, what ends its file's name


def kept(model_path, key, text, snapshot, evaluate):
    """Return (evaluate(state)'s result, whether this command has made it), from the snapshot of this text if there is one.

    snapshot: its path; None: named as above. evaluate: returns a tuple that begins with a Dialogue; its state is a State, or None.
    May not return: in the second process of X1.
    """
    if snapshot:
        return _layers.layer(_layers.PREFIX, lambda: evaluate(None), snapshot, f"{key} {_layers.digest(text)}", is_last=True)
    state = nearest = None
    if wanted := os.environ.get(HAND_OVER):
        _, length, end = wanted.split(" ")
        text = text[: int(length)]
        place = _place(model_path, key, text, end)
        load = _give_up
    else:
        place = next((path for end in ("", MORE) if os.path.exists(path := _place(model_path, key, text, end))), None)
        if place is None and (nearest := _nearest(model_path, key, text)):
            state = _take_over(*nearest)
        place = place or _place(model_path, key, text, MORE if state else "")
        load = lambda: evaluate(state)  # noqa: E731
    result, is_made = _layers.layer(_layers.PREFIX, load, place, f"{key} {_layers.digest(text)}", is_last=True)
    if wanted := os.environ.get(HAND_OVER):  # asked anew: this may be another run (L2)
        _hand_over(int(wanted.split(" ")[0]), result[0].session)
    if is_made and state and nearest[1] == MORE and os.path.exists(place):
        with contextlib.suppress(OSError):
            os.unlink(_place(model_path, key, nearest[0], MORE))
    return result, is_made


def _place(model_path, key, text, end):
    return _layers.default_path(model_path, key, "-prefix", f"-{len(text):x}-{_layers.digest(text)}{end}")


def _nearest(model_path, key, text):
    """Return (the longest kept text that this one begins with, the end of its file's name), or None."""
    directory, name = os.path.split(_layers.default_path(model_path, key, "-prefix", "-*"))
    begin, _, _ = name.partition("*")
    pattern = re.compile(re.escape(begin) + rf"([0-9a-f]{{1,12}})-([0-9a-f]{{16}})({re.escape(MORE)})?\.magic")
    found = []
    with contextlib.suppress(OSError):
        matches = filter(None, map(pattern.fullmatch, os.listdir(directory)))
        found = sorted(((int(match[1], 16), match[2], match[3] or "") for match in matches), reverse=True)
    for length, digest, end in found:
        if length < len(text) and _layers.digest(text[:length]) == digest:
            return text[:length], end
    return None


# ---- X1 ----


class State:
    """What a session had evaluated: `tokens`, and its cache in `buffer`. Close it: memory that is shared can't be committed."""

    HEAD = struct.Struct("<q")  # how many tokens follow, as int32; then the cache

    def __init__(self, descriptor):
        self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        (n,) = self.HEAD.unpack_from(self._map)
        at = self.HEAD.size + 4 * n
        self.tokens = array("i", self._map[self.HEAD.size : at]).tolist()
        self.buffer = memoryview(self._map)[at:]

    def close(self):
        self.buffer.release()
        self._map.close()


def _take_over(text, end):
    """Return the State that the prefix of this text hands over, or None."""
    descriptor = -1
    try:
        descriptor = os.memfd_create("magic-llama", 0)  # to be inherited
        child = _layers.spawn(HAND_OVER, f"{descriptor} {len(text)} {end}")
        _, status = os.waitpid(child, 0)
        return State(descriptor) if status == 0 else None
    except (OSError, ValueError, struct.error):
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _give_up():
    """End the second process where the snapshot that it is for can't be resumed."""
    os._exit(1)


def _hand_over(descriptor, session):
    head = State.HEAD.pack(len(session.tokens)) + array("i", session.tokens).tobytes()
    os.ftruncate(descriptor, len(head) + session.state_bytes)
    with mmap.mmap(descriptor, 0) as shared:
        shared[: len(head)] = head
        with memoryview(shared) as view, view[len(head) :] as cache:
            session.save_state(cache)
        os._exit(0)
