"""How every test starts a program, and how it waits for its end."""

import subprocess

TIMEOUT_S = 120  # arbitrary: far more than any program here takes, so that a hang is a failure


def start(words, env, **options):
    """Start it with this environment, in which None is no value, and with pipes as its streams."""
    return subprocess.Popen(
        [str(word) for word in words],
        env={name: value for name, value in env.items() if value is not None},
        **{"text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def finish(process, text=None, status=0):
    """Send it `text` and wait for its end, which must be `status`; return (stdout, stderr)."""
    with process:
        try:
            out, err = process.communicate(text, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == status, f"exit status {process.returncode}, expected {status}\n{out}\n{err}"
    return out, err
