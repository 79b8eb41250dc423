"""The processes that have a snapshot mapped, and the size of the private memory of each."""

from __future__ import annotations

import os
from typing import NamedTuple

import psutil


class Use(NamedTuple):
    """One process and its share of a snapshot; sizes in bytes."""

    pid: int
    name: str
    resident_bytes: int
    shared_bytes: int  # resident, and also mapped by other processes, or clean in the page cache
    private_bytes: int  # resident, and written to by this process
    proportional_bytes: int  # each page divided by the number of processes that map it


def processes_using(path: str) -> list[Use]:
    """Return the processes that have the file at `path` mapped, of those whose memory maps we may read."""
    path = os.path.realpath(path)
    return [use for process in psutil.process_iter() if (use := _use(process, path))]


def _use(process: psutil.Process, path: str) -> Use | None:
    try:
        maps = [area for area in process.memory_maps(grouped=False) if area.path == path]
        name = process.name()
    except (psutil.Error, OSError):
        return None  # it has ended, or belongs to another user
    if not maps:
        return None
    resident = sum(area.rss for area in maps)
    # copied pages; those of a file on tmpfs count as dirty even if unmodified
    private = sum(area.anonymous for area in maps)
    return Use(process.pid, name, resident, resident - private, private, sum(area.pss for area in maps))
