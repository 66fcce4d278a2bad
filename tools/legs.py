"""Try the base install in empty environments: oldest and newest dependencies, other Pythons.

    python tools/legs.py oldest newest 3.13 3.14

Each leg installs the wheel without extras, compares the answer of ``classify --sample`` with that
of the environment of this script, and runs the tests that a base install can run. ``pinned`` takes
the versions of constraints.txt, ``oldest`` the lowest that pyproject.toml allows, ``newest`` those
of today. A number is a Python: the one on the path if there is one, else, for root on Linux with
mmdebstrap, Debian's in a folder of its own, entered by chroot.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
TESTS = ("test_package.py", "audio/test_audio.py", "classifier/test_timeline.py")
SUITES = {"3.13": "trixie", "3.14": "forky"}
"""The release of Debian that has a Python, for those that have one."""
RUNNERS = ("pytest", "hypothesis")
TOLERANCE = 1e-4


def run(*command: object, **settings: str) -> str:
    """Run a command and give what it prints; what it complains of goes to the screen."""
    done = subprocess.run(  # noqa: S603
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | settings,
    )
    return done.stdout


def is_here(python: str) -> bool:
    """Return whether there is such a Python; a version manager's shim of none is none."""
    find = (str(UV), "python", "find", "--quiet", "--no-python-downloads", python)
    return subprocess.run(find, capture_output=True, check=False).returncode == 0  # noqa: S603


def install(wheel: Path, versions: str, *where: object) -> None:
    """Install the wheel and what runs the tests, from wheels alone."""
    pip = (UV, "pip", "install", "--quiet", "--only-binary=:all:", *where)
    pins = ("-c", ROOT / "constraints.txt")
    if versions == "oldest":
        settled = wheel.with_name("oldest.txt")
        compile_ = (UV, "pip", "compile", "--quiet", "--resolution=lowest-direct")
        run(*compile_, "--only-binary=:all:", "--output-file", settled, ROOT / "pyproject.toml")
        run(*pip, "-r", settled)
        run(*pip, "--no-deps", wheel)
        run(*pip, *pins, *RUNNERS)
    else:
        run(*pip, *(() if versions == "newest" else pins), wheel, *RUNNERS)


def environment(python: str, versions: str, wheel: Path, folder: Path) -> list[str]:
    """Make an environment with the wheel and no more; give the command that is its Python."""
    run(UV, "venv", "--quiet", "--no-python-downloads", "--python", python, folder / "venv")
    executable = folder / "venv" / "bin" / "python"
    install(wheel, versions, "--python", executable)
    return [str(executable)]


def debian(python: str, versions: str, wheel: Path, folder: Path) -> list[str]:
    """Do so with the Python of a release of Debian, which needs its C library: in a chroot.

    Its programs are unpacked, not set up, which a Python does not need and takes ten times longer.
    """
    suite = SUITES[python]
    run(
        *("mmdebstrap", "--quiet", "--variant=extract", "--include=python3,libstdc++6"),
        # What is not yet released may lag on a mirror: the signature is checked, not the day.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        *(suite, folder, f"deb http://deb.debian.org/debian {suite} main"),
    )
    for name in ("bin", "lib", "lib64", "sbin"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"usr/{name}")
    target = ("--target", folder / "site", "--python-version", python)
    install(wheel, versions, *target, "--python-platform=x86_64-manylinux_2_28")
    settings = (
        "PYTHONPATH=/site",
        "HOME=/tmp",
        "LANG=C.UTF-8",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    )
    return ["env", "-i", *settings, "chroot", str(folder), "/usr/bin/python3"]


def samples(python: Sequence[str]) -> list[dict[str, float]]:
    """Give the probabilities of the samples' genres, by a Python's genrescope."""
    found = run(*python, "-m", "genrescope", "classify", "--sample", "--json", "--top-k", "10")
    return [{s["label"]: s["score"] for s in row["scores"]} for row in json.loads(found)]


def leg(name: str, wheel: Path, expected: list[dict[str, float]], folder: Path) -> str:
    """Run one leg in a folder; return what it and its tests report.

    Raises
    ------
    RuntimeError
        If there is no such Python here, or its probabilities are others.
    subprocess.CalledProcessError
        If an installation or a test fails.
    """
    began = time.monotonic()
    python, versions = (name, "pinned") if name[0].isdigit() else (sys.executable, name)
    if name in SUITES and not is_here(name):
        if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
            raise RuntimeError(
                f"there is no python{name} here; put one on the path, or run it as root with "
                "mmdebstrap (apt install mmdebstrap), which brings Debian's"
            )
        command = debian(python, versions, wheel, folder)
    else:
        command = environment(python, versions, wheel, folder)
    work = folder / "work"
    shutil.copytree(ROOT / "tests", work / "tests", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "tools", work / "tools")
    shutil.copy(ROOT / "pyproject.toml", work)
    found = samples(command)
    differences = [
        abs(new[genre] - old[genre])
        for new, old in zip(found, expected, strict=True)
        for genre in old
    ]
    if max(differences) > TOLERANCE:
        raise RuntimeError(f"the samples' probabilities differ by up to {max(differences):.2g}")
    given = run(*command, "-c", "import sys; print(sys.version.split()[0])").strip()
    root = Path("/", work.name) if command[0] == "env" else work
    tests = [str(root / "tests" / test) for test in TESTS]
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(root), *tests)
    settings = ("-c", str(root / "pyproject.toml"), "-m", "not slow")
    tested = run(*command, *pytest, *settings)
    return (
        f"{name}: Python {given}, probabilities as here to {max(differences):.1g}\n{tested}"
        f"{name}: passed in {time.monotonic() - began:.0f} s"
    )


def main() -> int:
    """Run the legs that are named, one for each core at a time, and report on each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = ("pinned", "oldest", "newest", "3.11", "3.12", "3.13", "3.14")
    parser.add_argument("legs", nargs="+", choices=known, metavar="LEG", help=", ".join(known))
    names = parser.parse_args().legs
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        dist = Path(temporary, "dist")
        run(UV, "build", "--quiet", "--wheel", "--out-dir", dist, ROOT)
        wheel, expected = next(dist.glob("*.whl")), samples([sys.executable])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            legs = {
                name: pool.submit(leg, name, wheel, expected, Path(temporary, name))
                for name in names
            }
        for name, done in legs.items():
            try:
                print(done.result(), flush=True)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{name}: failed: {error}\n{getattr(error, 'stdout', '')}", file=sys.stderr)
                failed.append(name)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
