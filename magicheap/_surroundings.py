"""Whether this process may be exchanged for a snapshot, and be committed."""

from __future__ import annotations

import sys


def why_not() -> str:
    """Return "" or the reason."""
    if "pytest" in sys.modules:
        return "pytest is running"
    if sys.gettrace() is not None:
        return "a debugger is tracing"
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return "the interpreter is interactive"
    return ""
