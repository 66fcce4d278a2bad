"""Change the code a little, one change at a time, and see whether a test notices.

A change that no test notices is either no change at all (another way to say the same) or a gap in
the tests. The changes are mutmut's, in whole files: its own runner leaves out decorated functions
and what stands outside of functions. Sentences for people, annotations and docstrings are left as
they are. Each change gets a process of its own, forked after all that is slow has been imported,
which runs the tests that reach the changed lines, with few of hypothesis' examples and always the
same ones. The changes are made in a copy of the tree.

    pip install mutmut==3.8.1
    python tools/mutate.py                          # all of TARGETS: about an hour and a half
    python tools/mutate.py --only splits            # files whose path has this in it
    python tools/mutate.py --only tags --share 0.2  # every fifth change
    python tools/mutate.py --only tags --again mutants.jsonl  # only those that survived then
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import coverage
import libcst as cst
import pytest
from hypothesis import Phase, settings
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "src/genrescope/datasets/splits.py": ["tests/datasets/test_splits.py"],
    "src/genrescope/tagging/journal.py": ["tests/tagging/test_journal.py"],
    "src/genrescope/tagging/patch.py": ["tests/tagging/test_patch.py"],
    "src/genrescope/tagging/formats/*.py": [
        "tests/tagging/test_tags.py",
        "tests/tagging/test_id3v1.py",
    ],
}
MOST_CPU_S = 120
EXAMPLES = 5


@dataclass(frozen=True)
class Mutant:
    """A change: in which file and lines, the first line that differs, and what became of it."""

    file: str
    line: int
    last: int
    before: str
    after: str
    fate: str = ""


def mutants(file: str, source: str) -> Iterator[tuple[Mutant, str]]:
    """Yield every change to a file's source, and the source so changed."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    places = wrapper.resolve(PositionProvider)
    seen = {ast.dump(ast.parse(source))}
    for node in _nodes(wrapper.module):
        for kind, operator in mutation_operators:
            for other in operator(node) if isinstance(node, kind) else ():
                changed = wrapper.module.deep_replace(node, other).code
                with contextlib.suppress(SyntaxError):
                    form = ast.dump(ast.parse(changed))
                    if form not in seen:
                        seen.add(form)
                        place = places[node]
                        first = place.start.line
                        before, after = _first_difference(source, changed)
                        yield Mutant(file, first, place.end.line, before, after), changed


def _nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.Annotation | cst.Import | cst.ImportFrom):
        return
    if isinstance(node, cst.SimpleString) and (" " in node.value or '"""' in node.value):
        return  # a sentence for people, SQL or a docstring
    if isinstance(node, cst.Assign) and "__all__" in cst.Module([]).code_for_node(node):
        return
    if isinstance(node, cst.Decorator) and "dataclass" in cst.Module([]).code_for_node(node):
        return  # frozen, slots: they forbid what nobody does
    yield node
    for child in node.children:
        yield from _nodes(child)


def _first_difference(old: str, new: str) -> tuple[str, str]:
    for before, after in zip(old.splitlines(), new.splitlines(), strict=False):
        if before != after:
            return before.strip(), after.strip()
    return "", ""


