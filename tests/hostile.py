"""Decoders that crash, hang, print or fail at files of certain names, in whatever process it is.

A ``sitecustomize`` replaces what opens a file to decode it, in every Python process of a command:
nothing in the product knows of it.
"""

from __future__ import annotations

import os
from pathlib import Path

_PATCH = """
import os, signal, sys, time
import genrescope.audio

decode = sys.modules["genrescope.audio.decode"]
real = decode.open_stream


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def abort():
    os.abort()


def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(MARK, "w").close()
    time.sleep(600)


def chatter():
    os.write(1, b"[src/libmpg123/chatter.c] on standard output\\n")
    os.write(2, b"[src/libmpg123/chatter.c] on standard error\\n")


def fail():
    raise RuntimeError("a fault in somebody's decoder")


def open_stream(view):
    for way, ending in WAYS.items():
        if view.source.path.name.endswith(ending):
            globals()[way]()
    return real(view)


decode.open_stream = open_stream
"""


def hostile(folder: Path, **ways: str) -> dict[str, str]:
    """Give the environment in which decoders do something to files.

    Parameters
    ----------
    folder
        For the patch. A process that hangs makes the file ``hangs`` in it.
    ways
        Of ``die``, ``abort``, ``hang``, ``chatter`` and ``fail``: how the names of the files end.
    """
    patch = folder / "patch"
    patch.mkdir()
    settings = f"WAYS, MARK = {ways!r}, {str(patch / 'hangs')!r}\n"
    (patch / "sitecustomize.py").write_text(settings + _PATCH)
    path = [str(patch), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}
