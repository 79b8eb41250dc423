"""A fork that stands for a commit and its resume: what Python does before and behind it is the same."""

PRELUDE = '''
import os, signal, sys

def commit(n=1, argv=(), environ=None, ignored=frozenset()):
    """Return in `n` children, one after the other, each as in a resumed process; the parent ends as the last of
    them does."""
    from magicheap import _environment, _resumed
    initial = _environment.read_initial()
    new = dict(entry.split(b"=", 1) for entry in initial) if environ is None else environ
    kept = _resumed.prepare(initial, _resumed.ignored_signals())
    sys.stdout.flush()
    for _ in range(n):
        if os.fork() == 0:
            for name in os.environb:  # C's environment is made by the launcher
                os.unsetenv(name)
            for item in new.items():
                os.putenv(*item)
            entries = [b"=".join(item) for item in new.items()]
            _resumed.take_up((["python", *argv], 1, entries, sum(1 << (number - 1) for number in ignored)), kept)
            return
        code = os.waitstatus_to_exitcode(os.wait()[1])
    _resumed.go_on(kept)
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
'''
