"""The papers say what the code does: variables, commands, public names, and links that lead somewhere."""

import ast
import importlib.util
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = [path for top in ("native", "magicheap", "llama") for path in sorted((ROOT / top).rglob("*"))]
WORKSHOP = [path for top in ("tests", "tools", "bench", "examples", "docs") for path in sorted((ROOT / top).rglob("*"))]
WATCHED = re.compile(r"watched\[\] = \{(.*?)\}", re.S)  # of native/snapshot/environment.c
ASKED_BY_C = re.compile(r'(?:getenv\(|environment_get\([^";]*, |is_set\(l, |define MHI_\w+_VARIABLE )"(\w+)"')
SET_BY_C = re.compile(r'\bsetenv\("(\w+)"')
MADE_BY_MAKE = re.compile(r"^(?:export )?(\w+) :=", re.M)
ASKED_BY_MAKE = re.compile(r"^(\w+) \?=|\$[({]([A-Z_]+)[)}]|\$\$\{?([A-Z_]+)", re.M)  # the last by its shell
OURS = re.compile(r"\b(?:MAGICHEAP|MAGIC_LLAMA)_[A-Z_]*[A-Z]\b")
NO_VARIABLES = {"MAGICHEAP_H", "CURDIR"}  # the guard of magicheap.h; make's own
LINK = re.compile(r"(?<!\\)\[[^][]*\]\(<?([^)>\s]+)>?\)")
FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.S | re.M)

_spec = importlib.util.spec_from_file_location("reference", ROOT / "tools/reference.py")
assert _spec and _spec.loader
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

is_made_by_this_python = pytest.mark.skipif(
    sys.version_info[:2] not in reference.PYTHON, reason="argparse of this Python prints otherwise"
)


# ---- environment variables ----


def constants(tree):
    """Each name that a module gives a text, with that text."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def is_environment(node):
    return ast.unparse(node).rpartition(".")[2] in ("environ", "environb", "ENVIRONMENT")


def asked_by_python(source):
    """Names that are looked up in os.environ, posix.environ or by getenv, as constants or by the name of one."""
    tree = ast.parse(source)
    known = constants(tree)
    for node in ast.walk(tree):
        asked = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            of = node.func
            if of.attr in ("getenv", "getenvb") or (of.attr in ("get", "pop") and is_environment(of.value)):
                asked = node.args[0]
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            asked = node.slice
        elif isinstance(node, ast.Compare) and is_environment(node.comparators[0]):
            asked = node.left
        value = asked.value if isinstance(asked, ast.Constant) else known.get(getattr(asked, "id", None))
        if isinstance(value, bytes | str):
            yield value.decode() if isinstance(value, bytes) else value


def asked_by_c(source):
    """Names that are asked for, unless the file itself sets them, as a test does."""
    return set(ASKED_BY_C.findall(source)) - set(SET_BY_C.findall(source))


def asked_by_make(makefile):
    asked = {name for names in ASKED_BY_MAKE.findall(makefile) for name in names if name}
    return asked - set(MADE_BY_MAKE.findall(makefile))


def variables_read():
    from magicheap._pools import _TOLD

    found = set(_TOLD) | asked_by_make((ROOT / "Makefile").read_text())
    for path in [*PRODUCT, *WORKSHOP]:
        if path.suffix not in (".c", ".h", ".py") and path.name != "magicheap.pth":
            continue
        text = path.read_text()
        found |= set(OURS.findall(text)) if path in PRODUCT else set()
        found |= asked_by_c(text) if path.suffix in (".c", ".h") else set(asked_by_python(text))
    (watched,) = WATCHED.findall((ROOT / "native/snapshot/environment.c").read_text())
    return found - NO_VARIABLES | set(re.findall(r'"([^"]+)"', watched))


def test_every_variable_that_the_code_reads_is_on_the_page():
    named = set(re.findall(r"`([A-Z][A-Z_]*\*?)`", (ROOT / "docs/reference/environment.md").read_text()))
    read = variables_read()
    assert {
        "MAGICHEAP_LOG",
        "XDG_CACHE_HOME",
        "HOME",
        "TMPDIR",
        "PYTHONINSPECT",
        "LC_*",
        "MAGIC_LLAMA_MADE",
        "CFLAGS",
        "WORDS",
    } <= read
    assert read - named == set()


def test_a_variable_is_found_however_it_is_asked_for():
    source = """NAME = "A"
os.environ[NAME], environ.get("B"), posix.environ.get(b"C"), os.getenv("D"), "E" in os.environ, environ.pop("F", 0)
ENVIRONMENT.get("G")"""
    assert set(asked_by_python(source)) == set("ABCDEFG")
    assert ASKED_BY_C.findall('getenv("A"), mhi_environment_get(l->arguments->ar_envp, "B"), is_set(l, "C")') == [
        "A",
        "B",
        "C",
    ]
    assert asked_by_c('setenv("MINE", "1", 1), getenv("MINE"), getenv("A")') == {"A"}
    assert asked_by_make("A ?= 1\nMADE := $(B) $(MADE)\n\t$(C)/$<\n\tD=$$D ${E}\n") == set("ABCDE")


# ---- pages made from the code ----


@is_made_by_this_python
@pytest.mark.parametrize("command", reference.all_commands())
def test_the_page_of_a_command_equals_its_help(command):
    page = (ROOT / "docs/reference/cli.md").read_text()
    section = re.search(rf"^## {re.escape(command)}\n\n```text\n(.*?)^```$", page, re.S | re.M)
    assert section and section[1] == reference.help_of(command), "run python tools/reference.py"


@is_made_by_this_python
def test_every_subcommand_has_a_section():
    named = re.findall(r"^    (\w+) ", reference.help_of("magicheap").partition("commands:")[2], re.M)
    assert {f"magicheap {name}" for name in named} <= set(reference.all_commands())


@is_made_by_this_python
def test_the_page_of_the_python_api_equals_the_docstrings():
    assert (ROOT / "docs/reference/python.md").read_text() == reference.python_page(), "run python tools/reference.py"


# ---- links ----


def tracked(*patterns):
    """Files that are in the repository, or in the directory if that is none."""
    done = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True)
    names = (
        done.stdout.split("\0")
        if done.returncode == 0
        else [path.relative_to(ROOT) for path in ROOT.glob("docs/**/*.md")]
    )
    return sorted(ROOT / name for name in names if name)


def anchor(heading):
    """How GitHub names a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    kept = (char for char in text if char in " -_" or unicodedata.category(char)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def anchors(text):
    headings = re.findall(r"^#+ +(.*?)\s*$", FENCE.sub("", text), re.M)
    return {anchor(heading) for heading in headings}


def broken(page, text):
    """Relative links of a page that lead nowhere."""
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, name = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if (
            not file.exists()
            or not file.is_relative_to(ROOT)
            or (name and name not in anchors(text if file == page else file.read_text()))
        ):
            yield target


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    assert list(broken(page, page.read_text())) == []


def test_a_link_that_leads_nowhere_is_seen():
    links = "[a](SAFETY.md) [b](#a-b-c-d) [c](#nowhere) [d](nothing.md) [e](SAFETY.md#nothing) [f](https://x.org/)"
    text = f"# A `b` c, d\n{links}\n```\n[g](h)\n```\n"
    assert list(broken(ROOT / "README.md", text)) == ["#nowhere", "nothing.md", "SAFETY.md#nothing"]


def test_no_file_of_docs_is_left_out():
    assert {"README.md", "docs/performance.md"} <= {path.relative_to(ROOT).as_posix() for path in tracked("*.md")}
