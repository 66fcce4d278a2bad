"""The peak memory of a process: what it counts, from when, and where it is unknown."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from genrescope import system

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"
)


@needs_proc
def test_the_peak_counts_memory_that_was_given_back_until_it_is_reset() -> None:
    system.reset_peak_memory()
    before = system.peak_memory()
    large = np.ones(2**24)  # 128 MiB
    del large
    after = system.peak_memory()
    assert before is not None
    assert after is not None
    assert 2**27 - 2**22 < after - before < 2**27 + 2**25
    system.reset_peak_memory()
    reset = system.peak_memory()
    assert reset is not None
    assert reset < after - 2**26


@pytest.mark.parametrize(
    ("platform", "bytes_each"), [("linux", 1024), ("darwin", 1), ("freebsd14", 1024)]
)
def test_elsewhere_it_is_that_since_the_start_of_the_process(
    monkeypatch: pytest.MonkeyPatch, platform: str, bytes_each: int
) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=5000))
    monkeypatch.setattr(system, "_resource", usage)
    monkeypatch.setattr(sys, "platform", platform)

    def unreadable(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr(Path, "write_text", unreadable)
    system.reset_peak_memory()
    assert system.peak_memory() == 5000 * bytes_each
    monkeypatch.setattr(system, "_resource", None)
    assert system.peak_memory() is None
