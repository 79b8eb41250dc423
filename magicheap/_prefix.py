"""What a program has asked the world before anybody watched: read from its source, as far as that can be understood.

Understood are imports, definitions, and expressions of plain values, in which variables, the arguments and the working directory may be asked
for in the usual ways. Of anything else nobody knows what it asks: then a snapshot serves only runs that come to the `with` themselves, and are
compared by what they bring there (_brought.py).
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from magicheap import _questions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable
    from types import CodeType

_PURE = {
    "str", "int", "float", "bool", "len", "list", "dict", "tuple", "set", "frozenset", "sorted", "min", "max", "range", "sum", "repr", "print",
    "os.path.join", "os.path.dirname", "os.path.basename", "os.path.splitext", "os.path.normpath", "os.fspath", "pathlib.Path", "Path",
    "sys.path.append", "sys.path.insert", "sys.path.extend", "sys.path.remove", "sys.setrecursionlimit",
}  # fmt: skip
_OF_THE_PLACE = {"os.getcwd", "os.path.abspath", "os.path.realpath"}
_MODULES = ("os", "sys")  # by no other name
_OF_SITE = ("_distutils_hack", "_virtualenv", "sitecustomize", "usercustomize", "google", "mpl_toolkits")  # loaded as the interpreter starts, if at all
_OF_OURS = ("_cffi_backend", "cffi")


class Asked(NamedTuple):
    """What was asked for."""

    variables: frozenset[str]
    arguments: bool
    place: bool  # the working directory


def asked(places: Iterable[tuple[CodeType, int]], modules: Iterable[str]) -> Asked | None:
    """`places`: modules of which all before a line has run; `modules`: names of those that were loaded by then. None: nobody knows."""
    import ast

    reader, begun = _Reader(), set()
    for code, line in places:
        tree = _parse(code.co_filename, code)
        begun.add(os.path.abspath(code.co_filename))
        if tree is None or reader.reaches(tree.body, line) is not True:
            return None
    for name in modules:
        path = getattr(sys.modules.get(name), "__file__", None)
        is_known = path is None or os.path.abspath(path) in begun or name.partition(".")[0] in (*_OF_SITE, *_OF_OURS) or _questions.is_standard(path) or _is_standard(name)
        if not is_known:
            tree = _parse(path)
            if tree is None or not all(reader.is_harmless(each) for each in tree.body if not isinstance(each, ast.Pass)):
                return None
    return Asked(frozenset(reader.variables), reader.arguments, reader.place)


def _parse(path: str, code: CodeType | None = None) -> ast.Module | None:
    """None: it is no Python text, or not that of `code`."""
    import ast

    try:
        with open(path, "rb") as file:
            source = file.read()
        if code is not None and compile(source, path, "exec", dont_inherit=True).co_code != code.co_code:
            return None
        return ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None


class _Reader:
    def __init__(self) -> None:
        self.variables: set[str] = set()
        self.arguments = self.place = False

    def reaches(self, body: list[ast.stmt], line: int) -> bool | None:
        """True: the import at this line is in here, and all before it is understood; False: something is not; None: all is, and it comes later."""
        import ast

        for statement in body:
            is_around = statement.lineno <= line <= (statement.end_lineno or 0)
            if is_around and isinstance(statement, ast.Import | ast.ImportFrom):
                return True
            if is_around and isinstance(statement, ast.If) and self.knows(statement.test):
                return self.reaches(statement.body, line)
            if is_around and isinstance(statement, ast.Try):
                return self.reaches(statement.body, line)
            if is_around or not self.is_harmless(statement):
                return False
        return None

    def is_harmless(self, statement: ast.stmt) -> bool:
        import ast

        if isinstance(statement, ast.Expr):
            return self.knows(statement.value)
        if isinstance(statement, ast.Import):
            return all(alias.asname is None or alias.name not in _MODULES for alias in statement.names)  # what they ask, they are read for
        if isinstance(statement, ast.ImportFrom):
            names = {f"{statement.module}.{alias.name}" for alias in statement.names}
            return not names & {"sys.argv", "os.environ", "os.getenv", "os.environb", "os.*", "sys.*"}
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            defaults = [*statement.args.defaults, *(each for each in statement.args.kw_defaults if each is not None)]
            return not statement.decorator_list and all(self.knows(each) for each in defaults)
        if isinstance(statement, ast.ClassDef):
            names = all(isinstance(each, ast.Name) for each in statement.bases)
            return names and not statement.decorator_list and not statement.keywords and all(self.is_harmless(each) for each in statement.body)
        if isinstance(statement, ast.Assign):
            return self.knows(statement.value) and all(self.may_set(each) for each in statement.targets)
        if isinstance(statement, ast.AnnAssign | ast.AugAssign):
            return self.may_set(statement.target) and (statement.value is None or self.knows(statement.value))
        if isinstance(statement, ast.If):
            if isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING" and not statement.orelse:
                return True
            return self.knows(statement.test) and all(self.is_harmless(each) for each in [*statement.body, *statement.orelse])
        return isinstance(statement, ast.Pass)

    def may_set(self, target: ast.expr) -> bool:
        """Not what others than the program's own names mean, but for the path of imports and variables of its own environment."""
        import ast

        if isinstance(target, ast.Subscript):
            return _dotted(target.value) in ("sys.path", "os.environ") and self.knows(target.slice)
        return isinstance(target, ast.Name)

    def knows_arguments(self, node: ast.Call) -> bool:
        return all(self.knows(each) for each in [*node.args, *(keyword.value for keyword in node.keywords)])

    def knows(self, node: ast.AST) -> bool:
        """Tell whether an expression is understood, and note what it asks for."""
        import ast

        name = _dotted(node)
        if name == "sys.argv":
            self.arguments = True
            return True
        if name in ("os.environ", "os.environb", "sys.stdin", "sys.stdout", "sys.stderr"):
            return False
        if isinstance(node, ast.Name | ast.Constant | ast.expr_context | ast.operator | ast.unaryop | ast.cmpop | ast.boolop):
            return True
        if isinstance(node, ast.Subscript) and _dotted(node.value) == "os.environ":
            return self.asks_for(node.slice)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and _dotted(node.comparators[0]) == "os.environ":
            return isinstance(node.ops[0], ast.In | ast.NotIn) and self.asks_for(node.left)
        if isinstance(node, ast.Call):
            return self.knows_call(node)
        plain = (ast.Attribute, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.JoinedStr, ast.FormattedValue,
                 ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Starred)  # fmt: skip
        return isinstance(node, plain) and all(self.knows(each) for each in ast.iter_child_nodes(node))

    def knows_call(self, node: ast.Call) -> bool:
        name = _dotted(node.func)
        if name in ("os.environ.get", "os.getenv"):
            return bool(node.args) and self.asks_for(node.args[0]) and self.knows_arguments(node)
        self.place |= name in _OF_THE_PLACE
        return (name in _PURE or name in _OF_THE_PLACE) and self.knows_arguments(node)

    def asks_for(self, node: ast.AST) -> bool:
        import ast

        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            return False
        self.variables.add(node.value)
        return True


def _dotted(node: ast.AST) -> str:
    import ast

    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def _is_standard(name: str) -> bool:
    top = name.partition(".")[0]
    return top == "magicheap" or top in sys.stdlib_module_names
