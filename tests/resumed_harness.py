"""A fork that stands for a commit and its resume: what Python does before and behind it is the same."""

PRELUDE = '''
import os, signal, sys

def commit(n=1, argv=(), environ=None):
    """Return in `n` children, one after the other, each as in a resumed process; the parent ends as the last of
    them does."""
    from magicheap import _environment, _exit, _resumed
    from magicheap._native import ffi
    initial = _environment.read_initial()
    new = dict(entry.split(b"=", 1) for entry in initial) if environ is None else environ
    _exit.watch()
    kept = _resumed.prepare(initial)
    take_up = _resumed.plan(kept)
    _exit.settle(kept.exit)
    words = [os.fsencode(word) for word in ("python", *argv)]
    entries = [ffi.new("char[]", b"=".join(item)) for item in new.items()]
    strings, envp = ffi.new("char[]", bytes(1).join(words)), ffi.new("char *[]", [*entries, ffi.NULL])
    resumed = ffi.new("mh_resumed *", {"envp": envp, "envc": len(entries), "n_skipped": 1, "strings": strings})
    resumed.arguments_bytes = len(strings)
    sys.stdout.flush()
    for _ in range(n):
        if os.fork() == 0:
            for name in os.environb:  # C's environment is made by the launcher
                os.unsetenv(name)
            for item in new.items():
                os.putenv(*item)
            take_up(resumed)
            return
        code = os.waitstatus_to_exitcode(os.wait()[1])
    _resumed.go_on(kept)
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
'''
