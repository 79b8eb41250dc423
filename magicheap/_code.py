"""Digests of code: they tell an edited program from the earlier one, wherever its text came from.

Most code comes from files, which are inputs. Other code has no file that could be compared: a script on standard input,
code run by `exec` or `runpy`, a zipapp's main module, a notebook's cell. A snapshot resumes the frames on its
transaction's call stack, with the code that they had then.

D1  Equal code has equal digests in every process: a digest contains nothing that the running interpreter adds
    (specialised instructions, interned names, reference counts, the order of a hash table). marshal's version 2 writes
    none of that: references and interned names came with version 3. It writes a set sorted by the encoding of its
    elements, and instructions as they were compiled.
D2  Every part counts: instructions, constants with the functions among them, names, lines (a traceback shows them),
    flags.
"""

from __future__ import annotations

import marshal

from magicheap._cpython import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

_VERSION = 2  # of marshal's format (D1)
_DIGEST_BYTES = 8
_known: dict[int, tuple[CodeType, str]] = {}  # by id; the reference keeps the id unique. A module's code may be long


def code_digest(code: CodeType) -> str:
    """Return the digest of a code object, in hexadecimal. ValueError: it holds a constant that no compiler makes."""
    known = _known.get(id(code))
    if known is None:
        known = _known[id(code)] = code, blake2b()(_written(code), digest_size=_DIGEST_BYTES).hexdigest()
    return known[1]


def _written(code: CodeType) -> bytes:
    try:
        return marshal.dumps(code, _VERSION)
    except ValueError:  # a slice, which is a constant since CPython 3.14 and no part of version 2
        names = (
            code.co_name,
            code.co_qualname,
            code.co_filename,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
        )
        counts = (
            code.co_argcount,
            code.co_posonlyargcount,
            code.co_kwonlyargcount,
            code.co_stacksize,
            code.co_flags,
            code.co_firstlineno,
        )
        return _constant((*names, *counts, code.co_code, code.co_exceptiontable, code.co_linetable, code.co_consts))


def _constant(value: Any) -> bytes:
    """Return an encoding that no other constant has: type, length, content."""
    if isinstance(value, tuple):
        content = b"".join(map(_constant, value))
    elif isinstance(value, frozenset):
        content = b"".join(sorted(map(_constant, value)))
    elif isinstance(value, slice):
        content = _constant((value.start, value.stop, value.step))
    else:
        content = _written(value) if isinstance(value, type(_written.__code__)) else marshal.dumps(value, _VERSION)
    return b"%s %d " % (type(value).__name__.encode(), len(content)) + content
