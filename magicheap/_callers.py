"""The program's frames above its `with`: a snapshot resumes all callers, so they must be the same.

caller()         # the frame of the `with`
call_stack()     # all of them as a text. ValueError: code that can't be told from other code
"""

from __future__ import annotations

from magicheap._code import code_digest
from magicheap._cpython import frame as frame_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def caller() -> FrameType | None:
    frame: FrameType | None = frame_of(0)
    while frame and str(frame.f_globals.get("__name__")).startswith("magicheap."):
        frame = frame.f_back
    return frame


def call_stack() -> str:
    frame, places = caller(), []
    while frame:
        code = frame.f_code
        places.append(f"{code.co_filename}:{code.co_name}:{frame.f_lasti}:{code_digest(code)}")
        frame = frame.f_back
    return " < ".join(places)
