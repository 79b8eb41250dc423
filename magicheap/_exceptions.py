"""The exceptions.

MagicHeapError          never raised itself
  FormatError           not a snapshot, or one of another format version
  CorruptError          a snapshot that contradicts itself or its checksum
  StaleError            an input of the snapshot has changed
  BusyError             the address range or the lock is taken
  NoSpaceError          the arena or the disk is full
  DanglingError         pointers that a later run could not follow
  UntrustedError        another user could have chosen the content of the snapshot
  UnsupportedError      this machine cannot do it
  RootError             (also ValueError) a root that a later run could not get back; of a transaction it is a
                        warning, as all of these are
OSError                 the kernel's error, with the filename
ValueError              the caller's mistake
"""


class MagicHeapError(Exception):
    """Base of this package's own exceptions; never raised itself."""


class FormatError(MagicHeapError):
    """The file is no snapshot, or one of another format version."""


class CorruptError(MagicHeapError):
    """The snapshot contradicts itself or its checksum."""


class StaleError(MagicHeapError):
    """An input of the snapshot has changed."""


class BusyError(MagicHeapError):
    """The address range or the lock is taken."""

    is_another_run = False  # True: another run is making the snapshot, and nothing is wrong


class NoSpaceError(MagicHeapError):
    """The arena or the disk is full."""


class DanglingError(MagicHeapError):
    """Blocks of the arena hold pointers that a later run could not follow."""


class UntrustedError(MagicHeapError):
    """Owner, mode or directory of the file would let another user choose our memory."""


class UnsupportedError(MagicHeapError):
    """This machine lacks what the snapshot needs."""


class RootError(MagicHeapError, ValueError):
    """The root holds an object that a later run could not restore; the snapshot is not made, and a warning says why."""


class MagicHeapWarning(UserWarning):
    """The program goes on without the snapshot that it asked for."""
