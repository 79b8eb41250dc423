"""Questions of a program before it was watched: an analysis of its source finds them, where it can.

The analysis understands imports, definitions, and expressions of plain values, in which variables, the arguments and
the working directory may be asked for in the usual ways. The questions of other code are unknown. If the analysis fails
and modules outside the standard library were loaded, the run makes no snapshot (_process.py). If none were loaded, the
snapshot serves only runs in which Python reaches the `with`, and which compare their variables there (_brought.py).
"""

from __future__ import annotations

import builtins
import os
import sys
from typing import NamedTuple

from magicheap import _questions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any

_PURE = {
    "str", "int", "float", "bool", "len", "list", "dict", "tuple", "set", "frozenset", "sorted", "min", "max", "range",
    "sum", "repr", "print",
    "os.path.join", "os.path.dirname", "os.path.basename", "os.path.splitext", "os.path.normpath", "os.fspath",
    "pathlib.Path", "Path",
    "sys.path.append", "sys.path.insert", "sys.path.extend", "sys.path.remove", "sys.setrecursionlimit",
}  # fmt: skip
_OF_THE_PLACE = {"os.getcwd", "os.path.abspath"}
# imports that bind the names above which are no builtins
_MEANT = {"os": {"import os"}, "sys": {"import sys"}, "pathlib": {"import pathlib"}, "Path": {"pathlib.Path"}}
_MODULES = ("os", "sys", "posix", "time", "builtins")  # by no other name
_ASKING = {  # attributes that answer a question, whatever their object
    "argv", "orig_argv", "environ", "environb", "getenv", "getenvb",
    "stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__",
    "tzname", "timezone", "altzone", "daylight", "__dict__", "modules", "__globals__", "__builtins__",
}  # fmt: skip
# methods that are called without a call expression
_CALLED = {"__getattr__", "__init_subclass__", "__class_getitem__", "__set_name__", "__prepare__", "__mro_entries__"}
# as of Enum's
_OF_METACLASSES = {
    "__init__",
    "__new__",
    "_missing_",
    "_generate_next_value_",
    "__call__",
    "mro",
    "__setattr__",
    "__hash__",
    "__eq__",
}
_OF_SITE = ("_distutils_hack", "_virtualenv")  # loaded as the interpreter starts, if at all
_OF_OURS = ("_cffi_backend", "cffi", "magicheap_start")


class Asked(NamedTuple):
    """The questions that were found."""

    variables: frozenset[str]
    arguments: bool
    place: bool  # the working directory


def asked(places: Iterable[tuple[CodeType, int]], modules: Iterable[str]) -> Asked | None:
    """Return the questions, or None if they are unknown. `places`: modules, each executed up to a line; `modules`:
    names of the modules that were loaded by then."""
    import ast

    reader, begun = _Reader(), set()
    for code, line in places:
        tree = _parse(code.co_filename, code)
        begun.add(os.path.abspath(code.co_filename))
        if tree is None or not reader.enters(tree) or reader.reaches(tree.body, line) is not True:
            return None
    for name in modules:
        path: Any = getattr(sys.modules.get(name), "__file__", None)
        top = name.partition(".")[0]
        is_known = (
            path is None
            or os.path.abspath(path) in begun
            or top in (*_OF_SITE, *_OF_OURS, "magicheap")
            or _questions.is_standard(path)
        )
        if not is_known:
            # a module that shadows the library's has other functions
            tree = None if top in sys.stdlib_module_names else _parse(path)
            if (
                tree is None
                or not reader.enters(tree)
                or not all(reader.is_harmless(each) for each in tree.body if not isinstance(each, ast.Pass))
            ):
                return None
    return Asked(frozenset(reader.variables), reader.arguments, reader.place)


def is_alone(modules: Iterable[str]) -> bool:
    """Tell whether only the program's own file and the standard library were loaded: the answers that this file got are
    among the variables that it brings to the `with` (_brought.py)."""
    for name in modules:
        path = getattr(sys.modules.get(name), "__file__", None)
        top = name.partition(".")[0]
        is_own = top in ("__main__", *_OF_SITE, *_OF_OURS, "magicheap", "magicheap_start")
        if path is not None and not is_own and not _questions.is_standard(path):
            return False
    return True


def _parse(path: str, code: CodeType | None = None) -> ast.Module | None:
    """Return the syntax tree of a file; None: it is no Python source, or not that of `code`."""
    import ast

    try:
        with open(path, "rb") as file:
            source = file.read()
        if code is not None and compile(source, path, "exec", dont_inherit=True) != code:
            return None
        return ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None


