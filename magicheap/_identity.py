"""Identity and state of files by stat: the one place where these are compared, as native/base/identity.h is for C.

    file_of(was) == file_of(is)          # I1
    content_of(was) == content_of(is)    # I2
    state_of(was) == state_of(is)        # I3

I1  Two files that exist at the same time are the same if inode and device are equal.
I2  A file is unwritten if size and mtime are unchanged, too. A new link, a change of mode, and a change of the access
    time, by which we mark a use of a snapshot, leave both alone.
I3  Nothing was done to a file if the ctime is unchanged, too. A program can't set it: it also shows a write after which
    the mtime was set back.

The device counts, unlike in C: all but the files of a resumed process are compared within one boot. Where its number
has changed, a resumed process finds another file, and the run is cold.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    File = tuple[int, int]  # inode, device
    Content = tuple[int, int, File]  # size in bytes, mtime in ns
    State = tuple[int, Content]  # ctime in ns


def file_of(status: os.stat_result) -> File:
    """I1."""
    return status.st_ino, status.st_dev


def content_of(status: os.stat_result) -> Content:
    """I2."""
    return status.st_size, status.st_mtime_ns, file_of(status)


def state_of(status: os.stat_result) -> State:
    """I3."""
    return status.st_ctime_ns, content_of(status)
