"""Which variables a loop over the whole environment selects, by its source.

Many loops read only variables with a prefix (tqdm at its import, dask):

    for name, value in os.environ.items():        {name[5:]: value for name, value in os.environ.items()
        if name.startswith("DASK_"):               if name.startswith(prefix)}

Then other variables make no difference. A loop is understood only if its first test is of that kind and has no
alternative branch, and if the argument is a text, or a variable that holds one. Otherwise all variables count.
"""

from __future__ import annotations

import sys
from types import ModuleType

from magicheap._cpython_environment import ENVIRONMENT, ENVIRONMENT_IN_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator
    from types import CodeType, FrameType

ALL = "*"
_UNKNOWN = object()
# of urllib.request, which compares parts of the name with _proxy, in any case of letters
_OF_PROXIES = "getproxies_environment"

_loops: dict[CodeType, dict[int, ast.expr | None]] = {}  # by line; None: the loop was not understood


def patterns(frame: FrameType) -> list[str]:
    """Return patterns, each with one *, of the variables that the loop of this frame selects."""
    if frame.f_code.co_name == _OF_PROXIES and frame.f_globals.get("__name__") == "urllib.request":
        return ["*_proxy"]
    tests = _loops.setdefault(frame.f_code, {})
    if frame.f_lineno not in tests:
        tests[frame.f_lineno] = _test_of(frame)
    return _patterns_of(tests[frame.f_lineno], frame) or [ALL]


