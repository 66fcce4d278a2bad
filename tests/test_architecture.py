"""The floors of the design: a file imports only from floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import genrescope

PACKAGE = Path(genrescope.__file__).parent
FLOORS = {
    "errors": 0,
    "io": 0,
    "reading": 0,
    "workers": 0,
    "table": 0,
    "audio": 1,
    "hub": 1,
    "inference": 1,
    "tracks": 1,
    "models": 1,
    "representations": 2,
    "classifier": 3,
    "training": 4,
    "study": 5,
    "library": 4,
    "answers": 5,
    "web": 5,
    "terminal": 5,
    "cli_library": 6,
    "cli_web": 6,
    "cli": 6,
    "__main__": 7,
}


def modules() -> dict[str, Path]:
    return {
        ".".join(("genrescope", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__init__.py"
    }


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genrescope."):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in whole if name in modules()} or {str(node.module)}
    return found


def floor(module: str) -> int:
    return FLOORS[module.split(".")[1]]


@pytest.mark.parametrize("module", sorted(modules()))
def test_nothing_imports_from_a_floor_above(module: str) -> None:
    above = {name for name in imports(modules()[module]) if floor(name) > floor(module)}
    assert not above


def test_no_two_files_import_each_other() -> None:
    graph = {module: imports(path) for module, path in modules().items()}

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        front = set(graph[start])
        while front:
            seen |= front
            front = {n for m in front for n in graph.get(m, ())} - seen
        return seen

    assert not [module for module in graph if module in reach(module)]


def test_classifying_needs_neither_torch_nor_librosa() -> None:
    code = (
        "import sys, genrescope.classifier, genrescope.audio, genrescope.datasets.open, "
        "genrescope.cli.app; "
        "heavy = {'torch', 'librosa', 'lightning', 'sklearn', 'transformers', 'matplotlib'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imports {done.stderr}"
