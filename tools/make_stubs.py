"""Write the type stubs of the compiled halves from the C headers that cffi reads; with --check, only check that they
are up to date.

    make_stubs.py [--check]

A structure becomes a class with its members as attributes; as in cffi, the class stands for a pointer to it and for the
structure itself. A C function becomes a method of `lib`. Other pointers are CData.
"""

from __future__ import annotations

import re
import sys
from keyword import iskeyword
from pathlib import Path

from pycparser import c_ast, c_parser

WIDTH = 120  # as in pyproject.toml
ROOT = Path(__file__).resolve().parent.parent
STUBS = {
    "native/include/magicheap.h": "magicheap/_native.pyi",
    "native/kernels/llama_kernels.h": "llama/_kernels.pyi",
}

# The types of <stdbool.h>, <stddef.h> and <stdint.h> that the headers use, and their types in Python.
PLAIN = {
    "_Bool": "bool",
    "bool": "bool",
    "double": "float",
    "float": "float",
    **dict.fromkeys(("char", "short", "int", "long", "unsigned", "size_t", "ssize_t", "intptr_t", "uintptr_t"), "int"),
    **{f"{sign}int{bits}_t": "int" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
TYPEDEFS = "".join(f"typedef int {name};\n" for name in PLAIN if name.endswith("_t") or name == "bool")

HEAD = """\
# Made by tools/make_stubs.py from {header}: change that, and run `python tools/make_stubs.py`.
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeAlias, overload

from typing_extensions import Buffer

class CData:
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getitem__(self, index: int | slice) -> Any: ...
    def __setitem__(self, index: int | slice, value: object) -> None: ...
    def __add__(self, other: int) -> CData: ...
    def __sub__(self, other: Any) -> Any: ...
    def __lt__(self, other: CData) -> bool: ...
    def __le__(self, other: CData) -> bool: ...
    def __gt__(self, other: CData) -> bool: ...
    def __ge__(self, other: CData) -> bool: ...

class CType:
    @property
    def cname(self) -> str: ...
    @property
    def item(self) -> CType: ...
    @property
    def kind(self) -> str: ...
    @property
    def length(self) -> int | None: ...
    @property
    def fields(self) -> list[tuple[str, Any]] | None: ...

_CData = CData
_CType = CType
"""

FFI = """\
class FFI:
    CData: TypeAlias = _CData
    CType: TypeAlias = _CType
    NULL: Any
    error: type[Exception]
    errno: int
{new}
    def addressof(self, cdata: Any, *path: str | int) -> Any: ...
    def buffer(self, cdata: CData, size: int = ...) -> Any: ...
    def callback(self, cdecl: str | CType, function: Callable[..., Any]) -> CData: ...
    def cast(self, cdecl: str | CType, value: CData | int) -> Any: ...
    @overload
    def from_buffer(self, source: Buffer, *, require_writable: bool = ...) -> CData: ...
    @overload
    def from_buffer(self, cdecl: str | CType, source: Buffer, require_writable: bool = ...) -> CData: ...
    def from_handle(self, handle: CData) -> Any: ...
    def gc(self, cdata: Any, destructor: Callable[[Any], object] | None, size: int = ...) -> Any: ...
    def memmove(self, to: CData | Buffer, source: CData | Buffer, n: int) -> None: ...
    def new_handle(self, value: object) -> CData: ...
    def offsetof(self, cdecl: str | CType, *path: str | int) -> int: ...
    def release(self, cdata: CData) -> None: ...
    def sizeof(self, cdecl: str | CType | CData) -> int: ...
    def string(self, cdata: CData, maxlen: int = ...) -> bytes: ...
    def typeof(self, cdecl: str | CData) -> CType: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...

ffi: FFI
lib: Lib
"""


def declarations(header: Path) -> list[c_ast.Node]:
    text = header.read_text(encoding="utf-8").split("/* cffi:begin */")[1].split("/* cffi:end */")[0]
    text = re.sub(r"/\*.*?\*/|//[^\n]*", lambda comment: re.sub(r"[^\n]", " ", comment[0]), text, flags=re.DOTALL)
    nodes = c_parser.CParser().parse(TYPEDEFS + text, str(header)).ext
    return [node for node in nodes if getattr(node, "name", None) not in PLAIN]


def base_name(kind: c_ast.TypeDecl) -> str:
    """The name of a type that is no pointer: for a plain type its last word, `long` for `unsigned long`."""
    if isinstance(kind.type, c_ast.IdentifierType):
        return str(kind.type.names[-1])
    return str(kind.type.name)


def python_type(kind: c_ast.Node, structures: set[str], *, is_argument: bool) -> str:
    if isinstance(kind, c_ast.TypeDecl):
        name = base_name(kind)
        return "None" if name == "void" else name if name in structures else PLAIN.get(name, "int")
    if isinstance(kind, c_ast.PtrDecl) and isinstance(kind.type, c_ast.TypeDecl):
        name = base_name(kind.type)
        if name in structures:
            return name
        if is_argument and name in {"void", "char"}:
            return "CData | bytes"
    return "CData | list[Any]" if is_argument else "CData"


def structure(name: str, node: c_ast.Struct, structures: set[str]) -> str:
    members = [f"    {member.name}: {member_type(member, structures)}\n" for member in node.decls]
    return f"class {name}(CData):\n{''.join(members)}"


def member_type(member: c_ast.Decl, structures: set[str]) -> str:
    """A pointer may be set to NULL, or to a result of `ffi.new`, whose type mypy knows only for single structures."""
    found = python_type(member.type, structures, is_argument=False)
    return "Any" if isinstance(member.type, c_ast.PtrDecl | c_ast.ArrayDecl) and found == "CData" else found


def method(node: c_ast.Decl, structures: set[str]) -> str:
    parameters = node.type.args.params if node.type.args else []
    named = [(one.name, python_type(one.type, structures, is_argument=True)) for one in parameters if one.name]
    written = [f"{name}_: {kind}" if iskeyword(name) else f"{name}: {kind}" for name, kind in named]
    result = python_type(node.type.type, structures, is_argument=False)
    return wrapped(f"    def {node.name}(", ["self", *written, "/"] if named else ["self"], f") -> {result}: ...")


def wrapped(begin: str, parameters: list[str], end: str) -> str:
    """One line; or three; or one for each parameter: as `ruff format` does."""
    joined = ", ".join(parameters)
    if len(begin + joined + end) <= WIDTH:
        return f"{begin}{joined}{end}\n"
    if len(f"        {joined}") <= WIDTH:
        return f"{begin}\n        {joined}\n    {end}\n"
    return f"{begin}\n" + "".join(f"        {one},\n" for one in parameters) + f"    {end}\n"


def enumerators(node: c_ast.Enum) -> list[str]:
    return [f"    {one.name}: Final[int]\n" for one in node.values.enumerators]


def stub(header: str) -> str:
    nodes = declarations(ROOT / header)
    typedefs = {node.name: node for node in nodes if isinstance(node, c_ast.Typedef)}
    structures = {name for name, node in typedefs.items() if isinstance(getattr(node.type, "type", None), c_ast.Struct)}
    complete = [name for name in typedefs if name in structures and typedefs[name].type.type.decls]
    handles = "".join(f"class {name}(CData): ...\n" for name in typedefs if name in structures and name not in complete)
    classes = [structure(name, typedefs[name].type.type, structures) for name in complete]
    constants, methods = [], []
    for node in nodes:
        kind = node.type.type if isinstance(node, c_ast.Typedef) else node.type
        if isinstance(kind, c_ast.Enum):
            constants += enumerators(kind)
        elif isinstance(kind, c_ast.FuncDecl):
            methods.append(method(node, structures))
    new = "".join(
        f'    @overload\n    def new(self, cdecl: Literal["{name} *"], init: Any = ...) -> {name}: ...\n'
        for name in complete
    )
    new += "    @overload\n    def new(self, cdecl: str | CType, init: Any = ...) -> Any: ..."
    return "\n".join(
        [
            HEAD.format(header=header),
            handles,
            *classes,
            f"class Lib:\n{''.join(constants)}{''.join(methods)}",
            FFI.format(new=new),
        ]
    )


def main(*arguments: str) -> int:
    stale = []
    for header, path in STUBS.items():
        text = stub(header)
        if arguments == ("--check",):
            if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text:
                stale.append(path)
        else:
            (ROOT / path).write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path} is not what its header says: run python tools/make_stubs.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
