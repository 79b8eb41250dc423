"""Standard streams of every kind, for programs that tests start."""

import os
import pty
import socket
import subprocess


def _sockets():
    return [end.detach() for end in socket.socketpair()]


class Descriptors:
    """Three descriptors of one kind each, as a shell would hand them to a program."""

    def __init__(self, directory, kinds):
        self.own = []
        self.given = [self.make(kind, fd, directory) for fd, kind in enumerate(kinds)]

    def make(self, kind, fd, directory):
        if kind == "closed":
            return None
        if kind in ("terminal", "pipe", "socket"):
            ends = {"terminal": pty.openpty, "pipe": os.pipe, "socket": _sockets}[kind]()
            given, own = ends[::-1] if kind == "terminal" or fd else ends
            self.own.append(own)
            return given
        path = directory / f"{kind}{fd}"
        path.write_bytes(b"0123456789\n" * 10)
        flags = {"null": os.O_RDWR, "file": os.O_RDWR, "append": os.O_RDWR | os.O_APPEND, "read only": os.O_RDONLY}[
            kind
        ]
        given = os.open("/dev/null" if kind == "null" else path, flags)
        if kind == "file":
            os.lseek(given, 15, os.SEEK_SET)
        return given

    def options(self):
        """For Popen: exactly these."""

        def close_the_closed():
            for fd, given in enumerate(self.given):
                if given is None:
                    os.close(fd)

        given = [subprocess.DEVNULL if fd is None else fd for fd in self.given]
        return {"stdin": given[0], "stdout": given[1], "stderr": given[2], "preexec_fn": close_the_closed}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for fd in self.own + [fd for fd in self.given if fd is not None]:
            os.close(fd)