class _Reader:
    def __init__(self) -> None:
        self.variables: set[str] = set()
        self.arguments = self.place = False
        # each name that the analysed module binds, with the origin of its value
        self.bound: dict[str, set[str]] = {}

    def enters(self, tree: ast.Module) -> bool:
        """Begin with another module; False if the meaning of its names is unknown."""
        import ast

        self.bound = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    self.bound.setdefault(alias.asname or top, set()).add(
                        f"import {top}" if alias.asname in (None, alias.name) else alias.name
                    )
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.bound.setdefault(alias.asname or alias.name, set()).add(
                        f"{'.' * node.level}{node.module}.{alias.name}"
                    )
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.bound.setdefault(node.name, set()).add("own")
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self.bound.setdefault(node.id, set()).add("own")
        return "*" not in self.bound

    def is_itself(self, node: ast.AST) -> bool:
        """Tell whether the first part of this dotted name is the builtin, or the module, of that name."""
        first = _dotted(node).partition(".")[0]
        return self.bound.get(first, set()) == _MEANT.get(first, set())

    def reaches(self, body: list[ast.stmt], line: int) -> bool | None:
        """True: the import at this line is in here, and all code before it is understood; False: some is not; None: all
        is understood, and the line comes later."""
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
            # these modules are analysed for their own questions
            return all(alias.asname is None or alias.name not in _MODULES for alias in statement.names)
        if isinstance(statement, ast.ImportFrom):
            return not _ASKING.intersection(alias.name for alias in statement.names)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = statement.args
            each_one = [
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
                arguments.vararg,
                arguments.kwarg,
            ]
            evaluated = [
                *arguments.defaults,
                *arguments.kw_defaults,
                statement.returns,
                *(each and each.annotation for each in each_one),
            ]
            is_called = statement.name in _CALLED or bool(statement.decorator_list)
            return not is_called and all(self.knows(each) for each in evaluated if each is not None)
        if isinstance(statement, ast.ClassDef):
            is_plain = (
                not statement.decorator_list
                and not statement.keywords
                and all(isinstance(each, ast.Name) for each in statement.bases)
            )
            defined = {getattr(each, "name", "") for each in statement.body}
            is_made_by_others = any(
                not hasattr(builtins, each.id) or each.id in self.bound
                for each in statement.bases
                if isinstance(each, ast.Name)
            )
            is_plain = is_plain and not (is_made_by_others and defined & _OF_METACLASSES)
            return is_plain and all(self.is_harmless(each) for each in statement.body)
        if isinstance(statement, ast.Assign):
            return self.knows(statement.value) and all(self.may_set(each) for each in statement.targets)
        if isinstance(statement, ast.AnnAssign | ast.AugAssign):
            annotation = getattr(statement, "annotation", None)
            return self.may_set(statement.target) and all(
                self.knows(each) for each in (statement.value, annotation) if each is not None
            )
        if isinstance(statement, ast.If):
            if isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING" and not statement.orelse:
                return True
            return self.knows(statement.test) and all(
                self.is_harmless(each) for each in [*statement.body, *statement.orelse]
            )
        return isinstance(statement, ast.Pass)

    def may_set(self, target: ast.expr) -> bool:
        """Tell whether an assignment changes only the program's own names, the import path, or its environment."""
        import ast

        if isinstance(target, ast.Subscript):
            name = _dotted(target.value)
            knows = {"sys.path": self.knows, "os.environ": self.asks_for}.get(name)
            return knows is not None and self.is_itself(target.value) and knows(target.slice)
        if isinstance(target, ast.Tuple | ast.List):
            return all(isinstance(each, ast.Name) for each in target.elts)
        return isinstance(target, ast.Name)

    def knows_arguments(self, node: ast.Call) -> bool:
        return all(self.knows(each) for each in [*node.args, *(keyword.value for keyword in node.keywords)])

    def knows(self, node: ast.AST) -> bool:
        """Tell whether an expression is understood, and record its questions."""
        import ast

        name = _dotted(node)
        if name in ("sys.argv", "sys.orig_argv") and self.is_itself(node):
            self.arguments = True
            return True
        if isinstance(node, ast.Attribute) and node.attr in _ASKING:
            return False
        if isinstance(
            node, ast.Name | ast.Constant | ast.expr_context | ast.operator | ast.unaryop | ast.cmpop | ast.boolop
        ):
            return True
        if isinstance(node, ast.Subscript) and _dotted(node.value) == "os.environ":
            return self.is_itself(node.value) and self.asks_for(node.slice)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and _dotted(node.comparators[0]) == "os.environ":
            return (
                isinstance(node.ops[0], ast.In | ast.NotIn)
                and self.is_itself(node.comparators[0])
                and self.asks_for(node.left)
            )
        if isinstance(node, ast.Call):
            return self.knows_call(node)
        plain = (
            ast.Attribute, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp,
            ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Starred,
        )  # fmt: skip
        return isinstance(node, plain) and all(self.knows(each) for each in ast.iter_child_nodes(node))

    def knows_call(self, node: ast.Call) -> bool:
        name = _dotted(node.func)
        # key=, file= would pass a function to call
        if not self.is_itself(node.func) or any(
            keyword.arg not in ("default", "sep", "end") for keyword in node.keywords
        ):
            return False
        if name in ("os.environ.get", "os.getenv"):
            return bool(node.args) and self.asks_for(node.args[0]) and self.knows_arguments(node)
        if name in ("os.path.realpath", "os.path.abspath") and [_dotted(each) for each in node.args] == ["__file__"]:
            return "__file__" not in self.bound  # __file__ follows from the command
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
