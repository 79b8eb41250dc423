"""Includes and imports point down the table of layers, and nowhere else."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What every room of native/ stands on.
GROUND = {"native/base", "native/sys", "native/arch", "native/error.h", "native/include"}

# The table in the README: each layer with what it may use besides itself. What is not named here is no layer.
LAYERS = {
    "llama/__main__.py": {"llama/command", "llama/loaders", "llama/text"},
    "llama/__init__.py": {"llama/engine", "llama/loaders", "llama/_model.py", "llama/_native.py"},
    "llama/command": {"llama/engine", "llama/loaders", "llama/text", "llama/_model.py", "llama/_native.py"},
    "llama/engine": {"llama/_model.py", "llama/_native.py", "llama/_kernels.pyi"},
    "llama/loaders": {"llama/families", "llama/text", "llama/_model.py", "llama/_native.py", "llama/_kernels.pyi"},
    "llama/families": {"llama/_native.py"},
    "llama/_model.py": {"llama/text", "llama/_native.py", "llama/_kernels.pyi"},
    "llama/text": {"llama/_native.py", "llama/_kernels.pyi"},
    "llama/_native.py": {"llama/_kernels.pyi"},
    "llama/_kernels.pyi": set(),
    "magicheap": set(),
    "native/kernels": set(),
    "native/kinds.c": {"native/process", "native/resumable", "native/snapshot"},
    "native/process": {"native/resumable", "native/snapshot", "native/python", "native/format.h", *GROUND},
    "native/launcher": {"native/resumable", "native/snapshot", "native/python", "native/format.h", *GROUND},
    "native/resumable": {"native/snapshot", "native/format.h", *GROUND},
    "native/snapshot": {"native/audit", "native/route", "native/heap", "native/format.h", *GROUND},
    "native/audit": {"native/route", "native/heap", "native/python", *GROUND},
    "native/route": {"native/heap", *GROUND},
    "native/heap": GROUND,
    "native/python": GROUND,
    "native/base": {"native/sys", "native/arch", "native/error.h", "native/include"},
    "native/sys": {"native/arch", "native/error.h", "native/include"},
    "native/arch": set(),
    "native/format.h": {"native/arch"},
    "native/error.c": {"native/error.h", "native/sys"},
    "native/error.h": {"native/include"},
    "native/include": set(),
}
# What only the snapshot of a process has, as words of identifiers: native/snapshot names none of it.
OF_PROCESSES = set(
    "process processes capture captured scrub scrubs resume resumed resumable rehearse rehearsal rehearsed register"
    " registers descriptor descriptors signal signals vdso touched launcher command arm armed held stack thread".split()
)
OF_THIS_PROCESS = {
    "mhi_trust_process",
    "mhi_sys_process_id",
    "process_id",
    "own_descriptor",
    "mhi_sys_membarrier_register",
}
THE_ONE_WITH = "llama/command/_layers.py"  # the only file of llama that knows of magicheap

NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)  # comments, texts, paths of includes
# By the compiler; of the folders that are for one CPU it searches one.
SEARCHED = [
    *(ROOT / "native" / name for name in ("", "include", "kernels")),
    *sorted(path for top in ("arch", "kernels") for path in (ROOT / "native" / top).iterdir() if path.is_dir()),
]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def layer_of(path):
    name = path.relative_to(ROOT).as_posix()
    found = [layer for layer in LAYERS if name == layer or name.startswith(layer + "/")]
    assert len(found) == 1, f"{name} lies in no layer of the table"
    return found[0]


def sources(*suffixes):
    files = [
        path for top in ("native", "llama", "magicheap") for path in (ROOT / top).rglob("*") if path.suffix in suffixes
    ]
    return sorted(path for path in files if path.parent != ROOT / "native" or path.suffix != ".py")


def included(path):
    for name in INCLUDE.findall(path.read_text()):
        places = [base / name for base in (path.parent, *SEARCHED) if (base / name).is_file()]
        assert places, f"{path} includes {name}, which is nowhere"
        yield places[0].resolve()


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            yield node.module
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if (ROOT / name.replace(".", "/")).with_suffix(".py").is_file())


def names_of_processes(text):
    names = set(re.findall(r"[A-Za-z_]\w*", NO_CODE.sub(" ", text))) - OF_THIS_PROCESS
    return sorted(name for name in names if OF_PROCESSES & set(name.lower().split("_")))


def file_of(module):
    """Return the file of a module of ours; of a compiled one, its stub."""
    place = ROOT / module.replace(".", "/")
    candidates = (place / "__init__.py", place.with_suffix(".py"), place.with_suffix(".pyi"))
    return next(path for path in candidates if path.is_file())


def test_the_table_has_no_circle():
    order = list(TopologicalSorter(LAYERS).static_order())
    assert order[-1] in LAYERS


def test_no_files_of_llama_import_each_other_in_a_circle():
    """Not even behind a function's back, or for their types alone."""
    uses = {
        path: {file_of(name) for name in imported(path) if name.startswith("llama.")} - {path.parent / "__init__.py"}
        for path in (ROOT / "llama").rglob("*.py")
    }
    assert len(list(TopologicalSorter(uses).static_order())) > len(uses)  # the compiled half, too


@pytest.mark.parametrize("path", sources(".c", ".h", ".S"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_includes_point_down(path):
    own = layer_of(path)
    for target in included(path):
        assert layer_of(target) in LAYERS[own] | {own}, f"{own} includes {target.relative_to(ROOT)}"


@pytest.mark.parametrize("path", sources(".py"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path):
    own = layer_of(path)
    allowed = LAYERS[own] | {own} | ({"magicheap"} if path == ROOT / THE_ONE_WITH else set())
    for name in imported(path):
        if name.split(".")[0] in ("llama", "magicheap"):
            assert layer_of(file_of(name)) in allowed, f"{own} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "native/snapshot").glob("*.[ch]")), ids=lambda path: path.name)
def test_snapshot_names_nothing_that_only_a_process_has(path):
    assert names_of_processes(path.read_text()) == []


def test_a_name_of_a_process_is_seen():
    text = '/* process */ int x = mhi_sys_process_id(), "signal"; bool is_process; tx->scrubs; MH_KIND_PROCESS // vdso'
    assert names_of_processes(text) == ["MH_KIND_PROCESS", "is_process", "scrubs"]
    assert names_of_processes((ROOT / "native/process/commit.c").read_text()) != []


def test_llama_knows_magicheap_in_one_place_only():
    text = (ROOT / THE_ONE_WITH).read_text()
    assert text.count("magic_transaction(") == 1


def test_the_readme_draws_these_layers():
    drawn = re.findall(r"^\| `([a-z/]+)/` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert drawn == [layer for layer in LAYERS if (ROOT / layer).is_dir() and layer != "native/include"]


def test_the_layer_of_an_upward_include_is_seen(tmp_path):
    assert layer_of(ROOT / "native/snapshot/x.c") not in LAYERS[layer_of(ROOT / "native/heap/x.c")]
    (tmp_path / "x.c").write_text('# include "format.h"\n')
    assert list(included(tmp_path / "x.c")) == [ROOT / "native/format.h"]
