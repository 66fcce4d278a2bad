"""Stamps: the state of a file as one word, by which a change since a plan is recognised."""

from __future__ import annotations

import os

from genrescope.system import has_inodes


def stamp(stat: os.stat_result) -> str:
    """Encode the state of a file as a word that no spreadsheet takes for a number.

    It holds the size and the time of the last change; and the inode, the time of the inode's last
    change and the number of names, which reveal what keeps the first two: another file put in its
    place, other permissions, a second name. Inode and its time are 0 on file systems without them
    (FAT, exFAT).
    """
    times = f"{stat.st_size:x}-{stat.st_mtime_ns:x}"
    inode, ctime = (stat.st_ino, stat.st_ctime_ns) if has_inodes(stat.st_dev) else (0, 0)
    return f"v{times}-{inode:x}-{ctime:x}-{stat.st_nlink:x}"


def difference(stat: os.stat_result, known: str) -> str | None:
    """Describe how a file differs from its stamp.

    Parameters
    ----------
    stat
        Of the current file.
    known
        As of `stamp`; genrescope 0.1 wrote size and time only.

    Returns
    -------
    difference
        As the middle of "it … since the plan was written", or None.
    """
    now, then = stamp(stat).split("-"), known.split("-")
    if len(then) not in (2, len(now)) or now[:2] != then[:2]:
        return "has changed"
    parts = dict(
        zip(("inode", "ctime", "names"), zip(now[2:], then[2:], strict=False), strict=False)
    )
    causes = {
        "names": "has got or lost another name",
        "inode": "was replaced by another file",
        "ctime": "has got other permissions, owner or attributes, or was moved",
    }
    return next(
        (
            why
            for part, why in causes.items()
            if part in parts and "0" not in parts[part] and len({*parts[part]}) > 1
        ),
        None,
    )