def _test_of(frame: FrameType) -> ast.expr | None:
    """Return the first test of the loop, if that is a call of startswith or endswith on the name."""
    import ast

    try:
        with open(frame.f_code.co_filename, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    loops = (ast.For, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found = [each for each in ast.walk(tree) if isinstance(each, loops) and _covers(each, frame.f_lineno)]
    found = [each for each in found if _may_be_of_environment(_iterated(each), frame)]
    if len(found) != 1 or not _is_environment(_walked(_iterated(found[0])), frame):
        return None  # it is unknown which loop runs, or what it iterates over
    loop = found[0]
    test, name = _first_test(loop)
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        test = test.values[0]
    is_understood = test is not None and name and _is_of_name(test, name) and not _leaks(loop, name, test, tree)
    return test if is_understood else None


def _covers(node: ast.AST, line: int) -> bool:
    return getattr(node, "lineno", line + 1) <= line <= (getattr(node, "end_lineno", 0) or 0)


def _iterated(loop: ast.AST) -> ast.expr:
    return getattr(loop, "iter", None) or loop.generators[0].iter  # type: ignore[attr-defined, no-any-return]


def _walked(iterated: ast.expr) -> ast.expr | None:
    """Return the mapping that this iterates over by names: the expression itself, or the object of its keys() or
    items()."""
    import ast

    if not isinstance(iterated, ast.Call):
        return iterated
    is_plain = (
        isinstance(iterated.func, ast.Attribute) and not iterated.args and iterated.func.attr in ("keys", "items")
    )
    return iterated.func.value if is_plain else None  # type: ignore[attr-defined]


def _may_be_of_environment(iterated: ast.expr, frame: FrameType) -> bool:
    walked = _walked(iterated)
    value = _UNKNOWN if walked is None else _value_of(walked, frame)
    return value is _UNKNOWN or value is ENVIRONMENT or value is ENVIRONMENT_IN_BYTES


def _is_environment(walked: ast.expr | None, frame: FrameType) -> bool:
    value = None if walked is None else _value_of(walked, frame)
    return value is ENVIRONMENT or value is ENVIRONMENT_IN_BYTES


def _value_of(node: ast.expr, frame: FrameType) -> object:
    """Return the value of a variable, or of a module's variable, without executing code."""
    import ast

    if isinstance(node, ast.Name):
        callers: list[FrameType] = [each for each in (frame, frame.f_back) if each]
        places = [*(each.f_locals for each in callers), frame.f_globals]
        return next((place[node.id] for place in places if node.id in place), _UNKNOWN)
    if isinstance(node, ast.Attribute):
        module = _value_of(node.value, frame)
        return vars(module).get(node.attr, _UNKNOWN) if type(module) is ModuleType else _UNKNOWN
    return _UNKNOWN


def _leaks(loop: ast.AST, name: str, test: ast.expr, tree: ast.Module) -> bool:
    """Tell whether the loop rebinds another variable of its test, or whether code after the loop uses the last name."""
    import ast

    asked = {each.id for each in ast.walk(test) if isinstance(each, ast.Name)} - {name}
    inside = set(ast.walk(loop))
    if any(isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load) and each.id in asked for each in inside):
        return True
    if not isinstance(loop, ast.For):
        return False
    around = [each for each in ast.walk(tree) if each is not loop and _covers(each, loop.lineno)]
    functions = [each for each in around if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    scope: ast.AST = max(functions, key=lambda each: each.lineno, default=tree)
    is_again = any(
        isinstance(each, ast.For | ast.AsyncFor | ast.While) and each in set(ast.walk(scope)) for each in around
    )
    uses = [each for each in ast.walk(scope) if isinstance(each, ast.Name) and each.id == name and each not in inside]
    return any(is_again or each.lineno > (loop.end_lineno or 0) for each in uses)


def _first_test(loop: ast.AST) -> tuple[ast.expr | None, str]:
    """Return the condition for any effect of the loop's body, and the loop's name for the variable's name."""
    import ast

    if not isinstance(loop, ast.For):
        generators: list[ast.comprehension] = loop.generators  # type: ignore[attr-defined]
        first = generators[0]
        return (first.ifs[0] if first.ifs else None), _name_of(first.target)
    first_line = loop.body[0]
    if not isinstance(first_line, ast.If) or loop.orelse:
        return None, ""
    passes = (ast.Continue, ast.Pass)
    if isinstance(first_line.test, ast.UnaryOp) and isinstance(first_line.test.op, ast.Not):  # if not ...: continue
        is_guard = len(first_line.body) == 1 and isinstance(first_line.body[0], ast.Continue) and not first_line.orelse
        return (first_line.test.operand if is_guard else None), _name_of(loop.target)
    is_all = len(loop.body) == 1 and all(isinstance(each, passes) for each in first_line.orelse)
    return (first_line.test if is_all else None), _name_of(loop.target)


def _name_of(target: ast.expr) -> str:
    """Return the loop's name for a variable's name; "": it is no plain name."""
    import ast

    first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
    return first.id if isinstance(first, ast.Name) else ""


def _is_of_name(test: ast.expr, name: str) -> bool:
    """Tell whether it is NAME.startswith(ARGUMENT), or the same of the name in upper or lower case."""
    import ast

    if (
        not isinstance(test, ast.Call)
        or len(test.args) != 1
        or test.keywords
        or not isinstance(test.func, ast.Attribute)
    ):
        return False
    of = test.func.value
    if (
        isinstance(of, ast.Call)
        and isinstance(of.func, ast.Attribute)
        and of.func.attr in ("upper", "lower", "casefold")
        and not of.args
    ):
        of = of.func.value
    return test.func.attr in ("startswith", "endswith") and isinstance(of, ast.Name) and of.id == name


def _patterns_of(test: ast.expr | None, frame: FrameType) -> list[str]:
    if test is None:
        return []
    found = list(_texts(test.args[0], frame))  # type: ignore[attr-defined]
    is_prefix = test.func.attr == "startswith"  # type: ignore[attr-defined]
    is_known = all(text is not None and text.isascii() and "*" not in text and "\0" not in text for text in found)
    return [f"{text}*" if is_prefix else f"*{text}" for text in found] if is_known else []


def _texts(node: ast.expr, frame: FrameType) -> Iterator[str | None]:
    """Yield the texts of the argument, or None where they are unknown."""
    import ast

    value: object = None
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.Name):
        value = frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    elif isinstance(node, ast.Tuple):
        for each in node.elts:
            yield from _texts(each, frame)
        return
    for text in value if type(value) is tuple else (value,):
        yield (
            text.decode(sys.getfilesystemencoding(), "surrogateescape")
            if type(text) is bytes
            else text
            if type(text) is str
            else None
        )
