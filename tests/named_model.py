"""The packaged model without its threshold for `other`: most sounds of the tests are no music."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import genrescope

PACKAGED = Path(genrescope.__file__).parent / "weights" / "default"
_KEPT = tempfile.TemporaryDirectory(prefix="named-model-")


@cache
def named_model(*, sure: bool = False) -> Path:
    """Give a folder of the packaged model, which names a genre for any sound; never unsure of it,
    if so asked.
    """
    folder = Path(_KEPT.name) / ("sure" if sure else "named")
    shutil.copytree(PACKAGED, folder)
    config = folder / "config.json"
    changes = {"other_above": None} | ({"unsure_below": 0.0} if sure else {})
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**settings, **changes}), encoding="utf-8")
    return folder
