"""The floors of the design: a file imports only from floors below its own."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genrescope

PACKAGE = Path(genrescope.__file__).parent
FLOORS = {
    "environment": 0,
    "errors": 0,
    "system": 0,
    "io": 0,
    "files": 0,
    "workers": 0,
    "table": 0,
    "database": 0,
    "taxonomy": 0,
    "hub": 0,
    "references": 0,
    "inference": 0,
    "onnx_graph": 0,
    "quality": 0,
    "audio": 1,
    "datasets": 2,
    "models": 2,
    "backbones": 2,
    "representations": 3,
    "classifier": 4,
    "training": 5,
    "cluster": 5,
    "library": 5,
    "onnx_export": 5,
    "robustness": 6,
    "study": 6,
    "learn": 7,
    "report": 7,
    "tagging": 6,
    "serialize": 7,
    "service": 7,
    "web": 8,
    "cli": 9,
    "__main__": 10,
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
        elif isinstance(node, ast.ImportFrom) and node.module == "genrescope":
            found |= {f"genrescope.{alias.name}" for alias in node.names if alias.name in FLOORS}
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


def settings_written(path: Path) -> set[str]:
    """Writes of ``os.environ`` and calls that change a setting of the whole process."""
    calls = {"setdefault", "update", "pop", "putenv", "unsetenv", "field_size_limit"}
    setters = {"set_num_threads", "simplefilter", "filterwarnings", "setLevel"}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if node.func.attr in setters or (
                node.func.attr in calls and owner in {"os", "os.environ", "csv"}
            ):
                found.add(ast.unparse(node.func))
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            found |= {ast.unparse(node)} if ast.unparse(node.value) == "os.environ" else set()
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_one_module_changes_settings_of_the_process(module: str) -> None:
    assert bool(settings_written(modules()[module])) == (module == "genrescope.environment")


def test_no_room_holds_more_than_an_eighth_of_the_code() -> None:
    lines = {
        module: path.read_text(encoding="utf-8").count("\n") for module, path in modules().items()
    }
    rooms: dict[str, int] = {}
    for module, count in lines.items():
        room = module.split(".")[1]
        rooms[room] = rooms.get(room, 0) + count
    allowed = sum(lines.values()) / 8
    assert not {room: count for room, count in rooms.items() if count > allowed}


MISSING_SOMEWHERE = re.compile(
    r"(fcntl|resource|pwd|grp|termios|pty|posix|msvcrt|winreg|ctypes)(\.|$)|"
    r"os\.(fork\w*|fsync|fdatasync|\w*chown|fchmod|fchdir|get\w*uid|get\w*gid|set\w*id|kill\w*|"
    r"link|makedev|mkfifo|mknod|statvfs|fstatvfs|umask|nice|sched_\w+|sync|rename|startfile|"
    r"O_(?!RDONLY$|WRONLY$|RDWR$|CREAT$|EXCL$|TRUNC$|APPEND$)\w+)$|"
    r"signal\.(SIG(?!INT$|TERM$|_IGN$|_DFL$)\w+|pthread_\w+|alarm|setitimer|sigwait\w*)$|"
    r"sys\.platform$|os\.name$"
)
PLACES_OF_ONE_SYSTEM = re.compile(r"/(proc|dev|sys|etc)(/|$)")


def platform_calls(source: str) -> list[str]:
    """Give what a module uses that some system lacks, with its line; docstrings are passed over."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in prose and PLACES_OF_ONE_SYSTEM.match(node.value):
                found.append(f"{node.lineno}: {node.value}")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "hasattr"}:
            parts = [getattr(part, "id", getattr(part, "value", "")) for part in node.args[:2]]
            names = [".".join(map(str, parts))]
        found += [f"{node.lineno}: {name}" for name in names if MISSING_SOMEWHERE.match(name)]
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_calls_that_some_system_lacks_are_in_one_module(module: str) -> None:
    found = platform_calls(modules()[module].read_text(encoding="utf-8"))
    if module == "genrescope.system":
        assert len(found) > 20, "the search has no effect"
    else:
        assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.fork()",
        "import fcntl",
        "from resource import setrlimit",
        "from os import chown",
        "import signal\nsignal.SIGKILL",
        "from pathlib import Path\nPath('/proc/self/fd')",
        "import os\nn = getattr(os, 'O_NONBLOCK', 0)",
    ],
)
def test_such_calls_are_found(source: str) -> None:
    assert platform_calls(source)


def test_no_two_classes_have_the_same_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(module)
    assert not {name: found for name, found in homes.items() if len(found) > 1}