class _Plugin:
    """Of pytest: few examples for hypothesis, the same every time; and how long each test takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            test = getattr(item, "function", None)
            # hypothesis has no public way to change what a test has settled for itself.
            before = getattr(test, "_hypothesis_internal_use_settings", None)
            if before is not None:
                test._hypothesis_internal_use_settings = settings(  # type: ignore[union-attr]
                    before,
                    max_examples=EXAMPLES,
                    derandomize=True,
                    database=None,
                    phases=[Phase.explicit, Phase.generate],  # a failure is enough, however large
                )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


def _pytest(plugin: _Plugin, *words: str) -> int:
    fixed = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp=tmp")
    return int(pytest.main([*fixed, *words], plugins=[plugin]))


def _in_a_fork(work: Callable[[], int], log: Path) -> str:
    """Run something in a process of its own, silently; return how it ended, in a word."""
    child = os.fork()
    if child == 0:
        with log.open("w", encoding="utf-8") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        sys.dont_write_bytecode = True
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
        code = 99
        with contextlib.suppress(BaseException):
            code = work()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "ran on"
    return "survived" if status == 0 else "killed"


def _tests_by_line(copy: Path, tests: list[str]) -> dict[str, dict[int, list[str]]]:
    """Run the tests; return which of them reach which line of which file, the quickest first."""
    plugin = _Plugin()
    # What the project settles for coverage would put the data elsewhere.
    options = ("--cov=genrescope", "--cov-context=test", "--cov-report=", "--cov-config=/dev/null")
    # Here and not in a fork, so that all that the tests import is there already in the forks.
    if _pytest(plugin, *options, *tests) != 0:
        sys.exit("The tests fail as it is.")
    data = coverage.CoverageData(str(copy / ".coverage"))
    data.read()
    found: dict[str, dict[int, list[str]]] = {}
    for path in data.measured_files():
        contexts = data.contexts_by_lineno(path)
        found[str(Path(path).relative_to(copy))] = {
            line: sorted({c.partition("|")[0] for c in of if c}, key=plugin.seconds.__getitem__)
            for line, of in contexts.items()
        }
    return found


def _forget(copy: Path) -> None:
    """Let what lies in the copy be imported again, and nothing else."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(copy)):
            del sys.modules[name]


def run(files: list[str], tests: list[str], share: float, only: set[str] | None) -> list[Mutant]:
    """Try every change, or a share of them, to some files that the same tests cover."""
    with tempfile.TemporaryDirectory(prefix="genrescope-mutants-") as folder:
        copy = Path(folder).resolve()
        for name in ("src", "tests"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy / "src")  # of processes that tests start
        sys.path.insert(0, str(copy / "src"))
        reached = _tests_by_line(copy, tests)
        _forget(copy)
        done = []
        for file in files:
            source = (copy / file).read_text()
            lines = reached.get(file, {})
            if only is not None and not any(name.startswith(f"{file}: ") for name in only):
                continue
            tried = list(mutants(file, source))[:: round(1 / share)]
            for mutant, changed in tried:
                if only is not None and _name(mutant) not in only:
                    continue
                at = range(mutant.line, mutant.last + 1)
                names = dict.fromkeys(test for line in at for test in lines.get(line, ()))
                chosen = names or tests  # what is run on import no test is noted for
                (copy / file).write_text(changed)
                fate = _in_a_fork(partial(_pytest, _Plugin(), "-x", *chosen), copy / "log")
                done.append(replace(mutant, fate=fate))
                print(f"{_name(mutant)}: {fate}", file=sys.stderr, flush=True)
            (copy / file).write_text(source)
        sys.path.remove(str(copy / "src"))
        os.chdir(ROOT)
        return done


def _name(mutant: Mutant) -> str:
    return f"{mutant.file}: {mutant.before} -> {mutant.after}"


def main() -> None:
    """Run, print a table, and write down every change and its fate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="files whose path has this in it")
    parser.add_argument("--share", type=float, default=1.0, help="of the changes, in (0, 1]")
    parser.add_argument("--again", type=Path, help="try those that survived in this file")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.jsonl")
    options = parser.parse_args()
    only = None
    if options.again:
        before = [Mutant(**json.loads(line)) for line in options.again.read_text().splitlines()]
        only = {_name(mutant) for mutant in before if mutant.fate == "survived"}
    out = options.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w") as written:
        for pattern, tests in TARGETS.items():
            found = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
            files = [file for file in found if options.only in file]
            for mutant in run(files, tests, options.share, only) if files else ():
                written.write(json.dumps(asdict(mutant)) + "\n")
            written.flush()
    counts: dict[str, Counter[str]] = {}
    for line in out.read_text().splitlines():
        mutant = Mutant(**json.loads(line))
        counts.setdefault(mutant.file, Counter())[mutant.fate] += 1
    print("| file | changes | killed | ran on | survived |\n| --- | --- | --- | --- | --- |")
    for file, count in counts.items():
        fates = " | ".join(str(count[fate]) for fate in ("killed", "ran on", "survived"))
        print(f"| {file} | {count.total()} | {fates} |")


if __name__ == "__main__":
    main()
