"""The exceptions.

MagicHeapError          never raised itself
  FormatError           not a snapshot, or one of another format version
  CorruptError          a snapshot that contradicts itself or its checksum
  StaleError            an input of the snapshot has changed
  BusyError             the address range or the lock is taken
  NoSpaceError          the arena or the disk is full
  DanglingError         pointers that a later run could not follow
  UntrustedError        somebody else could have chosen what the snapshot holds
  UnsupportedError      this machine cannot do it
  RootError             (also ValueError) a root that a later run could not get back; of a transaction it is a
                        warning, as all of these are
OSError                 whatever the kernel said, with the filename
ValueError              the caller's mistake
"""


class MagicHeapError(Exception):
    """Base of what this package raises; never raised itself."""


class FormatError(MagicHeapError):
    """The file is no snapshot, or one of another format version."""


class CorruptError(MagicHeapError):
    """The snapshot contradicts itself or its checksum."""


class StaleError(MagicHeapError):
    """An input of the snapshot has changed."""


class BusyError(MagicHeapError):
    """The address range or the lock is taken."""

    is_another_run = False  # which makes the snapshot in our stead: nothing is wrong


class NoSpaceError(MagicHeapError):
    """The arena or the disk is full."""


class DanglingError(MagicHeapError):
    """Blocks of the arena hold pointers that a later run could not follow."""


class UntrustedError(MagicHeapError):
    """Owner, mode or directory of the file would let somebody else choose our memory."""


class UnsupportedError(MagicHeapError):
    """This machine cannot do it."""


class RootError(MagicHeapError, ValueError):
    """The root holds something that a later run could not get back: the snapshot is not made, and the warning says
    why."""


class MagicHeapWarning(UserWarning):
    """The program goes on, but without the snapshot it asked for."""
