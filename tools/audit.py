"""Ask PyPI which of the pinned versions have known vulnerabilities, by pip-audit.

    python tools/audit.py constraints.txt

Ends with 0 if none has one that a newer version fixes, with 1 if any has, and with 3 if the service
did not answer for every package: then nothing is known, and that is what is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

TOOL = ("tool", "run", "--quiet", "--from", "pip-audit==2.10.1", "pip-audit")
NOT_AUDITED = 3


def main(pins: str) -> int:
    """Audit a file of pins and print what was found."""
    uv = Path(sys.executable).with_name("uv")
    options = ("-s", "pypi", "--disable-pip", "--no-deps", "--progress-spinner=off", "-f", "json")
    done = subprocess.run(  # noqa: S603
        [str(uv), *TOOL, *options, "-r", pins],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        print(f"NOT AUDITED: pip-audit gave no answer.\n{done.stderr[-2000:]}", file=sys.stderr)
        return NOT_AUDITED
    found = [
        (package, flaw, flaw["fix_versions"])
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    for package, flaw, fixed in found:
        remedy = f"take {' or '.join(fixed)}" if fixed else "no version fixes it yet"
        print(f"{package['name']} {package['version']}: {flaw['id']}: {remedy}")
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    print(f"{len(packages) - len(unknown)} of {len(packages)} pinned packages were audited.")
    if any(fixed for *_, fixed in found):
        return 1
    if unknown or not packages:
        some = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        print(f"NOT AUDITED: PyPI knows nothing of {len(unknown)}: {some}", file=sys.stderr)
        return NOT_AUDITED
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pins", help="file of pinned versions")
    sys.exit(main(parser.parse_args().pins))
